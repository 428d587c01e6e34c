"""The check of units under a real systemd: what starts is waited for, what has ended is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from solostack.cloud import probes
from solostack.cloud.probes import CheckResult
from solostack.doors.clock import SystemClock
from tests.host.engine_box import Box
from tests.host.engine_container import open_container

pytestmark = pytest.mark.host
UNITS = ("steady.service", "slow.service")
SET_UP = """
# Without host keys it fails again and again.
systemctl disable --now ssh.service ssh.socket
systemctl reset-failed
cd /etc/systemd/system
printf '[Service]\\nExecStart=sleep infinity\\n' >steady.service
printf '[Service]\\nExecStartPre=sleep 8\\nExecStart=sleep infinity\\n' >slow.service
printf '[Service]\\nExecStart=false\\n' >broken.service
systemctl daemon-reload
systemctl start steady.service slow.service
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_container(tmp_path_factory.mktemp("units")) as made:
        made.shell(SET_UP)
        yield made


def probe(box: Box) -> CheckResult:
    return probes.probe_units(box.executor, SystemClock(), UNITS, all_ours=True)


def test_all_active(box: Box) -> None:
    result = probe(box)
    assert result.ok, result
    assert (result.detail, result.hint) == ("2 active", "")


def test_what_is_starting_is_waited_for(box: Box) -> None:
    box.shell("systemctl restart --no-block slow.service")
    result = probe(box)
    assert result.ok, result
    assert result.seconds > 3


def test_what_was_stopped_is_told_without_waiting_for_it(box: Box) -> None:
    box.shell("systemctl stop steady.service")
    result = probe(box)
    box.shell("systemctl start steady.service")
    assert (result.ok, result.detail) == (False, "steady.service inactive")
    assert result.hint.endswith("on box: journalctl -b -u steady.service")
    assert result.seconds < probes.UNITS_TIMEOUT_S / 2


def test_what_failed_is_told_whosever_it_is(box: Box) -> None:
    box.shell("systemctl start broken.service || true")
    box.shell("until systemctl -q is-failed broken.service; do sleep 0.1; done")
    result = probe(box)
    box.shell("systemctl reset-failed broken.service")
    assert (result.ok, result.detail) == (False, "broken.service failed")
    assert probe(box).ok
