"""The front door in a host's firewall: what leads to the controller, and nothing else does. Pure.

Rules as values, as in firewall_rules, which puts them where they belong.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from solostack.host.firewall_model import (
    ARP_OUTPUT,
    FORWARD,
    POSTROUTING,
    PREROUTING,
    PUBLISH,
    PUBLISH_LOCAL,
    Rule,
    Way,
)
from solostack.host.uplink import uplink_device
from solostack.plan.model import FRONT_DOOR_REDIRECT_PORT as REDIRECT_PORT
from solostack.plan.model import FRONT_DOOR_TLS_PORT as TLS_PORT
from solostack.plan.model import FrontDoorPlan, HostPlan, Plan
from solostack.site.model import ExternalMethod, Role


def door_at(plan: Plan, host: HostPlan) -> FrontDoorPlan | None:
    """Return the front door where its address is this host's to answer for, else None."""
    return plan.front_door if host.gateway else None


def public_address(plan: Plan, host: HostPlan) -> ipaddress.IPv4Address | None:
    """Return the public address that is the front door's; None when it has the host's own."""
    door = door_at(plan, host)
    return None if door is None or door.own_address else door.address


def published(plan: Plan, host: HostPlan) -> Iterator[Rule]:
    """Yield what leads to the controller, from everywhere and from the host itself."""
    door = door_at(plan, host)
    if door is None:
        return
    node = plan.node(Role.CONTROLLER)
    kinds = [
        (f"tcp dport {door.port}", f":{TLS_PORT}", f"HTTPS (TCP port {door.port})"),
        (f"tcp dport {door.http_port}", f":{REDIRECT_PORT}", f"HTTP (TCP port {door.http_port})"),
    ]
    if not door.own_address:
        kinds.append(("icmp type echo-request", "", "ping"))
    for match, port, what in kinds:
        for chain, way, who in (
            (PUBLISH, Way.OUTSIDE, ""),
            (PUBLISH_LOCAL, Way.OUTWARD, ", from the host itself"),
        ):
            yield Rule(
                chain=chain,
                way=way,
                match=f"ip daddr {door.address} {match}",
                verdict=f"dnat ip to {node.data_address}{port}",
                words=f"front door: {what} of {door.address} leads to {node.name} "
                f"{node.data_address}{who}",
            )


def spoofed(plan: Plan, host: HostPlan) -> Iterator[Rule]:
    """Yield the refusal of instances that say they are the front door."""
    address = public_address(plan, host)
    if address is not None and plan.external.method is not ExternalMethod.BRIDGE:
        yield Rule(
            chain=PREROUTING,
            way=Way.INSTANCES,
            match=f'iifname "{plan.external.bridge}" ip saddr {address}',
            verdict="drop",
            words=f"spoofed: the front door's address {address}",
        )


def forwarded(plan: Plan, host: HostPlan) -> Iterator[Rule]:
    """Yield who may pass to the controller: only what asked for the front door."""
    door = door_at(plan, host)
    if door is None:
        return
    node = plan.node(Role.CONTROLLER)
    kinds = [(f"tcp dport {{ {REDIRECT_PORT}, {TLS_PORT} }}", "HTTPS and HTTP")]
    if not door.own_address:
        kinds.append(("icmp type echo-request", "ping"))
    sides = ((Way.OUTSIDE, uplink_device(plan, host)), (Way.INSTANCES, plan.external.bridge))
    for way, name in sides:
        for match, what in kinds:
            yield Rule(
                chain=FORWARD,
                way=way,
                match=f'iifname "{name}" ip daddr {node.data_address} {match} '
                f"ct status dnat ct original ip daddr {door.address}",
                verdict="accept",
                words=f"front door: {what} that {door.address} was asked for",
            )
        if not door.own_address:
            yield Rule(
                chain=FORWARD,
                way=way,
                match=f'iifname "{name}" ip daddr {door.address}',
                verdict="drop",
                words=f"everything else to the front door's address {door.address}",
            )


def rewritten(plan: Plan, host: HostPlan, data_side: str) -> Iterator[Rule]:
    """Yield the way back for control nodes: the controller would answer them directly."""
    door = door_at(plan, host)
    if door is None:
        return
    node = plan.node(Role.CONTROLLER)
    yield Rule(
        chain=POSTROUTING,
        way=Way.DATA,
        match=f"oifname {data_side} ip saddr {plan.data.network} ip daddr {node.data_address} "
        f"ct status dnat ct original ip daddr {door.address}",
        verdict="masquerade",
        words="front door, used by control nodes",
    )


def announced(plan: Plan, host: HostPlan) -> Iterator[Rule]:
    """Yield what the host says on the wire for an address that OVN knows nothing of."""
    address = public_address(plan, host)
    if address is not None and plan.external.method is ExternalMethod.BRIDGE:
        yield Rule(
            chain=ARP_OUTPUT,
            way=Way.ARP,
            match=f'oifname "{uplink_device(plan, host)}" arp saddr ip {address}',
            verdict="accept",
            words=f"answers for the front door's address {address}",
        )
