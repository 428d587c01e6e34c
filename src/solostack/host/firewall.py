"""The host's own nftables table. Pure.

Only a table of our own, replaced in one transaction, never a flush of the ruleset: the host's other
rules and libvirt's stay as they are.
"""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.plan.model import HostPlan, Plan

RULES_PATH = "/etc/solostack/firewall.nft"
UNIT = "solostack-firewall.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"

_UNIT_TEXT = f"""[Unit]
Description=solostack firewall table of this host
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {RULES_PATH}
ExecReload=/usr/sbin/nft -f {RULES_PATH}
ExecStop=-/usr/sbin/nft destroy table inet solostack

[Install]
WantedBy=multi-user.target nftables.service
"""


def firewall_operations(plan: Plan, host: HostPlan) -> tuple[Operation, ...]:
    """Return the table's file and the unit that loads it at every boot."""
    return (
        File(path=RULES_PATH, content=rules_text(plan, host)),
        File(path=UNIT_PATH, content=_UNIT_TEXT),
        Unit(name=UNIT, restart_on=(RULES_PATH, UNIT_PATH)),
    )


def rules_text(plan: Plan, host: HostPlan) -> str:
    """Render the table: what leaves the NIC from private addresses gets the host's own.

    That is instances without a floating IP and, with egress, the control nodes.
    A floating IP leaves as itself: its address is in neither set.
    """
    inside = [str(plan.external.transit)]
    if plan.egress:
        inside.insert(0, str(plan.data.network))
    everything = ", ".join(inside)
    return (
        "table inet solostack {}\ndelete table inet solostack\n"
        "table inet solostack {\n"
        "    chain postrouting {\n"
        "        type nat hook postrouting priority srcnat; policy accept;\n"
        f'        oifname "{host.nic}" ip saddr {{ {everything} }} counter masquerade\n'
        "    }\n"
        f"{_guard(plan, host)}"
        "}\n"
    )


def _guard(plan: Plan, host: HostPlan) -> str:
    """Render what keeps instances and the provider's wire off the data network.

    A drop in a chain of ours is final whatever other tables accept; nothing else is judged here.
    Packets for the transit's own addresses are instances' pings of their gateway and stay.
    """
    outside = [host.nic, *([plan.external.bridge] if host.gateway else [])]
    names = ", ".join(f'"{name}"' for name in outside)
    inside = f"{{ {plan.data.network}, {plan.external.transit} }}"
    return (
        "    chain forward {\n"
        "        type filter hook forward priority filter; policy accept;\n"
        f"        iifname {{ {names} }} ip daddr {inside} ct state new counter drop\n"
        "    }\n"
        "    chain input {\n"
        "        type filter hook input priority filter; policy accept;\n"
        f"        iifname {{ {names} }} ip daddr {plan.data.network} counter drop\n"
        "    }\n"
    )
