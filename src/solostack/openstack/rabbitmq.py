"""RabbitMQ on the controller: one node, one user, little memory and few threads."""

from __future__ import annotations

import json

from solostack.engine.operations import Absent, File, Operation, Unit, secret
from solostack.openstack.auth import RABBITMQ_PASSWORD, RABBITMQ_USER

PACKAGES = ("rabbitmq-server",)
UNITS = ("rabbitmq-server.service", "epmd.service", "epmd.socket")
CONF = "/etc/rabbitmq/rabbitmq.conf"
ENV = "/etc/rabbitmq/rabbitmq-env.conf"
DEFINITIONS = "/etc/rabbitmq/definitions.json"
EPMD_SOCKET = "/etc/systemd/system/epmd.socket"
DROPIN = "/etc/systemd/system/rabbitmq-server.service.d/solostack.conf"


def rabbitmq_operations() -> tuple[Operation, ...]:
    """Return the broker's files and unit. Users come from a definitions file read at its start."""
    files = (CONF, ENV, DEFINITIONS)
    return (
        File(path=EPMD_SOCKET, content=render_epmd_socket()),
        File(path=DROPIN, content=render_dropin()),
        File(path=CONF, content=render_conf()),
        File(path=ENV, content=render_env()),
        File(path=DEFINITIONS, content=render_definitions(), mode=0o640, group="rabbitmq"),
        Absent(path="/etc/rabbitmq/enabled_plugins"),
        Unit(name="epmd.socket", restart_on=(EPMD_SOCKET,)),
        Unit(name="rabbitmq-server.service", restart_on=files),
    )


def render_conf() -> str:
    """Render rabbitmq.conf. The watermark is absolute: a container sees the host's whole memory."""
    return "\n".join(
        (
            "# Written by solostack; changes made here are lost at the next apply.",
            "listeners.tcp.default = 0.0.0.0:5672",
            f"load_definitions = {DEFINITIONS}",
            "vm_memory_high_watermark.absolute = 512MiB",
            "disk_free_limit.absolute = 256MB",
            "collect_statistics_interval = 60000",
            "log.file.level = warning",
            "log.file.rotation.size = 10485760",
            "log.file.rotation.count = 2",
            "",
        )
    )


def render_env() -> str:
    """Render the broker's environment.

    A fixed node name keeps the queue's data when the machine's host name changes. One scheduler
    that does not spin (+sbwt, erl(1)) is enough here and leaves the processors to the APIs.
    """
    flags = "+S 1:1 +A 8 +sbwt none +sbwtdcpu none +sbwtdio none"
    return (
        "# Written by solostack; changes made here are lost at the next apply.\n"
        "NODENAME=rabbit@localhost\n"
        f'SERVER_ADDITIONAL_ERL_ARGS="{flags} -kernel inet_dist_use_interface {{127,0,0,1}}"\n'
    )


def render_definitions() -> str:
    """Render the definitions: the services' one user. The default user guest is not made."""
    permission = {
        "user": RABBITMQ_USER,
        "vhost": "/",
        "configure": ".*",
        "write": ".*",
        "read": ".*",
    }
    definitions = {
        "users": [{"name": RABBITMQ_USER, "password": secret(RABBITMQ_PASSWORD), "tags": []}],
        "vhosts": [{"name": "/"}],
        "permissions": [permission],
    }
    return json.dumps(definitions, indent=2) + "\n"


def render_dropin() -> str:
    """Render an addition to Debian's unit: stop by SIGTERM, which the broker obeys in good order.

    Debian's rabbitmqctl starts a second Erlang machine only to say the same, for many seconds.
    RUNNING_UNDER_SYSTEMD makes the start script give its process to the broker; KillMode=mixed lets
    the broker's helpers live until it has ended.
    """
    return (
        "[Service]\n"
        "Environment=RUNNING_UNDER_SYSTEMD=true\n"
        "ExecStop=\n"
        "KillMode=mixed\n"
        "TimeoutStopSec=60\n"
    )


def render_epmd_socket() -> str:
    """Render Erlang's port mapper as a service of this machine alone (Debian's is open to all)."""
    return """\
[Unit]
Description=Erlang Port Mapper Daemon Activation Socket

[Socket]
ListenStream=127.0.0.1:4369
Accept=false

[Install]
WantedBy=sockets.target
"""
