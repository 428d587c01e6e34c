"""Cinder: API and scheduler on the controller, cinder-volume on the storage node.

Volumes are thin LVM volumes that tgt serves by iSCSI on the data network, each with CHAP
credentials of its own that Cinder makes (volume/targets/iscsi.py), or images in a Ceph cluster
that is there already. cinder.conf is ours as a whole: Debian's names options (``iscsi_helper``,
``iscsi_protocol``) that Cinder does not know any more.
"""

from __future__ import annotations

from solostack.engine.operations import Directory, File, Operation, Unit
from solostack.openstack import auth, ceph, storage_disks, volumes
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import Section, render_ini
from solostack.openstack.programs import program
from solostack.openstack.schema import DatabaseUser, schema_step
from solostack.openstack.uwsgi import UwsgiApp, render_uwsgi
from solostack.plan.model import NodePlan, Plan
from solostack.site.model import Role
from solostack.site.services import Rbd

GLANCE_PORT = 9292
CONTROLLER_PACKAGES = ("cinder-api", "cinder-scheduler")
CONTROLLER_UNITS = ("cinder-api.service", "cinder-scheduler.service")
STORAGE_PACKAGES = (
    "ceph-common",
    "cinder-volume",
    "lvm2",
    "python3-pymysql",
    "python3-rbd",
    "qemu-utils",
    "tgt",
    "thin-provisioning-tools",
)
STORAGE_UNITS = ("cinder-volume.service", "tgt.service")
# Debian starts them at boot, in Python, for what nobody has here: targets of the kernel's own
# server, block devices of Ceph that stay mapped.
UNWANTED_UNITS = ("rtslib-fb-targetctl.service", "rbdmap.service")
DATABASE = DatabaseUser(name="cinder", databases=("cinder",))
CONF = "/etc/cinder/cinder.conf"
UWSGI = "/etc/cinder/cinder-api-uwsgi.ini"
STATE = "/var/lib/cinder"
VOLUMES = f"{STATE}/volumes"
TGT_CONF = "/etc/tgt/conf.d/cinder_tgt.conf"
VOLUME_DROPIN = "/etc/systemd/system/cinder-volume.service.d/solostack.conf"
TGT_DROPIN = "/etc/systemd/system/tgt.service.d/solostack.conf"
ROOT_WRAP = "/usr/local/sbin/cinder-rootwrap"
SUDOERS = "/etc/sudoers.d/solostack-cinder"
VOLUME_PROGRAM = program("cinder_volume")
OVERSUBSCRIPTION = "2.0"
"""How much more may be promised than the pool holds: volumes are thin, and snapshots count whole.

Cinder's own default begins at twenty times, and a pool that runs full stops every volume in it.
"""
RESERVED_PERCENT = 5
EMULATED_S = 300
"""How long an emulated cinder-volume may say nothing; Cinder's own limit is 60 s."""


# cinder-volume runs each LVM command by `sudo cinder-rootwrap`, some five for a volume, and ten of
# qemu-img for one from an image; most of the time that takes is Python's start. sudo's path finds
# this one first. It runs at once what Cinder's own filters (volume.filters) allow with any
# argument; the real one gets all the rest. Not by exec: what a signal ended then has status 128 and
# its number, as with the real one, by which Cinder tries a command of LVM's again.
_ROOT_WRAP_TEXT = """#!/bin/sh
case "${2-}" in
env)
    case "${3-} ${4-}" in
    "LC_ALL=C lvs" | "LC_ALL=C vgs" | "LC_ALL=C pvs" | "LC_ALL=C lvcreate" | \\
        "LC_ALL=C lvextend" | "LC_ALL=C lvdisplay")
        tool=/usr/sbin/$4
        ;;
    "LC_ALL=C qemu-img")
        tool=/usr/bin/$4
        ;;
    *)
        exec /usr/bin/cinder-rootwrap "$@"
        ;;
    esac
    shift 4
    env LC_ALL=C "$tool" "$@"
    exit $?
    ;;
lvchange | lvremove)
    tool=/usr/sbin/$2
    ;;
qemu-img | dd)
    tool=/usr/bin/$2
    ;;
*)
    exec /usr/bin/cinder-rootwrap "$@"
    ;;
esac
shift 2
"$tool" "$@"
exit $?
"""
_SUDOERS_TEXT = f"cinder ALL = (root) NOPASSWD: {ROOT_WRAP} /etc/cinder/rootwrap.conf *\n"

wanted = volumes.wanted


def catalog_services(plan: Plan) -> tuple[CatalogService, ...]:
    """Return the entries in the catalogue."""
    if not wanted(plan):
        return ()
    url = auth.service_url(plan, volumes.API_PORT, "/v3")
    public = auth.public_url(plan, "/volume", "/v3", internal=url)
    return (CatalogService(name="cinder", type=volumes.CATALOG_TYPE, url=url, public_url=public),)


def databases(plan: Plan) -> tuple[DatabaseUser, ...]:
    """Return the databases."""
    return (DATABASE,) if wanted(plan) else ()


def controller_ports(plan: Plan) -> tuple[int, ...]:
    """Return the ports on the controller."""
    return (volumes.API_PORT,) if wanted(plan) else ()


def storage_ports(plan: Plan) -> tuple[int, ...]:
    """Return the ports on the storage node."""
    return (volumes.ISCSI_PORT,) if volumes.on_lvm(plan) else ()


def controller_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return files and schema of API and scheduler."""
    if not wanted(plan):
        return ()
    return (
        File(path=CONF, content=render_controller(plan, node), mode=0o640, group="cinder"),
        File(path=UWSGI, content=render_uwsgi(_app(plan))),
        schema_step(
            DATABASE, "runuser -u cinder -- cinder-manage db sync", package="python3-cinder"
        ),
    )


def controller_units(plan: Plan, *, running: bool = True) -> tuple[Operation, ...]:
    """Return the units on the controller; off where the site has no volumes."""
    if not wanted(plan):
        return tuple(Unit(name=name, enabled=False, running=False) for name in CONTROLLER_UNITS)
    api, scheduler = CONTROLLER_UNITS
    return (
        Unit(name=api, running=running, restart_on=(CONF, UWSGI)),
        Unit(name=scheduler, running=running, restart_on=(CONF,)),
    )


def storage_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return cinder-volume's files, and tgt's."""
    if not wanted(plan):
        return ()
    rbd = ceph.cluster(plan)
    own = (
        File(path=CONF, content=render_volume(plan, node), mode=0o640, group="cinder"),
        VOLUME_PROGRAM,
        File(path=VOLUME_DROPIN, content=render_volume_dropin(plan)),
    )
    if rbd is not None:
        return (*own, *ceph.files(rbd, group="cinder"))
    return (
        *own,
        Directory(path=VOLUMES, mode=0o750, owner="cinder", group="cinder"),
        File(path=ROOT_WRAP, content=_ROOT_WRAP_TEXT, mode=0o755),
        File(path=SUDOERS, content=_SUDOERS_TEXT, mode=0o440),
        File(path=TGT_CONF, content=f"include {VOLUMES}/*\n"),
        # Targets are served at its start, so their volumes must be there by then.
        File(path=TGT_DROPIN, content=storage_disks.AFTER_DISKS),
    )


def storage_units(plan: Plan, *, running: bool = True) -> tuple[Operation, ...]:
    """Return the units on the storage node; off where the site has no volumes."""
    volume, tgt = STORAGE_UNITS
    names = (*STORAGE_UNITS, *UNWANTED_UNITS)
    off = {name: Unit(name=name, enabled=False, running=False) for name in names}
    if not wanted(plan):
        return tuple(off.values())
    rbd = ceph.cluster(plan)
    inputs = (
        CONF,
        VOLUME_PROGRAM.path,
        VOLUME_DROPIN,
        *((ceph.CONF, ceph.keyring_path(rbd)) if rbd else ()),
    )
    # Never restarted for a change of its files: that would break every attached volume's session.
    target = Unit(name=tgt, running=running) if volumes.on_lvm(plan) else off[tgt]
    return (
        *(off[name] for name in UNWANTED_UNITS),
        target,
        Unit(name=volume, running=running, restart_on=inputs, timeout_s=600),
    )


def render_controller(plan: Plan, node: NodePlan) -> str:
    """Render cinder.conf of API and scheduler."""
    shared = _shared(plan, node)
    return render_ini(
        shared
        | {
            "DEFAULT": {**shared["DEFAULT"], "auth_strategy": "keystone", **_quotas(plan)},
            "keystone_authtoken": auth.keystone_authtoken(plan, "cinder"),
            "oslo_middleware": {"enable_proxy_headers_parsing": plan.front_door is not None},
            "oslo_policy": {"policy_dirs": "/etc/cinder/policy.d"},
        }
    )


def render_volume(plan: Plan, node: NodePlan) -> str:
    """Render cinder.conf of cinder-volume."""
    shared = _shared(plan, node)
    rbd = ceph.cluster(plan)
    backend, section = ("lvm", _lvm(node)) if rbd is None else ("rbd", _rbd(plan, rbd))
    return render_ini(
        shared | {"DEFAULT": {**shared["DEFAULT"], "enabled_backends": backend}, backend: section}
    )


def _shared(plan: Plan, node: NodePlan) -> dict[str, Section]:
    return {
        "DEFAULT": {
            "host": node.name,
            "my_ip": str(node.data_address),
            "state_path": STATE,
            "transport_url": auth.transport_url(plan),
            "glance_api_servers": auth.service_url(plan, GLANCE_PORT),
            **_patience(plan),
        },
        "coordination": {"backend_url": f"file://{STATE}"},
        "database": auth.database(plan, "cinder"),
        # Tells Nova that an attached volume grew; only services and administrators may.
        "nova": {**auth.service_credentials(plan, "cinder"), "interface": "internal"},
        "oslo_concurrency": {"lock_path": "/var/lib/cinder/tmp"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_messaging_rabbit": auth.messaging(),
        "service_user": {
            key: value
            for key, value in auth.service_user(plan, "cinder").items()
            # Nova has this option there, Cinder does not.
            if key != "region_name"
        },
    }


def _patience(plan: Plan) -> Section:
    """Return what an emulated storage node needs: ten times slower than its host, or more."""
    if plan.host(plan.node(Role.STORAGE).host).kvm:
        return {}
    return {"service_down_time": EMULATED_S, "rpc_response_timeout": EMULATED_S}


def _lvm(node: NodePlan) -> Section:
    return {
        "volume_driver": "cinder.volume.drivers.lvm.LVMVolumeDriver",
        "volume_backend_name": "lvm",
        "volume_group": storage_disks.VOLUME_GROUP,
        "lvm_type": "thin",
        "max_over_subscription_ratio": OVERSUBSCRIPTION,
        "reserved_percentage": RESERVED_PERCENT,
        "target_helper": "tgtadm",
        "target_protocol": "iscsi",
        "target_ip_address": str(node.data_address),
        "target_port": volumes.ISCSI_PORT,
        "volumes_dir": VOLUMES,
        # Lets guests give freed blocks back to the pool (fstrim).
        "report_discard_supported": True,
    }


def _rbd(plan: Plan, rbd: Rbd) -> Section:
    return {
        "volume_driver": "cinder.volume.drivers.rbd.RBDDriver",
        "volume_backend_name": "rbd",
        "rbd_pool": rbd.pool,
        "rbd_user": rbd.user,
        "rbd_ceph_conf": ceph.CONF,
        "rbd_secret_uuid": ceph.secret_uuid(plan),
    }


def _quotas(plan: Plan) -> Section:
    cinder = volumes.settings(plan)
    if cinder is None:
        return {}
    return {
        # Else what these were when the database was made counts, for ever: its first migration
        # copies them into the quota class "default".
        "use_default_quota_class": False,
        "quota_volumes": cinder.quota_volumes,
        "quota_snapshots": cinder.quota_snapshots,
        "quota_gigabytes": cinder.quota_gib,
    }


def render_volume_dropin(plan: Plan) -> str:
    """Render an addition to cinder-volume's unit: it starts when the volume group is there.

    Debian's script would start /usr/bin/cinder-volume with the same argument.
    """
    waits = ""
    if volumes.on_lvm(plan):
        waits = f"ExecStartPre=+/usr/sbin/vgs -q --noheadings {storage_disks.VOLUME_GROUP}\n"
    start = (
        f"ExecStart=\nExecStart=/usr/bin/python3 -I {VOLUME_PROGRAM.path} --config-file={CONF}\n"
    )
    return (
        f"{storage_disks.AFTER_DISKS}\n[Service]\n{waits}{start}RestartSec=10\nTimeoutStopSec=60\n"
    )


def _app(plan: Plan) -> UwsgiApp:
    return UwsgiApp(
        name="cinder-api",
        project="cinder",
        wsgi_file="/usr/bin/cinder-wsgi",
        processes=plan.workers,
        threads=4,
    )
