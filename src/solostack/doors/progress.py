"""The door to the person who waits: timed, nested steps. Implementations that print live in cli/.

Whoever works takes a Step, opens child steps for its parts and says what is going on right now.
Steps of different threads may run at the same time. Every implementation keeps the timings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence

from solostack.doors.clock import Clock, SystemClock


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a finished step took. path is its title below its parents' titles."""

    path: tuple[str, ...]
    duration_s: float
    failed: bool = False


class Progress:
    """Records timings and shows nothing; subclasses override the on_ methods to show.

    The on_ methods may be called from several threads, one at a time (a lock is held).
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._timings: list[Timing] = []

    @property
    def timings(self) -> tuple[Timing, ...]:
        """The finished steps, in the order in which they ended."""
        with self._lock:
            return tuple(self._timings)

    def announce(self, titles: Sequence[str]) -> None:
        """Say which top-level steps are to come, so that what is left can be shown."""
        with self._lock:
            self.on_announce(tuple(titles))

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Run a top-level step."""
        with self._run(Step(self, (title,))) as step:
            yield step

    @contextlib.contextmanager
    def _run(self, step: Step) -> Iterator[Step]:
        start_s = self._clock.monotonic_s()
        failed = True
        with self._lock:
            self.on_start(step.path)
        try:
            yield step
            failed = False
        finally:
            timing = Timing(
                path=step.path, duration_s=self._clock.monotonic_s() - start_s, failed=failed
            )
            with self._lock:
                self._timings.append(timing)
                self.on_end(timing)

    def on_announce(self, titles: tuple[str, ...]) -> None:
        """Show the steps to come."""

    def on_start(self, path: tuple[str, ...]) -> None:
        """Show that a step began."""

    def on_say(self, path: tuple[str, ...], text: str) -> None:
        """Show what a running step does right now."""

    def on_note(self, path: tuple[str, ...], text: str) -> None:
        """Show something that should stay on the screen."""

    def on_end(self, timing: Timing) -> None:
        """Show that a step ended."""


class Step:
    """A running step."""

    def __init__(self, progress: Progress, path: tuple[str, ...]) -> None:
        self._progress = progress
        self.path = path

    def say(self, text: str) -> None:
        """Tell what is going on right now; replaces what was said before."""
        with self._progress._lock:
            self._progress.on_say(self.path, text)

    def note(self, text: str) -> None:
        """Tell something worth keeping on the screen."""
        with self._progress._lock:
            self._progress.on_note(self.path, text)

    def record(self, title: str, duration_s: float) -> None:
        """Keep the time of a part that ran, and was timed, elsewhere; shows nothing now."""
        with self._progress._lock:
            timing = Timing(path=(*self.path, title), duration_s=duration_s)
            self._progress._timings.append(timing)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Run a step that is part of this one."""
        with self._progress._run(Step(self._progress, (*self.path, title))) as step:
            yield step
