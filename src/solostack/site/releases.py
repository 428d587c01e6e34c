"""The OpenStack releases solostack knows: a table, so that the next is a row more."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An OpenStack release as Debian packages it.

    region is the name Debian's own configuration files use; a catalogue with another one breaks
    the services that keep Debian's default ("internal endpoint in regionOne region not found").
    """

    name: str
    codename: str
    debian_suite: str
    debian_version: int
    region: str


RELEASES: Mapping[str, Release] = {
    "2025.1": Release(
        name="2025.1",
        codename="Epoxy",
        debian_suite="trixie",
        debian_version=13,
        region="regionOne",
    ),
}
