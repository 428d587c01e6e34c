"""Takes back what the ledger recorded, the newest first; may be stopped and run again."""

from __future__ import annotations

import hashlib
import json
import time

from .files import ABSENT, DIRECTORY, FILE, NOTHING, State, clear_leftover
from .ledger import Ledger, read_blob, unpack
from .part import chosen
from .pending import is_watched
from .report import UNCHANGED, Failure, Outcome, Reporter
from .units import ENABLED_BY_LINK, STOPPABLE, is_running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .runner import Machine

STEP_LIMIT_S = 600.0
UNIT_LIMIT_S = 180.0


class Undo:
    """One run over the ledger, or over a part of it (part.chosen): the rest then stays open."""

    def __init__(
        self,
        machine: Machine,
        ledger: Ledger,
        reporter: Reporter,
        *,
        remove_packages: bool,
        disable: Sequence[str] = (),
        part: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._machine = machine
        self._ledger = ledger
        self._reporter = reporter
        self._remove_packages = remove_packages
        self._disable = tuple(disable)
        self._entries = ledger.open_entries()
        self._chosen = {entry["id"] for entry in chosen(self._entries, part)}
        self._whole = part is None
        self._unfinished: list[str] = []
        self.changed: list[str] = []
        self.failed: dict[str, object] | None = None

    def run(self) -> None:
        """Take back every record; go on after one that fails, it then stays in the ledger."""
        units: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        for entry in reversed(self._entries):
            if self._machine.commands.stopped or self._reporter.gone:
                return
            if entry["id"] not in self._chosen:
                self._leave(entry)
                continue
            if self._is_needed(entry):
                continue
            if entry["kind"] == "packages" and not self._remove_packages:
                kept.append(entry)
                continue
            # Units that ran before are brought back last, when their files are as they were.
            done = self._attempt(entry, self._take_back)
            if done and entry["kind"] == "unit":
                units.append(entry)
            elif done:
                self._mark(entry)
        self._machine.units.reload_if_due()
        for entry in reversed(units):
            if self._attempt(entry, self._bring_back):
                self._mark(entry)
        # Last: a unit whose package brought it enabled has that as its state of before.
        for entry in kept:
            if self._attempt(entry, self._keep):
                self._mark(entry)
        # Of a part the contents stay where they are: who restores the journal opens it again.
        whole = self._whole and self.failed is None
        if whole and self._entries and not self._machine.dry_run:
            self._machine.pending.clear()
            folder = self._ledger.archive()
            self._reporter.emit("say", op="ledger", text=f"kept in {folder}")

    def _leave(self, entry: dict[str, Any]) -> None:
        """Leave a record to another run; what its undo runs then has to be there."""
        if entry["kind"] == "step":
            self._unfinished.append(json.loads(read_blob(entry["blob"]))["undo"])

    def _is_needed(self, entry: dict[str, Any]) -> bool:
        """Say whether an undo that failed or is left names this path: it needs what is there."""
        return entry["kind"] == "path" and any(entry["path"] in text for text in self._unfinished)

    def _mark(self, entry: dict[str, Any]) -> None:
        if not self._machine.dry_run:
            self._ledger.mark_undone(entry)

    def _attempt(self, entry: dict[str, Any], act: Any) -> bool:  # noqa: ANN401 (a method)
        label = f"undo {entry['kind']} {_subject(entry)}"
        started = time.monotonic()
        self._reporter.emit("start", phase="undo", lane="undo", op=label)
        try:
            outcome = act(entry)
        except (Failure, OSError) as error:
            details = error.details if isinstance(error, Failure) else ()
            record: dict[str, object] = {
                "phase": "undo",
                "lane": "undo",
                "op": label,
                "reason": str(error),
                "details": details,
                "seconds": round(time.monotonic() - started, 3),
            }
            self._reporter.emit("failed", **record)
            self.failed = self.failed or record
            return False
        if outcome.changed and label not in self.changed:
            self.changed.append(label)
        self._reporter.emit(
            "done",
            phase="undo",
            lane="undo",
            op=label,
            changed=outcome.changed,
            seconds=round(time.monotonic() - started, 3),
            details=outcome.details,
            diff="",
        )
        return True

    def _take_back(self, entry: dict[str, Any]) -> Outcome:
        kind = entry["kind"]
        if kind == "path":
            return self._path(entry)
        if kind == "line":
            return self._line(entry)
        if kind == "step":
            return self._step(entry)
        if kind == "unit":
            return self._stop_unit(entry)
        return self._machine.packages.remove(entry["names"])

    def _keep(self, entry: dict[str, Any]) -> Outcome:
        """Leave packages; their units would start at the next boot, with sample configuration."""
        details = [f"kept: {' '.join(entry['names'])}"]
        units, packages = self._machine.units, self._machine.packages
        for name in self._disable:
            if units.state(name)["UnitFileState"] not in ENABLED_BY_LINK:
                continue
            if packages.of_unit(name) & set(entry["names"]):
                if not self._machine.dry_run:
                    units.act("disable", name, UNIT_LIMIT_S)
                details.append(f"disable {name}")
        return Outcome(changed=len(details) > 1, details=details)

    def _path(self, entry: dict[str, Any]) -> Outcome:
        path, prior = entry["path"], unpack(entry["prior"])
        if not self._machine.dry_run:
            clear_leftover(path)
        now = self._machine.tree.look(path)
        if now.same(prior):
            return UNCHANGED
        if prior.kind == ABSENT and now.kind == DIRECTORY and self._machine.tree.is_filled(path):
            return Outcome(details=("kept: the directory is not empty",))
        self._machine.tree.change(path, prior, None)
        return Outcome(changed=True, details=(f"{now.kind} -> {prior.kind}",))

    def _line(self, entry: dict[str, Any]) -> Outcome:
        path, prior = entry["path"], unpack(entry["prior"])
        if not self._machine.dry_run:
            clear_leftover(path)
        now = self._machine.tree.look(path)
        if now.kind != FILE or now.same_content(prior):
            return UNCHANGED
        if hashlib.sha256(now.content).hexdigest() == entry["after"]:
            wanted = NOTHING if prior.kind == ABSENT else _with_content(now, prior.content)
            wanted.mtime_ns = prior.mtime_ns
        else:
            # Somebody else edited the file since: only our line is taken back.
            wanted = _with_content(now, _replace_line(now.content, entry["new"], entry["old"]))
        if now.same_content(wanted):
            return UNCHANGED
        self._machine.tree.change(path, wanted, None)
        return Outcome(changed=True)

    def _step(self, entry: dict[str, Any]) -> Outcome:
        kept = json.loads(read_blob(entry["blob"]))
        self._reporter.hide(kept["secrets"])
        if not self._machine.dry_run:
            self._unfinished.append(kept["undo"])
            result = self._machine.commands.shell(kept["undo"], STEP_LIMIT_S)
            self._machine.units.forget()
            if result.status != 0:
                raise Failure(f"its undo ended with status {result.status}", result.tail())
            self._unfinished.pop()
        return Outcome(changed=True, details=("run its undo",))

    def _stop_unit(self, entry: dict[str, Any]) -> Outcome:
        name, prior = entry["name"], entry["prior"]
        state = self._machine.units.state(name)
        file_state, actions = state["UnitFileState"], []
        if not prior["active"] and state["ActiveState"] in STOPPABLE:
            actions.append("stop")
        if prior["file_state"] not in ENABLED_BY_LINK and file_state in ENABLED_BY_LINK:
            actions.append("disable")
        if file_state.startswith("masked") and not prior["file_state"].startswith("masked"):
            actions.append("unmask")
        return self._act(actions, name)

    def _bring_back(self, entry: dict[str, Any]) -> Outcome:
        name, prior = entry["name"], entry["prior"]
        state = self._machine.units.state(name)
        file_state, actions = state["UnitFileState"], []
        if prior["file_state"] in ENABLED_BY_LINK and file_state not in ENABLED_BY_LINK:
            actions.append("enable")
        if prior["file_state"].startswith("masked") and not file_state.startswith("masked"):
            actions.append("mask")
        if prior["active"]:
            touched = any(
                is_watched(other["path"], entry["restart_on"])
                for other in self._ledger.entries  # also those that an earlier run took back
                if "path" in other
            )
            if not is_running(state):
                actions.append("start")
            elif touched:
                actions.append("restart")
        return self._act(actions, name)

    def _act(self, actions: list[str], name: str) -> Outcome:
        units = self._machine.units
        for action in actions if not self._machine.dry_run else ():
            units.act(action, name, UNIT_LIMIT_S)
        started = bool({"start", "restart"} & set(actions)) and not self._machine.dry_run
        if started and not is_running(units.state(name)):
            raise Failure(f"unit {name} does not run again", units.journal(name))
        return Outcome(changed=bool(actions), details=actions)


def _subject(entry: dict[str, Any]) -> str:
    return str(entry.get("path") or entry.get("name") or " ".join(entry["names"][:4]))


def _with_content(state: State, content: bytes) -> State:
    return State(FILE, content=content, mode=state.mode, uid=state.uid, gid=state.gid)


def _replace_line(content: bytes, ours: str, old: str | None) -> bytes:
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    if ours in lines:
        index = lines.index(ours)
        lines[index : index + 1] = [] if old is None else [old]
    return "\n".join(lines).encode("utf-8", "surrogateescape")
