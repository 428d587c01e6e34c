"""The state directory with real keys and real modes."""

from __future__ import annotations

import functools
import stat
from pathlib import Path

import pytest

from solostack.errors import StateError
from solostack.flows.parallel import run_together
from solostack.flows.state import State

pytestmark = pytest.mark.host


def test_a_key_asked_for_by_many_at_once_is_made_once(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.create()
    pairs = run_together([functools.partial(state.key_pair, "nodes") for _ in range(8)])
    assert len(set(pairs)) == 1
    path, private, public = pairs[0]
    assert "PRIVATE KEY" in private
    assert public.startswith("ssh-ed25519 ")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_of_which_half_is_missing_is_made_anew(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.create()
    path, _, _ = state.key_pair("nodes")
    path.with_name("nodes.pub").unlink()
    _, _, public = state.key_pair("nodes")
    assert public.startswith("ssh-ed25519 ")


def test_nobody_else_can_read_and_a_second_run_is_refused(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    with state.locked():
        written = state.write_text("openrc", "export OS_PASSWORD=x\n")
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        assert stat.S_IMODE(state.directory.stat().st_mode) == 0o700
        with (
            pytest.raises(StateError, match="another solostack"),
            State(tmp_path / "state").locked(),
        ):
            pass


def test_forgetting_leaves_nothing_but_the_lock(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.create()
    state.key_pair("nodes")
    state.write_json("facts.json", {"phys1": 1})
    state.forget()
    assert [path for path in state.directory.rglob("*") if path.name != "lock"] == []
