"""cinder-volume as Debian starts it, without two habits of its libraries.

oslo.service's parent process asks a hundred times a second whether a child has ended, which is a
seventh of an emulated processor; here it asks once a second.

oslo.concurrency gives each command a function to run between fork and exec. For its sake Python
copies the whole service (fork(2) instead of vfork(2)), and runs what is registered for forks in the
copy, where eventlet 0.39 fails two assertions (Python 3.13) and writes both tracebacks to the
journal. All that the function does is to restore SIGPIPE, as Popen does by itself
(restore_signals).

Usage: cinder_volume.py ARGUMENTS_OF_CINDER_VOLUME
"""

from __future__ import annotations

import functools
import subprocess
import sys
import types

# First of them: it patches the standard library for eventlet.
from cinder.cmd import volume  # type: ignore[import-not-found]
from oslo_concurrency import processutils  # type: ignore[import-not-found]
from oslo_service import service  # type: ignore[import-not-found]

WAIT_INTERVAL_S = 1.0


class Command(subprocess.Popen):  # type: ignore[type-arg]
    """A command; oslo.concurrency's own function before exec is left out."""

    def __init__(self, *arguments: object, **options: object) -> None:
        if _restores_signals_only(options.get("preexec_fn")):
            options["preexec_fn"] = None
        super().__init__(*arguments, **options)  # type: ignore[call-overload]


def configure() -> None:
    """Have both libraries do as said above; Debian's versions of them are meant."""
    service.ProcessLauncher = functools.partial(
        service.ProcessLauncher, wait_interval=WAIT_INTERVAL_S
    )
    processutils.subprocess = types.SimpleNamespace(**{**vars(subprocess), "Popen": Command})


def _restores_signals_only(function: object) -> bool:
    return (
        isinstance(function, functools.partial)
        and function.func is processutils._subprocess_setup
        and function.args == (None,)
    )


if __name__ == "__main__":
    configure()
    sys.exit(volume.main())
