"""The front door's part of `verify`: from outside, as its clients know it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from solostack.cloud import door_probes
from solostack.cloud.door_probes import DoorToProbe
from solostack.cloud.probes import Check, CheckResult, Vantage
from solostack.doors.progress import Step
from solostack.errors import SolostackError
from solostack.flows.cloud_files import door_to_probe
from solostack.flows.deployment import Deployment
from solostack.flows.proofs import Add, Proof, broken
from solostack.flows.verify_parts import Part

Probe = Callable[[Vantage, DoorToProbe], tuple[CheckResult, ...]]


def front_door_proofs(deployment: Deployment, vantage: Vantage) -> tuple[Proof, ...]:
    """Return the proofs, none where the site has no front door: TLS by itself, then every API."""
    probed = door_to_probe(deployment)
    if probed is None:
        return ()
    kinds: tuple[tuple[str, Probe, tuple[Check, ...], bool], ...] = (
        ("front door", door_probes.probe_entry, door_probes.ENTRY, False),
        ("front door's APIs", door_probes.probe_apis, door_probes.BEHIND, True),
    )
    return tuple(
        Proof(
            part=Part.FRONT_DOOR,
            title=title,
            make=functools.partial(_make, vantage, probed, probe),
            checks=tuple(check.name for check in checks),
            needs_apis=needs_apis,
        )
        for title, probe, checks, needs_apis in kinds
    )


def _make(vantage: Vantage, probed: DoorToProbe, probe: Probe, add: Add, step: Step) -> None:
    step.say(f"asking {probed.door.url} from {vantage.executor.name}")
    try:
        for result in probe(vantage, probed):
            add(result)
    except SolostackError as error:
        add(broken("front door", error))
