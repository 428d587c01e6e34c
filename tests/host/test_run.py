"""The runner of all tests (tests/run.py) on small suites of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ties import NETNS, afterwards, runs

pytestmark = pytest.mark.host

TESTS = Path(__file__).parents[1]
RUNNER = ("__init__.py", "conftest.py", "lanes.py", "run.py", "ties.py")
PYPROJECT = "[tool.pytest.ini_options]\nmarkers = ['lane(name): x']\naddopts = '--strict-markers'\n"
# Each passes only while the other runs too.
SIDE_BY_SIDE = """
import pathlib, time
def test_meets_the_other():
    pathlib.Path("{own}").touch()
    end = time.monotonic() + 60
    while not pathlib.Path("{other}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
"""
# Passes only while no other of them runs.
ALONE = """
import pathlib, time
def test_is_alone():
    pathlib.Path("alone").mkdir()
    time.sleep(1)
    pathlib.Path("alone").rmdir()
"""
SPLIT = """
import pathlib, pytest
@pytest.fixture(scope="module",
                params=[pytest.param(x, marks=pytest.mark.lane("lane " + x)) for x in ("a", "b c")])
def kind(request):
    return request.param
def test_first(kind):
    pathlib.Path(f"first-{kind}").touch()
def test_second(kind):
    assert pathlib.Path(f"first-{kind}").exists()
def test_of_no_kind():
    pass
"""
# What fails when it is made a second time.
FULL = """
import pathlib, pytest
@pytest.fixture(scope="session")
def full():
    pathlib.Path("full").mkdir()
"""
BUSY = """
import pathlib, time, pytest
@pytest.fixture(scope="module")
def made():
    made = pathlib.Path("made")
    made.touch()
    yield
    made.unlink()
def test_takes_long(made):
    time.sleep(600)
"""
# Lanes have sessions of their own; where they work is theirs alone.
KILL = """
while pids=$(find /proc/[0-9]* -maxdepth 1 -name cwd -lname "$1" | cut -d/ -f3); [ -n "$pids" ]
do
    kill -9 $pids
    sleep 0.05
done
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "tests/host").mkdir(parents=True)
    (tmp_path / "tests/cloud").mkdir()
    for name in RUNNER:
        shutil.copy(TESTS / name, tmp_path / "tests" / name)
    for folder in ("host", "cloud"):
        (tmp_path / "tests" / folder / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path


def add(suite: Path, name: str, text: str, folder: str = "tests/host") -> None:
    (suite / folder / f"test_{name}.py").write_text(text)


@contextlib.contextmanager
def start(suite: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the runner; it ends with the block, and its lanes too."""
    with (
        afterwards(KILL, str(suite)),
        subprocess.Popen(
            (sys.executable, "-m", "tests.run", *arguments, "tests"),
            cwd=suite,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def busy(suite: Path, text: str = BUSY) -> Iterator[subprocess.Popen[str]]:
    """Start a suite whose first lane takes long, and wait until that has begun."""
    add(suite, "busy", text)
    add(suite, "later", "def test_never():\n    open('later', 'w')\n")
    with start(suite, "-n", "1", "-m", "1") as process:
        end_s = time.monotonic() + 60
        while not (suite / "made").exists():
            assert time.monotonic() < end_s
            time.sleep(0.05)
        yield process


def test_lanes_run_side_by_side_and_every_test_once(suite: Path) -> None:
    for own, other in (("one", "two"), ("two", "one")):
        add(suite, own, SIDE_BY_SIDE.format(own=own, other=other))
    add(suite, "split", SPLIT)
    add(suite, "too", "import pytest\n@pytest.mark.lane('lane b c')\ndef test_too():\n    pass\n")
    (suite / "tests/host/conftest.py").write_text(FULL)
    for name in ("big", "bigger"):
        add(suite, name, "def test_it(full):\n    pass\n")
    with start(suite) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "6 of 6 lanes ended" in said
    assert " 2 tests  full site\n" in said
    assert " 3 tests  lane b c\n" in said
    assert " 2 tests  lane a\n" in said
    assert (suite / "build/tests/lane-b-c.log").exists()


def test_more_run_side_by_side_once_none_is_left_that_has_a_lab(suite: Path) -> None:
    for name in ("first", "second"):
        add(suite, name, ALONE, "tests/cloud")
    for own, other in (("one", "two"), ("two", "one")):
        add(suite, own, SIDE_BY_SIDE.format(own=own, other=other))
    with start(suite, "-n", "1", "-m", "2") as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "4 of 4 lanes ended" in said


def test_one_failure_fails_the_run_and_is_shown_whole(suite: Path) -> None:
    add(suite, "bad", "def test_no():\n    number = 7\n    assert number == 8\n")
    add(suite, "good", "import pytest\ndef test_yes():\n    pytest.skip('for a reason')\n")
    with start(suite) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "assert 7 == 8" in said
    assert "SKIPPED [1] tests/host/test_good.py:3: for a reason" in said
    *_, lane, reason, name = said.splitlines()
    assert lane == "FAILED lane tests/host/test_bad.py:"
    assert reason == "E       assert 7 == 8"
    assert name == "FAILED tests/host/test_bad.py::test_no - assert 7 == 8"


def test_both_ends_of_a_long_reason_are_shown_last(suite: Path) -> None:
    add(
        suite, "long", 'def test_no():\n    assert False, "\\n".join(map(str, range(1000, 2000)))\n'
    )
    with start(suite) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    last = said[said.rindex("FAILED lane") :]
    assert "1000" in last
    assert "1999" in last
    assert "1500" not in last


def test_a_file_that_cannot_be_read_fails_the_run(suite: Path) -> None:
    add(suite, "broken", "import nothing_of_this_name\n")
    add(suite, "good", "def test_yes():\n    pass\n")
    with start(suite) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "nothing_of_this_name" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_takes_away_what_was_made_and_begins_nothing_more(
    suite: Path, number: signal.Signals
) -> None:
    with busy(suite) as process:
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "1 of 2 lanes ended" in said
    assert not (suite / "made").exists()
    assert not (suite / "later").exists()


# Dies like a process without memory, with something of a lab there.
DIES = """
import os, signal, sys
from solostack.lab.state import lab_state
def test_dies():
    made = lab_state(f"mine{os.getpid()}")
    made.directory.mkdir(parents=True)
    made.spec_file.write_text("half a fil")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lab_that_a_lane_left_is_removed_and_the_run_fails(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = suite / "labs"
    monkeypatch.setenv("SOLOSTACK_LAB_HOME", str(homes))
    (homes / "another1").mkdir(parents=True)
    add(suite, "dies", DIES)
    with start(suite) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert re.search(r"test_dies\.py: left mine\d+ behind; removed", said), said
    assert [path.name for path in homes.iterdir()] == ["another1"]


# Dies with a namespace that is not tied to it, and one that is; a process is in each.
LEAVES = """
import os, pathlib, signal, subprocess
from tests.ties import network_spaces
def test_leaves():
    mine = f"solo-left-{os.getpid()}"
    subprocess.run(("ip", "netns", "add", mine), check=True)
    with network_spaces(f"{mine}-tied"):
        for name in (mine, f"{mine}-tied"):
            sleep = ("ip", "netns", "exec", name, "sleep", "600")
            process = subprocess.Popen(sleep, start_new_session=True, stdout=subprocess.DEVNULL)
            with pathlib.Path("pids").open("a") as pids:
                pids.write(f"{process.pid} ")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_namespace_that_a_lane_left_is_removed_and_the_run_fails(suite: Path) -> None:
    add(suite, "leaves", LEAVES)
    with start(suite) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    [name] = re.findall(r"test_leaves\.py: left (solo-left-\d+) behind; removed", said)
    assert not any(path.name.startswith(name) for path in NETNS.iterdir())
    pids = (suite / "pids").read_text().split()
    assert len(pids) == 2
    assert not any(map(runs, pids))


def test_stopped_twice_it_ends_at_once(suite: Path) -> None:
    with busy(suite, BUSY.replace("made.unlink()", "time.sleep(600)")) as process:
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "status -9" in said
