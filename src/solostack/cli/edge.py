"""The outer edge: the one place where a failure becomes text and an exit status.

Owns the texts of failures and docs/errors.md's promise: no traceback on the screen, ever. A bug's
traceback goes to a log file of its own. Must not know any command.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.text import Text

from solostack.cli import render
from solostack.doors.clock import Clock, SystemClock
from solostack.errors import ExitCode, SolostackError

# These say something about the machine or the user's rights, not about our code.
ENVIRONMENT_ERRNOS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE)
)
Work = Callable[[Sequence[str]], int]


def guard(work: Work, argv: Sequence[str], *, clock: Clock | None = None) -> int:
    """Run work(argv) and return the process's exit status, whatever happens in it."""
    render.forget_results()
    try:
        with _signals_interrupt():
            status = work(argv)
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _report_interrupt(argv)
    except BrokenPipeError:
        return _report_closed_pipe()
    except SolostackError as error:
        return _report(error, argv)
    except OSError as error:
        if error.errno not in ENVIRONMENT_ERRNOS:
            return _report_bug(error, argv, clock or SystemClock())
        return _report(_environment_failure(error), argv)
    except Exception as error:  # noqa: BLE001 (the edge: whatever gets here is a bug of ours)
        return _report_bug(error, argv, clock or SystemClock())


def wants_json(argv: Sequence[str]) -> bool:
    """Return whether --json was asked of us; what comes after ``--`` is for another command."""
    ours = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in ours


def describe(error: SolostackError) -> Text:
    """Return a failure as it is shown: message, details, causes, hint."""
    text = Text()
    text.append("error: ", style="bold red")
    text.append(render.printable(error.message))
    for line in "\n".join(_explanation(error)).splitlines():
        text.append(f"\n  {render.printable(line)}")
    hint = _hint(error)
    if hint:
        text.append("\nhint: ", style="bold cyan")
        text.append(render.printable(hint))
    return text


def to_value(error: SolostackError) -> dict[str, object]:
    """Return a failure as --json shows it on standard output; the schema is in docs/errors.md."""
    return {
        "error": {
            "kind": type(error).__name__,
            "exit_code": int(error.exit_code),
            "message": error.message,
            "details": list(_explanation(error)),
            "hint": _hint(error),
        }
    }


def _report(error: SolostackError, argv: Sequence[str]) -> int:
    render.show_error_text(describe(error))
    # A result that tells of the failure may be out already; a second document would spoil it.
    if wants_json(argv) and not render.has_json_result():
        with contextlib.suppress(BrokenPipeError):
            render.print_json(to_value(error))
            sys.stdout.flush()
    return int(error.exit_code)


def _explanation(error: SolostackError) -> Iterator[str]:
    """Yield the details of error and of the failures it was made from, outermost first."""
    yield from error.details
    said = {error.message, *error.details}
    for cause in _causes(error):
        if cause.message not in said:
            yield f"because: {cause.message}"
        yield from (line for line in cause.details if line not in said)
        said.update((cause.message, *cause.details))


def _causes(error: BaseException) -> Iterator[SolostackError]:
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, SolostackError):
            yield cause
        cause = cause.__cause__


def _hint(error: SolostackError) -> str:
    hints = (error.hint, *(cause.hint for cause in _causes(error)))
    return next((hint for hint in hints if hint), "")


def _environment_failure(error: OSError) -> SolostackError:
    where = f": {error.filename}" if error.filename else ""
    failure = SolostackError(f"{error.strerror}{where}")
    if error.errno in (errno.EACCES, errno.EPERM):
        failure.hint = "run it as root, or as a user who may use that path"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        failure.hint = "make room (df -h shows where), then run the same command again"
    return failure


def _report_interrupt(argv: Sequence[str]) -> int:
    command = shlex.join(("solostack", *argv))
    render.show_error_text(f"\ninterrupted; to go on from here: {command}")
    return int(ExitCode.INTERRUPTED)


def _report_closed_pipe() -> int:
    # The interpreter flushes standard output once more at its end; docs.python.org, "signal",
    # note on SIGPIPE: point it somewhere harmless first.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(ExitCode.PIPE_CLOSED)


def _report_bug(error: Exception, argv: Sequence[str], clock: Clock) -> int:
    where = _write_log(error, argv, clock)
    failure = SolostackError(
        f"this is a bug in solostack: {type(error).__name__}: {error}",
        hint=f"please report it with this log: {where}" if where else "please report it",
    )
    failure.exit_code = ExitCode.BUG
    return _report(failure, argv)


def _write_log(error: Exception, argv: Sequence[str], clock: Clock) -> Path | None:
    """Write the traceback to a new file that only its owner reads; None when that fails too."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = f"{clock.now():%Y%m%dT%H%M%SZ}-{os.getpid()}.log"
    path = base / "solostack" / "log" / name
    lines = (
        f"command: {shlex.join(('solostack', *argv))}\n",
        f"python: {platform.python_version()} on {platform.platform()}\n\n",
        *traceback.format_exception(error),
    )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as log:
            log.writelines(lines)
    except OSError:
        return None
    return path


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Make a polite kill and a lost terminal end the work as Ctrl-C does: cleaned up, resumable."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    # A signal that was ignored from the start (nohup) stays ignored.
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
