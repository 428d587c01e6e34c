"""Where a lab is written down, the lock on it, and reading /proc."""

import os
from pathlib import Path

import pytest

from solostack.doors.clock import FakeClock
from solostack.errors import LabError
from solostack.lab import processes
from solostack.lab.lab import Lab, Wanted
from solostack.lab.spec import LabSpec, Provider
from solostack.lab.state import (
    LOCK_WAIT_S,
    lab_state,
    labs_home,
    list_labs,
    locked,
    write_atomically,
)


def make(name: str = "demo") -> LabSpec:
    empty = LabSpec(name=name, provider=Provider.ROUTED, cache=Path("/cache"), hosts=())
    return empty.with_hosts(2, Path("/tree"))


def test_the_home_of_labs_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLOSTACK_LAB_HOME", "/elsewhere")
    assert labs_home() == Path("/elsewhere")
    monkeypatch.delenv("SOLOSTACK_LAB_HOME")
    monkeypatch.setenv("HOME", "/home/user")
    assert labs_home() == Path("/home/user/.local/state/solostack/labs")


@pytest.mark.parametrize("home", ["/a,b", "/a:b", "/a b", "/a\\b"])
def test_a_home_that_overlays_cannot_take_is_refused(home: str) -> None:
    with pytest.raises(LabError, match="cannot live in"):
        lab_state("demo", Path(home))


def test_labs_are_listed_by_their_spec(tmp_path: Path) -> None:
    for name in ("two", "one"):
        state = lab_state(name, tmp_path)
        state.directory.mkdir()
        state.write(make(name))
    (tmp_path / "no-lab").mkdir()
    assert list_labs(tmp_path) == ("one", "two")
    assert lab_state("one", tmp_path).read() == make("one")
    assert lab_state("no-lab", tmp_path).read() is None


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / ".file.new").write_text("half of an earlier try")
    write_atomically(path, "new", mode=0o600)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_user_of_a_lab_waits_and_then_gives_up(tmp_path: Path) -> None:
    state, clock = lab_state("demo", tmp_path), FakeClock()
    with (
        locked(state, clock),
        pytest.raises(LabError, match="another solostack"),
        locked(state, clock),
    ):
        pytest.fail("the lock was given twice")
    assert clock.time_s >= LOCK_WAIT_S
    with locked(state, clock):
        pass


def test_a_lock_on_a_removed_directory_is_taken_anew(tmp_path: Path) -> None:
    state = lab_state("demo", tmp_path)
    with locked(state, FakeClock()):
        state.directory.rmdir()
        with locked(state, FakeClock()):
            assert state.directory.is_dir()


def test_a_missing_lab_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no lab called other") as caught:
        Lab("other", home=tmp_path).status()
    assert caught.value.hint == "make it: solostack lab up --name other"


@pytest.mark.parametrize(("hosts", "needed"), [(None, False), (2, False), (3, True)])
def test_only_new_hosts_need_a_tree(tmp_path: Path, hosts: int | None, needed: bool) -> None:
    lab = Lab("demo", home=tmp_path)
    assert lab.needs_tree(Wanted(hosts=hosts))
    lab.state.directory.mkdir()
    lab.state.write(make())
    assert lab.needs_tree(Wanted(hosts=hosts)) == needed


def test_own_line_starts_here_and_goes_up() -> None:
    line = processes.own_line()
    assert {os.getpid(), os.getppid()} <= line


def test_a_process_is_read_from_proc() -> None:
    assert processes.nested_ids(os.getpid())[0] == os.getpid()
    assert processes.read_argv(os.getpid())
    assert processes.read_argv(2**22 + 1) == ()
    assert processes.nested_ids(2**22 + 1) == ()


def test_mount_points_are_unescaped_and_deepest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "self").mkdir()
    lines = [
        "22 27 0:21 / /lab rw - proc proc rw",
        "23 22 0:22 / /lab/with\\040space/deep rw - sysfs sysfs rw",
        "24 22 0:22 / /lab/with\\040space rw - sysfs sysfs rw",
        "25 22 0:22 / /laboratory rw - sysfs sysfs rw",
    ]
    (tmp_path / "self/mountinfo").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes.mount_points_below(Path("/lab")) == (
        Path("/lab/with space/deep"),
        Path("/lab/with space"),
        Path("/lab"),
    )
