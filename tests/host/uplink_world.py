"""A provider, a host and a cloud, each in a network namespace, for the uplink script.

The host has what phase "network" gives it: an external bridge with the transit address. The
cloud stands for OVN: it has the floating IPs on its interface and answers ARP for them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from solostack.host import firewall, uplink
from solostack.host.uplink_operations import uplink_operations
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.model import Site

WIRE = Path(__file__).parents[1] / "cloud/wire.py"
MAC = "52:54:00:00:00:02"
BEYOND = "192.0.2.200"
ALL = ("all", "default", "nic0")
FOREIGN = (
    "table bridge provider {\n    counter foreign { }\n    chain switch {\n"
    "        type filter hook prerouting priority -300; policy accept;\n"
    f'        iifname "port0" ether saddr != {MAC} counter name foreign\n    }}\n}}\n'
)
# Own mounts: /sys shows this namespace's devices, and what the script writes stays in memory.
START = """
mount --make-rprivate / && mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run
mkdir /run/upper /run/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work /etc
mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /usr/local/lib
mkdir -p /usr/local/lib/solostack /etc/solostack /etc/systemd/system/multi-user.target.wants
ip link set lo up && echo ready && exec cat
"""
# Runs the script like bash does, but dies with all it started before its step number $1; a batch
# of ip is taken line by line, so that it can die within one too.
KILLER = """
steps=0 last=$1
ip() {
    local family words bad=0
    case " $* " in
    *" -batch "*)
        family=; [[ $1 = -[46] ]] && family=$1
        while read -r -a words; do command ip $family "${words[@]}" || bad=1; done
        return $bad ;;
    esac
    command ip "$@"
}
trap '((++steps == last)) && kill -9 0' DEBUG
trap 'trap - DEBUG; echo "steps $steps"' EXIT
set -- "$2"
. /usr/local/lib/solostack/uplink
"""
ADDRESSING = {
    "subnet": (
        ("203.0.113.2/24 brd +", "203.0.113.77/24 brd +"),
        ("default via 203.0.113.1 proto static metric 50",),
    ),
    "pointopoint": (
        ("203.0.113.2/32", "192.0.2.77/32 label nic0:1"),
        ("default via 192.0.2.1 onlink src 203.0.113.2",),
    ),
}
"""Own addresses and routes of the host, as ``ip`` takes them."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A kind of provider: the site's `external`, the addressing, and the provider's routes."""

    external: dict[str, Any]
    addressing: str
    routes: tuple[str, ...]


class Space:
    """A network namespace that lives as long as its first process."""

    def __init__(self) -> None:
        argv = ("unshare", "--net", "--mount", "sh", "-euc", START)
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.enter = ("nsenter", "-t", str(self.process.pid), "-n", "-m", "--")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def path(self, path: str) -> Path:
        return Path(f"/proc/{self.process.pid}/root{path}")

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        done = subprocess.run(
            (*self.enter, *argv), input=stdin, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def shell(self, text: str) -> str:
        return self.run("bash", "-euc", text)

    def json(self, *argv: str) -> Any:
        return json.loads(self.run("ip", "-j", *argv) or "[]")


class World:
    """The three namespaces and the plan that the host is made from."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.plan = make_plan(method.external)
        self.provider, self.host, self.cloud = Space(), Space(), Space()

    def build(self) -> None:
        self._wire()
        self._address()
        self._cloud()
        self.install(self.plan)
        wait_for(lambda: "tentative" not in self.host.run("ip", "address"))

    def close(self) -> None:
        for space in (self.host, self.cloud, self.provider):
            space.close()

    def _wire(self) -> None:
        host = self.host.process.pid
        self.provider.shell(
            "ip link add lan address 02:00:00:00:00:01 type bridge && ip link set lan up\n"
            f"ip link add port0 type veth peer name nic0 address {MAC} netns {host}\n"
            "ip link set port0 master lan up && sysctl -qw net.ipv4.ip_forward=1\n"
            f"ip address add {BEYOND}/32 dev lo\n"
            "ip -6 address add 2001:db8::1/64 dev lan nodad\n"
            "ip -6 address add fe80::1/64 dev lan nodad\n"
        )
        self.provider.run("nft", "-f", "-", stdin=FOREIGN)

    def _address(self) -> None:
        addresses, routes = ADDRESSING[self.method.addressing]
        lines = ["sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.nic0.rp_filter=2"]
        # No second of doubt about each IPv6 address: it would be waited for again and again.
        lines += [f"sysctl -qw net.ipv6.conf.{each}.accept_dad=0" for each in ALL]
        lines += ["ip link set nic0 up"]
        lines += [f"ip address add {each} dev nic0" for each in addresses]
        lines += [f"ip route add {each} dev nic0" for each in routes]
        lines += ["ip -6 address add 2001:db8::2/64 dev nic0"]
        lines += ["ip -6 route add default via fe80::1 dev nic0 metric 77"]
        lines += ["ip neigh add 203.0.113.250 lladdr 02:00:00:00:00:99 nud permanent dev nic0"]
        lines += ["ip route add 198.18.0.0/24 dev nic0 scope link table 99"]
        self.host.shell("\n".join(lines))
        wire = "203.0.113.1/24" if self.method.addressing == "subnet" else "192.0.2.1/32"
        wanted = [f"ip address add {wire} dev lan"]
        if self.method.addressing == "pointopoint":
            wanted.append("ip route add 203.0.113.2 dev lan src 192.0.2.1")
        wanted += [f"ip route add {route}" for route in self.method.routes]
        self.provider.shell("\n".join(wanted))

    def _cloud(self) -> None:
        cloud = self.cloud.process.pid
        self.host.shell(
            "ip link add br-external address 52:54:00:00:00:03 type bridge\n"
            "ip link set br-external up\n"
            "sysctl -qw net.ipv6.conf.br-external.disable_ipv6=1\n"
            "ip address add 10.99.0.1/24 dev br-external\n"
            f"ip link add tap0 type veth peer name eth0 netns {cloud}\n"
            "ip link set tap0 master br-external up\n"
        )
        first, *_, last = self.floating
        self.cloud.shell(
            "ip link set eth0 up && ip address add 10.99.0.100/24 dev eth0\n"
            f"ip address add {first}/32 dev eth0 && ip address add {last}/32 dev eth0\n"
            # What goes out has the floating IP it came to; for new traffic that is the first.
            f"ip route add default via 10.99.0.1 src {first}\n"
        )

    @property
    def floating(self) -> list[str]:
        return [str(address) for address in self.plan.external.floating_addresses]

    def install(self, plan: Plan) -> None:
        """Put on the host what the bundle would, and switch the firewall's unit on."""
        operations = [
            *uplink_operations(plan, plan.hosts[0]),
            *firewall.firewall_operations(plan, plan.hosts[0]),
        ]
        wanted = (uplink.SCRIPT_PATH, firewall.SCRIPT_PATH, firewall.RULES_PATH)
        for one in operations:
            if getattr(one, "path", None) in wanted:
                path = self.host.path(one.path)
                path.write_text(one.content)
                path.chmod(0o755)
        link = self.host.path("/etc/systemd/system/multi-user.target.wants") / firewall.UNIT
        if not link.is_symlink():
            link.symlink_to("/dev/null")

    def uplink(self, verb: str, *, check: bool = True) -> str:
        return self.host.run(uplink.SCRIPT_PATH, verb, check=check)

    def load_firewall(self) -> None:
        self.host.run(firewall.SCRIPT_PATH, "load")

    def up(self) -> None:
        """Do what the phases uplink and firewall and the watch's first look do."""
        self.uplink("up")
        self.load_firewall()
        self.uplink("ensure")

    def killed(self, verb: str, step: int) -> int | None:
        """Run a verb that is killed before a step; return the number of steps if it was not."""
        done = subprocess.run(
            (*self.host.enter, "bash", "-T", "-c", KILLER, "bash", str(step), verb),
            start_new_session=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode == -signal.SIGKILL:
            return None
        assert done.returncode == 0, done.stderr
        return int(re.findall(r"^steps (\d+)$", done.stdout, re.M)[-1])

    def reaches(self, address: str, source: str = BEYOND, *, tries: int = 1) -> bool:
        argv = ["ping", "-c1", "-W1", "-I", source, address]
        return any(" 0% packet loss" in self.provider.run(*argv, check=False) for _ in range(tries))

    def ask(self, *targets: str) -> dict[str, list[str]]:
        """Return who answers for addresses on the provider's wire."""
        values = {"device": "lan", "sender": "203.0.113.1", "targets": targets, "tries": 1}
        argv = (sys.executable, "-I", str(WIRE), "ask", json.dumps({**values, "wait_s": 0.5}))
        answers: dict[str, list[str]] = json.loads(self.provider.run(*argv))
        return answers

    def foreign_frames(self) -> int:
        text = self.provider.run("nft", "list", "counter", "bridge", "provider", "foreign")
        return int(re.findall(r"packets (\d+)", text)[0])

    def dump(self) -> dict[str, Any]:
        """Return everything of the host's network that must be as before after `down`."""
        host = self.host
        routes = [
            sorted(json.dumps(route, sort_keys=True) for route in host.json(*family, *table))
            for family in (("-4",), ("-6",))
            for table in (("route", "show", "table", "all"),)
        ]
        links = {
            link["ifname"]: [
                link.get("master"),
                # The kernel makes one up for each new pair.
                "" if link["ifname"].startswith("solo-") else link["address"],
                link["mtu"],
                "UP" in link["flags"],
                link["addr_info"],
            ]
            for link in host.json("address")
            if link["ifname"] != "lo"
        }
        return {
            "links": links,
            "routes": routes,
            "neighbours": host.run("ip", "neigh", "show", "nud", "permanent"),
            "proxies": host.run("ip", "neigh", "show", "proxy"),
            "sysctls": host.shell(
                "cd /proc/sys/net; grep -r . ipv4/conf/{all,nic0,br-external} ipv4/neigh/nic0 "
                "ipv6/conf/nic0 ipv4/ip_forward | grep -v stable_secret"
            ),
            "files": sorted(path.name for path in host.path("/var/lib").iterdir()),
        }

    def assert_is(self, wanted: dict[str, Any], *, but: str = "") -> None:
        """Wait until the host is as wanted, with an equal value left out; say what is not."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: {**self.dump(), but: 0} == {**wanted, but: 0}, 4.0)
        now = self.dump()
        other = {key: (now[key], wanted[key]) for key in now if now[key] != wanted[key]}
        other.pop(but, None)
        assert not other, json.dumps(other, indent=1)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        process = subprocess.Popen(
            (*self.host.enter, uplink.SCRIPT_PATH, "watch"),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def make_plan(external: dict[str, Any]) -> Plan:
    host = {"name": "phys1", "address": "203.0.113.2", "nic": "nic0"}
    facts = HostFacts(
        name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
    )
    site = Site.model_validate({"hosts": [host], "external": external})
    return build_plan(site, {"phys1": facts})


def wait_for(condition: Callable[[], object], timeout_s: float = 8.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)
