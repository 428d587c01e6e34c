"""`check`: look at every host of a site and judge it. Changes nothing."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence

from solostack.doors.clock import Clock
from solostack.doors.knock import knock
from solostack.doors.process import Executor
from solostack.doors.progress import Progress, Step
from solostack.errors import HostError, SiteError
from solostack.flows.certificates import Certificate, list_certificates
from solostack.flows.deployment import host_executors, site_state
from solostack.flows.directory_files import read_credentials
from solostack.flows.parallel import run_together
from solostack.host import check as rules
from solostack.host.check_model import Finding, Severity, Subject, ok, warning
from solostack.host.directory_probe import DirectorySeen, probe_directory
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
                functools.partial(_look, loaded, host, executors[host.name], step)
                for host in loaded.site.hosts
            ]
        )
    plan = _plan(loaded.site, {each.name: each for each in seen})
    return tuple(
        HostCheck(
            host=each.name,
            findings=(
                *rules.findings(loaded.site, plan, each),
                *(certificate_findings(loaded, plan, each.name) if plan else ()),
            ),
        )
        for each in seen
    )


def certificate_findings(
    loaded: LoadedSite, plan: Plan, host: str, clock: Clock | None = None
) -> tuple[Finding, ...]:
    """Judge the deployment's certificates, said once: at the host that has the public addresses.

    What has expired is no error: `up` must go on, as it is what puts a new one in place. SiteError
    for an operator's certificate that cannot be used.
    """
    if not plan.host(host).gateway:
        return ()
    known = list_certificates(loaded, site_state(loaded), plan, clock)
    bad = tuple(
        warning(
            Subject.CERTIFICATES,
            f"the certificate {each.name} {each.problem}",
            why=f"{_harm(each)} ({each.used})",
            todo=each.todo,
        )
        for each in known
        if each.problem
    )
    if bad or not known:
        return bad
    first = min(known, key=lambda each: each.days_left)
    words = f"{len(known)} certificates; the first to expire is {first.name}, in"
    return (ok(Subject.CERTIFICATES, f"{words} {first.days_left} days"),)


def _harm(certificate: Certificate) -> str:
    if certificate.time_problem:
        return "clients refuse it, or will"
    return "clients still get it, and its key still counts"


def require_fit(checks: Sequence[HostCheck]) -> None:
    """Raise HostError for the first host that is not fit for its site."""
    for check in checks:
        rules.require_fit(check.host, check.findings)


def _look(loaded: LoadedSite, host: Host, executor: Executor, step: Step) -> HostObservation:
    with step.step(host.name) as part:
        part.say("reading it, then booting a tiny guest")
        seen = read_observation(executor, name=host.name)
        if host.local and seen.session is None:
            # Commands get an environment made from nothing; ours still has it.
            session = parse_session(os.environ.get("SSH_CONNECTION", ""))
            seen = dataclasses.replace(seen, session=session)
        if home_of(loaded.site, Role.CONTROLLER) is host:
            seen = dataclasses.replace(seen, directory=_ask_directory(loaded, executor, part))
        site = loaded.site
        if home_of(site, Role.NETWORK) is not host:
            return seen
        return dataclasses.replace(seen, method=_listen(site, host, executor, seen, part))


def _ask_directory(loaded: LoadedSite, executor: Executor, step: Step) -> DirectorySeen | None:
    """Ask an external directory from a host, where the control nodes' way out leads through."""
    external = None if loaded.site.directory is None else loaded.site.directory.external
    if external is None:
        return None
    try:
        credentials = read_credentials(loaded, external)
    except SiteError as error:
        return DirectorySeen(step="credentials", kind=error.hint, said=error.message)
    step.say(f"asking {external.url}")
    return probe_directory(executor, external, credentials)


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
