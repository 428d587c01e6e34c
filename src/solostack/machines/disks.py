"""A VM's disks besides its root disk, on their host: made, grown and attached while it runs."""

from __future__ import annotations

from solostack.engine.operations import Step
from solostack.machines import domain
from solostack.plan.model import DiskPlan, NodePlan, Plan

GIB = 2**30


def size_step(plan: Plan, node: NodePlan, disk: DiskPlan) -> Step:
    """Make a disk, or make it larger; the kernel of a VM that has it sees the new size at once.

    Larger is what QEMU shows its guest, too: it looks at a file or volume once, when it opens it.
    """
    path = domain.disk_source(plan.site, node, disk)
    size = disk.size_gib * GIB
    if disk.volume_group is None:
        known, undo = f'"$(stat -c %s {path})"', ""
        make = (
            f"umask 077\nmkdir -p {domain.node_directory(node.name)}\ntruncate -s {size} {path}\n"
        )
        grow = ""
    else:
        volume = domain.volume_name(plan.site, node, disk)
        known = f'"$(lvs --noheadings --nosuffix --units b -o lv_size {path} | tr -d " ")"'
        make = (
            f"[ -e {path} ] || lvcreate -q -y -W y -n {volume} -L {size}b {disk.volume_group}\n"
            f"[ {known} -ge {size} ] || lvextend -q -L {size}b {path}\n"
        )
        grow, undo = make, f"[ ! -e {path} ] || lvremove -q -y {path}\n"
    shown = f"\"$(virsh domblkinfo {node.name} {path} | awk '/^Capacity/ {{ print $2 }}')\""
    return Step(
        name=f"disk {disk.name} of {node.name}",
        run=f"{_questions(node, path)}if [ -e {path} ] && active && attached; then\n"
        f"{grow}virsh blockresize {node.name} {path} {size}B >/dev/null\nelse\n{make}fi\n",
        unless=f"{_questions(node, path)}[ -e {path} ] && [ {known} -ge {size} ] || exit 1\n"
        f"! active || ! attached || [ {shown} -ge {size} ]\n",
        undo=undo,
    )


def attach_step(plan: Plan, node: NodePlan, disk: DiskPlan) -> Step:
    """Give a VM that runs already a disk that its definition got since.

    The name on the bus may be another than in the definition, where a disk that is attached may
    hold it; the guest knows disks by their serial numbers.
    """
    name, path = node.name, domain.disk_source(plan.site, node, disk)
    virsh = domain.VIRSH
    # A volume's own undo, which is older, comes next; it removes none that a VM has open.
    undo = f"{virsh} destroy {name} || true\n" if disk.volume_group is not None else ""
    return Step(
        name=f"attach disk {disk.name} to {name}",
        run=_questions(node, path) + f"used=$(virsh domblklist {name} | awk '{{ print $1 }}')\n"
        f"for target in {' '.join(domain.DISK_TARGETS)}; do\n"
        '    printf "%s\\n" "$used" | grep -qx "$target" || break\n'
        "done\n"
        f"virsh attach-device {name} /dev/stdin --live >/dev/null <<XML && exit 0\n"
        f"{domain.disk_xml(plan, node, disk, target='$target')}XML\n"
        f"echo 'disk {disk.name} cannot be attached while {name} runs; a new start attaches it.'\n"
        f"echo 'on {node.host}: {virsh} shutdown {name}; "
        f'until {virsh} domstate {name} | grep -q "shut off"; do sleep 1; done\'\n'
        "echo 'then: solostack up'\n"
        "exit 1\n",
        unless=f"{_questions(node, path)}! active || attached\n",
        undo=undo,
    )


def _questions(node: NodePlan, path: str) -> str:
    """Render sh functions: whether the VM runs or is paused, and whether it has the disk."""
    return (
        f'virsh() {{ command {domain.VIRSH} "$@"; }}\n'
        "active() {\n"
        f'    case "$(virsh domid {node.name} 2>/dev/null)" in [0-9]*) ;; *) return 1 ;; esac\n'
        "}\n"
        "attached() {\n"
        f"    virsh domblklist {node.name} |\n"
        f"        awk -v path={path} '$2 == path {{ found = 1 }} END {{ exit !found }}'\n"
        "}\n"
    )
