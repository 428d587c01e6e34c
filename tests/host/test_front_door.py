"""The front door's configuration in a real HAProxy: where requests go, and what is done to them."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import ipaddress
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from solostack.cloud.credentials import Access
from solostack.cloud.door_probes import DoorToProbe, probe_certificate, probe_entry
from solostack.cloud.probes import CheckResult, Vantage
from solostack.doors.clock import SystemClock
from solostack.doors.process import LocalExecutor, PrefixExecutor
from solostack.engine import certificates as x509
from solostack.plan.certificates import wanted_authority
from tests.host.front_door_world import CONTROLLER, FULL, MARK, Door, opened, wait_until

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]
APIS = ("identity", "compute", "image", "network", "placement", "volume", "object-store")
FORGED = [
    ["X-Forwarded-For", "192.0.2.66"],
    ["X-Forwarded-Host", "evil.example"],
    ["X-Forwarded-Proto", "http"],
    ["X-Forwarded-Prefix", "/evil"],
    ["X-Forwarded-Port", "1"],
    ["X_Forwarded_Host", "evil.example"],
    ["x-FORWARDED_for", "192.0.2.66"],
    ["Forwarded", "for=192.0.2.66;host=evil.example;proto=http"],
    ["X-Real-IP", "192.0.2.66"],
    ["Proxy", "evil.example"],
]
# Prints the version agreed on, or the error; argv: oldest and newest version, CA file.
TLS = """
import socket, ssl, sys, warnings
warnings.simplefilter("ignore")
oldest, newest, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.set_ciphers("ALL:@SECLEVEL=0")
context.minimum_version = ssl.TLSVersion[oldest]
context.maximum_version = ssl.TLSVersion[newest]
try:
    with socket.create_connection(("203.0.113.2", 443), 5) as raw:
        with context.wrap_socket(raw, server_hostname="203.0.113.2") as talk:
            print(talk.version(), talk.cipher()[0])
except OSError as error:
    print("refused", type(error).__name__, error)
"""
# Opens a websocket at the path of argv, prints the server's first line; then echoes its input.
WEBSOCKET = """
import socket, ssl, sys
path, ca, host = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
raw = socket.create_connection((host, 443), 5)
talk = context.wrap_socket(raw, server_hostname=host)
talk.settimeout(20)
talk.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nUpgrade: WebSocket\\r\\nConnection: "
    f"Upgrade\\r\\nOrigin: https://{host}\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
    "Sec-WebSocket-Version: 13\\r\\nX-Forwarded-Proto: http\\r\\n\\r\\n".encode())
answer = talk.makefile("rb")
print(answer.readline().decode().strip(), flush=True)
while answer.readline().strip():
    pass
print(answer.readline().decode(), end="", flush=True)
for line in sys.stdin:
    talk.sendall(line.encode())
    print(answer.readline().decode(), end="", flush=True)
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("door")) as made:
        (made.folder / "ca.pem").write_text(made.authority.certificate)
        yield made


@pytest.mark.parametrize("api", APIS)
def test_an_api_gets_its_own_path_and_the_doors_address(door: Door, api: str) -> None:
    root, deep, bare, beside = door.ask_all(
        {"path": f"/{api}/"},
        {"path": f"/{api}/v2/things?marker=%2Fa&x=1", "method": "POST", "body": "{}"},
        {"path": f"/{api}"},
        {"path": f"/{api}x/v2"},
    )
    assert [root.told["path"], deep.told["path"], bare.told["path"]] == [
        "/",
        "/v2/things?marker=%2Fa&x=1",
        "/",
    ]
    assert deep.told["method"] == "POST"
    for each in (root, deep, bare):
        assert each.told["server"] == api
        assert each.got("X-Forwarded-Proto") == ["https"]
        assert each.got("X-Forwarded-Host") == ["203.0.113.2"]
        assert each.got("X-Forwarded-Prefix") == [f"/{api}"]
        assert each.got("X-Forwarded-For") == ["203.0.113.2"]
        assert each.headers["content-security-policy"] == "sandbox"
    assert beside.told["server"] == "dashboard"


def test_what_the_client_claims_to_be_is_taken_away(door: Door) -> None:
    answers = door.ask_all(
        *({"path": path, "headers": FORGED} for path in ("/compute/", "/", "/novnc/x", "/b/o")),
        {"path": "/bucket", "headers": [*FORGED, ["Authorization", "AWS4-HMAC-SHA256 x"]]},
    )
    assert [one.told["server"] for one in answers] == [
        *("compute", "dashboard", "console", "dashboard", "object-store"),
    ]
    for one in answers:
        assert "evil" not in one.text
        assert "192.0.2.66" not in one.text
        names = {key.lower() for key, _ in one.told["headers"]}
        assert not names & {"x-forwarded-port", "forwarded", "x-real-ip", "proxy"}
        assert not any("_" in name for name in names)


def test_headers_that_are_none_of_the_doors_business_pass(door: Door) -> None:
    kept = [
        ["X-Auth-Token", "secret"],
        ["X-Object-Meta-some_thing", "a b"],
        ["OpenStack-API-Version", "compute 2.96"],
        ["X-Forward", "not ours"],
    ]
    (answer,) = door.ask_all({"path": "/object-store/v1/AUTH_x/c/o", "headers": kept})
    assert all(answer.got(key) == [value] for key, value in kept)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/bucket/key?x=1", [["Authorization", "AWS4-HMAC-SHA256 Credential=a/b"]]),
        ("/compute/key", [["Authorization", "AWS access:signature"]]),
        ("/", [["Authorization", "AWS4-HMAC-SHA256 Credential=a/b"]]),
        ("/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=ab", []),
        ("/bucket/key?AWSAccessKeyId=a&Signature=b&Expires=1", []),
    ],
)
def test_s3_requests_go_to_swift_unchanged(door: Door, path: str, headers: list[list[str]]) -> None:
    host = "cloud.example.org:8443"
    (answer,) = door.ask_all({"path": path, "headers": [*headers], "host": host})
    assert answer.told["server"] == "object-store"
    assert answer.told["path"] == path
    assert answer.got("X-Forwarded-Prefix") == []
    assert answer.got("Host") == [host]


def test_a_bearer_of_another_kind_is_no_s3_request(door: Door) -> None:
    basic = {"path": "/bucket", "headers": [["Authorization", "Basic QVdTOng="]]}
    assert door.ask_all(basic)[0].told["server"] == "dashboard"


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("/v2/images/1", "https://203.0.113.2/image/v2/images/1"),
        ("/image/v2/images/1", "/image/v2/images/1"),
        ("http://172.16.0.11:9292/v2", "https://203.0.113.2/image/v2"),
        ("https://203.0.113.2/v2/images/1", "https://203.0.113.2/image/v2/images/1"),
        ("https://203.0.113.2/image/v2", "https://203.0.113.2/image/v2"),
        ("https://elsewhere.example/v2", "https://elsewhere.example/v2"),
        ("http://172.16.0.110:9292/v2", "http://172.16.0.110:9292/v2"),
    ],
)
def test_locations_lead_back_through_the_door(door: Door, named: str, seen: str) -> None:
    assert door.ask(f"/image/moved?{named}").headers["location"] == seen


def test_http_leads_to_https_of_the_cloud_whatever_host_is_named(door: Door) -> None:
    argv = ("curl", "-s", "-o", "-", "-D", "-", "-X", "POST", "-H", "Host: evil.example")
    text = door.inside(*argv, f"http://{CONTROLLER}/identity/v3?x=1")
    assert text.startswith("HTTP/1.1 308")
    assert "location: https://203.0.113.2/identity/v3?x=1" in text.lower()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_modern_tls_is_spoken(door: Door, version: str) -> None:
    told = tls(door, version, version)
    assert told.startswith(version.replace("_", "."))
    assert re.search(r"GCM|CHACHA20", told)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_is_refused(door: Door, version: str) -> None:
    told = tls(door, version, version)
    assert told.startswith("refused")
    # The server said so; a client that cannot even ask would prove nothing.
    assert "protocol version" in told.lower().replace("_", " "), told


def test_weak_ciphers_are_refused(door: Door) -> None:
    for cipher in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA"):
        argv = ("openssl", "s_client", "-connect", "203.0.113.2:443", "-tls1_2", "-cipher")
        text = door.inside(*argv, f"{cipher}:@SECLEVEL=0", check=False)
        assert "Cipher is (NONE)" in text


def test_http_2_is_spoken(door: Door) -> None:
    argv = ("curl", "-s", "--cacert", str(door.folder / "ca.pem"), "--http2")
    text = door.inside(*argv, "-w", "%{http_version}", "https://203.0.113.2/compute/v2.1")
    assert text.endswith("2")
    assert '"path": "/v2.1"' in text


@pytest.mark.parametrize("path", ["/?token=secret1", "/novnc/vnc.html?token=secret1", "/compute/"])
def test_a_websocket_goes_to_the_console_whatever_its_path(door: Door, path: str) -> None:
    with websocket(door, path) as talk:
        assert talk.stdout and talk.stdin
        assert talk.stdout.readline() == "HTTP/1.1 101 Switching Protocols\n"
        told = json.loads(talk.stdout.readline())
        talk.stdin.write("hello\n")
        talk.stdin.flush()
        assert talk.stdout.readline() == "hello\n"
        talk.stdin.close()
    assert told["server"] == "console"
    assert told["path"] == path
    headers = {key.lower(): value for key, value in told["headers"]}
    assert headers["host"] == "203.0.113.2"
    assert headers["origin"] == "https://203.0.113.2"
    # Nova believes a forwarded protocol more than the origin's own.
    assert "x-forwarded-proto" not in headers


def test_console_pages_stay_on_this_origin(door: Door) -> None:
    answer = door.ask("/novnc/app/ui.js?path=%3Ftoken%3Dsecret2")
    assert answer.told["path"] == "/app/ui.js?path=%3Ftoken%3Dsecret2"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in answer.headers


def test_a_large_upload_streams(door: Door) -> None:
    size = 300 * 2**20
    (answer,) = door.ask_all({"path": "/image/v2/images/1/file", "method": "PUT", "size": size})
    assert answer.told["size"] == size
    assert answer.told["sha256"] == hashlib.sha256(b"x" * size).hexdigest()
    assert resident_mib(door) < 100


def test_the_log_has_no_secrets(door: Door) -> None:
    door.ask_all({"path": "/compute/v2.1?token=secret3", "headers": [["X-Auth-Token", "secret4"]]})
    wait_until(lambda: "/compute/v2.1" in door.log())
    assert "secret" not in door.log()


def test_a_dead_api_is_told_at_once_as_json_and_people_get_a_page(door: Door) -> None:
    for name, path in (("network", "/network/v2.0"), ("dashboard", "/auth/login/")):
        door.halt(name)
        start_s = time.monotonic()
        answer = door.ask(path)
        assert time.monotonic() - start_s < 5
        assert answer.status == 503
        assert answer.headers["retry-after"]
        if name == "network":
            assert answer.told["error"]["code"] == 503
            assert "network API" in answer.told["error"]["message"]
        else:
            assert answer.headers["content-type"].startswith("text/html")
            assert "<h1>The dashboard does not answer</h1>" in answer.text
        door.serve(name)
        assert door.ask(path).status == 200


def test_a_client_that_never_ends_its_request_is_sent_away(door: Door) -> None:
    slow = (
        "import socket, ssl, time, sys\n"
        "context = ssl.create_default_context(cafile=sys.argv[1])\n"
        "raw = socket.create_connection(('203.0.113.2', 443))\n"
        "talk = context.wrap_socket(raw, server_hostname='203.0.113.2')\n"
        "talk.sendall(b'GET / HTTP/1.1\\r\\nHost: 203.0.113.2\\r\\n')\n"
        "start = time.monotonic()\n"
        "talk.settimeout(30)\n"
        "print(talk.recv(12).decode(), time.monotonic() - start)\n"
    )
    told = door.inside("python3", "-I", "-c", slow, str(door.folder / "ca.pem"))
    assert told.startswith("HTTP/1.1 408")
    assert 5 < float(told.split()[-1]) < 20


def test_a_new_certificate_is_served_without_ending_open_connections(door: Door) -> None:
    with websocket(door, "/?token=x") as talk:
        assert talk.stdout and talk.stdin
        talk.stdout.readline()
        talk.stdout.readline()
        wanted = door.certify(datetime.datetime.now(tz=datetime.UTC))
        assert fingerprint(door) != wanted
        door.reload()
        wait_until(lambda: fingerprint(door) == wanted)
        for word in ("still", "here"):
            talk.stdin.write(f"{word}\n")
            talk.stdin.flush()
            assert talk.stdout.readline() == f"{word}\n"
        talk.stdin.close()


def test_verify_tells_what_is_wrong_with_the_certificate(door: Door) -> None:
    here = PrefixExecutor(LocalExecutor(), ("ip", "netns", "exec", MARK), MARK)
    vantage = Vantage(executor=here, clock=SystemClock())
    now = datetime.datetime.now(tz=datetime.UTC)

    def seen(days: int, *, authority: str = "", own: bool = False) -> tuple[bool, str, str]:
        wanted = door.certify(now - datetime.timedelta(days=days))
        door.reload()
        wait_until(lambda: fingerprint(door) == wanted)
        assert door.plan.front_door is not None
        probed = DoorToProbe(
            door=dataclasses.replace(door.plan.front_door, own_certificate=own),
            authority=authority or door.authority.certificate,
            access=Access(auth_url="", region="", admin_password="x"),
        )
        certificate, redirect = probe_entry(vantage, probed)
        assert redirect.ok is certificate.ok or redirect.skipped
        assert probe_certificate(vantage, probed).ok is certificate.ok
        return certificate.ok, certificate.detail, certificate.hint

    ok, detail, hint = seen(0)
    assert (ok, hint) == (True, "")
    assert detail == "TLSv1.3, certificate valid for 819 days"
    ok, detail, hint = seen(800)
    assert not ok
    assert "valid for 19 days" in detail
    assert "solostack up renews" in hint
    ok, detail, hint = seen(830, own=True)
    assert (ok, detail) == (False, "the certificate is refused: certificate has expired")
    assert "front_door.certificate in the site" in hint
    stranger = x509.make_authority(wanted_authority(door.plan), now).certificate
    ok, detail, hint = seen(0, authority=stranger)
    assert not ok
    assert "the certificate is refused" in detail
    assert "solostack certificates list" in hint
    ok, detail, hint = seen(0, authority=stranger, own=True)
    assert not ok
    assert hint.startswith("front_door.certificate in the site")


def test_an_operators_authority_may_be_of_the_old_kind_ours_may_not(door: Door) -> None:
    """Many private authorities leave out the Authority Key Identifier (RFC 5280, 4.2.1.1)."""
    root = bring_plain_certificate(door)
    door.reload()
    assert door.plan.front_door is not None
    here = PrefixExecutor(LocalExecutor(), ("ip", "netns", "exec", MARK), MARK)
    vantage = Vantage(executor=here, clock=SystemClock())

    def seen(*, own: bool) -> CheckResult:
        probed = DoorToProbe(
            door=dataclasses.replace(door.plan.front_door, own_certificate=own),
            authority=root,
            access=Access(auth_url="", region="", admin_password="x"),
        )
        return probe_certificate(vantage, probed)

    wait_until(lambda: seen(own=True).ok)
    assert not seen(own=False).ok
    assert "Missing Authority Key Identifier" in seen(own=False).detail
    door.certify(datetime.datetime.now(tz=datetime.UTC))
    door.reload()
    wait_until(lambda: door.status_of("/identity/") == 200)


def bring_plain_certificate(door: Door) -> str:
    """Give HAProxy a certificate of a private authority, as some make them; return that one."""
    now, days = datetime.datetime.now(tz=datetime.UTC), datetime.timedelta(days=90)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name = library.Name.from_rfc4514_string("CN=root")

    def builder(
        name: library.Name, public: ec.EllipticCurvePublicKey
    ) -> library.CertificateBuilder:
        return library.CertificateBuilder(
            subject_name=name,
            issuer_name=root_name,
            public_key=public,
            serial_number=library.random_serial_number(),
            not_valid_before=now - days,
            not_valid_after=now + days,
        )

    authority = library.BasicConstraints(ca=True, path_length=None)
    root = (
        builder(root_name, root_key.public_key())
        .add_extension(authority, critical=True)
        .sign(root_key, hashes.SHA256())
    )
    address = library.IPAddress(ipaddress.ip_address("203.0.113.2"))
    leaf = (
        builder(library.Name.from_rfc4514_string("CN=door"), key.public_key())
        .add_extension(library.SubjectAlternativeName([address]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    private = key.private_bytes(*form, serialization.NoEncryption()).decode()
    door.certificate.write_text(x509.pem_of(leaf) + private)
    return x509.pem_of(root)


def test_without_a_dashboard_the_door_says_what_it_has(door: Door) -> None:
    door.write("front_door: {}\n")
    door.reload()
    wait_until(lambda: door.ask("/").status == 404)
    answer = door.ask("/auth/login")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "It has no dashboard." in answer.text
    assert "https://203.0.113.2/identity" in answer.text
    assert "object-store" not in answer.text
    s3 = {"path": "/b/k", "headers": [["Authorization", "AWS4-HMAC-SHA256 x"]]}
    assert door.ask_all(s3)[0].status == 404
    door.write(FULL)
    door.reload()
    wait_until(lambda: door.ask("/").status == 200)


def tls(door: Door, oldest: str, newest: str) -> str:
    ca = str(door.folder / "ca.pem")
    return door.inside("python3", "-I", "-c", TLS, oldest, newest, ca)


def websocket(door: Door, path: str) -> subprocess.Popen[str]:
    argv = ["ip", "netns", "exec", MARK, "python3", "-I", "-c", WEBSOCKET]
    argv += [path, str(door.folder / "ca.pem"), "203.0.113.2"]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)


def fingerprint(door: Door) -> str:
    argv = ("openssl", "s_client", "-connect", "203.0.113.2:443")
    text = door.inside(*argv, check=False)
    done = subprocess.run(
        ("openssl", "x509", "-noout", "-fingerprint", "-sha256"),
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.partition("=")[2].strip().replace(":", "").lower()


def resident_mib(door: Door) -> float:
    assert door.process is not None
    master = door.process.pid
    found = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if re.search(rf"^(Pid|PPid):\t{master}$", text, re.MULTILINE):
            found += int(re.findall(r"^VmRSS:\s+(\d+)", text, re.MULTILINE)[0]) / 1024
    return found
