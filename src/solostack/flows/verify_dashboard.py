"""The dashboard's part of `verify`: a visit by the admin, from where the operator is."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from solostack.cloud.credentials import ADMIN_PASSWORD
from solostack.cloud.dashboard_probe import CHECKS, DashboardVisit, probe_dashboard
from solostack.cloud.probes import Vantage
from solostack.doors.progress import Step
from solostack.errors import SolostackError
from solostack.flows.deployment import Deployment
from solostack.flows.proofs import Add, Proof, broken
from solostack.flows.verify_parts import Part
from solostack.plan.model import Plan

CERTIFICATES = ("tls_ca_certificate", "tls_front_door")
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def dashboard_proofs(deployment: Deployment, vantage: Vantage) -> tuple[Proof, ...]:
    """Return the proof, none where the site has no dashboard."""
    visit = build_visit(deployment.plan, deployment.secrets())
    if visit is None:
        return ()
    return (
        Proof(
            part=Part.DASHBOARD,
            title="dashboard",
            make=functools.partial(_make, vantage, visit),
            checks=tuple(check.name for check in CHECKS),
        ),
    )


def build_visit(plan: Plan, secrets: Mapping[str, str]) -> DashboardVisit | None:
    """Return whom to visit as whom; None where there is no dashboard.

    Trusted are the site's own authority and the very certificate that the front door was given,
    which an authority may have signed that this machine does not know.
    """
    if plan.dashboard is None or plan.front_door is None:
        return None
    return DashboardVisit(
        url=plan.front_door.url,
        address=plan.front_door.address,
        trusted="".join(certificates(secrets.get(name, "")) for name in CERTIFICATES),
        user="admin",
        password=secrets[ADMIN_PASSWORD],
        domain="Default",
    )


def certificates(pem: str) -> str:
    """Return the certificates of a PEM text, without the key that may be among them."""
    return "".join(f"{one}\n" for one in re.findall(f"{_BEGIN}.*?{_END}", pem, re.DOTALL))


def _make(vantage: Vantage, visit: DashboardVisit, add: Add, step: Step) -> None:
    step.say(f"looking at {visit.url} from {vantage.executor.name}")
    try:
        for result in probe_dashboard(vantage, visit):
            add(result)
    except SolostackError as error:
        add(broken("dashboard", error))
