"""systemd units: state read for all at once, changed one by one, crash loops found out."""

from __future__ import annotations

import os
import threading
import time

from .pending import RELOAD
from .report import UNCHANGED, Failure, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .commands import Commands
    from .ledger import Ledger
    from .pending import Pending

PROPERTIES = (
    "ActiveEnterTimestampMonotonic", "ActiveState", "ConditionResult", "InactiveEnterTimestamp",
    "LoadState", "NRestarts", "NeedDaemonReload", "RemainAfterExit", "Result", "SubState", "Type",
    "UnitFileState",
)  # fmt: skip
# systemctl(1), is-enabled: there is nothing (more) to enable in these.
ENABLED = {"enabled", "static", "alias", "generated", "transient", "indirect"}
ENABLED_BY_LINK = {"enabled", "enabled-runtime", "linked", "linked-runtime"}
RUNNING = {"active", "reloading", "refreshing"}
STOPPABLE = {*RUNNING, "activating", "deactivating"}
LOOP_RESTARTS = 3
SETTLE_S = 2.0
FRESH_S = 10.0
JOURNAL_LINES = 20
POLL_S = 0.2

UnitState = dict[str, str]


class Units:
    """Runs Unit operations. names are all units of the bundle, read together when one is needed."""

    def __init__(
        self,
        names: Sequence[str],
        commands: Commands,
        pending: Pending,
        *,
        dry_run: bool,
        ledger: Ledger | None,
    ) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._commands = commands
        self._pending = pending
        self._dry_run = dry_run
        self._ledger = ledger
        self._lock = threading.RLock()
        self._states: dict[str, UnitState] = {}
        self._started: dict[str, tuple[int, float]] = {}

    def forget(self) -> None:
        """Read the states again when next needed: something that may change them has run."""
        with self._lock:
            self._states = {}

    def reload_if_due(self) -> None:
        """Make systemd read its unit files again when one of them changed."""
        with self._lock:
            if not self._pending.is_due(RELOAD):
                return
            if not self._dry_run and os.path.isdir("/run/systemd/system"):
                self._systemctl("daemon-reload")
                self._states = {}
            self._pending.settle(RELOAD)

    def ensure(self, operation: dict[str, Any]) -> Outcome:
        """Run a Unit operation."""
        name, key = operation["name"], f"unit:{operation['name']}"
        if not self._dry_run and not os.path.isdir("/run/systemd/system"):
            raise Failure("systemd does not run here")
        self.reload_if_due()
        state = self.state(name)
        if state["NeedDaemonReload"] == "yes" and not self._dry_run:
            self._systemctl("daemon-reload")
            self.forget()
            state = self.state(name)
        actions = plan_actions(operation, state, due=self._pending.is_due(key))
        if self._dry_run or not actions:
            self._pending.settle(key)
            if not actions:
                self._watch_if_fresh(operation, state)
                return UNCHANGED
            return Outcome(changed=True, details=actions)
        if state["LoadState"] == "not-found" and not operation["masked"]:
            raise Failure(f"there is no unit {name}")
        if self._ledger is not None:
            prior = {"file_state": state["UnitFileState"], "active": is_running(state)}
            self._ledger.record_unit(name, prior, operation["restart_on"])
        for action in actions:
            try:
                self.act(action, name, operation["timeout_s"])
            except Failure as failure:
                raise Failure(failure.reason, failure.details or self.journal(name)) from failure
        if operation["running"] and not operation["masked"]:
            self._await_active(operation)
        self._pending.settle(key)
        return Outcome(changed=True, details=actions)

    def state(self, name: str) -> UnitState:
        """Return a unit's properties, as they were when last read."""
        with self._lock:
            if name not in self._states:
                names = self._names if name in self._names and not self._states else (name,)
                self._states.update(self._show(names))
            return self._states[name]

    def settle(self) -> None:
        """Wait until what was started has had time to crash; raise Failure if it did."""
        if not self._started:
            return
        latest = max(moment for _, moment in self._started.values())
        time.sleep(max(0.0, latest + SETTLE_S - time.monotonic()))
        for name, reason in self.fallen().items():
            reason = f"unit {name} does not stay up: {reason}"
            raise Failure(reason, self.journal(name), operation=f"unit {name}")

    def fallen(self) -> dict[str, str]:
        """Return the units started here that do not run any more, each with why."""
        if not self._started:
            return {}
        states = self._show(tuple(self._started))
        found = {}
        for name, (restarts, _) in self._started.items():
            state = states[name]
            if not is_running(state):
                found[name] = describe(state)
            elif _restarts(state) > restarts:
                found[name] = f"it crashed and was restarted {_restarts(state) - restarts} times"
        return found

    def journal(self, name: str) -> tuple[str, ...]:
        """Return the last lines that a unit logged."""
        argv = ("journalctl", "-u", name, "-n", str(JOURNAL_LINES), "--no-pager", "-o", "cat", "-q")
        return self._commands.run(argv).tail()

    def act(self, action: str, name: str, timeout_s: float) -> None:
        """Run one systemctl verb on a unit; a start that fails is for its caller to see."""
        if action in {"start", "restart"}:
            # Crashes of before, perhaps of what is mended now, must not count against its start
            # limit (StartLimitBurst= in systemd.unit(5)).
            self._commands.run(("systemctl", "-q", "reset-failed", name), timeout_s=timeout_s)
        result = self._commands.run(("systemctl", "-q", action, name), timeout_s=timeout_s)
        with self._lock:
            self._states.pop(name, None)
        # A unit whose first start fails may be brought up by its Restart=; _await_active decides.
        if result.status != 0 and action not in {"start", "restart"}:
            raise Failure(f"systemctl {action} {name} failed", result.tail())

    def _await_active(self, operation: dict[str, Any]) -> None:
        name = operation["name"]
        deadline = time.monotonic() + operation["timeout_s"]
        first = _restarts(self._show((name,))[name])
        while True:
            state = self._show((name,))[name]
            if is_running(state):
                break
            looping = _restarts(state) - first >= LOOP_RESTARTS
            dead = state["ActiveState"] in {"failed", "inactive"}
            if looping or dead or time.monotonic() > deadline:
                raise Failure(f"unit {name} is not active: {describe(state)}", self.journal(name))
            time.sleep(POLL_S)
        with self._lock:
            self._states[name] = state
            if state["ActiveState"] in RUNNING:
                self._started[name] = (_restarts(state), time.monotonic())

    def _watch_if_fresh(self, operation: dict[str, Any], state: UnitState) -> None:
        """Take a unit for one just started when it may be between two crashes."""
        since_s = time.monotonic() - int(state["ActiveEnterTimestampMonotonic"] or 0) / 1e6
        if operation["running"] and _restarts(state) and since_s < FRESH_S and not self._dry_run:
            self._started[operation["name"]] = (_restarts(state), time.monotonic())

    def _systemctl(self, *arguments: str) -> None:
        result = self._commands.run(("systemctl", *arguments), timeout_s=180)
        if result.status != 0:
            raise Failure(f"systemctl {' '.join(arguments)} failed", result.tail())

    def _show(self, names: Sequence[str]) -> dict[str, UnitState]:
        argv = ("systemctl", "show", "-p", ",".join(PROPERTIES), "--", *names)
        result = self._commands.run(argv)
        # One block per name, in the order asked for: an alias answers with its unit's own Id.
        blocks = result.output.strip().split("\n\n")
        if result.status != 0 or len(blocks) != len(names):
            raise Failure(f"cannot read the state of {' '.join(names)}", result.tail())
        return {name: _parse(block) for name, block in zip(names, blocks, strict=True)}


def plan_actions(operation: dict[str, Any], state: UnitState, *, due: bool) -> tuple[str, ...]:
    """Return the systemctl verbs that take a unit from state to what the operation wants."""
    running, file_state = is_running(state), state["UnitFileState"]
    masked = file_state.startswith("masked")
    stoppable = state["ActiveState"] in STOPPABLE
    if operation["masked"]:
        return (("stop",) if stoppable else ()) + (() if masked else ("mask",))
    wanted = operation["running"] or operation["enabled"] is True
    actions = ["unmask"] if masked and wanted else []
    if operation["enabled"] is True and file_state not in ENABLED:
        actions.append("enable")
    if operation["enabled"] is False and file_state in ENABLED_BY_LINK:
        actions.append("disable")
    if operation["running"]:
        if not running:
            actions.append("start")
        elif due:
            actions.append("reload" if operation["reload"] else "restart")
    elif stoppable:
        actions.append("stop")
    return tuple(actions)


def is_running(state: UnitState) -> bool:
    """Say whether a unit is up; a one-shot that has run well and is done is up."""
    if state["ActiveState"] in RUNNING:
        return True
    return (
        state["ActiveState"] == "inactive"
        and state["Type"] == "oneshot"
        and state["RemainAfterExit"] == "no"
        and state["Result"] == "success"
        and state["InactiveEnterTimestamp"] != ""
    )


def describe(state: UnitState) -> str:
    """Say how a unit is, in systemd's words."""
    words = f"{state['ActiveState']} ({state['SubState']}), result {state['Result'] or 'none'}"
    if _restarts(state):
        words += f", {_restarts(state)} restarts"
    if state["ConditionResult"] == "no" and state["ActiveState"] == "inactive":
        words += ", a condition of the unit is not met"
    return words


def _restarts(state: UnitState) -> int:
    return int(state["NRestarts"] or 0)


def _parse(block: str) -> UnitState:
    found = dict.fromkeys(PROPERTIES, "")
    for line in block.splitlines():
        key, _, value = line.partition("=")
        found[key] = value
    return found
