"""Rules about volumes on a compute host. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from solostack.host.check_model import Finding, Look, Subject, ok, warning
from solostack.host.probe_observation import Presence
from solostack.site.services import CinderBackend

INITIATOR = "iscsi_tcp"


def initiator_rule(look: Look) -> Iterator[Finding]:
    """Volumes of the storage node come to a host by its kernel's iSCSI initiator."""
    storage = look.site.storage
    if storage is None or storage.cinder is None or storage.cinder.backend is CinderBackend.RBD:
        return
    found = look.seen.kernel.features[INITIATOR]
    if found.usable:
        yield ok(Subject.VOLUMES, "the kernel has an iSCSI initiator")
    elif found is Presence.MISSING:
        yield warning(
            Subject.VOLUMES,
            f"the kernel has no iSCSI initiator ({INITIATOR})",
            why="volumes can be made, but not attached to instances on this host; all else works",
            todo="install Debian's kernel and reboot: apt install linux-image-amd64",
        )
    else:
        yield warning(
            Subject.VOLUMES,
            f"cannot tell whether the kernel has an iSCSI initiator ({INITIATOR})",
            why="without one, volumes cannot be attached to instances on this host",
            todo=f"try it there: modprobe {INITIATOR}",
        )
