"""A machine's desired state as data: operations in a bundle.

Pure values. openstack/, host/ and machines/ return them, engine.apply ships and runs them. Text may
hold secrets by name only, as ``secret("keystone_db")``; values are put in when a bundle is packed.
"""

from __future__ import annotations

import dataclasses
import re

SECRET_PATTERN = re.compile(r"@@secret:([a-z0-9_]+)@@")


def secret(name: str) -> str:
    """Return the placeholder that stands for the secret called name until a bundle is packed."""
    return f"@@secret:{name}@@"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Debian packages that must be installed (apt, no recommends, services not started)."""

    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file with exactly this content, mode and owner; parents are made (0755 root) if missing."""

    path: str
    content: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory with this mode and owner."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a file that is not ours as a whole.

    The first line matching the regular expression ``match`` (re.search) becomes ``line``; without
    a match it is appended. The rest of the file is left as it is.
    """

    path: str
    line: str
    match: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A path that must not exist (a file, a link, or an empty directory)."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A guarded command: run ``run`` unless ``unless`` succeeds.

    Both are sh scripts (``set -eu``), given to ``sh`` on standard input, never as argv, so that
    secrets in them show in no process list. ``when_changed`` names paths: the step then runs only
    when one of them changed in this apply (or ``unless`` is given and fails). ``undo`` is the
    script that takes it back, kept in the ledger. ``stdin`` is not offered: here-documents do.
    """

    name: str
    run: str
    unless: str = ""
    undo: str = ""
    when_changed: tuple[str, ...] = ()
    timeout_s: int = 300


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd unit's state; restarted when a path of ``restart_on`` changed in this apply.

    enabled None leaves enablement alone. ``reload`` says: reload instead of restart.
    """

    name: str
    enabled: bool | None = True
    running: bool = True
    restart_on: tuple[str, ...] = ()
    reload: bool = False
    masked: bool = False
    timeout_s: int = 180


Operation = Packages | File | Directory | Line | Absent | Step | Unit


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Operations that run one after the other, beside the other lanes of their phase."""

    name: str
    operations: tuple[Operation, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Lanes that run at the same time; the next phase starts when all have ended."""

    name: str
    lanes: tuple[Lane, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Everything one machine must be. Phases run in order."""

    target: str
    phases: tuple[Phase, ...]

    def operations(self) -> tuple[Operation, ...]:
        """Return every operation in order, lanes one after the other."""
        return tuple(
            operation
            for phase in self.phases
            for lane in phase.lanes
            for operation in lane.operations
        )


def phase(name: str, *operations: Operation) -> Phase:
    """Build a phase of one lane."""
    return Phase(name=name, lanes=(Lane(name=name, operations=operations),))
