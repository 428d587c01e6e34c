"""Rules about what else lives on the host: deployments, other clouds, libvirt's own. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from solostack.host.check_model import Finding, Look, Subject, error, info, ok, warning
from solostack.host.check_network import own_names
from solostack.host.probe_observation import LibvirtNetwork
from solostack.plan.build import DATA_NETWORK, EXTERNAL_NETWORK
from solostack.site.model import Role

INSTANCE_PREFIX = "instance-"
"""How Nova names its domains (instance_name_template)."""

_NEUTRON_INTERFACES = frozenset({"br-ex", "br-provider", "br-tun"})
_OTHER_SOFTWARE = {
    "k3s": "Kubernetes",
    "kubelet": "Kubernetes",
    "lxd": "LXD",
    "incus": "Incus",
    "proxmox-ve": "Proxmox VE",
    "pve-manager": "Proxmox VE",
    "xen-system-amd64": "Xen",
}


def deployment_rule(look: Look) -> Iterator[Finding]:
    """A host belongs to one deployment."""
    traces = look.seen.traces
    others = [name for name in traces.sites if name != look.site.name]
    for name in others:
        yield error(
            Subject.DEPLOYMENT,
            f"control nodes of the deployment {name} live here",
            why="a host is a compute host of one cloud; both would own the same bridges and agents",
            todo=f"take {name} down with its site file: solostack down; or set name: {name}",
        )
    if look.site.name in traces.sites:
        yield ok(Subject.DEPLOYMENT, f"{look.site.name} is deployed here already")
    elif traces.ledger and not others:
        yield info(
            Subject.DEPLOYMENT,
            "solostack has changed this host before",
            why="it is a host without control nodes, or an earlier down did not end",
        )
    elif not others:
        yield ok(Subject.DEPLOYMENT, "no deployment of solostack")


def other_cloud_rule(look: Look) -> Iterator[Finding]:
    """Another OpenStack's compute service or network agents on the host."""
    if look.is_ours:
        return
    found = [*_other_nova(look), *_other_neutron(look), *_other_software(look)]
    yield from found
    if not found:
        yield ok(Subject.OTHER_CLOUD, "no sign of another cloud")


def _other_nova(look: Look) -> Iterator[Finding]:
    traces = look.seen.traces
    domains = [item.name for item in look.seen.libvirt.domains if item.name.startswith("instance-")]
    if traces.nova_instances or domains:
        count = max(len(traces.nova_instances), len(domains))
        yield error(
            Subject.OTHER_CLOUD,
            f"{count} instance(s) of another Nova are here",
            why="a new nova-compute refuses to start beside instances it does not know",
            todo="move them away with their own cloud's tools, then empty /var/lib/nova/instances",
        )
    elif traces.nova_compute_id:
        yield warning(
            Subject.OTHER_CLOUD,
            "nova-compute has run here before (there is a compute_id)",
            why="the host would come back under its old identity, which the new cloud has not",
            todo="if that cloud is gone: rm /var/lib/nova/compute_id",
        )


def _other_neutron(look: Look) -> Iterator[Finding]:
    names = sorted(_NEUTRON_INTERFACES & {link.name for link in look.seen.network.links})
    if names:
        yield warning(
            Subject.OTHER_CLOUD,
            f"there are bridges as Neutron makes them: {', '.join(names)}",
            why="an Open vSwitch has one owner; another cloud's agents would undo what OVN sets",
            todo="if that cloud is gone: "
            + "; ".join(f"ovs-vsctl del-br {name}" for name in names),
        )


def _other_software(look: Look) -> Iterator[Finding]:
    system = look.seen.system
    there = {label for package, label in _OTHER_SOFTWARE.items() if package in system.installed}
    there |= {
        label
        for unit, label in _OTHER_SOFTWARE.items()
        if f"{unit}.service" in system.units and system.units[f"{unit}.service"].active
    }
    for label in sorted(there):
        yield warning(
            Subject.OTHER_CLOUD,
            f"{label} is on this host",
            why="it manages memory, bridges and packet filters of its own, which Nova and OVN "
            "do not know of",
            todo=f"give the cloud a host of its own, or keep what {label} uses out of it with "
            "reserved_memory_mib",
        )


def libvirt_rule(look: Look) -> Iterator[Finding]:
    """Networks and domains of libvirt's that clash with ours."""
    libvirt = look.seen.libvirt
    if not libvirt.installed:
        yield ok(Subject.LIBVIRT, "not installed yet")
        return
    if libvirt.error:
        yield warning(
            Subject.LIBVIRT,
            f"libvirt does not answer: {libvirt.error.splitlines()[-1]}",
            why="control nodes and instances are its machines; what it has could not be looked at",
            todo="systemctl restart libvirtd, then: virsh -c qemu:///system list --all",
        )
        return
    found = [] if look.is_ours else [*_networks(look), *_domains(look)]
    yield from found
    if not found:
        networks = ", ".join(item.name for item in libvirt.networks) or "none"
        yield ok(
            Subject.LIBVIRT, f"networks: {networks}; {len(libvirt.domains)} machine(s); no clash"
        )


def _networks(look: Look) -> Iterator[Finding]:
    ours = {DATA_NETWORK, *([EXTERNAL_NETWORK] if look.is_gateway else [])}
    for item in look.seen.libvirt.networks:
        if item.name in ours:
            yield error(
                Subject.LIBVIRT,
                f"there is a libvirt network {item.name} already (bridge {item.bridge or 'none'})",
                why="solostack's network has that name, and libvirt cannot rename one",
                todo=_remove(item),
            )
        elif item.bridge in own_names(look):
            yield error(
                Subject.LIBVIRT,
                f"the libvirt network {item.name} has the bridge {item.bridge}",
                why="solostack's network would have that bridge too",
                todo="set another data.bridge or external.bridge in the site, or " + _remove(item),
            )


def _remove(item: LibvirtNetwork) -> str:
    stop = f"virsh net-destroy {item.name} && " if item.active else ""
    return f"remove it if nothing uses it: {stop}virsh net-undefine {item.name}"


def _domains(look: Look) -> Iterator[Finding]:
    names = {role.value for role in Role}
    for item in look.seen.libvirt.domains:
        if item.name in names:
            yield error(
                Subject.LIBVIRT,
                f"there is a virtual machine {item.name} already",
                why="a control node has that name",
                todo=f"rename it: virsh domrename {item.name} NEW (while it is shut off)",
            )
    others = [
        item
        for item in look.seen.libvirt.domains
        if item.running and item.name not in names and not item.name.startswith(INSTANCE_PREFIX)
    ]
    if others:
        memory_mib = sum(item.memory_mib for item in others)
        yield warning(
            Subject.LIBVIRT,
            f"{len(others)} other virtual machine(s) run here, with {memory_mib} MiB: "
            + ", ".join(item.name for item in others[:5]),
            why="Nova does not know of them and would promise their memory to instances",
            todo=f"add {memory_mib} to the host's reserved_memory_mib, or move them away",
        )
