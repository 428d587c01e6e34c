"""Outputs of ip, ss, nft and virsh, and networkd's files, to values. Pure."""

from __future__ import annotations

import configparser
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from solostack.host.probe_observation import (
    Address,
    Chain,
    Domain,
    Libvirt,
    LibvirtNetwork,
    Link,
    Listener,
    NetworkFile,
    Route,
)

IPv4_FAMILIES = frozenset({"ip", "inet"})
MEMORY_UNITS_KIB = {"b": 1 / 1024, "bytes": 1 / 1024, "KiB": 1, "MiB": 1024, "GiB": 1024 * 1024}
_OWNER = re.compile(r'\(\("([^"]+)"')


def parse_links(text: str) -> tuple[Link, ...]:
    """Read ``ip -j -d addr show``."""
    return tuple(
        Link(
            name=entry["ifname"],
            kind=entry.get("linkinfo", {}).get("info_kind", ""),
            mac=entry.get("address", ""),
            mtu=entry.get("mtu", 0),
            carrier="LOWER_UP" in entry.get("flags", ()),
            master=entry.get("master", ""),
            addresses=tuple(
                Address(
                    interface=ipaddress.IPv4Interface(f"{item['local']}/{item['prefixlen']}"),
                    dynamic=bool(item.get("dynamic")),
                )
                for item in entry.get("addr_info", ())
                if item.get("family") == "inet"
            ),
        )
        for entry in _json_list(text)
    )


def parse_routes(text: str) -> tuple[Route, ...]:
    """Read ``ip -j route show``; the order is the kernel's, preferred defaults first."""
    routes = []
    for entry in _json_list(text):
        destination = entry["dst"].replace("default", "0.0.0.0/0")
        # With several next hops the first one speaks for the route.
        way = entry.get("nexthops", [entry])[0]
        gateway = ipaddress.IPv4Address(way["gateway"]) if "gateway" in way else None
        network = ipaddress.IPv4Network(destination)
        routes.append(Route(destination=network, device=way.get("dev", ""), gateway=gateway))
    return tuple(routes)


def parse_listeners(text: str, protocol: str) -> tuple[Listener, ...]:
    """Read ``ss -H -l -n -p`` of one protocol."""
    listeners = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 5:
            continue
        address, _, port = fields[3].rpartition(":")
        if not port.isdigit():
            continue
        owner = _OWNER.search(line)
        address, _, device = address.partition("%")
        listeners.append(
            Listener(
                protocol=protocol,
                address=address.strip("[]"),
                device=device.strip("]"),
                port=int(port),
                process=owner[1] if owner else "",
            )
        )
    return tuple(listeners)


def parse_chains(text: str) -> tuple[Chain, ...]:
    """Read ``nft -j list ruleset``: the base chains that see IPv4."""
    entries = json.loads(text or "{}").get("nftables", [])
    names: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        if rule := entry.get("rule"):
            found = names.setdefault((rule["family"], rule["table"]), set())
            found.update(_strings(rule.get("expr", [])))
    chains = (entry["chain"] for entry in entries if "chain" in entry)
    return tuple(
        Chain(
            family=chain["family"],
            table=chain["table"],
            name=chain["name"],
            hook=chain["hook"],
            policy=chain.get("policy", "accept"),
            names=frozenset(names.get((chain["family"], chain["table"]), ())),
        )
        for chain in chains
        if "hook" in chain and chain["family"] in IPv4_FAMILIES
    )


def parse_libvirt(raw: Mapping[str, Any] | None) -> Libvirt:
    """Read what the script collected over virsh; None where there is no virsh."""
    if raw is None:
        return Libvirt(installed=False, error="", networks=(), domains=())
    return Libvirt(
        installed=True,
        error=raw["error"],
        networks=tuple(_network(item) for item in raw["networks"] if item["xml"]),
        domains=tuple(_domain(item) for item in raw["domains"] if item["xml"]),
    )


def parse_network_file(path: str, text: str) -> NetworkFile:
    """Read the [Match] of a systemd.network(5) file."""
    # Keys may repeat in these files; the last one is what is kept, which is enough to warn.
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#", ";")
    )
    try:
        parser.read_string(text)
    except configparser.Error:
        return NetworkFile(path=path, names=(), kinds=())
    match = parser["Match"] if parser.has_section("Match") else {}
    kinds = f"{match.get('type', '')} {match.get('kind', '')}"
    return NetworkFile(
        path=path,
        names=tuple(match.get("name", "").split()),
        kinds=tuple(kinds.split()),
        macs=tuple(match.get("macaddress", "").lower().replace("-", ":").split()),
    )


def _json_list(text: str) -> list[dict[str, Any]]:
    # ip prints [{},{}] with empty objects for what a filter left out, and nothing for nothing.
    return [entry for entry in json.loads(text or "[]") if entry]


def _strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)
        case _:
            return


def _network(item: Mapping[str, Any]) -> LibvirtNetwork:
    root = ElementTree.fromstring(item["xml"])  # noqa: S314 (libvirt's own output)
    bridge = root.find("bridge")
    forward = root.find("forward")
    return LibvirtNetwork(
        name=item["name"],
        active=item["active"],
        bridge=bridge.get("name", "") if bridge is not None else "",
        mode=forward.get("mode", "nat") if forward is not None else "",
        prefixes=tuple(_prefixes(root)),
    )


def _prefixes(root: ElementTree.Element) -> Iterator[ipaddress.IPv4Network]:
    for element in (*root.findall("ip"), *root.findall("route")):
        if element.get("family", "ipv4") != "ipv4":
            continue
        address = element.get("address", "")
        mask = element.get("netmask") or element.get("prefix") or "32"
        yield ipaddress.IPv4Interface(f"{address}/{mask}").network


def _domain(item: Mapping[str, Any]) -> Domain:
    root = ElementTree.fromstring(item["xml"])  # noqa: S314 (libvirt's own output)
    memory = root.find("memory")
    kib = 0.0
    if memory is not None:
        kib = float(memory.text or 0) * MEMORY_UNITS_KIB.get(memory.get("unit", "KiB"), 1)
    return Domain(name=item["name"], running=item["running"], memory_mib=int(kib // 1024))
