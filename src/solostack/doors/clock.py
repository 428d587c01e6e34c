"""The door to time: now, sleep, and deadlines made of them. Nothing else imports time."""

from __future__ import annotations

import dataclasses
import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the flows see it; FakeClock makes waits instant in tests."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment, never going back."""

    def sleep(self, duration_s: float) -> None:
        """Wait for duration_s seconds."""

    def now(self) -> datetime.datetime:
        """The wall clock in UTC."""


class SystemClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """See Clock."""
        time.sleep(max(0.0, duration_s))

    def now(self) -> datetime.datetime:
        """See Clock."""
        return datetime.datetime.now(tz=datetime.UTC)


class FakeClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.time_s = start_s

    def monotonic_s(self) -> float:
        """See Clock."""
        return self.time_s

    def sleep(self, duration_s: float) -> None:
        """See Clock."""
        self.time_s += max(0.0, duration_s)

    def now(self) -> datetime.datetime:
        """See Clock."""
        return datetime.datetime.fromtimestamp(self.time_s, tz=datetime.UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a clock by which something must be done."""

    clock: Clock
    at_s: float

    @classmethod
    def after(cls, clock: Clock, duration_s: float) -> Deadline:
        """Return the deadline duration_s seconds from now."""
        return cls(clock, clock.monotonic_s() + duration_s)

    def left_s(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self.at_s - self.clock.monotonic_s())

    def passed(self) -> bool:
        """Return whether nothing is left."""
        return self.left_s() <= 0.0
