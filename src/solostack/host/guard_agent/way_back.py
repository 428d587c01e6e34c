"""Decides which commands lead from the network as it is to the network as it was. Pure.

Each function takes two pictures of look.look() and returns argument lists, to be run in order.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

from .look import device_of, related

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

Command = tuple[str, ...]
# Made again when they are gone and the NIC was a port of them; others need more than a name.
_CAN_BE_MADE = {"bridge", "dummy"}
_CAN_BE_REMOVED = {"bridge", "bond", "team", "vrf"}


def link_commands(before: dict[str, Any], now: dict[str, Any], nic: str) -> Iterator[Command]:
    """Names, masters, addresses, sizes and state of the NIC and of what it is made of."""
    was, are = before["links"], dict(now["links"])
    yield from _renames(was, are, nic)
    names = [name for name in related(was, nic) if name in was]
    for name in names:
        # All of them first: the NIC can join only a bridge that is there.
        if name not in are and was[name]["kind"] in _CAN_BE_MADE:
            yield ("ip", "link", "add", name, "type", was[name]["kind"])
            are[name] = {**was[name], "mac": "", "mtu": 0, "up": False, "master": ""}
    for name in names:
        if name in are:
            yield from _one_link(name, was[name], are[name], are)
    yield from _new_masters(was, are, nic)


def _one_link(
    name: str, old: dict[str, Any], new: dict[str, Any], are: dict[str, Any]
) -> Iterator[Command]:
    if new["master"] != old["master"]:
        if are.get(new["master"], {}).get("kind") == "openvswitch":
            yield ("ovs-vsctl", "--if-exists", "del-port", name)
        elif new["master"]:
            yield ("ip", "link", "set", name, "nomaster")
    if old["mac"] and new["mac"] != old["mac"] and name != "lo":
        yield ("ip", "link", "set", name, "address", old["mac"])
    if new["mtu"] != old["mtu"]:
        yield ("ip", "link", "set", name, "mtu", str(old["mtu"]))
    if new["arp"] != old["arp"]:
        yield ("ip", "link", "set", name, "arp", "on" if old["arp"] else "off")
    if old["master"] and new["master"] != old["master"]:
        yield ("ip", "link", "set", name, "master", old["master"])
    if new["up"] != old["up"]:
        yield ("ip", "link", "set", name, "up" if old["up"] else "down")


def _renames(was: dict[str, Any], are: dict[str, Any], nic: str) -> Iterator[Command]:
    """Give the NIC its name back; it is still the one with that index."""
    if nic in are or nic not in was:
        return
    for name, link in list(are.items()):
        same = link["index"] == was[nic]["index"] and link["kind"] == was[nic]["kind"]
        if same and name not in was:
            yield ("ip", "link", "set", name, "down")
            yield ("ip", "link", "set", name, "name", nic)
            are[nic] = {**are.pop(name), "up": False}


def _new_masters(was: dict[str, Any], are: dict[str, Any], nic: str) -> Iterator[Command]:
    """Remove bridges that were made meanwhile and took the NIC."""
    for name in related(was, nic):
        master = are.get(name, {}).get("master", "")
        if master and master not in was and are.get(master, {}).get("kind") in _CAN_BE_REMOVED:
            yield ("ip", "link", "delete", master)


def address_commands(before: dict[str, Any], now: dict[str, Any]) -> Iterator[Command]:
    """Addresses of all links that were there; on new links only what steals the NIC's networks.

    The order matters for IPv4: of two addresses of one network the first is the one that packets
    leave with. So everything behind the first difference is set again.
    """
    for device, old in before["addresses"].items():
        if device not in now["links"]:
            continue
        new = now["addresses"].get(device, [])
        yield from _in_order(device, _of(old, "4"), _of(new, "4"))
        yield from _in_any_order(device, _of(old, "6"), _of(new, "6"))
    taken = _networks(before)
    for device, new in now["addresses"].items():
        if device not in before["links"]:
            for address in new:
                if any(_network(address).overlaps(one) for one in taken.get(address["family"], ())):
                    yield _address("del", device, address)


def _in_order(
    device: str, old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> Iterator[Command]:
    same = 0
    while same < min(len(old), len(new)) and _same_address(old[same], new[same]):
        same += 1
    yield from (_address("del", device, one) for one in reversed(new[same:]))
    yield from (_address("add", device, one) for one in old[same:])


def _in_any_order(
    device: str, old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> Iterator[Command]:
    for one in new:
        if not any(_same_address(one, other) for other in old):
            yield _address("del", device, one)
    for one in old:
        if not any(_same_address(one, other) for other in new):
            yield _address("add", device, one)


def _of(addresses: list[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    return [one for one in addresses if one["family"] == family]


def _same_address(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return {**one, "lifetimes": None} == {**other, "lifetimes": None}


def _address(verb: str, device: str, one: dict[str, Any]) -> Command:
    """Build ``ip address add`` or ``del`` (ip-address(8))."""
    if one["peer"]:
        words = [one["local"], "peer", f"{one['peer']}/{one['prefix']}"]
    else:
        words = [f"{one['local']}/{one['prefix']}"]
    if verb == "add":
        if one["broadcast"]:
            words += ["broadcast", one["broadcast"]]
        if one["label"] and one["label"] != device:
            words += ["label", one["label"]]
        words += ["scope", one["scope"]]
        if one["metric"]:
            words += ["metric", str(one["metric"])]
        if one["lifetimes"]:
            valid, preferred = one["lifetimes"]
            words += ["valid_lft", str(valid), "preferred_lft", str(preferred)]
        if one["noprefixroute"]:
            words.append("noprefixroute")
    return ("ip", f"-{one['family']}", "address", verb, *words, "dev", device)


def _network(one: dict[str, Any]) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(f"{one['peer'] or one['local']}/{one['prefix']}", strict=False)


def _networks(
    before: dict[str, Any],
) -> dict[str, list[ipaddress.IPv4Network | ipaddress.IPv6Network]]:
    """Return the networks of all links of before by family, link-local ones left out."""
    found: dict[str, list[ipaddress.IPv4Network | ipaddress.IPv6Network]] = {}
    for addresses in before["addresses"].values():
        for one in addresses:
            if one["scope"] == "global":
                found.setdefault(one["family"], []).append(_network(one))
    return found


def route_commands(before: dict[str, Any], now: dict[str, Any], family: str) -> Iterator[Command]:
    """Routes of all tables: what was not there goes, what is missing comes, gateways last."""
    extra, missing = route_difference(before, now, family)
    for line in extra:
        yield ("ip", f"-{family}", "route", "del", *line.split())
    for line in sorted(missing, key=_depends):
        words = line.split()
        # Without an end an address of a router's advertisement would stay for ever.
        words += ["expires", "1800"] if " proto ra " in line and family == "6" else []
        yield ("ip", f"-{family}", "route", "append", *words)


def route_difference(
    before: dict[str, Any], now: dict[str, Any], family: str
) -> tuple[list[str], list[str]]:
    """Return the routes that are too many and those that are missing."""
    old, new = before["routes"][family], now["routes"][family]
    extra = [
        line
        for line in _minus(new, old)
        # A link that came meanwhile (a guest's, say) brings its own; the kernel removes them.
        if not (" proto kernel" in line and device_of(line) not in before["links"])
    ]
    missing = [line for line in _minus(old, new) if device_of(line) in {"", *now["links"]}]
    return extra, missing


def _depends(line: str) -> int:
    """Sort key: a gateway is accepted only when the way to it is there."""
    if "table local" in line:
        return 0
    return 2 if " via " in line or "nexthop" in line else 1


def rule_commands(before: dict[str, Any], now: dict[str, Any], family: str) -> Iterator[Command]:
    """Policy rules. Missing ones come first, or no route would be found in between."""
    old, new = before["rules"][family], now["rules"][family]
    yield from (_rule("add", family, line) for line in _minus(old, new))
    yield from (_rule("del", family, line) for line in _minus(new, old))


def _rule(verb: str, family: str, line: str) -> Command:
    preference, _, rest = line.partition(":")
    return ("ip", f"-{family}", "rule", verb, "pref", preference, *rest.split())


def neighbour_commands(
    before: dict[str, Any], now: dict[str, Any], family: str
) -> Iterator[Command]:
    """Permanent neighbours and neighbour proxies."""
    old, new = before["neighbours"][family], now["neighbours"][family]
    for line in _minus(new, old):
        if device_of(line) in before["links"]:
            yield ("ip", f"-{family}", "neigh", "del", *_without_state(line))
    for line in _minus(old, new):
        if device_of(line) in now["links"]:
            yield ("ip", f"-{family}", "neigh", "replace", *line.split())


def _without_state(line: str) -> list[str]:
    words = line.split()
    return words[: words.index("lladdr")] if "lladdr" in words else words


def setting_changes(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (path below /proc/sys/net, value) in an order in which none undoes another.

    ip_forward and conf/all write through to every link (ip-sysctl, "ip_forward"), so they come
    first and the links' own values after them.
    """
    wanted, have = before["settings"], now["settings"]
    differs = [path for path, value in wanted.items() if path in have and have[path] != value]
    if any(_writes_through(path) for path in differs):
        differs = [path for path in wanted if path in have and _is_switch(path)]
        differs += [path for path, value in wanted.items() if have.get(path, value) != value]
    return [(path, wanted[path]) for path in sorted(dict.fromkeys(differs), key=_weight)]


def _writes_through(path: str) -> bool:
    return path == "ipv4/ip_forward" or "/conf/all/" in path


def _is_switch(path: str) -> bool:
    names = ("forwarding", "disable_ipv6", "accept_redirects")
    return path == "ipv4/ip_forward" or ("/conf/" in path and path.endswith(names))


def _weight(path: str) -> tuple[int, str]:
    order = ("ipv4/ip_forward", "/conf/all/", "/conf/default/")
    return (next((n for n, part in enumerate(order) if part in path), len(order)), path)


def _minus(these: Iterable[str], those: Iterable[str]) -> list[str]:
    """Return these without those, each counted, in their order."""
    left = Counter(those)
    found = []
    for line in these:
        if left[line]:
            left[line] -= 1
        else:
            found.append(line)
    return found
