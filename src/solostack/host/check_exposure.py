"""Rules about what the host's firewall will close: its own services, SSH, networks behind it. Pure.

The firewall lets in new connections only to SSH and to what the site lists under firewall.open, and
only packets for the host's own addresses, the cloud's and those under firewall.networks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from solostack.host.check_model import Finding, Look, Severity, Subject, error, info, ok, warning
from solostack.host.check_network import PORT_NEEDS, own_names
from solostack.host.probe_observation import IPv4Network, Listener, Session
from solostack.site.model import Published

# Names as the kernel cuts them, at 15 characters. They listen for answers to what they asked
# themselves, and those get in; docker-proxy's packets are led past the input chain by a DNAT rule.
_CLIENTS = frozenset(
    {
        "NetworkManager",
        "dhclient",
        "dhcpcd",
        "docker-proxy",
        "ntpd",
        "systemd-network",
        "systemd-resolve",
        "systemd-timesyn",
    }
)
_DHCP_PORTS = frozenset({68, 546})
_FIRST_EPHEMERAL = 32768
"""net.ipv4.ip_local_port_range: where the kernel puts the sockets of those who only ask."""
_MASQUERADED = re.compile(
    r"docker0|docker_gwbridge|br-[0-9a-f]{12}|cni\d*|flannel\..*|lxcbr\d+|lxdbr\d+|incusbr\d+"
    r"|podman\d+|tailscale\d+"
)
_LINK_LOCAL = IPv4Network("169.254.0.0/16")
_LOOPBACK = IPv4Network("127.0.0.0/8")


def open_ports_rule(look: Look) -> Iterator[Finding]:
    """Services of the host that listen to the outside and are not in firewall.open."""
    found: dict[tuple[str, int], Finding] = {}
    for listener in look.seen.network.listeners:
        key = (listener.protocol, listener.port)
        if key in found or not _faces_outside(look, listener):
            continue
        finding = (
            _front_door(look, listener) or _published(look, listener) or _closing(look, listener)
        )
        if finding is not None:
            found[key] = finding
    yield from found.values()
    if not found:
        yield ok(Subject.OPEN_PORTS, "the firewall closes no service of this host")


def _faces_outside(look: Look, listener: Listener) -> bool:
    if listener.device and listener.device not in {look.host.nic, look.uplink}:
        return False
    if listener.address in {"*", "0.0.0.0", "::"}:  # noqa: S104 (compared, not bound)
        return True
    try:
        address = ipaddress.ip_address(listener.address.removeprefix("::ffff:"))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return not (address.is_loopback or address.is_link_local)
    link = look.seen.network.link(look.uplink)
    return link is not None and any(item.interface.ip == address for item in link.addresses)


def _published(look: Look, listener: Listener) -> Finding | None:
    taker: Published | None = next(
        (
            item
            for item in look.site.external.published
            if (str(item.protocol), item.port) == (listener.protocol, listener.port)
        ),
        None,
    )
    if taker is None:
        return None
    is_ssh = listener.protocol == "tcp" and listener.port in _ssh_ports(look)
    owner = f" by {listener.process}" if listener.process else ""
    return Finding(
        severity=Severity.ERROR if is_ssh else Severity.WARNING,
        subject=Subject.OPEN_PORTS,
        what=f"{listener.protocol} {listener.port} is in use{owner}, and published to {taker.to}",
        why="what arrives there goes to the floating IP"
        + (": nobody could log in to this host any more" if is_ssh else ", never to this service"),
        todo="set another port under external.published in the site, or move the service",
    )


def _front_door(look: Look, listener: Listener) -> Finding | None:
    """Return what is wrong with a service at the front door's ports of the host's own address."""
    door = look.site.front_door
    if door is None or listener.protocol != "tcp" or not look.is_gateway:
        return None
    keys = {door.port: "port", door.http_port: "http_port"}
    if listener.port not in keys or door.address not in {None, look.host.address}:
        return None
    owner = f" by {listener.process}" if listener.process else ""
    return error(
        Subject.OPEN_PORTS,
        f"tcp {listener.port} is in use{owner}, and the front door wants it",
        why="what arrives there would go to the cloud's front door, never to this service",
        todo=f"move the service, or give the door another port (front_door.{keys[listener.port]} "
        "in the site) or one of the public addresses (front_door.address)",
    )


def _closing(look: Look, listener: Listener) -> Finding | None:
    if listener.protocol == "tcp" and listener.port in _ssh_ports(look):
        return None
    if _is_open(look, listener.protocol, listener.port) or _only_asks(listener):
        return None
    owner = f" ({listener.process})" if listener.process else ""
    what = f"{listener.protocol} {listener.port}{owner}"
    protocol = "" if listener.protocol == "tcp" else f", protocol: {listener.protocol}"
    todo = (
        f"to keep it open add to firewall.open in the site: - {{port: {listener.port}{protocol}}}"
    )
    why = f"it listens on {listener.address}, and the firewall lets in what the site lists only"
    if look.is_ours:
        return info(Subject.OPEN_PORTS, f"{what} is closed to the outside", why=why, todo=todo)
    return warning(Subject.OPEN_PORTS, f"{what} will be closed to the outside", why=why, todo=todo)


def _is_open(look: Look, protocol: str, port: int) -> bool:
    return any(
        (str(item.protocol), item.port) == (protocol, port) for item in look.site.firewall.open
    )


def _only_asks(listener: Listener) -> bool:
    if listener.process in _CLIENTS:
        return True
    if listener.protocol == "udp" and listener.port in _DHCP_PORTS:
        return True
    if listener.protocol == "udp" and listener.port >= _FIRST_EPHEMERAL and listener.process:
        return True
    # Ours or libvirt's, and meant for the data network: closing them to the outside is the point.
    return any(
        need.protocol == listener.protocol
        and need.first <= listener.port <= need.last
        and listener.process in need.owners
        for need in PORT_NEEDS
    )


def _ssh_ports(look: Look) -> frozenset[int]:
    session = look.seen.session
    return frozenset({look.host.ssh.port, *([session.port] if session is not None else [])})


def ssh_rule(look: Look) -> Iterator[Finding]:
    """Whether whoever runs this check can still log in when the firewall is on."""
    session = look.seen.session
    found = [
        *_wrong_port(look, session),
        *_wrong_source(look, session),
        *_wrong_way(look, session),
    ]
    yield from found
    if not found:
        sources = ", ".join(str(network) for network in look.site.firewall.ssh_from)
        here = f"; you come from {session.client}" if session is not None else ""
        yield ok(
            Subject.SSH,
            f"tcp {look.host.ssh.port} stays open to {sources or 'everybody'}{here}",
        )


def _wrong_port(look: Look, session: Session | None) -> Iterator[Finding]:
    wanted = look.host.ssh.port
    listening = {
        item.port
        for item in look.seen.network.listeners
        if item.protocol == "tcp" and item.process == "sshd" and _faces_outside(look, item)
    }
    # Without a session only sshd's own sockets tell; with socket activation they are systemd's.
    ports = {session.port} if session is not None else listening
    if not ports or wanted in ports or any(_is_open(look, "tcp", port) for port in ports):
        return
    port = min(ports)
    yield error(
        Subject.SSH,
        f"sshd is reached at tcp {port} of this host, and the firewall would open {wanted} only",
        why="nobody could log in any more: a router in between translates the port, or ssh.port is "
        "not sshd's",
        todo=f"set ssh.port: {port} in the site; or add to firewall.open: - {{port: {port}}}",
    )


def _wrong_source(look: Look, session: Session | None) -> Iterator[Finding]:
    allowed = look.site.firewall.ssh_from
    if not allowed:
        return
    if session is None:
        yield info(
            Subject.SSH,
            "whether firewall.ssh_from lets you in is not known",
            why="nobody is logged in over SSH here, so that an address could be compared",
            todo="see that your address is in it: echo $SSH_CONNECTION where you log in",
        )
        return
    client = ipaddress.ip_address(session.client)
    if isinstance(client, ipaddress.IPv6Address):
        if not client.is_link_local:
            yield error(
                Subject.SSH,
                f"you come from {client}, and with firewall.ssh_from nobody gets in over IPv6",
                why="ssh_from lists IPv4 networks: your next login would not get through",
                todo=f"log in to {look.host.address} over IPv4, or leave out firewall.ssh_from",
            )
    elif not any(client in network for network in allowed) and _answered_by(
        look, client, frozenset({look.host.nic, look.uplink})
    ):
        yield error(
            Subject.SSH,
            f"you come from {client}, which is not in firewall.ssh_from",
            why=f"it allows {', '.join(str(network) for network in allowed)}: the firewall would "
            "lock you out",
            todo=f"add to firewall.ssh_from in the site: - {client}/32",
        )


def _wrong_way(look: Look, session: Session | None) -> Iterator[Finding]:
    """A way in that the guard takes for no proof (guard_agent/way_in.py, require_new_session).

    IPv6 is not judged: its addresses are not looked at. On a local host the gateway is the proof.
    """
    if session is None or look.host.local:
        return
    cards = _card_devices(look)
    links = [look.seen.network.link(name) for name in sorted(cards)]
    held = {item.interface.ip for link in links if link is not None for item in link.addresses}
    server = ipaddress.ip_address(session.server)
    client = ipaddress.ip_address(session.client)
    # Where the card holds nothing, the rule about its address says what to do.
    if isinstance(server, ipaddress.IPv4Address) and held and server not in held:
        what = f"you reach this host at {server}, which is no address of {look.host.nic}"
    elif isinstance(client, ipaddress.IPv4Address) and not _answered_by(look, client, cards):
        what = f"answers to you ({client}) do not leave by {look.host.nic}"
    else:
        return
    finding = warning if look.is_ours else error
    yield finding(
        Subject.SSH,
        what,
        why="up keeps a change of the card or the firewall only when a new SSH session through "
        f"{look.host.nic} confirms it; one by a VPN or another card shows nothing, and the change "
        "would be taken back every time",
        todo=f"reach it at {look.host.address} through {look.host.nic}: set the host's address in "
        "the site, and see that no VPN or entry of ~/.ssh/config leads another way; or run "
        "solostack on the host itself, with local: true",
    )


def _answered_by(look: Look, client: ipaddress.IPv4Address, devices: frozenset[str]) -> bool:
    """Whether answers to client leave by one of devices: the firewall judges no other interface."""
    ways = [route for route in look.seen.network.routes if client in route.destination]
    best = max(ways, key=lambda route: route.destination.prefixlen, default=None)
    return best is None or best.device in devices


def _card_devices(look: Look) -> frozenset[str]:
    """Return the card, and what it is a port of: addresses and routes are on that then."""
    link = look.seen.network.link(look.host.nic)
    master = link.master if link is not None else ""
    return frozenset({look.host.nic, look.uplink, master} - {""})


def networks_rule(look: Look) -> Iterator[Finding]:
    """Networks behind the host that the outside reaches through it today."""
    found = {
        network: device
        for network, device in _behind(look)
        if not any(network.subnet_of(kept) for kept in look.site.firewall.networks)
    }
    for network, device in found.items():
        finding = info if look.is_ours else warning
        yield finding(
            Subject.NETWORKS,
            f"{network} lies behind this host ({device})",
            why=f"the firewall drops packets from {look.uplink} for it; what this host masquerades "
            "is not concerned",
            todo=f"where the outside reaches it by route add to firewall.networks in the site: - "
            f"{network}",
        )
    if not found:
        yield ok(Subject.NETWORKS, "the firewall cuts off no network behind this host")


def _behind(look: Look) -> Iterator[tuple[IPv4Network, str]]:
    network = look.seen.network
    skipped = {look.host.nic, look.uplink, "", "lo", *own_names(look)}
    skipped |= {item.bridge for item in look.seen.libvirt.networks if item.mode in {"nat", ""}}
    # Its own addresses elsewhere are not the card's: they are judged whether it forwards or not.
    for link in network.links:
        if link.name in own_names(look) or link.name == look.uplink:
            continue
        for address in link.addresses:
            single = address.interface.network.prefixlen == 32
            if single and link.name != look.host.nic and address.interface.ip not in _LOOPBACK:
                yield address.interface.network, link.name
    if not look.seen.kernel.sysctls.get("ipv4.ip_forward"):
        return
    for route in network.routes:
        if route.device in skipped or _MASQUERADED.fullmatch(route.device):
            continue
        if route.destination.prefixlen and not route.destination.subnet_of(_LINK_LOCAL):
            yield route.destination, route.device
