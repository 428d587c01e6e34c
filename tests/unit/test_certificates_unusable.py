"""An operator's files that cannot be used for a moment: what looks says so, and looks on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from solostack.cloud.door_probes import APIS, CERTIFICATE, LOGIN, REDIRECT
from solostack.cloud.probes import CheckResult, Vantage
from solostack.doors.process import Completed, Executor
from solostack.doors.progress import Progress
from solostack.errors import ConnectError
from solostack.flows.deployment import Deployment
from solostack.flows.proofs import Proof
from solostack.flows.status import read_status
from solostack.flows.verify_dashboard import dashboard_proofs
from solostack.flows.verify_front_door import front_door_proofs
from solostack.plan.model import NodePlan
from tests.unit.certificate_home import OWN, Home


class Silent:
    """A machine that does not answer; keeps what it was asked."""

    name = "phys1"

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", **_: object) -> Completed:
        del argv
        self.asked.append(stdin)
        raise ConnectError("phys1: no answer", hint="look there")


class Unreached(Deployment):
    """A deployment none of whose machines answers."""

    __slots__ = ()

    def node(self, node: NodePlan) -> Executor:
        del node
        return self.executors["phys1"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Home(tmp_path)


def readable_key(home: Home) -> None:
    (home.folder / "cloud.key").chmod(0o640)


def key_away(home: Home) -> None:
    (home.folder / "cloud.key").unlink()


@pytest.fixture(
    params=[(readable_key, "mode 0640"), (key_away, "cloud.key: No such file")],
    ids=["readable", "away"],
)
def told(home: Home, request: pytest.FixtureRequest) -> str:
    """A site with files that cannot be used; what has to be said of them."""
    home.site(f"{OWN}dashboard: {{}}\n")
    home.bring()
    spoil: Callable[[Home], None]
    spoil, words = request.param
    spoil(home)
    return str(words)


def deployment(home: Home, machine: Silent) -> Deployment:
    return Unreached(
        loaded=home.loaded, state=home.state, executors={"phys1": machine}, plan=home.plan
    )


def made(home: Home, *proofs: Proof) -> dict[str, CheckResult]:
    results: list[CheckResult] = []
    with Progress().step("verify") as step:
        for proof in proofs:
            proof.make(results.append, step)
    return {result.name: result for result in results}


def test_status_shows_it_with_all_the_rest(home: Home, told: str) -> None:
    with Progress().step("status") as step:
        status = read_status(deployment(home, Silent()), step)
    assert status.front_door is not None
    assert not status.front_door.ok
    assert status.front_door.url == "https://cloud.example.org"
    assert told in status.front_door.detail
    assert status.front_door.hint
    assert [host.error for host in status.hosts] == ["phys1: no answer"]


def test_the_front_doors_checks_fail_alone(home: Home, told: str) -> None:
    vantage = Vantage(executor=Silent(), clock=home.clock)
    results = made(home, *front_door_proofs(deployment(home, Silent()), vantage))
    for failed in (CERTIFICATE, LOGIN):
        assert told in results[failed.name].detail
        assert results[failed.name].hint
    assert results[REDIRECT.name].skipped
    assert results[APIS.name].skipped


def test_the_dashboards_checks_fail_alone(home: Home, told: str) -> None:
    vantage = Vantage(executor=Silent(), clock=home.clock)
    (proof,) = dashboard_proofs(deployment(home, Silent()), vantage)
    first, *others = made(home, proof).values()
    assert told in first.detail
    assert first.hint
    assert all(each.skipped for each in others)
    assert [each.name for each in (first, *others)] == list(proof.checks)


def test_a_visit_to_the_dashboard_renews_nothing(home: Home) -> None:
    """Only `up` could put the new one in its place; HAProxy would go on serving the old one."""
    home.site("front_door: {}\ndashboard: {}\n")
    # Longer ago than it is valid, by the clock of whoever looks now.
    home.clock.time_s = 1.0e9
    home.secrets()
    before = {path: path.read_bytes() for path in home.state.directory.rglob("*.pem")}
    machine = Silent()
    vantage = Vantage(executor=machine, clock=home.clock)
    made(home, *dashboard_proofs(deployment(home, machine), vantage))
    assert {path: path.read_bytes() for path in home.state.directory.rglob("*.pem")} == before
    (asked,) = machine.asked
    assert asked.count(b"BEGIN CERTIFICATE") == len(before) - 1
    assert b"PRIVATE KEY" not in asked
