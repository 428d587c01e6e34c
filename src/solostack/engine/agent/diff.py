"""What a file's change looks like to a reader, without telling secrets."""

from __future__ import annotations

import difflib

from .files import ABSENT, FILE, LINK, State

WORLD_READABLE = 0o004
NO_NEWLINE = "\n\\ No newline at end of file\n"
WITHHELD = "(old lines are not shown: the file is private)\n"


def render_diff(path: str, now: State, wanted: State, *, private: bool) -> str:
    """Return a unified diff.

    private says that the new content has secrets in it. Of such a file, and of one that not
    everybody may read, lines that are there now are not shown: they may hold secrets that nobody
    told us. The caller takes the secrets it knows out of the rest.
    """
    if now.kind == LINK:
        return f"--- {path} -> {now.target}\n+++ {path}\n"
    if b"\0" in now.content + wanted.content:
        return f"--- {path}\n+++ {path}\n(binary)\n"
    private = private or (now.kind == FILE and not now.mode & WORLD_READABLE)
    lines = list(
        difflib.unified_diff(
            _lines(now),
            _lines(wanted),
            fromfile="/dev/null" if now.kind == ABSENT else path,
            tofile=path,
            n=0 if private else 3,
        )
    )
    if private and any(line.startswith("-") for line in lines[2:]):
        lines = [*lines[:2], WITHHELD, *(x for x in lines[2:] if not x.startswith("-"))]
    return "".join(line if line.endswith("\n") else f"{line}{NO_NEWLINE}" for line in lines)


def _lines(state: State) -> list[str]:
    # Not splitlines(): only a line feed ends a line here, as in diff(1).
    lines = state.content.decode("utf-8", "replace").split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
