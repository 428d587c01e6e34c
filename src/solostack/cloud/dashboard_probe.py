"""The dashboard as a browser without scripts sees it, through the front door: checks of `verify`.

One program on a machine outside makes the whole visit, since a session is one browser's. The
password goes to it on standard input, and so shows in no process list.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import ipaddress
import json
from collections.abc import Mapping
from typing import Any

from solostack.cloud.probes import Check, CheckResult, Vantage, skipped

VISIT_TIMEOUT_S = 240
ANSWER_TIMEOUT_S = 60
_JOURNAL = "on the controller: journalctl -u solostack-horizon -u haproxy -e"

PAGE = Check(name="dashboard: login page", hint=_JOURNAL)
STATIC = Check(
    name="dashboard: static files",
    hint="on the controller: ls /var/lib/openstack-dashboard/static/dashboard/*/*.gz; without "
    "files there: dpkg-reconfigure openstack-dashboard, then solostack up",
)
LOGIN = Check(
    name="dashboard: log-in and overview",
    hint="on the controller: journalctl -u solostack-horizon -u keystone -u nova-api -e",
)
CHECKS = (PAGE, STATIC, LOGIN)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DashboardVisit:
    """Whom to visit and as whom.

    trusted is the PEM text of certificates that are trusted besides the system's own.
    """

    url: str
    address: ipaddress.IPv4Address
    trusted: str
    user: str
    password: str
    domain: str


def probe_dashboard(vantage: Vantage, visit: DashboardVisit) -> tuple[CheckResult, ...]:
    """Fetch the login page and a file of it, log in, look at the overview, log out."""
    request = dataclasses.asdict(visit) | {
        "address": str(visit.address),
        "limit_s": ANSWER_TIMEOUT_S,
    }
    done = vantage.executor.run(
        ("python3", "-I", "-c", _script()),
        stdin=json.dumps(request).encode(),
        timeout_s=VISIT_TIMEOUT_S,
    )
    told = [json.loads(line) for line in done.text.splitlines()]
    made = [_result(check, one) for check, one in zip(CHECKS, told, strict=False)]
    return (*made, *(skipped(check.name) for check in CHECKS[len(made) :]))


def _result(check: Check, told: Mapping[str, Any]) -> CheckResult:
    ok = bool(told["ok"])
    return CheckResult(
        name=check.name,
        ok=ok,
        seconds=float(told["seconds"]),
        detail=str(told["detail"]),
        hint="" if ok else check.hint,
    )


def _script() -> str:
    source = importlib.resources.files("solostack.cloud") / "dashboard_visit_script.py"
    return source.read_text(encoding="utf-8")
