"""Rules about the host's network: its NIC, addresses, prefixes, interface names, ports. Pure."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import ipaddress
from collections.abc import Iterator

from solostack.host.check_model import Finding, Look, Severity, Subject, error, info, ok, warning
from solostack.host.network import MEMBER, MEMBER_PEER
from solostack.host.probe_observation import IPv4Network, Link, Listener, NetworkFile
from solostack.host.uplink import EXTERNAL_LINK, UPLINK_BRIDGE, UPLINK_LINK
from solostack.plan.build import DATA_NETWORK, EXTERNAL_MTU
from solostack.site.model import ExternalMethod
from solostack.site.networks import floating_addresses

USERSPACE_BRIDGE = "br-phy"
GENEVE_PORT = 6081
DEMO_NETWORK = "demo.network"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PortNeed:
    """Ports the host's own services open. loopback: on 127.0.0.1, else on the data address."""

    protocol: str
    first: int
    last: int
    loopback: bool
    owners: tuple[str, ...]
    severity: Severity
    use: str
    todo: str


_MOVE = "stop it, or have it listen on another port"
PORT_NEEDS = (
    PortNeed(
        protocol="tcp", first=6640, last=6640, loopback=True, owners=("ovsdb-server",),
        severity=Severity.ERROR, todo=_MOVE,
        use="nova-compute and the metadata agent reach Open vSwitch's database there",
    ),
    PortNeed(
        protocol="udp", first=GENEVE_PORT, last=GENEVE_PORT, loopback=False,
        owners=("", "ovs-vswitchd"), severity=Severity.ERROR, todo=_MOVE,
        use="the tunnels between nodes and hosts (Geneve) end there",
    ),
    PortNeed(
        protocol="udp", first=4789, last=4789, loopback=False, owners=("", "ovs-vswitchd"),
        severity=Severity.INFO, todo="",
        use="VXLAN would end there; the cloud uses Geneve, so nothing clashes today",
    ),
    PortNeed(
        protocol="tcp", first=16509, last=16514, loopback=False,
        owners=("libvirtd", "virtproxyd", "systemd"), severity=Severity.WARNING, todo=_MOVE,
        use="libvirt's own ports for moving machines between hosts",
    ),
    PortNeed(
        protocol="tcp", first=5900, last=5999, loopback=False,
        owners=("qemu-system-x86", "qemu-system-x86_64", "kvm"), severity=Severity.WARNING,
        todo=_MOVE,
        use="instances' consoles (VNC); QEMU takes the next free one, and a cloud user's console "
        "proxy can reach what listens here",
    ),
    PortNeed(
        protocol="tcp", first=49152, last=49215, loopback=False,
        owners=("qemu-system-x86", "qemu-system-x86_64", "kvm", "libvirtd", "virtqemud"),
        severity=Severity.WARNING, todo=_MOVE,
        use="QEMU receives machines that move to this host there",
    ),
)  # fmt: skip


_ARRIVES = "floating IPs are reached through it"


def nic_rule(look: Look) -> Iterator[Finding]:
    """The site's NIC is there, has a cable, and holds the site's address."""
    nic = look.host.nic
    link = look.seen.network.link(nic)
    if link is None:
        names = [found.name for found in look.seen.network.links if found.name != "lo"]
        near = difflib.get_close_matches(nic, names, n=1)
        hardware = [found.name for found in look.seen.network.links if found.addresses]
        yield error(
            Subject.NIC,
            f"there is no interface {nic}",
            why=_ARRIVES,
            todo=f"set nic: {(near or [*_holders(look), *hardware[-1:], 'NAME'])[0]} in the site; "
            f"the host has {', '.join(names)}",
        )
        return
    if link.carrier:
        yield ok(Subject.NIC, f"{nic}, {link.mac}, MTU {link.mtu}")
    else:
        yield error(
            Subject.NIC,
            f"{nic} has no link",
            why=f"no cable, or the interface is down; {_ARRIVES}",
            todo=f"plug the cable in, or: ip link set {nic} up",
        )
    yield from _nic_details(look, link)
    yield from _address_finding(look, look.seen.network.link(look.uplink) or link)


def _holders(look: Look) -> list[str]:
    return [
        link.name
        for link in look.seen.network.links
        if any(address.interface.ip == look.host.address for address in link.addresses)
    ]


def _nic_details(look: Look, link: Link) -> Iterator[Finding]:
    if link.mtu < EXTERNAL_MTU:
        yield warning(
            Subject.NIC,
            f"{link.name} has MTU {link.mtu}",
            why=f"instances and routers send up to {EXTERNAL_MTU} bytes outward; larger packets "
            "than the NIC's are dropped when the sender ignores the ICMP answer",
            todo=f"set MTU {EXTERNAL_MTU} if the network carries it",
        )
    if link.master and link.master != look.uplink:
        yield info(
            Subject.NIC,
            f"{link.name} is a port of {link.master}",
            why=f"the host's address and routes are those of {link.master} then",
            todo=f"set nic: {link.master} in the site if the address is there",
        )


def _address_finding(look: Look, link: Link) -> Iterator[Finding]:
    address = look.host.address
    found = next((item for item in link.addresses if item.interface.ip == address), None)
    if found is None:
        has = ", ".join(str(item.interface) for item in link.addresses) or "none"
        holders = [name for name in _holders(look) if name != link.name]
        yield error(
            Subject.ADDRESS,
            f"{link.name} does not hold {address}"
            + (f", {holders[0]} does" if holders else f"; its addresses: {has}"),
            why="packets for the block are sent to this address, and what leaves is masked by it",
            todo=f"set nic: {holders[0]} in the site"
            if holders
            else "set the host's address in the site to the one it has, or give it this one",
        )
    elif found.dynamic:
        yield warning(
            Subject.ADDRESS,
            f"{found.interface} on {link.name} comes from DHCP",
            why="when it changes, the provider's route to the block points nowhere",
            todo="make it static, or have the DHCP server keep it for this machine",
        )
    else:
        yield ok(Subject.ADDRESS, f"{found.interface} on {link.name}")


def gateway_rule(look: Look) -> Iterator[Finding]:
    """The way out is the site's NIC."""
    routes = look.seen.network.default_routes
    if not routes:
        yield error(
            Subject.GATEWAY,
            "there is no default route",
            why="nothing from outside could be answered",
            todo=f"add a default route over {look.host.nic} to the network's configuration",
        )
    elif routes[0].device not in {look.host.nic, look.uplink}:
        yield warning(
            Subject.GATEWAY,
            f"the default route leaves by {routes[0].device}, not by {look.host.nic}",
            why="answers of floating IPs leave there, and the masquerade is only on the NIC",
            todo=f"set nic: {routes[0].device} in the site, or move the default route",
        )
    else:
        yield ok(Subject.GATEWAY, f"{routes[0].gateway or 'on link'} over {routes[0].device}")


def block_rule(look: Look) -> Iterator[Finding]:
    """No public address is on the host itself, or routed to anything but the cloud."""
    ours = own_names(look) if look.is_ours else frozenset()
    found = [*_block_addresses(look, ours), *_block_routes(look, ours)]
    why, todo = _BLOCK_REASONS[look.site.external.method]
    yield from (error(Subject.BLOCK, what, why=why, todo=todo) for what in dict.fromkeys(found))
    if not found and look.is_gateway:
        names = ", ".join(str(network) for network in _public_networks(look)) or "the block"
        yield ok(Subject.BLOCK, f"no interface has an address in or around {names}")


_ON_WIRE_REASONS = (
    "OVN is to have each of these addresses; what the host has itself it keeps for itself",
    "take the address or route off; what others have, as the provider's router, goes under "
    "external.not_ours in the site",
)
_BLOCK_REASONS = {
    ExternalMethod.ROUTED: (
        "with method routed the provider sends the whole block to the host; an address here takes "
        "one away, an on-link block is answered by nobody",
        "ask the provider to route the block to the host's address, and take the address or route "
        "off; or, when the provider looks for each address on the wire, set external.method: proxy",
    ),
    ExternalMethod.PROXY: _ON_WIRE_REASONS,
    ExternalMethod.BRIDGE: _ON_WIRE_REASONS,
    ExternalMethod.PRIVATE: (
        "the host can send packets for an address to one place only",
        "set another private external.block in the site",
    ),
}


def _public_networks(look: Look) -> tuple[IPv4Network, ...]:
    """Return what no one else may have: the whole block, or on a wire the usable addresses only."""
    external = look.site.external
    if external.block is not None and not external.on_wire:
        return (external.block,)
    usable = map(IPv4Network, floating_addresses(look.site))
    return tuple(ipaddress.collapse_addresses(usable))


def _block_addresses(look: Look, ours: frozenset[str]) -> Iterator[str]:
    on_wire = look.site.external.on_wire
    held = [
        (link.name, address.interface)
        for link in look.seen.network.links
        if link.name not in ours
        for address in link.addresses
    ]
    for block in _public_networks(look):
        title = f"the {_kind(look)} block {block}"
        for name, interface in held:
            if interface.ip in block:
                yield f"{interface} on {name} lies in {title}"
            elif not on_wire and interface.network.overlaps(block):
                yield f"the network {interface.network} of {name} holds {title}"


def _kind(look: Look) -> str:
    return "private" if look.site.external.method is ExternalMethod.PRIVATE else "public"


def _block_routes(look: Look, ours: frozenset[str]) -> Iterator[str]:
    on_wire = look.site.external.on_wire
    cards = {look.host.nic, look.uplink}
    for block in _public_networks(look):
        for route in look.seen.network.routes:
            if route.gateway is not None and route.gateway in block:
                yield f"the gateway {route.gateway} lies in the {_kind(look)} block {block}"
            # A wider route with a gateway is one way out of several; the block's own is preferred.
            inside = route.destination.prefixlen and route.destination.subnet_of(block)
            if on_wire and route.device in cards:
                continue
            if inside and route.device not in ours and (route.device or not look.is_ours):
                where = route.device or "nowhere"
                yield f"{route.destination} of the {_kind(look)} block is routed to {where}"


def prefix_rule(look: Look) -> Iterator[Finding]:
    """The cloud's own networks must not be in use on the host."""
    taken = dict(_taken_prefixes(look))
    clashes = [
        _prefix_finding(use, wanted, prefix, where)
        for use, wanted in _wanted_prefixes(look)
        for prefix, where in taken.items()
        if prefix.overlaps(wanted)
    ]
    yield from clashes
    if not clashes:
        wanted_texts = [f"{wanted} ({use})" for use, wanted in _wanted_prefixes(look)]
        yield ok(Subject.PREFIXES, f"free on this host: {', '.join(wanted_texts)}")


def _prefix_finding(use: str, wanted: IPv4Network, prefix: IPv4Network, where: str) -> Finding:
    what = f"{wanted} ({use}) overlaps {prefix} of {where}"
    todo = f"set another {use} in the site, or take {prefix} off {where}"
    if use == DEMO_NETWORK:
        why = "instances of that network could not reach the host's neighbours there"
        return warning(Subject.PREFIXES, what, why=why, todo=todo)
    why = "the host can send packets for an address to one of them only"
    return error(Subject.PREFIXES, what, why=why, todo=todo)


def _wanted_prefixes(look: Look) -> Iterator[tuple[str, IPv4Network]]:
    yield "data.cidr", look.site.data.cidr
    if look.is_gateway:
        yield "external.transit", look.site.external.transit
    if look.site.demo is not None:
        yield DEMO_NETWORK, look.site.demo.network


def _taken_prefixes(look: Look) -> Iterator[tuple[IPv4Network, str]]:
    ours = own_names(look) if look.is_ours else frozenset()
    network = look.seen.network
    for item in look.seen.libvirt.networks:
        if item.bridge not in ours:
            yield from ((prefix, f"libvirt network {item.name}") for prefix in item.prefixes)
    for link in network.links:
        if link.name not in ours:
            yield from ((address.interface.network, link.name) for address in link.addresses)
    for route in network.routes:
        # A blackhole of ours keeps the block from bouncing; it has no device.
        foreign = route.device not in ours and (route.device or not look.is_ours)
        if route.destination.prefixlen and foreign:
            yield route.destination, route.device or "a blackhole route"


def own_names(look: Look) -> frozenset[str]:
    """Return the names of the interfaces that solostack makes on a host."""
    external = look.site.external
    names = [external.bridge] if look.is_gateway else []
    if UPLINK_BRIDGE in {look.uplink, look.coming_uplink}:
        names += [UPLINK_BRIDGE, UPLINK_LINK, EXTERNAL_LINK]
    return frozenset({look.site.data.bridge, *names, MEMBER, MEMBER_PEER, USERSPACE_BRIDGE})


def names_rule(look: Look) -> Iterator[Finding]:
    """Our interfaces' names are free."""
    if look.is_ours:
        yield from _renamed_bridge(look)
        return
    there = sorted(own_names(look) & {link.name for link in look.seen.network.links})
    settable = {look.site.data.bridge: "data.bridge", look.site.external.bridge: "external.bridge"}
    for name in there:
        key = settable.get(name)
        yield error(
            Subject.NAMES,
            f"there is an interface {name} already",
            why="solostack makes an interface of that name and would not touch another's",
            todo=(f"set another {key} in the site, or " if key else "")
            + f"remove it: ip link delete {name}",
        )
    if not there:
        yield ok(Subject.NAMES, f"free: {', '.join(sorted(own_names(look)))}")


def _renamed_bridge(look: Look) -> Iterator[Finding]:
    """The data bridge of a cloud that is there gets a name that nothing else has."""
    wanted, networks = look.site.data.bridge, look.seen.libvirt.networks
    now = next((item.bridge for item in networks if item.name == DATA_NETWORK), wanted)
    if now == wanted:
        return
    holder = next((item.name for item in networks if item.bridge == wanted), None)
    if holder is not None or look.seen.network.link(wanted) is not None:
        yield error(
            Subject.NAMES,
            f"the data bridge cannot be renamed from {now} to {wanted}: "
            + (f"the libvirt network {holder} has it" if holder else "that interface is there"),
            why="nodes would lose their network while the bridge cannot be made",
            todo=f"set another data.bridge in the site, put {now} back, or rename the other one",
        )


def ports_rule(look: Look) -> Iterator[Finding]:
    """Ports that the host's own services open are free."""
    problems = 0
    for need in PORT_NEEDS:
        for listener in look.seen.network.listeners:
            if _clashes(need, listener, look.data_address):
                problems += 1
                yield Finding(
                    severity=need.severity,
                    subject=Subject.PORTS,
                    what=f"in use: {listener.text}",
                    why=need.use,
                    todo=need.todo,
                )
    if not problems:
        texts = [f"{need.protocol} {_span(need)}" for need in PORT_NEEDS]
        yield ok(Subject.PORTS, f"free: {', '.join(texts)}")


def _span(need: PortNeed) -> str:
    return str(need.first) if need.first == need.last else f"{need.first}-{need.last}"


def _clashes(need: PortNeed, listener: Listener, data_address: str) -> bool:
    if listener.protocol != need.protocol or not need.first <= listener.port <= need.last:
        return False
    if listener.process in need.owners:
        return False
    if need.loopback:
        return listener.is_wildcard or listener.address.startswith("127.")
    return listener.is_wildcard or listener.address == data_address


def network_manager_rule(look: Look) -> Iterator[Finding]:
    """Who configures the host's network, and whether it would touch our interfaces."""
    units = look.seen.system.units
    managers = {
        "NetworkManager.service": "NetworkManager",
        "systemd-networkd.service": "systemd-networkd",
        "networking.service": "ifupdown",
    }
    active = [name for unit, name in managers.items() if unit in units and units[unit].active]
    source = " (written by netplan)" if look.seen.traces.netplan else ""
    if "NetworkManager" in active:
        yield warning(
            Subject.NETWORK_MANAGER,
            f"NetworkManager is active{source}",
            why="it may put the cloud's bridges and taps under its own management",
            todo="write to /etc/NetworkManager/conf.d/solostack.conf: [keyfile] "
            f"unmanaged-devices={';'.join(sorted(own_names(look)))};interface-name:tap*;"
            "interface-name:vnet*;interface-name:br-int, then: systemctl reload NetworkManager",
        )
    elif active:
        yield ok(Subject.NETWORK_MANAGER, f"{' and '.join(active)}{source}")
    else:
        yield info(
            Subject.NETWORK_MANAGER,
            "no network manager that is known is active",
            why="the host's address must come back by itself after a reboot",
        )
    if "systemd-networkd" in active:
        yield from _greedy_files(look)


def _greedy_files(look: Look) -> Iterator[Finding]:
    names = (*sorted(own_names(look)), "tap0123456789", "vnet0")
    for file in look.seen.network.networkd_files:
        if taken := matched(file, names):
            yield warning(
                Subject.NETWORK_MANAGER,
                f"{file.path} takes the cloud's interfaces too ({taken})",
                why="systemd-networkd would then take away the addresses solostack gives them, "
                "or ask for others by DHCP",
                todo=f"narrow its [Match], such as Name={look.host.nic}",
            )


def matched(file: NetworkFile, names: tuple[str, ...]) -> str:
    """Return the first of names, or the kind of interface, that a file's [Match] takes."""
    if file.names:
        # A leading "!" turns the whole list round, see systemd.network(5).
        inverted = file.names[0].startswith("!")
        patterns = [pattern.removeprefix("!") for pattern in file.names]
        for name in names:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) != inverted:
                return name
        return ""
    return next((kind for kind in file.kinds if kind in {"ether", "bridge", "veth", "tun"}), "")
