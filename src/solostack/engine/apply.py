"""Ships a packed bundle to a machine, follows the agent's events, turns failures into errors."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.engine.bundle import Part, pack, pack_undo
from solostack.engine.operations import Bundle
from solostack.errors import ApplyError, CommandError, ConfigureError

UNDO_TIMEOUT_S = 1800.0
COMMAND_NOT_FOUND = 127
ERROR_LINES = 30
HIDDEN = "***"
# Lanes that took less would only hide the others in the report of times.
RECORDED_S = 0.2
# The archive holds secrets: it is kept in memory (memfd_create(2)), no file of it is ever written.
BOOT = """
import os, sys
if sys.version_info < (3, 11):
    sys.exit("solostack needs Python 3.11 or newer here, this is " + sys.version.split()[0])
archive = os.memfd_create("solostack")
while data := os.read(0, 1 << 20):
    while data:
        data = data[os.write(archive, data):]
sys.path.insert(0, "/proc/self/fd/%d" % archive)
from agent.main import run
run()
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One operation that changed something, or in a dry run would.

    details are short remarks ("mode 0644 -> 0600"); diff is a unified diff, in a dry run only.
    """

    operation: str
    details: tuple[str, ...] = ()
    diff: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The first operation that failed; operation is "" when it was not one of the bundle's."""

    operation: str
    reason: str
    details: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperationTime:
    """How long one operation took on the machine."""

    phase: str
    lane: str
    operation: str
    duration_s: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an apply, a dry run or an undo did on one machine.

    changed holds the labels of the operations that changed something (``file /etc/hosts``); failed
    is None unless the caller asked not to have an error raised for it.
    """

    machine: str
    changed: tuple[str, ...]
    changes: tuple[Change, ...]
    failed: Failure | None
    seconds: float
    timings: tuple[OperationTime, ...]

    @property
    def diffs(self) -> tuple[str, ...]:
        """The diffs of a dry run that are not empty."""
        return tuple(change.diff for change in self.changes if change.diff)

    def lanes(self) -> dict[str, float]:
        """Return the seconds that each lane's operations took, lanes of one name in one sum."""
        seconds: dict[str, float] = {}
        for one in self.timings:
            seconds[one.lane] = seconds.get(one.lane, 0.0) + one.duration_s
        return seconds


def apply_bundle(
    executor: Executor,
    bundle: Bundle,
    secrets: Mapping[str, str],
    *,
    step: Step,
    dry_run: bool = False,
    ledger: bool = False,
    timeout_s: float = 1800.0,
) -> Report:
    """Make one machine what the bundle says, in one round trip, or say what that would change.

    ledger keeps how everything was before on that machine, for undo_ledger. Raises ConfigureError
    (ApplyError with ledger, which is for physical hosts) naming the machine and the operation;
    StateError for a secret that does not exist. ConnectError comes through from the executor.
    The lanes' times are recorded as parts of step; together they are more than the whole, because
    lanes of one phase run side by side.
    """
    archive = pack(bundle, secrets, ledger=ledger)
    follower = _Follower(executor.name, step, tuple(secrets.values()))
    arguments = ("dry-run",) if dry_run else ("apply",)
    error = ApplyError if ledger else ConfigureError
    report = _run(executor, archive, arguments, (follower, error, timeout_s))
    if not dry_run:
        for lane, duration_s in report.lanes().items():
            if duration_s >= RECORDED_S:
                step.record(lane, duration_s)
    return report


def undo_ledger(
    executor: Executor,
    *,
    step: Step,
    dry_run: bool = False,
    packages: str = "keep",
    disable: Sequence[str] = (),
    part: Part | None = None,
) -> Report:
    """Take back everything the machine's ledger holds, the newest first, or only a part of it.

    After a part the ledger stays for the rest; only a run over everything puts it away.
    packages is "keep" or "remove". Of the packages that are kept, those of their units that disable
    names will not start at the next boot; units of packages that were there before are left alone.
    What is taken back is marked, so a run that was stopped or failed goes on where it was. Raises
    ApplyError when something could not be taken back.
    """
    if packages not in {"keep", "remove"}:
        raise ValueError(f"packages: {packages!r} is neither 'keep' nor 'remove'")
    more = [argument for name in disable for argument in ("--disable", name)]
    more += ["--dry-run"] if dry_run else []
    arguments = ("undo", "--packages", packages, *more)
    follower = _Follower(executor.name, step, ())
    return _run(executor, pack_undo(part), arguments, (follower, ApplyError, UNDO_TIMEOUT_S))


class _Follower:
    """Collects the agent's events and tells the step of them."""

    def __init__(self, machine: str, step: Step, secrets: tuple[str, ...]) -> None:
        self._machine = machine
        self._step = step
        self._secrets = tuple(sorted(filter(None, secrets), key=len, reverse=True))
        self._running: dict[tuple[str, str], str] = {}
        self._changes: list[Change] = []
        self._timings: list[OperationTime] = []
        self._end: dict[str, Any] | None = None
        self.strays: list[str] = []

    def on_line(self, line: str) -> None:
        """Take one line of the agent's standard output."""
        try:
            event = json.loads(line)
        except ValueError:
            self.strays.append(self.redact(line))
            return
        match event["event"]:
            case "start":
                self._running[event["phase"], event["lane"]] = event["op"]
                self._step.say(event["op"])
            case "done":
                self._done(event)
            case "say":
                self._step.say(event["text"])
            case "report":
                self._end = event
            case _:  # "failed": the report has it too
                pass

    def _done(self, event: dict[str, Any]) -> None:
        place = (event["phase"], event["lane"])
        self._running.pop(place, None)
        self._timings.append(
            OperationTime(
                phase=place[0], lane=place[1], operation=event["op"], duration_s=event["seconds"]
            )
        )
        if event["changed"]:
            details = tuple(event["details"])
            self._changes.append(Change(operation=event["op"], details=details, diff=event["diff"]))

    def running(self) -> tuple[str, ...]:
        """Return the labels of the operations that have not ended."""
        return tuple(self._running.values())

    def redact(self, text: str) -> str:
        """Return text without secrets (the agent takes them out of events, not of tracebacks)."""
        for value in self._secrets:
            text = text.replace(value, HIDDEN)
        return text

    def report(self) -> Report | None:
        """Return the report, None when the agent ended without one."""
        if self._end is None:
            return None
        failed = self._end["failed"]
        return Report(
            machine=self._machine,
            changed=tuple(self._end["changed"]),
            changes=tuple(self._changes),
            failed=None
            if failed is None
            else Failure(
                operation=failed["op"], reason=failed["reason"], details=tuple(failed["details"])
            ),
            seconds=self._end["seconds"],
            timings=tuple(self._timings),
        )


def _run(
    executor: Executor,
    archive: bytes,
    arguments: tuple[str, ...],
    rest: tuple[_Follower, type[ApplyError | ConfigureError], float],
) -> Report:
    follower, error, timeout_s = rest
    try:
        completed = executor.run(
            ("sh", "-c", _command(arguments)),
            stdin=archive,
            timeout_s=timeout_s,
            check=False,
            on_line=follower.on_line,
        )
    except CommandError as failure:
        during = ", ".join(follower.running()) or "the start of the agent"
        raise error(
            f"{executor.name}: stopped during {during}: {follower.redact(failure.message)}",
            details=[follower.redact(line) for line in failure.details],
            hint="run the same command again: what is done is not done twice",
        ) from failure
    report = follower.report()
    if report is None:
        stderr = follower.redact(completed.stderr.decode("utf-8", "replace"))
        raise error(
            f"{executor.name}: the configuration agent ended without a report "
            f"(status {completed.status})",
            details=[*follower.strays, *stderr.rstrip().splitlines()][-ERROR_LINES:],
            hint="install python3 (3.11 or newer) there"
            if completed.status == COMMAND_NOT_FOUND
            else "run the same command again; if it fails again, this is a defect of solostack",
        )
    if report.failed is not None:
        raise error(
            f"{executor.name}: {report.failed.operation or 'the apply'} failed: "
            f"{report.failed.reason}",
            details=report.failed.details,
            hint=_hint(report.failed),
        )
    return report


def _command(arguments: tuple[str, ...]) -> str:
    # -I: nothing of the user's environment; -S: no site-packages, which cost time to look up.
    return f"umask 077; exec python3 -I -S -c {shlex.quote(BOOT)} {shlex.join(arguments)}"


def _hint(failure: Failure) -> str:
    kind, _, name = failure.operation.partition(" ")
    if kind == "unit":
        return f"look there: journalctl -u {name} -b; then run the same command again"
    return "mend the cause, then run the same command again: what is done is not done twice"
