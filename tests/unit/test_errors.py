"""The edge: every failure becomes one text and one exit status, and never a traceback."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from solostack import errors
from solostack.cli import edge, render
from solostack.doors.clock import FakeClock
from solostack.errors import (
    CommandError,
    ExitCode,
    HostError,
    ImageError,
    SiteError,
    SolostackError,
)


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def raising(error: BaseException) -> edge.Work:
    def work(argv: Sequence[str]) -> int:
        raise error

    return work


def error_classes() -> list[type[SolostackError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, SolostackError)
    ]


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_status_and_whole_text(
    kind: type[SolostackError], capsys: pytest.CaptureFixture[str]
) -> None:
    error = kind("phys1: no such thing", details=("line one", "line two"), hint="run this")

    status = edge.guard(raising(error), ("up",))

    shown = capsys.readouterr()
    assert status == kind.exit_code
    assert shown.out == ""
    assert shown.err == "error: phys1: no such thing\n  line one\n  line two\nhint: run this\n"


def test_an_error_without_details_and_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    edge.guard(raising(SiteError("no hosts")), ("plan",))

    assert capsys.readouterr().err == "error: no hosts\n"


def test_a_detail_of_several_lines_is_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    edge.guard(raising(SiteError("x", details=("one\ntwo\n",))), ())

    assert capsys.readouterr().err == "error: x\n  one\n  two\n"


def test_causes_are_told_once_with_the_first_hint(capsys: pytest.CaptureFixture[str]) -> None:
    root = CommandError("mmdebstrap ended with 25", details=("E: no space",), hint="look at df")
    middle = ImageError("mmdebstrap ended with 25", details=("E: no space",))
    middle.__cause__ = root
    outer = ImageError("tree of controller: not built")
    outer.__cause__ = middle

    edge.guard(raising(outer), ())

    assert capsys.readouterr().err == (
        "error: tree of controller: not built\n"
        "  because: mmdebstrap ended with 25\n"
        "  E: no space\n"
        "hint: look at df\n"
    )


def test_json_error_is_on_standard_output_and_the_text_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = ImageError("no tree", details=("why",), hint="do")

    status = edge.guard(raising(error), ("bake", "--json"))

    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "error": {
            "kind": "ImageError",
            "exit_code": 5,
            "message": "no tree",
            "details": ["why"],
            "hint": "do",
        }
    }
    assert shown.err.startswith("error: no tree\n")
    assert status == ExitCode.IMAGE


def test_a_result_that_is_out_is_not_followed_by_a_second_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(argv: Sequence[str]) -> int:
        render.print_json({"fit": False})
        raise HostError("phys1 is not fit")

    assert edge.guard(work, ("check", "--json")) == ExitCode.HOST

    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"fit": False}
    assert shown.err == "error: phys1 is not fit\n"


def test_json_after_a_double_dash_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    edge.guard(raising(SiteError("x")), ("lab", "exec", "phys1", "--", "ip", "--json"))

    assert capsys.readouterr().out == ""


def test_a_bug_shows_no_traceback_but_where_its_log_is(
    capsys: pytest.CaptureFixture[str], state_home: Path
) -> None:
    status = edge.guard(raising(ValueError("off by one")), ("up",), clock=FakeClock())

    shown = capsys.readouterr()
    (log,) = (state_home / "solostack" / "log").iterdir()
    assert status == ExitCode.BUG
    assert shown.err == (
        "error: this is a bug in solostack: ValueError: off by one\n"
        f"hint: please report it with this log: {log}\n"
    )
    assert "Traceback" not in shown.out + shown.err
    assert log.name == f"19700101T000000Z-{os.getpid()}.log"
    assert "Traceback" in log.read_text()
    assert "command: solostack up\n" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_a_bug_where_no_log_can_be_written(
    capsys: pytest.CaptureFixture[str], state_home: Path
) -> None:
    state_home.write_text("a file where the folder should be")

    status = edge.guard(raising(KeyError("x")), ("up",), clock=FakeClock())

    assert status == ExitCode.BUG
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (errno.ENOSPC, ExitCode.FAILED, "No space left on device: /var/x"),
        (errno.EACCES, ExitCode.FAILED, "Permission denied: /var/x"),
        (errno.EBADF, ExitCode.BUG, "this is a bug"),
    ],
)
def test_a_full_disk_is_not_our_bug_but_a_bad_descriptor_is(
    capsys: pytest.CaptureFixture[str], number: int, status: ExitCode, said: str
) -> None:
    failure = OSError(number, os.strerror(number), "/var/x")

    assert edge.guard(raising(failure), ("up",), clock=FakeClock()) == status
    assert said in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    status = edge.guard(raising(KeyboardInterrupt()), ("up", "-f", "my site.yaml"))

    assert status == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == (
        "\ninterrupted; to go on from here: solostack up -f 'my site.yaml'\n"
    )


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def polite(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal as a process has it that was started plainly, however these tests were."""
    number: signal.Signals = request.param
    before = signal.signal(number, signal.SIG_DFL)
    yield number
    signal.signal(number, before)


def test_a_polite_kill_ends_as_an_interrupt_does(polite: signal.Signals) -> None:
    cleaned: list[str] = []

    def work(argv: Sequence[str]) -> int:
        try:
            signal.raise_signal(polite)
        finally:
            cleaned.append("yes")
        return 0

    assert edge.guard(work, ("up",)) == ExitCode.INTERRUPTED
    assert cleaned == ["yes"]
    assert signal.getsignal(polite) is signal.SIG_DFL


def test_what_was_ignored_from_the_start_stays_ignored(polite: signal.Signals) -> None:
    """As nohup(1) does with a lost terminal."""
    signal.signal(polite, signal.SIG_IGN)

    def work(argv: Sequence[str]) -> int:
        signal.raise_signal(polite)
        return 0

    assert edge.guard(work, ("up",)) == 0
    assert signal.getsignal(polite) is signal.SIG_IGN


def test_a_reader_who_has_left_is_no_failure_of_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    def work(argv: Sequence[str]) -> int:
        sys.stdout.write("much\n")
        return 0

    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert edge.guard(work, ("addresses",)) == ExitCode.PIPE_CLOSED
        # What the interpreter does at its end must not fail either.
        pipe.flush()
    assert capsys.readouterr().err == ""


def test_the_result_is_the_status() -> None:
    assert edge.guard(lambda argv: len(argv), ("a", "b", "c")) == 3


def test_what_a_guest_said_does_not_drive_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = SiteError("\x1b[2Jwiped\x07", details=("\x1b]0;title\x07a\tb\r",), hint="\x9b31m")

    edge.guard(raising(error), ())

    assert capsys.readouterr().err == "error: [2Jwiped\n  ]0;titlea     b\nhint: 31m\n"


@hypothesis.given(
    message=strategies.text(), details=strategies.lists(strategies.text()), hint=strategies.text()
)
def test_any_text_is_shown_and_is_valid_json(message: str, details: list[str], hint: str) -> None:
    error = SolostackError(message, details=details, hint=hint)

    text = edge.describe(error).plain
    value = json.loads(json.dumps(edge.to_value(error)))

    assert all(character.isprintable() or character in "\t\n" for character in text)
    assert value["error"]["message"] == message
    assert value["error"]["details"] == details


def test_markup_in_a_message_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    edge.guard(raising(SiteError("[bold]x[/bold] nodes[0] :smile:")), ())

    assert capsys.readouterr().err == "error: [bold]x[/bold] nodes[0] :smile:\n"


def test_no_colour_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)

    edge.guard(raising(SiteError("x", hint="y")), ())

    assert "\x1b" not in stream.getvalue()
