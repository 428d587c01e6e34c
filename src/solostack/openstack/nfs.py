"""NFS on the storage node: one directory for the machines of the data network, NFSv4 only.

Version 4 needs one port (2049) and neither rpcbind nor the daemons for locks and their recovery
that version 3 has besides (nfs.conf(5), nfsd(7)).
"""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Step, Unit
from solostack.openstack.ini import BANNER, render_ini
from solostack.openstack.storage_disks import AFTER_DISKS, NFS_EXPORT
from solostack.plan.model import NodePlan, Plan
from solostack.site.fields import IPv4Network
from solostack.site.services import Squash

PACKAGES = ("nfs-kernel-server",)
CLIENT_PACKAGES = ("nfs-common",)
PORT = 2049
MOUNTD_DROP_IN = "/etc/systemd/system/nfs-mountd.service.d/solostack.conf"
DROP_IN = "/etc/systemd/system/nfs-server.service.d/solostack.conf"
EXPORTS = "/etc/exports"
CONF = "/etc/nfs.conf"
UNITS = ("nfs-server.service", "rpcbind.service", "rpcbind.socket")
VERSION_3_UNITS = (
    "rpcbind.socket", "rpcbind.service", "rpc-statd.service", "rpc-statd-notify.service",
)  # fmt: skip
THREADS = 8
NOBODY = 65534
_OPTIONS = {
    Squash.ALL: f"all_squash,anonuid={NOBODY},anongid={NOBODY}",
    Squash.ROOT: "root_squash",
    Squash.NONE: "no_root_squash",
}


def wanted(plan: Plan) -> bool:
    """Return whether the site has a shared folder."""
    return plan.storage is not None and plan.storage.nfs is not None


def ports(plan: Plan) -> tuple[int, ...]:
    """Return the TCP ports that answer on the data network."""
    return (PORT,) if wanted(plan) else ()


def nfs_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return the export."""
    if plan.storage is None or plan.storage.nfs is None:
        return ()
    squash = plan.storage.nfs.squash
    return (
        File(path=CONF, content=render_conf(node)),
        File(path=EXPORTS, content=render_exports(plan.data.network, squash)),
        File(path=DROP_IN, content=f"{BANNER}{AFTER_DISKS}"),
        # It ignores nfs.conf here, and would listen at four ports of its own for older versions.
        File(
            path=MOUNTD_DROP_IN,
            content=f"{BANNER}[Service]\nExecStart=\nExecStart=/usr/sbin/rpc.mountd -N 2 -N 3\n",
        ),
        Step(
            name="NFS exports",
            run="systemctl -q is-active nfs-server.service || exit 0\nexportfs -ra\n",
            when_changed=(EXPORTS,),
        ),
    )


def nfs_units(plan: Plan, *, running: bool = True) -> tuple[Operation, ...]:
    """Return the units; off where the site has no shared folder."""
    if not wanted(plan):
        return tuple(Unit(name=name, enabled=False, running=False) for name in UNITS)
    return (
        *(Unit(name=name, enabled=None, running=False, masked=True) for name in VERSION_3_UNITS),
        Unit(name="nfs-server.service", running=running, restart_on=(CONF, MOUNTD_DROP_IN)),
    )


def render_conf(node: NodePlan) -> str:
    """Render nfs.conf: version 4 only, at the data address only.

    manage-gids would look clients' groups up here, where their users do not exist.
    """
    return render_ini(
        {
            "mountd": {"manage-gids": "n"},
            "nfsd": {
                "host": str(node.data_address),
                "threads": THREADS,
                "udp": "n",
                "tcp": "y",
                "vers3": "n",
                "vers4": "y",
            },
        }
    )


def render_exports(network: IPv4Network, squash: Squash) -> str:
    """Render exports(5). mountpoint: nothing is exported while the disk is not mounted."""
    options = f"rw,sync,no_subtree_check,mountpoint,sec=sys,{_OPTIONS[squash]}"
    return f"{BANNER}{NFS_EXPORT} {network}({options})\n"
