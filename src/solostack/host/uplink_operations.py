"""The uplink as operations: its script, the unit that runs it at boot, and the one that watches.

Pure. The watch is apart because it comes last, when the firewall is there, and goes first when all
is undone: it would put right what is being taken away.
"""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Step, Unit
from solostack.host.firewall import SCRIPT_PATH as FIREWALL_PATH
from solostack.host.firewall import UNIT as FIREWALL_UNIT
from solostack.host.network import UNIT as NETWORK_UNIT
from solostack.host.uplink import SCRIPT_PATH, UNIT, WATCH_UNIT, uplink_of
from solostack.host.uplink_script import script_text
from solostack.plan.model import HostPlan, Plan

UNIT_PATH = f"/etc/systemd/system/{UNIT}"
WATCH_UNIT_PATH = f"/etc/systemd/system/{WATCH_UNIT}"
_MARK = "/var/lib/solostack/before/uplink"

# Stopping it changes nothing: at shutdown the network goes by itself, and what undoes is `down`.
# 78 is the script's answer to what trying again cannot mend.
_UNIT_TEXT = f"""[Unit]
Description=solostack uplink of this host
After=network.target {NETWORK_UNIT} {FIREWALL_UNIT}
Wants={NETWORK_UNIT}
ReloadPropagatedFrom={NETWORK_UNIT}
StartLimitIntervalSec=0

[Service]
Type=oneshot
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=78
RemainAfterExit=yes
ExecStart={SCRIPT_PATH} up
ExecReload={SCRIPT_PATH} up
TimeoutStartSec=120

[Install]
WantedBy=multi-user.target
"""

_WATCH_TEXT = f"""# Whoever puts the host's network back by hand or by timer stops this unit and
# {UNIT} first: otherwise it would be put right again.
[Unit]
Description=solostack watch over the uplink of this host
After={UNIT} {FIREWALL_UNIT}
StartLimitIntervalSec=0

[Service]
ExecStart={SCRIPT_PATH} watch
Restart=always
RestartSec=5
Nice=5

[Install]
WantedBy=multi-user.target
"""


def uplink_operations(plan: Plan, host: HostPlan) -> tuple[Operation, ...]:
    """Return everything that touches the NIC or how the outside sees the host."""
    text = script_text(
        uplink_of(plan, host),
        firewall=FIREWALL_PATH,
        enabled=f"/etc/systemd/system/multi-user.target.wants/{FIREWALL_UNIT}",
    )
    return (
        File(path=SCRIPT_PATH, content=text, mode=0o755),
        Step(
            name="give the uplink back",
            run=f"mkdir -p {_MARK.rpartition('/')[0]} && touch {_MARK}\n",
            unless=f"test -e {_MARK}",
            # The guard may have taken the script away with all it did.
            undo=f"[ ! -x {SCRIPT_PATH} ] || {SCRIPT_PATH} down\nrm -f {_MARK}\n",
        ),
        File(path=UNIT_PATH, content=_UNIT_TEXT),
        Unit(name=UNIT, restart_on=(UNIT_PATH, SCRIPT_PATH), reload=True),
    )


def watch_operations() -> tuple[Operation, ...]:
    """Return the unit that keeps the uplink and the firewall as they must be."""
    return (
        File(path=WATCH_UNIT_PATH, content=_WATCH_TEXT),
        Unit(name=WATCH_UNIT, restart_on=(WATCH_UNIT_PATH, SCRIPT_PATH)),
    )
