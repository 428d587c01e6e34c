"""The solostack command as a process: how it ends, and what the shell sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from solostack.errors import ExitCode

COMMAND = (sys.executable, "-m", "solostack")
INIT = ["init", "--address", "203.0.113.2", "--nic", "enp1s0", "--block", "198.51.100.0/28"]
# A command of ours that is busy, in a process of its own, for as long as we like.
BUSY = """
import sys
from solostack.cli import edge
from solostack.doors.process import LocalExecutor
def work(argv):
    print("busy", flush=True)
    LocalExecutor().run(("sleep", "60"), timeout_s=60)
    return 0
sys.exit(edge.guard(work, ("up", "-f", "site.yaml")))
"""


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "80"}


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*COMMAND, *words),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_failure_ends_with_its_status_and_no_traceback(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    done = run(("addresses", "--json"), tmp_path, environment)

    assert done.returncode == ExitCode.SITE
    assert json.loads(done.stdout)["error"]["kind"] == "SiteError"
    assert done.stderr.startswith("error: there is no site file site.yaml\n")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_sees_no_complaint(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    run(INIT, tmp_path, environment)

    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            (*COMMAND, "addresses"),
            cwd=tmp_path,
            env=environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)

    assert done.stderr == b""
    assert done.returncode == ExitCode.PIPE_CLOSED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_running_command_and_says_how_to_go_on(
    tmp_path: Path, environment: Mapping[str, str], number: signal.Signals
) -> None:
    # A shell's background job has SIGINT ignored, and this test run may be one.
    with subprocess.Popen(
        ("env", "--default-signal", sys.executable, "-c", BUSY),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as busy:
        assert busy.stdout is not None
        assert busy.stdout.readline() == "busy\n"
        time.sleep(0.3)
        busy.send_signal(number)
        _, said = busy.communicate(timeout=30)

    assert busy.returncode == ExitCode.INTERRUPTED
    assert said == "\ninterrupted; to go on from here: solostack up -f site.yaml\n"


def test_help_answers_at_once(tmp_path: Path, environment: Mapping[str, str]) -> None:
    """What does the work is imported when work is to be done."""
    script = (
        "import sys; from solostack.cli.main import main_inner; main_inner(['--help']); "
        "print(*sorted(sys.modules), sep='\\n', file=sys.stderr)"
    )

    done = subprocess.run(
        (sys.executable, "-c", script),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    loaded = set(done.stderr.split())
    heavy = {"pydantic", "ruamel.yaml", "solostack.site.model", "solostack.flows.up"}
    assert not loaded & heavy


def test_completion_knows_the_commands(tmp_path: Path, environment: Mapping[str, str]) -> None:
    completing = {
        **environment,
        "_SOLOSTACK_COMPLETE": "complete_bash",
        "COMP_WORDS": "solostack ad",
        "COMP_CWORD": "1",
    }

    done = run((), tmp_path, completing)

    assert done.stdout.split() == ["addresses"]


def test_check_and_plan_of_this_very_machine(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    run((*INIT, "--local"), tmp_path, environment)

    check = run(("check", "--json"), tmp_path, environment)
    report = json.loads(check.stdout)
    assert check.returncode == (ExitCode.OK if report["fit"] else ExitCode.HOST)
    assert [host["host"] for host in report["hosts"]] == ["phys1"]
    subjects = {finding["subject"] for finding in report["hosts"][0]["findings"]}
    assert {"cpu", "memory", "disk", "kvm", "nic", "firewall"} <= subjects
    assert "phys1: done in" in check.stderr

    first = run(("plan", "--json"), tmp_path, environment)
    assert first.returncode == ExitCode.OK, first.stderr
    assert json.loads(first.stdout)["plan"]["hosts"][0]["name"] == "phys1"
    assert run(("plan", "--json"), tmp_path, environment).stdout == first.stdout
