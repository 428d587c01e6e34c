"""The process door on real processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from solostack.doors import process
from solostack.doors.process import LocalExecutor, PrefixExecutor
from solostack.errors import CommandError

LOCAL = LocalExecutor("here")


def is_alive(number: int) -> bool:
    """Return whether a process is there and is no zombie."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for_file(path: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().strip():
            return path.read_text().strip()
        time.sleep(0.02)
    pytest.fail(f"{path} did not come")


def test_output_status_and_words_arrive_unchanged() -> None:
    words = ("a b", "", "$HOME", "'\"", "*", "é\n")

    done = LOCAL.run(("printf", "%s\\0", *words))

    assert done.stdout == b"".join(word.encode() + b"\0" for word in words)
    assert done.status == 0


def test_standard_input_is_closed_unless_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")

    assert LOCAL.run(("cat",)).stdout == b""
    assert LOCAL.run(("cat",), stdin=b"x" * 300_000).stdout == b"x" * 300_000
    assert LOCAL.run(("cat",), stdin=tmp_path / "file").stdout == b"from a file"


def test_a_command_that_does_not_read_its_input_is_no_failure() -> None:
    assert LOCAL.run(("true",), stdin=b"x" * 300_000).status == 0


def test_much_output_on_both_streams_does_not_block() -> None:
    script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"

    done = LOCAL.run(("sh", "-c", script))

    assert (len(done.stdout), len(done.stderr)) == (1_000_000, 1_000_000)


def test_lines_arrive_while_the_command_runs(tmp_path: Path) -> None:
    go = tmp_path / "go"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        go.touch()

    script = f"echo one; while [ ! -e {go} ]; do sleep 0.02; done; printf two"
    LOCAL.run(("sh", "-c", script), on_line=on_line, timeout_s=20)

    assert lines == ["one", "two"]


def test_a_failure_says_machine_status_command_and_last_words() -> None:
    with pytest.raises(CommandError) as caught:
        LOCAL.run(("sh", "-c", "seq 100 >&2; exit 7"))

    assert caught.value.message.startswith("here: status 7 from: sh -c ")
    assert caught.value.status == 7
    assert caught.value.details == tuple(str(number) for number in range(86, 101))


def test_a_missing_command_says_what_to_install() -> None:
    with pytest.raises(CommandError) as caught:
        LOCAL.run(("no-such-command-here",), check=False)

    assert caught.value.message == "here: command not found: no-such-command-here"
    assert "no-such-command-here" in caught.value.hint


def test_a_timeout_ends_the_command_and_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child}; wait"

    with pytest.raises(CommandError, match="no end within 1 s"):
        LOCAL.run(("sh", "-c", script), timeout_s=1, check=False)

    assert not is_alive(int(wait_for_file(child)))


def test_an_interrupt_elsewhere_ends_what_runs(tmp_path: Path) -> None:
    started = tmp_path / "started"
    results: list[int] = []

    def work() -> None:
        script = f"echo $$ > {started}; exec sleep 60"
        results.append(LOCAL.run(("sh", "-c", script), check=False).status)

    thread = threading.Thread(target=work)
    thread.start()
    number = int(wait_for_file(started))
    process.stop_all()
    thread.join(timeout=20)

    assert results == [-signal.SIGTERM]
    assert not is_alive(number)


def test_the_users_settings_do_not_reach_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp")
    monkeypatch.setenv("PYTHONPATH", "/tmp")

    lines = LOCAL.run(("env",)).text.splitlines()

    assert "LC_ALL=C.UTF-8" in lines
    assert not [line for line in lines if line.startswith(("LD_", "PYTHON"))]


def test_a_prefix_stands_before_every_command() -> None:
    inside = PrefixExecutor(LOCAL, ("env", "WHERE=inside"), "box")

    assert inside.run(("sh", "-c", "echo $WHERE")).text == "inside\n"
    assert inside.name == "box"


def test_a_daemon_outlives_us_and_is_not_our_child(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    log = tmp_path / "log"

    process.start_daemon(
        ("sh", "-c", f"echo started; echo $$ > {mark}; exec sleep 60"), log=log, environment={}
    )

    number = int(wait_for_file(mark))
    try:
        parent = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent != os.getpid()
        assert os.getsid(number) == number
        assert log.read_text() == "started\n"
    finally:
        os.kill(number, signal.SIGKILL)


def test_a_long_command_is_cut_in_messages() -> None:
    assert len(process.printable(("echo", "x" * 1000))) == 300
    assert process.printable(("echo", "a b")) == "echo 'a b'"
