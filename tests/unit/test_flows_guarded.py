"""A guarded change seen from solostack: what it asks of the host, what the operator is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.clock import FakeClock
from solostack.doors.process import Completed, OnLine
from solostack.doors.progress import Progress
from solostack.errors import ApplyError, ConnectError, HostError
from solostack.flows import guarded
from solostack.host import guard


@dataclasses.dataclass
class Host:
    """A host with a guard, as it answers; new connections may fail until a moment."""

    clock: FakeClock
    confirms: bool = True
    reached_from_s: float = 0.0
    name: str = "phys1"
    armed: str = ""
    deadline_s: float = 0.0
    last: dict[str, Any] | None = None
    asked: list[str] = dataclasses.field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        words = argv[-1].split() if argv[0] == "sh" else list(argv)
        verb = words[-1] if argv[0] == "sh" else words[1]
        self.asked.append(verb)
        if self.armed and self.clock.monotonic_s() >= self.deadline_s:
            self._end("taken back")
        match verb:
            case "arm":
                self.armed = words[2]
                self.deadline_s = self.clock.monotonic_s() + float(words[4])
            case "confirm" if self.confirms and self.armed:
                self._end("kept")
            case "confirm":
                return self._answer({"refused": "no proof", "hint": ""}, 3)
            case "rollback":
                self._end("taken back")
            case _:
                pass
        state: dict[str, Any] = {"armed": bool(self.armed), "last": self.last}
        if self.armed:
            left = self.deadline_s - self.clock.monotonic_s()
            state |= {"id": self.armed, "what": "w", "nic": "eno1", "seconds_left": left}
        return self._answer(state, 0)

    def _end(self, result: str) -> None:
        self.last = {"id": self.armed, "what": "w", "nic": "eno1", "result": result, "at": 1,
                     "differs": ["route missing: default"]}  # fmt: skip
        self.armed = ""

    @staticmethod
    def _answer(value: dict[str, Any], status: int) -> Completed:
        return Completed((), status, json.dumps(value).encode(), b"")


@dataclasses.dataclass
class New:
    """New connections to a host."""

    host: Host

    @property
    def name(self) -> str:
        return self.host.name

    def run(self, argv: Sequence[str], **more: Any) -> Completed:
        if self.host.clock.monotonic_s() < self.host.reached_from_s:
            raise ConnectError("phys1: no SSH connection")
        return self.host.run(argv, **more)


def change(host: Host, body: Callable[[], None] = lambda: None) -> None:
    door = guarded.Door(name="phys1", nic="eno1", executor=host, new=lambda: New(host))
    with (
        Progress().step("test") as step,
        guarded.guarded(
            door, what="w", touched=guard.Watched(), step=step, clock=host.clock, timeout_s=90
        ),
    ):
        body()


def test_a_change_is_armed_before_it_is_made_and_confirmed_after() -> None:
    host = Host(FakeClock())

    change(host, lambda: host.asked.append("made"))

    assert host.asked == ["arm", "made", "applied", "confirm"]
    assert host.last is not None
    assert host.last["result"] == "kept"


def test_it_is_tried_again_while_there_is_time() -> None:
    host = Host(FakeClock(), reached_from_s=40)

    change(host)

    assert host.last is not None
    assert host.last["result"] == "kept"
    assert host.clock.time_s < 45


def test_what_cannot_be_confirmed_is_taken_back_and_told() -> None:
    host = Host(FakeClock(), reached_from_s=110)

    with pytest.raises(HostError, match="was taken back on phys1") as caught:
        change(host)

    assert host.clock.time_s >= 110
    assert "phys1: no SSH connection" in caught.value.details
    assert "still not as before: route missing: default" in caught.value.details
    assert "solostack guard status" in caught.value.hint


def test_a_proof_that_is_refused_is_told() -> None:
    with pytest.raises(HostError, match="taken back") as caught:
        change(Host(FakeClock(), confirms=False))

    assert any("no proof" in line for line in caught.value.details)


def test_a_host_that_never_comes_back_is_told() -> None:
    with pytest.raises(HostError, match="not reached again") as caught:
        change(Host(FakeClock(), reached_from_s=1e9))

    assert "console" in caught.value.hint


def test_a_change_that_fails_is_taken_back_at_once_and_the_failure_goes_on() -> None:
    host = Host(FakeClock())

    def fail() -> None:
        raise ApplyError("nft failed")

    with pytest.raises(ApplyError, match="nft failed"):
        change(host, fail)

    assert host.asked == ["arm", "rollback"]
    assert host.clock.time_s == 0


def test_a_connection_lost_in_the_middle_waits_for_the_host() -> None:
    host = Host(FakeClock(), reached_from_s=100)

    def lose() -> None:
        raise ConnectError("lost")

    with pytest.raises(HostError, match="was taken back") as caught:
        change(host, lose)

    assert caught.value.details[0] == "lost"


def test_a_change_that_was_kept_but_for_the_answer_is_no_failure() -> None:
    host = Host(FakeClock())
    confirm = host.run

    def lose_answer(argv: Sequence[str], **more: Any) -> Completed:
        done = confirm(argv, **more)
        if argv[1] == "confirm":
            host.reached_from_s = 120
            raise ConnectError("lost")
        return done

    host.run = lose_answer  # type: ignore[method-assign]

    change(host)

    assert host.last is not None
    assert host.last["result"] == "kept"


def test_what_an_earlier_run_left_is_taken_back_first() -> None:
    host = Host(FakeClock(), armed="old", deadline_s=50)
    with Progress().step("test") as step:
        guarded.settle(host, step)

    assert host.asked == ["status", "rollback"]
    assert not host.armed
