"""Placement."""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack import auth
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import render_ini
from solostack.openstack.schema import DatabaseUser, schema_step
from solostack.openstack.uwsgi import UwsgiApp, render_uwsgi
from solostack.plan.model import Plan

PORT = 8778
PACKAGES = ("placement-api",)
UNITS = ("placement-api.service",)
DATABASE = DatabaseUser(name="placement", databases=("placement",))
CONF = "/etc/placement/placement.conf"
UWSGI = "/etc/placement/placement-api-uwsgi.ini"


def catalog_service(plan: Plan) -> CatalogService:
    """Return the entry in the catalogue."""
    url = auth.service_url(plan, PORT)
    public_url = auth.public_url(plan, "/placement", internal=url)
    return CatalogService(name="placement", type="placement", url=url, public_url=public_url)


def placement_operations(plan: Plan) -> tuple[Operation, ...]:
    """Return files and schema."""
    sync = "runuser -u placement -- placement-manage db sync"
    return (
        File(path=CONF, content=render_conf(plan), mode=0o640, group="placement"),
        File(path=UWSGI, content=render_uwsgi(_app(plan))),
        schema_step(DATABASE, sync, package="python3-placement"),
    )


def placement_units(*, running: bool = True) -> tuple[Operation, ...]:
    """Return Placement's unit."""
    return (Unit(name="placement-api.service", running=running, restart_on=(CONF, UWSGI)),)


def render_conf(plan: Plan) -> str:
    """Render placement.conf."""
    return render_ini(
        {
            "api": {"auth_strategy": "keystone"},
            "keystone_authtoken": auth.keystone_authtoken(plan, "placement"),
            "oslo_policy": {"policy_dirs": "/etc/placement/policy.d"},
            "placement_database": auth.database(plan, "placement"),
        }
    )


def _app(plan: Plan) -> UwsgiApp:
    """Return the application.

    Placement makes its middleware for proxies without its configuration (placement/deploy.py), so
    that it is never on; uWSGI tells it the path of the front door instead.
    """
    prefix = "${HTTP_X_FORWARDED_PREFIX}"
    behind_door = {"route-if-not": f"empty:{prefix} addvar:SCRIPT_NAME={prefix}"}
    return UwsgiApp(
        name="placement-api",
        project="placement",
        wsgi_file="/usr/bin/placement-api",
        processes=plan.workers,
        threads=4,
        extra=behind_door if plan.front_door is not None else {},
    )
