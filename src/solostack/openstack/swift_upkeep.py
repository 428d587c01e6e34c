"""Swift's daemons in two passes: what keeps objects in order, and what reads all of them again.

Each daemon of Swift has a mode that works once through everything (``swift-object-replicator CONF
once``). Run one after the other by a timer, they need the memory of one daemon while they work and
none in between, where a dozen of them would hold half a gibibyte for a node that rests.
"""

from __future__ import annotations

import dataclasses

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack.ini import BANNER
from solostack.plan.model import Plan
from solostack.site.model import Role

SYSTEMD = "/etc/systemd/system"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Daemons that run one after the other.

    first is the time from a boot to the first run, rest that from the end of one run to the next;
    both "": there is no timer for it. urgent: somebody waits for it; the others are last in line
    for processor and disks.
    """

    name: str
    purpose: str
    daemons: tuple[tuple[str, str], ...]
    first: str = ""
    rest: str = ""
    urgent: bool = False


UPKEEP = Pass(
    name="solostack-swift-upkeep",
    purpose="Swift: bring listings up to date, delete what has expired, put replicas right",
    daemons=(
        ("object-updater", "object-server"),
        ("container-updater", "container-server"),
        ("object-expirer", "object-expirer"),
        ("account-reaper", "account-server"),
        ("account-replicator", "account-server"),
        ("container-replicator", "container-server"),
        ("object-replicator", "object-server"),
    ),
    first="5min",
    rest="5min",
)
AUDIT = Pass(
    name="solostack-swift-audit",
    purpose="Swift: read everything again and put aside what is damaged",
    daemons=(
        ("account-auditor", "account-server"),
        ("container-auditor", "container-server"),
        ("object-auditor", "object-server"),
    ),
    first="6h",
    rest="1d",
)
MOVE = Pass(
    name="solostack-swift-move",
    purpose="Swift: bring accounts and containers to the disks that changed rings name",
    daemons=(
        ("account-replicator", "account-server"),
        ("container-replicator", "container-server"),
    ),
    urgent=True,
)
MOVE_OBJECTS = Pass(
    name="solostack-swift-move-objects",
    purpose="Swift: bring objects to the disks that changed rings name",
    daemons=(("object-replicator", "object-server"),),
)
PASSES = (UPKEEP, AUDIT)
# An idle upkeep starts seven programs: 15 s of a processor, two to four minutes of an emulated one,
# which would come between a boot and the checks after it.
EMULATED = "30min"
MOVE_TIMEOUT_S = 1200
OBJECTS_S = 300
START = f"""\
if systemctl -q is-active {UPKEEP.name}.timer; then
    systemctl stop {UPKEEP.name}.service {MOVE_OBJECTS.name}.service
    systemctl start {MOVE.name}.service
    timeout {OBJECTS_S} systemctl start {MOVE_OBJECTS.name}.service || [ $? = 124 ]
fi
"""
"""After the rings changed, when all units run. A pass that runs may have read the old ones, so it
is stopped; its timer begins the next. New containers are refused (404) while their account is not
where the rings say: the container server tells only that disk of them. So this ends when accounts
and containers, which are small, are there. Objects are read from either disk, but who deletes one
is told by the disk that the ring names alone: 404, though it is deleted. They may be many: after
some minutes they move on with nobody waiting."""


def upkeep_files(plan: Plan) -> tuple[Operation, ...]:
    """Return the units of both passes and their timers."""
    emulated = not plan.host(plan.node(Role.STORAGE).host).kvm
    slow = dataclasses.replace(UPKEEP, first=EMULATED, rest=EMULATED)
    passes = (slow if emulated else UPKEEP, AUDIT)
    timers = (File(path=_timer(one), content=render_timer(one)) for one in passes)
    return (*timers, *(_service(one) for one in (*PASSES, MOVE, MOVE_OBJECTS)))


def upkeep_units(*, running: bool) -> tuple[Operation, ...]:
    """Return the timers' units."""
    return tuple(
        Unit(name=f"{one.name}.timer", running=running, restart_on=(_timer(one),)) for one in PASSES
    )


def render_service(one: Pass) -> str:
    """Render the unit that runs a pass."""
    behind = "" if one.urgent else "Nice=19\nIOSchedulingClass=idle\n"
    # Both may move the same objects.
    after = f" {MOVE_OBJECTS.name}.service" if one is not MOVE_OBJECTS else ""
    commands = "".join(
        f"ExecStart=/usr/bin/swift-{daemon} /etc/swift/{conf}.conf once\n"
        for daemon, conf in one.daemons
    )
    return f"""\
{BANNER}[Unit]
Description={one.purpose}
After=network-online.target local-fs.target swift-proxy.service{after}

[Service]
Type=oneshot
User=swift
Group=swift
WorkingDirectory=~
CacheDirectory=swift
{behind}{commands}"""


def render_timer(one: Pass) -> str:
    """Render a pass's timer."""
    return f"""\
{BANNER}[Unit]
Description={one.purpose}

[Timer]
OnActiveSec={one.first}
OnUnitInactiveSec={one.rest}

[Install]
WantedBy=timers.target
"""


def _service(one: Pass) -> File:
    return File(path=f"{SYSTEMD}/{one.name}.service", content=render_service(one))


def _timer(one: Pass) -> str:
    return f"{SYSTEMD}/{one.name}.timer"
