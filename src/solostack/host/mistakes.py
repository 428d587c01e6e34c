"""Changes of a host's network that are known to lock everybody out, refused beforehand. Pure.

The guard would take them back; not making them at all is better. Each finding says why.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterator, Mapping

from solostack.host.check_model import Finding, Subject, error
from solostack.host.firewall_text import OWNED, rules_text
from solostack.host.probe_observation import HostObservation
from solostack.host.uplink import uplink_of
from solostack.plan.model import HostPlan, Plan

IPv4Address = ipaddress.IPv4Address
BRIDGE_NETFILTER = "bridge/bridge-nf-call-iptables"
_DROPPING = re.compile(r"type filter hook (input|forward) [^;]*; policy drop")
_OWNED_SET = re.compile(rf"set {OWNED} \{{[^}}]*?elements = \{{([^}}]*)\}}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRoute:
    """A route that will be there afterwards. onlink: the gateway counts as a neighbour anyhow."""

    destination: str
    gateway: IPv4Address
    onlink: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBridge:
    """A bridge that the NIC is going to join, and the MAC it will have ("": a random one)."""

    name: str
    mac: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UplinkChange:
    """What is going to be done to a host's way in.

    sysctls are by their path below /proc/sys/net; dropping are the hooks (input, forward) where a
    chain of ours drops what it has no rule for; owned are the addresses that will be spoken for,
    None when no set of ours filters by them.
    """

    nic: str
    sysctls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dropping: tuple[str, ...] = ()
    owned: frozenset[IPv4Address] | None = None
    bridge: PlannedBridge | None = None
    routes: tuple[PlannedRoute, ...] = ()


def change_of(plan: Plan, host: HostPlan, seen: HostObservation) -> UplinkChange:
    """Return what the plan is going to do to a host's way in."""
    uplink = uplink_of(plan, host)
    rules = rules_text(plan, host)
    owned = _OWNED_SET.search(rules)
    nic = seen.network.link(host.nic)
    # The uplink's script gives the bridge the NIC's MAC and moves routes with all their flags; the
    # firewall's adds the addresses that the NIC has when it is loaded.
    mac = nic.mac if nic is not None else ""
    live = frozenset(each.ip for each in _interfaces(host.nic, seen))
    return UplinkChange(
        nic=host.nic,
        sysctls=dict(uplink.sysctls),
        dropping=tuple(_DROPPING.findall(rules)),
        owned=None if owned is None else _addresses(owned[1]) | live,
        bridge=PlannedBridge(name=uplink.device, mac=mac) if uplink.bridged else None,
    )


def refusals(change: UplinkChange, seen: HostObservation) -> tuple[Finding, ...]:
    """Return what must not be done on this host; empty when nothing is known against it."""
    return (
        *_arp_ignore(change, seen),
        *_bridge_netfilter(change, seen),
        *_owned(change, seen),
        *_bridge(change, seen),
        *_gateways(change, seen),
    )


def _addresses(text: str) -> frozenset[IPv4Address]:
    return frozenset(IPv4Address(word.strip()) for word in text.split(",") if word.strip())


def _interfaces(name: str, seen: HostObservation) -> list[ipaddress.IPv4Interface]:
    """Return the addresses of the NIC, and of the bridge that it is a port of already."""
    nic = seen.network.link(name)
    if nic is None:
        return []
    master = seen.network.link(nic.master) if nic.master else None
    links = [nic, *([master] if master is not None else [])]
    return [address.interface for link in links for address in link.addresses]


def _arp_ignore(change: UplinkChange, seen: HostObservation) -> Iterator[Finding]:
    """The larger of "all" and the interface's own value counts (kernel, ip-sysctl)."""
    names = ["all", change.nic, *([change.bridge.name] if change.bridge is not None else [])]
    values = [change.sysctls.get(f"ipv4/conf/{name}/arp_ignore", "0") for name in names]
    highest = max(int(value) for value in values)
    alone = [each for each in _interfaces(change.nic, seen) if each.network.prefixlen == 32]
    if highest == 8:
        yield error(
            Subject.SYSCTL,
            f"arp_ignore would be 8 on {change.nic}",
            why="the host would answer no ARP request at all, so nobody finds it",
            todo="use arp_ignore=1",
        )
    elif highest >= 2 and alone:
        yield error(
            Subject.SYSCTL,
            f"arp_ignore would be {highest} on {change.nic}, which has {alone[0]}",
            why="with 2 or more the host answers only who is in the same prefix; in a /32 that is "
            "nobody, the gateway included",
            todo="use arp_ignore=1",
        )


def _bridge_netfilter(change: UplinkChange, seen: HostObservation) -> Iterator[Finding]:
    wanted = change.sysctls.get(BRIDGE_NETFILTER)
    sees_bridged = (
        wanted != "0"
        if wanted is not None
        else seen.kernel.sysctls.get(BRIDGE_NETFILTER.replace("/", "."), 0) == 1
    )
    foreign = [
        chain.hook
        for chain in seen.network.chains or ()
        if chain.policy == "drop" and chain.hook == "forward" and chain.table != "solostack"
    ]
    forward = "forward" in change.dropping or (change.bridge is not None and bool(foreign))
    if sees_bridged and forward:
        yield error(
            Subject.BRIDGE_NETFILTER,
            "a forward chain with policy drop would see bridged frames",
            why="with bridge-nf-call-iptables=1 frames that only cross a bridge go through it, so "
            "the data network, and with method bridge the host's own, would go silent",
            todo="sysctl -w net.bridge.bridge-nf-call-iptables=0, or accept what the bridge "
            "carries in that chain",
        )


def _owned(change: UplinkChange, seen: HostObservation) -> Iterator[Finding]:
    if change.owned is None:
        return
    missing = [each.ip for each in _interfaces(change.nic, seen) if each.ip not in change.owned]
    if missing:
        yield error(
            Subject.FIREWALL,
            f"the set of owned addresses would not hold the host's own address {missing[0]}",
            why="packets and ARP of addresses that are not in it are dropped",
            todo=f"add {missing[0]} to the set",
        )


def _bridge(change: UplinkChange, seen: HostObservation) -> Iterator[Finding]:
    nic = seen.network.link(change.nic)
    if change.bridge is None or nic is None or nic.mac.lower() == change.bridge.mac.lower():
        return
    yield error(
        Subject.NIC,
        f"{change.nic} would join {change.bridge.name}, which has not its MAC {nic.mac}",
        why="providers forward frames of the MAC they know only, and some lock a server that sends "
        "others",
        todo=f"give {change.bridge.name} the MAC {nic.mac}",
    )


def _gateways(change: UplinkChange, seen: HostObservation) -> Iterator[Finding]:
    networks = [each.network for each in _interfaces(change.nic, seen)]
    for route in change.routes:
        if route.onlink or any(route.gateway in network for network in networks):
            continue
        yield error(
            Subject.GATEWAY,
            f"the gateway {route.gateway} is in no network of {change.nic}, and its route would "
            "lose the flag onlink (pointopoint)",
            why="the kernel refuses such a route, and the host is without a way out",
            todo=f"keep it: ip route replace {route.destination} via {route.gateway} "
            f"dev {change.nic} onlink",
        )
