"""A site file to a Site, or one SiteError that names every problem with its line."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

import pydantic

from solostack.errors import SiteError
from solostack.site.document import MAX_BYTES, Document, DocumentError, parse_document
from solostack.site.mismatch import describe
from solostack.site.model import Site
from solostack.site.problems import Problem, dotted
from solostack.site.rules import check_site


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSite:
    """A site and the file it came from. digest is the SHA-256 of text as UTF-8, in hex."""

    site: Site
    path: Path
    text: str
    digest: str


def load_site(path: Path) -> LoadedSite:
    """Read, type and check a site file.

    Raises:
        SiteError: the file cannot be read or is wrong; details hold every problem, one line each,
            as ``file:line: path: what was expected, what was found; the nearest valid one``.
    """
    return parse_site(_read(path), path)


def parse_site(text: str, path: Path) -> LoadedSite:
    """Type and check a site's text; path is only what messages call it.

    Raises:
        SiteError: as load_site.
    """
    try:
        document = parse_document(text)
    except DocumentError as error:
        raise _site_error(path, [f"{path}:{error.line}: {error.problem}"]) from error
    lines = [
        f"{path}:{each.line}: {dotted(each.location)}: expected each key once, "
        f"found it again (first in line {each.first_line})"
        for each in document.duplicates
    ]
    try:
        site = Site.model_validate(document.data)
    except pydantic.ValidationError as error:
        raise _site_error(path, lines + _lines(path, document, describe(error))) from error
    lines += _lines(path, document, check_site(site))
    if lines:
        raise _site_error(path, lines)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return LoadedSite(site=site, path=path, text=text, digest=digest)


def site_error(loaded: LoadedSite, problems: Iterable[Problem]) -> SiteError:
    """Build the error about problems that only showed beside other files, each with its line."""
    lines = _lines(loaded.path, parse_document(loaded.text), problems)
    return _site_error(loaded.path, lines)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise SiteError(
            f"there is no site file {path}", hint=f"write one: solostack init {path}"
        ) from error
    except OSError as error:
        raise SiteError(f"cannot read the site file {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise _site_error(path, [f"{path}:1: expected at most {MAX_BYTES} bytes, found more"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"expected text in UTF-8, found the byte 0x{content[error.start]:02x}"
        raise _site_error(path, [f"{path}:{line}: {problem}"]) from error


def _lines(path: Path, document: Document, problems: Iterable[Problem]) -> list[str]:
    placed = sorted(
        ((_line_of(document, each), each) for each in problems),
        key=lambda pair: (pair[0], dotted(pair[1].location)),
    )
    return [f"{path}:{line}: {dotted(each.location)}: {each.text()}" for line, each in placed]


def _line_of(document: Document, problem: Problem) -> int:
    if problem.at_key:
        return document.line_of_key(problem.location)
    if problem.other is not None and not document.holds(problem.location):
        return document.line_of(problem.other)
    return document.line_of(problem.location)


def _site_error(path: Path, lines: list[str]) -> SiteError:
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return SiteError(
        f"the site file {path} has {count}",
        details=lines,
        hint="correct the lines above and run the command again; docs/site.md has every key",
    )
