"""Whether volumes can come to a host, as `check` says it."""

from __future__ import annotations

import pytest

from solostack.host.check import Severity, Subject, findings
from solostack.host.check_model import Finding
from solostack.host.probe_observation import Presence
from solostack.site.services import Cinder, CinderBackend, Nfs, Rbd, Storage
from tests.unit.host_observations import KERNEL, SITE, seen

LVM = Storage(cinder=Cinder())
CEPH = Storage(cinder=Cinder(backend=CinderBackend.RBD, rbd=Rbd(conf="a", keyring="b")))


def about_volumes(storage: Storage | None, initiator: Presence) -> list[Finding]:
    site = SITE.model_copy(update={"storage": storage})
    observation = seen(kernel={"features": {**KERNEL.features, "iscsi_tcp": initiator}})
    return [each for each in findings(site, None, observation) if each.subject is Subject.VOLUMES]


@pytest.mark.parametrize(
    ("initiator", "severity", "what"),
    [
        (Presence.AVAILABLE, Severity.OK, "has an iSCSI initiator"),
        (Presence.MISSING, Severity.WARNING, "has no iSCSI initiator"),
        (Presence.UNKNOWN, Severity.WARNING, "cannot tell"),
    ],
)
def test_the_initiator_is_looked_for(initiator: Presence, severity: Severity, what: str) -> None:
    (finding,) = about_volumes(LVM, initiator)
    assert finding.severity is severity
    assert what in finding.what


@pytest.mark.parametrize("storage", [None, CEPH, Storage(nfs=Nfs())])
def test_only_volumes_of_the_storage_node_need_one(storage: Storage | None) -> None:
    assert about_volumes(storage, Presence.MISSING) == []
