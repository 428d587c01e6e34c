"""What is tied to a test's process (tests/ties.py) goes when that is killed or a test fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import ties
from tests.ties import NETNS, TIED, afterwards, network_spaces, remove_spaces_of, runs

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
NAME = f"solo-ties-{os.getpid()}"
# Makes all that there is to make, tells the processes' ids, and waits to be killed.
MAKES = """
import pathlib, subprocess, sys, time
from tests.ties import TIED, afterwards, network_spaces
name, trace = sys.argv[1:]
sleep = ("sleep", "600")
with network_spaces(name, f"{name}-2"), afterwards('rm "$1"', trace):
    pathlib.Path(trace).touch()
    subprocess.run(("ip", "-n", name, "link", "add", "bridge0", "type", "bridge"), check=True)
    inside = subprocess.Popen(("ip", "netns", "exec", name, *sleep), start_new_session=True)
    cage = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    tied = [subprocess.Popen((*TIED, *sleep)), subprocess.Popen((*TIED, *cage, *sleep))]
    time.sleep(1)
    (caged,) = pathlib.Path(f"/proc/{tied[1].pid}/task/{tied[1].pid}/children").read_text().split()
    print(inside.pid, *(one.pid for one in tied), caged, flush=True)
    time.sleep(600)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s, "it did not come about"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_process_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    trace = tmp_path / "trace"
    argv = (*TIED, sys.executable, "-c", MAKES, NAME, str(trace))
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        assert len(pids) == 4
        assert all(map(runs, pids))
        assert trace.exists() and (NETNS / NAME).exists() and (NETNS / f"{NAME}-2").exists()
        process.send_signal(number)
    wait_for(lambda: not any(map(runs, pids)))
    wait_for(lambda: not trace.exists())
    wait_for(lambda: not any(path.name.startswith(NAME) for path in NETNS.iterdir()))


def test_what_fails_half_way_takes_the_rest_away() -> None:
    with (
        pytest.raises(subprocess.CalledProcessError),
        network_spaces(NAME, f"{NAME}-2", f"{NAME}-2"),
    ):
        pass
    assert not any(path.name.startswith(NAME) for path in NETNS.iterdir())


def test_what_cannot_be_taken_away_is_told() -> None:
    with pytest.raises(AssertionError, match="not all was taken away"), afterwards("exit 1"):
        pass


def test_only_namespaces_of_that_process_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ties, "SETTLE_S", 0.5)
    with subprocess.Popen(("true",)) as gone:
        pass
    pid = gone.pid
    own = (f"solofd{pid}", f"solofw{pid}-dhost", f"guard-{pid}-4a5b6c-h", f"solo-method-h{pid}")
    others = (f"solofd{pid}0", f"solofd1{pid}", f"guard-1-{pid}-h", f"mine{pid}")
    with network_spaces(*own, *others):
        argv = ("ip", "netns", "exec", own[0], "sleep", "600")
        with subprocess.Popen((*TIED, *argv)) as inside:
            assert remove_spaces_of(pid) == sorted(own)
            assert inside.wait() == -signal.SIGKILL
        assert not any((NETNS / name).exists() for name in own)
        assert all((NETNS / name).exists() for name in others)
    assert remove_spaces_of(pid) == []
