"""`check`: look at every host of a site and judge it. Changes nothing."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence

from solostack.doors.knock import knock
from solostack.doors.process import Executor
from solostack.doors.progress import Progress, Step
from solostack.errors import HostError
from solostack.flows.deployment import host_executors
from solostack.flows.parallel import run_together
from solostack.host import check as rules
from solostack.host.check_model import Finding, Severity
from solostack.host.facts import read_observation
from solostack.host.method import MethodSeen, knock_targets, probe_method
from solostack.host.probe_observation import HostObservation
from solostack.host.probe_parse import parse_session
from solostack.plan.build import build_plan, home_of
from solostack.plan.model import Plan
from solostack.site.loader import LoadedSite
from solostack.site.model import ExternalMethod, Host, Role, Site


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
    executors = host_executors(loaded)
    with progress.step("look at hosts") as step:
        seen = run_together(
            [
                functools.partial(_look, loaded.site, host, executors[host.name], step)
                for host in loaded.site.hosts
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


def _look(site: Site, host: Host, executor: Executor, step: Step) -> HostObservation:
    with step.step(host.name) as part:
        part.say("reading it, then booting a tiny guest")
        seen = read_observation(executor, name=host.name)
        if host.local and seen.session is None:
            # Commands get an environment made from nothing; ours still has it.
            session = parse_session(os.environ.get("SSH_CONNECTION", ""))
            seen = dataclasses.replace(seen, session=session)
        if home_of(site, Role.NETWORK) is not host:
            return seen
        return dataclasses.replace(seen, method=_listen(site, host, executor, seen, part))


def _listen(
    site: Site, host: Host, executor: Executor, seen: HostObservation, step: Step
) -> MethodSeen | None:
    """Find out how public addresses arrive; None where there is nothing to listen for or on."""
    targets = knock_targets(site)
    link = seen.network.link(host.nic)
    if link is None or not seen.system.is_root or not targets:
        return None
    probe = None
    gateway = next((route.gateway for route in seen.network.default_routes), None)
    if site.external.method is ExternalMethod.BRIDGE and not link.master and gateway is not None:
        probe = (gateway, link.mac)
    step.say(f"listening on {host.nic} for {', '.join(map(str, targets))}")
    return probe_method(
        executor,
        nic=host.nic,
        targets=targets,
        # What this very host sends to the addresses would not leave it, or not come back.
        knocker=None if host.local else knock,
        filter_probe=probe,
    )


def _plan(site: Site, seen: Mapping[str, HostObservation]) -> Plan | None:
    """Return the plan for what was seen; None where it does not fit: the rules tell that better."""
    try:
        return build_plan(site, {name: each.facts() for name, each in seen.items()})
    except HostError:
        return None
