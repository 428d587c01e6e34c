import ipaddress
import itertools
import json
import zipfile
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.cloud import desired
from solostack.cloud.client import Caller, pack
from solostack.cloud.credentials import (
    Access,
    build_access,
    cloud_names,
    outside_access,
    render_clouds_yaml,
    render_openrc,
)
from solostack.doors.process import LocalExecutor
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.model import Flavor, Site

SECRETS = {"admin_password": "Admin'1", "demo_password": 'De"mo: #2'}


def make_plan(**site: object) -> Plan:
    values = {
        "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "peth0"}],
        "external": {"block": "198.51.100.0/28"},
        **site,
    }
    facts = HostFacts(
        name="phys1", cores=4, memory_mib=16384, disk_gib=200, kvm=True, openvswitch_module=True
    )
    return build_plan(Site.model_validate(values), {"phys1": facts})


def test_the_block_is_offered_whole_and_gateways_come_from_the_transit_network() -> None:
    transit, floating = desired.cloud_request(make_plan())["external"]["subnets"]
    assert floating["free"]["allocation_pools"] == [
        {"start": "198.51.100.0", "end": "198.51.100.15"}
    ]
    assert floating["free"]["service_types"] == ["network:floatingip"]
    assert floating["free"]["gateway_ip"] is None
    wider = ipaddress.IPv4Network(floating["fixed"]["cidr"])
    assert wider[0] != ipaddress.IPv4Address("198.51.100.0")
    assert wider[-1] != ipaddress.IPv4Address("198.51.100.15")
    assert transit["fixed"]["cidr"] == "10.99.0.0/24"
    assert transit["free"]["gateway_ip"] == "10.99.0.1"
    assert "network:router_gateway" in transit["free"]["service_types"]


def test_each_group_of_addresses_is_a_subnet_of_its_own() -> None:
    listed = ["198.51.100.17", "198.51.100.83", "192.0.2.200"]
    plan = make_plan(external={"method": "proxy", "addresses": listed})
    [_, *floating] = desired.cloud_request(plan)["external"]["subnets"]
    assert [each["name"] for each in floating] == ["floating", "floating-2", "floating-3"]
    pools = [pool for each in floating for pool in each["free"]["allocation_pools"]]
    assert sorted(pool["start"] for pool in pools) == sorted(listed)
    assert all(each["free"]["service_types"] == ["network:floatingip"] for each in floating)
    wider = [ipaddress.IPv4Network(each["fixed"]["cidr"]) for each in floating]
    assert not any(one.overlaps(two) for one, two in itertools.combinations(wider, 2))


def test_the_request_is_plain_json_and_equal_for_equal_plans() -> None:
    one, two = desired.cloud_request(make_plan()), desired.cloud_request(make_plan())
    assert json.dumps(one) == json.dumps(two)


def test_a_site_without_demo_has_none() -> None:
    assert desired.cloud_request(make_plan(demo=None))["demo"] is None


@pytest.mark.parametrize(
    ("egress", "source", "fetch"),
    [
        (True, "https://example.org/a.qcow2", True),
        (False, "https://example.org/a.qcow2", False),
        (True, "/srv/a.qcow2", False),
    ],
)
def test_the_controller_fetches_urls_only_when_it_may_reach_out(
    egress: bool, source: str, fetch: bool
) -> None:
    image = {"name": "a", "source": source, "sha256": "0" * 64}
    request = desired.cloud_request(make_plan(images=[image], egress=egress))
    assert request["images"][0]["fetch"] is fetch


def test_verify_prefers_the_first_and_the_last_address() -> None:
    addresses = desired.preferred_addresses(make_plan().external)
    assert [str(address) for address in addresses[:2]] == ["198.51.100.0", "198.51.100.15"]
    assert len(addresses) == 16
    assert len(set(addresses)) == 16


def test_verify_works_with_a_block_of_one_address() -> None:
    plan = make_plan(external={"block": "198.51.100.7/32"})
    request = desired.verify_request(plan, ipaddress.IPv4Address("203.0.113.1"))
    assert request["addresses"] == ["198.51.100.7"]


def test_verify_takes_the_smallest_flavor() -> None:
    flavors = (
        Flavor(name="big", vcpus=1, memory_mib=4096, disk_gib=1),
        Flavor(name="wide", vcpus=4, memory_mib=512, disk_gib=1),
        Flavor(name="small", vcpus=1, memory_mib=512, disk_gib=20),
    )
    assert desired.smallest_flavor(flavors).name == "small"


def test_verify_asks_for_an_agent_on_every_machine() -> None:
    request = desired.verify_request(make_plan(), ipaddress.IPv4Address("203.0.113.1"))
    assert request["chassis"] == {"phys1": ["controller", "metadata"], "network": ["gateway"]}
    assert request["compute_hosts"] == ["phys1"]


@pytest.mark.parametrize("external", ["10.254.254.0/24", "10.254.254.128/25", "198.51.100.0/28"])
def test_verify_stays_clear_of_the_sites_networks(external: str) -> None:
    plan = make_plan(external={"block": external})
    network = desired.verify_network(plan)
    wider = [subnet.cidr for subnet in plan.external.subnets]
    for other in (*wider, plan.external.transit, plan.data.network):
        assert not network.overlaps(other)


def test_openrc_and_clouds_yaml_hold_any_password() -> None:
    access = build_access(make_plan(), SECRETS)
    assert access.auth_url == "http://172.16.0.11:5000/v3"
    assert "export OS_PASSWORD='Admin'\"'\"'1'\n" in render_openrc(access, admin=True)
    assert "export OS_PROJECT_NAME=demo\n" in render_openrc(access, admin=False)
    from ruamel.yaml import YAML

    clouds = YAML(typ="safe").load(render_clouds_yaml("site", access))["clouds"]
    assert tuple(clouds) == cloud_names("site", access) == ("site-admin", "site")
    assert clouds["site"]["auth"]["password"] == 'De"mo: #2'
    assert clouds["site"]["region_name"] == "regionOne"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1))
def test_clouds_yaml_gives_every_password_back(password: str) -> None:
    from ruamel.yaml import YAML

    access = Access(auth_url="http://c:5000/v3", region="r", admin_password=password)
    clouds = YAML(typ="safe").load(render_clouds_yaml("site", access))["clouds"]
    assert clouds["site-admin"]["auth"]["password"] == password


def test_from_outside_one_logs_in_by_the_front_door() -> None:
    from ruamel.yaml import YAML

    plan = make_plan(front_door={"hostname": "cloud.example.org", "port": 8443})
    access = outside_access(plan, SECRETS, cacert="/state/a b/ca.pem")
    assert access.auth_url == "https://cloud.example.org:8443/identity/v3"
    clouds = YAML(typ="safe").load(render_clouds_yaml("site", access))["clouds"]
    assert clouds["site"]["cacert"] == clouds["site-admin"]["cacert"] == "/state/a b/ca.pem"
    assert clouds["site"]["interface"] == "public"
    assert "export OS_CACERT='/state/a b/ca.pem'\n" in render_openrc(access, admin=True)
    inside = build_access(plan, SECRETS)
    assert inside.auth_url == "http://172.16.0.11:5000/v3"
    assert "cacert" not in render_clouds_yaml("site", inside)
    assert "OS_CACERT" not in render_openrc(inside, admin=True)


def test_without_a_front_door_one_logs_in_on_the_data_network() -> None:
    assert outside_access(make_plan(), SECRETS, cacert="") == build_access(make_plan(), SECRETS)


def test_passwords_do_not_show() -> None:
    assert "Admin" not in repr(build_access(make_plan(), SECRETS))


def test_the_archive_holds_the_agent_and_the_request() -> None:
    access = build_access(make_plan(), SECRETS)
    caller = Caller(executor=LocalExecutor(), access=access, attachments={"tiny.py": b"pass"})
    packed = pack(caller, "open", desired.cloud_request(make_plan()))
    with zipfile.ZipFile(BytesIO(packed)) as archive:
        names = archive.namelist()
        request = json.loads(archive.read("request.json"))
    assert {"__main__.py", "request.json", "agent/main.py", "tiny.py"} <= set(names)
    assert request["action"] == "open"
    assert request["access"]["admin_password"] == "Admin'1"
    assert len(request["test_image"]["recipe"]) == 64


def test_another_builder_is_another_recipe() -> None:
    access = build_access(make_plan(), SECRETS)
    recipes = set()
    for builder in (b"one", b"two"):
        caller = Caller(executor=LocalExecutor(), access=access, attachments={"tiny.py": builder})
        packed = pack(caller, "open", desired.cloud_request(make_plan()))
        with zipfile.ZipFile(BytesIO(packed)) as archive:
            recipes.add(json.loads(archive.read("request.json"))["test_image"]["recipe"])
    assert len(recipes) == 2


@given(st.integers(20, 32), st.integers(0, 2**20 - 1))
def test_every_address_of_any_block_is_offered_once(prefix: int, number: int) -> None:
    first = (203 << 24) | (number << (32 - prefix) & 0xFFFFFF)
    block = ipaddress.IPv4Network((first, prefix), strict=False)
    addresses = desired.preferred_addresses(make_plan(external={"block": str(block)}).external)
    assert sorted(addresses) == list(itertools.islice(block, block.num_addresses))
