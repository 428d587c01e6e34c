"""What the agent says: JSON lines on standard output, and the one error it ends with."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


class AgentError(Exception):
    """A failure with the next thing to do; becomes the final line of the agent."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def emit(event: str, **fields: object) -> None:
    """Write one event; raises BrokenPipeError when nobody listens any more."""
    line = json.dumps({"event": event, **fields})
    with _lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def say(text: str) -> None:
    """Tell what is going on right now."""
    emit("say", text=text)


class Changes:
    """What became of each object: created, changed, removed, unchanged. Safe for threads."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def add(self, kind: str, name: str, outcome: str) -> None:
        """Note an object's outcome and tell it unless nothing happened."""
        self.rows.append({"kind": kind, "name": name, "outcome": outcome})
        if outcome != "unchanged":
            say(f"{kind} {name}: {outcome}")


class Finding:
    """The result of one check while it is made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ok = True
        self.detail = ""
        self.hint = ""

    def fail(self, detail: str, hint: str = "") -> None:
        """Note that the check failed and why; hint where the check's own one is too general."""
        self.ok = False
        self.detail = detail
        self.hint = hint


@contextmanager
def finding(name: str) -> Iterator[Finding]:
    """Make a check: time it and emit its result; an AgentError inside is a failed check."""
    say(name)
    start_s = time.monotonic()
    one = Finding(name)
    try:
        yield one
    except AgentError as error:
        one.fail(error.message, error.hint)
    finally:
        seconds = time.monotonic() - start_s
        emit(
            "finding",
            name=name,
            ok=one.ok,
            seconds=round(seconds, 3),
            detail=one.detail,
            hint=one.hint,
        )


class Wait:
    """A deadline with a pause between looks.

    The pause says something, so that when the reader has gone the agent ends (EPIPE) instead of
    working on unseen.
    """

    def __init__(self, limit_s: float, pause_s: float = 1.0) -> None:
        self._end_s = time.monotonic() + limit_s
        self._pause_s = pause_s

    def left(self, text: str) -> bool:
        """Pause and return True, or return False when the time is over."""
        if time.monotonic() >= self._end_s:
            return False
        say(text)
        time.sleep(self._pause_s)
        return True
