"""Cinder's files as data: whole texts, and what must never stand in them.

``pytest tests/unit/test_openstack_cinder.py --regenerate`` rewrites the golden texts; review the
diff. That Cinder itself knows every option is proved in tests/host/test_cinder_options.py.
"""

from __future__ import annotations

import configparser
import dataclasses
import functools
import json
from pathlib import Path

import pytest

from solostack.engine.bundle import check_bundle, secret_names
from solostack.engine.operations import Bundle, File, Operation, Packages, Step, Unit, phase
from solostack.openstack import ceph, cinder, compute, initiator, roles, storage_disks
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import parse_site
from solostack.site.model import Role

GOLDEN = Path(__file__).parents[1] / "golden" / "openstack"
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32000, disk_gib=220, kvm=True, openvswitch_module=True
)
SITE = """
hosts: [{{name: phys1, address: 203.0.113.2, nic: eth0}}]
external: {{block: 198.51.100.0/28}}
{storage}
"""
LVM = "storage: {cinder: {size_gib: 30, quota_volumes: 4}, swift: {disks: 2}, nfs: {}}"
RBD = "storage: {cinder: {backend: rbd, rbd: {user: vols, pool: p1, conf: a, keyring: b}}}"


@functools.cache
def plan_of(storage: str) -> Plan:
    site = parse_site(SITE.format(storage=storage), Path("site.yaml")).site
    return build_plan(site, {"phys1": FACTS})


def compare(name: str, text: str, config: pytest.Config) -> None:
    path = GOLDEN / name
    if config.getoption("--regenerate", default=False):
        path.write_text(text)
    assert text == path.read_text()


def parse(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(default_section="none of ours", strict=True)
    parser.read_string(text)
    return parser


def describe(operation: Operation) -> str:
    match operation:
        case File():
            head = f"file {operation.path} {operation.mode:04o} {operation.owner}:{operation.group}"
            return f"{head}\n{operation.content}"
        case Packages():
            return f"packages {' '.join(operation.names)}\n"
        case Step():
            return (
                f"step {operation.name}\n-- unless\n{operation.unless}-- run\n{operation.run}"
                f"-- undo\n{operation.undo}"
            )
        case _:
            return f"{operation}\n"


def storage_conf(storage: str) -> str:
    plan = plan_of(storage)
    return cinder.render_volume(plan, plan.node(Role.STORAGE))


def test_golden_controller(pytestconfig: pytest.Config) -> None:
    plan = plan_of(LVM)
    text = cinder.render_controller(plan, plan.node(Role.CONTROLLER))
    compare("cinder-controller.conf", text, pytestconfig)


@pytest.mark.parametrize(("name", "storage"), [("lvm", LVM), ("rbd", RBD)])
def test_golden_volume(name: str, storage: str, pytestconfig: pytest.Config) -> None:
    compare(f"cinder-{name}.conf", storage_conf(storage), pytestconfig)


@pytest.mark.parametrize(("name", "storage"), [("lvm", LVM), ("rbd", RBD)])
def test_golden_compute(name: str, storage: str, pytestconfig: pytest.Config) -> None:
    plan = plan_of(storage)
    lane = next(
        lane
        for part in roles.compute_operations(plan, plan.host("phys1"))
        for lane in part.lanes
        if lane.name == "volumes"
    )
    text = "\n".join(describe(operation) for operation in lane.operations)
    compare(f"cinder-compute-{name}.txt", text, pytestconfig)


@pytest.mark.parametrize("storage", [LVM, RBD])
def test_no_option_that_cinder_dropped_is_rendered(storage: str) -> None:
    dead = {"iscsi_helper", "iscsi_protocol", "iscsi_ip_address", "iscsi_target_prefix",
            "volume_clear_ionice", "glance_host"}  # fmt: skip
    plan = plan_of(storage)
    for text in (storage_conf(storage), cinder.render_controller(plan, plan.nodes[0])):
        options = {key for section in parse(text).values() for key in section}
        assert options
        assert not options & dead


def test_volumes_are_thin_and_served_on_the_data_network_alone() -> None:
    section = parse(storage_conf(LVM))["lvm"]
    assert section["lvm_type"] == "thin"
    assert section["target_helper"] == "tgtadm"
    assert section["target_ip_address"] == "172.16.0.13"
    assert section["volume_group"] == storage_disks.VOLUME_GROUP
    assert "my_ip = 172.16.0.13" in storage_conf(LVM)


def test_the_sites_quotas_count_not_those_in_the_database() -> None:
    plan = plan_of(LVM)
    section = parse(cinder.render_controller(plan, plan.node(Role.CONTROLLER)))["DEFAULT"]
    assert section["quota_volumes"] == "4"
    assert section["use_default_quota_class"] == "false"


def test_service_tokens_go_both_ways() -> None:
    plan = plan_of(LVM)
    ours = parse(cinder.render_controller(plan, plan.node(Role.CONTROLLER)))
    assert ours["keystone_authtoken"]["service_token_roles_required"] == "true"
    assert ours["service_user"]["send_service_user_token"] == "true"
    nova = parse(compute.render_nova(plan, plan.host("phys1")))
    assert nova["service_user"]["send_service_user_token"] == "true"
    assert nova["cinder"]["catalog_info"] == "block-storage::internalURL"
    assert nova["cinder"]["os_region_name"] == plan.region


def test_a_site_without_volumes_has_nothing_of_them() -> None:
    plan = plan_of("storage: {nfs: {}}")
    assert cinder.catalog_services(plan) == ()
    assert cinder.controller_operations(plan, plan.node(Role.CONTROLLER)) == ()
    units = (*cinder.controller_units(plan), *cinder.storage_units(plan))
    assert not any(unit.enabled or unit.running for unit in units if isinstance(unit, Unit))
    assert "[cinder]" not in compute.render_nova(plan, plan.host("phys1"))
    assert initiator.initiator_operations(plan, plan.host("phys1")) == ()


def test_initiator_names_are_each_hosts_own_and_always_the_same() -> None:
    plan = plan_of(LVM)
    host = plan.host("phys1")
    other = dataclasses.replace(host, name="phys2")
    names = {initiator.initiator_name(plan, each) for each in (host, host, other)}
    assert len(names) == 2
    assert all(name.startswith("iqn.") for name in names)
    elsewhere = dataclasses.replace(plan, site="another")
    assert initiator.initiator_name(elsewhere, host) not in names


def test_every_disk_has_its_use() -> None:
    rows = json.loads(storage_disks.render_disks(plan_of(LVM).node(Role.STORAGE)))
    uses = {row["name"]: (row["kind"], row.get("mount") or row["volume_group"]) for row in rows}
    assert uses == {
        "cinder": ("lvm", "cinder-volumes"),
        "swift1": ("xfs", "/srv/node/swift1"),
        "swift2": ("xfs", "/srv/node/swift2"),
        "nfs": ("xfs", "/srv/nfs"),
    }


def test_ceph_is_known_to_nobody_but_by_its_secrets() -> None:
    plan = plan_of(RBD)
    bundles = (
        roles.node_bundle(plan, plan.node(Role.STORAGE), authorized_key="k"),
        Bundle(target="phys1", phases=roles.compute_operations(plan, plan.host("phys1"))),
    )
    for bundle in bundles:
        check_bundle(bundle)
        assert secret_names(bundle) & set(ceph.SECRET_NAMES)
    assert not set(roles.secret_names(plan)) & set(ceph.SECRET_NAMES), "never made up"
    lvm = Bundle(target="x", phases=(phase("x", *ceph.compute_operations(plan_of(LVM))),))
    assert lvm.operations() == ()


def test_the_library_and_cinder_name_the_same_key() -> None:
    plan = plan_of(RBD)
    uuid = parse(storage_conf(RBD))["rbd"]["rbd_secret_uuid"]
    texts = [each.content for each in ceph.compute_operations(plan) if isinstance(each, File)]
    assert any(f"<uuid>{uuid}</uuid>" in text for text in texts)
    assert any("client.vols secret" in text for text in texts)
