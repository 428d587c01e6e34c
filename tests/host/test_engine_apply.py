"""The agent on real files: what apply, dry run and second apply do, and what they never show."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.engine.apply import BOOT
from solostack.engine.bundle import pack
from solostack.engine.operations import (
    Absent,
    Bundle,
    Directory,
    File,
    Lane,
    Line,
    Operation,
    Phase,
    Step,
    phase,
    secret,
)
from solostack.errors import ApplyError, ConfigureError
from tests.host.engine_box import Box, agent_pid, open_box, start_agent

pytestmark = pytest.mark.host
SECRET = "Zq7hunter2zQ"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_box(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Box:
    shared.clear()
    return shared


def bundle(*operations: Operation) -> Bundle:
    return Bundle(target="box", phases=(phase("all", *operations),))


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def everything() -> Bundle:
    return bundle(
        Directory(path="/srv/state", mode=0o700, owner="daemon", group="daemon"),
        File(path="/srv/new/deep/app.conf", content=f"key = {secret('key')}\n", mode=0o640),
        File(path="/srv/old.conf", content="one\n2\nthree\n"),
        Line(path="/srv/hosts", line="10.0.0.1 node", match=r"\snode$"),
        Absent(path="/srv/gone"),
        Step(name="make", run="echo made >/srv/made", unless="test -e /srv/made"),
        Step(name="react", run="date >>/srv/reacted", when_changed=("/srv/old.conf",)),
    )


def seed(box: Box) -> None:
    box.shell(
        "printf 'one\\ntwo\\nthree\\n' >/srv/old.conf; chmod 600 /srv/old.conf;"
        "printf '127.0.0.1 localhost' >/srv/hosts; touch /srv/gone"
    )


def test_apply_makes_what_the_bundle_says_and_a_second_one_changes_nothing(box: Box) -> None:
    seed(box)
    first = box.apply(everything(), {"key": SECRET})
    assert len(first.changed) == 7
    assert box.shell("stat -c '%a %U:%G' /srv/state").strip() == "700 daemon:daemon"
    assert box.shell("stat -c '%a %U:%G' /srv/new/deep").strip() == "755 root:root"
    assert box.path("/srv/new/deep/app.conf").read_text() == f"key = {SECRET}\n"
    assert box.shell("stat -c %a /srv/new/deep/app.conf").strip() == "640"
    assert box.path("/srv/hosts").read_text() == "127.0.0.1 localhost\n10.0.0.1 node\n"
    assert not box.path("/srv/gone").exists()
    before = box.fingerprint("/srv")
    second = box.apply(everything(), {"key": SECRET})
    assert second.changed == ()
    assert box.fingerprint("/srv") == before
    assert len(second.timings) == 7


def test_dry_run_changes_nothing_and_says_what_apply_then_does(box: Box) -> None:
    seed(box)
    before = box.fingerprint("/srv")
    dry = box.apply(everything(), {"key": SECRET}, dry_run=True)
    assert box.fingerprint("/srv") == before
    assert not box.path("/var/lib/solostack").exists()
    assert dry.changed == box.apply(everything(), {"key": SECRET}).changed
    diffs = {change.operation: change.diff for change in dry.changes}
    assert "+10.0.0.1 node\n" in diffs["line /srv/hosts"]
    assert "-127.0.0.1 localhost\n\\ No newline at end of file\n" in diffs["line /srv/hosts"]
    # It was 0600: what is in it now may be secret.
    assert "+2\n" in diffs["file /srv/old.conf"]
    assert "two" not in diffs["file /srv/old.conf"]
    details = {change.operation: change.details for change in dry.changes}
    assert details["file /srv/old.conf"] == ("mode 0600 -> 0644", "content")


def test_dry_run_sees_its_own_changes(box: Box) -> None:
    wanted = bundle(
        File(path="/srv/a", content="x = 1\n"),
        Line(path="/srv/a", line="x = 2", match="^x ="),
        Line(path="/srv/a", line="y = 3", match="^y ="),
        Directory(path="/srv/d"),
        Absent(path="/srv/d"),
    )
    dry = box.apply(wanted, dry_run=True)
    assert dry.changes[2].diff == "--- /srv/a\n+++ /srv/a\n@@ -1 +1,2 @@\n x = 2\n+y = 3\n"
    assert dry.changed == box.apply(wanted).changed
    assert box.path("/srv/a").read_text() == "x = 2\ny = 3\n"


def test_a_link_is_replaced_by_a_file_and_followed_by_a_line(box: Box) -> None:
    box.shell("echo real >/srv/real; ln -s real /srv/link; ln -s real /srv/other")
    box.apply(
        bundle(
            File(path="/srv/link", content="mine\n"),
            Line(path="/srv/other", line="REAL", match="(?i)^real"),
        )
    )
    assert not box.path("/srv/link").is_symlink()
    assert str(box.path("/srv/other").readlink()) == "real"
    assert box.path("/srv/real").read_text() == "REAL\n"


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (File(path="/srv/dir", content=""), "is not a file"),
        (Directory(path="/srv/file"), "is not a directory"),
        (Absent(path="/srv/dir"), "not empty"),
        (Absent(path="/srv/fifo"), "not removed"),
        (File(path="/srv/x", content="", owner="nobody-such"), "no user called nobody-such"),
        (File(path="/srv/file/x", content=""), "/srv/file is there and is not a directory"),
        (Step(name="s", run="false"), "status 1"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    box: Box, operation: Operation, reason: str
) -> None:
    box.shell("mkdir /srv/dir; touch /srv/dir/x /srv/file; mkfifo /srv/fifo")
    before = box.fingerprint("/srv")
    with pytest.raises(ConfigureError) as caught:
        box.apply(bundle(operation))
    assert reason in caught.value.message
    assert caught.value.message.startswith("box: ")
    assert caught.value.hint
    assert box.fingerprint("/srv") == before


def test_no_secret_is_ever_shown(box: Box) -> None:
    wanted = bundle(
        File(path="/srv/a", content=f"{secret('key')}\n"),
        Step(
            name="tell",
            run=f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' >/srv/argv\n"
            f"echo it is {secret('key')}; echo {secret('key')} >&2; exit 3",
        ),
    )
    lines: list[str] = []
    done = box.executor.run(
        ("python3", "-I", "-S", "-c", BOOT, "apply"),
        stdin=pack(wanted, {"key": SECRET}),
        check=False,
        on_line=lines.append,
    )
    assert done.status == 1
    assert SECRET not in "".join(lines) + done.stderr.decode()
    assert "it is ***" in "".join(lines)
    assert SECRET not in box.path("/srv/argv").read_text()
    assert "python3" in box.path("/srv/argv").read_text()
    assert box.shell(f"grep -rl {SECRET} /run /tmp /var/lib/solostack || true") == ""
    dry = box.executor.run(
        ("python3", "-I", "-S", "-c", BOOT, "dry-run"), stdin=pack(wanted, {"key": SECRET[:-1]})
    )
    assert SECRET[:-1] not in dry.text


def test_a_step_cannot_swallow_its_own_script_nor_be_kept_open_by_a_daemon(box: Box) -> None:
    wanted = bundle(Step(name="s", run="cat >/srv/eaten\nsleep 30 &\necho on >/srv/after\n# end"))
    report = box.apply(wanted)
    assert report.seconds < 5
    assert box.path("/srv/after").read_text() == "on\n"
    assert box.path("/srv/eaten").read_text() == ""


def test_a_step_that_takes_too_long_is_ended_with_all_it_started(box: Box) -> None:
    run = "echo begun; (echo $$ >/srv/pid; sleep 60) & sleep 60"
    with pytest.raises(ConfigureError) as caught:
        box.apply(bundle(Step(name="slow", run=run, timeout_s=1)))
    assert "no end within 1 s" in caught.value.message
    assert caught.value.details == ("begun",)
    assert "sleep 60" not in box.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo")


def test_a_failure_shows_the_last_lines_of_output(box: Box) -> None:
    with pytest.raises(ConfigureError) as caught:
        box.apply(bundle(Step(name="count", run="seq 1 100; exit 7")))
    assert caught.value.details == tuple(str(number) for number in range(71, 101))


def test_lanes_run_at_the_same_time_and_stop_at_the_first_failure(box: Box) -> None:
    def lane(name: str, other: str) -> Lane:
        meet = f"touch /srv/{name}; for i in $(seq 100); do test -e /srv/{other} && exit 0;"
        return Lane(
            name=name, operations=(Step(name=name, run=f"{meet} sleep 0.05; done; exit 1"),)
        )

    box.apply(Bundle(target="b", phases=(Phase(name="p", lanes=(lane("a", "b"), lane("b", "a"))),)))
    bad = Lane(name="bad", operations=(Step(name="bad", run="exit 1"),))
    slow = Lane(
        name="slow",
        operations=(
            Step(name="current", run="sleep 1; touch /srv/current"),
            File(path="/srv/never", content=""),
        ),
    )
    last = phase("last", File(path="/srv/later", content=""))
    phases = (Phase(name="p", lanes=(bad, slow)), last)
    with pytest.raises(ConfigureError, match="step bad"):
        box.apply(Bundle(target="b", phases=phases))
    assert box.path("/srv/current").exists()
    assert not box.path("/srv/never").exists()
    assert not box.path("/srv/later").exists()


def test_two_applies_never_run_at_once(box: Box) -> None:
    guarded = bundle(
        Step(name="alone", run="mkdir /srv/alone; sleep 0.5; rmdir /srv/alone; echo x >>/srv/runs")
    )
    failures: list[BaseException] = []

    def apply() -> None:
        try:
            box.apply(guarded)
        except ConfigureError as error:
            failures.append(error)

    threads = [threading.Thread(target=apply) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert box.path("/srv/runs").read_text() == "x\n" * 3


def test_killed_between_change_and_reaction_the_next_apply_reacts(box: Box) -> None:
    wanted = bundle(
        File(path="/srv/a.conf", content="new\n"),
        Step(
            name="block",
            run="touch /srv/blocked; test -e /srv/go || sleep 60",
            unless="test -e /srv/go",
        ),
        Step(name="react", run="echo x >>/srv/reacted", when_changed=("/srv/a.conf",)),
    )
    with start_agent(box, wanted) as process:
        wait_for(box.path("/srv/blocked"))
        os.kill(agent_pid(process), signal.SIGKILL)
    assert box.path("/srv/a.conf").read_text() == "new\n"
    assert not box.path("/srv/reacted").exists()
    box.shell("touch /srv/go")
    dry = box.apply(wanted, dry_run=True)
    report = box.apply(wanted)
    assert dry.changed == report.changed == ("step react",)
    assert box.path("/srv/reacted").read_text() == "x\n"
    # What the killed one left running was ended before anything was changed.
    assert "sleep 60" not in box.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo")
    assert box.apply(wanted).changed == ()


def test_a_stop_is_clean(box: Box) -> None:
    wanted = bundle(
        Step(name="block", run="touch /srv/blocked; sleep 60"),
        File(path="/srv/never", content=""),
    )
    with start_agent(box, wanted) as process:
        wait_for(box.path("/srv/blocked"))
        started = time.monotonic()
        os.kill(agent_pid(process), signal.SIGTERM)
        out, _ = process.communicate()
    assert time.monotonic() - started < 5
    assert b'"reason": "interrupted"' in out.splitlines()[-1]
    assert process.returncode == 130
    assert not box.path("/srv/never").exists()
    assert "sleep 60" not in box.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo")


def test_it_stops_when_nobody_reads_its_report(box: Box) -> None:
    wanted = bundle(
        Step(name="block", run="touch /srv/blocked; sleep 0.5"),
        File(path="/srv/never", content=""),
    )
    with start_agent(box, wanted) as process:
        wait_for(box.path("/srv/blocked"))
        assert process.stdout is not None
        process.stdout.close()
        process.wait(timeout=10)
    assert not box.path("/srv/never").exists()


def test_a_change_of_a_host_is_an_apply_error(box: Box) -> None:
    with pytest.raises(ApplyError):
        box.apply(bundle(Step(name="s", run="exit 1")), ledger=True)
