"""The one tree of errors: message, details, hint, exit code.

Every failure a user can meet is a SolostackError. The outer edge (cli) is the only place that turns
one into text and an exit status; nothing below it prints or exits.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence


class ExitCode(enum.IntEnum):
    """What the process exit status says. One meaning each; listed in docs/errors.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SITE = 3
    HOST = 4
    IMAGE = 5
    APPLY = 6
    MACHINE = 7
    CONFIGURE = 8
    VERIFY = 9
    STATE = 10
    CONNECT = 11
    LAB = 12
    BUG = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class SolostackError(Exception):
    """A failure with everything its reader needs: what, where, why and the next command.

    message is one line saying what failed and on which machine; details are the lines that explain
    it (an excerpt of a log, the offending value); hint is an imperative, the exact next command.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, details: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint


class UsageError(SolostackError):
    """The command line itself is wrong."""

    exit_code = ExitCode.USAGE


class SiteError(SolostackError):
    """The site file is wrong; details hold one line per problem, with file:line."""

    exit_code = ExitCode.SITE


class HostError(SolostackError):
    """A physical host is not fit for what the site asks of it."""

    exit_code = ExitCode.HOST


class ImageError(SolostackError):
    """A tree, disk or image could not be built."""

    exit_code = ExitCode.IMAGE


class ApplyError(SolostackError):
    """A change to a physical host failed."""

    exit_code = ExitCode.APPLY


class MachineError(SolostackError):
    """A control node does not start, stop or answer."""

    exit_code = ExitCode.MACHINE


class ConfigureError(SolostackError):
    """A node's or the cloud's configuration failed."""

    exit_code = ExitCode.CONFIGURE


class VerifyError(SolostackError):
    """The cloud is there but a check of it failed."""

    exit_code = ExitCode.VERIFY


class StateError(SolostackError):
    """The state directory is locked, missing or of another deployment."""

    exit_code = ExitCode.STATE


class ConnectError(SolostackError):
    """A host, node or libvirt daemon cannot be reached."""

    exit_code = ExitCode.CONNECT


class LabError(SolostackError):
    """The lab of simulated hosts cannot do what was asked."""

    exit_code = ExitCode.LAB


class CommandError(SolostackError):
    """A command ended with a status other than 0, or not within its time.

    Doors raise it; whoever knows what the command was for wraps it in one of the classes above.
    """

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[str] = (),
        hint: str = "",
        status: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message, details=details, hint=hint)
        self.status = status
        self.stderr = stderr


class CommandTimeoutError(CommandError):
    """A command did not end within its time, and was ended."""
