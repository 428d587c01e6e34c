"""Packs a bundle, the agent and the secrets it names into one archive that Python can run."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import posixpath
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from solostack.engine.operations import (
    SECRET_PATTERN,
    Absent,
    Bundle,
    Directory,
    File,
    Lane,
    Line,
    Operation,
    Packages,
    Phase,
    Step,
    Unit,
)
from solostack.errors import StateError

AGENT = Path(__file__).parent / "agent"
# The first moment a zip archive can name (APPNOTE.TXT 4.4.6); a fixed one makes equal bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
PRIVATE = 0o600 << 16
MAIN = "from agent.main import run\n\nrun()\n"


def pack(bundle: Bundle, secrets: Mapping[str, str], *, ledger: bool = False) -> bytes:
    """Return the archive; equal input gives equal bytes.

    Only the secrets that the bundle names are put in. Raises StateError for one that secrets does
    not have, and ValueError for a bundle that cannot mean what it says (see check_bundle).
    """
    check_bundle(bundle)
    names = secret_names(bundle)
    unknown = sorted(names - secrets.keys())
    if unknown:
        raise StateError(
            f"{bundle.target}: its configuration needs secrets that do not exist: "
            + ", ".join(unknown),
            hint="run 'solostack up' again, which makes missing secrets",
        )
    content = {
        **describe(bundle),
        "secrets": {name: secrets[name] for name in sorted(names)},
        "ledger": ledger,
    }
    return _archive(json.dumps(content, sort_keys=True, separators=(",", ":")))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a ledger: the records of only; or, if that is empty, what came after the first.

    That is all records newer than the oldest one of newer_than, but those of but and packages.
    All hold labels as from labels().
    """

    only: tuple[str, ...] = ()
    newer_than: tuple[str, ...] = ()
    but: tuple[str, ...] = ()

    def request(self) -> dict[str, tuple[str, ...]]:
        """Return it as the agent reads it (agent/part.py)."""
        if self.only:
            return {"only": self.only}
        return {"newer_than": self.newer_than, "but": self.but}


def labels(phases: Iterable[Phase]) -> tuple[str, ...]:
    """Return what the things of phases are called in the ledger; packages have no name there."""
    found: dict[str, None] = {}
    for operation in (one for phase in phases for lane in phase.lanes for one in lane.operations):
        match operation:
            case File() | Directory() | Line() | Absent():
                found[f"path {operation.path}"] = None
            case Unit():
                found[f"unit {operation.name}"] = None
            case Step():
                found[f"step {operation.name}"] = None
            case Packages():
                pass
    return tuple(found)


def pack_undo(part: Part | None = None) -> bytes:
    """Return an archive with the agent and nothing to apply; part is what is to be undone."""
    content: dict[str, object] = {"phases": [], "secrets": {}, "ledger": True}
    if part is not None:
        content["part"] = part.request()
    return _archive(json.dumps(content, sort_keys=True))


def digest(bundle: Bundle) -> str:
    """Return the SHA-256 of what the bundle says, secrets by name only."""
    text = json.dumps(describe(bundle), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def describe(bundle: Bundle) -> dict[str, object]:
    """Return the bundle as plain data, the form that the agent reads."""
    return {
        "target": bundle.target,
        "phases": [
            {"name": phase.name, "lanes": [_describe_lane(lane) for lane in phase.lanes]}
            for phase in bundle.phases
        ],
    }


def secret_names(bundle: Bundle) -> frozenset[str]:
    """Return the names of all secrets that the bundle refers to."""
    return frozenset(
        name
        for operation in bundle.operations()
        for text in _texts(operation)
        for name in SECRET_PATTERN.findall(text)
    )


def check_bundle(bundle: Bundle) -> None:
    """Raise ValueError for what would go wrong silently on the machine.

    Paths must be absolute and plain, step names unique (restarts and the ledger go by them).
    A unit or step that watches a path must come after the last operation on that path, or the
    change would go by unnoticed; two lanes of one phase must not write the same path; a Line's
    expression must match the line itself, or each apply would append it again.
    """
    _check_names(bundle)
    written: dict[str, tuple[int, int, int]] = {}
    watching: dict[tuple[str, str], tuple[int, int, int]] = {}
    for place, operation in _places(bundle):
        match operation:
            case Unit() | Step():
                paths = (
                    operation.restart_on
                    if isinstance(operation, Unit)
                    else (operation.when_changed)
                )
                watching |= {(operation.name, path): place for path in paths}
            case Line() if not re.search(operation.match, operation.line):
                raise ValueError(f"{operation.path}: {operation.match!r} misses {operation.line!r}")
        path = getattr(operation, "path", "")
        if path and _beside(written.get(path, place), place):
            raise ValueError(f"two lanes of phase {bundle.phases[place[0]].name} write {path}")
        if path:
            written[path] = place
    for (name, watched), place in watching.items():
        for path, writer in written.items():
            below = path == watched or path.startswith(watched.rstrip("/") + "/")
            if below and (writer > place or _beside(writer, place)):
                raise ValueError(f"{name} watches {path}, which is written later or beside it")


def _check_names(bundle: Bundle) -> None:
    steps: set[str] = set()
    for operation in bundle.operations():
        path = getattr(operation, "path", "/")
        if not path.startswith("/") or path != posixpath.normpath(path):
            raise ValueError(f"{path!r} is not a plain absolute path")
        if isinstance(operation, Step):
            if operation.name in steps:
                raise ValueError(f"two steps are called {operation.name!r}")
            steps.add(operation.name)


def _places(bundle: Bundle) -> Iterator[tuple[tuple[int, int, int], Operation]]:
    for phase_number, phase in enumerate(bundle.phases):
        for lane_number, lane in enumerate(phase.lanes):
            for number, operation in enumerate(lane.operations):
                yield (phase_number, lane_number, number), operation


def _beside(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return one[0] == other[0] and one[1] != other[1]


def _texts(operation: Operation) -> Iterator[str]:
    for field in dataclasses.fields(operation):
        value = getattr(operation, field.name)
        if isinstance(value, str):
            yield value


def _describe_lane(lane: Lane) -> dict[str, object]:
    operations = [
        {"kind": type(operation).__name__, **dataclasses.asdict(operation)}
        for operation in lane.operations
    ]
    return {"name": lane.name, "operations": operations}


def _archive(content: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", MAIN)
        for path in sorted(AGENT.glob("*.py")):
            _add(archive, f"agent/{path.name}", path.read_text("utf-8"))
        _add(archive, "bundle.json", content)
    return sink.getvalue()


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = PRIVATE
    archive.writestr(info, text)
