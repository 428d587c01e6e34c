"""A Ceph cluster that is there already: the operator's files on the machines that use it.

Their contents are secrets of the deployment by name; flows reads them from the operator's machine.
"""

from __future__ import annotations

from solostack.engine.operations import Directory, File, Operation, Packages, Step, secret
from solostack.plan import identity
from solostack.plan.model import Plan
from solostack.site.services import CinderBackend, Rbd

FOLDER = "/etc/ceph"
CONF = f"{FOLDER}/ceph.conf"
CONF_SECRET = "ceph_conf"  # noqa: S105  a name, not a value
KEYRING_SECRET = "ceph_keyring"  # noqa: S105
KEY_SECRET = "ceph_key"  # noqa: S105
SECRET_NAMES = (CONF_SECRET, KEYRING_SECRET, KEY_SECRET)
LIBVIRT_SECRET = "/etc/solostack/ceph-secret.xml"  # noqa: S105  a path
LIBVIRT_KEY = "/etc/solostack/ceph-secret.key"
COMPUTE_PACKAGES = ("ceph-common", "python3-rbd", "qemu-block-extra")
VIRSH = "virsh -q -c qemu:///system"


def cluster(plan: Plan) -> Rbd | None:
    """Return the cluster that volumes are in; None when they are not in one."""
    cinder = plan.storage.cinder if plan.storage is not None else None
    return cinder.rbd if cinder is not None and cinder.backend is CinderBackend.RBD else None


def secret_uuid(plan: Plan) -> str:
    """Return the UUID under which the hosts' libvirt keeps the user's key."""
    return str(identity.node_uuid(plan.site, "ceph"))


def keyring_path(rbd: Rbd) -> str:
    """Return where librados looks for the user's key."""
    return f"{FOLDER}/ceph.client.{rbd.user}.keyring"


def files(rbd: Rbd, *, group: str) -> tuple[File | Directory, ...]:
    """Return the cluster's configuration, and the user's key for the members of group."""
    return (
        Directory(path=FOLDER),
        File(path=CONF, content=secret(CONF_SECRET), mode=0o640, group=group),
        File(path=keyring_path(rbd), content=secret(KEYRING_SECRET), mode=0o640, group=group),
    )


def compute_operations(plan: Plan) -> tuple[Operation, ...]:
    """Return what a compute host needs: the cluster's address, and the key in libvirt's keeping.

    QEMU's librbd reads ceph.conf; the key comes to it from libvirt alone.
    """
    rbd = cluster(plan)
    if rbd is None:
        return ()
    uuid = secret_uuid(plan)
    return (
        Packages(names=COMPUTE_PACKAGES),
        Directory(path=FOLDER),
        File(path=CONF, content=secret(CONF_SECRET), mode=0o640, group="libvirt-qemu"),
        File(path=LIBVIRT_SECRET, content=render_libvirt_secret(rbd, uuid)),
        File(path=LIBVIRT_KEY, content=secret(KEY_SECRET), mode=0o600),
        Step(
            name="Ceph key for libvirt",
            run=f"{VIRSH} secret-define {LIBVIRT_SECRET} >/dev/null\n"
            f"{VIRSH} secret-set-value {uuid} --file {LIBVIRT_KEY} >/dev/null\n",
            unless=f'[ "$({VIRSH} secret-get-value {uuid})" = "$(cat {LIBVIRT_KEY})" ]\n',
            undo=f"{VIRSH} secret-undefine {uuid} || ! {VIRSH} secret-dumpxml {uuid}\n",
            when_changed=(LIBVIRT_SECRET, LIBVIRT_KEY),
        ),
    )


def render_libvirt_secret(rbd: Rbd, uuid: str) -> str:
    """Render the secret's description (libvirt formatsecret)."""
    return (
        "<secret ephemeral='no' private='no'>\n"
        f"  <uuid>{uuid}</uuid>\n"
        f"  <usage type='ceph'>\n    <name>client.{rbd.user} secret</name>\n  </usage>\n"
        "</secret>\n"
    )
