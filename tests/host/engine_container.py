"""A booted Debian to apply bundles to: systemd in a container over a cached tree.

Mount, PID and network namespaces are its own and its changes are kept in memory: when the first
process ends, however that comes, nothing of it is left.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from solostack.doors.process import LocalExecutor
from solostack.doors.progress import Progress
from solostack.images.recipes import BASE_PACKAGES, Recipe
from solostack.images.trees import build_tree, tree_path
from tests.host.engine_box import Box
from tests.ties import TIED, afterwards

RECIPE = Recipe(name="engine-test", suite="trixie", packages=BASE_PACKAGES)
CACHE = str(Path("~/.cache/solostack").expanduser())
STARTUP_S = 90.0
START = """
set -e
# A control group of its own: nspawn takes fixed names below the one it is started in.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd
do
    if [ -e "$hierarchy/cgroup.procs" ]
    then
        mkdir -p "$hierarchy/$3"
        echo $$ >"$hierarchy/$3/cgroup.procs"
    fi
done
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/root"
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_SECCOMP=0
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn -q -D "$1/root" --register=no --keep-unit -b --capability=all \
    --resolv-conf=off --timezone=off --link-journal=no --machine="$4"
"""
CAGE = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc")
# The kernel may still be ending the processes in them.
TAKE_AWAY = """
tries=200
while
    groups=$(find /sys/fs/cgroup -depth -type d '(' -name "$1" -o -path "*/$1/*" ')')
    [ -n "$groups" ]
do
    rmdir $groups || [ $((tries -= 1)) -gt 0 ] || exit 1
    sleep 0.05
done
rmdir "/run/systemd/nspawn/propagate/$2" || true
"""


@contextlib.contextmanager
def open_container(folder: Path, recipe: Recipe = RECIPE) -> Iterator[Box]:
    """Boot a container of a recipe's tree; folder is an empty one to mount on."""
    with Progress().step("tree") as step:
        build_tree(LocalExecutor(), CACHE, recipe, step)
    group = f"solostack-engine-test-{os.getpid()}"
    # The machine's name is the host's name in it, and has a folder under /run on this machine.
    machine = f"engine-test-{os.getpid()}"
    argv = (*TIED, *CAGE, "sh", "-c", START, "sh", folder, tree_path(CACHE, recipe), group, machine)
    with afterwards(TAKE_AWAY, group, machine), (folder.parent / "console").open("wb") as console:
        holder = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
        )
        try:
            yield _wait_until_up(holder, folder.parent / "console")
        finally:
            holder.kill()
            holder.wait()


def _wait_until_up(holder: subprocess.Popen[bytes], console: Path) -> Box:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and holder.poll() is None:
        for pid in _descendants(holder.pid):
            status = Path(f"/proc/{pid}/status")
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = dict(
                    line.split(":\t", 1)
                    for line in status.read_text().splitlines()
                    if ":\t" in line
                )
                # The container's own first process: PID 1 in the innermost of three namespaces.
                if fields["Name"] == "systemd" and len(fields["NSpid"].split()) == 3:
                    return _settled(Box(pid, "-u", "-i", "-n", "-C"), deadline)
        time.sleep(0.1)
    raise RuntimeError(f"the container did not start: {console.read_text()[-2000:]}")


def _settled(box: Box, deadline: float) -> Box:
    while time.monotonic() < deadline:
        done = box.executor.run(("systemctl", "is-system-running"), check=False)
        if done.text.strip() in {"running", "degraded"}:
            return box
        time.sleep(0.2)
    raise RuntimeError(f"the container's systemd is {done.text.strip()}")


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))
