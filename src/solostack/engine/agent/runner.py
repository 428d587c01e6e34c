"""Runs a bundle's operations: phases in order, the lanes of one beside each other."""

from __future__ import annotations

import threading
import time

from .report import UNCHANGED, Failure, Interrupted, Outcome, Reporter
from .tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .commands import Commands
    from .ledger import Ledger
    from .packages import Packages
    from .pending import Pending
    from .units import Units

PLACEHOLDER = "@@secret:"


class Machine:
    """Everything an operation may need of this machine."""

    def __init__(
        self,
        *,
        dry_run: bool,
        commands: Commands,
        pending: Pending,
        ledger: Ledger | None,
        packages: Packages,
        units: Units,
    ) -> None:
        self.dry_run = dry_run
        self.commands = commands
        self.pending = pending
        self.ledger = ledger
        self.packages = packages
        self.units = units
        self.tree = Tree(dry_run=dry_run, ledger=ledger, pending=pending)


class Runner:
    """One run over a bundle."""

    def __init__(self, machine: Machine, reporter: Reporter, secrets: dict[str, str]) -> None:
        self._machine = machine
        self._reporter = reporter
        self._secrets = secrets
        self._lock = threading.Lock()
        self._crashed = False
        self.changed: list[str] = []
        self.failed: dict[str, object] | None = None

    def run(self, phases: list[dict[str, Any]]) -> None:
        """Run all phases, up to the first failure (kept in failed)."""
        for phase in phases:
            lanes = phase["lanes"]
            threads = [
                threading.Thread(target=self._lane, args=(phase["name"], lane))
                for lane in lanes[1:]
            ]
            for thread in threads:
                thread.start()
            if lanes:
                self._lane(phase["name"], lanes[0])
            for thread in threads:
                thread.join()
            if self._stopping():
                break
        order = {
            label_of(operation): number
            for number, operation in enumerate(
                operation
                for phase in phases
                for lane in phase["lanes"]
                for operation in lane["operations"]
            )
        }
        # Which lane was first is chance; equal runs give equal reports.
        self.changed.sort(key=order.__getitem__)
        if self._crashed and self.failed is None:
            raise RuntimeError("a lane ended early; its traceback is above")

    def _stopping(self) -> bool:
        machine = self._machine
        return (
            self.failed is not None
            or self._crashed
            or machine.commands.stopped
            or self._reporter.gone
        )

    def _lane(self, phase: str, lane: dict[str, Any]) -> None:
        whole = False
        try:
            for operation in lane["operations"]:
                if self._stopping():
                    break
                self._operation({"phase": phase, "lane": lane["name"]}, operation)
            whole = True
        finally:
            # An exception that nobody expects ends its thread only; the others must hear of it.
            self._crashed = self._crashed or not whole

    def _operation(self, place: dict[str, str], template: dict[str, Any]) -> None:
        label = label_of(template)
        self._reporter.emit("start", **place, op=label)
        started = time.monotonic()
        try:
            outcome = self._dispatch(resolve(template, self._secrets))
        except Failure as failure:
            self._fail(place, label, failure, started)
        except OSError as error:
            reason = f"{error.strerror}: {error.filename or ''}".rstrip(": ")
            self._fail(place, label, Failure(reason), started)
        except Interrupted:
            pass
        else:
            if outcome.changed:
                with self._lock:
                    self.changed.append(label)
            self._reporter.emit(
                "done",
                **place,
                op=label,
                changed=outcome.changed,
                seconds=_since(started),
                details=outcome.details,
                diff=outcome.diff,
            )

    def _fail(self, place: dict[str, str], label: str, failure: Failure, started: float) -> None:
        record: dict[str, object] = {
            **place,
            "op": label,
            "reason": failure.reason,
            "details": failure.details,
            "seconds": _since(started),
        }
        with self._lock:
            if self.failed is None:
                self.failed = record
        self._reporter.emit("failed", **record)

    def _dispatch(self, operation: dict[str, Any]) -> Outcome:
        machine, kind = self._machine, operation["kind"]
        if kind == "Unit":
            return machine.units.ensure(operation)
        if kind == "Step":
            return self._step(operation)
        if kind == "Packages":
            outcome = machine.packages.install(operation)
            if outcome.changed:
                machine.units.forget()
            return outcome
        handlers = {
            "File": machine.tree.file,
            "Directory": machine.tree.directory,
            "Line": machine.tree.line,
            "Absent": machine.tree.absent,
        }
        return handlers[kind](operation)

    def _step(self, operation: dict[str, Any]) -> Outcome:
        machine, name = self._machine, operation["name"]
        key = f"step:{name}"
        due = machine.pending.is_due(key)
        machine.units.reload_if_due()
        if not due and self._is_satisfied(operation):
            return UNCHANGED
        if not machine.dry_run:
            if machine.ledger is not None and operation["undo"]:
                used = [value for value in self._secrets.values() if value in operation["undo"]]
                machine.ledger.record_step(name, operation["undo"], used)
            result = machine.commands.shell(operation["run"], operation["timeout_s"])
            machine.units.forget()
            if result.status != 0:
                raise Failure(f"step {name} ended with status {result.status}", result.tail())
        machine.pending.settle(key)
        return Outcome(changed=True, details=("run",))

    def _is_satisfied(self, operation: dict[str, Any]) -> bool:
        if not operation["unless"]:
            return bool(operation["when_changed"])
        result = self._machine.commands.shell(operation["unless"], operation["timeout_s"])
        return result.status == 0


def resolve(template: dict[str, Any], secrets: dict[str, str]) -> dict[str, Any]:
    """Return the operation with its secrets put in; holds_secrets says whether it has any."""
    operation = {"holds_secrets": False, **template}
    for field, value in template.items():
        if isinstance(value, str) and PLACEHOLDER in value:
            for name, secret in secrets.items():
                value = value.replace(f"{PLACEHOLDER}{name}@@", secret)
            operation[field] = value
            operation["holds_secrets"] = True
    return operation


def label_of(operation: dict[str, Any]) -> str:
    """Return an operation's name for people."""
    kind = operation["kind"]
    if kind == "Packages":
        names = operation["names"]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        return f"packages {' '.join(names[:4])}{more}"
    return f"{kind.lower()} {operation['path' if 'path' in operation else 'name']}"


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
