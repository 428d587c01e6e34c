"""What ends with a test's process, however that ends: on SIGKILL no fixture takes anything away."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

TIED = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: it dies with the thread that started it, its own children do not
(PR_SET_PDEATHSIG in prctl(2); no program that is setuid may come in between)."""

NETNS = Path("/run/netns")
# Those in a namespace may still be starting others.
REMOVE_SPACES = """
bad=0
for name
do
    [ -e "/run/netns/$name" ] || continue
    tries=200
    while pids=$(ip netns pids "$name") && [ -n "$pids" ] && [ $((tries -= 1)) -gt 0 ]
    do
        kill -9 $pids
        sleep 0.05
    done
    ip netns delete "$name" || bad=1
done
exit $bad
"""
# How long what is tied to a process that was killed may take to go.
SETTLE_S = 15.0


@contextlib.contextmanager
def afterwards(script: str, *arguments: str) -> Iterator[None]:
    """Run a shell script when this block ends, or else when this process does."""
    # In a session of its own Ctrl-C does not reach it.
    with subprocess.Popen(
        ("sh", "-c", f"cat\n{script}", "sh", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as keeper:
        try:
            yield
        finally:
            assert keeper.stdin is not None
            keeper.stdin.close()
            keeper.wait()
    assert keeper.returncode == 0, f"not all was taken away: {arguments}"


@contextlib.contextmanager
def network_spaces(*names: str) -> Iterator[None]:
    """Make network namespaces; they go with this block, and all that runs in them."""
    with afterwards(REMOVE_SPACES, *names):
        for name in names:
            subprocess.run(("ip", "netns", "add", name), check=True)
        yield


def remove_spaces_of(pid: int) -> list[str]:
    """Remove the network namespaces that a process named after itself and left; return their names.

    Those that are tied to it are given the time to go by themselves.
    """
    end_s = time.monotonic() + SETTLE_S
    while (left := _spaces_of(pid)) and time.monotonic() < end_s:
        time.sleep(0.1)
    if left:
        subprocess.run(("sh", "-c", REMOVE_SPACES, "sh", *left), check=True)
    return left


def runs(pid: str) -> bool:
    """Return whether a process is there, and not only waits for its parent to notice its end."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def _spaces_of(pid: int) -> list[str]:
    # Digits may follow that are not the process's: guard-123-45ab67-h, solostack-lab-t123-2-phys1.
    named = re.compile(rf"(solo|guard-)\D*{pid}(\D.*)?")
    names = os.listdir(NETNS) if NETNS.is_dir() else []  # noqa: PTH208
    return sorted(name for name in names if named.fullmatch(name))
