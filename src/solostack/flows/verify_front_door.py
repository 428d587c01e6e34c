"""The front door's part of `verify`: from outside, as its clients know it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from solostack.cloud import door_probes
from solostack.cloud.door_probes import DoorToProbe
from solostack.cloud.probes import Check, CheckResult, Vantage
from solostack.doors.progress import Step
from solostack.errors import SolostackError
from solostack.flows.cloud_files import door_to_probe
from solostack.flows.deployment import Deployment
from solostack.flows.proofs import Add, Proof, add_broken
from solostack.flows.verify_parts import Part

Probe = Callable[[Vantage, DoorToProbe], tuple[CheckResult, ...]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A look at the door: its title, what makes it, and the checks it makes."""

    title: str
    probe: Probe
    checks: tuple[Check, ...]
    needs_apis: bool


_LOOKS = (
    _Look(
        title="front door",
        probe=door_probes.probe_entry,
        checks=door_probes.ENTRY,
        needs_apis=False,
    ),
    _Look(
        title="front door's APIs",
        probe=door_probes.probe_apis,
        checks=door_probes.BEHIND,
        needs_apis=True,
    ),
)


def front_door_proofs(deployment: Deployment, vantage: Vantage) -> tuple[Proof, ...]:
    """Return the proofs, none where the site has no front door: TLS by itself, then every API."""
    if deployment.plan.front_door is None:
        return ()
    # Only when the proof is made: an operator's files that cannot be used fail its checks alone.
    build = functools.partial(door_to_probe, deployment, deployment.plan.front_door)
    return tuple(
        Proof(
            part=Part.FRONT_DOOR,
            title=look.title,
            make=functools.partial(_make, vantage, build, look),
            checks=tuple(check.name for check in look.checks),
            needs_apis=look.needs_apis,
        )
        for look in _LOOKS
    )


def _make(
    vantage: Vantage, build: Callable[[], DoorToProbe], look: _Look, add: Add, step: Step
) -> None:
    try:
        probed = build()
        step.say(f"asking {probed.door.url} from {vantage.executor.name}")
        for result in look.probe(vantage, probed):
            add(result)
    except SolostackError as error:
        add_broken(look.checks, error, add)
