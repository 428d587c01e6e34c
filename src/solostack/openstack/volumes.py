"""What Cinder, Nova and the hosts agree on: whether there are volumes, where, and how named."""

from __future__ import annotations

from solostack.openstack import auth
from solostack.openstack.ini import Section
from solostack.plan.model import Plan
from solostack.site.model import Role
from solostack.site.services import Cinder, CinderBackend

API_PORT = 8776
ISCSI_PORT = 3260
TARGET_PREFIX = "iqn.2010-10.org.openstack:"
"""How the names of targets begin: Cinder's default, and what hosts know its disks by."""

CATALOG_TYPE = "block-storage"
"""What openstacksdk, cinderclient, Nova (by keystoneauth's aliases) and Horizon all look for."""


def settings(plan: Plan) -> Cinder | None:
    """Return what the site says of volumes; None where it has none."""
    return plan.storage.cinder if plan.storage is not None else None


def wanted(plan: Plan) -> bool:
    """Return whether the site has volumes."""
    return settings(plan) is not None


def on_lvm(plan: Plan) -> bool:
    """Return whether volumes are on the storage node, reached by iSCSI."""
    cinder = settings(plan)
    return cinder is not None and cinder.backend is CinderBackend.LVM


def storage_address(plan: Plan) -> str:
    """Return the storage node's address on the data network."""
    return str(plan.node(Role.STORAGE).data_address)


def nova_section(plan: Plan) -> Section:
    """Return nova.conf's [cinder]; empty where there are no volumes.

    Its credentials are for what Nova does on its own account; work for a user goes with the user's
    token and Nova's beside it, without which Cinder refuses to detach (CVE-2023-2088).
    """
    if not wanted(plan):
        return {}
    return {
        **auth.service_credentials(plan, "nova"),
        "catalog_info": f"{CATALOG_TYPE}::internalURL",
        "os_region_name": plan.region,
    }
