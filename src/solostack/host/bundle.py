"""A physical host's desired state, in the two parts that `up` applies. Pure."""

from __future__ import annotations

from solostack.engine.operations import Bundle, Directory, File, Packages, Phase, Step, Unit, phase
from solostack.host.firewall import firewall_operations
from solostack.host.guard import guard_operations
from solostack.host.halted_guests import halted_guests_operations
from solostack.host.isolation import isolation_operations
from solostack.host.network import network_operations
from solostack.host.switch_ports import switch_ports_operations
from solostack.host.uplink_operations import uplink_operations, watch_operations
from solostack.plan.model import HostPlan, Plan

# What a host needs besides the compute services: to bake, seed and run control nodes.
HOST_PACKAGES = (
    "dbus",
    "e2fsprogs",
    "ethtool",
    "iproute2",
    "libvirt-clients",
    "libvirt-daemon-system",
    "mmdebstrap",
    "nftables",
    "openvswitch-switch",
    "polkitd",
    "python3",
    "qemu-system-x86",
    "qemu-utils",
    "systemd-container",
    "zstd",
)
GUESTS_PATH = "/etc/default/libvirt-guests"

# Instances rarely listen to ACPI; with Debian's default a reboot waits 300 s for each in turn.
_GUESTS_TEXT = """# solostack: shut guests down side by side; do not wait for those that ignore it.
ON_BOOT=ignore
ON_SHUTDOWN=shutdown
PARALLEL_SHUTDOWN=16
SHUTDOWN_TIMEOUT=60
"""


def base_bundle(plan: Plan, host: HostPlan, packages: tuple[str, ...]) -> Bundle:
    """Return what must be true before any control node starts on the host."""
    everything = tuple(sorted({*HOST_PACKAGES, *packages}))
    return Bundle(
        target=host.name,
        phases=(
            phase("packages", Packages(names=everything)),
            phase("folders", *_folders()),
            # Before anything of the network: what touches the way in is made under it.
            phase("guard", *guard_operations()),
            phase("isolation", *_bus(), *isolation_operations(), *_guests()),
            phase(
                "network",
                *_switch(host),
                *network_operations(plan, host),
                *switch_ports_operations(host),
                *halted_guests_operations(host),
            ),
            phase("uplink", *uplink_operations(plan, host)),
            # The watch keeps both, so it starts after them and is the first to go.
            phase("firewall", *firewall_operations(plan, host), *watch_operations()),
        ),
    )


def compute_bundle(host: HostPlan, phases: tuple[Phase, ...]) -> Bundle:
    """Return what makes the host a compute host, once the controller answers."""
    return Bundle(target=host.name, phases=phases)


def _folders() -> tuple[Directory | File, ...]:
    # libvirt's QEMU must pass through to the disks; what is secret below has modes of its own.
    return (
        Directory(path="/var/lib/solostack", mode=0o711),
        Directory(path="/var/lib/solostack/nodes", mode=0o711),
        File(path=GUESTS_PATH, content=_GUESTS_TEXT),
    )


def _bus() -> tuple[Unit, ...]:
    # Installed just now, nothing started it; without it polkit refuses everybody.
    return (Unit(name="dbus.socket", enabled=None),)


def _guests() -> tuple[Step, ...]:
    # Only a unit that runs can shut guests down at the next reboot. No Unit operation: to stop it,
    # as undo would, shuts down every guest of the host.
    return (
        Step(
            name="clean shutdown of guests",
            run="systemctl -q enable libvirt-guests.service\n"
            "systemctl start libvirt-guests.service\n",
            unless="systemctl -q is-active libvirt-guests.service\n",
            undo="true\n",
        ),
    )


def _switch(host: HostPlan) -> tuple[Step, ...]:
    if host.kernel_datapath:
        return ()
    # Instances hand over partial checksums; a userspace switch must know before it starts.
    return (
        Step(
            name="userspace segmentation offload",
            run="systemctl start ovsdb-server.service\n"
            "ovs-vsctl --no-wait set open . other_config:userspace-tso-enable=true\n"
            "systemctl restart openvswitch-switch\n",
            unless="ovs-vsctl --no-wait get open . other_config:userspace-tso-enable "
            "| grep -q true",
            undo="ovs-vsctl --no-wait remove open . other_config userspace-tso-enable\n",
        ),
    )
