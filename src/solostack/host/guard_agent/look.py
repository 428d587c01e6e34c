"""Looks at the kernel's network: links, addresses, routes, rules, neighbours, settings.

The picture is plain data that goes into JSON. What moves by itself (lifetimes, counters, carrier)
is left out of it, so that two pictures differ only where somebody changed something.
"""

from __future__ import annotations

import glob
import json
import os
import re

from .tools import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FAMILIES = ("4", "6")
# ip-route(8) shows these beside what was set; "expires" and "error" are the kernel's own too.
_VOLATILE = re.compile(
    r"\b(?:linkdown|dead|pervasive|offload_failed|offload|rt_offload|rt_trap|trap|cache|"
    r"expires \S+|error -?\d+|users \d+|age \S+)(?=\s|$)"
)
_NOT_SETTINGS = {"stable_secret", "mtu", "flush"}
_NEIGHBOUR_SETTINGS = ("proxy_delay", "proxy_qlen", "mcast_solicit", "ucast_solicit")
_SINGLE_SETTINGS = (
    "ipv4/ip_forward",
    "ipv4/ip_nonlocal_bind",
    "ipv4/icmp_echo_ignore_all",
    "ipv6/icmp/echo_ignore_all",
)
_MARKS = {"PERMANENT", "router", "extern_learn"}
PROC = "/proc/sys/net"
FOREVER = 0xFFFFFFFF


def look() -> dict[str, Any]:
    """Return the picture of the network of this namespace, nftables left out."""
    entries = _json(("ip", "-j", "-d", "address", "show"))
    links = {entry["ifname"]: _link(entry) for entry in entries}
    return {
        "links": links,
        "addresses": {entry["ifname"]: _addresses(entry) for entry in entries},
        "routes": {family: routes(family) for family in FAMILIES},
        "rules": {family: _rules(family) for family in FAMILIES},
        "neighbours": {family: _neighbours(family) for family in FAMILIES},
        "settings": settings(tuple(links)),
    }


def related(links: dict[str, Any], nic: str) -> tuple[str, ...]:
    """Return the NIC, what it is a port of, what it is made of, and the loopback interface."""
    found = [nic]
    for name in found:
        link = links.get(name, {})
        found += [
            other
            for other in (link.get("master"), link.get("parent"))
            if other and other not in found
        ]
    ports = (name for name, link in links.items() if link["master"] == nic)
    return (*found, *(name for name in ports if name not in found), "lo")


def routes(family: str) -> list[str]:
    """Return the routes of all tables, each as one line that ``ip route add`` takes.

    What the kernel makes of IPv6 addresses by itself is left out; it comes back with them.
    """
    result = run(("ip", f"-{family}", "-o", "route", "show", "table", "all"))
    lines = [normal_route(line) for line in result.out.splitlines() if line.strip()]
    return [line for line in lines if not (family == "6" and " proto kernel" in line)]


def normal_route(line: str) -> str:
    """Return a line of ``ip -o route show`` without what moves by itself."""
    return " ".join(_VOLATILE.sub("", line.replace("\\", " ")).split())


def device_of(line: str) -> str:
    """Return the device that a route or a neighbour names, "" when it names none."""
    words = line.split()
    return words[words.index("dev") + 1] if "dev" in words[:-1] else ""


def settings(devices: tuple[str, ...]) -> dict[str, str]:
    """Return the network's sysctls by their path below /proc/sys/net."""
    paths = list(_SINGLE_SETTINGS)
    for family in FAMILIES:
        for device in ("all", "default", *devices):
            folder = f"ipv{family}/conf/{device}"
            paths += [f"{folder}/{name}" for name in _names(f"{PROC}/{folder}")]
            folder = f"ipv{family}/neigh/{device}"
            paths += [f"{folder}/{name}" for name in _NEIGHBOUR_SETTINGS]
    paths += [f"bridge/{name}" for name in _names(f"{PROC}/bridge")]
    found = {}
    for path in paths:
        value = read_setting(path)
        if value is not None:
            found[path] = value
    return found


def read_setting(path: str) -> str | None:
    """Return a sysctl's value, None when there is none or it cannot be read."""
    try:
        with open(f"{PROC}/{path}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def expand(patterns: list[str]) -> list[str]:
    """Return the paths of patterns; a plain path stays even when there is no such file."""
    found: list[str] = []
    for pattern in patterns:
        found += sorted(glob.glob(pattern)) if "*" in pattern else [pattern]
    return [path for path in dict.fromkeys(found) if not os.path.isdir(path)]


def _names(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name not in _NOT_SETTINGS)
    except OSError:
        return []


def _json(argv: tuple[str, ...]) -> list[dict[str, Any]]:
    # ip prints empty objects for what a filter left out, and nothing at all for nothing.
    return [entry for entry in json.loads(run(argv).out or "[]") if entry]


def _link(entry: dict[str, Any]) -> dict[str, Any]:
    flags = entry.get("flags", ())
    return {
        "index": entry["ifindex"],
        "kind": entry.get("linkinfo", {}).get("info_kind", ""),
        "mac": entry.get("address", ""),
        "mtu": entry.get("mtu", 0),
        "master": entry.get("master", ""),
        "parent": entry.get("link") or "",
        "up": "UP" in flags,
        "arp": "NOARP" not in flags,
    }


def _addresses(entry: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for item in entry.get("addr_info", ()):
        # Privacy addresses (RFC 8981) come and go as the kernel likes.
        if "local" not in item or item.get("temporary"):
            continue
        lifetimes = [item.get(key, FOREVER) for key in _LIFETIMES]
        found.append(
            {
                "family": "4" if item["family"] == "inet" else "6",
                "local": item["local"],
                "prefix": item["prefixlen"],
                "peer": item.get("address", ""),
                "broadcast": item.get("broadcast", ""),
                "scope": str(item.get("scope", "global")),
                "label": item.get("label", ""),
                "noprefixroute": bool(item.get("noprefixroute")),
                "metric": item.get("metric", 0),
                "lifetimes": None if FOREVER in lifetimes else lifetimes,
            }
        )
    return found


_LIFETIMES = ("valid_life_time", "preferred_life_time")


def _rules(family: str) -> list[str]:
    result = run(("ip", f"-{family}", "rule", "show"))
    lines = (line.replace("[detached]", "") for line in result.out.splitlines())
    return [" ".join(line.replace("[l3mdev-table]", "l3mdev").split()) for line in lines]


def _neighbours(family: str) -> list[str]:
    """Return permanent neighbours and neighbour proxies, as ``ip neigh add`` takes them."""
    found = []
    for line in run(("ip", f"-{family}", "neigh", "show", "nud", "permanent")).out.splitlines():
        words = [word for word in line.split() if word not in _MARKS]
        if "lladdr" in words:
            found.append(" ".join((*words, "nud", "permanent")))
    for line in run(("ip", f"-{family}", "neigh", "show", "proxy")).out.splitlines():
        words = [word for word in line.split() if word != "proxy"]
        found.append(" ".join(("proxy", *words)))
    return found
