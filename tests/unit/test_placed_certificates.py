"""What is made is not what clients get: that is so once `up` has put it in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from solostack.cli.certificate_commands import _show
from solostack.doors.process import Executor
from solostack.doors.progress import Progress
from solostack.errors import StateError
from solostack.flows import certificates_by_hand, up
from solostack.flows.certificates import CertificateStore
from solostack.flows.check import certificate_findings
from solostack.flows.deployment import Deployment
from solostack.flows.up import Pending, Up
from solostack.flows.verify import VerifyReport
from solostack.flows.verify_parts import Part
from solostack.host.check_model import Finding, Severity
from tests.unit.certificate_home import DAY_S, FULL, OWN, Home

DONE = VerifyReport(results=(), consoles={}, seconds=1.0)
PENDING = (Pending(where="controller", what="1 changes: file /etc/haproxy/front_door.pem"),)


class Cloud:
    """What `up` finds on the machines, and what it does there; the certificates are real."""

    def __init__(self, home: Home, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.pending: tuple[Pending, ...] = ()
        self.breaks = False
        patch.setattr(up, "_look", lambda _: frozenset())
        patch.setattr(up, "survey", lambda *_: self.pending)
        patch.setattr(up, "_work", self._work)
        patch.setattr(Deployment, "secrets", lambda _: home.secrets())
        patch.setattr(Deployment, "write_known_hosts", lambda _: None)

    def _work(self, *_: object) -> VerifyReport:
        if self.breaks:
            raise StateError("stopped on the way")
        return DONE

    def up(self) -> Up:
        executors: Mapping[str, Executor] = {}
        home = self.home
        return Up(
            Deployment(loaded=home.loaded, state=home.state, executors=executors, plan=home.plan)
        )

    def survey(self, *pending: Pending) -> None:
        self.pending = pending
        assert self.up().survey(Progress()) == pending

    def work(self) -> None:
        self.up().work(Progress())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Home(tmp_path)


@pytest.fixture
def cloud(home: Home, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    return Cloud(home, monkeypatch)


def found(home: Home) -> tuple[Finding, ...]:
    return certificate_findings(home.loaded, home.plan, "phys1", home.clock)


def newest(home: Home) -> str:
    return CertificateStore(home.state, home.plan).kept()["front_door"].certificate


def test_what_nobody_agreed_to_is_not_shown_as_if_clients_had_it(home: Home, cloud: Cloud) -> None:
    cloud.work()
    first = home.rows()["front_door"]
    home.clock.sleep(800 * DAY_S)
    old = newest(home)
    cloud.survey(*PENDING)
    assert newest(home) != old
    row = home.rows()["front_door"]
    assert (row.fingerprint, row.days_left, row.waiting) == (first.fingerprint, 20, True)
    warned = found(home)
    assert [each.severity for each in warned] == [Severity.WARNING] * 2
    assert warned[0].what == (
        "the certificate front_door expires in 20 days "
        "and is still in use, a new one is not in place yet"
    )
    assert warned[0].todo.startswith("solostack up puts")
    cloud.work()
    row = home.rows()["front_door"]
    assert (row.days_left, row.waiting) == (820, False)
    assert [each.severity for each in found(home)] == [Severity.OK]


def test_an_up_that_broke_off_put_nothing_in_place(home: Home, cloud: Cloud) -> None:
    cloud.work()
    home.clock.sleep(800 * DAY_S)
    cloud.survey(*PENDING)
    cloud.breaks = True
    with pytest.raises(StateError):
        cloud.work()
    assert home.rows()["front_door"].waiting


def test_where_nothing_is_pending_the_newest_is_in_place(home: Home, cloud: Cloud) -> None:
    """As after an `up` that was killed between its last stage and its end."""
    cloud.work()
    certificates_by_hand.renew(home.loaded, ["front_door"])
    assert home.rows()["front_door"].waiting
    cloud.survey()
    assert not home.rows()["front_door"].waiting


def test_one_that_is_due_only_after_the_survey_is_not_taken_for_placed(
    home: Home, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.work()

    def renewed_meanwhile(*_: object) -> tuple[Pending, ...]:
        home.clock.sleep(800 * DAY_S)
        home.secrets()
        return ()

    monkeypatch.setattr(up, "survey", renewed_meanwhile)
    cloud.survey()
    assert home.rows()["front_door"].waiting


def test_renewed_by_hand_it_waits_and_is_warned_of(
    home: Home, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.work()
    home.site(FULL)
    rows = certificates_by_hand.renew(home.loaded, ["front_door"])
    assert [each.name for each in rows if each.waiting] == ["front_door"]
    (warned,) = found(home)
    assert "is still in use, a new one is not in place yet" in warned.what
    assert "its key still counts" in warned.why
    _show(rows, json=True)
    assert '"waiting": true' in capsys.readouterr().out


def test_an_operators_new_files_wait_too(home: Home, cloud: Cloud) -> None:
    home.site(OWN)
    home.bring(days=20)
    cloud.work()
    home.bring(days=90)
    row = home.rows()["front_door"]
    assert (row.own, row.waiting, row.days_left) == (True, True, 20)
    cloud.work()
    row = home.rows()["front_door"]
    assert (row.own, row.waiting, row.days_left) == (True, False, 90)


@pytest.mark.parametrize("damage", ["[]", '{"front_door": "nonsense"}'])
def test_a_damaged_record_is_told_with_the_way_out(home: Home, cloud: Cloud, damage: str) -> None:
    cloud.work()
    path = home.state.directory / "tls" / "placed.json"
    path.write_text(damage)
    with pytest.raises(StateError) as caught:
        home.rows()
    assert f"rm {path}" in caught.value.hint


def test_parts_do_not_stand_for_a_whole_that_was_never_proven(cloud: Cloud) -> None:
    def finished(*only: Part) -> bool:
        cloud.up().work(Progress(), only=only)
        journal = cloud.home.state.read_json(up.JOURNAL)
        assert isinstance(journal, Mapping)
        return bool(journal["finished"])

    assert not finished(Part.UNITS)
    assert finished()
    assert finished(Part.UNITS)
    cloud.breaks = True
    with pytest.raises(StateError):
        finished()
    cloud.breaks = False
    assert not finished(Part.UNITS)
    assert finished()
