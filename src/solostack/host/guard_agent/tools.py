"""Runs the host's own tools (ip, nft, systemctl ...); a tool that fails or hangs is only noted."""

from __future__ import annotations

import dataclasses
import os
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TIMEOUT_S = 10.0
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}


@dataclasses.dataclass(frozen=True)
class Result:
    """A command that ended; status 127 when there is no such tool, 124 when it hung."""

    status: int
    out: str
    error: str


def run(argv: Sequence[str], stdin: str = "", timeout_s: float = TIMEOUT_S) -> Result:
    """Run a tool and return what it said; never raises for what the tool does."""
    try:
        done = subprocess.run(  # noqa: S603 (argv is ours, no shell)
            list(argv),
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=timeout_s,
            env=ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(124, "", f"no end within {timeout_s:.0f} s")
    except OSError as error:
        return Result(127, "", f"{argv[0]}: {os.strerror(error.errno or 0)}")
    return Result(
        done.returncode,
        done.stdout.decode("utf-8", "surrogateescape"),
        done.stderr.decode("utf-8", "replace").strip(),
    )


class Log:
    """What a way back did: every command, and why it failed if it did."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: list[str] = []

    def act(self, argv: Sequence[str], stdin: str = "", timeout_s: float = TIMEOUT_S) -> bool:
        """Run a command that changes something; return whether it worked."""
        result = run(argv, stdin, timeout_s)
        line = " ".join(argv)
        if result.status == 0:
            self.done.append(line)
            return True
        reason = result.error.splitlines()[0] if result.error else f"status {result.status}"
        self.failed.append(f"{line}: {reason}")
        return False

    def act_all(self, commands: Iterable[Sequence[str]]) -> None:
        """Run commands one after the other; one that fails keeps none of the others."""
        for argv in commands:
            self.act(argv)

    def note(self, text: str) -> None:
        """Note something done without a command."""
        self.done.append(text)

    def fail(self, text: str) -> None:
        """Note something that could not be done."""
        self.failed.append(text)
