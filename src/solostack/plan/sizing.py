"""Sizes of control nodes, and whether they fit. Pure, from HostFacts.

The rule for what the site leaves open:

* memory, from the host's memory rounded up to 4 GiB (the size it was sold as): the controller gets
  an eighth, at least 3072 and at most 16384 MiB, plus 1024 MiB for each worker after the first;
  the network node a thirty-second, at least 768 and at most 4096 MiB; the storage node a
  sixteenth, from 1536 to 8192 MiB; the directory node a thirty-second, from 512 to 2048 MiB; whole
  256 MiB.
* vCPUs: the controller half the cores, from 2 (never more than there are) to 8; network and storage
  node a quarter, from 1 to 4; the directory node an eighth, from 1 to 2. Their sum may exceed the
  cores; memory is never promised twice.
* disk, by the host's: controller 16 GiB and network 6 GiB; 32 and 8 from 256 GiB; 64 and 10 from
  512 GiB; 128 and 16 from 1024 GiB. Images live on the controller's disk. The storage node's root
  disk has 8, 12, 20, 40 GiB, the directory node's 6 and from 512 GiB on 10; volumes and objects
  have disks of their own.

So an 8 GiB host keeps about 2.7 GiB for instances. A VM costs QEMU's own memory on top; a
container's memory counts like a VM's. What control nodes take, Nova is told to leave alone.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence

from solostack.plan.model import DiskPlan, HostFacts
from solostack.site.model import Host, Node, Role, Runtime, Site
from solostack.site.networks import node_settings
from solostack.site.services import CinderBackend, Disk, Storage

GIB_IN_MIB = 1024
QEMU_OVERHEAD_MIB = 128
"""What a QEMU process of a small guest uses beside the guest's memory (tables, buffers, VNC)."""

MINIMUM_INSTANCE_MEMORY_MIB = 512
MINIMUM_INSTANCE_DISK_GIB = 4

_NOMINAL_STEP_MIB = 4 * GIB_IN_MIB
_MEMORY_STEP_MIB = 256
_EXTRA_WORKER_MIB = 1024
_MEMORY_MIB = {
    Role.CONTROLLER: (8, 3072, 16384),
    Role.NETWORK: (32, 768, 4096),
    Role.STORAGE: (16, 1536, 8192),
    Role.DIRECTORY: (32, 512, 2048),
}
_VCPUS = {
    Role.CONTROLLER: (2, 2, 8),
    Role.NETWORK: (4, 1, 4),
    Role.STORAGE: (4, 1, 4),
    Role.DIRECTORY: (8, 1, 2),
}
_DISK_GIB = {
    Role.CONTROLLER: ((1024, 128), (512, 64), (256, 32), (0, 16)),
    Role.NETWORK: ((1024, 16), (512, 10), (256, 8), (0, 6)),
    Role.STORAGE: ((1024, 40), (512, 20), (256, 12), (0, 8)),
    Role.DIRECTORY: ((512, 10), (0, 6)),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeSize:
    """What one node takes of its host. overhead_mib is QEMU's share, beside memory_mib.

    disks are those besides the root disk.
    """

    role: Role
    runtime: Runtime
    vcpus: int
    memory_mib: int
    overhead_mib: int
    disk_gib: int
    disks: tuple[DiskPlan, ...] = ()

    @property
    def files_gib(self) -> int:
        """What it takes of the host's file system; disks from a volume group do not."""
        return self.disk_gib + sum(
            disk.size_gib for disk in self.disks if disk.volume_group is None
        )


class Resource(enum.StrEnum):
    """What an account is about."""

    MEMORY = "memory"
    DISK = "disk"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a host has of a resource and who takes how much of it, in unit (MiB or GiB)."""

    host: str
    resource: Resource
    unit: str
    total: int
    takers: tuple[tuple[str, int], ...]
    minimum: int

    @property
    def left(self) -> int:
        """What is left for instances; negative when it does not fit."""
        return self.total - sum(amount for _, amount in self.takers)

    @property
    def fits(self) -> bool:
        """Whether enough is left for instances."""
        return self.left >= self.minimum

    def lines(self) -> tuple[str, ...]:
        """Return the arithmetic, one line per step, amounts right-aligned."""
        rows = [
            (f"{self.host} has {self.resource}", self.total),
            *((f"- {who}", amount) for who, amount in self.takers),
            ("= left for instances", self.left),
        ]
        width = max(len(what) for what, _ in rows)
        digits = max(len(str(amount)) for _, amount in rows)
        lines = [f"{what:<{width}}  {amount:>{digits}} {self.unit}" for what, amount in rows]
        if not self.fits:
            lines.append(f"at least {self.minimum} {self.unit} must be left")
        return tuple(lines)


def size_node(role: Role, node: Node, *, facts: HostFacts, workers: int) -> NodeSize:
    """Return a node's size on the host of facts: what the site says, else the module's rule."""
    runtime = _runtime(role, node, facts)
    # Two processors under emulation stalled at boot: rcu_preempt waits for its timer for ever.
    emulated = runtime is Runtime.VM and not facts.kvm
    return NodeSize(
        role=role,
        runtime=runtime,
        vcpus=node.vcpus or (1 if emulated else _default_vcpus(role, facts.cores)),
        memory_mib=node.memory_mib or _default_memory_mib(role, facts.memory_mib, workers),
        overhead_mib=QEMU_OVERHEAD_MIB if runtime is Runtime.VM else 0,
        disk_gib=node.disk_gib or _default_disk_gib(role, facts.disk_gib),
    )


def size_nodes(site: Site, facts: Mapping[Role, HostFacts]) -> dict[Role, NodeSize]:
    """Return the sizes of a site's nodes; facts are those of each node's host."""
    sizes = {
        role: size_node(role, node, facts=facts[role], workers=site.workers)
        for role, node in node_settings(site).items()
        if role in facts
    }
    if Role.STORAGE in sizes and site.storage is not None:
        disks = storage_disks(site.storage)
        sizes[Role.STORAGE] = dataclasses.replace(sizes[Role.STORAGE], disks=disks)
    return sizes


def storage_disks(storage: Storage) -> tuple[DiskPlan, ...]:
    """Return the storage node's disks: cinder, swift1 onward, nfs."""
    cinder = storage.cinder
    wanted: list[tuple[str, Disk | None]] = [
        ("cinder", cinder if cinder and cinder.backend is CinderBackend.LVM else None)
    ]
    if storage.swift is not None:
        wanted += [(f"swift{number + 1}", storage.swift) for number in range(storage.swift.disks)]
    wanted.append(("nfs", storage.nfs))
    return tuple(
        DiskPlan(name=name, size_gib=disk.size_gib, volume_group=disk.volume_group)
        for name, disk in wanted
        if disk is not None
    )


def memory_account(host: Host, facts: HostFacts, sizes: Sequence[NodeSize]) -> Account:
    """Return who takes a host's memory."""
    takers = [("the host's own system (reserved_memory_mib)", host.reserved_memory_mib)]
    for size in sizes:
        takers.append((f"{size.role} ({size.runtime})", size.memory_mib))
        if size.overhead_mib:
            takers.append((f"QEMU of {size.role}", size.overhead_mib))
    return Account(
        host=host.name,
        resource=Resource.MEMORY,
        unit="MiB",
        total=facts.memory_mib,
        takers=tuple(takers),
        minimum=MINIMUM_INSTANCE_MEMORY_MIB,
    )


def disk_account(host: Host, facts: HostFacts, sizes: Sequence[NodeSize]) -> Account:
    """Return who takes a host's disk."""
    takers = [("the host's own system (reserved_disk_gib)", host.reserved_disk_gib)]
    for size in sizes:
        takers.append((f"{size.role} ({size.runtime})", size.disk_gib))
        takers += [
            (f"disk {disk.name} of {size.role}", disk.size_gib)
            for disk in size.disks
            if disk.volume_group is None
        ]
    return Account(
        host=host.name,
        resource=Resource.DISK,
        unit="GiB",
        total=facts.disk_gib,
        takers=tuple(takers),
        minimum=MINIMUM_INSTANCE_DISK_GIB,
    )


def control_memory_mib(sizes: Iterable[NodeSize]) -> int:
    """Return the memory the nodes take of their host, QEMU's share with it."""
    return sum(size.memory_mib + size.overhead_mib for size in sizes)


def reserved_cpus(facts: HostFacts, sizes: Iterable[NodeSize]) -> int:
    """Return nova's reserved_host_cpus: the nodes' vCPUs, but never more than half the cores.

    Nova multiplies what is left with its allocation ratio; with everything reserved it would
    place no instance at all.
    """
    return min(sum(size.vcpus for size in sizes), facts.cores // 2)


def _runtime(role: Role, node: Node, facts: HostFacts) -> Runtime:
    if role is Role.STORAGE:
        # Its volumes need a kernel of its own (device mapper, NFS server).
        return Runtime.VM
    if node.runtime is Runtime.AUTO:
        return Runtime.VM if facts.kvm else Runtime.CONTAINER
    return node.runtime


def _default_memory_mib(role: Role, memory_mib: int, workers: int) -> int:
    share, least, most = _MEMORY_MIB[role]
    nominal = -(-memory_mib // _NOMINAL_STEP_MIB) * _NOMINAL_STEP_MIB
    wanted = nominal // share // _MEMORY_STEP_MIB * _MEMORY_STEP_MIB
    extra = (workers - 1) * _EXTRA_WORKER_MIB if role is Role.CONTROLLER else 0
    return min(max(wanted, least), most) + extra


def _default_vcpus(role: Role, cores: int) -> int:
    share, least, most = _VCPUS[role]
    return min(max(cores // share, min(least, cores)), most)


def _default_disk_gib(role: Role, disk_gib: int) -> int:
    return next(size for threshold, size in _DISK_GIB[role] if disk_gib >= threshold)
