"""Work side by side ends together."""

from __future__ import annotations

import functools
import threading

import pytest

from solostack.doors.clock import SystemClock
from solostack.doors.process import LocalExecutor
from solostack.errors import CommandError, MachineError
from solostack.flows.parallel import run_together


def fail() -> str:
    raise MachineError("node does not answer")


def test_results_come_in_the_order_of_the_works():
    assert run_together([functools.partial(str, number) for number in range(20)]) == [
        str(number) for number in range(20)
    ]


def test_nothing_to_do_is_nothing_done():
    assert run_together([]) == []


def test_a_failure_ends_what_still_runs_and_is_the_one_that_is_raised():
    clock = SystemClock()
    start_s = clock.monotonic_s()
    sleep = functools.partial(LocalExecutor().run, ("sleep", "30"))
    with pytest.raises(MachineError, match="does not answer"):
        run_together([sleep, fail])
    assert clock.monotonic_s() - start_s < 15


def test_the_failure_of_a_command_is_raised_as_it_is():
    with pytest.raises(CommandError, match="status 3"):
        run_together([functools.partial(LocalExecutor().run, ("sh", "-c", "exit 3"))])


def test_no_more_run_at_a_time_than_wanted_and_all_do():
    running, most, ended = 0, 0, []
    lock = threading.Lock()

    def work(number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        LocalExecutor().run(("sleep", "0.05"))
        with lock:
            running -= 1
            ended.append(number)

    run_together([functools.partial(work, number) for number in range(6)], at_once=2)
    assert most == 2
    assert sorted(ended) == list(range(6))


def test_what_did_not_begin_before_a_failure_never_does(tmp_path):
    touch = functools.partial(LocalExecutor().run, ("touch", str(tmp_path / "begun")))
    with pytest.raises(MachineError, match="does not answer"):
        run_together([fail, *[touch] * 20], at_once=1)
    assert not (tmp_path / "begun").exists()
