"""Cinder itself is asked, in the storage node's tree, whether it knows every option we render.

Debian's own cinder.conf names options that Cinder dropped years ago and ignores without a word.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from solostack.doors.progress import Progress
from solostack.flows.bake import DEFAULT_RELEASE, bake_trees
from solostack.flows.deployment import role_recipe
from solostack.openstack import cinder
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import parse_site
from solostack.site.model import Role

pytestmark = pytest.mark.host

FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32000, disk_gib=220, kvm=True, openvswitch_module=True
)
SITE = """
hosts: [{{name: phys1, address: 203.0.113.2, nic: eth0}}]
external: {{block: 198.51.100.0/28}}
storage: {{cinder: {cinder}}}
"""
RBD = "{backend: rbd, rbd: {conf: a, keyring: b}}"
# Runs in the tree: prints the options of a file that neither Cinder nor what it uses has.
ASK = """
import configparser, importlib.metadata, json, sys
from keystoneauth1 import loading
entries = {each.name: each for each in importlib.metadata.entry_points(group="oslo.config.opts")}
known = {}
for name in ("cinder", "keystonemiddleware.auth_token", "oslo.concurrency", "oslo.messaging",
             "oslo.db", "oslo.middleware", "oslo.policy", "oslo.log"):
    for group, options in entries[name].load()():
        group = getattr(group, "name", group) or "DEFAULT"
        known.setdefault(group, set()).update(option.dest for option in options)
login = (loading.get_auth_common_conf_options() + loading.get_auth_plugin_conf_options("password")
         + loading.get_auth_plugin_conf_options("v3password"))
for group in ("keystone_authtoken", "nova", "service_user"):
    known[group].update(option.dest for option in login)
parser = configparser.RawConfigParser(default_section="none")
parser.read_string(sys.stdin.read())
for backend in ("lvm", "rbd"):
    known[backend] = known["backend_defaults"]
unknown = [f"[{name}] {key}" for name in parser.sections() for key in parser[name]
           if key not in known.get(name, ())]
print("UNKNOWN " + json.dumps(unknown))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = role_recipe(Role.STORAGE, DEFAULT_RELEASE)
    return Path(bake_trees((recipe,), Progress())[recipe.name])


def unknown_options(tree: Path, text: str) -> list[str]:
    """Ask in a read-only view of the tree: it is everybody's."""
    script = 'mount --bind "$0" /mnt && mount -o remount,ro,bind /mnt && exec chroot /mnt "$@"'
    program = ("python3", "-I", "-c", ASK)
    unshare = shutil.which("unshare") or "unshare"
    done = subprocess.run(
        (unshare, "--mount", "sh", "-c", script, str(tree), *program),
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("UNKNOWN "))
    found: list[str] = json.loads(line.removeprefix("UNKNOWN "))
    return found


def plan_of(storage: str) -> Plan:
    site = parse_site(SITE.format(cinder=storage), Path("site.yaml")).site
    return build_plan(site, {"phys1": FACTS})


@pytest.mark.parametrize("storage", ["{size_gib: 30}", RBD])
def test_cinder_knows_every_option(tree: Path, storage: str) -> None:
    plan = plan_of(storage)
    assert unknown_options(tree, cinder.render_volume(plan, plan.node(Role.STORAGE))) == []
    assert unknown_options(tree, cinder.render_controller(plan, plan.node(Role.CONTROLLER))) == []


def test_debians_own_file_has_the_trap(tree: Path) -> None:
    """The test can fail: what Debian ships is found out."""
    shipped = (tree / "usr/share/cinder-common/cinder.conf").read_text()
    assert {"[lvm] iscsi_helper", "[lvm] iscsi_protocol"} <= set(unknown_options(tree, shipped))
