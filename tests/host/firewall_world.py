"""A host, its provider, an instance and a node as network namespaces, with real nft and packets.

provider --- eth0 [ host ] br-external --- instance (router's address and floating IPs)
                           br-data     --- node (the controller)
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from solostack.host.firewall_live import QUESTION, ShownRule, parse_tables
from solostack.host.firewall_text import FAMILIES, rules_text
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.document import parse_document
from solostack.site.model import Site
from tests.ties import network_spaces

MARK = f"solofw{os.getpid()}"
HOST = "  - {name: phys1, address: 203.0.113.2, nic: eth0, ssh: {port: 2222}}\n"
FIREWALL = """firewall:
  ssh_from: [192.0.2.0/28]
  open: [{port: 443}, {port: 9100, sources: [192.0.2.7/32]}]
  networks: [10.77.0.0/24]
"""
PUBLISHED = "published: [{port: 8080, to: 198.51.100.3, to_port: 80}]"
METHODS = {
    "routed": f"external: {{block: 198.51.100.0/28, {PUBLISHED}}}\n",
    "proxy": "external: {method: proxy, block: 198.51.100.0/28}\n",
    "bridge": "external: {method: bridge, block: 198.51.100.0/28}\n",
    "private": f"external: {{method: private, block: 198.51.100.0/28, {PUBLISHED}}}\n",
}
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
)
SSH, WEB, METRICS, CLOSED, PUBLIC_PORT = 2222, 443, 9100, 5432, 8080
ALLOWED, OTHER = "192.0.2.7", "192.0.2.99"
FLOATING, FLOATING_2 = "198.51.100.3", "198.51.100.4"
ROLES = ("provider", "host", "instance", "node")
INTERNAL = ("10.99.0.1", "172.16.0.1", "10.99.0.77", "172.16.0.11")

TALK = """
import socket, struct, sys, time
what, args = sys.argv[1], sys.argv[2:]
def serve(ports):
    import selectors
    doors = selectors.DefaultSelector()
    for port in ports:
        door = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
        doors.register(door, 1)
    print("ready", flush=True)
    while True:
        for key, _ in doors.select():
            talk, who = key.fileobj.accept()
            talk.sendall(who[0].encode())
            talk.close()
def connects(targets):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(50) as pool:
        for line in pool.map(lambda one: connect(*one.split(" ")), targets):
            print(line)
def connect(where, port, source):
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    with socket.socket(family) as talk:
        talk.settimeout(0.6)
        if source:
            talk.bind((source, 0))
        try:
            talk.connect((where, int(port)))
            return "open " + talk.recv(100).decode().removeprefix("::ffff:")
        except TimeoutError:
            return "silent"
        except OSError as error:
            return error.strerror
def late(port, wait_s):
    door = socket.create_server(("", int(port)))
    print("ready", flush=True)
    talk, who = door.accept()
    talk.sendall(who[0].encode())
    time.sleep(float(wait_s))
    talk.sendall(b"late")
    time.sleep(60)
def stay(where, port, source, limit_s):
    with socket.create_connection((where, int(port)), 5, (source, 0)) as talk:
        print("open", talk.recv(100).decode())
        talk.settimeout(float(limit_s))
        try:
            print(talk.recv(100).decode())
        except TimeoutError:
            print("silent")
def wire(device):
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    raw.bind((device, 0))
    return raw, raw.getsockname()[4]
def mac(text):
    return bytes.fromhex(text.replace(":", ""))
def request(raw, address, sender, target):
    ip = socket.inet_aton
    raw.send(b"\\xff" * 6 + address + b"\\x08\\x06\\0\\1\\x08\\0\\6\\4\\0\\1" + address + ip(sender)
        + b"\\0" * 6 + ip(target))
def ask(device, sender, *targets):
    raw, address = wire(device)
    for target in targets:
        request(raw, address, sender, target)
    heard, end = {}, time.monotonic() + 0.5
    while (left := end - time.monotonic()) > 0:
        raw.settimeout(left)
        try:
            frame = raw.recv(100)
        except TimeoutError:
            break
        if frame[20:22] == b"\\0\\2":
            heard[socket.inet_ntoa(frame[28:32])] = frame[22:28].hex(":")
    print("\\n".join(heard.get(target, "silent") for target in targets))
def tell(device, address, own):
    raw, _ = wire(device)
    request(raw, mac(own), address, address)
def send(device, to, source, target, times):
    raw, address = wire(device)
    ip = socket.inet_aton
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, ip(source), ip(target))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xffff) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xffff) + head[12:]
    for _ in range(int(times)):
        raw.send(mac(to) + address + b"\\x08\\0" + head + struct.pack("!HHHH", 999, 9, 8, 0))
{"serve": lambda: serve(args), "late": lambda: late(*args), "stay": lambda: stay(*args),
 "connect": lambda: connects(args),
 "ask": lambda: ask(*args), "tell": lambda: tell(*args),
 "send": lambda: send(*args)}[what]()
"""


def run(*argv: str, stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


class Box:
    """A network namespace."""

    def __init__(self, role: str) -> None:
        self.name = f"{MARK}-{role}"
        self.ip("link set lo up")

    def __call__(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        return run("ip", "netns", "exec", self.name, *argv, stdin=stdin, check=check)

    def ip(self, *commands: str) -> None:
        self("ip", "-batch", "-", stdin="\n".join(commands) + "\n")

    def talk(self, *words: str) -> str:
        return self("python3", "-I", "-c", TALK, *words).strip()

    def connect(self, where: str, port: int, source: str = "") -> str:
        return self.connects((where, port, source))[0]

    def connects(self, *targets: tuple[str, int, str]) -> list[str]:
        """Connect to all at once: address, port, source; "" is whatever the kernel takes."""
        return self.talk("connect", *(" ".join(map(str, each)) for each in targets)).splitlines()

    def arp(self, device: str, *targets: str) -> list[str]:
        """Ask on the wire who has each address: a MAC, or "silent"."""
        return self.talk("ask", device, "203.0.113.1", *targets).splitlines()

    def mac(self, device: str) -> str:
        (link,) = json.loads(self("ip", "-j", "link", "show", "dev", device))
        return str(link["address"])

    def ping(self, where: str) -> bool:
        script = f"ping -c1 -W1 {where} >/dev/null && echo yes || true"
        return "yes" in self("sh", "-c", script)

    def stay(self, where: str, port: int, source: str, *, limit_s: float) -> list[str]:
        """Connect and stay; return what connect does, then the next word, or "silent"."""
        return self.talk("stay", where, str(port), source, str(limit_s)).splitlines()

    def serving(self, *ports: int) -> contextlib.AbstractContextManager[None]:
        return self._serving("serve", *map(str, ports))

    def serving_late(self, port: int, *, wait_s: float) -> contextlib.AbstractContextManager[None]:
        """Serve one client, who hears a word at once and one after a while."""
        return self._serving("late", str(port), str(wait_s))

    @contextlib.contextmanager
    def _serving(self, *words: str) -> Iterator[None]:
        argv = ["ip", "netns", "exec", self.name, "python3", "-I", "-c", TALK]
        with subprocess.Popen([*argv, *words], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == b"ready\n"
                yield
            finally:
                process.kill()


class World:
    """The provider, a host with its networks up, an instance and a node."""

    def __init__(self, tag: str = "") -> None:
        self.provider, self.host, self.instance, self.node = (Box(f"{tag}{role}") for role in ROLES)
        self._links()
        self.provider.ip(
            "address add 203.0.113.1/24 dev wire",
            "address add 2001:db8::1/64 dev wire nodad",
            f"address add {ALLOWED}/32 dev lo",
            f"address add {OTHER}/32 dev lo",
            *(f"route add {net} via 203.0.113.2" for net in ("198.51.100.0/28", "10.77.0.0/24")),
            "route add 10.99.0.0/24 via 203.0.113.2",
            "route add 172.16.0.0/24 via 203.0.113.2",
        )
        self.host.ip(
            "address add 203.0.113.2/24 dev eth0",
            "address add 2001:db8::2/64 dev eth0 nodad",
            "address add 10.99.0.1/24 dev br-external",
            "address add 172.16.0.1/24 dev solo-data",
            "address add 172.17.0.1/16 dev lo",
            "route add default via 203.0.113.1",
            "route add 198.51.100.0/28 dev br-external",
        )
        self.host("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.rp_filter=0")
        self.instance.ip(
            "address add 10.99.0.130/24 dev eth0",
            f"address add {FLOATING}/32 dev lo",
            f"address add {FLOATING_2}/32 dev lo",
            "route add default via 10.99.0.1",
        )
        self.node.ip("address add 172.16.0.11/24 dev eth0", "route add default via 172.16.0.1")
        self.node_talks_to(MEMBER_MAC)

    def _links(self) -> None:
        self.host.ip(
            "link add br-external type bridge forward_delay 0",
            "link add br-data type bridge forward_delay 0",
            f"link add eth0 type veth peer name wire netns {self.provider.name}",
            f"link add vnet0 type veth peer name eth0 netns {self.instance.name}",
            f"link add vnet1 type veth peer name eth0 netns {self.node.name}",
            f"link add solo-data address {MEMBER_MAC} type veth peer name solo-data-br",
            "link set vnet0 master br-external",
            "link set vnet1 master br-data",
            "link set solo-data-br master br-data",
        )
        names = ("br-external", "br-data", "eth0", "vnet0", "vnet1", "solo-data", "solo-data-br")
        self.host.ip(*(f"link set {name} up" for name in names))
        self.provider.ip("link set wire up")
        for box in (self.instance, self.node):
            box.ip("link set eth0 up")

    def node_talks_to(self, mac: str) -> None:
        """Say by which MAC the node reaches the host: its member's, or the bridge's own."""
        self.node.ip(f"neigh replace 172.16.0.1 lladdr {mac} dev eth0 nud permanent")

    def bridge(self) -> None:
        """Do what method bridge does to the host's card, and find the block on the wire."""
        self.host.ip(
            f"link add br-uplink address {self.host.mac('eth0')} type bridge forward_delay 0",
            "link add solo-uplink type veth peer name solo-uplink-ext",
            "link set solo-uplink master br-uplink up",
            "link set solo-uplink-ext master br-external up",
            "address flush dev eth0",
            "link set eth0 master br-uplink",
            "link set br-uplink up",
            "address add 203.0.113.2/24 dev br-uplink",
            "route replace default via 203.0.113.1",
        )
        self.provider.ip("route replace 198.51.100.0/28 dev wire")

    def bridge_netfilter(self, value: int) -> None:
        """Say whether bridged frames pass the IP firewall; without the module they never do."""
        path = "net.bridge.bridge-nf-call-iptables"
        done = self.host("sysctl", "-qw", f"{path}={value}", check=False)
        if value and self.host("sysctl", "-n", path, check=False).strip() != "1":
            pytest.skip(f"br_netfilter is not in this kernel: {done}")

    def load(self, text: str) -> None:
        self.host("nft", "-f", "-", stdin=text)

    def rules(self) -> tuple[ShownRule, ...]:
        tables = parse_tables(self.host("sh", "-eu", stdin=QUESTION))
        return tuple(rule for family in FAMILIES for rule in tables.get(family, ()))

    def counted(self, words: str) -> int:
        found = [rule.packets or 0 for rule in self.rules() if rule.words.startswith(words)]
        assert found, words
        return sum(found)


@contextlib.contextmanager
def opened(tag: str = "") -> Iterator[World]:
    """A world, for as long as the block or the process lasts."""
    with network_spaces(*(f"{MARK}-{tag}{role}" for role in ROLES)):
        yield World(tag)


def make_plan(method: str, extra: str = FIREWALL) -> Plan:
    # Without the site's rules: the same block for every method, and so the same world.
    document = parse_document(f"hosts:\n{HOST}{METHODS[method]}{extra}")
    site = Site.model_validate(document.data)
    return build_plan(site, {"phys1": FACTS})


def text_of(method: str, extra: str = FIREWALL) -> str:
    plan = make_plan(method, extra)
    return rules_text(plan, plan.hosts[0])


MEMBER_MAC = make_plan("routed").hosts[0].data_mac
