"""Keystone: configuration, and schema, keys, users and catalogue by one program on the node."""

from __future__ import annotations

import json

from solostack.engine.operations import File, Operation, Unit, secret
from solostack.openstack import auth, keystone_domain
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import Section, render_ini
from solostack.openstack.programs import program
from solostack.openstack.schema import DatabaseUser, schema_step
from solostack.openstack.uwsgi import UwsgiApp, render_uwsgi
from solostack.plan.model import Plan
from solostack.site.model import Role
from solostack.site.services import Dashboard

PACKAGES = ("keystone", "uwsgi-plugin-python3", "python3-pymysql")
UNITS = ("keystone.service",)
DATABASE = DatabaseUser(name="keystone", databases=("keystone",))
CONF = "/etc/keystone/keystone.conf"
UWSGI = "/etc/keystone/keystone-uwsgi.ini"
WANTED = "/etc/keystone/solostack-wanted.json"
SETUP = program("keystone_setup")
REVOKE = program("keystone_revoke")
WORKING_DAY_S = 8 * 3600
"""How long a token lives where there is a dashboard, instead of one hour: who works on without a
pause is not to log in anew."""


def keystone_operations(plan: Plan, services: tuple[CatalogService, ...]) -> tuple[Operation, ...]:
    """Return files, schema, first users and the catalogue of services."""
    return (
        File(path=CONF, content=render_conf(plan), mode=0o640, group="keystone"),
        File(path=UWSGI, content=render_uwsgi(_app(plan))),
        SETUP,
        *((REVOKE,) if plan.has(Role.DIRECTORY) else ()),
        File(path=WANTED, content=render_wanted(plan, services), mode=0o600),
        schema_step(
            DATABASE,
            f"python3 -I {SETUP.path} {WANTED}",
            package="python3-keystone",
            inputs=(WANTED, SETUP.path),
        ),
    )


def keystone_units(plan: Plan, *, running: bool = True) -> tuple[Operation, ...]:
    """Return Keystone's unit."""
    reads = (CONF, UWSGI, *keystone_domain.restart_paths(plan))
    return (Unit(name="keystone.service", running=running, restart_on=reads),)


def render_conf(plan: Plan) -> str:
    """Render keystone.conf."""
    return render_ini(
        {
            "DEFAULT": {"max_token_size": 255},
            "cache": auth.shared_cache(),
            "database": auth.database(plan, "keystone"),
            "identity": keystone_domain.identity_section(plan),
            "oslo_middleware": auth.proxy_headers(plan),
            "oslo_policy": {"policy_dirs": "/etc/keystone/policy.d"},
            "token": _token(plan),
        }
    )


def render_wanted(plan: Plan, services: tuple[CatalogService, ...]) -> str:
    """Render what keystone_setup.py makes, with passwords."""
    wanted = {
        "region": plan.region,
        "url": auth.keystone_url(plan),
        "public_url": auth.public_url(plan, "/identity", "/v3", internal=auth.keystone_url(plan)),
        "admin_password": secret(auth.ADMIN_PASSWORD),
        "project": auth.SERVICE_PROJECT,
        "domains": [] if plan.directory is None else [plan.directory.domain],
        "services": [
            {
                "name": service.name,
                "type": service.type,
                "url": service.url,
                "public_url": service.public_url or service.url,
                "password": secret(auth.user_secret(service.name)),
            }
            for service in services
        ],
    }
    return json.dumps(wanted, indent=2) + "\n"


def _token(plan: Plan) -> Section:
    """Return [token]. A session of the dashboard ends with its token at the latest."""
    lifetime = {} if plan.dashboard is None else {"expiration": _token_lifetime_s(plan.dashboard)}
    return {"provider": "fernet", **lifetime}


def _token_lifetime_s(dashboard: Dashboard) -> int:
    return max(WORKING_DAY_S, dashboard.session_timeout_s)


def _app(plan: Plan) -> UwsgiApp:
    # Debian also loads uWSGI's AppArmor plugin here; its profile only complains, and neither
    # containers nor every kernel have AppArmor.
    return UwsgiApp(
        name="keystone-api",
        project="keystone",
        wsgi_file="/usr/bin/keystone-wsgi-public",
        processes=plan.workers,
        threads=4,
    )
