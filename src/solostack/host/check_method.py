"""Rules about how public addresses reach the host: what was heard against the site. Pure.

Also what method bridge asks of the card and of the provider's switch.
"""

from __future__ import annotations

from collections.abc import Iterator

from solostack.host.check_model import Finding, Look, Subject, error, info, ok, warning
from solostack.host.check_network import matched
from solostack.host.method import Heard, MethodSeen, Way
from solostack.host.uplink import UPLINK_BRIDGE
from solostack.plan.build import home_of
from solostack.site.model import ExternalMethod, Role

_FROM_OUTSIDE = "run solostack check on another machine, outside the provider's network"
_CACHE = "a router keeps a MAC it has asked for: if a proxy ran here lately, wait five minutes"


def method_rule(look: Look) -> Iterator[Finding]:
    """Whether the public addresses arrive in the way the site says, and how that is known."""
    if not look.is_gateway:
        home = home_of(look.site, Role.NETWORK).name
        yield ok(Subject.METHOD, f"public addresses arrive at {home}, not here")
        return
    seen = look.seen.method
    if seen is None or seen.way is Way.UNKNOWN:
        yield _unknown(look, seen)
    elif look.site.external.method is ExternalMethod.PRIVATE:
        yield _private(look, seen)
    else:
        yield {
            Way.ON_WIRE: _on_wire,
            Way.ROUTED: _routed,
            Way.EITHER: _either,
            Way.NOTHING: _nothing,
        }[seen.way](look, seen)


def _unknown(look: Look, seen: MethodSeen | None) -> Finding:
    nic = look.host.nic
    reason = "there was nothing to listen for" if seen is None else seen.error
    if seen is not None and not seen.targets:
        reason = "the site has no address that could be tried"
    return info(
        Subject.METHOD,
        f"how public addresses arrive was not tried: {reason}",
        why=f"only what the provider sends to {nic} tells whether it routes the addresses or looks "
        "for each with ARP",
        todo=_FROM_OUTSIDE,
    )


def _on_wire(look: Look, seen: MethodSeen) -> Finding:
    method = look.site.external.method
    if method is not ExternalMethod.ROUTED:
        return ok(Subject.METHOD, f"{method} fits: {seen.evidence}")
    return error(
        Subject.METHOD,
        f"the site says routed, but the provider looks for {_address(seen)} with ARP",
        why=f"{seen.evidence}; with method routed nobody answers, so nothing ever arrives",
        todo="set external.method: proxy in the site; or ask the provider to route "
        f"{look.site.external.block} to {look.host.address}",
    )


def _routed(look: Look, seen: MethodSeen) -> Finding:
    method = look.site.external.method
    if method is ExternalMethod.ROUTED:
        return ok(Subject.METHOD, f"routed fits: {seen.evidence}")
    return warning(
        Subject.METHOD,
        f"the site says {method}, but packets for {_address(seen)} are routed to this host",
        why=f"{seen.evidence}. Routed, the first and last address of a block can be used too, and "
        f"nothing has to be answered on the wire. {_CACHE.capitalize()}",
        todo="set external.method: routed in the site",
    )


def _either(look: Look, seen: MethodSeen) -> Finding:
    method = look.site.external.method
    if method is not ExternalMethod.ROUTED:
        return ok(Subject.METHOD, f"{method} works: {seen.evidence}, which this host answers for")
    return info(
        Subject.METHOD,
        f"packets for {_address(seen)} arrive, but this host answers ARP for that address",
        why=f"{seen.evidence}; they would come without a route too, so routed is not proven",
        todo=f"take the address and the proxy off: ip neigh show proxy; ip address; sysctl "
        f"net.ipv4.conf.{look.host.nic}.proxy_arp; wait five minutes and check again",
    )


def _nothing(look: Look, seen: MethodSeen) -> Finding:
    external = look.site.external
    what = external.block or f"{seen.targets[0]} and its like"
    if seen.knocks is None:
        return info(
            Subject.METHOD,
            f"method {external.method} cannot be proven from the host itself",
            why=f"nobody knocked at {_names(seen)} from outside while {seen.nic} was listened to, "
            "and what this host sends to them never leaves it",
            todo=_FROM_OUTSIDE,
        )
    if not seen.knocks.sent:
        return info(
            Subject.METHOD,
            f"method {external.method} could not be tried from here: {seen.knocks.error}",
            why=f"this machine cannot send to {_names(seen)}",
            todo=_FROM_OUTSIDE,
        )
    return warning(
        Subject.METHOD,
        f"nothing of {what} reaches this host: neither a packet nor an ARP request",
        why=f"{seen.knocks.text} were sent from here, while {seen.nic} was listened to; either the "
        "provider gives these addresses to another machine or to nobody, or something near here "
        "does not let them out",
        todo=f"ask the provider where {what} goes; external.method: private works without a public "
        "block",
    )


def _private(look: Look, seen: MethodSeen) -> Finding:
    block = look.site.external.block
    match seen.way:
        case Way.ON_WIRE:
            return warning(
                Subject.METHOD,
                f"the private block {block} is looked for on the wire",
                why=f"{seen.evidence}: a neighbour believes the block to be its own network, and "
                "would never send to this host what is for it",
                todo="set another external.block in the site, or correct that neighbour's prefix; "
                f"a route is enough: ip route add {block} via {look.host.address}",
            )
        case Way.ROUTED | Way.EITHER:
            return ok(Subject.METHOD, f"private, with a route to this host: {seen.evidence}")
        case _:
            return ok(
                Subject.METHOD,
                "private needs nothing of the provider; who is to reach floating IPs adds a route: "
                f"ip route add {block} via {look.host.address}",
            )


def bridge_rule(look: Look) -> Iterator[Finding]:
    """What method bridge needs of the card, of who configures it, and of the provider's switch."""
    method = look.site.external.method
    if method is not ExternalMethod.BRIDGE or not look.is_gateway:
        yield ok(Subject.BRIDGE, f"{look.host.nic} joins none (method {method})")
        return
    if look.uplink == UPLINK_BRIDGE:
        yield ok(Subject.BRIDGE, f"{look.host.nic} is a port of {UPLINK_BRIDGE}")
        return
    found = [*_bridge_card(look), *_bridge_address(look), *_bridge_manager(look)]
    yield from found
    yield from _mac_filter(look)
    if not found:
        yield ok(Subject.BRIDGE, f"{look.host.nic} can join a bridge")


_ONE_MASTER = "a card can be a port of one thing only, and its addresses are on that"


def _bridge_card(look: Look) -> Iterator[Finding]:
    link = look.seen.network.link(look.host.nic)
    if link is None:
        return
    if link.master:
        yield error(
            Subject.BRIDGE,
            f"{link.name} is a port of {link.master} already",
            why=_ONE_MASTER,
            todo="set external.method: proxy in the site, which leaves the card as it is; or take "
            f"it out first: ip link set {link.name} nomaster",
        )
    if link.kind == "bridge":
        yield error(
            Subject.BRIDGE,
            f"{link.name} is a bridge itself",
            why="the kernel makes no bridge a port of another (ip-link(8))",
            todo="set external.method: proxy in the site, which works on a bridge as on a card",
        )
    elif link.kind in {"macvlan", "ipvlan", "tun", "wireguard"}:
        yield error(
            Subject.BRIDGE,
            f"{link.name} is of kind {link.kind}, which passes on no frames of other MACs",
            why="OVN's answers leave with a MAC of its own",
            todo="set external.method: proxy in the site",
        )
    elif link.kind in {"bond", "vlan"}:
        yield info(
            Subject.BRIDGE,
            f"{link.name} is a {link.kind}, not a card",
            why="it joins the bridge as a whole; the cards below it stay as they are",
        )


def _bridge_address(look: Look) -> Iterator[Finding]:
    link = look.seen.network.link(look.host.nic)
    leased = [item for item in link.addresses if item.dynamic] if link is not None else []
    if leased:
        yield error(
            Subject.BRIDGE,
            f"{leased[0].interface} on {look.host.nic} is leased (DHCP)",
            why="it moves to the bridge with what is left of its lease; the DHCP client stays on "
            "the card, where no answer arrives any more, and the host loses its address when "
            "the lease ends",
            todo="make the address static first, or set external.method: proxy, which moves "
            "nothing",
        )


def _bridge_manager(look: Look) -> Iterator[Finding]:
    nic = look.host.nic
    units = look.seen.system.units
    if "NetworkManager.service" in units and units["NetworkManager.service"].active:
        yield warning(
            Subject.BRIDGE,
            f"NetworkManager may manage {nic}",
            why=f"it puts the address back on {nic}, and takes it out of the bridge, whenever the "
            "connection is activated again",
            todo="have it leave the card alone: in /etc/NetworkManager/conf.d/solostack.conf "
            f"[keyfile] unmanaged-devices=interface-name:{nic};interface-name:{UPLINK_BRIDGE}, "
            "with the address in /etc/network/interfaces; or set external.method: proxy",
        )
    networkd = "systemd-networkd.service" in units and units["systemd-networkd.service"].active
    yield from _by_mac(look) if networkd else ()
    for file in look.seen.network.networkd_files if networkd else ():
        # The first that matches is the one that is used, see systemd.network(5).
        if not matched(file, (nic,)):
            continue
        yield info(
            Subject.BRIDGE,
            f"systemd-networkd manages {nic} ({file.path})",
            why=f"when it is restarted or {nic} comes up again it puts address and routes back on "
            f"{nic}; solostack-watch.service moves them to {UPLINK_BRIDGE} again",
        )
        return


def _by_mac(look: Look) -> Iterator[Finding]:
    link = look.seen.network.link(look.host.nic)
    for file in look.seen.network.networkd_files:
        taken = matched(file, (UPLINK_BRIDGE,)) if file.names else not file.kinds
        if link is not None and link.mac in file.macs and taken:
            yield warning(
                Subject.BRIDGE,
                f"{file.path} takes whatever has the MAC {link.mac}, and {UPLINK_BRIDGE} will",
                why="systemd-networkd would configure the card and the bridge alike, with the same "
                "addresses and routes on both",
                todo=f"add Name={link.name} to its [Match]",
            )


def _mac_filter(look: Look) -> Iterator[Finding]:
    seen = look.seen.method
    probe = seen.filter_probe if seen is not None else None
    if probe is None:
        return
    tried = f"ARP for {probe.gateway} from {look.host.nic}'s MAC and from another one"
    if not probe.own:
        yield info(
            Subject.BRIDGE,
            f"whether the provider drops frames from other MACs is not known ({tried}: the gateway "
            "answered neither)",
            why="where it does, method bridge cannot work",
            todo="ask the provider, or set external.method: proxy, which needs no other MAC",
        )
    elif not probe.foreign:
        yield error(
            Subject.BRIDGE,
            "the provider drops frames from other MACs: bridge cannot work here",
            why=f"{tried}: {probe.own} answered the first and never the second; and some providers "
            "lock a server for it",
            todo="set external.method: proxy in the site",
        )
    else:
        yield ok(Subject.BRIDGE, f"frames from other MACs get through ({tried}: both answered)")


def _address(seen: MethodSeen) -> str:
    proof: Heard | None = seen.proof
    return str(proof.address) if proof is not None else _names(seen)


def _names(seen: MethodSeen) -> str:
    return ", ".join(str(target) for target in seen.targets)
