"""Clocks and deadlines."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from solostack.doors.clock import Deadline, FakeClock, SystemClock

DURATIONS = st.floats(min_value=-10, max_value=1e6, allow_nan=False)


@given(st.lists(DURATIONS))
def test_a_fake_clock_moves_by_what_is_slept_and_never_back(durations: list[float]) -> None:
    clock = FakeClock()

    for duration_s in durations:
        before_s = clock.monotonic_s()
        clock.sleep(duration_s)
        assert clock.monotonic_s() == before_s + max(0.0, duration_s)


def test_a_fake_clock_has_a_date() -> None:
    clock = FakeClock()
    clock.sleep(3600)

    assert clock.now() == datetime.datetime(1970, 1, 1, 1, tzinfo=datetime.UTC)


def test_the_system_clock_is_in_utc_and_goes_on() -> None:
    clock = SystemClock()
    before_s = clock.monotonic_s()
    clock.sleep(-1)

    assert clock.now().tzinfo is datetime.UTC
    assert clock.monotonic_s() >= before_s


@given(wait_s=st.floats(0, 1e6), slept_s=st.floats(0, 1e6))
def test_a_deadline_has_left_what_was_not_slept(wait_s: float, slept_s: float) -> None:
    clock = FakeClock()
    deadline = Deadline.after(clock, wait_s)

    clock.sleep(slept_s)

    assert deadline.left_s() == max(0.0, wait_s - slept_s)
    assert deadline.passed() is (slept_s >= wait_s)
