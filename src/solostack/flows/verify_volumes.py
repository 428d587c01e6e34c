"""The proof of volumes, a part of `verify`: Cinder at work, on an instance where it can attach."""

from __future__ import annotations

from solostack.cloud import probes
from solostack.cloud.client import Caller
from solostack.cloud.desired import volume_request
from solostack.cloud.probes import CheckResult
from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.errors import SolostackError
from solostack.flows.deployment import Deployment
from solostack.flows.proofs import Add, Proof, ask_agent
from solostack.flows.verify_parts import Part
from solostack.site.model import Role

# For each wait: an emulated storage node needs a minute for what takes a second elsewhere, and many
# where the host is busy: each of some ten commands per volume starts slowly.
VOLUME_TIMEOUT_S = 420.0
VOLUME_TIMEOUT_EMULATED_S = 900.0
_HAS_INITIATOR = b"modprobe -q iscsi_tcp; [ -d /sys/class/iscsi_transport/tcp ]\n"


def volume_proofs(deployment: Deployment, controller: Caller) -> tuple[Proof, ...]:
    """Return the proof of volumes; none where the site has no volumes."""
    plan = deployment.plan
    if plan.storage is None or plan.storage.cinder is None:
        return ()

    storage = plan.node(Role.STORAGE)
    node = deployment.node(storage)
    kvm = plan.host(storage.host).kvm

    def make(add: Add, step: Step) -> None:
        if _is_off(node, add):
            return
        step.say("looking for iSCSI initiators")
        able = [host.name for host in plan.hosts if has_initiator(deployment.host(host.name))]
        ask_agent(
            controller,
            "verify_volumes",
            volume_request(able),
            probes.VOLUME_CHECKS,
            add=add,
            step=step,
            timeout_s=VOLUME_TIMEOUT_S if kvm else VOLUME_TIMEOUT_EMULATED_S,
        )

    names = tuple(check.name for check in probes.VOLUME_CHECKS)
    return (
        Proof(part=Part.VOLUMES, title="volumes", make=make, checks=names, beside_instances=True),
    )


def _is_off(node: Executor, add: Add) -> bool:
    """Tell that the node with the volumes does not answer: its service would be waited for."""
    first, *others = probes.VOLUME_CHECKS
    try:
        node.run(("true",))
    except SolostackError as error:
        detail = f"the storage node does not answer: {error.message}"
        add(CheckResult(name=first.name, ok=False, seconds=0.0, detail=detail, hint=first.hint))
        for check in others:
            add(probes.skipped(check.name))
        return True
    return False


def has_initiator(host: Executor) -> bool:
    """Return whether a compute host's kernel has an iSCSI initiator, by which volumes come."""
    try:
        return host.run(("sh",), stdin=_HAS_INITIATOR, check=False).status == 0
    except SolostackError:
        return False
