"""The front door of the full site, used from outside as its users do: clouds.yaml and the CA."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.progress import Progress
from solostack.engine import certificates as x509
from solostack.flows.bake import bake_trees, node_recipes
from solostack.flows.certificates import CertificateStore, server_certificates
from solostack.flows.deployment import site_state
from solostack.flows.facts import load_facts
from solostack.flows.placed_certificates import keep_placed
from solostack.openstack.front_door import CERTIFICATE
from solostack.plan.build import build_plan
from solostack.plan.certificates import FRONT_DOOR, wanted_certificates
from solostack.site.loader import load_site
from tests.cloud.conftest import Operator

pytestmark = [pytest.mark.cloud, pytest.mark.lane("full site")]

CLIENT = Path(__file__).with_name("door_client.py")
URL = "https://203.0.113.2"
READ = """
import http.client
link = http.client.HTTPConnection("172.16.0.11", {port})
link.request("GET", "/")
print(link.getresponse().read().decode())
"""
PREFIXES = {
    "identity": "/identity/",
    "image": "/image",
    "placement": "/placement",
    "compute": "/compute/",
    "network": "/network",
}


def outside(operator: Operator, *command: str, stdin: str = "") -> str:
    """Run a command at the provider's end of the wire, in a system that has OpenStack's clients.

    That system is the controller's tree, read only; of the deployment it sees clouds.yaml and the
    authority's file alone.
    """
    tree = bake_trees(node_recipes(), Progress())["controller"]
    state = operator.state_home / "solostack/sites" / operator.lab.name
    binds = [f"--bind-ro={state / name}" for name in ("clouds.yaml", "ca.pem")]
    argv = [
        *("systemd-nspawn", "--quiet", f"--directory={tree}", "--read-only", "--tmpfs=/tmp"),
        "--tmpfs=/root",
        *("--register=no", "--keep-unit", "--as-pid2", "--pipe", "--resolv-conf=off"),
        *binds,
        f"--setenv=OS_CLIENT_CONFIG_FILE={state / 'clouds.yaml'}",
        "--setenv=HOME=/tmp",
        *command,
    ]
    done = subprocess.run(
        operator.argv(*argv),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_SECCOMP": "0"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def client(operator: Operator, cloud: str, *words: str) -> dict[str, Any]:
    text = outside(operator, "python3", "-", cloud, *words, stdin=CLIENT.read_text())
    value: dict[str, Any] = json.loads(text)
    return value


def test_the_command_line_works_with_clouds_yaml_and_the_authoritys_file(full: Operator) -> None:
    name = full.lab.name
    for cloud in (name, f"{name}-admin"):
        argv = ("openstack", "--os-cloud", cloud, "network", "list", "-f", "json")
        networks = {row["Name"] for row in json.loads(outside(full, *argv))}
        assert {"demo", "external"} <= networks


def test_public_urls_links_and_locations_lead_through_the_door(full: Operator) -> None:
    told = client(full, f"{full.lab.name}-admin", "answers")
    for kind, urls in told["catalogue"].items():
        # S3 signs host and path, so its place is the door itself.
        assert urls["public"] == URL if kind == "s3" else urls["public"].startswith(f"{URL}/"), kind
        assert urls["internal"].startswith("http://172.16.0."), kind
        assert urls["admin"].startswith("http://172.16.0."), kind
    for kind, prefix in PREFIXES.items():
        assert told["catalogue"][kind]["public"].startswith(URL + prefix)
    for kind, found in told["links"].items():
        # Placement names paths, as all that it says is relative to its own host.
        whole = [one if one.startswith("http") else URL + one for one in found]
        assert all(one.startswith(URL + PREFIXES[kind]) for one in whole), (kind, found)
    assert told["links"]["compute"]
    assert told["links"]["network"]
    assert told["paged"] == told["whole"]
    assert told["location"].startswith(f"{URL}/placement/resource_providers/")


def test_inside_the_same_apis_name_themselves_as_they_are(full: Operator) -> None:
    console = full.lab.host_executor("phys1")
    for port in (5000, 8774, 9292, 9696):
        text = console.run(("python3", "-I", "-c", READ.format(port=port))).text
        assert f"http://172.16.0.11:{port}/v" in text
        assert URL not in text


def test_an_image_of_120_mib_goes_in_and_out(full: Operator) -> None:
    told = client(full, f"{full.lab.name}-admin", "upload")
    assert told["same"]
    assert told["location"].startswith(f"{URL}/image/v2/images/")


def test_a_console_opens_on_the_doors_origin_and_on_no_other(full: Operator) -> None:
    full.solostack("launch", "door-console")
    try:
        told = client(full, full.lab.name, "console", "door-console")
    finally:
        argv = ("openstack", "--os-cloud", full.lab.name, "server", "delete", "door-console")
        outside(full, *argv)
    assert told["url"].startswith(f"{URL}/novnc/vnc_auto.html?")
    assert (told["page"], told["frame"]) == (200, "SAMEORIGIN")
    assert told[URL] == "HTTP/1.1 101 Switching Protocols RFB 003.008"
    assert "RFB" not in told["https://evil.example"]


def test_the_log_tells_who_came_and_no_secret(full: Operator) -> None:
    log = (
        full.node("controller").run(("journalctl", "-u", "haproxy", "-o", "cat", "-n", "5000")).text
    )
    assert "203.0.113.1 https~ console 101 GET /novnc/vnc_auto.html" in log
    assert "token=" not in log
    assert "gAAAA" not in log


def test_an_expired_certificate_is_told_and_up_mends_it(full: Operator) -> None:
    expire(full)
    door = full.solostack("status")["front_door"]
    assert (door["ok"], door["detail"]) == (
        False,
        "the certificate is refused: certificate has expired",
    )
    assert "solostack up renews" in door["hint"]
    (found,) = [
        one
        for host in full.solostack("check")["hosts"]
        for one in host["findings"]
        if one["subject"] == "certificates"
    ]
    assert found["severity"] == "warning"
    assert "front_door expired on" in found["what"]
    value = full.solostack("up", "--yes", "--verify=front-door", "--verify=dashboard")
    assert [one["where"] for one in value["pending"]] == ["controller"]
    assert value["verify"]["ok"], value["verify"]
    assert full.solostack("status")["front_door"]["ok"]


def expire(operator: Operator) -> None:
    """Put a certificate of the site's own authority in place that expired five days ago."""
    loaded = load_site(operator.site)
    state = site_state(loaded, operator.state_home / "solostack")
    plan = build_plan(loaded.site, load_facts(state))
    (wanted,) = [one for one in wanted_certificates(plan) if one.name == FRONT_DOOR]
    authority = CertificateStore(state, plan).kept()["ca"]
    then = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(days=825)
    text = x509.issue(authority, wanted, then).text
    state.write_text(f"tls/{FRONT_DOOR}.pem", text)
    script = f"cat >{CERTIFICATE}; systemctl reload haproxy"
    operator.node("controller").run(("sh", "-ec", script), stdin=text.encode())
    keep_placed(state, server_certificates(loaded, state, plan))
