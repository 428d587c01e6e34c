"""The site: what the operator writes, as types. The only dicts-to-objects border (pydantic).

Field descriptions are the documentation: the JSON schema, the commented file that ``init`` writes
and docs/site.md are made from them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Literal

import pydantic

from solostack.site.fields import (
    SHA256_PATTERN,
    Device,
    IPv4Address,
    IPv4Network,
    Model,
    Name,
    Port,
    Title,
)
from solostack.site.services import Dashboard, Directory, FrontDoor, Storage

DEFAULT_PRIVATE_BLOCK = "10.98.1.0/24"
"""Its wider CIDR, 10.98.0.0/22, lies beside the other defaults; that of 10.98.0.0/24 would be
10.96.0.0/14 and hold the transit network."""


class Runtime(enum.StrEnum):
    """How a control node runs."""

    AUTO = "auto"
    VM = "vm"
    CONTAINER = "container"


class Role(enum.StrEnum):
    """What a control node does. One node per role."""

    CONTROLLER = "controller"
    NETWORK = "network"
    STORAGE = "storage"
    DIRECTORY = "directory"


class ExternalMethod(enum.StrEnum):
    """How the public addresses reach the host."""

    ROUTED = "routed"
    PROXY = "proxy"
    BRIDGE = "bridge"
    PRIVATE = "private"


class Protocol(enum.StrEnum):
    """A transport protocol that has ports."""

    TCP = "tcp"
    UDP = "udp"


class Ssh(Model):
    """How solostack logs in to a host."""

    user: str = pydantic.Field("root", description="login name; must be root for now")
    port: int = pydantic.Field(22, ge=1, le=65535, description="TCP port of sshd")
    key: str | None = pydantic.Field(
        None, description="private key file; default: what your ssh uses"
    )
    known_hosts: str | None = pydantic.Field(
        None, description="file with the host's key; default: your ~/.ssh/known_hosts"
    )


class Host(Model):
    """A physical host: Nova compute node, and where control nodes live."""

    name: Name = pydantic.Field(description="host name, also its name in Nova")
    address: IPv4Address = pydantic.Field(description="the host's own public (or LAN) address")
    nic: Device = pydantic.Field(description="its one network card, as `ip link` names it")
    local: bool = pydantic.Field(
        default=False, description="true when solostack runs on this very host (no SSH then)"
    )
    ssh: Ssh = pydantic.Field(default_factory=Ssh, description="how to log in")
    data_address: IPv4Address | None = pydantic.Field(
        None, description="address on the data network; default: the first free one from .1"
    )
    reserved_memory_mib: int = pydantic.Field(
        1024, ge=256, description="memory kept for the host's own system, in MiB"
    )
    reserved_disk_gib: int = pydantic.Field(
        10, ge=0, description="disk kept for the host's own system, in GiB"
    )


class Node(Model):
    """A control node."""

    host: Name | None = pydantic.Field(None, description="where it runs; default: the first host")
    runtime: Runtime = pydantic.Field(
        Runtime.AUTO,
        description="vm, container, or auto (vm where KVM really runs a guest, else container)",
    )
    vcpus: int | None = pydantic.Field(
        None, ge=1, le=64, description="default: by rule, from cores"
    )
    memory_mib: int | None = pydantic.Field(
        None, ge=256, description="default: by rule, from the host's memory"
    )
    disk_gib: int | None = pydantic.Field(None, ge=4, description="default: by rule")
    address: IPv4Address | None = pydantic.Field(
        None, description="on the data network; default: .11 onward"
    )


class Nodes(Model):
    """The control nodes, one per role."""

    controller: Node = pydantic.Field(default_factory=Node, description="APIs, database, queue")
    network: Node = pydantic.Field(default_factory=Node, description="OVN gateway, floating IPs")
    storage: Node = pydantic.Field(
        default_factory=Node, description="volumes and objects; there when storage is; always a VM"
    )
    directory: Node = pydantic.Field(
        default_factory=Node, description="users and groups; there when directory is"
    )


class DataNetwork(Model):
    """Management and tunnels: control nodes and every host."""

    cidr: IPv4Network = pydantic.Field(IPv4Network("172.16.0.0/24"), description="private subnet")
    bridge: Device = pydantic.Field("br-data", description="bridge on the host")
    mtu: int = pydantic.Field(1500, ge=1400, le=9000, description="MTU; tenants get 58 less")


class Published(Model):
    """A port of the host that leads to a floating IP."""

    port: Port = pydantic.Field(description="port on the host's own address")
    to: IPv4Address = pydantic.Field(description="the floating IP it leads to")
    to_port: Port | None = pydantic.Field(None, description="port there; default: the same")
    protocol: Protocol = pydantic.Field(Protocol.TCP, description="tcp or udp")


class External(Model):
    """Public addresses."""

    method: ExternalMethod = pydantic.Field(
        ExternalMethod.ROUTED,
        description="routed (the provider routes the block to the host), proxy (the provider looks "
        "for each address on the wire), bridge (the card joins a bridge), private (no "
        "public block)",
    )
    block: IPv4Network | None = pydantic.Field(
        None,
        description="the public block; with private a private one, default "
        f"{DEFAULT_PRIVATE_BLOCK}",
    )
    addresses: tuple[IPv4Address, ...] = pydantic.Field(
        (), description="single public addresses on the wire, for proxy and bridge"
    )
    not_ours: tuple[IPv4Address, ...] = pydantic.Field(
        (), description="addresses of the block that others have, as the provider's router"
    )
    published: tuple[Published, ...] = pydantic.Field(
        (), description="ports of the host that lead to floating IPs"
    )
    transit: IPv4Network = pydantic.Field(
        IPv4Network("10.99.0.0/24"), description="private subnet for router gateways"
    )
    bridge: Device = pydantic.Field("br-external", description="bridge on the host")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _private_block(cls, data: object) -> object:
        """Give method private its block where the site gives none: any will do."""
        if not isinstance(data, Mapping) or data.get("method") != ExternalMethod.PRIVATE:
            return data
        return {**data, "block": DEFAULT_PRIVATE_BLOCK} if data.get("block") is None else data

    @property
    def on_wire(self) -> bool:
        """Whether the provider looks for each address on the wire, with ARP."""
        return self.method in {ExternalMethod.PROXY, ExternalMethod.BRIDGE}


class OpenPort(Model):
    """A port of the host that stays open to the outside."""

    port: Port = pydantic.Field(description="port on the host")
    protocol: Protocol = pydantic.Field(Protocol.TCP, description="tcp or udp")
    sources: tuple[IPv4Network, ...] = pydantic.Field(
        (), description="who may connect; default: everybody"
    )


class Firewall(Model):
    """What the host lets in through its card, besides answers and pings."""

    ssh_from: tuple[IPv4Network, ...] = pydantic.Field(
        (), description="who may log in to the host; default: everybody"
    )
    open: tuple[OpenPort, ...] = pydantic.Field((), description="the host's other services")
    networks: tuple[IPv4Network, ...] = pydantic.Field(
        (), description="networks behind the host that are not the cloud's and stay reachable"
    )


class Image(Model):
    """An image to upload."""

    name: Title = pydantic.Field(description="name in Glance")
    source: str = pydantic.Field(description="absolute path on the host, or http(s) URL")
    sha256: str = pydantic.Field(pattern=SHA256_PATTERN, description="checksum of the file")
    disk_format: Literal["qcow2", "raw"] = pydantic.Field("qcow2", description="qcow2 or raw")
    min_disk_gib: int = pydantic.Field(0, ge=0, description="smallest disk that holds it")


class Flavor(Model):
    """A size of instance."""

    name: Title = pydantic.Field(description="name in Nova")
    vcpus: int = pydantic.Field(ge=1, description="virtual processors")
    memory_mib: int = pydantic.Field(ge=64, description="memory in MiB")
    disk_gib: int = pydantic.Field(ge=0, description="root disk in GiB; 0: as big as the image")


class Demo(Model):
    """A first project that can be used at once."""

    project: Name = pydantic.Field("demo", description="project and user name")
    network: IPv4Network = pydantic.Field(IPv4Network("10.10.0.0/24"), description="its subnet")
    dns: tuple[IPv4Address, ...] = pydantic.Field((), description="name servers for instances")


DEFAULT_FLAVORS = (
    Flavor(name="m1.nano", vcpus=1, memory_mib=128, disk_gib=1),
    Flavor(name="m1.tiny", vcpus=1, memory_mib=512, disk_gib=5),
    Flavor(name="m1.small", vcpus=1, memory_mib=2048, disk_gib=20),
    Flavor(name="m1.medium", vcpus=2, memory_mib=4096, disk_gib=40),
)


class Site(Model):
    """One site.yaml."""

    name: Name = pydantic.Field("cloud", description="the deployment's name")
    release: str = pydantic.Field("2025.1", description="OpenStack release")
    hosts: tuple[Host, ...] = pydantic.Field(min_length=1, description="physical hosts")
    external: External = pydantic.Field(description="public addresses")
    firewall: Firewall = pydantic.Field(
        default_factory=Firewall, description="what the host lets in"
    )
    data: DataNetwork = pydantic.Field(default_factory=DataNetwork, description="data network")
    nodes: Nodes = pydantic.Field(default_factory=Nodes, description="control nodes")
    storage: Storage | None = pydantic.Field(
        None, description="volumes, objects, shared files; null for none"
    )
    directory: Directory | None = pydantic.Field(
        None, description="users of the cloud in a directory; null for none"
    )
    front_door: FrontDoor | None = pydantic.Field(
        None, description="one TLS entry to everything from outside; null for none"
    )
    dashboard: Dashboard | None = pydantic.Field(
        None, description="Horizon, behind the front door; null for none"
    )
    workers: int = pydantic.Field(1, ge=1, le=32, description="processes per API service")
    egress: bool = pydantic.Field(
        default=True, description="control nodes reach out through the host"
    )
    flavors: tuple[Flavor, ...] = pydantic.Field(DEFAULT_FLAVORS, description="sizes offered")
    images: tuple[Image, ...] = pydantic.Field((), description="images besides the test image")
    demo: Demo | None = pydantic.Field(
        default_factory=Demo, description="a first project to use at once; null for none"
    )
