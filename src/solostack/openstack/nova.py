"""Nova on the controller: APIs, scheduler, conductor and the consoles' proxy (VNC)."""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack import auth, novaconf
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import render_ini
from solostack.openstack.programs import program
from solostack.openstack.schema import DatabaseUser, schema_step
from solostack.openstack.uwsgi import UwsgiApp, render_uwsgi
from solostack.plan.model import NodePlan, Plan

PACKAGES = ("nova-api", "nova-scheduler", "nova-conductor", "nova-consoleproxy")
UNITS = (
    "nova-api.service",
    "nova-api-metadata.service",
    "nova-scheduler.service",
    "nova-conductor.service",
    "nova-novncproxy.service",
)
UNWANTED_UNITS = ("nova-spicehtml5proxy.service", "nova-serialproxy.service")
DATABASE = DatabaseUser(name="nova", databases=("nova_api", "nova", "nova_cell0"))
CONF = "/etc/nova/nova.conf"
API_UWSGI = "/etc/nova/nova-api-uwsgi.ini"
METADATA_UWSGI = "/etc/nova/nova-api-metadata-uwsgi.ini"
CONSOLE_DEFAULT = "/etc/default/nova-consoleproxy"
SETUP = program("nova_setup")


def catalog_service(plan: Plan) -> CatalogService:
    """Return the entry in the catalogue."""
    url = auth.service_url(plan, novaconf.API_PORT, "/v2.1")
    public_url = auth.public_url(plan, "/compute", "/v2.1", internal=url)
    return CatalogService(name="nova", type="compute", url=url, public_url=public_url)


def nova_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return files, schemas and cells."""
    return (
        File(path=CONF, content=render_conf(plan, node), mode=0o640, group="nova"),
        File(path=API_UWSGI, content=render_uwsgi(_app(plan, "nova-api", "nova-api-wsgi"))),
        File(
            path=METADATA_UWSGI,
            content=render_uwsgi(_app(plan, "nova-api-metadata", "nova-metadata-wsgi")),
        ),
        # Debian's init scripts start the one proxy this file names; spicehtml5 is the default.
        File(path=CONSOLE_DEFAULT, content="NOVA_CONSOLE_PROXY_TYPE=novnc\n"),
        SETUP,
        schema_step(
            DATABASE,
            f"runuser -u nova -- python3 -I {SETUP.path}",
            package="python3-nova",
            inputs=(SETUP.path,),
        ),
    )


def nova_units(*, running: bool = True) -> tuple[Operation, ...]:
    """Return Nova's units: wanted ones, then those that its packages bring besides."""
    inputs = {
        "nova-api.service": (CONF, API_UWSGI),
        "nova-api-metadata.service": (CONF, METADATA_UWSGI),
        "nova-novncproxy.service": (CONF, CONSOLE_DEFAULT),
    }
    wanted = tuple(
        Unit(name=name, running=running, restart_on=inputs.get(name, (CONF,))) for name in UNITS
    )
    unwanted = tuple(Unit(name=name, enabled=False, running=False) for name in UNWANTED_UNITS)
    return wanted + unwanted


def render_conf(plan: Plan, node: NodePlan) -> str:
    """Render nova.conf of the controller."""
    shared = novaconf.shared_sections(plan, host=node.name, address=str(node.data_address))
    return render_ini(
        shared
        | {
            "DEFAULT": {**shared["DEFAULT"], "default_floating_pool": "external"},
            "api": {"auth_strategy": "keystone"},
            "api_database": auth.database(plan, "nova", "nova_api"),
            "cache": auth.shared_cache(),
            "conductor": {"workers": plan.workers},
            "database": auth.database(plan, "nova"),
            "keystone_authtoken": auth.keystone_authtoken(plan, "nova"),
            "neutron": {
                **shared["neutron"],
                "service_metadata_proxy": True,
                "metadata_proxy_shared_secret": novaconf.metadata_secret(),
            },
            "oslo_middleware": auth.proxy_headers(plan),
            "oslo_policy": {"policy_dirs": "/etc/nova/policy.d"},
            "scheduler": {"workers": plan.workers, "discover_hosts_in_cells_interval": 30},
            "vnc": {
                "enabled": True,
                "novncproxy_host": "0.0.0.0",  # noqa: S104  inside the node
                "novncproxy_port": novaconf.CONSOLE_PORT,
            },
        }
    )


def _app(plan: Plan, name: str, program_name: str) -> UwsgiApp:
    # One thread: Nova patches the standard library for eventlet, and its green threads cannot be
    # shared between the native threads of uWSGI.
    return UwsgiApp(
        name=name,
        project="nova",
        wsgi_file=f"/usr/bin/{program_name}",
        processes=plan.workers,
        threads=1,
    )
