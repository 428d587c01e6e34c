"""The host's own nftables tables: their file, what loads it, and the unit. Pure.

Only tables of our own, replaced in one transaction, never a flush of the ruleset: the host's other
rules and libvirt's stay as they are.
"""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.host.firewall_text import FAMILIES, OWNED, TABLE, removal, rules_text
from solostack.host.uplink import UPLINK_BRIDGE, UPLINK_LINK, uplink_device
from solostack.plan.model import HostPlan, Plan

RULES_PATH = "/etc/solostack/firewall.nft"
SCRIPT_PATH = "/usr/local/lib/solostack/firewall"
UNIT = "solostack-firewall.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"

# Debian's nftables.service flushes everybody's rules at reload, restart and stop. After it, and
# bound to it, this unit follows each of these, in that order (systemd.unit(5)).
_UNIT_TEXT = f"""[Unit]
Description=solostack firewall tables of this host
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={SCRIPT_PATH} load
ExecReload={SCRIPT_PATH} load
ExecStop=-{SCRIPT_PATH} remove

[Install]
WantedBy=multi-user.target nftables.service
"""


def firewall_operations(plan: Plan, host: HostPlan) -> tuple[Operation, ...]:
    """Return the tables' file, what loads it, and the unit that does so at every boot."""
    return (
        File(path=RULES_PATH, content=rules_text(plan, host)),
        File(path=SCRIPT_PATH, content=script_text(plan, host), mode=0o755),
        File(path=UNIT_PATH, content=_UNIT_TEXT),
        # A restart would remove the tables for a moment.
        Unit(name=UNIT, restart_on=(RULES_PATH, SCRIPT_PATH, UNIT_PATH), reload=True),
    )


def script_text(plan: Plan, host: HostPlan) -> str:
    """Render the script that loads or removes the tables, each in one transaction.

    The addresses that the uplink has at that time are its own as well: the host may speak for them.
    """
    remove = " ".join(removal(family) for family in FAMILIES)
    device = uplink_device(plan, host)
    # Without the tables internal addresses would be announced on the provider's wire.
    part = f"    ip link set {UPLINK_LINK} down 2>/dev/null || true\n"
    return (
        "#!/bin/sh\n"
        "# Loads or removes solostack's tables; safe to run at any time.\n"
        "set -eu\n"
        "load() {\n"
        "    {\n"
        f"        cat {RULES_PATH}\n"
        f"        ip -4 -o address show dev {device} 2>/dev/null |\n"
        f'            awk \'{{ sub("/.*", "", $4)\n'
        f'                print "add element arp {TABLE} {OWNED} {{ " $4 " }}" }}\'\n'
        "    } | nft -f -\n"
        "}\n"
        "remove() {\n"
        f"{part if device == UPLINK_BRIDGE else ''}"
        f"    nft '{remove}'\n"
        "}\n"
        '"$1"\n'
    )
