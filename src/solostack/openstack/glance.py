"""Glance: images in a directory of the controller, or in the object store."""

from __future__ import annotations

from solostack.engine.operations import Directory, File, Operation, Unit, secret
from solostack.openstack import auth
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import Section, render_ini
from solostack.openstack.schema import DatabaseUser, schema_step
from solostack.plan.model import Plan

PORT = 9292
PACKAGES = ("glance",)
UNITS = ("glance-api.service",)
DATABASE = DatabaseUser(name="glance", databases=("glance",))
CONF = "/etc/glance/glance-api.conf"
SWIFT_CONF = "/etc/glance/glance-swift.conf"
FILES, OBJECTS = "fs", "swift"
"""The stores' names; every image remembers the one that it is in."""
IMAGES = "/var/lib/glance/images"
STAGING = "/var/lib/glance/os_glance_staging_store"
TASKS = "/var/lib/glance/os_glance_tasks_store"


def catalog_service(plan: Plan) -> CatalogService:
    """Return the entry in the catalogue."""
    url = auth.service_url(plan, PORT)
    public_url = auth.public_url(plan, "/image", internal=url)
    return CatalogService(name="glance", type="image", url=url, public_url=public_url)


def glance_operations(plan: Plan) -> tuple[Operation, ...]:
    """Return files and schema."""
    sync = f"runuser -u glance -- glance-manage --config-file {CONF} db_sync"
    return (
        File(path=CONF, content=render_conf(plan), mode=0o640, group="glance"),
        *(
            (File(path=SWIFT_CONF, content=render_swift(plan), mode=0o640, group="glance"),)
            if _has_objects(plan)
            else ()
        ),
        *(
            Directory(path=path, mode=0o750, owner="glance", group="glance")
            for path in (IMAGES, STAGING, TASKS)
        ),
        schema_step(DATABASE, sync, package="python3-glance"),
    )


def glance_units(*, running: bool = True) -> tuple[Operation, ...]:
    """Return Glance's unit."""
    return (Unit(name="glance-api.service", running=running, restart_on=(CONF, SWIFT_CONF)),)


def render_conf(plan: Plan) -> str:
    """Render glance-api.conf. Without the flavor keystone every call would be 403."""
    return render_ini(
        {
            "DEFAULT": {
                "bind_host": "0.0.0.0",  # noqa: S104  inside the node, on the data network only
                "bind_port": PORT,
                # 0 serves from the one process; 1 would fork, and keep the parent for nothing.
                "workers": plan.workers if plan.workers > 1 else 0,
                "enabled_backends": _backends(plan),
                "worker_self_reference_url": auth.service_url(plan, PORT),
            },
            "database": auth.database(plan, "glance"),
            "glance_store": {"default_backend": _default_backend(plan)},
            FILES: {"filesystem_store_datadir": IMAGES},
            OBJECTS: _objects(plan),
            "os_glance_staging_store": {"filesystem_store_datadir": STAGING},
            "os_glance_tasks_store": {"filesystem_store_datadir": TASKS},
            "keystone_authtoken": auth.keystone_authtoken(plan, "glance"),
            "oslo_concurrency": {"lock_path": "/var/lib/glance/tmp"},
            "oslo_messaging_notifications": {"driver": "noop"},
            "oslo_middleware": auth.proxy_headers(plan),
            "oslo_policy": {"policy_dirs": "/etc/glance/policy.d"},
            "paste_deploy": {"flavor": "keystone"},
        }
    )


def render_swift(plan: Plan) -> str:
    """Render the login to the object store; the database then holds no password (glance_store)."""
    return render_ini(
        {
            "ref1": {
                "auth_version": 3,
                "auth_address": auth.keystone_url(plan),
                "user": f"{auth.SERVICE_PROJECT}:glance",
                "key": secret(auth.user_secret("glance")),
                "user_domain_id": "default",
                "project_domain_id": "default",
            }
        }
    )


def _has_objects(plan: Plan) -> bool:
    return plan.storage is not None and plan.storage.swift is not None


def _backends(plan: Plan) -> tuple[str, ...]:
    # Both stay enabled, so that images are readable wherever they were put.
    both = (f"{FILES}:file", f"{OBJECTS}:swift")
    return both if _has_objects(plan) else both[:1]


def _default_backend(plan: Plan) -> str:
    in_swift = plan.storage is not None and plan.storage.images_in_swift
    return OBJECTS if in_swift else FILES


def _objects(plan: Plan) -> Section:
    if not _has_objects(plan):
        return {}
    return {
        "default_swift_reference": "ref1",
        "swift_store_config_file": SWIFT_CONF,
        "swift_store_container": "glance",
        "swift_store_create_container_on_put": True,
        "swift_store_endpoint_type": "internalURL",
        "swift_store_region": plan.region,
    }
