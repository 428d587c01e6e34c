"""A physical host as Nova's compute node: nova-compute and the metadata agent."""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack import auth, logs, novaconf, volumes
from solostack.openstack.ini import Section, render_ini
from solostack.plan.model import HostPlan, Plan

PACKAGES = (
    "nova-compute",
    "neutron-ovn-metadata-agent",
    "haproxy",
    "libvirt-daemon-system",
    # os-brick asks it when an attached volume is extended (initiator/linuxscsi.py), and does not
    # depend on it.
    "lsscsi",
    "open-iscsi",
    "qemu-utils",
)
UNITS = ("nova-compute.service", "neutron-ovn-metadata-agent.service")
NOVA_CONF = "/etc/nova/nova.conf"
COMPUTE_CONF = "/etc/nova/nova-compute.conf"
NEUTRON_CONF = "/etc/neutron/neutron.conf"
METADATA_CONF = "/etc/neutron/neutron_ovn_metadata_agent.ini"
NOVA_DROPIN = "/etc/systemd/system/nova-compute.service.d/solostack.conf"
SOUTHBOUND_PORT = 6642
TRANSLATION_CACHE_MIB = 128
STORAGE_WAIT_S = 240


def nova_compute_files(plan: Plan, host: HostPlan) -> tuple[Operation, ...]:
    """Return nova-compute's files."""
    return (
        File(path=NOVA_CONF, content=render_nova(plan, host), mode=0o640, group="nova"),
        File(path=COMPUTE_CONF, content=render_libvirt(host), mode=0o640, group="nova"),
        File(path=NOVA_DROPIN, content=render_dropin(plan)),
        logs.journal_only(),
    )


def metadata_files(plan: Plan, host: HostPlan) -> tuple[Operation, ...]:
    """Return the metadata agent's files."""
    return (
        File(path=NEUTRON_CONF, content=render_neutron(host), mode=0o640, group="neutron"),
        File(path=METADATA_CONF, content=render_metadata(plan), mode=0o640, group="neutron"),
    )


def nova_compute_units() -> tuple[Operation, ...]:
    """Return nova-compute's unit; it becomes active only when the controller answers."""
    files = (NOVA_CONF, COMPUTE_CONF, NOVA_DROPIN, logs.DEFAULT)
    return (Unit(name="nova-compute.service", restart_on=files, timeout_s=600),)


def metadata_units() -> tuple[Operation, ...]:
    """Return the metadata agent's unit."""
    files = (NEUTRON_CONF, METADATA_CONF, logs.DEFAULT)
    return (Unit(name="neutron-ovn-metadata-agent.service", restart_on=files),)


def render_nova(plan: Plan, host: HostPlan) -> str:
    """Render nova.conf of a compute host; what is not for instances is reserved."""
    address = str(host.data_address.ip)
    shared = novaconf.shared_sections(plan, host=host.name, address=address)
    return render_ini(
        shared
        | {
            "DEFAULT": {
                **shared["DEFAULT"],
                "reserved_host_memory_mb": host.reserved_memory_mib,
                "reserved_host_cpus": host.reserved_cpus,
                "reserved_host_disk_mb": host.reserved_disk_mib,
                "resume_guests_state_on_host_boot": True,
                **_volume_waits(plan),
            },
            "vnc": _vnc(plan, address),
        }
    )


def _volume_waits(plan: Plan) -> Section:
    # An image is copied and converted on the storage node before an instance boots from it.
    return {"block_device_allocate_retries": 200} if volumes.wanted(plan) else {}


def _vnc(plan: Plan, address: str) -> Section:
    return {
        "enabled": True,
        "server_listen": address,
        "server_proxyclient_address": address,
        "novncproxy_base_url": novaconf.console_url(plan),
    }


def render_libvirt(host: HostPlan) -> str:
    """Render nova-compute.conf, which nova-compute reads last, so that it wins over nova.conf.

    Without KVM the processor is emulated: a named model that today's images run on, compared with
    nothing, as the host's own processor has no part in it; and a translation cache that fits many
    instances, where QEMU would take 1 GiB for each.
    """
    libvirt: dict[str, str | int | bool] = {"virt_type": "kvm", "cpu_mode": "host-model"}
    sections: dict[str, Section] = {
        "DEFAULT": {"compute_driver": "libvirt.LibvirtDriver"},
        "libvirt": libvirt,
    }
    if not host.kvm:
        libvirt |= {
            "virt_type": "qemu",
            "cpu_mode": "custom",
            "cpu_models": "Nehalem",
            "tb_cache_size": TRANSLATION_CACHE_MIB,
        }
        sections["workarounds"] = {"skip_cpu_compare_at_startup": True}
    return render_ini(sections)


def render_dropin(plan: Plan) -> str:
    """Render an addition to Debian's unit.

    nova-compute says that it is ready once the conductor answered. After a power cut of the host
    that is when the controller is up again, so starting may take long; only then it failed. When
    the host shuts down it must end before its guests do, or Nova takes them for stopped by a user.
    At its start it resumes instances, which needs the storage node that starts at the same time;
    a storage node that stays away must not keep the other instances from starting.
    """
    wait = ""
    if volumes.on_lvm(plan):
        target = f"/dev/tcp/{volumes.storage_address(plan)}/{volumes.ISCSI_PORT}"
        wait = (
            f"ExecStartPre=-/usr/bin/timeout {STORAGE_WAIT_S} /bin/bash -c "
            f"'until (exec 3<>{target}) 2>/dev/null; do sleep 2; done'\n"
        )
    return (
        "[Unit]\nAfter=libvirt-guests.service\n\n"
        f"[Service]\n{wait}TimeoutStartSec=900\nRestartSec=5\n"
    )


def render_neutron(host: HostPlan) -> str:
    """Render neutron.conf of a compute host, of which the metadata agent needs little."""
    return render_ini(
        {
            "DEFAULT": {
                "host": host.name,
                "core_plugin": "ml2",
                "state_path": "/var/lib/neutron",
            },
            "agent": {"root_helper": "sudo neutron-rootwrap /etc/neutron/rootwrap.conf"},
            "oslo_concurrency": {"lock_path": "/var/lib/neutron/tmp"},
        }
    )


def render_metadata(plan: Plan) -> str:
    """Render the agent's file. Its built-in path of Open vSwitch's socket is not Debian's."""
    address = auth.controller_address(plan)
    return render_ini(
        {
            "DEFAULT": {
                "nova_metadata_host": address,
                "nova_metadata_port": novaconf.METADATA_PORT,
                "metadata_proxy_shared_secret": novaconf.metadata_secret(),
                "metadata_workers": 0,
            },
            "ovn": {
                "ovn_sb_connection": f"tcp:{address}:{SOUTHBOUND_PORT}",
                "ovsdb_probe_interval": 60000,
            },
            "ovs": {"ovsdb_connection": "unix:/run/openvswitch/db.sock"},
        }
    )
