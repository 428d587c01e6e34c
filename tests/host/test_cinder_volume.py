"""What cinder-volume is started by: its libraries of the storage node's tree, with and without."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.progress import Progress
from solostack.flows.bake import DEFAULT_RELEASE, bake_trees
from solostack.flows.deployment import role_recipe
from solostack.openstack.cinder import VOLUME_PROGRAM
from solostack.site.model import Role

pytestmark = pytest.mark.host

# Runs in the tree, with the program on standard input.
PROBE = """
import json, os, sys
scope = {"__name__": "cinder_volume"}
exec(compile(sys.stdin.read(), "cinder_volume.py", "exec"), scope)
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_service import service
forks = []
os.register_at_fork(before=lambda: forks.append(1))
def told():
    forks.clear()
    signals, _ = processutils.execute("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
    launcher = service.ProcessLauncher(cfg.ConfigOpts(), restart_method="mutate")
    return {"forks": len(forks), "signals": signals, "wait_s": launcher.wait_interval}
plain = told()
scope["configure"]()
ours = told()
out, _ = processutils.execute("cat", preexec_fn=lambda: os.write(1, b"kept"))
try:
    processutils.execute("false")
except processutils.ProcessExecutionError as error:
    failed = error.exit_code
print("TOLD " + json.dumps([plain, ours, out, failed]))
"""


@pytest.fixture(scope="module")
def told() -> list[Any]:
    recipe = role_recipe(Role.STORAGE, DEFAULT_RELEASE)
    tree = bake_trees((recipe,), Progress())[recipe.name]
    # A read-only view of the tree, for it is everybody's; what is mounted goes with the namespace.
    script = (
        'mount --bind "$0" /mnt && mount -o remount,ro,bind /mnt && '
        'mount -t proc proc /mnt/proc && exec chroot /mnt "$@"'
    )
    done = subprocess.run(
        ("unshare", "--mount", "sh", "-c", script, tree, "python3", "-I", "-c", PROBE),
        input=VOLUME_PROGRAM.content,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))
    found: list[Any] = json.loads(line.removeprefix("TOLD "))
    return found


def test_commands_start_without_a_copy_of_the_service(told: list[Any]) -> None:
    plain, ours, kept, failed = told
    assert (plain["forks"], ours["forks"]) == (1, 0)
    assert ours["signals"] == plain["signals"], "SIGPIPE is not ignored in either"
    assert kept == "kept", "a function that somebody else gave is still run"
    assert failed == 1


def test_the_parent_rests_between_its_looks(told: list[Any]) -> None:
    plain, ours, *_ = told
    assert (plain["wait_s"], ours["wait_s"]) == (0.01, 1.0)


def test_debians_unit_starts_what_the_program_takes_the_place_of() -> None:
    recipe = role_recipe(Role.STORAGE, DEFAULT_RELEASE)
    tree = Path(bake_trees((recipe,), Progress())[recipe.name])
    assert "from cinder.cmd.volume import main" in (tree / "usr/bin/cinder-volume").read_text()
    unit = (tree / "usr/lib/systemd/system/cinder-volume.service").read_text()
    assert "ExecStart=/etc/init.d/cinder-volume systemd-start" in unit
