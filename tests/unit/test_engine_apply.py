"""What the controlling side makes of an agent's events, with an executor that replays some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from solostack.doors.process import Completed, OnLine
from solostack.doors.progress import Progress, Timing
from solostack.engine.apply import Report, apply_bundle, undo_ledger
from solostack.engine.operations import Bundle
from solostack.errors import ApplyError, CommandError, ConfigureError

EMPTY = Bundle(target="node", phases=())
PLACE = {"phase": "p", "lane": "l"}
START = {"event": "start", **PLACE, "op": "file /a"}
DONE = {
    "event": "done",
    **PLACE,
    "op": "file /a",
    "changed": True,
    "seconds": 0.5,
    "details": ["content"],
    "diff": "+x\n",
}
END = {"event": "report", "changed": ["file /a"], "failed": None, "seconds": 1.5}


class Replay:
    """An executor whose machine says what it was given."""

    name = "node"

    def __init__(self, *lines: object, status: int = 0, stderr: str = "", fail: str = "") -> None:
        self._lines = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        self._status = status
        self._stderr = stderr.encode()
        self._fail = fail
        self.argv: tuple[str, ...] = ()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        self.argv = tuple(argv)
        for line in self._lines:
            assert on_line is not None
            on_line(line)
        if self._fail:
            raise CommandError(self._fail)
        return Completed(self.argv, self._status, b"", self._stderr)


class Told(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def on_say(self, path: tuple[str, ...], text: str) -> None:
        self.texts.append(text)

    def on_end(self, timing: Timing) -> None:
        self.texts.append(f"end {timing.path}")


def apply(executor: Replay, *, ledger: bool = False) -> tuple[Report, list[str]]:
    progress = Told()
    with progress.step("configure") as step:
        report = apply_bundle(executor, EMPTY, {"key": "Zq7hunter2"}, step=step, ledger=ledger)
    return report, progress.texts


def test_events_become_progress_and_a_report() -> None:
    report, texts = apply(Replay(START, DONE, END))
    assert texts[0] == "file /a"
    assert report.changed == ("file /a",)
    assert report.diffs == ("+x\n",)
    assert report.changes[0].details == ("content",)
    assert report.timings[0].duration_s == 0.5
    assert report.seconds == 1.5
    assert report.failed is None
    assert report.machine == "node"


def test_the_time_of_each_lane_is_kept_but_not_of_a_dry_run() -> None:
    events = [
        {**DONE, "phase": phase, "lane": lane, "seconds": seconds}
        for phase, lane, seconds in (("services", "nova", 9.0), ("services", "glance", 0.1),
                                     ("units", "nova", 1.5))
    ]  # fmt: skip
    kept = []
    for dry_run in (True, False):
        progress = Progress()
        with progress.step("configure") as step:
            apply_bundle(Replay(*events, END), EMPTY, {}, step=step, dry_run=dry_run)
        kept.append([(one.path, one.duration_s) for one in progress.timings[:-1]])
    assert kept == [[], [(("configure", "nova"), 10.5)]]


def failed(operation: str) -> dict[str, object]:
    return {
        "event": "report",
        "changed": [],
        "failed": {"op": operation, "reason": "it broke", "details": ["why"]},
        "seconds": 0.1,
    }


def test_a_failure_is_an_error_with_machine_operation_details_and_hint() -> None:
    with pytest.raises(ConfigureError) as caught:
        apply(Replay(failed("unit nova-api.service"), status=1))
    assert caught.value.message == "node: unit nova-api.service failed: it broke"
    assert caught.value.details == ("why",)
    assert "journalctl -u nova-api.service" in caught.value.hint
    with pytest.raises(ApplyError, match="the apply failed"):
        apply(Replay(failed(""), status=1), ledger=True)


def test_an_agent_that_dies_is_an_error_without_secrets() -> None:
    with pytest.raises(ConfigureError) as caught:
        apply(Replay("stray Zq7hunter2", status=1, stderr="Traceback\nKeyError: 'Zq7hunter2'"))
    assert "without a report (status 1)" in caught.value.message
    assert caught.value.details == ("stray ***", "Traceback", "KeyError: '***'")


def test_a_machine_without_python_is_told_so() -> None:
    with pytest.raises(ConfigureError) as caught:
        apply(Replay(status=127, stderr="sh: python3: not found"))
    assert caught.value.hint == "install python3 (3.11 or newer) there"


def test_a_timeout_names_the_running_operation() -> None:
    with pytest.raises(ConfigureError) as caught:
        apply(Replay(START, fail="node: no end within 1800 s"))
    assert "during file /a" in caught.value.message
    assert isinstance(caught.value.__cause__, CommandError)


def test_undo_passes_its_choices_on() -> None:
    executor = Replay(END)
    with Progress().step("undo") as step:
        undo_ledger(executor, step=step, dry_run=True, packages="remove")
        assert executor.argv[-1].endswith("undo --packages remove --dry-run")
        with pytest.raises(ValueError):
            undo_ledger(executor, step=step, packages="all")
