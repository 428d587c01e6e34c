"""What commands print: tables that fit the terminal, JSON for programs, colours for people only.

Owns the two streams. Results go to standard output, everything else to standard error, so that a
pipe or a file gets the result alone. Must not know what the values mean.
"""

from __future__ import annotations

import ipaddress
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

import rich.box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# A table in a pipe is read by grep and awk: one row is one line, however long.
PIPE_WIDTH = 4096
_ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the process with status 1 itself; the edge knows better.
        raise BrokenPipeError


def console(stream: TextIO | None = None) -> Console:
    """Return a console for stream (standard output by default) without any guessing of meaning.

    Colours appear on a terminal only, and not there either when NO_COLOR is set (no-color.org).
    """
    target = stream or sys.stdout
    return _Console(
        file=target,
        width=shutil.get_terminal_size().columns if target.isatty() else PIPE_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )


def build_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Build a table of plain values; None is shown as a dash. Addresses are not broken in two."""
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    for index, column in enumerate(columns):
        whole = any(isinstance(row[index], _ADDRESSES) for row in rows)
        table.add_column(column, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to standard output."""
    show(build_table(columns, rows))


def show(value: RenderableType) -> None:
    """Print text or a rich renderable to standard output; lines of text are never broken."""
    console().print(value, soft_wrap=isinstance(value, str | Text))


def show_error_text(value: RenderableType) -> None:
    """Print text or a rich renderable to standard error; lines of text are never broken."""
    console(sys.stderr).print(value, soft_wrap=isinstance(value, str | Text))


def print_json(value: object) -> None:
    """Print value as JSON to standard output, keys sorted; see plan.serial for what it takes."""
    # Late: pydantic, and so the start of every command, would cost more than all the rest here.
    from solostack.plan.serial import to_pretty_json

    text = to_pretty_json(value)
    _json_results.append(len(text))
    sys.stdout.write(text)


def has_json_result() -> bool:
    """Return whether print_json was called since forget_results: one document is the limit."""
    return bool(_json_results)


def forget_results() -> None:
    """Start a new run of the command line in this process."""
    _json_results.clear()


_json_results: list[int] = []


def printable(text: str) -> str:
    """Return text without the control characters that could rewrite the screen; tabs stay.

    What a guest or another machine said is shown in errors; it must not drive the terminal.
    """
    return "".join(character for character in text if character.isprintable() or character == "\t")


def _cell(value: object) -> Text:
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    return Text(printable(str(value)))
