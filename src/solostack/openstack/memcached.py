"""memcached on the controller: 64 MiB for tokens and caches, for processes of this node only."""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack.auth import MEMCACHED

PACKAGES = ("memcached", "python3-memcache")
UNITS = ("memcached.service",)
CONF = "/etc/memcached.conf"


def memcached_operations() -> tuple[Operation, ...]:
    """Return memcached's file and unit."""
    return (
        File(path=CONF, content=render_conf()),
        Unit(name="memcached.service", restart_on=(CONF,)),
    )


def render_conf() -> str:
    """Render the file that Debian's systemd-memcached-wrapper reads. It has no authentication."""
    address, port = MEMCACHED.split(":")
    return f"""\
# Written by solostack; changes made here are lost at the next apply.
-m 64
-l {address}
-p {port}
-U 0
-t 2
-u memcache
-P /run/memcached/memcached.pid
"""
