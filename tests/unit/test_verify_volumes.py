"""The proof of volumes: a storage node that is off is told at once, not waited for."""

from types import SimpleNamespace
from typing import Any, cast

from solostack.cloud import probes
from solostack.cloud.client import Caller
from solostack.cloud.credentials import build_access
from solostack.cloud.probes import CheckResult
from solostack.doors.progress import Progress
from solostack.errors import CommandError
from solostack.flows.deployment import Deployment
from solostack.flows.verify_volumes import volume_proofs
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.model import Site


class Off:
    """A machine that nobody reaches."""

    name = "storage"

    def run(self, *_: object, **__: object) -> Any:
        raise CommandError("storage: no route to host")


def make_plan(storage: dict[str, Any]) -> Plan:
    facts = HostFacts(
        name="phys1", cores=4, memory_mib=16384, disk_gib=200, kvm=True, openvswitch_module=True
    )
    site = {
        "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1"}],
        "external": {"block": "198.51.100.0/28"},
        "storage": storage,
    }
    return build_plan(Site.model_validate(site), {"phys1": facts})


def proofs_of(plan: Plan) -> Any:
    access = build_access(plan, {"admin_password": "a", "demo_password": "b"})
    deployment = SimpleNamespace(plan=plan, node=lambda _: Off())
    # An agent that is asked all the same fails the test: nothing is there to ask.
    caller = Caller(executor=Off(), access=access)
    return volume_proofs(cast(Deployment, deployment), caller)


def test_a_storage_node_that_is_off_is_the_finding() -> None:
    (proof,) = proofs_of(make_plan({"cinder": {"size_gib": 10}}))
    results: list[CheckResult] = []
    with Progress().step("volumes") as step:
        proof.make(results.append, step)
    assert tuple(result.name for result in results) == proof.checks
    first, *others = results
    assert not first.ok
    assert not first.skipped
    assert first.detail == "the storage node does not answer: storage: no route to host"
    assert first.hint == probes.VOLUME_CHECKS[0].hint
    assert all(result.skipped for result in others)


def test_a_site_without_volumes_has_no_proof_of_them() -> None:
    assert proofs_of(make_plan({"swift": {"size_gib": 10}})) == ()
