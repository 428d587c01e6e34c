"""How the outside reaches a host: the names and the wanted state of its uplink. Pure.

The uplink device is the host's NIC or, with method bridge, a bridge of ours that the NIC joined.
What brings it about is in uplink_script, what ships that in uplink_operations.
"""

from __future__ import annotations

import dataclasses
import ipaddress

from solostack.plan.model import HostPlan, Plan
from solostack.site.model import ExternalMethod

UPLINK_BRIDGE = "br-uplink"
"""The bridge of ours that the NIC joins with method bridge, on the gateway host only."""
UPLINK_LINK = "solo-uplink"
"""The end of the veth pair that is a port of UPLINK_BRIDGE."""
EXTERNAL_LINK = "solo-uplink-ext"
"""Its other end, a port of the external bridge."""

SCRIPT_PATH = "/usr/local/lib/solostack/uplink"
STATE_PATH = "/var/lib/solostack/uplink.state"
"""What the NIC had when it joined UPLINK_BRIDGE; there while it is a port of it."""
UNIT = "solostack-uplink.service"
WATCH_UNIT = "solostack-watch.service"

ROUTE_PROTOCOL = 157
"""Marks routes and neighbour proxies as ours (rtnetlink(7): above 4 the kernel does not care).
No routing program's number: not in iproute2's rt_protos, nor among FRR's 186 to 198."""
BACKUP_METRIC = 4000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """What one host's uplink must be.

    device is as uplink_device says; external the external bridge, "" on a host that has none.
    networks are routed to it; proxied are answered for on device; sysctls are (path below
    /proc/sys/net, value).
    """

    nic: str
    device: str
    external: str
    networks: tuple[str, ...]
    proxied: tuple[str, ...]
    sysctls: tuple[tuple[str, str], ...]

    @property
    def bridged(self) -> bool:
        """Whether the NIC is a port of a bridge of ours."""
        return self.device == UPLINK_BRIDGE


def uplink_device(plan: Plan, host: HostPlan) -> str:
    """Return the device by which the outside reaches host: its NIC, or the bridge it joined."""
    if host.gateway and plan.external.method is ExternalMethod.BRIDGE:
        return UPLINK_BRIDGE
    return host.nic


def uplink_of(plan: Plan, host: HostPlan) -> Uplink:
    """Decide what a host's uplink must be."""
    device = uplink_device(plan, host)
    external = plan.external
    proxied = _proxied(plan, host)
    return Uplink(
        nic=host.nic,
        device=device,
        external=external.bridge if host.gateway else "",
        networks=tuple(_as_shown(each) for each in external.networks) if host.gateway else (),
        proxied=tuple(str(each) for each in proxied),
        sysctls=_sysctls(device, external.bridge if host.gateway else "", proxied=bool(proxied)),
    )


def _proxied(plan: Plan, host: HostPlan) -> tuple[ipaddress.IPv4Address, ...]:
    """Return what the host answers ARP for: with method bridge OVN does, but for the front door."""
    if not host.gateway:
        return ()
    external, door = plan.external, plan.front_door
    found = set(external.floating_addresses if external.method is ExternalMethod.PROXY else ())
    on_wire = external.method in {ExternalMethod.PROXY, ExternalMethod.BRIDGE}
    if on_wire and door is not None and not door.own_address:
        found.add(door.address)
    return tuple(sorted(found))


def _sysctls(device: str, external: str, *, proxied: bool) -> tuple[tuple[str, str], ...]:
    """Return the settings; all are of kernel's Documentation/networking/ip-sysctl.rst.

    A device sends redirects when it or ``all`` says so, hence all. arp_ignore 1 and not 2: with 2
    a host with a /32 no longer answers for its own address.
    """
    wanted = [("ipv4/conf/all/send_redirects", "0")]
    for name in filter(None, (device, external)):
        wanted += [
            (f"ipv4/conf/{name}/send_redirects", "0"),
            (f"ipv4/conf/{name}/arp_ignore", "1"),
            (f"ipv4/conf/{name}/arp_announce", "2"),
            (f"ipv4/conf/{name}/proxy_arp", "0"),
        ]
    if proxied:
        # The default lets the kernel wait up to 0.8 s before it answers.
        wanted.append((f"ipv4/neigh/{device}/proxy_delay", "0"))
    return tuple(wanted)


def _as_shown(network: ipaddress.IPv4Network) -> str:
    """Return a network as ``ip route`` shows it: a single address without its length."""
    return str(network.network_address) if network.prefixlen == 32 else str(network)
