"""OVN's databases and northd on the controller."""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack.once import once

PACKAGES = ("ovn-central",)
UNITS = ("ovn-central.service",)
DEFAULT = "/etc/default/ovn-central"
NORTHBOUND_PORT = 6641
SOUTHBOUND_PORT = 6642
PROBE_MS = 60000
RUN = "/var/run/ovn"


def ovn_central_operations() -> tuple[Operation, ...]:
    """Return the unit, and the databases' listeners on the data network.

    The long probe keeps connections of busy or emulated chassis, which answer late.
    """
    # The unit is active before its two database servers are; the tools do not wait for a socket.
    wait = (
        "tries=0\n"
        f"until [ -S {RUN}/ovnnb_db.sock ] && [ -S {RUN}/ovnsb_db.sock ]; do\n"
        "    tries=$((tries + 1))\n"
        "    [ $tries -lt 300 ]\n"
        "    sleep 0.2\n"
        "done\n"
    )
    listen = "".join(
        f"{tool} --timeout=60 set-connection ptcp:{port}:0.0.0.0"
        f" -- set connection . inactivity_probe={PROBE_MS}\n"
        for tool, port in (("ovn-nbctl", NORTHBOUND_PORT), ("ovn-sbctl", SOUTHBOUND_PORT))
    )
    return (
        File(path=DEFAULT, content='OVN_CTL_OPTS=""\n'),
        Unit(name="ovn-central.service", restart_on=(DEFAULT,)),
        once(
            "ovn-connections",
            wait + listen,
            results=("/var/lib/ovn/ovnnb_db.db", "/var/lib/ovn/ovnsb_db.db"),
        ),
    )
