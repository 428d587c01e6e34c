"""The parts of nova.conf that the controller and the compute hosts have alike."""

from __future__ import annotations

from solostack.engine.operations import secret
from solostack.openstack import auth, volumes
from solostack.openstack.ini import Section
from solostack.plan.model import Plan

API_PORT = 8774
METADATA_PORT = 8775
CONSOLE_PORT = 6080
GLANCE_PORT = 9292


def shared_sections(plan: Plan, *, host: str, address: str) -> dict[str, Section]:
    """Return the sections, [DEFAULT] among them, for the machine called host.

    host must be the name under which OVN knows the machine (external_ids:hostname), or ports of
    instances there are not bound. Debian's own file turns SPICE on, for which its QEMU packages
    lack the module.
    """
    return {
        "DEFAULT": {
            "host": host,
            "my_ip": address,
            "state_path": "/var/lib/nova",
            "transport_url": auth.transport_url(plan),
        },
        "cinder": volumes.nova_section(plan),
        "glance": {
            "api_servers": auth.service_url(plan, GLANCE_PORT),
            "region_name": plan.region,
        },
        "neutron": auth.service_credentials(plan, "neutron"),
        "oslo_concurrency": {"lock_path": "/var/lib/nova/tmp"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_messaging_rabbit": auth.messaging(),
        "placement": auth.service_credentials(plan, "placement"),
        "service_user": auth.service_user(plan, "nova"),
        "spice": {"enabled": False},
    }


def console_url(plan: Plan) -> str:
    """Return the page of a console; Nova adds the token (novncproxy_base_url).

    Behind the front door it connects by itself, as there it is a part of the dashboard's page.
    """
    page = auth.service_url(plan, CONSOLE_PORT, "/vnc_auto.html")
    return auth.public_url(
        plan, "/novnc", "/vnc_auto.html?autoconnect=true&resize=scale", internal=page
    )


def metadata_secret() -> str:
    """Return the placeholder of the secret that Neutron's metadata agent signs with."""
    return secret(auth.METADATA_SECRET)
