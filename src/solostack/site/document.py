"""YAML text to plain data that remembers where every key and value stands.

Built from the parser's events, not with a constructor: nothing is executed or guessed from the
look of a scalar (``release: 2025.1`` stays the text 2025.1; only null is no text), depth is
bounded, and problems come with their line. Knows nothing of what a site is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Protocol, TypeAlias, cast

import ruamel.yaml
import ruamel.yaml.error
import ruamel.yaml.events as events

Location: TypeAlias = tuple[str | int, ...]
Data: TypeAlias = "str | list[Data] | dict[str, Data] | None"

MAX_DEPTH = 20
MAX_BYTES = 1024 * 1024

_NULLS = frozenset({"~", "null", "Null", "NULL"})


class DocumentError(Exception):
    """The text is not a document we read. line counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A key that stands twice in one mapping; the first one counts."""

    location: Location
    line: int
    first_line: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed text. key_lines and value_lines count from 1; a list's item has value_lines only."""

    data: dict[str, Data]
    key_lines: Mapping[Location, int]
    value_lines: Mapping[Location, int]
    duplicates: tuple[Duplicate, ...]

    def line_of(self, location: Location) -> int:
        """Return the line of the value at location, or of the nearest thing around it."""
        for end in range(len(location), 0, -1):
            part = location[:end]
            line = self.value_lines.get(part) or self.key_lines.get(part)
            if line is not None:
                return line
        return 1

    def line_of_key(self, location: Location) -> int:
        """Return the line of the key at location; without a key, what line_of returns."""
        return self.key_lines.get(location) or self.line_of(location)

    def holds(self, location: Location) -> bool:
        """Say whether the text itself gives a value at location."""
        return location in self.value_lines


class _Mark(Protocol):
    line: int


@dataclasses.dataclass(slots=True, kw_only=True)
class _Open:
    """A mapping or list being read. key is the mapping's key whose value comes next."""

    location: Location
    value: dict[str, Data] | list[Data]
    key: str | None = None
    ignored: bool = False


def parse_document(text: str) -> Document:
    """Read one YAML document whose top is a mapping.

    A key with nothing behind it counts as not given, so that a heading whose lines are all
    commented out keeps its defaults; write ``null`` for null.

    Raises:
        DocumentError: not YAML, or YAML beyond plain mappings, lists and scalars.
    """
    _refuse_tabs_and_directives(text)
    reader = _Reader()
    for event in _events(text):
        reader.read(event)
    return reader.document()


def _refuse_tabs_and_directives(text: str) -> None:
    """Refuse what the parser itself would say badly, or (a wrong %YAML version) fail an assert."""
    for number, line in enumerate(text.splitlines(), start=1):
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent and line.strip():
            raise DocumentError(number, "expected spaces as indentation, found a tab")
        if line.lstrip("\ufeff").startswith("%"):
            raise DocumentError(number, "expected a key, found a directive (%)")


def _events(text: str) -> Iterator[events.Event]:
    parser = ruamel.yaml.YAML(typ="safe", pure=True)
    try:
        yield from parser.parse(text)
    except ruamel.yaml.error.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        reason = error.problem or error.context or "unknown syntax"
        raise DocumentError(line, f"expected YAML, found: {reason}") from error
    except ruamel.yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = ord(text[error.position])
        raise DocumentError(line, f"expected text, found the character U+{code:04X}") from error


class _Reader:
    def __init__(self) -> None:
        self._stack: list[_Open] = []
        self._top: Data = None
        self._documents = 0
        self._key_lines: dict[Location, int] = {}
        self._value_lines: dict[Location, int] = {}
        self._duplicates: list[Duplicate] = []

    def read(self, event: events.Event) -> None:
        line = cast(_Mark, event.start_mark).line + 1
        match event:
            case events.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise DocumentError(line, "expected one YAML document, found a second one")
            case events.AliasEvent():
                raise DocumentError(line, "expected the value itself, found an alias (*name)")
            case events.ScalarEvent():
                self._refuse_extras(event, line)
                self._scalar(event, line)
            case events.MappingStartEvent():
                self._refuse_extras(event, line)
                self._open({}, line)
            case events.SequenceStartEvent():
                self._refuse_extras(event, line)
                self._open([], line)
            case events.CollectionEndEvent():
                self._stack.pop()
            case _:
                pass  # the stream's and the document's ends say nothing

    def document(self) -> Document:
        if self._top is None:
            raise DocumentError(1, "expected the keys of a site, found nothing (an empty file)")
        if not isinstance(self._top, dict):
            kind = "a list" if isinstance(self._top, list) else f"the text {self._top!r:.40}"
            raise DocumentError(
                self._value_lines[()], f"expected a mapping (`key: value` lines), found {kind}"
            )
        return Document(
            data=self._top,
            key_lines=self._key_lines,
            value_lines=self._value_lines,
            duplicates=tuple(self._duplicates),
        )

    @staticmethod
    def _refuse_extras(event: events.NodeEvent, line: int) -> None:
        if event.anchor is not None:
            raise DocumentError(line, f"expected a plain value, found an anchor (&{event.anchor})")
        tag = getattr(event, "tag", None)
        if tag not in {None, "!"}:
            raise DocumentError(line, f"expected a plain value, found a tag ({tag})")

    def _scalar(self, event: events.ScalarEvent, line: int) -> None:
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            self._take_key(top, str(event.value), line)
            return
        plain = event.style is None or event.style == ""
        if plain and event.value == "":
            self._skip(line)
            return
        null = plain and event.value in _NULLS
        self._place(None if null else str(event.value), line)

    def _take_key(self, top: _Open, key: str, line: int) -> None:
        location = (*top.location, key)
        top.key = key
        top.ignored = location in self._key_lines
        if top.ignored:
            first = self._key_lines[location]
            self._duplicates.append(Duplicate(location=location, line=line, first_line=first))
        else:
            self._key_lines[location] = line

    def _skip(self, line: int) -> None:
        if not self._stack:
            return
        top = self._stack[-1]
        if isinstance(top.value, list):
            raise DocumentError(line, "expected a list item, found nothing behind `-`")
        top.key = None

    def _open(self, value: dict[str, Data] | list[Data], line: int) -> None:
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            raise DocumentError(line, "expected a name as key, found a list or mapping")
        if len(self._stack) >= MAX_DEPTH:
            raise DocumentError(line, f"expected at most {MAX_DEPTH} levels, found more")
        location = self._place(value, line)
        self._stack.append(_Open(location=location, value=value))

    def _place(self, value: Data, line: int) -> Location:
        """Put value where it belongs; a duplicate key's value goes nowhere, under a False step."""
        if not self._stack:
            self._top = value
            self._value_lines[()] = line
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            location: Location = (*top.location, len(top.value))
            top.value.append(value)
            self._value_lines.setdefault(location, line)
            return location
        key = str(top.key)
        top.key = None
        location = (*top.location, key)
        if top.ignored:
            return (*location, "(again)")
        top.value[key] = value
        self._value_lines[location] = line
        return location
