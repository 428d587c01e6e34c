"""How work looks while it goes on: a live tree on a terminal, plain lines elsewhere.

Owns two implementations of the progress door and the timing report. Both write to standard error,
so that standard output holds the result alone. Must not know what the steps do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from solostack.cli import render
from solostack.doors.clock import Clock
from solostack.doors.progress import Progress, Timing

FRAMES_PER_S = 8
SAY_INTERVAL_S = 5.0
SHOWN_CHILD_S = 1.0
SHOWN_DEPTH = 2
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
Path = tuple[str, ...]


@contextlib.contextmanager
def open_progress(clock: Clock | None = None) -> Iterator[Progress]:
    """Give the progress that fits standard error. Ask questions between steps, not in one."""
    console = render.console(sys.stderr)
    if console.is_terminal and not console.is_dumb_terminal:
        progress = RichProgress(console, clock)
        try:
            yield progress
        finally:
            progress.close()
    else:
        yield LineProgress(console, clock)


def format_duration(duration_s: float) -> str:
    """Return 8.2 s, 1 min 05 s or 2 h 03 min."""
    if duration_s < 59.95:
        return f"{duration_s:.1f} s"
    minutes, seconds = divmod(round(duration_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


class LineProgress(Progress):
    """One line per event, with the seconds since the start: for logs and pipes.

    What a step says is shown at most every 5 s per step, so that a log stays readable.
    """

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._console = console
        self._start_s = self._clock.monotonic_s()
        self._said_s: dict[Path, float] = {}

    def on_announce(self, titles: Path) -> None:
        """See Progress."""
        self._line(f"to do: {', '.join(titles)}")

    def on_start(self, path: Path) -> None:
        """See Progress."""
        self._line(f"{_joined(path)}: ...")

    def on_say(self, path: Path, text: str) -> None:
        """See Progress."""
        now_s = self._clock.monotonic_s()
        if now_s - self._said_s.get(path, -SAY_INTERVAL_S) >= SAY_INTERVAL_S:
            self._said_s[path] = now_s
            self._line(f"{_joined(path)}: {text}")

    def on_note(self, path: Path, text: str) -> None:
        """See Progress."""
        self._line(f"{_joined(path)}: {text}")

    def on_end(self, timing: Timing) -> None:
        """See Progress."""
        verb = "FAILED after" if timing.failed else "done in"
        self._line(f"{_joined(timing.path)}: {verb} {format_duration(timing.duration_s)}")

    def _line(self, text: str) -> None:
        elapsed_s = self._clock.monotonic_s() - self._start_s
        self._console.print(f"[{elapsed_s:6.1f}s] {render.printable(text)}", soft_wrap=True)


@dataclasses.dataclass(slots=True)
class _Running:
    """A step on the screen. Mutable: the refresh thread reads what the workers write."""

    path: Path
    start_s: float
    text: str = ""
    timing: Timing | None = None
    children: list[_Running] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """One line of the live part; rows with the least weight go first when room is short."""

    mark: str
    title: str
    text: str
    time: str
    style: str
    weight: int


class RichProgress(Progress):
    """A live tree: what runs and what it says, what is left, and above it what is finished.

    The tree is on the screen only while a step runs; between steps the terminal is anybody's. The
    refresh thread holds rich's lock and takes ours; so ours is never held while rich is called.
    """

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._console = console
        self._start_s = self._clock.monotonic_s()
        self._state = threading.Lock()
        self._announced: list[str] = []
        self._steps: dict[Path, _Running] = {}
        self._unicode = console.encoding.lower().startswith("utf")
        self._live: Live | None = None

    def close(self) -> None:
        """Give the terminal back, whatever still runs."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def on_announce(self, titles: Path) -> None:
        """See Progress."""
        with self._state:
            self._announced = list(titles)

    def on_start(self, path: Path) -> None:
        """See Progress."""
        step = _Running(path, self._clock.monotonic_s())
        with self._state:
            self._steps[path] = step
            parent = self._steps.get(path[:-1])
            if parent is not None:
                parent.children.append(step)
            elif path[0] in self._announced:
                self._announced.remove(path[0])
        if self._live is None:
            # A new one each time: a stopped Live, started again, draws over what came after it.
            self._live = Live(
                self, console=self._console, refresh_per_second=FRAMES_PER_S, transient=True
            )
            self._live.start()

    def on_say(self, path: Path, text: str) -> None:
        """See Progress."""
        with self._state:
            if path in self._steps:
                self._steps[path].text = render.printable(text)

    def on_note(self, path: Path, text: str) -> None:
        """See Progress."""
        line = Text(f"  {path[-1]}: ", style="dim")
        line.append(render.printable(text), style="not dim")
        self._console.print(line, soft_wrap=True)

    def on_end(self, timing: Timing) -> None:
        """See Progress."""
        with self._state:
            step = self._steps.get(timing.path)
            if step is None:
                return
            step.timing = timing
            if len(timing.path) > 1:
                return
            rows = list(self._finished_rows(step))
            self._forget(step)
            last = not self._steps
        if last:
            self.close()
        self._console.print(self._grid(rows))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the live part; rich calls it for every frame."""
        now_s = self._clock.monotonic_s()
        with self._state:
            rows = [row for step in self._top_steps() for row in self._running_rows(step, now_s)]
            rows += [_Row(self._mark(None), title, "", "", "dim", 1) for title in self._announced]
        elapsed = format_duration(now_s - self._start_s)
        left = len(self._announced)
        footer = f"elapsed {elapsed}" + (f", {left} to come" if left else "")
        # One line stays free, so that the terminal never scrolls while the tree is redrawn.
        room = max(1, (options.max_height or console.height) - 2)
        yield self._grid(_fit(rows, room))
        yield Text(footer, style="dim", no_wrap=True, overflow="ellipsis")

    def _top_steps(self) -> list[_Running]:
        return [step for path, step in self._steps.items() if len(path) == 1]

    def _running_rows(self, step: _Running, now_s: float) -> Iterator[_Row]:
        depth = len(step.path) - 1
        title = "  " * depth + step.path[-1]
        if step.timing is not None:
            mark, style = self._mark(step.timing), "red" if step.timing.failed else "dim"
            time = format_duration(step.timing.duration_s)
            yield _Row(mark, title, "", time, style, 0)
            return
        spin = SPINNER if self._unicode else "-\\|/"
        mark = spin[int(now_s * FRAMES_PER_S) % len(spin)]
        time = format_duration(now_s - step.start_s)
        yield _Row(mark, title, step.text, time, "bold" if depth == 0 else "", 3 if depth else 4)
        for child in step.children:
            yield from self._running_rows(child, now_s)

    def _finished_rows(self, step: _Running) -> Iterator[_Row]:
        timing = step.timing
        if timing is None:
            return
        depth = len(step.path) - 1
        style = "red" if timing.failed else "dim" if depth else ""
        time = format_duration(timing.duration_s)
        title = "  " * depth + step.path[-1]
        yield _Row(self._mark(timing), title, "", time, style, 0)
        for child in step.children:
            shown = child.timing is not None and (
                child.timing.failed or child.timing.duration_s >= SHOWN_CHILD_S
            )
            if shown and depth + 1 < SHOWN_DEPTH:
                yield from self._finished_rows(child)

    def _forget(self, step: _Running) -> None:
        self._steps.pop(step.path, None)
        for child in step.children:
            self._forget(child)

    def _mark(self, timing: Timing | None) -> str:
        if timing is None:
            return "·" if self._unicode else "."
        if timing.failed:
            return "✗" if self._unicode else "x"
        return "✓" if self._unicode else "+"

    def _grid(self, rows: Sequence[_Row]) -> Table:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=1)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
        grid.add_column(no_wrap=True, justify="right")
        for row in rows:
            style = "red" if row.style == "red" else "green" if row.weight == 0 else "cyan"
            cells = (Text(row.mark, style=style), Text(row.title, style=row.style))
            grid.add_row(*cells, Text(row.text), Text(row.time, style=row.style))
        return grid


def _joined(path: Path) -> str:
    return " > ".join(path)


def _fit(rows: Sequence[_Row], room: int) -> list[_Row]:
    """Leave out finished parts first, then what is to come, until the rows fit."""
    kept = list(rows)
    while len(kept) > room and len(kept) > 1:
        least = min(range(len(kept)), key=lambda index: kept[index].weight)
        if kept[least].weight == 1:
            # Of what is to come the next is the most interesting: take from the end.
            least = max(index for index, row in enumerate(kept) if row.weight == 1)
        del kept[least]
    return kept


def timing_report(finished: Sequence[Timing]) -> Table:
    """Build the table of all finished steps: parts under their whole, and their share of it all."""
    timings = _in_tree_order(finished)
    total_s = sum(timing.duration_s for timing in timings if len(timing.path) == 1)
    table = render.build_table(("step", "time", "share", ""), ())
    for column in table.columns[1:3]:
        column.justify = "right"
    for timing in timings:
        share = timing.duration_s / total_s if total_s > 0 else 0.0
        depth = len(timing.path) - 1
        table.add_row(
            Text("  " * depth + timing.path[-1]),
            Text(format_duration(timing.duration_s)),
            Text(f"{share:.0%}"),
            Text("failed" if timing.failed else "", style="red"),
            style="dim" if depth else "",
        )
    table.add_section()
    table.add_row(Text("total", style="bold"), Text(format_duration(total_s), style="bold"))
    return table


def timings_value(finished: Sequence[Timing]) -> list[dict[str, object]]:
    """Return the finished steps for --json: path from the outside in, seconds, failed or not."""
    return [
        {
            "path": list(timing.path),
            "duration_s": round(timing.duration_s, 3),
            "failed": timing.failed,
        }
        for timing in _in_tree_order(finished)
    ]


def _in_tree_order(timings: Sequence[Timing]) -> list[Timing]:
    """Put parts under their whole; they ended before it. Equals keep the order of their ends."""
    first: dict[Path, int] = {}
    for position, timing in enumerate(timings):
        for depth in range(1, len(timing.path) + 1):
            first.setdefault(timing.path[:depth], position)
    return sorted(
        timings,
        key=lambda timing: [first[timing.path[:depth]] for depth in range(1, len(timing.path) + 1)],
    )
