"""The dashboard's part of `verify`: a visit by the admin, from where the operator is."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from solostack.cloud.credentials import ADMIN_PASSWORD
from solostack.cloud.dashboard_probe import CHECKS, DashboardVisit, probe_dashboard
from solostack.cloud.probes import Vantage
from solostack.doors.progress import Step
from solostack.engine.secrets import SecretStore
from solostack.errors import SolostackError
from solostack.flows.certificates import kept_certificate_secrets
from solostack.flows.deployment import Deployment
from solostack.flows.proofs import Add, Proof, add_broken
from solostack.flows.verify_parts import Part
from solostack.plan.model import FrontDoorPlan

CERTIFICATES = ("tls_ca_certificate", "tls_front_door")
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def dashboard_proofs(deployment: Deployment, vantage: Vantage) -> tuple[Proof, ...]:
    """Return the proof, none where the site has no dashboard."""
    if deployment.plan.dashboard is None or deployment.plan.front_door is None:
        return ()
    return (
        Proof(
            part=Part.DASHBOARD,
            title="dashboard",
            make=functools.partial(_make, deployment, deployment.plan.front_door, vantage),
            checks=tuple(check.name for check in CHECKS),
        ),
    )


def build_visit(door: FrontDoorPlan, secrets: Mapping[str, str]) -> DashboardVisit:
    """Return whom to visit as whom.

    Trusted are the site's own authority and the very certificate that the front door was given,
    which an authority may have signed that this machine does not know.
    """
    return DashboardVisit(
        url=door.url,
        address=door.address,
        trusted="".join(certificates(secrets.get(name, "")) for name in CERTIFICATES),
        user="admin",
        password=secrets[ADMIN_PASSWORD],
        domain="Default",
    )


def certificates(pem: str) -> str:
    """Return the certificates of a PEM text, without the key that may be among them."""
    return "".join(f"{one}\n" for one in re.findall(f"{_BEGIN}.*?{_END}", pem, re.DOTALL))


def _make(
    deployment: Deployment, door: FrontDoorPlan, vantage: Vantage, add: Add, step: Step
) -> None:
    step.say(f"looking at {door.url} from {vantage.executor.name}")
    try:
        for result in probe_dashboard(vantage, build_visit(door, _secrets(deployment))):
            add(result)
    except SolostackError as error:
        add_broken(CHECKS, error, add)


def _secrets(deployment: Deployment) -> Mapping[str, str]:
    """Return what a visit needs, without renewing what only `up` can put in its place."""
    loaded, state, plan = deployment.loaded, deployment.state, deployment.plan
    passwords = SecretStore(state.directory).ensure((ADMIN_PASSWORD,))
    return {**passwords, **kept_certificate_secrets(loaded, state, plan)}
