"""Neutron on the controller: ML2 with OVN; API under uWSGI and its helper processes.

There is no neutron-rpc-server: with OVN no agent speaks to Neutron over the message queue (the
metadata agent reads OVN's southbound database), so it would serve nobody with 200 MB.
"""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack import auth
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import Section, render_ini
from solostack.openstack.schema import DatabaseUser, schema_step
from solostack.openstack.uwsgi import UwsgiApp, render_uwsgi
from solostack.plan.model import NodePlan, Plan
from solostack.site.model import Role

PORT = 9696
PACKAGES = (
    "neutron-api",
    "neutron-ovn-maintenance-worker",
    "neutron-periodic-workers",
)
WORKERS = ("neutron-ovn-maintenance-worker", "neutron-periodic-workers")
UNITS = ("neutron-api.service", *(f"{name}.service" for name in WORKERS))
DATABASE = DatabaseUser(name="neutron", databases=("neutron",))
CONF = "/etc/neutron/neutron.conf"
ML2_CONF = "/etc/neutron/plugins/ml2/ml2_conf.ini"
UWSGI = "/etc/neutron/neutron-api-uwsgi.ini"
GENEVE_HEADER_BYTES = 38
PHYSICAL_NETWORK = "external"


def catalog_service(plan: Plan) -> CatalogService:
    """Return the entry in the catalogue."""
    url = auth.service_url(plan, PORT)
    public_url = auth.public_url(plan, "/network", internal=url)
    return CatalogService(name="neutron", type="network", url=url, public_url=public_url)


def neutron_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return files and schema."""
    sync = (
        f"runuser -u neutron -- neutron-db-manage --config-file {CONF} --config-file {ML2_CONF}"
        " upgrade heads"
    )
    return (
        File(path=CONF, content=render_conf(plan, node), mode=0o640, group="neutron"),
        File(path=ML2_CONF, content=render_ml2(plan), mode=0o640, group="neutron"),
        File(path=UWSGI, content=render_uwsgi(_app(plan))),
        *(File(path=_unit_path(name), content=render_unit(name)) for name in WORKERS),
        schema_step(DATABASE, sync, package="python3-neutron"),
    )


def neutron_units(*, running: bool = True) -> tuple[Operation, ...]:
    """Return Neutron's units."""
    api = Unit(name="neutron-api.service", running=running, restart_on=(CONF, ML2_CONF, UWSGI))
    workers = tuple(
        Unit(
            name=f"{name}.service",
            running=running,
            restart_on=(CONF, ML2_CONF, _unit_path(name)),
        )
        for name in WORKERS
    )
    return (api, *workers)


def render_conf(plan: Plan, node: NodePlan) -> str:
    """Render neutron.conf.

    Debian's init scripts read core_plugin with grep and find ml2_conf.ini by it. api_workers must
    equal the processes of uWSGI, else OVN's hash ring waits for members that never come.
    """
    return render_ini(
        {
            "DEFAULT": {
                "host": node.name,
                "core_plugin": "ml2",
                "service_plugins": ("ovn-router",),
                "auth_strategy": "keystone",
                "transport_url": auth.transport_url(plan),
                "state_path": "/var/lib/neutron",
                "api_workers": plan.workers,
                "rpc_workers": 0,
                "rpc_state_report_workers": 0,
                "global_physnet_mtu": plan.data.mtu,
                "notify_nova_on_port_status_changes": True,
                "notify_nova_on_port_data_changes": True,
            },
            "agent": {"root_helper": "sudo neutron-rootwrap /etc/neutron/rootwrap.conf"},
            "database": auth.database(plan, "neutron"),
            "keystone_authtoken": auth.keystone_authtoken(plan, "neutron"),
            "nova": auth.service_credentials(plan, "nova") | {"endpoint_type": "internal"},
            "oslo_concurrency": {"lock_path": "/var/lib/neutron/tmp"},
            "oslo_messaging_notifications": {"driver": "noop"},
            "oslo_messaging_rabbit": auth.messaging(),
            "oslo_middleware": auth.proxy_headers(plan),
            "oslo_policy": {"policy_dirs": "/etc/neutron/policy.d"},
            "placement": auth.service_credentials(plan, "placement")
            | {"endpoint_type": "internal"},
        }
    )


def render_ml2(plan: Plan) -> str:
    """Render ml2_conf.ini.

    Neutron gives tenants the data network's MTU less 20 (IPv4) and max_header_size bytes; the
    flat network keeps the MTU of the network node's external card.
    """
    address = auth.controller_address(plan)
    return render_ini(
        {
            "ml2": {
                "mechanism_drivers": ("ovn",),
                "type_drivers": ("local", "flat", "geneve"),
                "tenant_network_types": ("geneve",),
                "extension_drivers": ("port_security",),
                "overlay_ip_version": 4,
                "path_mtu": plan.data.mtu,
                "physical_network_mtus": f"{PHYSICAL_NETWORK}:{_external_mtu(plan)}",
            },
            "ml2_type_flat": {"flat_networks": PHYSICAL_NETWORK},
            "ml2_type_geneve": {
                "vni_ranges": "1:65536",
                "max_header_size": GENEVE_HEADER_BYTES,
            },
            "securitygroup": {"enable_security_group": True},
            "ovn": _ovn(plan, address),
        }
    )


def _ovn(plan: Plan, address: str) -> Section:
    # Without name servers of its own, a subnet would offer those of the controller, which
    # instances cannot reach.
    servers = plan.demo.dns if plan.demo is not None else ()
    section: dict[str, str | int | bool] = {
        "ovn_nb_connection": f"tcp:{address}:6641",
        "ovn_sb_connection": f"tcp:{address}:6642",
        "ovn_l3_scheduler": "leastloaded",
        "ovn_metadata_enabled": True,
        "enable_distributed_floating_ip": False,
        "ovsdb_probe_interval": 60000,
    }
    if servers:
        section["dns_servers"] = ",".join(str(server) for server in servers)
    return section


def _external_mtu(plan: Plan) -> int:
    node = plan.node(Role.NETWORK)
    return next((card.mtu for card in node.interfaces if card.address is None), plan.data.mtu)


def _unit_path(name: str) -> str:
    return f"/etc/systemd/system/{name}.service"


def render_unit(name: str) -> str:
    """Render the unit of a worker.

    Debian ships System V scripts for them, which pass a drop-in directory that the API reads in
    another order; here every process of Neutron reads the same two files. The workers do not always
    end when asked to, and hold nothing that could be lost, so they are not waited for long.
    """
    return f"""\
[Unit]
Description=OpenStack Neutron ({name})
After=mariadb.service rabbitmq-server.service ovn-central.service network-online.target
Wants=network-online.target

[Service]
User=neutron
Group=neutron
WorkingDirectory=/var/lib/neutron
ExecStart=/usr/bin/{name} --config-file={CONF} --config-file={ML2_CONF}
Restart=on-failure
RestartSec=2
LimitNOFILE=65535
TimeoutStopSec=5

[Install]
WantedBy=multi-user.target
"""


def _app(plan: Plan) -> UwsgiApp:
    # start-time gives OVN's hash ring the moment uWSGI started; threads break OVN's connection
    # (Debian bug 1093303), so Debian turns them off, and so do we.
    return UwsgiApp(
        name="neutron-api",
        project="neutron",
        wsgi_file="/usr/bin/neutron-api",
        processes=plan.workers,
        threads=1,
        extra={
            "enable-threads": False,
            "paste": "config:/etc/neutron/api-paste.ini",
            "start-time": "%t",
        },
    )
