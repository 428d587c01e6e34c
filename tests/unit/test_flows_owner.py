"""Whose a host is, from what it says; and what of a check counts on a host that is ours."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from solostack.errors import ExitCode, HostError, StateError
from solostack.flows.check import HostCheck, require_fit
from solostack.flows.owner import Holding, begun_hosts, parse, require_ours
from solostack.flows.state import State
from solostack.flows.up import without
from solostack.host.check_model import Subject, error

NODE = 'node { "name": "controller", "site": "demo"}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Holding(host="phys1")),
        ("trace /var/lib/solostack/nodes\n", Holding(host="phys1", begun=True)),
        (
            "trace /var/lib/solostack/owner\nowner demo 0123\n" + NODE,
            Holding(host="phys1", begun=True, owner="0123", sites=("demo",)),
        ),
        ("owner one 0123\n" + NODE,
         Holding(host="phys1", begun=True, owner="0123", sites=("one", "demo"))),
        ("node {broken\n", Holding(host="phys1", begun=True, sites=("unknown",))),
        ("owner \n", Holding(host="phys1", begun=True)),
    ],
)  # fmt: skip
def test_a_hosts_answer(text: str, expected: Holding) -> None:
    assert parse("phys1", text) == expected


def test_the_id_is_made_once_private_and_goes_with_the_state(tmp_path: Path) -> None:
    first = State(tmp_path / "a").owner()
    assert State(tmp_path / "a").owner() == first
    assert len(first) == 32
    assert stat.S_IMODE((tmp_path / "a" / "owner").stat().st_mode) == 0o600
    copy = tmp_path / "b"
    copy.mkdir()
    (copy / "owner").write_bytes((tmp_path / "a" / "owner").read_bytes())
    assert State(copy).owner() == first
    assert State(tmp_path / "c").owner() != first
    State(tmp_path / "a").forget()
    assert State(tmp_path / "a").owner() != first


def test_free_own_and_unmarked_hosts_pass(tmp_path: Path) -> None:
    state = State(tmp_path)
    holdings = [
        Holding(host="phys1"),
        Holding(host="phys2", begun=True, owner=state.owner(), sites=("demo",)),
        Holding(host="phys3", begun=True, sites=("demo",)),
        Holding(host="phys4", begun=True),
    ]
    require_ours("demo", state, holdings)
    assert begun_hosts(holdings) == {"phys2", "phys3", "phys4"}


@pytest.mark.parametrize("take_over", [False, True])
def test_another_sites_host_is_refused_always(tmp_path: Path, take_over: bool) -> None:
    state = State(tmp_path)
    for held in (
        Holding(host="phys1", begun=True, owner=state.owner(), sites=("demo", "other")),
        Holding(host="phys1", begun=True, sites=("other",)),
    ):
        with pytest.raises(StateError, match="phys1 belongs to another deployment: other") as error:
            require_ours("demo", state, [held], take_over=take_over)
        assert error.value.exit_code is ExitCode.STATE


def test_a_lost_state_is_told_and_can_be_taken_over(tmp_path: Path) -> None:
    state = State(tmp_path / "demo")
    held = [Holding(host="phys1", begun=True, owner="0123", sites=("demo",))]
    with pytest.raises(
        StateError, match="made from another machine, or its state is lost"
    ) as error:
        require_ours("demo", state, held)
    assert str(tmp_path / "demo") in error.value.hint
    assert "solostack down --take-over" in error.value.hint
    require_ours("demo", state, held, take_over=True)


def test_only_what_still_matters_makes_a_host_unfit() -> None:
    found = tuple(
        error(subject, "bad", why="because", todo="mend it")
        for subject in (Subject.DPKG, Subject.CACHE, Subject.PORTS)
    )
    one = HostCheck(host="phys1", findings=found)
    with pytest.raises(HostError) as caught:
        require_fit([without(one, frozenset({Subject.DPKG, Subject.CACHE}))])
    assert caught.value.details == ("ports: bad: because. To do: mend it",)
    require_fit([without(one, frozenset({Subject.DPKG, Subject.CACHE, Subject.PORTS}))])
