"""What a host lets in, refuses and rewrites, as data: one value per rule, with its words. Pure.

The same values become nftables' text (firewall_text) and what `solostack firewall` shows. A rule
that refuses names the interface it is about: what comes in by any other interface is not judged.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator

from solostack.host import front_door_rules as front_door
from solostack.host.firewall_model import (
    ARP_INPUT,
    ARP_OUTPUT,
    BRIDGE_FORWARD,
    BRIDGE_INPUT,
    BRIDGE_OUTPUT,
    FORWARD,
    INPUT,
    LEAVING,
    POSTROUTING,
    PREROUTING,
    PUBLISH,
    PUBLISH_LOCAL,
    Chain,
    Rule,
    Way,
)
from solostack.host.network import MEMBER
from solostack.host.uplink import EXTERNAL_LINK, UPLINK_LINK, uplink_device
from solostack.plan.model import HostPlan, Plan
from solostack.site.model import ExternalMethod, OpenPort

IPv4Address = ipaddress.IPv4Address
IPv4Network = ipaddress.IPv4Network

USERSPACE_BRIDGE = "br-phy"
LOOPBACK = IPv4Network("127.0.0.0/8")
GENEVE_PORT = 6081
CONSOLE_PORTS = "5900-6100"
MIGRATION_PORTS = "16514, 49152-49215"
"""libvirt's TLS port and QEMU's migration ports (libvirt, qemu.conf, migration_port_max)."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """A host as its rules see it. block is the external bridge, None where another host has it."""

    plan: Plan
    host: HostPlan

    @property
    def uplink(self) -> str:
        return uplink_device(self.plan, self.host)

    @property
    def block(self) -> str | None:
        return self.plan.external.bridge if self.host.gateway else None

    @property
    def bridged(self) -> bool:
        return self.host.gateway and self.plan.external.method is ExternalMethod.BRIDGE

    @property
    def floating(self) -> tuple[IPv4Network, ...]:
        return self.plan.external.networks if self.host.gateway else ()

    @property
    def spoofable(self) -> tuple[IPv4Network, ...]:
        """What never comes from outside; others may have addresses of a routed block."""
        pools = self.plan.external.pools if self.host.gateway else ()
        floating = (
            network
            for first, last in pools
            for network in ipaddress.summarize_address_range(first, last)
        )
        return (*self.internal, *floating, *self.door, LOOPBACK)

    @property
    def door(self) -> tuple[IPv4Network, ...]:
        address = front_door.public_address(self.plan, self.host)
        return () if address is None else (IPv4Network(address),)

    @property
    def instances(self) -> tuple[IPv4Network, ...]:
        """The floating IPs without the front door's address."""
        found = self.floating
        for door in self.door:
            found = tuple(part for each in found for part in _without(each, door))
        return found

    @property
    def internal(self) -> tuple[IPv4Network, ...]:
        transit = (self.plan.external.transit,) if self.host.gateway else ()
        return (self.plan.data.network, *transit)

    @property
    def data_side(self) -> str:
        userspace = () if self.host.kernel_datapath else (USERSPACE_BRIDGE,)
        return _names(self.plan.data.bridge, MEMBER, *userspace)


def firewall_rules(plan: Plan, host: HostPlan) -> tuple[Rule, ...]:
    """Return a host's rules; the order within a chain is the order in which they are tried."""
    place = _Place(plan, host)
    return (
        *_arriving(place),
        *_published(place),
        *front_door.published(plan, host),
        *_from_block(place),
        *front_door.spoofed(plan, host),
        *_input(place),
        *front_door.forwarded(plan, host),
        *_forward(place),
        *_rewritten(place),
        *front_door.rewritten(plan, host, place.data_side),
        *_leaving(place),
        *_arp(place),
        *_wire(place),
    )


def _arriving(place: _Place) -> Iterator[Rule]:
    """Before anything else: sources and destinations that cannot be true on the uplink."""

    def rule(match: str, verdict: str, words: str) -> Rule:
        match = f'iifname "{place.uplink}" {match}'
        return Rule(chain=PREROUTING, way=Way.OUTSIDE, match=match, verdict=verdict, words=words)

    yield rule(
        f"ip saddr {_set(place.spoofable)}", "drop", "spoofed: sources that are inside this host"
    )
    yield rule("udp sport 67 udp dport 68", "accept", "DHCP answers")
    # The kernel's own addresses of this very interface: they can never be missing in a list.
    yield rule(
        "meta nfproto ipv4 fib daddr . iif type { local, broadcast, multicast }",
        "accept",
        "packets to the host's own addresses on this card (judged below)",
    )
    if place.floating:
        yield rule(
            f"ip daddr {_set(place.floating)}",
            "accept",
            f"floating IPs: {_words(place.floating)}",
        )
    networks = place.plan.firewall.networks
    if networks:
        yield rule(
            f"ip daddr {_set(networks)}", "accept", f"networks behind the host: {_words(networks)}"
        )
    yield rule("meta nfproto ipv4", "drop", "packets to addresses that are not ours")
    yield from _crossing(place)


def _crossing(place: _Place) -> Iterator[Rule]:
    """Frames on the data bridge from or to the host's member interface.

    With bridge netfilter they would be tracked there first, and so without NAT; once across the
    veth pair they meet that entry again and are never rewritten. What is for the bridge's own MAC
    goes straight to the host and must be tracked.
    """
    for end, way in (("daddr", "to"), ("saddr", "from")):
        yield Rule(
            chain=PREROUTING,
            way=Way.DATA,
            match=f'iifname "{place.plan.data.bridge}" ether {end} {place.host.data_mac}',
            verdict="notrack",
            words=f"{way} the host, on the bridge: tracked behind it "
            "(seen with bridge netfilter only)",
        )


def _published(place: _Place) -> Iterator[Rule]:
    if place.block is None:
        return
    for one in place.plan.external.published:
        port = one.to_port or one.port
        for chain, way, who in (
            (PUBLISH, Way.OUTSIDE, ""),
            (PUBLISH_LOCAL, Way.OUTWARD, ", from the host itself"),
        ):
            yield Rule(
                chain=chain,
                way=way,
                match=f"ip daddr {place.host.address} {one.protocol} dport {one.port}",
                verdict=f"dnat ip to {one.to}:{port}",
                words=f"published: {one.protocol.upper()} port {one.port} leads to "
                f"{one.to}:{port}{who}",
            )


def _from_block(place: _Place) -> Iterator[Rule]:
    """Sources the block side may have.

    With method bridge and bridge netfilter the provider's frames pass the bridge, and so its
    prerouting hook, with foreign sources; only what the host itself gets or routes is judged there.
    """
    if place.block is None:
        return
    where = [(PREROUTING, "")]
    if place.bridged:
        where = [(INPUT, ""), (FORWARD, f' oifname != "{place.block}"')]
    for chain, onward in where:
        yield Rule(
            chain=chain,
            way=Way.INSTANCES,
            match=f'iifname "{place.block}"{onward} '
            f"ip saddr != {_set((*place.floating, place.plan.external.transit))}",
            verdict="drop",
            words="spoofed: sources that are neither a floating IP nor a router's",
        )


def _input(place: _Place) -> Iterator[Rule]:
    yield Rule(
        chain=INPUT,
        way=Way.OUTSIDE,
        match="ct state established,related",
        verdict="accept",
        words="answers, and connections that are open already",
    )
    yield from _input_outside(place)
    yield from _input_instances(place)
    yield from _input_data(place)


def _input_outside(place: _Place) -> Iterator[Rule]:
    def rule(match: str, words: str, verdict: str = "accept") -> Rule:
        match = f'iifname "{place.uplink}" {match}'.rstrip()
        return Rule(chain=INPUT, way=Way.OUTSIDE, match=match, verdict=verdict, words=words)

    yield rule("meta l4proto { icmp, ipv6-icmp }", "ping and other ICMP, IPv4 and IPv6")
    port = place.host.ssh_port
    sources = place.plan.firewall.ssh_from
    if sources:
        yield rule(
            f"ip saddr {_set(sources)} tcp dport {port}", f"SSH (TCP {port}) from {_words(sources)}"
        )
        yield rule(
            f"ip6 saddr fe80::/10 tcp dport {port}", f"SSH (TCP {port}) by IPv6 from the same wire"
        )
        # Connection tracking may begin with this very table: a session in its middle is "new" then.
        yield rule(
            f"tcp dport {port} tcp flags & (syn | ack) != syn",
            f"SSH (TCP {port}) sessions that were open before these rules",
        )
    else:
        yield rule(f"tcp dport {port}", f"SSH (TCP {port}) from everybody")
    for each in place.plan.firewall.open:
        yield rule(_open_match(each), _open_words(each))
    yield rule("udp sport 67 udp dport 68", "DHCP answers")
    yield rule("udp sport 547 udp dport 546", "DHCP answers, IPv6")
    yield rule("", "everything else to the host", "drop")


def _open_match(each: OpenPort) -> str:
    sources = f"ip saddr {_set(each.sources)} " if each.sources else ""
    return f"{sources}{each.protocol} dport {each.port}"


def _open_words(each: OpenPort) -> str:
    who = _words(each.sources) if each.sources else "everybody"
    return f"{each.protocol.upper()} port {each.port} from {who}"


def _input_instances(place: _Place) -> Iterator[Rule]:
    if place.block is None:
        return
    gateway = place.plan.external.transit_gateway.ip
    yield Rule(
        chain=INPUT,
        way=Way.INSTANCES,
        match=f'iifname "{place.block}" ip daddr {{ {gateway}, {place.host.address} }} '
        "meta l4proto icmp",
        verdict="accept",
        words=f"ping of their gateway {gateway} and of the host {place.host.address}",
    )
    yield Rule(
        chain=INPUT,
        way=Way.INSTANCES,
        match=f'iifname "{place.block}"',
        verdict="drop",
        words="everything else to the host: SSH, libvirt, OVSDB, any port",
    )


def _input_data(place: _Place) -> Iterator[Rule]:
    def rule(match: str, words: str, verdict: str = "accept") -> Rule:
        match = f"iifname {place.data_side} {match}".rstrip()
        return Rule(chain=INPUT, way=Way.DATA, match=match, verdict=verdict, words=words)

    plan = place.plan
    yield rule("meta l4proto { icmp, ipv6-icmp }", "ping and other ICMP")
    yield rule(
        f"ip saddr {plan.data.network} udp dport {GENEVE_PORT}",
        f"tunnels: Geneve (UDP {GENEVE_PORT}) from {plan.data.network}",
    )
    for node in plan.nodes:
        if node.role == "controller":
            yield rule(
                f"ip saddr {node.data_address} tcp dport {CONSOLE_PORTS}",
                f"consoles: VNC (TCP {CONSOLE_PORTS}) from the controller {node.data_address}",
            )
    others = tuple(
        IPv4Network(other.data_address.ip) for other in plan.hosts if other.name != place.host.name
    )
    if others:
        ssh = ", ".join(str(port) for port in sorted({22, place.host.ssh_port}))
        yield rule(
            f"ip saddr {_set(others)} tcp dport {{ {ssh}, {MIGRATION_PORTS} }}",
            f"other hosts: SSH and migration from {_words(others)}",
        )
    yield rule("", "everything else to the host", "drop")


def _forward(place: _Place) -> Iterator[Rule]:
    inside = place.data_side
    yield Rule(
        chain=FORWARD,
        way=Way.DATA,
        match=f"iifname {inside} oifname {inside}",
        verdict="accept",
        words="control nodes among themselves (seen here with bridge netfilter only)",
    )
    sides = [(Way.OUTSIDE, place.uplink)]
    if place.block is not None:
        sides.append((Way.INSTANCES, place.block))
    for way, name in sides:
        yield Rule(
            chain=FORWARD,
            way=way,
            match=f'iifname "{name}" ip daddr {_set(place.internal)} ct state new,invalid',
            verdict="drop",
            words=f"to the control nodes and routers: {_words(place.internal)}",
        )
    if not place.plan.egress:
        yield Rule(
            chain=FORWARD,
            way=Way.DATA,
            match=f'iifname {inside} oifname "{place.uplink}" ct state new,invalid',
            verdict="drop",
            words="control nodes to the outside (egress is off)",
        )


def _rewritten(place: _Place) -> Iterator[Rule]:
    external = place.plan.external
    who: list[tuple[IPv4Network, str]] = []
    if place.plan.egress:
        who.append((place.plan.data.network, "control nodes"))
    if place.block is not None:
        who.append((external.transit, "instances without a floating IP"))
        if external.method is ExternalMethod.PRIVATE:
            who += [(network, "floating IPs (private)") for network in external.networks]
    for network, words in who:
        yield Rule(
            chain=POSTROUTING,
            way=Way.OUTWARD,
            match=f'oifname "{place.uplink}" ip saddr {network}',
            verdict="masquerade",
            words=f"{words}, {network}, leave as the host",
        )
    if external.published and place.block is not None:
        # Otherwise the instance answers the other one directly, from an address nobody asked.
        yield Rule(
            chain=POSTROUTING,
            way=Way.INSTANCES,
            match=f'oifname "{place.block}" ct status dnat '
            f"ip saddr {_set((*place.floating, external.transit))}",
            verdict="masquerade",
            words="published ports of the host, used by instances",
        )


def _leaving(place: _Place) -> Iterator[Rule]:
    """NAT leaves packets alone that belong to no connection (conntrack state invalid).

    Nor does it rewrite a router's error about a packet to a floating IP, for that connection is not
    rewritten. Without "fragmentation needed" the sender would never learn of the smaller MTU.
    """
    if place.block is not None:
        yield Rule(
            chain=LEAVING,
            way=Way.OUTWARD,
            match=f'oifname "{place.uplink}" ip saddr {place.plan.external.transit} icmp type '
            "{ destination-unreachable, time-exceeded, parameter-problem }",
            verdict=f"ip saddr set {place.host.address}",
            words="errors from routers (as packet too big) leave as the host",
        )
    yield Rule(
        chain=LEAVING,
        way=Way.OUTWARD,
        match=f'oifname "{place.uplink}" ip saddr {_set(place.internal)}',
        verdict="drop",
        words="internal sources that were not rewritten",
    )


def _arp(place: _Place) -> Iterator[Rule]:
    """What is asked and said on the wire.

    Only requests for internal addresses are dropped on the way in: others are not answered anyway,
    see the rules on the way out, and a request may be a router's announcement of its new MAC.
    """

    def rule(chain: Chain, match: str, verdict: str, words: str) -> Rule:
        return Rule(chain=chain, way=Way.ARP, match=match, verdict=verdict, words=words)

    uplink, proxied = place.uplink, place.plan.external.method is ExternalMethod.PROXY
    yield rule(
        ARP_INPUT,
        f'iifname "{uplink}" arp operation request arp daddr ip {_set(place.internal)}',
        "drop",
        f"requests for internal addresses: {_words(place.internal)}",
    )
    yield rule(
        ARP_OUTPUT,
        f'oifname "{uplink}" arp saddr ip @owned',
        "accept",
        "from the host's own addresses on this card",
    )
    yield rule(
        ARP_OUTPUT, f'oifname "{uplink}" arp saddr ip 0.0.0.0', "accept", "probes without address"
    )
    if proxied and place.floating:
        yield rule(
            ARP_OUTPUT,
            f'oifname "{uplink}" arp saddr ip {_set(place.floating)}',
            "accept",
            f"answers for floating IPs: {_words(place.floating)}",
        )
    yield from front_door.announced(place.plan, place.host)
    yield rule(ARP_OUTPUT, f'oifname "{uplink}"', "drop", "from any other address")


def _wire(place: _Place) -> Iterator[Rule]:
    """Method bridge: what passes between the wire and the block, at layer 2."""
    if not place.bridged:
        return

    def rule(chain: Chain, match: str, verdict: str, words: str) -> Rule:
        return Rule(chain=chain, way=Way.WIRE, match=match, verdict=verdict, words=words)

    block, spoofed = _set(place.instances), _set(place.spoofable)
    words = _words(place.instances)
    to, back = f'oifname "{UPLINK_LINK}"', f'iifname "{UPLINK_LINK}"'
    both = _names(UPLINK_LINK, EXTERNAL_LINK)
    yield rule(BRIDGE_FORWARD, f"{to} ip saddr {spoofed}", "drop", "spoofed sources, inward")
    yield rule(BRIDGE_FORWARD, f"{to} arp saddr ip {spoofed}", "drop", "spoofed ARP, inward")
    yield rule(BRIDGE_FORWARD, f"{to} arp daddr ip {block}", "accept", f"ARP for {words}")
    yield rule(BRIDGE_FORWARD, f"{to} ip daddr {block}", "accept", f"IPv4 to {words}")
    yield rule(BRIDGE_FORWARD, to, "drop", "everything else inward")
    yield rule(BRIDGE_FORWARD, f"{back} arp saddr ip {block}", "accept", f"ARP of {words}")
    yield rule(BRIDGE_FORWARD, f"{back} ip saddr {block}", "accept", f"IPv4 from {words}")
    yield rule(BRIDGE_FORWARD, back, "drop", "everything else outward, internal addresses first")
    yield rule(BRIDGE_INPUT, f"iifname {both}", "drop", "to the host by the way of the block")
    yield rule(BRIDGE_OUTPUT, f"oifname {both}", "drop", "from the host by the way of the block")


def _without(network: IPv4Network, part: IPv4Network) -> Iterator[IPv4Network]:
    if part.subnet_of(network):
        yield from network.address_exclude(part)
    else:
        yield network


def _names(*names: str) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"


def _set(networks: Iterable[IPv4Network]) -> str:
    """Write networks as nftables takes them; those within others are left out, it refuses them."""
    texts = [_short(each) for each in ipaddress.collapse_addresses(networks)]
    return texts[0] if len(texts) == 1 else "{ " + ", ".join(texts) + " }"


def _words(networks: Iterable[IPv4Network]) -> str:
    """Write networks for people, short enough for a comment."""
    texts = [_short(each) for each in ipaddress.collapse_addresses(networks)]
    more = [f"and {len(texts) - 2} more"] if len(texts) > 3 else []
    return ", ".join([*texts[: 2 if more else 3], *more])


def _short(network: IPv4Network) -> str:
    return str(network.network_address) if network.prefixlen == 32 else str(network)
