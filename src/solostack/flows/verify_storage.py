"""The storage node's part of `verify`: its disks, objects, and the shared folder."""

from __future__ import annotations

import functools

from solostack.cloud import storage_probes
from solostack.cloud.client import Caller
from solostack.doors.clock import Clock, SystemClock
from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.errors import SolostackError
from solostack.flows.deployment import Deployment
from solostack.flows.proofs import Add, Proof, ask_agent, broken
from solostack.flows.verify_parts import Part
from solostack.openstack.storage_disks import REPORT
from solostack.plan.model import Plan
from solostack.site.model import Role

# Short: under emulation an answer takes seconds, but a node that is off must not take minutes.
AGENT_TIMEOUT_S = 300.0


def storage_proofs(
    deployment: Deployment, controller: Caller, clock: Clock | None = None
) -> tuple[Proof, ...]:
    """Return the proofs of what a deployment stores; none where it has no storage node."""
    plan = deployment.plan
    if not plan.has(Role.STORAGE):
        return ()
    node = deployment.node(plan.node(Role.STORAGE))
    disks = Proof(
        part=Part.DISKS,
        title="disks",
        make=functools.partial(_prove_disks, node, clock or SystemClock()),
        checks=(storage_probes.DISKS.name,),
        needs_apis=False,
    )
    checks = storage_probes.expected_checks(plan)
    if not checks:
        return (disks,)
    stored = Proof(
        part=Part.OBJECTS,
        title="objects and shared folder",
        make=functools.partial(_prove_stored, plan, controller),
        checks=tuple(check.name for check in checks),
    )
    return (disks, stored)


def _prove_disks(node: Executor, clock: Clock, add: Add, step: Step) -> None:
    step.say(f"asking {node.name} for its disks")
    try:
        add(storage_probes.probe_disks(node, clock, REPORT))
    except SolostackError as error:
        add(broken(storage_probes.DISKS.name, error))


def _prove_stored(plan: Plan, controller: Caller, add: Add, step: Step) -> None:
    ask_agent(
        controller,
        "verify_storage",
        storage_probes.storage_request(plan),
        storage_probes.expected_checks(plan),
        add=add,
        step=step,
        timeout_s=AGENT_TIMEOUT_S,
    )
