"""Work side by side ends together."""

from __future__ import annotations

import functools

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
