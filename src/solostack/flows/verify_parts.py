"""The parts of `verify` that can be asked for by name (`solostack verify --only`)."""

from __future__ import annotations

import enum
from collections.abc import Collection

from solostack.errors import UsageError


class Part(enum.StrEnum):
    """A part of verify. Volumes are proven beside instances, so those are made for them, too."""

    UNITS = "units"
    DIRECTORY = "directory"
    FRONT_DOOR = "front-door"
    DASHBOARD = "dashboard"
    DISKS = "disks"
    OBJECTS = "objects"
    INSTANCES = "instances"
    VOLUMES = "volumes"


ALWAYS = frozenset({Part.UNITS, Part.INSTANCES})
"""What every cloud has; the others are of services that a site may leave out."""


def require_parts(only: Collection[Part], there: Collection[Part], site: str) -> None:
    """Refuse parts that a site has nothing of: UsageError."""
    missing = [part.value for part in only if part not in there and part not in ALWAYS]
    if missing:
        known = [part.value for part in Part if part in there or part in ALWAYS]
        raise UsageError(
            f"{site} has nothing of {', '.join(missing)} to verify",
            hint=f"parts of this site: {', '.join(known)}",
        )
