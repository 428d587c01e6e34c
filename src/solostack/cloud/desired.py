"""What the cloud must hold, as requests of the agent. Pure.

Objects are written as OpenStack's REST APIs have them (docs.openstack.org/api-ref), split into what
can be changed later (free) and what cannot (fixed).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from solostack.plan.model import DemoPlan, ExternalPlan, IPv4Network, Plan
from solostack.site.model import Flavor, Image, Role
from solostack.site.networks import VERIFY_NETWORKS, FloatingSubnet
from solostack.site.services import Directory

Request = dict[str, Any]
EXTERNAL_NETWORK = "external"
PHYSICAL_NETWORK = "external"
TEST_IMAGE = "tiny"
VERIFY_PROJECT = "solostack-verify"
VOLUME_SERVER = "verify-first"
"""The instance of verify_start whose user data waits for a volume."""

SETTLE_S = 90
"""How long verify waits for services and agents to report that they live, in seconds."""
VOLUME_SETTLE_S = 420
"""The same for volumes: where the storage node is emulated, cinder-volume starts for minutes."""
KERNEL_TREE = "/"
BUSYBOX = "/usr/bin/busybox"
QUOTA = {"instances": 100, "cores": -1, "ram": -1}
"""The host's own size is the limit for cores and memory, so no quota stands in the owner's way."""


def cloud_request(plan: Plan) -> Request:
    """Build the request that opens the cloud: networks, flavors, images, first project."""
    return {
        "external": _external(plan.external) | {"kept": kept_addresses(plan)},
        "flavors": [_flavor(flavor) for flavor in plan.flavors],
        "images": [_image(image, fetch=plan.egress) for image in plan.images],
        "test_image": {"name": TEST_IMAGE, "kernel_tree": KERNEL_TREE, "busybox": BUSYBOX},
        "demo": _demo(plan.demo) if plan.demo else None,
        "directory": _directory(plan.directory) if plan.directory else None,
    }


def kept_addresses(plan: Plan) -> list[str]:
    """Return public addresses that no instance may have: they lead to the front door."""
    door = plan.front_door
    return [] if door is None or door.own_address else [str(door.address)]


def verify_request(plan: Plan, upstream: ipaddress.IPv4Address) -> Request:
    """Build the request of `verify_start`; upstream is an address outside that answers a ping."""
    chassis = {host.name: ["controller", "metadata"] for host in plan.hosts}
    chassis[plan.node(Role.NETWORK).name] = ["gateway"]
    return {
        "project": VERIFY_PROJECT,
        "image": TEST_IMAGE,
        "flavor": smallest_flavor(plan.flavors).name,
        "cidr": str(verify_network(plan)),
        "external_network": EXTERNAL_NETWORK,
        "addresses": [str(address) for address in preferred_addresses(plan.external)],
        "upstream": str(upstream),
        "compute_hosts": [host.name for host in plan.hosts],
        "chassis": chassis,
        "rules": [_rule("icmp"), _rule("tcp", 80)],
        "settle_s": SETTLE_S,
        "emulated": not all(host.kvm for host in plan.hosts),
    }


def volume_request(attach_hosts: Sequence[str]) -> Request:
    """Build the request of `verify_volumes`; attach_hosts are the hosts that can attach volumes."""
    return {
        "project": VERIFY_PROJECT,
        "image": TEST_IMAGE,
        "server": VOLUME_SERVER,
        "attach_hosts": list(attach_hosts),
        "settle_s": VOLUME_SETTLE_S,
    }


def address_request(plan: Plan) -> Request:
    """Build the request of `address_start`: one instance that lets pings and HTTP in."""
    return {
        "project": VERIFY_PROJECT,
        "image": TEST_IMAGE,
        "flavor": smallest_flavor(plan.flavors).name,
        "cidr": str(verify_network(plan)),
        "external_network": EXTERNAL_NETWORK,
        "rules": [_rule("icmp"), _rule("tcp", 80)],
    }


def smallest_flavor(flavors: tuple[Flavor, ...]) -> Flavor:
    """Return the flavor that costs least."""
    return min(flavors, key=lambda one: (one.memory_mib, one.vcpus, one.disk_gib, one.name))


def preferred_addresses(external: ExternalPlan) -> tuple[ipaddress.IPv4Address, ...]:
    """Order the floating IPs for a proof: first and last, the hard ones, come first."""
    addresses = external.floating_addresses
    return tuple(dict.fromkeys((addresses[0], addresses[-1], *addresses)))


def verify_network(plan: Plan) -> IPv4Network:
    """Choose a tenant network for verify that overlaps nothing of the site.

    Neutron refuses a router whose subnets overlap those of its external network.
    """
    external = plan.external
    used = (*(each.cidr for each in external.subnets), external.transit, plan.data.network)
    for text in VERIFY_NETWORKS:
        network = IPv4Network(text)
        if not any(network.overlaps(other) for other in used):
            return network
    message = f"all of {', '.join(VERIFY_NETWORKS)} overlap networks of the site"
    raise ValueError(message)


def _external(external: ExternalPlan) -> Request:
    first, last = external.transit_pool
    return {
        "network": {
            "name": EXTERNAL_NETWORK,
            "fixed": {
                "provider:network_type": "flat",
                "provider:physical_network": PHYSICAL_NETWORK,
            },
            "free": {},
        },
        "subnets": [
            {
                "name": "transit",
                "fixed": {"cidr": str(external.transit), "ip_version": 4},
                "free": {
                    "gateway_ip": str(external.transit_gateway.ip),
                    "enable_dhcp": False,
                    "allocation_pools": [{"start": str(first), "end": str(last)}],
                    # Service subnets: routers take their addresses only from here.
                    "service_types": ["network:router_gateway", "network:distributed"],
                },
            },
            *(_floating(subnet, number) for number, subnet in enumerate(external.subnets, start=1)),
        ],
    }


def _floating(subnet: FloatingSubnet, number: int) -> Request:
    return {
        "name": "floating" if number == 1 else f"floating-{number}",
        "fixed": {"cidr": str(subnet.cidr), "ip_version": 4},
        "free": {
            "gateway_ip": None,
            "enable_dhcp": False,
            "allocation_pools": [
                {"start": str(start), "end": str(end)} for start, end in subnet.pools
            ],
            "service_types": ["network:floatingip"],
        },
    }


def _flavor(flavor: Flavor) -> Request:
    return {
        "name": flavor.name,
        "vcpus": flavor.vcpus,
        "ram": flavor.memory_mib,
        "disk": flavor.disk_gib,
    }


def _image(image: Image, *, fetch: bool) -> Request:
    url = image.source.startswith(("http://", "https://"))
    return {
        "name": image.name,
        "source": image.source,
        "sha256": image.sha256,
        "disk_format": image.disk_format,
        "min_disk_gib": image.min_disk_gib,
        "fetch": url and fetch,
    }


def _directory(directory: Directory) -> Request:
    return {
        "domain": directory.domain,
        "groups": [
            {"name": group.name, "project": group.project, "role": group.role}
            for group in directory.groups
        ],
    }


def _demo(demo: DemoPlan) -> Request:
    return {
        "project": demo.project,
        "quota": QUOTA,
        "rules": [_rule("icmp"), _rule("tcp", 22), _rule("tcp", 80)],
        "subnet": {
            "fixed": {"cidr": str(demo.network), "ip_version": 4},
            "free": {
                "enable_dhcp": True,
                "dns_nameservers": [str(address) for address in demo.dns],
            },
        },
    }


def _rule(protocol: str, port: int | None = None) -> Request:
    return {
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": protocol,
        "port_range_min": port,
        "port_range_max": port,
        "remote_ip_prefix": None,
        "remote_group_id": None,
    }
