"""Glance: images in a directory of the controller."""

from __future__ import annotations

from solostack.engine.operations import Directory, File, Operation, Unit
from solostack.openstack import auth
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import render_ini
from solostack.openstack.schema import DatabaseUser, schema_step
from solostack.plan.model import Plan

PORT = 9292
PACKAGES = ("glance",)
UNITS = ("glance-api.service",)
DATABASE = DatabaseUser(name="glance", databases=("glance",))
CONF = "/etc/glance/glance-api.conf"
IMAGES = "/var/lib/glance/images"
STAGING = "/var/lib/glance/os_glance_staging_store"
TASKS = "/var/lib/glance/os_glance_tasks_store"


def catalog_service(plan: Plan) -> CatalogService:
    """Return the entry in the catalogue."""
    return CatalogService(name="glance", type="image", url=auth.service_url(plan, PORT))


def glance_operations(plan: Plan) -> tuple[Operation, ...]:
    """Return files and schema."""
    sync = f"runuser -u glance -- glance-manage --config-file {CONF} db_sync"
    return (
        File(path=CONF, content=render_conf(plan), mode=0o640, group="glance"),
        *(
            Directory(path=path, mode=0o750, owner="glance", group="glance")
            for path in (IMAGES, STAGING, TASKS)
        ),
        schema_step(DATABASE, sync, package="python3-glance"),
    )


def glance_units(*, running: bool = True) -> tuple[Operation, ...]:
    """Return Glance's unit."""
    return (Unit(name="glance-api.service", running=running, restart_on=(CONF,)),)


def render_conf(plan: Plan) -> str:
    """Render glance-api.conf. Without the flavor keystone every call would be 403."""
    return render_ini(
        {
            "DEFAULT": {
                "bind_host": "0.0.0.0",  # noqa: S104  inside the node, on the data network only
                "bind_port": PORT,
                # 0 serves from the one process; 1 would fork, and keep the parent for nothing.
                "workers": plan.workers if plan.workers > 1 else 0,
                "enabled_backends": "fs:file",
                "worker_self_reference_url": auth.service_url(plan, PORT),
            },
            "database": auth.database(plan, "glance"),
            "glance_store": {"default_backend": "fs"},
            "fs": {"filesystem_store_datadir": IMAGES},
            "os_glance_staging_store": {"filesystem_store_datadir": STAGING},
            "os_glance_tasks_store": {"filesystem_store_datadir": TASKS},
            "keystone_authtoken": auth.keystone_authtoken(plan, "glance"),
            "oslo_concurrency": {"lock_path": "/var/lib/glance/tmp"},
            "oslo_messaging_notifications": {"driver": "noop"},
            "oslo_policy": {"policy_dirs": "/etc/glance/policy.d"},
            "paste_deploy": {"flavor": "keystone"},
        }
    )
