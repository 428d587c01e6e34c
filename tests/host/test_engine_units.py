"""Units under a real systemd: started, restarted only when due, watched, and put back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from solostack.engine.operations import Absent, Bundle, File, Operation, Step, Unit, phase
from solostack.errors import ApplyError, ConfigureError
from tests.host.engine_box import Box, agent_pid, start_agent
from tests.host.engine_container import open_container

pytestmark = pytest.mark.host
SYSTEM = "/etc/systemd/system"
RESET = f"""
for name in one two loop fails once never
do set -- "$@" $name.service $name.service.d multi-user.target.wants/$name.service
done
systemctl -q stop one two loop fails once never 2>/dev/null || true
(cd {SYSTEM} && rm -rf "$@")
systemctl daemon-reload
systemctl reset-failed
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_container(tmp_path_factory.mktemp("container")) as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Box:
    shared.shell(RESET)
    shared.clear()
    return shared


def bundle(*operations: Operation) -> Bundle:
    return Bundle(target="box", phases=(phase("all", *operations),))


def unit_file(name: str, start: str, more: str = "") -> File:
    return File(
        path=f"{SYSTEM}/{name}.service",
        content=f"[Service]\nExecStart={start}\n{more}\n[Install]\nWantedBy=multi-user.target\n",
    )


def service(name: str, content: str) -> tuple[Operation, ...]:
    return (
        unit_file(name, f"/bin/sh -c 'cat /srv/{name}.conf; exec sleep infinity'"),
        File(path=f"/srv/{name}.conf", content=content),
        Unit(name=f"{name}.service", restart_on=(f"/srv/{name}.conf", f"{SYSTEM}/{name}.service")),
    )


def show(box: Box, name: str, what: str) -> str:
    return box.shell(f"systemctl show --value -p {what} {name}.service").strip()


def test_units_start_and_only_the_changed_one_restarts(box: Box) -> None:
    wanted = bundle(*service("one", "1"), *service("two", "2"))
    preview = box.apply(wanted, dry_run=True)
    assert show(box, "one", "LoadState") == "not-found"
    report = box.apply(wanted)
    assert preview.changed == report.changed
    assert len(report.changed) == 6
    assert show(box, "one", "ActiveState,UnitFileState".replace(",", " -p ")) == "active\nenabled"
    pids = show(box, "one", "MainPID"), show(box, "two", "MainPID")
    assert box.apply(wanted).changed == ()
    changed = bundle(*service("one", "1"), *service("two", "two"))
    assert box.apply(changed, dry_run=True).changes[-1].details == ("restart",)
    assert box.apply(changed).changed == ("file /srv/two.conf", "unit two.service")
    assert show(box, "one", "MainPID") == pids[0]
    assert show(box, "two", "MainPID") != pids[1]
    assert box.apply(changed).changed == ()


def test_a_changed_unit_file_is_read_again(box: Box) -> None:
    box.apply(bundle(*service("one", "1")))
    drop_in = File(path=f"{SYSTEM}/one.service.d/x.conf", content="[Service]\nNice=5\n")
    unit = Unit(name="one.service", restart_on=(f"{SYSTEM}/one.service.d",))
    report = box.apply(bundle(drop_in, unit))
    assert report.changed == (f"file {drop_in.path}", "unit one.service")
    assert show(box, "one", "Nice") == "5"
    box.apply(bundle(Absent(path=drop_in.path)))
    assert show(box, "one", "Nice") == "0"
    assert show(box, "one", "NeedDaemonReload") == "no"


def test_reload_instead_of_restart(box: Box) -> None:
    reload = "ExecReload=/bin/sh -c 'echo r >>/srv/reloads'"
    unit = Unit(name="one.service", restart_on=("/srv/a",), reload=True)
    first = bundle(unit_file("one", "/bin/sleep infinity", reload), unit)
    box.apply(first)
    pid = show(box, "one", "MainPID")
    box.apply(bundle(File(path="/srv/a", content="1"), unit))
    assert show(box, "one", "MainPID") == pid
    assert box.path("/srv/reloads").read_text() == "r\n"


def test_a_crash_loop_is_found_out_with_its_last_words(box: Box) -> None:
    wanted = bundle(
        unit_file(
            "loop",
            "/bin/sh -c 'sleep 0.5; echo these are my last words; exit 1'",
            "Restart=always\nRestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0",
        ),
        Unit(name="loop.service"),
    )
    for _ in range(2):
        with pytest.raises(ConfigureError) as caught:
            box.apply(wanted)
        assert "unit loop.service" in caught.value.message
        assert "these are my last words" in "".join(caught.value.details)
        assert "journalctl -u loop.service" in caught.value.hint


def test_a_unit_that_fails_at_once_is_reported(box: Box) -> None:
    started = time.monotonic()
    with pytest.raises(
        ConfigureError, match=r"unit fails\.service is not active: failed"
    ) as caught:
        box.apply(
            bundle(unit_file("fails", "/bin/sh -c 'echo ouch; exit 3'"), Unit(name="fails.service"))
        )
    assert "ouch" in "".join(caught.value.details)
    assert time.monotonic() - started < 15


def test_a_unit_that_never_gets_ready_is_given_up(box: Box) -> None:
    with pytest.raises(ConfigureError, match=r"never\.service"):
        box.apply(
            bundle(
                unit_file("never", "/bin/sleep infinity", "Type=notify"),
                Unit(name="never.service", timeout_s=2),
            )
        )


def test_a_unit_that_is_not_there_is_an_error_unless_it_is_not_wanted(box: Box) -> None:
    absent = Unit(name="nothing.service", enabled=False, running=False)
    assert box.apply(bundle(absent)).changed == ()
    with pytest.raises(ConfigureError, match=r"there is no unit nothing\.service"):
        box.apply(bundle(Unit(name="nothing.service")))


def test_a_one_shot_runs_once(box: Box) -> None:
    wanted = bundle(
        unit_file("once", "/bin/sh -c 'echo x >>/srv/once'", "Type=oneshot"),
        Unit(name="once.service"),
    )
    assert box.apply(wanted).changed
    assert box.apply(wanted).changed == ()
    assert box.path("/srv/once").read_text() == "x\n"


def test_stop_disable_and_mask(box: Box) -> None:
    box.apply(bundle(*service("one", "1"), *service("two", "2")))
    wanted = bundle(
        Unit(name="one.service", enabled=False, running=False),
        Unit(name="fails.service", masked=True),
    )
    assert box.apply(wanted).changed == ("unit one.service", "unit fails.service")
    assert show(box, "one", "ActiveState") == "inactive"
    assert show(box, "one", "UnitFileState") == "disabled"
    assert show(box, "fails", "LoadState") == "masked"
    assert box.apply(wanted).changed == ()


def test_killed_between_change_and_restart_the_next_apply_restarts(box: Box) -> None:
    box.apply(bundle(*service("one", "1")))
    pid = show(box, "one", "MainPID")
    unit_text, conf, unit = service("one", "new")
    block = Step(
        name="block",
        run="touch /srv/blocked; test -e /srv/go || sleep 60",
        unless="test -e /srv/go",
    )
    wanted = bundle(unit_text, conf, block, unit)
    with start_agent(box, wanted) as process:
        deadline = time.monotonic() + 10
        while not box.path("/srv/blocked").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(agent_pid(process), signal.SIGKILL)
    assert show(box, "one", "MainPID") == pid
    box.shell("touch /srv/go")
    assert box.apply(wanted).changed == ("unit one.service",)
    assert show(box, "one", "MainPID") != pid
    assert box.apply(wanted).changed == ()


def test_undo_puts_units_back_as_they_were(box: Box) -> None:
    # one runs and gets another file; two is new; fails is there, off, and gets masked.
    box.apply(bundle(*service("one", "old"), unit_file("fails", "/bin/false")))
    before = box.fingerprint("/etc/systemd/system")
    box.apply(
        bundle(
            *service("one", "new"), *service("two", "2"), Unit(name="once.service", masked=True)
        ),
        ledger=True,
    )
    pid = show(box, "one", "MainPID")
    preview = box.undo(dry_run=True)
    assert show(box, "two", "ActiveState") == "active"
    report = box.undo()
    assert set(preview.changed) == set(report.changed)
    assert box.fingerprint("/etc/systemd/system") == before
    assert box.path("/srv/one.conf").read_text() == "old"
    assert show(box, "one", "ActiveState") == "active"
    assert show(box, "one", "MainPID") != pid
    assert show(box, "two", "LoadState") == "not-found"
    assert show(box, "two", "ActiveState") == "inactive"
    assert show(box, "once", "LoadState") == "not-found"


def test_a_killed_undo_still_restarts_what_got_its_old_file_back(box: Box) -> None:
    box.apply(bundle(*service("one", "old")))
    box.apply(bundle(*service("one", "new")), ledger=True)
    pid = show(box, "one", "MainPID")
    undone = b'"done", "phase": "undo", "lane": "undo", "op": "undo path /srv/one.conf"'
    with start_agent(box, bundle(), ledger=True, mode=("undo",)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if undone in line:
                os.kill(agent_pid(process), signal.SIGKILL)
                break
    assert box.path("/srv/one.conf").read_text() == "old"
    box.undo()
    assert show(box, "one", "MainPID") != pid


def test_undo_starts_what_was_stopped(box: Box) -> None:
    box.apply(bundle(*service("one", "1")))
    box.apply(
        bundle(Unit(name="one.service", masked=False, enabled=False, running=False)), ledger=True
    )
    assert show(box, "one", "ActiveState") == "inactive"
    box.undo()
    assert show(box, "one", "ActiveState") == "active"
    assert show(box, "one", "UnitFileState") == "enabled"


def test_undo_says_what_does_not_start_again(box: Box) -> None:
    box.apply(bundle(*service("one", "1")))
    box.apply(bundle(Unit(name="one.service", enabled=None, running=False)), ledger=True)
    box.shell(f"rm {SYSTEM}/one.service; systemctl daemon-reload")
    with pytest.raises(ApplyError, match=r"one\.service"):
        box.undo()
