"""What a person sees while work goes on, and the timing report after it."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import threading
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from solostack.cli import progress, render
from solostack.cli.progress import LineProgress, RichProgress
from solostack.doors.clock import FakeClock
from solostack.doors.progress import Progress


class BoomError(Exception):
    """Raised in a step."""


def run_all(shown: Progress, clock: FakeClock) -> None:
    """Do what `up` does in small: two steps, one nested and failing, one never reached."""
    shown.announce(("bake", "seed", "verify"))
    with shown.step("bake") as step:
        step.say("installing 1 of 9")
        clock.sleep(2.0)
        step.say("installing 2 of 9")
        step.note("no KVM here")
        clock.sleep(70.0)
    with contextlib.suppress(BoomError), shown.step("seed") as step:
        with step.step("quick"):
            clock.sleep(0.2)
        with step.step("keystone"):
            clock.sleep(3.0)
            raise BoomError


def terminal(width: int = 60, height: int = 20) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=height,
        color_system=None,
        legacy_windows=False,
        _environ={"TERM": "xterm"},
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def frame(shown: RichProgress, width: int = 60, height: int = 20) -> list[str]:
    """Return the live part as it is right now."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(shown)
    return [line.rstrip() for line in written(console).splitlines()]


def test_plain_lines_for_logs() -> None:
    clock = FakeClock()
    console = Console(file=io.StringIO(), width=200, color_system=None)

    run_all(LineProgress(console, clock), clock)

    assert written(console).splitlines() == [
        "[   0.0s] to do: bake, seed, verify",
        "[   0.0s] bake: ...",
        "[   0.0s] bake: installing 1 of 9",
        "[   2.0s] bake: no KVM here",
        "[  72.0s] bake: done in 1 min 12 s",
        "[  72.0s] seed: ...",
        "[  72.0s] seed > quick: ...",
        "[  72.2s] seed > quick: done in 0.2 s",
        "[  72.2s] seed > keystone: ...",
        "[  75.2s] seed > keystone: FAILED after 3.0 s",
        "[  75.2s] seed: FAILED after 3.2 s",
    ]


def test_a_live_frame_shows_what_is_done_runs_and_is_left() -> None:
    clock = FakeClock()
    shown = RichProgress(terminal(), clock)
    shown.announce(("bake", "seed", "verify"))
    with shown.step("bake"), shown_step(shown, "seed") as step:
        step("tree", lambda: clock.sleep(1.5))
        clock.sleep(1.0)
        assert frame(shown) == [
            "⠋ bake                                                 2.5 s",
            "⠋ seed   booting                                       2.5 s",
            "✓   tree                                               1.5 s",
            "· verify",
            "elapsed 2.5 s, 1 to come",
        ]
    shown.close()


@contextlib.contextmanager
def shown_step(shown: Progress, title: str) -> Iterator[Callable[[str, Callable[[], None]], None]]:
    with shown.step(title) as outer:
        outer.say("booting")

        def run(name: str, work: Callable[[], None]) -> None:
            with outer.step(name):
                work()

        yield run


def test_finished_steps_stay_and_short_parts_go() -> None:
    clock = FakeClock()
    console = terminal()
    shown = RichProgress(console, clock)

    run_all(shown, clock)
    shown.close()

    text = written(console)
    assert "✓ bake" in text
    assert "1 min 12 s" in text
    assert "bake: no KVM here" in text
    assert "✗ seed" in text
    assert "✗   keystone" in text
    assert "✓   quick" not in text.rpartition("✗ seed")[2]


def test_the_cursor_comes_back_even_when_a_step_never_ends() -> None:
    console = terminal()
    shown = RichProgress(console, FakeClock())
    step = shown.step("stuck")
    step.__enter__()

    shown.close()

    assert written(console).rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in written(console)


@pytest.mark.parametrize(("width", "height"), [(20, 4), (40, 6), (200, 3)])
def test_a_frame_fits_any_terminal(width: int, height: int) -> None:
    clock = FakeClock()
    shown = RichProgress(terminal(width, height), clock)
    shown.announce([f"a step with a rather long title {number}" for number in range(9)])
    with shown.step("one that runs") as step:
        step.say("words " * 40)
        for number in range(9):
            with step.step(f"part {number}"):
                clock.sleep(1.0)

        lines = frame(shown, width, height)

    shown.close()
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)
    assert any("one" in line for line in lines)


def test_steps_of_many_threads_all_end_up_in_the_report() -> None:
    shown = RichProgress(terminal(), FakeClock())

    def work(name: str) -> None:
        with shown.step(name) as step:
            for number in range(20):
                with step.step(f"part {number}") as part:
                    part.say("x")

    threads = [threading.Thread(target=work, args=(f"node {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    shown.close()

    assert len(shown.timings) == 4 * 21


def test_the_report_puts_parts_under_their_whole() -> None:
    clock = FakeClock()
    shown = Progress(clock)
    run_all(shown, clock)
    console = Console(file=io.StringIO(), width=80, color_system=None)

    console.print(progress.timing_report(shown.timings))

    rows = [line.split() for line in written(console).splitlines() if line.strip()]
    assert [row[0] for row in rows if row[0][0].isalpha()] == [
        "step",
        "bake",
        "seed",
        "quick",
        "keystone",
        "total",
    ]
    assert rows[-1] == ["total", "1", "min", "15", "s"]


def test_timings_for_programs() -> None:
    clock = FakeClock()
    shown = Progress(clock)
    run_all(shown, clock)

    value = json.loads(json.dumps(progress.timings_value(shown.timings)))

    assert value == [
        {"path": ["bake"], "duration_s": 72.0, "failed": False},
        {"path": ["seed"], "duration_s": 3.2, "failed": True},
        {"path": ["seed", "quick"], "duration_s": 0.2, "failed": False},
        {"path": ["seed", "keystone"], "duration_s": 3.0, "failed": True},
    ]


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0, "0.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3600, "1 h 00 min"),
    ],
)
def test_durations(duration_s: float, text: str) -> None:
    assert progress.format_duration(duration_s) == text


def test_a_table_that_is_too_wide_breaks_words_but_no_address() -> None:
    console = Console(file=io.StringIO(), width=40)
    address = ipaddress.IPv4Address("198.51.100.100")

    console.print(render.build_table(("a", "b", "c"), [("x" * 30, address, "y" * 30)]))

    assert "198.51.100.100" in written(console)


def test_a_table_shows_nothing_for_none_and_words_for_truth() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)

    console.print(render.build_table(("a", "b", "c"), [(None, True, "x\x1b[2J")]))

    assert written(console).split()[-3:] == ["-", "yes", "x[2J"]
