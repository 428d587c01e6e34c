"""Rules about packet filters and forwarding: what other firewalls would break. Pure.

In nftables a drop is final, an accept is final only for its own chain (nft(8), "verdict
statements"): no rule of ours can let through what a chain of somebody else drops.
"""

from __future__ import annotations

from collections.abc import Iterator

from solostack.host.check_model import Finding, Look, Subject, error, info, ok, warning
from solostack.host.check_network import USERSPACE_BRIDGE
from solostack.host.network import MEMBER
from solostack.host.probe_observation import Chain
from solostack.host.uplink import UPLINK_BRIDGE

OWN_TABLE = "solostack"
_BLOCKS = "floating IPs and control nodes would not be reached, and no rule elsewhere can change it"


def firewall_rule(look: Look) -> Iterator[Finding]:
    """Chains that drop what they do not know, and firewalls that rewrite the rules."""
    found = [*_managers(look), *_dropping(look), *_legacy(look)]
    if look.seen.network.chains is None:
        yield info(
            Subject.FIREWALL,
            "the nftables rules cannot be read",
            why="a chain that drops forwarded packets would make floating IPs unreachable",
            todo="install nftables and check again: apt install nftables",
        )
    elif not found:
        count = len(look.seen.network.chains)
        yield ok(Subject.FIREWALL, f"no other firewall manager, none of {count} chains drops all")
    yield from found


def _managers(look: Look) -> Iterator[Finding]:
    units = look.seen.system.units
    nic, external = look.coming_uplink, look.site.external.bridge
    members = _members(look)
    if _active(look, "ufw.service"):
        yield warning(
            Subject.FIREWALL,
            "ufw is active",
            why="it drops forwarded packets unless told otherwise, and Geneve on the data network",
            todo=f"ufw route allow in on {nic} out on {external}; "
            f"ufw route allow in on {external}; "
            + "".join(f"ufw allow in on {one}; ufw route allow in on {one}; " for one in members)
            + "or: ufw disable",
        )
    if _active(look, "firewalld.service"):
        yield warning(
            Subject.FIREWALL,
            "firewalld is active",
            why="interfaces it does not know fall into its default zone, which rejects what is "
            "forwarded between zones",
            todo=_firewalld((external, *members)),
        )
    nftables = units.get("nftables.service")
    if nftables is not None and nftables.enabled and look.seen.network.nftables_flushes:
        yield warning(
            Subject.FIREWALL,
            "nftables.service is enabled and /etc/nftables.conf begins with flush ruleset",
            why="each reload or stop of it removes the rules of libvirt, Docker and solostack; "
            "solostack's come back with it, the others' do not",
            todo="in /etc/nftables.conf flush your own tables only (flush table inet filter)",
        )
    if _active(look, "docker.service"):
        yield warning(
            Subject.FIREWALL,
            "Docker is active",
            why="it sets the policy of the forward chain to drop when it switches on forwarding, "
            "and switches on bridge netfilter",
            todo='put "ip-forward-no-drop": true into /etc/docker/daemon.json (Docker 28 or '
            f"newer), or: iptables -I DOCKER-USER -i {nic} -o {external} -j ACCEPT; "
            f"iptables -I DOCKER-USER -i {external} -j ACCEPT"
            + "".join(
                f"; iptables -I DOCKER-USER -i {one} -j ACCEPT; iptables -I DOCKER-USER -o {one} "
                "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
                for one in members
            ),
        )


def _members(look: Look) -> tuple[str, ...]:
    """Return the interfaces the data network's packets come in by, as far as is known."""
    if look.plan is None:
        return (look.site.data.bridge, MEMBER, USERSPACE_BRIDGE)
    kernel = look.plan.host(look.host.name).kernel_datapath
    return (look.site.data.bridge, MEMBER if kernel else USERSPACE_BRIDGE)


def _firewalld(interfaces: tuple[str, ...]) -> str:
    """Return the commands; a policy, as a zone's own target is not asked for what leaves by it."""
    permanent = "firewall-cmd --permanent"
    policy = f"{permanent} --policy=solostack"
    return "; ".join(
        (
            *(f"{permanent} --zone=trusted --add-interface={each}" for each in interfaces),
            f"{permanent} --new-policy=solostack",
            f"{policy} --add-ingress-zone=ANY",
            f"{policy} --add-egress-zone=trusted",
            f"{policy} --set-target=ACCEPT",
            "firewall-cmd --reload",
            "or: systemctl disable --now firewalld",
        )
    )


def _dropping(look: Look) -> Iterator[Finding]:
    for chain in look.seen.network.chains or ():
        if chain.policy != "drop" or chain.table == OWN_TABLE:
            continue
        if chain.hook == "forward":
            yield _forward_finding(look, chain)
        elif chain.hook == "input":
            yield from _input_finding(look, chain)


def _forward_finding(look: Look, chain: Chain) -> Finding:
    nic, external = look.coming_uplink, look.site.external.bridge
    what = f"chain {chain.text} drops forwarded packets it has no rule for"
    if external in chain.names:
        return info(
            Subject.FIREWALL,
            f"{what}; it has rules for {external}",
            why=_BLOCKS + " unless those rules accept them",
            todo=f"see that they accept both ways: nft list table {chain.family} {chain.table}",
        )
    return error(
        Subject.FIREWALL,
        what,
        why=_BLOCKS,
        todo=f"{_accept(chain, external)}; {_accept(chain, nic, external)}; "
        + "".join(
            f"{_accept(chain, one)}; {_accept(chain, nic, one)}; "
            for one in _members(look)[1:]
            if look.site.egress
        )
        + "keep these rules in the firewall's own configuration",
    )


def _accept(chain: Chain, incoming: str, outgoing: str = "") -> str:
    # Chains in capitals are iptables-nft's: nft's rules among them would confuse iptables.
    if chain.family == "ip" and chain.name.isupper():
        out = f" -o {outgoing}" if outgoing else ""
        return f"iptables -t {chain.table} -I {chain.name} -i {incoming}{out} -j ACCEPT"
    out = f" oifname {outgoing}" if outgoing else ""
    rule = f"nft insert rule {chain.family} {chain.table} {chain.name}"
    return f"{rule} iifname {incoming}{out} accept"


def _input_finding(look: Look, chain: Chain) -> Iterator[Finding]:
    members = (look.site.data.bridge, MEMBER, USERSPACE_BRIDGE)
    if chain.names.isdisjoint(members):
        yield warning(
            Subject.FIREWALL,
            f"chain {chain.text} drops packets to the host it has no rule for",
            why="nodes and other hosts send Geneve (UDP 6081), consoles (TCP 5900-5999) and "
            "migrations to the host's data address",
            todo="; ".join(_accept(chain, name) for name in members)
            + "; keep these rules in the firewall's own configuration",
        )


def _legacy(look: Look) -> Iterator[Finding]:
    tables = look.seen.network.legacy_tables
    if tables:
        yield warning(
            Subject.FIREWALL,
            f"rules of the old iptables are in use (tables {', '.join(tables)})",
            why="nftables does not show them, and both sets of rules must let a packet through",
            todo="look at them: iptables-legacy-save; move them: update-alternatives --set "
            "iptables /usr/sbin/iptables-nft",
        )


def bridge_netfilter_rule(look: Look) -> Iterator[Finding]:
    """With br_netfilter, packets within a bridge pass through the IP firewall as well."""
    yield from _bridged_card(look)
    if not look.seen.kernel.sysctls.get("bridge.bridge-nf-call-iptables", 0):
        yield ok(Subject.BRIDGE_NETFILTER, "bridged packets do not pass through the IP firewall")
        return
    bridges = [look.site.data.bridge]
    if look.coming_uplink == UPLINK_BRIDGE:
        bridges += [look.site.external.bridge, UPLINK_BRIDGE]
    what = "bridged packets pass through the IP firewall (bridge-nf-call-iptables is 1)"
    todo = (
        "sysctl net.bridge.bridge-nf-call-iptables=0, and keep it in /etc/sysctl.d; or accept "
        "them: " + "; ".join(f"iifname {name} oifname {name} accept" for name in bridges)
    )
    dropping = [
        chain.text
        for chain in look.seen.network.chains or ()
        if chain.hook == "forward"
        and chain.policy == "drop"
        and chain.table != OWN_TABLE
        and not chain.names.issuperset(bridges)
    ]
    if dropping:
        yield error(
            Subject.BRIDGE_NETFILTER,
            f"{what} and {dropping[0]} drops them",
            why="nodes on the same bridge could not talk to each other: no API, no tunnels",
            todo=todo,
        )
    else:
        yield info(
            Subject.BRIDGE_NETFILTER,
            what,
            why="a forward chain that drops would cut the nodes off from each other",
            todo=todo,
        )


def _bridged_card(look: Look) -> Iterator[Finding]:
    """A card that is a bridge of somebody: its frames meet the rules about the card.

    br_netfilter shows them to prerouting as arrived by the bridge itself (br_nf_pre_routing).
    """
    link = look.seen.network.link(look.host.nic)
    ports = [each.name for each in look.seen.network.links if each.master == look.host.nic]
    if link is None or link.kind != "bridge" or len(ports) < 2:
        return
    if look.seen.kernel.sysctls.get("bridge.bridge-nf-call-iptables", 0):
        yield error(
            Subject.BRIDGE_NETFILTER,
            f"{link.name} is a bridge ({', '.join(sorted(ports))}), and its packets pass through "
            "the IP firewall (bridge-nf-call-iptables is 1)",
            why="the firewall drops what arrives by the card for addresses that are not ours; "
            f"packets from and to other machines on {link.name} would be dropped with it",
            todo="sysctl net.bridge.bridge-nf-call-iptables=0, and keep it in /etc/sysctl.d",
        )


def sysctl_rule(look: Look) -> Iterator[Finding]:
    """Forwarding, reverse path filter and proxy ARP."""
    settings = look.seen.kernel.sysctls
    nic = look.host.nic
    if settings.get("ipv4.ip_forward"):
        yield ok(Subject.SYSCTL, "the host forwards packets already")
    else:
        yield info(
            Subject.SYSCTL,
            "the host does not forward packets yet",
            why="it will route between its NIC and the cloud: up sets net.ipv4.ip_forward=1",
        )
    # The kernel takes the larger of the two, see ip-sysctl.rst, rp_filter.
    strict = max(_setting(look, "all", "rp_filter"), _setting(look, nic, "rp_filter")) == 1
    if strict and any(
        route.device not in {nic, look.uplink} for route in look.seen.network.default_routes
    ):
        yield warning(
            Subject.SYSCTL,
            f"reverse path filtering is strict on {nic}, and there is another default route",
            why="packets whose answer would leave by the other way are dropped silently",
            todo=f"sysctl net.ipv4.conf.{nic}.rp_filter=2",
        )
    else:
        yield ok(Subject.SYSCTL, "reverse path filtering fits")
    cards = dict.fromkeys(("all", nic, look.uplink))
    if any(_setting(look, name, "proxy_arp") for name in cards):
        yield warning(
            Subject.SYSCTL,
            f"proxy ARP is on for {nic}",
            why="the host then answers on the wire for every address it can route, the cloud's "
            "private networks with them; providers lock servers for that",
            todo=f"sysctl net.ipv4.conf.all.proxy_arp=0 net.ipv4.conf.{nic}.proxy_arp=0",
        )

    yield from _arp_ignore(look)


def _arp_ignore(look: Look) -> Iterator[Finding]:
    """Settings that keep the host from answering for its own address (ip-sysctl.rst)."""
    link = look.seen.network.link(look.uplink)
    value = max(_setting(look, "all", "arp_ignore"), _setting(look, look.uplink, "arp_ignore"))
    mine = [
        item
        for item in (link.addresses if link is not None else ())
        if item.interface.ip == look.host.address
    ]
    alone = bool(mine) and all(item.interface.network.prefixlen == 32 for item in mine)
    todo = f"sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.{look.uplink}.arp_ignore=1, and "
    todo += "keep it in /etc/sysctl.d"
    if value == 8:
        yield error(
            Subject.SYSCTL,
            f"arp_ignore is 8 on {look.uplink}: the host answers no ARP at all",
            why="when the gateway forgets its MAC, the host is gone; its proxies still answer",
            todo=todo,
        )
    elif value == 2 and alone:
        yield error(
            Subject.SYSCTL,
            f"arp_ignore is 2 on {look.uplink}, whose address is a /32",
            why="the host answers only who is in its own network, and a /32 is a network of one: "
            "when the gateway forgets its MAC, the host is gone",
            todo=todo,
        )


def _setting(look: Look, interface: str, key: str) -> int:
    return look.seen.kernel.sysctls.get(f"ipv4.conf.{interface}.{key}", 0)


def _active(look: Look, unit: str) -> bool:
    units = look.seen.system.units
    return unit in units and units[unit].active
