"""HAProxy with our configuration in a namespace of its own, before servers that tell what they got.

A request's answer is JSON: which server it reached, and the method, path and headers as they came.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from solostack.engine import certificates as x509
from solostack.openstack.auth import CatalogService
from solostack.openstack.front_door import CERTIFICATE, render_config
from solostack.plan.build import build_plan
from solostack.plan.certificates import FRONT_DOOR, wanted_authority, wanted_certificates
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import parse_site
from solostack.site.model import Role
from tests.ties import network_spaces

MARK = f"solofd{os.getpid()}"
CONTROLLER, STORAGE = "172.16.0.11", "172.16.0.13"
FULL = "front_door: {}\ndashboard: {}\nstorage: {cinder: {}, swift: {}}\n"
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
)
PUBLISHED = f"""table ip door {{
    chain out {{
        type nat hook output priority -100;
        ip daddr 203.0.113.2 tcp dport {{ 80, 443 }} dnat to {CONTROLLER}
    }}
}}
"""
SERVERS = {
    "identity": (CONTROLLER, 5000),
    "compute": (CONTROLLER, 8774),
    "image": (CONTROLLER, 9292),
    "network": (CONTROLLER, 9696),
    "placement": (CONTROLLER, 8778),
    "volume": (CONTROLLER, 8776),
    "object-store": (STORAGE, 8080),
    "console": (CONTROLLER, 6080),
    "dashboard": ("127.0.0.1", 8010),
}

# Serves NAME at ADDRESS PORT. A request with Upgrade becomes an echo; /moved answers with the
# Location of the query; /slow waits for the seconds of the query.
_SERVER = r"""
import base64, hashlib, http.server, json, sys, time, urllib.parse
name, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words):
        pass
    def answer(self):
        if "websocket" in self.headers.get("Upgrade", "").lower():
            return self.echo()
        path, _, query = self.path.partition("?")
        digest, size = hashlib.sha256(), 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(length)); size += length
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left and (part := self.rfile.read(min(left, 1 << 16))):
                digest.update(part); size += len(part); left -= len(part)
        if path.endswith("/slow"):
            time.sleep(float(query))
        body = json.dumps({
            "server": name, "method": self.command, "path": self.path, "size": size,
            "sha256": digest.hexdigest(), "headers": self.headers.items(),
        }).encode()
        moved = path.endswith("/moved")
        self.send_response(301 if moved else 200)
        if moved:
            self.send_header("Location", urllib.parse.unquote(query))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = answer
    def echo(self):
        told = json.dumps({"server": name, "path": self.path, "headers": self.headers.items()})
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                         b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                         + told.encode() + b"\n")
        while line := self.rfile.readline():
            self.wfile.write(line)
        self.close_connection = True
server = http.server.ThreadingHTTPServer((address, port), Handler)
server.handle_error = lambda *_: None
print("ready", flush=True)
server.serve_forever()
"""

# Makes the requests of standard input, a JSON list, over one connection; prints a list of answers.
# A request's host is what its Host header says, the address that was dialled when left out.
_CLIENT = r"""
import http.client, json, ssl, sys
asked = json.load(sys.stdin)
context = ssl.create_default_context(cadata=asked["ca"])
context.verify_flags |= ssl.VERIFY_X509_STRICT
link = http.client.HTTPSConnection(asked["host"], 443, context=context, timeout=60)
told = []
for one in asked["requests"]:
    body = b"x" * one["size"] if "size" in one else one.get("body", "").encode() or None
    link.putrequest(one.get("method", "GET"), one["path"], skip_host=True)
    host = one.get("host", asked["host"])
    for key, value in [["Host", host], *one.get("headers", [])]:
        link.putheader(key, value)
    if body:
        link.putheader("Content-Length", str(len(body)))
    link.endheaders(body)
    answer = link.getresponse()
    text = answer.read().decode()
    told.append({"status": answer.status, "headers": answer.getheaders(), "text": text})
print(json.dumps(told))
"""


class Answer:
    """What came back; told is what the server behind got, {} where none answered."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.status: int = raw["status"]
        self.headers = {key.lower(): value for key, value in raw["headers"]}
        self.text: str = raw["text"]
        found = self.headers.get("content-type") == "application/json"
        self.told: dict[str, Any] = json.loads(self.text) if found else {}

    def got(self, header: str) -> list[str]:
        """The values with which a header came to the server."""
        return [value for key, value in self.told["headers"] if key.lower() == header.lower()]


class Door:
    """HAProxy and its servers, in a namespace that is there."""

    def __init__(self, folder: Path, site: str = FULL) -> None:
        self.folder = folder
        self.plan = make_plan(site)
        now = datetime.datetime.now(tz=datetime.UTC)
        self.authority = x509.make_authority(wanted_authority(self.plan), now)
        self.certificate = folder / "front_door.pem"
        self.config = folder / "haproxy.cfg"
        self.process: subprocess.Popen[bytes] | None = None
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        for command in (
            "link set lo up",
            f"address add {CONTROLLER}/32 dev lo",
            f"address add {STORAGE}/32 dev lo",
            "address add 203.0.113.2/32 dev lo",
        ):
            run("ip", "-n", MARK, *command.split())
        # What the host does for those outside (host.firewall_rules).
        self.inside("nft", "-f", "-", stdin=PUBLISHED)
        self.certify(now)
        self.write(site)

    def certify(self, now: datetime.datetime) -> str:
        """Write a new certificate for HAProxy; return its SHA-256."""
        wanted = next(each for each in wanted_certificates(self.plan) if each.name == FRONT_DOOR)
        pair = x509.issue(self.authority, wanted, now)
        self.certificate.touch(mode=0o600)
        self.certificate.write_text(pair.text)
        return x509.facts_of(x509.load_certificate(pair.certificate)).fingerprint

    def write(self, site: str) -> None:
        plan = make_plan(site)
        assert plan.front_door is not None
        catalog = make_catalog(plan)
        text = render_config(plan, plan.front_door, plan.node(Role.CONTROLLER), catalog)
        self.config.write_text(text.replace(CERTIFICATE, str(self.certificate)))

    def start(self) -> None:
        argv = ("ip", "netns", "exec", MARK, "haproxy", "-W", "-f", str(self.config))
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, stderr=log)
        wait_until(lambda: self.status_of("/identity/") in (200, 503))

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR2)

    def stop(self) -> None:
        for name in list(self.servers):
            self.halt(name)
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def serve(self, *names: str) -> None:
        """Start servers, and wait until the door knows of them."""
        for name in names:
            address, port = SERVERS[name]
            argv = ["ip", "netns", "exec", MARK, "python3", "-I", "-c", _SERVER]
            argv += [name, address, str(port)]
            process = subprocess.Popen(argv, stdout=subprocess.PIPE)
            assert process.stdout and process.stdout.readline() == b"ready\n"
            self.servers[name] = process
        paths = {"console": "/novnc/", "dashboard": "/"}
        for name in names:
            path = paths.get(name, f"/{name}/")
            wait_until(lambda path=path: self.status_of(path) == 200)

    def halt(self, name: str) -> None:
        process = self.servers.pop(name)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def status_of(self, path: str) -> int:
        try:
            return self.ask(path).status
        except AssertionError:
            return 0

    def ask(self, path: str, host: str = "203.0.113.2", **more: object) -> Answer:
        return self.ask_all({"path": path, **more}, host=host)[0]

    def ask_all(self, *requests: Mapping[str, object], host: str = "203.0.113.2") -> list[Answer]:
        asked = {"ca": self.authority.certificate, "host": host, "requests": requests}
        text = self.inside("python3", "-I", "-c", _CLIENT, stdin=json.dumps(asked))
        return [Answer(raw) for raw in json.loads(text)]

    def inside(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        return run("ip", "netns", "exec", MARK, *argv, stdin=stdin, check=check)

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Door]:
    """A door with all its servers behind it, which started before they did."""
    with network_spaces(MARK):
        door = Door(folder)
        try:
            door.start()
            door.serve(*SERVERS)
            yield door
        finally:
            door.stop()


def make_plan(text: str) -> Plan:
    head = "hosts: [{name: phys1, address: 203.0.113.2, nic: eth0}]\n"
    loaded = parse_site(f"{head}external: {{block: 198.51.100.0/28}}\n{text}", Path("site.yaml"))
    return build_plan(loaded.site, {"phys1": FACTS})


def make_catalog(plan: Plan) -> tuple[CatalogService, ...]:
    """The catalogue of a plan, with volumes and objects where it has a storage node."""
    assert plan.front_door is not None
    names = [name for name in SERVERS if name not in ("identity", "console", "dashboard")]
    if not plan.has(Role.STORAGE):
        names = [name for name in names if name not in ("volume", "object-store")]
    return tuple(
        CatalogService(
            name=name,
            type=name,
            url=f"http://{SERVERS[name][0]}:{SERVERS[name][1]}/v2",
            public_url=f"{plan.front_door.url}/{name}/v2",
        )
        for name in names
    )


def run(*argv: str, stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{argv[:6]}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(found: Any, limit_s: float = 15) -> None:
    end_s = time.monotonic() + limit_s
    while not found():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.1)
