"""What is wrong with a site, as values: where, what was expected, what was found, what is near."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from solostack.site.document import Location

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake. location is what it is about, other what it clashes with (if anything).

    The line shown is that of location, or of other when only other stands in the file (location is
    then a default). at_key puts it on the key instead of the value.
    """

    location: Location
    expected: str
    found: str
    suggestion: str = ""
    other: Location | None = None
    at_key: bool = False

    def text(self) -> str:
        """Return the problem in one line, without its place."""
        parts = f"expected {self.expected}, found {self.found}"
        return f"{parts}; {self.suggestion}" if self.suggestion else parts


def dotted(location: Location) -> str:
    """Return a location as one writes it: ``hosts[0].address``; ``(top)`` for the whole file."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text or "(top)"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the known word most like word, or nothing."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return did_you_mean(by_lower[close[0]]) if close else ""


def did_you_mean(value: object) -> str:
    """Return the suggestion of one value."""
    return f"did you mean '{value}'?"


def repeated(values: Sequence[tuple[Location, _T]], expected: str) -> Iterator[Problem]:
    """Yield a problem for every value that an earlier one has already."""
    seen: dict[_T, Location] = {}
    for location, value in values:
        if value in seen:
            yield Problem(
                location=location,
                other=seen[value],
                expected=expected,
                found=f"'{value}', which {dotted(seen[value])} has already",
            )
        else:
            seen[value] = location
