"""`check`: look at every host of a site and judge it. Changes nothing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from solostack.doors.process import Executor
from solostack.doors.progress import Progress, Step
from solostack.errors import HostError
from solostack.flows.deployment import host_executors
from solostack.flows.parallel import run_together
from solostack.host import check as rules
from solostack.host.check_model import Finding, Severity
from solostack.host.facts import read_observation
from solostack.host.probe_observation import HostObservation
from solostack.plan.build import build_plan
from solostack.plan.model import Plan
from solostack.site.loader import LoadedSite
from solostack.site.model import Site


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """What was found on one host."""

    host: str
    findings: tuple[Finding, ...]

    @property
    def fit(self) -> bool:
        """Whether the deployment can be built on it."""
        return rules.worst(self.findings) is not Severity.ERROR


def check_hosts(loaded: LoadedSite, progress: Progress) -> tuple[HostCheck, ...]:
    """Look at all hosts side by side and judge them, in the site's order.

    Raises:
        ConnectError: a host cannot be reached.
        HostError: a host was reached and could not be looked at.
    """
    with progress.step("look at hosts") as step:
        seen = run_together(
            [
                functools.partial(_look, name, executor, step)
                for name, executor in host_executors(loaded).items()
            ]
        )
    plan = _plan(loaded.site, {each.name: each for each in seen})
    return tuple(
        HostCheck(host=each.name, findings=rules.findings(loaded.site, plan, each)) for each in seen
    )


def require_fit(checks: Sequence[HostCheck]) -> None:
    """Raise HostError for the first host that is not fit for its site."""
    for check in checks:
        rules.require_fit(check.host, check.findings)


def _look(name: str, executor: Executor, step: Step) -> HostObservation:
    with step.step(name) as part:
        part.say("reading it, then booting a tiny guest")
        return read_observation(executor, name=name)


def _plan(site: Site, seen: Mapping[str, HostObservation]) -> Plan | None:
    """Return the plan for what was seen; None where it does not fit: the rules tell that better."""
    try:
        return build_plan(site, {name: each.facts() for name, each in seen.items()})
    except HostError:
        return None
