"""`verify`: prove the cloud by named checks, from inside and outside, and clean up."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from solostack.cloud import probes
from solostack.cloud.client import Caller, call
from solostack.cloud.credentials import SECRET_NAMES, build_access
from solostack.cloud.desired import verify_request
from solostack.cloud.probes import CheckResult, Vantage
from solostack.doors.clock import Clock, SystemClock
from solostack.doors.process import Executor, LocalExecutor
from solostack.doors.progress import Progress, Step
from solostack.engine.operations import Bundle, Unit
from solostack.engine.secrets import SecretStore
from solostack.errors import CommandError, SolostackError, VerifyError
from solostack.flows.deployment import (
    Deployment,
    host_executors,
    make_deployment,
    site_state,
)
from solostack.flows.facts import known_facts
from solostack.flows.parallel import run_together
from solostack.flows.proofs import Proof, ask_agent, broken
from solostack.flows.verify_dashboard import dashboard_proofs
from solostack.flows.verify_directory import directory_proofs
from solostack.flows.verify_front_door import front_door_proofs
from solostack.flows.verify_parts import Part, require_parts
from solostack.flows.verify_storage import storage_proofs
from solostack.flows.verify_volumes import volume_proofs
from solostack.plan.model import Plan
from solostack.site.loader import LoadedSite
from solostack.site.model import ExternalMethod, Role

# Generous: an instance boots in seconds, but under emulation on a busy machine in minutes.
INSTANCE_TIMEOUT_S = 300.0
CLEAN_UP_TIMEOUT_S = 420.0
CLOSED_PORT = 8080
# Services of the controller without which a call of an API does not fail, it waits.
PILLARS = ("mariadb.service", "rabbitmq-server.service")
VANTAGE = "this machine"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine whose units must be active; where all of it is ours, none of it may have failed."""

    executor: Executor
    units: tuple[str, ...]
    all_ours: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifyContext:
    """All that verify works with.

    vantage is a machine that can reach the floating IPs, outside the host where there is one;
    upstream an address outside that answers pings, which instances must reach. proofs are those of
    services that a site may leave out. only are the parts wanted, none for all.
    """

    plan: Plan
    controller: Caller
    vantage: Executor
    machines: tuple[Machine, ...]
    upstream: ipaddress.IPv4Address
    proofs: tuple[Proof, ...] = ()
    only: frozenset[Part] = frozenset()
    clock: Clock = dataclasses.field(default_factory=SystemClock)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """All checks in the order in which they ended. consoles holds the instances' last output."""

    results: tuple[CheckResult, ...]
    consoles: Mapping[str, str]
    seconds: float

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed; those skipped are not among them."""
        return tuple(result for result in self.results if not result.ok and not result.skipped)

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    def failure(self) -> VerifyError | None:
        """Return the error that says which checks failed, None when all is well."""
        if self.ok:
            return None
        lines = [f"{result.name}: {result.detail}" for result in self.failed]
        count = sum(not result.skipped for result in self.results)
        return VerifyError(
            f"{len(self.failed)} of {count} checks failed: "
            + ", ".join(result.name for result in self.failed),
            details=lines,
            hint=self.failed[0].hint,
        )


def verify(context: VerifyContext, step: Step) -> VerifyReport:
    """Make every check and remove what was made for them, also when interrupted.

    A check that fails is a result, not an exception.
    """
    return _Run(context, step).run()


def verify_site(
    loaded: LoadedSite, progress: Progress, *, only: Collection[Part] = ()
) -> VerifyReport:
    """Verify a site's cloud, or only parts of it, as seen from this machine.

    Raises UsageError for a part that the site has nothing of.
    """
    state = site_state(loaded)
    state.create()
    facts = known_facts(state, loaded, host_executors(loaded))
    with progress.step("verify") as step:
        deployment = make_deployment(loaded, state, facts)
        require_parts_of(deployment, only)
        return verify(deployment_context(deployment, only=only), step)


def require_parts_of(deployment: Deployment, only: Collection[Part]) -> None:
    """Raise UsageError for a part that the site has nothing of; asks no machine."""
    if not only:
        return
    outside = Vantage(executor=LocalExecutor(VANTAGE), clock=SystemClock())
    proofs = _proofs(deployment, _caller(deployment), outside)
    require_parts(only, {proof.part for proof in proofs}, deployment.plan.site)


def deployment_context(deployment: Deployment, *, only: Collection[Part] = ()) -> VerifyContext:
    """Put together what verify needs of a deployment, or of parts of it."""
    plan = deployment.plan
    machines = [
        Machine(
            executor=deployment.node(node),
            units=running_units(deployment.node_bundle(node)),
            all_ours=True,
        )
        for node in plan.nodes
    ]
    machines += [
        Machine(
            executor=deployment.host(host.name),
            units=running_units(deployment.base_bundle(host), deployment.compute_bundle(host)),
            all_ours=False,
        )
        for host in plan.hosts
    ]
    vantage = find_vantage(plan, LocalExecutor(VANTAGE), deployment.executors)
    controller = _caller(deployment)
    outside = Vantage(executor=vantage, clock=SystemClock())
    return VerifyContext(
        plan=plan,
        controller=controller,
        vantage=vantage,
        machines=tuple(machines),
        upstream=find_upstream(deployment),
        proofs=_proofs(deployment, controller, outside),
        only=frozenset(only),
    )


def _caller(deployment: Deployment) -> Caller:
    plan = deployment.plan
    secrets = SecretStore(deployment.state.directory).ensure(SECRET_NAMES)
    return Caller(
        executor=deployment.node(plan.node(Role.CONTROLLER)),
        access=build_access(plan, secrets),
        failure=VerifyError,
    )


def _proofs(deployment: Deployment, controller: Caller, outside: Vantage) -> tuple[Proof, ...]:
    return (
        *directory_proofs(deployment, controller),
        *front_door_proofs(deployment, outside),
        *dashboard_proofs(deployment, outside),
        *storage_proofs(deployment, controller),
        *volume_proofs(deployment, controller),
    )


def running_units(*bundles: Bundle) -> tuple[str, ...]:
    """Return the units that bundles want to run."""
    names = [
        operation.name
        for bundle in bundles
        for operation in bundle.operations()
        if isinstance(operation, Unit) and operation.running and not operation.masked
    ]
    return tuple(dict.fromkeys(names))


def find_vantage(plan: Plan, here: Executor, hosts: Mapping[str, Executor]) -> Executor:
    """Return where floating IPs are looked at from: here, or the host that carries the block.

    Nobody but a neighbour with a route through that host reaches a private block.
    """
    gateway = next(host for host in plan.hosts if host.gateway)
    if plan.external.method is not ExternalMethod.PRIVATE:
        return here
    argv = ("ip", "-4", "-json", "route", "get", str(plan.external.floating_addresses[0]))
    try:
        done = here.run(argv, check=False)
    except CommandError:
        # No `ip` here: not Linux.
        return hosts[gateway.name]
    routes = json.loads(done.text or "[]") if done.status == 0 else []
    through_host = {"gateway": str(gateway.address)}
    on_host = {"dev": plan.external.bridge}
    if any(way.items() <= route.items() for route in routes for way in (through_host, on_host)):
        return here
    return hosts[gateway.name]


def find_upstream(deployment: Deployment) -> ipaddress.IPv4Address:
    """Return the default gateway of the host that carries the block; its own address without."""
    host = next(host for host in deployment.plan.hosts if host.gateway)
    done = deployment.host(host.name).run(("ip", "-4", "-json", "route", "show", "default"))
    gateways = [route["gateway"] for route in json.loads(done.text or "[]") if "gateway" in route]
    return ipaddress.IPv4Address(gateways[0]) if gateways else host.address


class _Run:
    """One run of verify: its results so far."""

    def __init__(self, context: VerifyContext, step: Step) -> None:
        self._context = context
        self._step = step
        self._results: list[CheckResult] = []
        self._vantage = Vantage(executor=context.vantage, clock=context.clock)
        self._request = verify_request(context.plan, context.upstream)

    def run(self) -> VerifyReport:
        start_s = self._context.clock.monotonic_s()
        if self._wants(Part.UNITS):
            self._units()
        apis_answer = self._pillars_stand()
        if not apis_answer and not self._wants(Part.UNITS):
            # Or all that was asked for would be skipped, and nothing would have failed.
            self._units()
        self._prove(apis_answer=apis_answer, beside_instances=False)
        instances: Mapping[str, Any] = {}
        if self._wants_instances() and apis_answer:
            instances = self._instances()
        elif self._wants_instances():
            for check in (*probes.AGENT_CHECKS, probes.PING, probes.HTTP, probes.CLOSED):
                self._add(probes.skipped(check.name))
            self._prove(apis_answer=False, beside_instances=True)
        return VerifyReport(
            results=tuple(self._results),
            consoles={name: one["console"] for name, one in instances.items() if one},
            seconds=self._context.clock.monotonic_s() - start_s,
        )

    def _wants(self, part: Part) -> bool:
        return not self._context.only or part in self._context.only

    def _wants_instances(self) -> bool:
        beside = {proof.part for proof in self._context.proofs if proof.beside_instances}
        return any(self._wants(part) for part in {Part.INSTANCES, *beside})

    def _instances(self) -> Mapping[str, Any]:
        instances: Mapping[str, Any] = {}
        try:
            with self._step.step("inside") as part:
                instances = self._inside(part)
            with self._step.step("outside") as part:
                self._outside(instances, part)
            self._prove(apis_answer=True, beside_instances=True)
        finally:
            with self._step.step("clean up") as part:
                self._clean_up(part)
        return instances

    def _prove(self, *, apis_answer: bool, beside_instances: bool) -> None:
        for proof in self._context.proofs:
            if proof.beside_instances is not beside_instances or not self._wants(proof.part):
                continue
            if apis_answer or not proof.needs_apis:
                with self._step.step(proof.title) as part:
                    proof.make(self._add, part)
            else:
                for name in proof.checks:
                    self._add(probes.skipped(name))

    def _pillars_stand(self) -> bool:
        """Return False when calls of the APIs would only wait, for minutes."""
        if self._results and all(result.ok for result in self._results):
            return True
        try:
            bad = probes.bad_units(self._context.controller.executor, PILLARS, all_ours=False)
        except SolostackError:
            # The controller does not answer: the calls say so at once.
            return True
        return not bad

    def _add(self, result: CheckResult) -> None:
        self._results.append(result)
        if not result.ok and not result.skipped:
            self._step.note(f"{result.name}: {result.detail}")

    def _units(self) -> None:
        with self._step.step("units") as part:
            part.say("asking systemd everywhere")
            works: list[Callable[[], CheckResult]] = [
                functools.partial(self._machine_units, machine)
                for machine in self._context.machines
            ]
            for result in run_together(works):
                self._add(result)

    def _machine_units(self, machine: Machine) -> CheckResult:
        try:
            return probes.probe_units(
                machine.executor,
                self._context.clock,
                machine.units,
                all_ours=machine.all_ours,
            )
        except SolostackError as error:
            return broken(f"{probes.UNITS.name} {machine.executor.name}", error)

    def _inside(self, step: Step) -> Mapping[str, Any]:
        return ask_agent(
            self._context.controller,
            "verify_start",
            self._request,
            probes.AGENT_CHECKS,
            add=self._add,
            step=step,
            timeout_s=INSTANCE_TIMEOUT_S,
        )

    def _outside(self, instances: Mapping[str, Any], step: Step) -> None:
        addresses = [
            ipaddress.IPv4Address(one["floating"])
            for one in instances.values()
            if one and one["floating"]
        ]
        if self._context.vantage.name != VANTAGE:
            step.note(f"private addresses, seen from {self._context.vantage.name}")
        for address in addresses:
            step.say(f"ping {address}")
            self._probe(probes.PING.name, functools.partial(probes.probe_ping, address=address))
            step.say(f"HTTP {address}")
            self._probe(probes.HTTP.name, functools.partial(probes.probe_http, address=address))
        if addresses:
            closed = functools.partial(probes.probe_closed, address=addresses[0], port=CLOSED_PORT)
            self._probe(probes.CLOSED.name, closed)
        else:
            for check in (probes.PING, probes.HTTP, probes.CLOSED):
                self._add(probes.skipped(check.name))

    def _probe(self, name: str, probe: Callable[[Vantage], CheckResult]) -> None:
        try:
            self._add(probe(self._vantage))
        except SolostackError as error:
            self._add(broken(name, error))

    def _clean_up(self, step: Step) -> None:
        start_s = self._context.clock.monotonic_s()
        try:
            call(
                self._context.controller,
                "verify_cleanup",
                {"project": self._request["project"]},
                step=step,
                timeout_s=CLEAN_UP_TIMEOUT_S,
            )
        except SolostackError as error:
            self._add(broken(probes.CLEAN_UP.name, error))
            return
        seconds = self._context.clock.monotonic_s() - start_s
        self._add(CheckResult(name=probes.CLEAN_UP.name, ok=True, seconds=seconds))
