"""A compute host that is a VM of the lab's host, for what needs another kernel than that one's.

Its disk is the simulated host's own tree, with kernel and modules of the storage node's. Only what
attaches volumes is applied to it: nova-compute and the initiator; its instances have no network.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import shlex
from collections.abc import Callable
from pathlib import Path

from solostack.doors.process import Executor
from solostack.doors.progress import Progress
from solostack.doors.ssh import SshExecutor, SshTarget
from solostack.engine.apply import apply_bundle
from solostack.engine.operations import Bundle, Lane, Phase
from solostack.flows.deployment import Deployment, host_target, site_hosts
from solostack.openstack import roles
from solostack.plan.model import HostPlan

NAME = "phys2"
FOLDER = "/var/lib/solostack-phys2"
MAC = "52:54:00:00:02:02"
MEMORY_MIB = 1536
LANES = ("nova-compute", "volumes")
BUILD_TIMEOUT_S = 600
BOOT_TIMEOUT_S = 900
APPLY_TIMEOUT_S = 1800
VIRSH = "virsh -q -c qemu:///system"
# Runs on the lab's host, which is shown the cache of trees. Identity comes as a tar archive.
BUILD = r"""
set -eu
folder=$1 host=$2 storage=$3
if [ ! -e "$folder/disk.raw" ]; then
    mkdir -p "$folder/upper/usr/lib" "$folder/work" "$folder/root"
    cp -a "$storage/usr/lib/modules" "$folder/upper/usr/lib/"
    mount -t overlay none -o "lowerdir=$host,upperdir=$folder/upper,workdir=$folder/work" \
        "$folder/root"
    trap 'umount "$folder/root"' EXIT
    mkdir -p "$folder/root/root/.ssh" "$folder/root/etc/systemd/network"
    echo "$NAME" >"$folder/root/etc/hostname"
    echo "$ADDRESS $NAME" >>"$folder/root/etc/hosts"
    echo "$KEY" >"$folder/root/root/.ssh/authorized_keys"
    printf '[Match]\nMACAddress=%s\n\n[Network]\nAddress=%s/24\nLinkLocalAddressing=no\n' \
        "$MAC" "$ADDRESS" >"$folder/root/etc/systemd/network/10-data.network"
    ssh-keygen -q -t ed25519 -N '' -f "$folder/root/etc/ssh/ssh_host_ed25519_key"
    cp "$folder/root/etc/ssh/ssh_host_ed25519_key.pub" "$folder/host-key.pub"
    for unit in openvswitch-switch ovn-host ovn-controller libvirt-guests; do
        rm -f "$folder/root/etc/systemd/system/multi-user.target.wants/$unit.service"
    done
    chroot "$folder/root" systemctl -q enable systemd-networkd.service ssh.service
    rm -f "$folder/disk.new"
    truncate -s 8G "$folder/disk.new"
    mke2fs -q -t ext4 -d "$folder/root" "$folder/disk.new"
    cp "$(ls "$storage"/boot/vmlinuz-* | sort -V | tail -n 1)" "$folder/vmlinuz"
    cp "$(ls "$storage"/boot/initrd.img-* | sort -V | tail -n 1)" "$folder/initrd.img"
    mv "$folder/disk.new" "$folder/disk.raw"
    chmod 711 "$folder"
fi
cat "$folder/host-key.pub"
"""
DOMAIN = f"""<domain type='qemu'>
  <name>{NAME}</name>
  <metadata>
    <nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'/>
  </metadata>
  <memory unit='MiB'>{MEMORY_MIB}</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{FOLDER}/vmlinuz</kernel>
    <initrd>{FOLDER}/initrd.img</initrd>
    <cmdline>root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet no_timer_check</cmdline>
  </os>
  <features><acpi/><apic/><tcg><tb-cache unit='MiB'>256</tb-cache></tcg></features>
  <cpu mode='maximum'/>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='unsafe'/>
      <source file='{FOLDER}/disk.raw'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'>
      <mac address='{MAC}'/>
      <source network='data'/>
      <model type='virtio'/>
    </interface>
    <serial type='pty'><log file='/var/log/libvirt/qemu/{NAME}-console.log'/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ComputeVm:
    """The compute host inside the lab's host, and how it is reached."""

    plan: HostPlan
    executor: Executor


def compute_plan(deployment: Deployment) -> HostPlan:
    """Return the lab host's plan, changed to what the VM is."""
    host = deployment.plan.hosts[0]
    address = ipaddress.IPv4Interface(
        (host.data_address.ip + 1, host.data_address.network.prefixlen)
    )
    return dataclasses.replace(
        host,
        name=NAME,
        address=address.ip,
        data_address=address,
        data_mac=MAC,
        kvm=False,
        kernel_datapath=True,
        reserved_memory_mib=256,
        reserved_cpus=0,
        reserved_disk_mib=1024,
        gateway=False,
    )


def start(deployment: Deployment, console: Executor, local: Executor, folder: Path) -> ComputeVm:
    """Make the VM, boot it and wait until it can be entered; what is there is taken."""
    plan = compute_plan(deployment)
    key, _, public = deployment.state.key_pair("nodes")
    trees = {
        name: f"/root/.cache/solostack/trees/{recipe}/root" for name, recipe in _recipes().items()
    }
    variables = {"NAME": NAME, "ADDRESS": str(plan.data_address.ip), "KEY": public, "MAC": MAC}
    exports = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    done = console.run(
        ("sh", "-s", "--", FOLDER, trees["host"], trees["storage"]),
        stdin=(exports + BUILD).encode(),
        timeout_s=BUILD_TIMEOUT_S,
    )
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"{plan.data_address.ip} {' '.join(done.text.split()[:2])}\n")
    script = (
        f"cat >{FOLDER}/domain.xml <<'XML'\n{DOMAIN}XML\n"
        f"{VIRSH} define {FOLDER}/domain.xml\n"
        f'[ "$({VIRSH} domstate {NAME})" = running ] || {VIRSH} start {NAME}\n'
    )
    console.run(("sh",), stdin=script.encode(), timeout_s=120)
    site_host = site_hosts(deployment.loaded)[deployment.plan.hosts[0].name]
    target = SshTarget(
        name=NAME,
        address=str(plan.data_address.ip),
        key=key,
        known_hosts=known_hosts,
        jump=host_target(deployment.loaded, site_host),
        connect_timeout_s=60,
    )
    executor = SshExecutor(target, local=local)
    wait_for_ssh(console, str(plan.data_address.ip))
    return ComputeVm(plan=plan, executor=executor)


def make_compute(deployment: Deployment, vm: ComputeVm) -> None:
    """Make the VM a compute host by the bundle that physical hosts get."""
    bundle = Bundle(target=NAME, phases=tuple(_phases(deployment, vm.plan)))
    with Progress().step("compute") as step:
        apply_bundle(
            vm.executor, bundle, deployment.secrets(), step=step, timeout_s=APPLY_TIMEOUT_S
        )


def stop(console: Executor) -> None:
    """Remove the VM with its disk; fine when there is none."""
    script = f"{VIRSH} destroy {NAME} || true\n{VIRSH} undefine {NAME} || true\nrm -rf {FOLDER}\n"
    console.run(("sh",), stdin=script.encode(), timeout_s=120, check=False)


def _phases(deployment: Deployment, host: HostPlan) -> list[Phase]:
    chosen: Callable[[Lane], bool] = lambda lane: lane.name in LANES  # noqa: E731
    return [
        Phase(name=phase.name, lanes=tuple(filter(chosen, phase.lanes)))
        for phase in roles.compute_operations(deployment.plan, host)
    ]


def _recipes() -> dict[str, str]:
    from solostack.flows.bake import lab_host_recipe, node_recipes

    found = {recipe.name: recipe.directory for recipe in (*node_recipes(), lab_host_recipe())}
    return {name: found[name] for name in ("host", "storage")}


def wait_for_ssh(console: Executor, address: str) -> None:
    """Wait until a machine behind the lab's host answers on port 22."""
    script = (
        "import socket, sys, time\n"
        f"end = time.monotonic() + {BOOT_TIMEOUT_S}\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        f"        link = socket.create_connection(({address!r}, 22), 5)\n"
        "        link.settimeout(60)\n"
        "        if link.recv(4) == b'SSH-': sys.exit(0)\n"
        "    except OSError:\n"
        "        time.sleep(2)\n"
        "sys.exit('no answer')\n"
    )
    console.run(("python3", "-I", "-"), stdin=script.encode(), timeout_s=BOOT_TIMEOUT_S + 90)
