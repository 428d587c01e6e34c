"""Swift, the shared folder and images in objects, as data.

``pytest tests/unit/test_openstack_objects.py --regenerate`` rewrites the golden texts; review the
diff.
"""

from __future__ import annotations

import configparser
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from solostack.engine.operations import File, Step, Unit
from solostack.openstack import glance, nfs, roles, storage_disks, swift, swift_conf, swift_upkeep
from solostack.plan.build import build_plan
from solostack.plan.model import Plan
from solostack.site.loader import load_site
from solostack.site.model import Role
from solostack.site.services import Nfs, Squash, Storage, Swift
from tests.unit.test_openstack_roles import KVM, PLAIN, describe

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/openstack"


def make_plan(facts: Any = KVM, **storage: Any) -> Plan:
    site = load_site(ROOT / "examples/minimal.yaml").site
    wanted = Storage(**storage) if storage else None
    return build_plan(site.model_copy(update={"storage": wanted}), {"phys1": facts})


def parse(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read_string(text)
    return parser


def files(plan: Plan) -> dict[str, File]:
    found = swift.swift_operations(plan, plan.node(Role.STORAGE))
    return {one.path: one for one in found if isinstance(one, File)}


PLANS = {
    "objects": make_plan(swift=Swift(disks=3, replicas=2), nfs=Nfs(), images_in_swift=True),
    "objects-plain": make_plan(PLAIN, swift=Swift(s3=False), nfs=Nfs(squash=Squash.NONE)),
}


@pytest.mark.parametrize("name", PLANS)
def test_golden(name: str, pytestconfig: pytest.Config) -> None:
    plan = PLANS[name]
    node = plan.node(Role.STORAGE)
    operations = (
        *swift.swift_operations(plan, node),
        *swift.swift_units(plan),
        *swift.place_operations(plan),
        *nfs.nfs_operations(plan, node),
        *nfs.nfs_units(plan),
        File(path=glance.CONF, content=glance.render_conf(plan)),
        File(path=glance.SWIFT_CONF, content=glance.render_swift(plan)),
    )
    text = "\n".join(f"==== {describe(operation)}" for operation in operations)
    path = GOLDEN / f"{name}.txt"
    if pytestconfig.getoption("--regenerate", default=False):
        path.write_text(text)
    assert text == path.read_text()


def test_without_objects_nothing_of_swift_is_there() -> None:
    plan = make_plan(nfs=Nfs())
    assert swift.swift_operations(plan, plan.node(Role.STORAGE)) == ()
    assert swift.catalog_services(plan) == ()
    assert swift.secret_names(plan) == ()
    units = [unit for unit in swift.swift_units(plan) if isinstance(unit, Unit)]
    assert units
    assert not any(unit.enabled or unit.running for unit in units)
    assert "swift" not in glance.render_conf(plan)


def test_every_unit_that_the_packages_enable_is_decided_on() -> None:
    for plan in PLANS.values():
        decided = {unit.name: unit for unit in swift.swift_units(plan) if isinstance(unit, Unit)}
        assert set(swift.UNITS) - set(decided) == {"memcached.service"}
        running = {name for name, unit in decided.items() if unit.running}
        servers = {f"swift-{kind}.service" for kind in (*swift.SERVERS, "proxy")}
        timers = {f"{one.name}.timer" for one in swift_upkeep.PASSES}
        disks = plan.storage.swift.disks if plan.storage and plan.storage.swift else 0
        assert running == servers | timers | ({"rsync.service"} if disks > 1 else set())


def test_what_rings_depend_on_is_the_site_alone_and_never_the_part_power() -> None:
    wanted = [json.loads(swift.render_rings(Swift(disks=disks))) for disks in range(1, 9)]
    assert {one["part_power"] for one in wanted} == {10}
    assert {one["seed"] for one in wanted} == {"solostack"}
    for fewer, more in itertools.pairwise(wanted):
        assert more["devices"][:-1] == fewer["devices"], "a new disk comes last"


def test_rings_name_the_disks_that_are_mounted() -> None:
    plan = PLANS["objects"]
    mounts = [
        mount
        for disk in plan.node(Role.STORAGE).disks
        if (mount := storage_disks.mount_point(disk)) is not None
    ]
    settings = plan.storage.swift if plan.storage else None
    assert settings is not None
    wanted = [f"{swift_conf.DEVICES}/{name}" for name in swift.device_names(settings)]
    assert [mount for mount in mounts if mount.startswith(swift_conf.DEVICES)] == wanted


def test_the_pipeline_asks_keystone_before_anything_is_read_or_written() -> None:
    plan = PLANS["objects"]
    names = parse(files(plan)["/etc/swift/proxy-server.conf"].content)["pipeline:main"]["pipeline"]
    order = names.split()
    wanted = ["catch_errors", "gatekeeper", "tempurl", "authtoken", "s3api", "s3token",
              "keystoneauth", "slo", "versioned_writes", "proxy-server"]  # fmt: skip
    assert [name for name in order if name in wanted] == wanted
    assert "tempauth" not in order
    assert "s3api" not in swift_conf.pipeline(s3=False)


@pytest.mark.parametrize("name", PLANS)
def test_every_filter_of_a_pipeline_has_its_section(name: str) -> None:
    for path, file in files(PLANS[name]).items():
        if not path.endswith(".conf") or "pipeline:main" not in file.content:
            continue
        conf = parse(file.content)
        *filters, app = conf["pipeline:main"]["pipeline"].split()
        assert conf.has_section(f"app:{app}"), path
        assert [one for one in filters if not conf.has_section(f"filter:{one}")] == [], path
        spare = {s.removeprefix("filter:") for s in conf.sections() if s.startswith("filter:")}
        assert spare <= set(filters), path


def test_only_the_proxy_can_be_reached_and_disks_must_be_mounted() -> None:
    found = files(PLANS["objects"])
    for kind, port in swift_conf.PORTS.items():
        conf = parse(found[f"/etc/swift/{kind}-server.conf"].content)["DEFAULT"]
        assert (conf["bind_ip"], conf["bind_port"]) == ("127.0.0.1", str(port))
        assert conf["mount_check"] == "true"
    assert "address = 127.0.0.1" in found[swift.RSYNC_CONF].content


def test_secrets_are_in_private_files_only() -> None:
    for file in files(PLANS["objects"]).values():
        if "@@secret:" in file.content:
            assert (file.mode, file.group) == (0o640, "swift"), file.path
    secrets = set(roles.secret_names(PLANS["objects"]))
    assert {"swift_password", "swift_hash_path_prefix", "swift_hash_path_suffix"} <= secrets


def test_passes_run_daemons_that_have_their_section() -> None:
    found = files(PLANS["objects"])
    for one in (*swift_upkeep.PASSES, swift_upkeep.MOVE, swift_upkeep.MOVE_OBJECTS):
        text = found[f"/etc/systemd/system/{one.name}.service"].content
        for daemon, conf in re.findall(r"^ExecStart=/usr/bin/swift-(\S+) (\S+) once$", text, re.M):
            assert parse(found[conf].content).has_section(daemon), daemon


def test_a_pass_with_the_old_rings_ends_before_accounts_move() -> None:
    plan = PLANS["objects"]
    (step,) = swift.place_operations(plan)
    assert isinstance(step, Step)
    commands = re.findall(r"systemctl (stop|start) (.*?)\.service(?: \|\|.*)?$", step.run, re.M)
    assert [(verb, re.findall(r"swift-([a-z-]+)", units)) for verb, units in commands] == [
        ("stop", ["upkeep", "move-objects"]), ("start", ["move"]), ("start", ["move-objects"]),
    ]  # fmt: skip
    assert step.timeout_s > swift_upkeep.OBJECTS_S
    phases = roles.node_bundle(plan, plan.node(Role.STORAGE), authorized_key="").phases
    assert step in phases[-1].lanes[0].operations, "rsync runs by then"


def test_nothing_moves_where_there_is_one_disk() -> None:
    assert swift.place_operations(PLANS["objects-plain"]) == ()


@pytest.mark.parametrize(("name", "rest"), [("objects", "5min"), ("objects-plain", "30min")])
def test_an_emulated_node_rests_longer(name: str, rest: str) -> None:
    timer = files(PLANS[name])[f"/etc/systemd/system/{swift_upkeep.UPKEEP.name}.timer"].content
    assert f"OnActiveSec={rest}\nOnUnitInactiveSec={rest}\n" in timer


@pytest.mark.parametrize(
    ("squash", "option", "owner", "mode"),
    [
        (Squash.ALL, "all_squash,anonuid=65534,anongid=65534", "nobody", "0755"),
        (Squash.ROOT, "root_squash", "root", "1777"),
        (Squash.NONE, "no_root_squash", "root", "0755"),
    ],
)
def test_squash_decides_who_is_who_and_who_may_begin(
    squash: Squash, option: str, owner: str, mode: str
) -> None:
    plan = make_plan(nfs=Nfs(squash=squash))
    line = nfs.render_exports(plan.data.network, squash).splitlines()[-1]
    assert line == f"/srv/nfs 172.16.0.0/24(rw,sync,no_subtree_check,mountpoint,sec=sys,{option})"
    (disk,) = json.loads(storage_disks.render_disks(plan.node(Role.STORAGE), squash))
    assert (disk["owner"], disk["mode"], disk["shared_root"]) == (owner, mode, True)


def test_images_move_with_the_setting_and_stay_readable() -> None:
    def stores(plan: Plan) -> tuple[str, str]:
        conf = parse(glance.render_conf(plan))
        return conf["DEFAULT"]["enabled_backends"], conf["glance_store"]["default_backend"]

    assert stores(make_plan()) == ("fs:file", "fs")
    assert stores(make_plan(swift=Swift())) == ("fs:file,swift:swift", "fs")
    there = make_plan(swift=Swift(), images_in_swift=True)
    assert stores(there) == ("fs:file,swift:swift", "swift")
    assert "@@secret" not in parse(glance.render_conf(there))["swift"].values()
