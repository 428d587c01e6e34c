"""Where the services log to."""

from __future__ import annotations

from solostack.engine.operations import File

DEFAULT = "/etc/default/openstack"


def journal_only() -> File:
    """Return the file by which Debian's init scripts log to the journal alone.

    The journal has a size limit; log files have none where logrotate is not installed.
    """
    return File(path=DEFAULT, content="USE_LOGFILE=no\n")
