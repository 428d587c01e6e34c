"""What the agent says: one JSON object per line on standard output, secrets taken out."""

from __future__ import annotations

import json
import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HIDDEN = "***"
SHORTEST_LINE = 8


class Failure(Exception):  # noqa: N818 (the report's own word for it)
    """An operation that did not work: one line of reason, then the lines that explain it.

    operation is its label, "" when whoever catches the failure knows it.
    """

    def __init__(self, reason: str, details: Sequence[str] = (), *, operation: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = tuple(details)
        self.operation = operation


class Interrupted(Exception):  # noqa: N818 (not an error of ours)
    """The work was told to stop (SIGTERM, SIGINT, SIGHUP) or its reader is gone."""


class Outcome:
    """What one operation did, or in a dry run would do."""

    __slots__ = ("changed", "details", "diff")

    def __init__(
        self, *, changed: bool = False, details: Sequence[str] = (), diff: str = ""
    ) -> None:
        self.changed = changed
        self.details = tuple(details)
        self.diff = diff


UNCHANGED = Outcome()


class Reporter:
    """Writes events. Safe to use from several threads.

    gone says that nobody reads any more (the pipe is closed); events are then dropped.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._hidden: list[str] = []
        self._lock = threading.Lock()
        self.gone = False
        self.hide(secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        """Never show these values from now on, nor any long enough line of them."""
        found = set(self._hidden)
        for value in secrets:
            found.add(value)
            found.update(line for line in value.splitlines() if len(line) >= SHORTEST_LINE)
        # The longest first: a secret may be part of another.
        self._hidden = sorted((value for value in found if value), key=len, reverse=True)

    def redact(self, text: str) -> str:
        """Return text without any secret."""
        for value in self._hidden:
            if value in text:
                text = text.replace(value, HIDDEN)
        return text

    def emit(self, event: str, **fields: object) -> None:
        """Write one event."""
        line = json.dumps({"event": event, **{key: self._clean(fields[key]) for key in fields}})
        with self._lock:
            if not self.gone:
                self.gone = not _write(line.encode() + b"\n")

    def _clean(self, value: object) -> object:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        if isinstance(value, dict):
            return {key: self._clean(item) for key, item in value.items()}
        return value


def _write(data: bytes) -> bool:
    """Write all of data to standard output; False when nobody reads it."""
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        return False
    return True
