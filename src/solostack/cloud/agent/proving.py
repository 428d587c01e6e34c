"""Action `verify_start`: two instances that prove the cloud from the inside.

Everything is made in a project of its own, so that no user's object, quota or choice is in the way
and leftovers of a killed run are recognised. The first instance has a floating IP from the start;
the second starts without, reaches out through SNAT and the first over the tenant network, and gets
its floating IP while it runs. What they see they print on their consoles.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

from .closing import clean_project
from .ensure import MARK
from .opening import add_rule, admin, create_router, ensure_project, grant, join_router
from .report import Changes, Finding, Wait, emit, finding
from .rest import Body, Cloud, collection
from .servers import (
    add_floating,
    login_to,
    need,
    read_console,
    start_server,
    wait_active,
)
from .status import agents, compute_services

CONSOLE_PAUSE_S = 1.0
PROBES = {
    "identity": "/projects?limit=1",
    "image": "/images?limit=1",
    "compute": "/servers?limit=1",
    "network": "/networks?limit=1",
    "placement": "/resource_providers",
}
SILENT_S = 120.0
# An address is pinged more than once: where all is emulated, the first packet of a flow may take
# longer than one waits for it.
TRIES = """\
seconds() { cut -d. -f1 /proc/uptime; }
again() {
	end=$(($(seconds) + 120))
	until "$@" >/dev/null 2>&1; do
		[ "$(seconds)" -ge $end ] && return 1
		sleep 1
	done
}
tell() {
	name=$1
	shift
	if again "$@"; then echo "VERIFY $name yes"; else echo "VERIFY $name no"; fi
}
"""
# Waits for a volume, fills its first MiB, and reads that back from the volume itself.
VOLUME_SCRIPT = """\
volume() {
	until [ -b /dev/vdb ]; do sleep 1; done
	dd if=/dev/urandom of=/run/written bs=64k count=16 2>/dev/null
	dd if=/run/written of=/dev/vdb bs=64k conv=fsync 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/vdb bs=64k count=16 2>/dev/null | cmp -s - /run/written
}
if volume; then echo "VERIFY volume yes"; else echo "VERIFY volume no"; fi &
"""
FIRST_SCRIPT = """#!/bin/sh
{tries}
{volume}
tell listening wget -q -T 5 -O /dev/null http://127.0.0.1:8080/
tell outward ping -c 4 -W 3 {upstream}
"""
SECOND_SCRIPT = """#!/bin/sh
{tries}
peer() {{ wget -q -T 3 -O - http://{first}/ | grep -q solostack; }}
tell peer peer
tell outward ping -c 4 -W 3 {upstream}
"""


def verify_start(request: Body) -> Body:
    """Make every check that can be made from here; leave two instances for those from outside.

    Each check is emitted as a finding. The answer has for first and second: floating (empty when no
    address was free), fixed and the console.
    """
    cloud = admin(request)
    _check_apis(cloud)
    _check_compute(cloud, request["compute_hosts"], request["settle_s"])
    _check_agents(cloud, request["chassis"], request["settle_s"])
    clean_project(cloud, request["project"], request["timeout_s"], Changes(), keep_volumes=True)
    stage: Body = {}
    with finding("instances start") as one:
        stage = _build(cloud, request)
        one.detail = ", ".join(f"{name} on {host}" for name, host in stage["hosts"].items())
    if not stage:
        return {"first": None, "second": None}
    seen = _watch(stage, request["timeout_s"], emulated=request["emulated"])
    _judge(seen)
    _float_second(cloud, stage)
    return {name: _instance(stage, seen, name) for name in ("first", "second")}


def _instance(stage: Body, seen: dict[str, Seen], name: str) -> Body:
    return {
        "fixed": stage["fixed"][name],
        "floating": stage["floating"].get(name, ""),
        "console": seen[name].console[-4000:],
    }


def _check_apis(cloud: Cloud) -> None:
    with finding("APIs answer") as one:
        told = []
        for service, path in PROBES.items():
            start_s = time.monotonic()
            cloud.get(service, path)
            told.append(f"{service} {(time.monotonic() - start_s) * 1000:.0f} ms")
        one.detail = ", ".join(told)


def _check_compute(cloud: Cloud, hosts: list[str], limit_s: float) -> None:
    with finding("compute services up") as one:
        wait = Wait(limit_s)
        while True:
            rows = compute_services(cloud)
            up = {row["host"] for row in rows if row["binary"] == "nova-compute" and _is_up(row)}
            bad = [f"nova-compute on {host}" for host in hosts if host not in up]
            bad += [f"{row['binary']} on {row['host']}" for row in rows if row["state"] != "up"]
            if not bad or not wait.left("waiting for " + ", ".join(bad)):
                break
        one.detail = ", ".join(f"{row['binary']} on {row['host']}" for row in rows)
        if bad:
            one.fail("down or disabled: " + ", ".join(dict.fromkeys(bad)))


def _is_up(row: Body) -> bool:
    return bool(row["state"] == "up" and row["status"] == "enabled")


def _check_agents(cloud: Cloud, chassis: dict[str, list[str]], limit_s: float) -> None:
    """Chassis: for each host words that must be in the type of one of its live agents."""
    with finding("network agents alive") as one:
        wait = Wait(limit_s)
        while True:
            rows = agents(cloud)
            bad = missing_agents(rows, chassis)
            if not bad or not wait.left("waiting for " + ", ".join(bad)):
                break
        one.detail = ", ".join(f"{row['type']} on {row['host']}" for row in rows)
        if bad:
            one.fail("not alive: " + ", ".join(bad))


def missing_agents(rows: list[Body], chassis: dict[str, list[str]]) -> list[str]:
    """Return what is wanted of agents and not there, and agents that are dead."""
    bad = [f"{row['type']} on {row['host']}" for row in rows if not row["alive"]]
    for host, words in chassis.items():
        types = " / ".join(row["type"] for row in rows if row["host"] == host and row["alive"])
        bad += [f"{word} agent on {host}" for word in words if word.lower() not in types.lower()]
    return bad


def open_project(cloud: Cloud, request: Body) -> Body:
    """Make the project of the proofs; return cloud (its login), project_id and external_id."""
    project = ensure_project(cloud, request["project"], Changes())
    user_id, _ = cloud.ids()
    grant(cloud, project, user_id, "member")
    return {
        "cloud": login_to(request, request["project"]),
        "project_id": project["id"],
        "external_id": need(cloud, "network", "networks", request["external_network"])["id"],
    }


def _build(cloud: Cloud, request: Body) -> Body:
    stage = open_project(cloud, request)
    mine: Cloud = stage["cloud"]
    ports = build_network(mine, request, stage, ("first", "second"))
    stage |= {
        "ports": {name: port["id"] for name, port in ports.items()},
        "fixed": {name: port["fixed_ips"][0]["ip_address"] for name, port in ports.items()},
        "addresses": free_addresses(
            request["addresses"],
            [row["floating_ip_address"] for row in cloud.list("network", "floatingips")],
        ),
        "floating": {},
    }
    _float(cloud, stage, "first")
    servers = _start_both(mine, request, stage)
    active = wait_active(mine, list(servers.values()), request["timeout_s"])
    stage["servers"] = {name: server["id"] for name, server in servers.items()}
    rows = [cloud.get("compute", f"/servers/{server['id']}")["server"] for server in active]
    stage["hosts"] = {row["name"]: row.get("OS-EXT-SRV-ATTR:host") for row in rows}
    return stage


def build_network(
    cloud: Cloud, request: Body, stage: Body, names: tuple[str, ...]
) -> dict[str, Body]:
    """Make a router, network, subnet and security group, and a port for each name.

    stage has project_id and external_id.
    """
    name, project_id = request["project"], stage["project_id"]

    def make(single: str, **fields: object) -> Body:
        body = {single: {"name": name, "description": MARK, **fields}}
        kind = collection(single + "s")
        return dict(cloud.request("POST", "network", kind, body)[single])

    def make_group() -> Body:
        group = make("security_group")
        for rule in request["rules"]:
            add_rule(cloud, group["id"], project_id, rule)
        return group

    with ThreadPoolExecutor(max_workers=2) as pool:
        routing = pool.submit(create_router, cloud, name, project_id, stage["external_id"])
        grouping = pool.submit(make_group)
        network = make("network")
        subnet = make("subnet", network_id=network["id"], ip_version=4, cidr=request["cidr"])
        joining = pool.submit(join_router, cloud, routing.result()["id"], subnet["id"])
        groups = [grouping.result()["id"]]
        ports = {
            which: make("port", network_id=network["id"], security_groups=groups) for which in names
        }
        joining.result()
    return ports


def _start_both(cloud: Cloud, request: Body, stage: Body) -> dict[str, Body]:
    image = need(cloud, "image", "images", request["image"])["id"]
    flavor = need(cloud, "compute", "flavors", request["flavor"])["id"]
    scripts = {"first": FIRST_SCRIPT, "second": SECOND_SCRIPT}
    servers = {}
    for name, script in scripts.items():
        user_data = script.format(
            tries=TRIES,
            upstream=request["upstream"],
            first=stage["fixed"]["first"],
            volume=VOLUME_SCRIPT,
        )
        wanted = {
            "name": f"verify-{name}",
            "imageRef": image,
            "flavorRef": flavor,
            "networks": [{"port": stage["ports"][name]}],
        }
        servers[name] = start_server(cloud, wanted, user_data)
    return servers


def free_addresses(wanted: list[str], used: list[str]) -> list[str]:
    """Return the wanted addresses that nobody has, in order of preference."""
    return [address for address in wanted if address not in set(used)]


def _float(cloud: Cloud, stage: Body, name: str) -> None:
    if stage["addresses"]:
        address = stage["addresses"].pop(0)
        port = stage["ports"][name]
        add_floating(cloud, stage["external_id"], stage["project_id"], address, port)
        stage["floating"][name] = address


def _float_second(cloud: Cloud, stage: Body) -> None:
    with finding("floating IP given to a running instance") as one:
        _float(cloud, stage, "second")
        one.detail = stage["floating"].get("second", "no address of the block is free")


class Seen:
    """What an instance's console showed, and when."""

    def __init__(self) -> None:
        self.console = ""
        self.started_again = False
        self.facts: dict[str, str] = {}
        self.when_s: dict[str, float] = {}

    @property
    def is_silent(self) -> bool:
        """Whether it has not said yet that it got an address."""
        return self.facts.get("DHCP", "none") == "none"

    def look(self, console: str, now_s: float) -> None:
        """Take in the console as it is now."""
        self.console = console
        for name, value in read_markers(console).items():
            self.facts[name] = value
            self.when_s.setdefault(name, now_s)


WANTED = {
    "first": ("DHCP", "METADATA", "READY", "listening", "outward"),
    "second": ("DHCP", "METADATA", "READY", "peer", "outward"),
}


def read_markers(console: str) -> dict[str, str]:
    """Return what the test image and our scripts said: name to value, the last one said."""
    pattern = r"(?:SOLOSTACK|user-data: VERIFY) (\w+) ?(\S*)[ \t\r]*$"
    return dict(re.findall(pattern, console, re.MULTILINE))


def _watch(stage: Body, limit_s: float, *, emulated: bool) -> dict[str, Seen]:
    """Read the consoles until all is said or the time is over.

    Of many emulated instances one stays silent once in a while, for a reason that is not known; it
    gets a second start, and that is told.
    """
    cloud: Cloud = stage["cloud"]
    seen = {name: Seen() for name in WANTED}
    start_s = time.monotonic()
    wait = Wait(limit_s, CONSOLE_PAUSE_S)
    while True:
        for name, one in seen.items():
            now_s = time.monotonic() - start_s
            one.look(read_console(cloud, stage["servers"][name]), now_s)
            if emulated and one.is_silent and now_s > SILENT_S and not one.started_again:
                one.started_again = True
                path = collection("servers", stage["servers"][name], "action")
                cloud.request("POST", "compute", path, {"reboot": {"type": "HARD"}})
        left = [
            f"{marker} of {name}"
            for name, markers in WANTED.items()
            for marker in markers
            if marker not in seen[name].facts
        ]
        if not left or not wait.left("waiting on the consoles for " + ", ".join(left)):
            return seen


def _judge(seen: dict[str, Seen]) -> None:
    checks = (
        ("console log readable", "first", "", ""),
        ("DHCP: first instance", "first", "DHCP", r"\d+\.\d+\.\d+\.\d+"),
        ("DHCP: second instance", "second", "DHCP", r"\d+\.\d+\.\d+\.\d+"),
        ("metadata: first instance", "first", "METADATA", r"i-.*"),
        ("metadata: second instance", "second", "METADATA", r"i-.*"),
        ("outward with a floating IP", "first", "outward", "yes"),
        ("outward without a floating IP", "second", "outward", "yes"),
        ("second instance reaches the first", "second", "peer", "yes"),
        ("port 8080 listens inside", "first", "listening", "yes"),
    )
    for title, name, marker, pattern in checks:
        one = Finding(title)
        value = seen[name].facts.get(marker, "")
        if marker:
            again = seen[name].started_again and marker == "DHCP"
            start = ", after a second start" if again else ""
            one.detail = value + start
            if not re.fullmatch(pattern, value):
                said = f"the console says {value}" if value else "nothing on the console"
                one.fail(said + start)
        elif not seen[name].console.strip():
            one.fail("empty")
        emit(
            "finding",
            name=title,
            ok=one.ok,
            seconds=round(seen[name].when_s.get(marker, 0.0), 3),
            detail=one.detail,
        )
