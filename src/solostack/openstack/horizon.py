"""Horizon on the controller: its application under uWSGI, its sessions in MariaDB.

Debian's package is used without Apache. Its own settings are files that Python runs one after the
other (local_settings.d after local_settings.py); here everything is in local_settings.py, and the
one file of Debian's that says otherwise is taken away.
"""

from __future__ import annotations

from solostack.engine.operations import Absent, File, Operation, Unit
from solostack.openstack.horizon_settings import SECRET_KEY, render_settings
from solostack.openstack.once import once
from solostack.openstack.programs import DIRECTORY, program
from solostack.openstack.schema import DatabaseUser, schema_step
from solostack.plan.model import NodePlan, Plan

ADDRESS = "127.0.0.1"
PORT = 8010
PACKAGES = ("openstack-dashboard", "python3-pymemcache")
UNITS: tuple[str, ...] = ()
DATABASE = DatabaseUser(name="horizon", databases=("horizon",))
SERVICE = "solostack-horizon.service"
CLEAN_SERVICE = "solostack-horizon-sessions.service"
CLEAN_TIMER = "solostack-horizon-sessions.timer"
SETTINGS = "/etc/openstack-dashboard/local_settings.py"
DEBIAN_CACHE = "/etc/openstack-dashboard/local_settings.d/_0006_debian_cache.py"
UWSGI = "/etc/openstack-dashboard/horizon-uwsgi.ini"
STATIC = "/var/lib/openstack-dashboard/static"
MANIFEST = f"{STATIC}/dashboard/manifest.json"
MANAGE = "/usr/share/openstack-dashboard/manage.py"
PROGRAMS = (program("horizon_sessions"), program("horizon_wsgi"))
THREADS = 8
START_S = 300
"""How long loading may take: seconds, but ten times as long on an emulated processor."""
FOR_EVER = "max-age=31536000, immutable"
FOR_AN_HOUR = "max-age=3600"
COMPRESSED = ("css", "eot", "html", "js", "json", "svg", "ttf")
SMALLEST_COMPRESSED_KIB = 4
HASHED = r"\.[0-9a-f]{12}\.(css|js)$"


def wanted(plan: Plan) -> bool:
    """Return whether the site has a dashboard."""
    return plan.dashboard is not None and plan.front_door is not None


def secret_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of the secrets that are Horizon's alone."""
    return (SECRET_KEY,) if wanted(plan) else ()


def horizon_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return files, the database of sessions, and the static files' compressed copies."""
    del node
    if not wanted(plan):
        return ()
    migrate = f"runuser -u horizon -- {MANAGE} migrate --noinput --verbosity 0"
    return (
        *PROGRAMS,
        Absent(path=DEBIAN_CACHE),
        File(path=SETTINGS, content=render_settings(plan), mode=0o640, group="horizon"),
        File(path=UWSGI, content=render_uwsgi(plan)),
        File(path=_unit_path(SERVICE), content=render_service()),
        File(path=_unit_path(CLEAN_SERVICE), content=render_clean_service()),
        File(path=_unit_path(CLEAN_TIMER), content=render_clean_timer()),
        # Debian makes the static files anew, without the copies, whenever a part of them changes.
        once("horizon-static", render_compression(), inputs=(MANIFEST,)),
        schema_step(DATABASE, migrate, package="openstack-dashboard"),
    )


def horizon_units(plan: Plan, *, running: bool = True) -> tuple[Operation, ...]:
    """Return the application and the timer that removes ended sessions; none without dashboard."""
    if not wanted(plan):
        return ()
    files = (SETTINGS, UWSGI, _unit_path(SERVICE), *(file.path for file in PROGRAMS))
    return (
        Unit(name=SERVICE, running=running, restart_on=files, timeout_s=START_S),
        Unit(name=CLEAN_TIMER, running=running, restart_on=(_unit_path(CLEAN_TIMER),)),
    )


def render_uwsgi(plan: Plan) -> str:
    """Render the ini file.

    Static files are uWSGI's own matter: an offload thread sends them, compressed where there is a
    compressed copy. What has a hash in its name is another file when it changes, so browsers may
    keep it; the rest they ask for again after an hour. Without ``lazy-apps`` the application is
    loaded once, before workers are forked.
    """
    return f"""\
# Written by solostack; changes made here are lost at the next apply.
[uwsgi]
plugins = python3
name = horizon
http-socket = {ADDRESS}:{PORT}
uid = horizon
gid = horizon
chdir = /var/lib/horizon
wsgi-file = {DIRECTORY}/horizon_wsgi.py
need-app = true
master = true
processes = {plan.workers}
threads = {THREADS}
enable-threads = true
thunder-lock = true
no-orphans = true
die-on-term = true
worker-reload-mercy = 5
close-on-exec = true
close-on-exec2 = true
buffer-size = 65535
listen = 100
socket-timeout = 60
disable-logging = true
log-5xx = true
# Browsers break off what they no longer need.
ignore-sigpipe = true
ignore-write-errors = true
disable-write-exception = true
static-map = /static={STATIC}
static-gzip-all = true
offload-threads = 1
response-route-run = addheader:Connection: close
response-route-uri = ^/static/ addheader:Vary: Accept-Encoding
response-route-uri = ^/static/[^?]+{HASHED} {_cached(FOR_EVER)}
response-route-uri = ^/static/[^?]+{HASHED} last:
response-route-uri = ^/static/ {_cached(FOR_AN_HOUR)}
"""


def render_service() -> str:
    """Render the unit. uWSGI says that it is started when everything is loaded and warmed up."""
    return f"""\
[Unit]
Description=OpenStack dashboard (Horizon)
After=mariadb.service network-online.target
Wants=network-online.target

[Service]
Type=notify
TimeoutStartSec={START_S}
User=horizon
Group=horizon
ExecStart=/usr/bin/uwsgi_python3 --ini {UWSGI}
Restart=on-failure
RestartSec=2
PrivateTmp=true
LimitNOFILE=65535
TimeoutStopSec=15

[Install]
WantedBy=multi-user.target
"""


def render_clean_service() -> str:
    """Render the unit that removes ended sessions.

    One statement does what ``manage.py clearsessions`` loads the whole of Horizon for.
    """
    sql = "DELETE FROM horizon.django_session WHERE expire_date < UTC_TIMESTAMP()"
    return f"""\
[Unit]
Description=Remove ended sessions of the dashboard
After=mariadb.service

[Service]
Type=oneshot
ExecStart=/usr/bin/mariadb --execute "{sql}"
"""


def render_clean_timer() -> str:
    """Render the timer for it."""
    return """\
[Unit]
Description=Remove ended sessions of the dashboard every hour

[Timer]
OnCalendar=hourly
RandomizedDelaySec=10min

[Install]
WantedBy=timers.target
"""


def render_compression() -> str:
    """Render the script that puts a compressed copy beside every static file that is worth it."""
    names = " -o ".join(f"-name '*.{ending}'" for ending in COMPRESSED)
    size = f"-size +{SMALLEST_COMPRESSED_KIB}k"
    return f"find {STATIC} -type f {size} \\( {names} \\) -exec gzip -9 -k -n -f {{}} +\n"


def _cached(rule: str) -> str:
    return f"addheader:Cache-Control: public, {rule}"


def _unit_path(name: str) -> str:
    return f"/etc/systemd/system/{name}"
