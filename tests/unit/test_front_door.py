"""The front door by value: HAProxy's whole text, public URLs, who gets which address of the API."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from solostack.engine.operations import Bundle, File, Unit
from solostack.openstack import auth, front_door, roles
from solostack.openstack.auth import CatalogService
from solostack.plan.build import build_plan
from solostack.plan.certificates import wanted_authority, wanted_certificates
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import parse_site
from solostack.site.model import Role

GOLDEN = Path(__file__).parents[1] / "golden" / "front_door"
HEAD = (
    "hosts: [{name: phys1, address: 203.0.113.2, nic: eth0}]\nexternal: {block: 198.51.100.0/28}\n"
)
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
)
SITES = {
    "apis": "front_door: {}\n",
    "everything": "front_door: {}\ndashboard: {}\nstorage: {cinder: {}, swift: {}}\n",
    "own-certificate": "front_door:\n"
    "  hostname: cloud.example.org\n  port: 8443\n  http_port: 8080\n"
    "  certificate: {certificate: cloud.pem, key: cloud.key}\n"
    "dashboard: {}\nstorage: {swift: {s3: false}}\n",
    "public-address": "front_door: {address: 198.51.100.3}\ndirectory: {}\negress: false\n",
}


def make_plan(text: str = "front_door: {}\n") -> Plan:
    loaded = parse_site(HEAD + text, Path("site.yaml"))
    return build_plan(loaded.site, {"phys1": FACTS})


def catalog(plan: Plan) -> tuple[CatalogService, ...]:
    kinds = [("glance", "/image", 9292, ""), ("nova", "/compute", 8774, "/v2.1")]
    kinds += [("neutron", "/network", 9696, ""), ("placement", "/placement", 8778, "")]
    if plan.storage is not None and plan.storage.cinder is not None:
        kinds.append(("cinder", "/volume", 8776, "/v3"))
    found = [
        CatalogService(
            name=name,
            type=name,
            url=auth.service_url(plan, port, path),
            public_url=auth.public_url(plan, prefix, path),
        )
        for name, prefix, port, path in kinds
    ]
    if plan.storage is not None and plan.storage.swift is not None:
        path = "/v1/AUTH_%(project_id)s"
        found.append(
            CatalogService(
                name="swift",
                type="object-store",
                url=f"http://172.16.0.13:8080{path}",
                public_url=auth.public_url(plan, "/object-store", path),
            )
        )
    return tuple(found)


def config(plan: Plan) -> str:
    assert plan.front_door is not None
    node = plan.node(Role.CONTROLLER)
    return front_door.render_config(plan, plan.front_door, node, catalog(plan))


def controller(plan: Plan) -> Bundle:
    return roles.node_bundle(plan, plan.node(Role.CONTROLLER), authorized_key="ssh-ed25519 A x")


def texts(plan: Plan) -> dict[str, str]:
    return {one.path: one.content for one in controller(plan).operations() if isinstance(one, File)}


@pytest.mark.parametrize("name", SITES)
def test_the_whole_text(name: str, pytestconfig: pytest.Config) -> None:
    text = config(make_plan(SITES[name]))
    path = GOLDEN / f"{name}.cfg"
    if pytestconfig.getoption("--regenerate"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", SITES)
def test_every_backend_that_is_named_is_there_once(name: str) -> None:
    text = config(make_plan(SITES[name]))
    named = set(re.findall(r"(?:use|default)_backend (\S+)", text))
    there = re.findall(r"^backend (\S+)$", text, re.MULTILINE)
    assert len(there) == len(set(there))
    assert named == set(there)


def test_without_a_front_door_nothing_changes() -> None:
    plan = make_plan("")
    files = texts(plan)
    assert not [path for path in files if "haproxy" in path]
    assert not [path for path, text in files.items() if "oslo_middleware" in text]
    (unit,) = front_door.front_door_units(plan)
    assert isinstance(unit, Unit)
    assert (unit.enabled, unit.running) == (False, False)
    assert all(each.public_url == each.url for each in roles._catalog(plan))
    assert wanted_certificates(plan) == ()


def test_with_a_front_door_public_urls_lead_to_it_and_nothing_inside_uses_them() -> None:
    plan = make_plan(SITES["own-certificate"])
    for service in roles._catalog(plan):
        assert service.public_url.startswith("https://cloud.example.org:8443/")
        assert service.url.startswith("http://172.16.0.")
    for path, text in texts(plan).items():
        if path in {front_door.CONF, "/etc/keystone/solostack-wanted.json"}:
            continue
        lines = [line for line in text.splitlines() if "://cloud.example.org" in line]
        # What clients without a token are told; no service of ours reads it.
        assert all(line.startswith("www_authenticate_uri =") for line in lines), path


def test_every_api_believes_the_door() -> None:
    files = texts(make_plan())
    for name in (
        "/etc/keystone/keystone.conf",
        "/etc/glance/glance-api.conf",
        "/etc/nova/nova.conf",
        "/etc/neutron/neutron.conf",
    ):
        assert "[oslo_middleware]\nenable_proxy_headers_parsing = true\n" in files[name], name
    assert "addvar:SCRIPT_NAME=" in files["/etc/placement/placement-api-uwsgi.ini"]


def test_consoles_are_pages_of_the_door() -> None:
    plan = make_plan()
    phases = roles.compute_operations(plan, plan.hosts[0])
    (conf,) = [
        one.content
        for phase in phases
        for lane in phase.lanes
        for one in lane.operations
        if isinstance(one, File) and one.path == "/etc/nova/nova.conf"
    ]
    (line,) = [line for line in conf.splitlines() if line.startswith("novncproxy_base_url")]
    url = urlsplit(line.partition(" = ")[2])
    assert f"{url.scheme}://{url.netloc}" == "https://203.0.113.2"
    assert url.path == "/novnc/vnc_auto.html"


def test_the_key_is_for_root_alone_and_changes_reload() -> None:
    plan = make_plan()
    (file,) = [
        one
        for one in controller(plan).operations()
        if isinstance(one, File) and one.path == front_door.CERTIFICATE
    ]
    assert (file.mode, file.owner, file.content) == (0o600, "root", "@@secret:tls_front_door@@")
    (unit,) = front_door.front_door_units(plan)
    assert isinstance(unit, Unit)
    assert unit.reload
    assert unit.enabled
    assert set(unit.restart_on) == {front_door.CERTIFICATE, front_door.CONF}


def test_hsts_only_with_the_operators_certificate_and_a_name() -> None:
    assert "Strict-Transport-Security" in config(make_plan(SITES["own-certificate"]))
    for name in ("apis", "everything", "public-address"):
        assert "Strict-Transport-Security" not in config(make_plan(SITES[name]))


def test_the_controller_can_answer_those_outside_also_without_egress() -> None:
    network = "/etc/systemd/network/20-eth0.network"
    assert "Gateway=" not in texts(make_plan("egress: false\n"))[network]
    assert "Gateway=172.16.0.1\n" in texts(make_plan("egress: false\nfront_door: {}\n"))[network]


def test_certificates_are_wanted_for_every_name_one_asks_by() -> None:
    plan = make_plan("front_door: {hostname: cloud.example.org}\ndirectory: {}\n")
    door, directory = wanted_certificates(plan)
    assert door.dns == ("cloud.example.org", "controller")
    assert [str(each) for each in door.addresses] == ["203.0.113.2", "172.16.0.11"]
    assert directory.dns == ("directory",)
    assert [str(each) for each in directory.addresses] == ["172.16.0.14"]
    authority = wanted_authority(plan)
    for each in (door, directory):
        assert set(each.dns) <= set(authority.dns)
        assert all(any(one in net for net in authority.networks) for one in each.addresses)
