"""Which certificates a plan needs, and for which names. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress

from solostack.plan.model import NodePlan, Plan
from solostack.site.model import Role

FRONT_DOOR = "front_door"
DIRECTORY = "directory"

IPv4Address = ipaddress.IPv4Address
IPv4Network = ipaddress.IPv4Network


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WantedCertificate:
    """A server's certificate. title is its subject; used says where it is, for people.

    The title has spaces, so that nobody takes it for a DNS name (RFC 6125, 6.4.4).
    """

    name: str
    title: str
    dns: tuple[str, ...]
    addresses: tuple[IPv4Address, ...]
    used: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WantedAuthority:
    """The site's own authority, which can sign servers of these names and networks only."""

    title: str
    dns: tuple[str, ...]
    networks: tuple[IPv4Network, ...]


def wanted_certificates(plan: Plan) -> tuple[WantedCertificate, ...]:
    """Return the servers' certificates; none where nothing of the site speaks TLS."""
    found = []
    if plan.front_door is not None:
        controller = plan.node(Role.CONTROLLER)
        hostname = plan.front_door.hostname
        found.append(
            WantedCertificate(
                name=FRONT_DOOR,
                title=f"front door of {plan.site}",
                dns=(*((hostname,) if hostname else ()), controller.name),
                addresses=(plan.front_door.address, controller.data_address),
                used=f"HAProxy on {controller.name}",
            )
        )
    if plan.has(Role.DIRECTORY):
        found.append(_directory(plan, plan.node(Role.DIRECTORY)))
    return tuple(found)


def _directory(plan: Plan, node: NodePlan) -> WantedCertificate:
    return WantedCertificate(
        name=DIRECTORY,
        title=f"directory of {plan.site}",
        dns=(node.name,),
        addresses=(node.data_address,),
        used=f"389 Directory Server on {node.name}",
    )


def wanted_authority(plan: Plan) -> WantedAuthority:
    """Return the authority that can sign what wanted_certificates returns."""
    wanted = wanted_certificates(plan)
    names = (name for each in wanted for name in each.dns)
    outside = (address for each in wanted for address in each.addresses)
    others = (IPv4Network(each) for each in outside if each not in plan.data.network)
    return WantedAuthority(
        title=f"certificate authority of {plan.site}",
        dns=tuple(dict.fromkeys(names)),
        networks=(*dict.fromkeys(others), plan.data.network),
    )
