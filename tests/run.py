"""Runs every test, several lanes at a time.

Most of their time is waiting: for boots, for timers of what is tested, for one emulated processor.
Each lane (tests/lanes.py) is a pytest of its own, whose output is kept in build/tests/. A line
tells how it ended; of one that failed everything is shown. On Ctrl-C and SIGTERM all of them take
away what they made.

Usage: python -m tests.run [-n LANES] [-m LANES] [FILE_OR_FOLDER...]
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from solostack.lab.lab import Lab
from solostack.lab.state import list_labs
from tests.lanes import file_of, lane_of
from tests.ties import remove_spaces_of

ROOT = Path(__file__).parents[1]
SUITES = ("tests/unit", "tests/host", "tests/cloud")
LOGS = ROOT / "build/tests"
AT_ONCE = 2
# Without a lab a lane leaves a processor idle for most of its time.
AT_ONCE_WITHOUT_LABS = 3
WITHOUT_LAB = "tests/host/"
# What takes longest begins first, so that no lane is left to run alone at the end; the others
# follow in alphabetical order. Unit tests run while the trees of the first are built; beside the
# first `up` of the full site, which sixty tests stand on, runs what mostly waits.
LONGEST = (
    "tests/cloud/test_full_site.py",
    "tests/unit/test_architecture.py",
    "tests/cloud/test_guard_in_lab.py",
    "tests/cloud/test_whole_cloud.py",
    "tests/cloud/test_external_methods.py",
    "tests/cloud/test_runtimes.py",
    "tests/cloud/test_inventory_in_lab.py",
)
# An interrupted lane removes its lab: a whole cloud, on a machine that may be busy.
CLEAN_UP_S = 300.0
POLL_S = 0.2
AT_ONCE_SHOWN = re.compile(r"^tests/\S+::.* (FAILED|ERROR)\b")
SKIPPED = re.compile(r"^SKIPPED\b")
# What pytest marks as the reason, and the names with which it ends.
REASON = re.compile(r"^(E  |(FAILED|ERROR)\b)")
# An assertion says what is wrong at its beginning, a command of ours at the end of its output.
FIRST_LINES, LAST_LINES = 6, 12


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A lane's name, the files its tests are in, and how many tests those are."""

    name: str
    files: tuple[str, ...]
    tests: int

    @property
    def has_lab(self) -> bool:
        """Whether its tests may bring up a lab, or load a processor in another way."""
        return not all(file.startswith(WITHOUT_LAB) for file in self.files)

    @property
    def log(self) -> Path:
        """Where its output is kept."""
        return LOGS / f"{re.sub('[^a-z0-9]+', '-', self.name.lower())}.log"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a lane ended. status is pytest's; told is its closing line, without the rulers."""

    lane: Lane
    status: int
    told: str
    duration_s: float

    def skipped(self) -> list[str]:
        """Return the lines of its output that say what was skipped."""
        return [line for line in self._lines() if SKIPPED.match(line)]

    def reasons(self) -> list[str]:
        """Return the lines of its output that say what failed: both ends of each reason."""
        told = []
        groups = itertools.groupby(self._lines(), key=lambda line: bool(REASON.match(line)))
        for _, lines in (group for group in groups if group[0]):
            reason = list(lines)
            if len(reason) > FIRST_LINES + LAST_LINES:
                reason[FIRST_LINES:-LAST_LINES] = ["E   ..."]
            told += reason
        return told

    def _lines(self) -> list[str]:
        return self.lane.log.read_text().splitlines()


class Lanes:
    """The lanes still to run, and those that run.

    At most at_once run at a time, and at most without_labs where the next one has no lab.
    """

    def __init__(self, lanes: Iterable[Lane], *, at_once: int, without_labs: int) -> None:
        self._left = collections.deque(lanes)
        self._at_once, self._without_labs = at_once, without_labs
        self._begun = 0
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._start_s = time.monotonic()
        self.outcomes: list[Outcome] = []
        self.interrupted = False

    def work(self) -> None:
        """Run one lane after the other until none is left."""
        while (lane := self._next()) is not None:
            try:
                outcome = self._run(lane)
            finally:
                with self._changed:
                    self._begun -= 1
                    self._changed.notify_all()
            with self._lock:
                self.outcomes.append(outcome)
            self._tell(outcome)

    def interrupt(self) -> None:
        """Have what runs clean up and end, and begin nothing more; the second time, kill it."""
        with self._lock:
            number = signal.SIGKILL if self.interrupted else signal.SIGINT
            self.interrupted = True
            self._left.clear()
            self._changed.notify_all()
            for process in self._running.values():
                process.send_signal(number)

    def say(self, text: str) -> None:
        """Print a line with the time since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self._start_s), 60)
        print(f"[{minutes:3}:{seconds:02}] {text}", flush=True)

    def _next(self) -> Lane | None:
        with self._changed:
            while self._left:
                most = self._at_once if self._left[0].has_lab else self._without_labs
                if self._begun < most:
                    self._begun += 1
                    return self._left.popleft()
                self._changed.wait()
            return None

    def _run(self, lane: Lane) -> Outcome:
        argv = (
            *(sys.executable, "-m", "pytest", "-v", "-ra", "--durations=10", "--color=no"),
            *("--lane", lane.name, *lane.files),
        )
        start_s = time.monotonic()
        # A session of its own: the terminal's Ctrl-C reaches us alone, and the tests through us.
        with subprocess.Popen(
            argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            with self._lock:
                self._running[lane.name] = process
                if self.interrupted:
                    process.send_signal(signal.SIGINT)
            told = self._follow(process, lane.log)
        with self._lock:
            del self._running[lane.name]
        left = [*remove_labs_of(process.pid), *remove_spaces_of(process.pid)]
        if left:
            self.say(f"{lane.name}: left {', '.join(left)} behind; removed")
        return Outcome(
            lane=lane,
            status=process.returncode or len(left),
            told=told,
            duration_s=time.monotonic() - start_s,
        )

    def _follow(self, process: subprocess.Popen[str], log: Path) -> str:
        last = ""
        assert process.stdout is not None
        with log.open("w") as kept:
            for line in process.stdout:
                kept.write(line)
                kept.flush()
                last = line.strip(" =\n") or last
                if AT_ONCE_SHOWN.match(line):
                    self.say(line.rstrip())
        return last

    def _tell(self, outcome: Outcome) -> None:
        if outcome.status == 0:
            self.say(f"{outcome.lane.name}: {outcome.told}")
            return
        text = outcome.lane.log.read_text()
        with self._lock:
            self.say(f"{outcome.lane.name}: FAILED (status {outcome.status})\n{text}\n")


def remove_labs_of(pid: int) -> list[str]:
    """Remove the labs that a lane named after its process and left; return their names.

    It was killed, or told to stop while it was removing them.
    """
    left = [name for name in list_labs() if re.fullmatch(rf"[a-z]+{pid}(-.*)?", name)]
    for name in left:
        Lab(name).down()
    return left


class Collected:
    """Notes all tests that pytest finds."""

    def __init__(self) -> None:
        self._items: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the file of each test under its lane."""
        for item in session.items:
            self._items.setdefault(lane_of(item), []).append(file_of(item))

    def lanes(self) -> tuple[Lane, ...]:
        """Return the lanes, those that take longest first."""
        found = [
            Lane(name=name, files=tuple(dict.fromkeys(files)), tests=len(files))
            for name, files in self._items.items()
        ]
        return tuple(sorted(found, key=_rank))


def collect(paths: Sequence[str]) -> tuple[Lane, ...]:
    """Return the lanes of all tests in paths; exits where pytest cannot read them."""
    collected = Collected()
    status = pytest.main(["--collect-only", "-qq", *paths], plugins=[collected])
    if status != 0:
        raise SystemExit(int(status))
    return collected.lanes()


def _rank(lane: Lane) -> tuple[int, str]:
    places = [LONGEST.index(file) for file in lane.files if file in LONGEST]
    return (min(places, default=len(LONGEST)), lane.name)


def run(lanes: Lanes, workers_wanted: int) -> None:
    """Run all lanes; returns when every one has ended."""
    workers = [threading.Thread(target=lanes.work) for _ in range(workers_wanted)]

    def on_signal(*_: Any) -> None:
        # Not here: the main thread may hold a lock that interrupt takes.
        threading.Thread(target=lanes.interrupt).start()
        lanes.say("interrupted: lanes clean up; again: they are killed, then `make clean`")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    for worker in workers:
        worker.start()
    patience_s = CLEAN_UP_S
    while any(worker.is_alive() for worker in workers):
        time.sleep(POLL_S)
        patience_s -= POLL_S if lanes.interrupted else 0
        if patience_s < 0:
            lanes.interrupt()


def report(lanes: Lanes, wanted: Sequence[Lane]) -> int:
    """Print what took how long and what failed; return the exit status."""
    by_time = sorted(lanes.outcomes, key=lambda one: -one.duration_s)
    lanes.say(f"{len(by_time)} of {len(wanted)} lanes ended; output in {LOGS.relative_to(ROOT)}")
    for one in by_time:
        print(f"{one.duration_s:8.1f} s  {one.lane.tests:4} tests  {one.lane.name}")
    for line in [line for one in by_time for line in one.skipped()]:
        print(line)
    failed = [one for one in by_time if one.status != 0]
    # Last, where whoever is shown only the end of the output still sees it.
    for one in failed:
        print("\n".join((f"FAILED lane {one.lane.name}:", *one.reasons())))
    return 1 if failed or len(by_time) < len(wanted) else 0


def main() -> int:
    """Run what the command line asks for; returns 0 when every test of every lane passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description="Run tests in lanes.")
    parser.add_argument("-n", type=int, default=AT_ONCE, help=f"lanes at a time ({AT_ONCE})")
    parser.add_argument(
        "-m",
        type=int,
        default=AT_ONCE_WITHOUT_LABS,
        help=f"lanes at a time once all that are left have no lab ({AT_ONCE_WITHOUT_LABS})",
    )
    parser.add_argument("paths", nargs="*", default=SUITES)
    arguments = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    wanted = collect(arguments.paths)
    lanes = Lanes(wanted, at_once=arguments.n, without_labs=arguments.m)
    run(lanes, max(arguments.n, arguments.m))
    return report(lanes, wanted)


if __name__ == "__main__":
    sys.exit(main())
