"""uWSGI ini files of the API services; read by the init scripts of Debian's openstack-pkg-tools.

The scripts add only the socket (--http-socket) and Neutron's --pyargv to what stands here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from solostack.openstack.ini import Value, render_ini

STOP_S = 5
"""How long a worker may finish its work when stopped; Neutron's would take uWSGI's default, 60."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UwsgiApp:
    """An API under uWSGI. project is its system user, group and home below /var/lib.

    extra is added at the end, as it is; a value there beats the ones rendered before it.
    """

    name: str
    project: str
    wsgi_file: str
    processes: int
    threads: int
    extra: Mapping[str, Value] = dataclasses.field(default_factory=dict)


def render_uwsgi(app: UwsgiApp) -> str:
    """Render the ini file: Debian's options, our process counts, logs to the journal.

    Without ``need-app`` uWSGI stays up when the application fails to load (its database being
    away, say) and answers 500 until somebody restarts it; with it, systemd restarts it.
    """
    options: dict[str, Value] = {
        "plugins": "python3",
        "name": app.name,
        "uid": app.project,
        "gid": app.project,
        "chdir": f"/var/lib/{app.project}",
        "wsgi-file": app.wsgi_file,
        "need-app": True,
        "master": True,
        "lazy-apps": True,
        "processes": app.processes,
        "threads": app.threads,
        "thunder-lock": True,
        "enable-threads": True,
        "no-orphans": True,
        "die-on-term": True,
        "worker-reload-mercy": STOP_S,
        "close-on-exec": True,
        "close-on-exec2": True,
        "paste-logger": True,
        "buffer-size": 65535,
        "listen": 100,
        "socket-timeout": 30,
        "rem-header": "Content-Length",
        "add-header": "Connection: close",
        "env": f"OS_OSLO_MESSAGING_RABBIT__PROCESSNAME={app.name}",
    }
    options.update(app.extra)
    return render_ini({"uwsgi": options})
