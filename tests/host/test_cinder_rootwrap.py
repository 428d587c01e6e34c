"""What cinder-volume runs as root without Cinder's rootwrap: only what its filters allow anyway."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

from solostack.doors.progress import Progress
from solostack.engine.operations import File
from solostack.flows.bake import DEFAULT_RELEASE, bake_trees
from solostack.flows.deployment import role_recipe
from solostack.openstack import cinder
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts
from solostack.site.loader import parse_site
from solostack.site.model import Role

pytestmark = pytest.mark.host

CONF = "/etc/cinder/rootwrap.conf"
SITE = """
hosts: [{name: phys1, address: 203.0.113.2, nic: eth0}]
external: {block: 198.51.100.0/28}
storage: {cinder: {size_gib: 30}}
"""
AT_ONCE = (
    ("sbin/lvs", "env LC_ALL=C lvs --noheadings x"),
    ("sbin/vgs", "env LC_ALL=C vgs"),
    ("sbin/pvs", "env LC_ALL=C pvs"),
    ("sbin/lvcreate", "env LC_ALL=C lvcreate -T -n a"),
    ("sbin/lvextend", "env LC_ALL=C lvextend -L 2g a"),
    ("sbin/lvdisplay", "env LC_ALL=C lvdisplay a"),
    ("bin/qemu-img", "env LC_ALL=C qemu-img info -f raw a"),
    ("bin/qemu-img", "qemu-img convert -O raw a b"),
    ("bin/dd", "dd count=0 if=a of=b"),
    ("sbin/lvremove", "lvremove -f group/volume"),
    ("sbin/lvchange", "lvchange -a y a"),
)
BY_ROOTWRAP = (
    ("chown", "cinder", "a"),
    ("env", "LC_ALL=C", "sh", "-c", "x"),
    ("env", "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=", "lvs"),
    ("env", "LD_PRELOAD=a", "lvs"),
    ("env",),
    ("lvs",),
    ("dd ../sh", "a"),
    ("",),
    (),
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The program, with programs around it that say how they were called."""
    facts = HostFacts(
        name="phys1", cores=8, memory_mib=32000, disk_gib=220, kvm=True, openvswitch_module=True
    )
    plan = build_plan(parse_site(SITE, Path("site.yaml")).site, {"phys1": facts})
    (text,) = (
        one.content
        for one in cinder.storage_operations(plan, plan.node(Role.STORAGE))
        if isinstance(one, File) and one.path == cinder.ROOT_WRAP
    )
    for name in {program for program, _ in AT_ONCE} | {"bin/cinder-rootwrap"}:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
        path.chmod(0o755)
    program = tmp_path / "cinder-rootwrap"
    program.write_text(text.replace("/usr/", f"{tmp_path}/"))
    return program


def call(script: Path, *asked: str) -> subprocess.CompletedProcess[str]:
    command = ("sh", str(script), CONF, *asked)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("program", "asked"), AT_ONCE)
def test_what_it_runs_at_once_gets_its_arguments(script: Path, program: str, asked: str) -> None:
    words = asked.split()
    arguments = words[3:] if words[0] == "env" else words[1:]
    assert call(script, *words, "a b").stdout == "\n".join(
        (str(script.parent / program), *arguments, "a b", "")
    )


@pytest.mark.parametrize("asked", BY_ROOTWRAP)
def test_all_else_is_for_cinders_own(script: Path, asked: tuple[str, ...]) -> None:
    rootwrap = str(script.parent / "bin/cinder-rootwrap")
    assert call(script, *asked).stdout == "\n".join((rootwrap, CONF, *asked, ""))


def test_a_signal_is_told_as_cinders_own_tells_it(script: Path) -> None:
    """Cinder tries a command of LVM's again that ended with 139 (brick/local_dev/lvm.py)."""
    for name in ("lvs", "lvremove"):
        (script.parent / f"sbin/{name}").write_text("#!/bin/sh\nkill -SEGV $$\n")
    assert call(script, "env", "LC_ALL=C", "lvs").returncode == 139
    assert call(script, "lvremove", "a").returncode == 139


def test_cinders_filters_allow_all_of_it_with_any_arguments() -> None:
    recipe = role_recipe(Role.STORAGE, DEFAULT_RELEASE)
    tree = Path(bake_trees((recipe,), Progress())[recipe.name])
    filters = configparser.RawConfigParser(strict=False)
    assert filters.read(tree / "etc/cinder/rootwrap.d/volume.filters")
    allowed = {
        tuple(word.strip() for word in value.split(",")) for _, value in filters.items("Filters")
    }
    for _, asked in AT_ONCE:
        words = asked.split()
        plain = ("CommandFilter", words[0], "root")
        wanted = ("EnvFilter", "env", "root", *words[1:3]) if words[0] == "env" else plain
        assert wanted in allowed, asked
