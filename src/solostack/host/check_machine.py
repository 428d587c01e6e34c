"""Rules about the machine: processor, KVM, memory, disks, kernel features. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from solostack.host.check_model import Finding, Look, Subject, error, info, ok, warning
from solostack.host.kvm import Verdict
from solostack.host.probe_observation import NODES_PATH, FileSystem, Presence
from solostack.host.probe_parse import CACHE_PATH, INSTANCES_PATH
from solostack.plan import sizing
from solostack.plan.build import home_of
from solostack.site.model import Runtime
from solostack.site.networks import node_settings

LEAST_CORES = 2
CACHE_NEEDED_MIB = 4096
"""Trees of all roles with the packages they were made of, by hand: 3.2 GB."""
CACHE_GOOD_MIB = 8192

_NO_CLOUD = "without it the cloud's networks cannot be made"
_SLOWER = "works without, only slower"
_REQUIRED = {
    "bridge": "the data and external networks are Linux bridges",
    "nf_tables": "the firewall is nftables",
    "nft_chain_nat": "control nodes and instances reach out by address translation",
    "nft_ct": "the firewall follows connections",
    "nft_masq": "control nodes and instances reach out by address translation",
    "tun": "every VM's network card is a tap device",
    "veth": "the host joins the data network by a veth pair",
}
_WANTED = {
    "geneve": "tunnels then run in Open vSwitch's userspace, several times slower",
    "openvswitch": "Open vSwitch then switches in userspace, several times slower",
    "vhost_net": "packets of VMs then pass through QEMU, which costs processor time",
}


def architecture_rule(look: Look) -> Iterator[Finding]:
    """Nodes' trees and the KVM probe are x86-64."""
    found = look.seen.machine.architecture
    if found == "x86_64":
        yield ok(Subject.ARCHITECTURE, "x86-64")
    else:
        yield error(
            Subject.ARCHITECTURE,
            f"the machine is {found}",
            why="control nodes are built for x86-64 only",
            todo="use an x86-64 machine",
        )


def cpu_rule(look: Look) -> Iterator[Finding]:
    """Few cores make a slow control plane."""
    machine = look.seen.machine
    what = f"{machine.cores} cores, {machine.cpu_model}"
    if machine.cores >= LEAST_CORES:
        yield ok(Subject.CPU, what)
    else:
        yield warning(
            Subject.CPU,
            what,
            why="control nodes and instances share the cores; with one, API calls time out",
            todo=f"give the host at least {LEAST_CORES} cores",
        )


def kvm_rule(look: Look) -> Iterator[Finding]:
    """Whether a guest really ran decides how nodes and instances run."""
    guest = look.seen.guest
    match guest.verdict:
        case Verdict.YES:
            yield ok(Subject.KVM, f"a guest ran under KVM ({guest.duration_s:.1f} s)")
        case Verdict.UNKNOWN:
            yield info(
                Subject.KVM,
                f"not tried: {guest.reason}",
                why="only a guest that ran proves KVM; /dev/kvm alone proves nothing",
                todo="nothing: up installs QEMU and tries again",
            )
        case Verdict.NO:
            yield warning(
                Subject.KVM,
                f"no guest runs under KVM: {guest.reason}",
                why="instances are then emulated, about ten times slower, and control nodes with "
                "runtime auto run as containers",
                todo=_kvm_todo(look),
            )
    yield from _slow_nodes(look)


def _kvm_todo(look: Look) -> str:
    machine = look.seen.machine
    if machine.kvm_device and not machine.kvm_usable:
        return "make /dev/kvm readable and writable for root"
    if machine.virtualization == "none":
        return "switch on virtualization (Intel VT-x or AMD-V, SVM) in the machine's firmware"
    return "switch on nested virtualization for this machine, or use a physical one"


def _slow_nodes(look: Look) -> Iterator[Finding]:
    if look.seen.guest.verdict is not Verdict.NO:
        return
    slow = [
        role.value
        for role, node in node_settings(look.site).items()
        if node.runtime is Runtime.VM and home_of(look.site, role) is look.host
    ]
    if slow:
        yield warning(
            Subject.KVM,
            f"runtime vm is set for {', '.join(slow)}",
            why="Python runs about ten times slower in an emulated VM; the APIs may time out",
            todo="set runtime: auto or container for these nodes",
        )


def virtualization_rule(look: Look) -> Iterator[Finding]:
    """A host that is itself a guest works, with limits."""
    machine = look.seen.machine
    if machine.virtualization == "none":
        yield ok(Subject.VIRTUALIZATION, "a physical machine")
    elif machine.is_container:
        yield info(
            Subject.VIRTUALIZATION,
            f"the host is itself a container ({machine.virtualization})",
            why="it cannot load kernel modules and sees the whole machine's memory and cores",
        )
    else:
        yield info(
            Subject.VIRTUALIZATION,
            f"the host is itself a virtual machine ({machine.virtualization})",
            why="instances are then nested, which is slower; its network must let through "
            "addresses that are not the machine's own",
        )


def memory_rule(look: Look) -> Iterator[Finding]:
    """Control nodes, the host and one instance must fit; what runs besides must be known."""
    account = sizing.memory_account(look.host, look.seen.facts(), _sizes(look))
    if account.fits:
        yield ok(Subject.MEMORY, f"{account.total} MiB, {account.left} MiB left for instances")
    else:
        yield error(
            Subject.MEMORY,
            f"{account.total} MiB do not hold what the site asks for",
            why="; ".join(account.lines()),
            todo="lower nodes.*.memory_mib in the site, or give the host more memory",
        )
    if look.is_ours:
        return
    in_use = look.seen.machine.memory_mib - look.seen.machine.available_memory_mib
    if in_use > look.host.reserved_memory_mib:
        yield warning(
            Subject.MEMORY,
            f"{in_use} MiB are in use now, the site keeps {look.host.reserved_memory_mib} MiB",
            why="memory that other programs hold is promised to instances too; the kernel would "
            "then end processes",
            todo=f"stop what is not needed, or set reserved_memory_mib: {in_use} for the host",
        )


def disk_rule(look: Look) -> Iterator[Finding]:
    """Nodes' disks grow to their full size; instances take the rest."""
    account = sizing.disk_account(look.host, look.seen.facts(), _sizes(look))
    nodes = look.seen.file_systems[NODES_PATH]
    if account.fits:
        yield ok(
            Subject.DISK,
            f"{account.total} GiB for {NODES_PATH}, {account.left} GiB left for instances",
        )
    else:
        yield error(
            Subject.DISK,
            f"{account.total} GiB for {NODES_PATH} do not hold what the site asks for",
            why="; ".join(account.lines()),
            todo=f"lower nodes.*.disk_gib, or mount a bigger file system at {NODES_PATH}",
        )
    yield from _file_system_findings(nodes)
    instances = look.seen.file_systems[INSTANCES_PATH]
    if instances.device != nodes.device:
        yield info(
            Subject.DISK,
            f"{INSTANCES_PATH} is another file system, {instances.free_mib // 1024} GiB free",
            why="instances' disks are there; Nova counts that one, without the nodes' share",
            todo="set reserved_disk_gib: 0 for the host if nothing else uses it",
        )


def _file_system_findings(found: FileSystem) -> Iterator[Finding]:
    if found.read_only:
        yield error(
            Subject.DISK,
            f"{found.mount} is mounted read-only",
            why="control nodes live there",
            todo=f"look for disk errors in the kernel log, then: mount -o remount,rw {found.mount}",
        )
    if found.restricted:
        yield error(
            Subject.DISK,
            f"{found.mount} is mounted {','.join(found.restricted)}",
            why="the nodes' trees hold programs, device nodes and set-uid files",
            todo=f"take these options out of /etc/fstab for {found.mount}, "
            f"or mount another file system at {NODES_PATH}",
        )
    if found.kind in {"tmpfs", "ramfs"}:
        yield warning(
            Subject.DISK,
            f"{found.mount} is in memory ({found.kind})",
            why="control nodes would not survive a reboot, and take memory twice",
            todo=f"mount a disk at {NODES_PATH}",
        )


def cache_rule(look: Look) -> Iterator[Finding]:
    """Trees are built and kept there."""
    cache = look.seen.file_systems[CACHE_PATH]
    what = f"{cache.free_mib // 1024} GiB free for {CACHE_PATH}"
    why = "the nodes' trees are built and kept there, one per role"
    todo = f"make room on {cache.mount}, or mount another file system at {CACHE_PATH}"
    if cache.free_mib < CACHE_NEEDED_MIB:
        yield error(Subject.CACHE, what, why=why, todo=todo)
    elif cache.free_mib < CACHE_GOOD_MIB:
        yield warning(Subject.CACHE, what, why=why, todo=todo)
    else:
        yield ok(Subject.CACHE, what)


def kernel_rule(look: Look) -> Iterator[Finding]:
    """Which features the running kernel has or can load."""
    kernel = look.seen.kernel
    features = kernel.features
    if not kernel.modules_folder and kernel.releases and not look.seen.machine.is_container:
        yield error(
            Subject.KERNEL,
            f"the modules of the running kernel {look.seen.system.kernel} are not on disk",
            why="a newer kernel was installed and this one removed; nothing can be loaded now",
            todo="reboot the host",
        )
    for name, why in _REQUIRED.items():
        if features[name] is Presence.MISSING:
            yield error(
                Subject.KERNEL,
                f"the kernel has no {name}",
                why=f"{why}; {_NO_CLOUD}",
                todo="install Debian's kernel and reboot: apt install linux-image-amd64",
            )
    for name, why in _WANTED.items():
        if features[name] is Presence.MISSING:
            yield info(
                Subject.KERNEL,
                f"the kernel has no {name}",
                why=f"{why}; {_SLOWER}",
                todo="with Debian's kernel (linux-image-amd64) it is there",
            )
    yield from _kernel_summary(features)


def _kernel_summary(features: Mapping[str, Presence]) -> Iterator[Finding]:
    concerned = {*_REQUIRED, *_WANTED}
    usable = sorted(name for name in concerned if features[name].usable)
    unknown = sorted(name for name in concerned if features[name] is Presence.UNKNOWN)
    if usable:
        yield ok(Subject.KERNEL, f"has {', '.join(usable)}")
    if unknown:
        yield info(
            Subject.KERNEL,
            f"cannot tell whether it has {', '.join(unknown)}",
            why="there are no modules on disk, and no configuration of the running kernel",
        )


def _sizes(look: Look) -> list[sizing.NodeSize]:
    facts = look.seen.facts()
    here = [role for role in node_settings(look.site) if home_of(look.site, role) is look.host]
    return list(sizing.size_nodes(look.site, dict.fromkeys(here, facts)).values())
