"""Control nodes as operations on their host: define, start, and how to take them away again."""

from __future__ import annotations

import json

from solostack.engine.operations import Bundle, Directory, File, Operation, Step, Unit, phase
from solostack.machines import container, disks, domain
from solostack.machines.domain import VIRSH
from solostack.plan.model import NodePlan, Plan
from solostack.site.model import Runtime

DESCRIPTIONS = "/etc/solostack/nodes"


def machine_bundle(plan: Plan, node: NodePlan) -> Bundle:
    """Return what makes a seeded node run on its host, now and after every boot."""
    operations = _vm(plan, node) if node.runtime is Runtime.VM else _container(plan, node)
    description = File(
        path=f"{DESCRIPTIONS}/{node.name}.json", content=description_json(plan, node)
    )
    return Bundle(
        target=node.host,
        phases=(phase("machine", Directory(path=DESCRIPTIONS), description, *operations),),
    )


def description_json(plan: Plan, node: NodePlan) -> str:
    """Render the node's description for the inventory of the host."""
    value = {
        "site": plan.site,
        "name": node.name,
        "role": str(node.role),
        "runtime": str(node.runtime),
        "uuid": str(node.uuid),
        "vcpus": node.vcpus,
        "memory_mib": node.memory_mib,
        "interfaces": [
            {
                "name": nic.name,
                "mac": nic.mac,
                "network": nic.network,
                "bridge": nic.bridge,
                "address": str(nic.address) if nic.address else None,
            }
            for nic in node.interfaces
        ],
        "directory": domain.node_directory(node.name),
    }
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _vm(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    path = f"{DESCRIPTIONS}/{node.name}.xml"
    virsh = VIRSH
    return (
        *(disks.size_step(plan, node, disk) for disk in node.disks),
        File(path=path, content=domain.domain_xml(plan, node)),
        Step(
            name=f"define VM {node.name}",
            run=f"{virsh} define {path} >/dev/null\n{virsh} autostart {node.name} >/dev/null\n",
            unless=f"test -e /etc/libvirt/qemu/autostart/{node.name}.xml",
            undo=f"{virsh} destroy {node.name} || true\n"
            f"{virsh} undefine {node.name} || ! {virsh} domid {node.name}\n",
            when_changed=(path,),
        ),
        Step(name=f"start VM {node.name}", run=_start(node), unless=_runs_as_planned(node)),
        *(disks.attach_step(plan, node, disk) for disk in node.disks),
    )


def _runs_as_planned(node: NodePlan) -> str:
    """Render the guard: running, not merely there (paused on a full disk), and of this size."""
    return (
        f"{VIRSH} dominfo {node.name} | awk -F': *' '/^State/ {{ state = $2 }} "
        '/^CPU\\(s\\)/ { cpus = $2 } /^Max memory/ { memory = $2 } END { exit !(state == "running" '
        f'&& cpus == {node.vcpus} && memory == "{node.memory_mib * 1024} KiB") }}\'\n'
    )


def _start(node: NodePlan) -> str:
    """Render the start; a running VM is here because its size changed: shut down cleanly first."""
    name = node.name
    return (
        f'case "$({VIRSH} domstate {name})" in\n'
        f"paused) {VIRSH} resume {name} ;;\n"
        f"running) {VIRSH} shutdown {name} >/dev/null ;;\n"
        "esac\n"
        "for try in $(seq 120); do\n"
        f"    {_runs_as_planned(node).strip()} && exit 0\n"
        f'    [ "$({VIRSH} domstate {name})" != "shut off" ] || break\n'
        "    sleep 1\n"
        "done\n"
        f"{VIRSH} start {name} >/dev/null\n"
    )


def _container(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    unit = container.unit_name(node)
    nics = f"{DESCRIPTIONS}/{node.name}.nics"
    limits = f"/etc/systemd/system/{unit}.d/limits.conf"
    return (
        File(path=container.NETWORK_SCRIPT_PATH, content=container.NETWORK_SCRIPT, mode=0o755),
        File(path=container.UNIT_PATH, content=container.UNIT),
        File(path=limits, content=container.limits_text(node)),
        File(path=nics, content=container.nics_text(plan.host(node.host), node)),
        Unit(name=unit, restart_on=(nics, limits, container.UNIT_PATH)),
    )
