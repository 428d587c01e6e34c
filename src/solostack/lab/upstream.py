"""The simulated provider: one namespace with a wire, a router and, for some, a filter.

What each kind of provider does is data (addresses, routes and a filter); ensure_upstream makes it
so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from solostack.doors.process import Executor, PrefixExecutor
from solostack.errors import CommandError, LabError
from solostack.lab.processes import NAMESPACES
from solostack.lab.spec import (
    BEYOND,
    BLOCK,
    GATEWAY,
    SCATTERED,
    WIRE,
    WIRE_BLOCK,
    WIRE_ROUTER,
    LabSpec,
    Provider,
    upstream_namespace,
)

BRIDGE = "lan"
FILTER = ("bridge", "provider")
"""Family and name of the table that is the filtering switch."""


def enter_upstream(lab: str) -> tuple[str, ...]:
    """Return the command prefix that runs the rest in a lab's upstream namespace.

    nsenter and not ``ip netns exec``: only the network changes, mounts stay the caller's.
    """
    return ("nsenter", f"--net={NAMESPACES / upstream_namespace(lab)}", "--")


def render_addresses(spec: LabSpec) -> tuple[tuple[str, ...], ...]:
    """Build the arguments of ``ip address replace``: what the provider's router has itself.

    An address with a prefix is a subnet of the wire: the kernel then looks for the rest with ARP.
    """
    addresses = [(f"{BEYOND}/32", "dev", "lo"), (f"{GATEWAY}/{WIRE.prefixlen}", "dev", BRIDGE)]
    if spec.provider in {Provider.ON_LINK, Provider.MAC_FILTER}:
        addresses.append((f"{WIRE_ROUTER}/{WIRE_BLOCK.prefixlen}", "dev", BRIDGE))
    return tuple(addresses)


def render_routes(spec: LabSpec) -> tuple[tuple[str, ...], ...]:
    """Build the arguments of ``ip route replace`` by which the provider finds public addresses."""
    wire = ("dev", BRIDGE)
    match spec.provider:
        case Provider.ROUTED:
            return ((str(BLOCK), "via", str(spec.hosts[0].address), *wire),)
        case Provider.SCATTERED:
            return tuple((f"{address}/32", *wire) for address in SCATTERED)
        case Provider.ON_LINK | Provider.MAC_FILTER | Provider.SINGLE:
            return ()


def render_filter(spec: LabSpec) -> str:
    """Build the nftables rules of the provider's switch.

    They may be loaded again, and the counters then go on counting: an existing counter is left as
    it is, and only the chain is emptied first.
    """
    if spec.provider is not Provider.MAC_FILTER:
        return ""
    rules = "".join(
        f'        iifname "{host.name}" ether saddr != {host.mac} counter name {host.name} drop\n'
        for host in spec.hosts
    )
    counters = "".join(f"    counter {host.name} {{ }}\n" for host in spec.hosts)
    table = f"table {' '.join(FILTER)}"
    return (
        f"{table} {{\n{counters}    chain switch {{\n"
        "        type filter hook prerouting priority -300; policy accept;\n    }\n}\n"
        f"flush chain {' '.join(FILTER)} switch\n"
        f"{table} {{\n    chain switch {{\n{rules}    }}\n}}\n"
    )


def read_violations(upstream: Executor) -> Mapping[str, int]:
    """Return how many foreign frames the switch has dropped, by host; empty without a filter."""
    argv = ("nft", "--json", "list", "counters", "table", *FILTER)
    done = upstream.run(argv, check=False)
    return parse_violations(done.text) if done.status == 0 else {}


def parse_violations(text: str) -> Mapping[str, int]:
    """Read what ``nft --json list counters`` prints (libnftables-json(5)) as packets by name."""
    items = json.loads(text)["nftables"]
    counters = (item["counter"] for item in items if "counter" in item)
    return {str(counter["name"]): int(counter["packets"]) for counter in counters}


def ensure_upstream(spec: LabSpec, local: Executor) -> None:
    """Make the provider's namespace, wire and routes, or what is missing of them."""
    namespace = upstream_namespace(spec.name)
    try:
        inside = _ensure_namespace(namespace, spec.name, local)
        if inside.run(("ip", "link", "show", BRIDGE), check=False).status != 0:
            inside.run(("ip", "link", "add", BRIDGE, "type", "bridge"))
        for argv in _render_commands(spec):
            inside.run(argv)
        rules = render_filter(spec)
        if rules:
            inside.run(("nft", "-f", "-"), stdin=rules.encode())
    except CommandError as error:
        raise LabError(
            f"lab {spec.name}: the provider's namespace {namespace} cannot be set up",
            details=(error.message, *error.details),
            hint=f"start afresh: solostack lab down --name {spec.name}",
        ) from error


def _ensure_namespace(namespace: str, lab: str, local: Executor) -> Executor:
    inside = PrefixExecutor(local, enter_upstream(lab), "upstream")
    if inside.run(("true",), check=False).status != 0:
        # A crash inside `ip netns add` leaves a file that is no namespace.
        local.run(("ip", "netns", "delete", namespace), check=False)
        local.run(("ip", "netns", "add", namespace))
    return inside


def _render_commands(spec: LabSpec) -> tuple[tuple[str, ...], ...]:
    return (
        ("sysctl", "--quiet", "-w", "net.ipv4.ip_forward=1"),
        ("ip", "link", "set", "lo", "up"),
        *(("ip", "address", "replace", *address) for address in render_addresses(spec)),
        ("ip", "link", "set", BRIDGE, "up"),
        *(("ip", "route", "replace", *route) for route in render_routes(spec)),
    )
