"""The agent's start: reads its own archive, takes the lock, runs one of its modes, reports.

Modes: ``apply``, ``dry-run``, ``undo [--dry-run] [--packages keep|remove] [--disable UNIT]...``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from itertools import pairwise

from .report import Failure, Interrupted, Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from .runner import Machine

LOCK = "/run/solostack/apply.lock"
LOCK_LIMIT_S = 120.0
LEFTOVER_LIMIT_S = 900.0
OK, FAILED, INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str], archive: str) -> int:
    """Run the mode that the arguments name on the bundle in archive; return the exit status."""
    started = time.monotonic()
    # Steps expect the usual mask; whatever of ours needs another sets its mode.
    os.umask(0o022)
    bundle = read_bundle(archive)
    reporter = Reporter(bundle["secrets"].values())
    dry_run = arguments[0] == "dry-run" or "--dry-run" in arguments
    changed: list[str] = []
    failed: dict[str, object] | None = None
    interrupted = False
    try:
        with _lock(reporter) if not dry_run else contextlib.nullcontext():
            machine = build_machine(bundle, arguments, reporter, dry_run=dry_run)
            _stop_on_signals(machine)
            changed, failed = _run(machine, reporter, bundle, arguments)
            interrupted = machine.commands.stopped or reporter.gone
    except Failure as failure:
        failed = {"op": failure.operation, "reason": failure.reason, "details": failure.details}
    except Interrupted:
        interrupted = True
    if interrupted and failed is None:
        failed = {"op": "", "reason": "interrupted", "details": ()}
    seconds = round(time.monotonic() - started, 3)
    reporter.emit("report", changed=changed, failed=failed, seconds=seconds)
    if interrupted:
        return INTERRUPTED
    return OK if failed is None else FAILED


def read_bundle(archive: str) -> dict[str, Any]:
    """Return the bundle inside archive, without the cost of importing zipfile."""
    from zipimport import zipimporter

    bundle: dict[str, Any] = json.loads(zipimporter(archive).get_data("bundle.json"))
    return bundle


def build_machine(
    bundle: dict[str, Any], arguments: Sequence[str], reporter: Reporter, *, dry_run: bool
) -> Machine:
    """Put together what the operations need."""
    from .commands import Commands, settle_leftovers
    from .packages import Packages, restore_policy
    from .pending import Pending
    from .runner import Machine
    from .units import Units

    if not dry_run:
        settle_leftovers(LEFTOVER_LIMIT_S)
        restore_policy()
    operations = [
        operation
        for phase in bundle["phases"]
        for lane in phase["lanes"]
        for operation in lane["operations"]
    ]
    watchers: dict[str, list[str]] = {}
    for operation in operations:
        watched = operation.get("restart_on") or operation.get("when_changed") or ()
        if watched:
            key = f"{operation['kind'].lower()}:{operation['name']}"
            watchers.setdefault(key, []).extend(watched)
    commands = Commands(noted=not dry_run)
    pending = Pending(watchers, dry_run=dry_run)
    ledger: Ledger | None = None
    if (bundle["ledger"] and not dry_run) or arguments[0] == "undo":
        from .ledger import Ledger

        ledger = Ledger()
    names = [operation["name"] for operation in operations if operation["kind"] == "Unit"]
    return Machine(
        dry_run=dry_run,
        commands=commands,
        pending=pending,
        ledger=ledger,
        packages=Packages(commands, reporter, dry_run=dry_run, ledger=ledger),
        units=Units(names, commands, pending, dry_run=dry_run, ledger=ledger),
    )


def _run(
    machine: Machine, reporter: Reporter, bundle: dict[str, Any], arguments: Sequence[str]
) -> tuple[list[str], dict[str, object] | None]:
    if arguments[0] == "undo":
        from .undo import Undo

        if machine.ledger is None:
            raise Failure("there is no ledger")
        remove = "remove" in arguments
        disable = [after for word, after in pairwise(arguments) if word == "--disable"]
        undo = Undo(
            machine,
            machine.ledger,
            reporter,
            remove_packages=remove,
            disable=disable,
            part=bundle.get("part"),
        )
        undo.run()
        return undo.changed, undo.failed
    from .runner import Runner

    runner = Runner(machine, reporter, bundle["secrets"])
    runner.run(bundle["phases"])
    if runner.failed is None and not machine.commands.stopped and not reporter.gone:
        machine.units.reload_if_due()
        machine.units.settle()
        machine.pending.finish()
    elif runner.failed is not None and not machine.commands.stopped:
        fallen = [f"{name}: {reason}" for name, reason in machine.units.fallen().items()]
        details = runner.failed["details"]
        runner.failed["details"] = (*details, *fallen) if isinstance(details, tuple) else details
    return runner.changed, runner.failed


def _stop_on_signals(machine: Machine) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: machine.commands.stop())


@contextlib.contextmanager
def _lock(reporter: Reporter) -> Iterator[None]:
    os.makedirs(os.path.dirname(LOCK), mode=0o700, exist_ok=True)
    with open(LOCK, "a+", encoding="ascii") as file:
        deadline = time.monotonic() + LOCK_LIMIT_S
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Failure("another run of solostack changes this machine") from None
            if not told:
                reporter.emit("say", op="lock", text="waiting for another run to end")
                told = True
            time.sleep(0.2)
        yield


def run() -> None:
    """Run as a program: the arguments are the process's own, the archive is this one."""
    sys.exit(main(sys.argv[1:], sys.path[0]))
