"""`addresses --prove`: every address that can be a floating IP is tried from inside and outside.

What an instance holds is tried as it is. The free ones are given to one test instance, one after
the other, in the project of verify, which is removed at the end, also after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
from collections.abc import Iterator, Mapping
from typing import Any

from solostack.cloud.address_proof import (
    TEST_INSTANCE,
    Holder,
    Outcome,
    Proof,
    Try,
    Way,
    build_failure,
    judge,
    not_tried,
    settle,
)
from solostack.cloud.client import Caller, call
from solostack.cloud.desired import VERIFY_PROJECT, address_request
from solostack.cloud.reach import probe_reach
from solostack.doors.clock import Clock, SystemClock
from solostack.doors.process import Executor, LocalExecutor
from solostack.doors.progress import Progress, Step
from solostack.errors import CommandError, SolostackError, VerifyError
from solostack.flows.addresses import (
    Live,
    address_caller,
    keep_proofs,
    open_deployment,
    read_live,
)
from solostack.flows.deployment import Deployment, site_hosts
from solostack.flows.verify import CLEAN_UP_TIMEOUT_S, INSTANCE_TIMEOUT_S, VANTAGE
from solostack.plan.model import HostPlan, Plan
from solostack.site.loader import LoadedSite
from solostack.site.model import ExternalMethod

MOVE_TIMEOUT_S = 60.0
# OVN installs a floating IP within a second or two; a stale neighbour entry on the way goes in ten.
FREE_LIMIT_S = 30.0
HELD_LIMIT_S = 10.0
# From outside nothing is to be waited for where the host itself got no answer.
HOPELESS_LIMIT_S = 3.0
IPv4Address = ipaddress.IPv4Address


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProveContext:
    """All that a proof works with. outside None: no_outside says why there is none."""

    plan: Plan
    controller: Caller
    inside: Executor
    outside: Executor | None
    no_outside: str
    clock: Clock = dataclasses.field(default_factory=SystemClock)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Proofs in the order of the addresses, who held what, and what could not be cleaned up."""

    proofs: tuple[Proof, ...]
    live: Live
    way: Way
    left_behind: VerifyError | None = None

    def failure(self) -> VerifyError | None:
        """Return the error that names what does not work, None when all does."""
        return build_failure(self.proofs, self.way) or self.left_behind


def prove_site(loaded: LoadedSite, progress: Progress) -> Proven:
    """Prove a site's addresses and keep the result in its state."""
    deployment = open_deployment(loaded)
    with deployment.state.locked(), progress.step("prove addresses") as step:
        with step.step("ask the cloud") as part:
            live = read_live(deployment, part)
            context = build_context(deployment)
        run = Prover(context, live, step)
        try:
            run.run()
        finally:
            keep_proofs(deployment.state, loaded.site, run.proofs)
    return Proven(
        proofs=tuple(run.proofs),
        live=live,
        way=build_way(context.plan),
        left_behind=run.left_behind,
    )


def build_context(deployment: Deployment) -> ProveContext:
    """Say from where to prove a deployment's addresses."""
    plan = deployment.plan
    host = gateway_host(plan)
    why = _no_outside(deployment, host)
    return ProveContext(
        plan=plan,
        controller=address_caller(deployment),
        inside=deployment.host(host.name),
        outside=None if why else LocalExecutor(VANTAGE),
        no_outside=why,
    )


def gateway_host(plan: Plan) -> HostPlan:
    """Return the host that carries the block."""
    return next(host for host in plan.hosts if host.gateway)


def build_way(plan: Plan) -> Way:
    """Return how the block gets to its host, for hints."""
    host = gateway_host(plan)
    return Way(method=plan.external.method, host=str(host.address), nic=host.nic)


def _no_outside(deployment: Deployment, host: HostPlan) -> str:
    if site_hosts(deployment.loaded)[host.name].local:
        return "solostack runs on the host"
    external = deployment.plan.external
    if external.method is not ExternalMethod.PRIVATE:
        return ""
    address = external.floating_addresses[0]
    command = ("ip", "-4", "-json", "route", "get", str(address))
    try:
        text = LocalExecutor(VANTAGE).run(command).text
    except CommandError:
        text = ""
    if leads_to(text, host.address):
        return ""
    ways = "; ".join(f"ip route add {network} via {host.address}" for network in external.networks)
    return f"private: this machine has no route to it ({ways})"


def leads_to(text: str, gateway: IPv4Address) -> bool:
    """Return whether a route, as ``ip -json route get`` tells it, has this next hop."""
    return any(route.get("gateway") == str(gateway) for route in json.loads(text or "[]"))


class Prover:
    """One run; proofs grow as they are made, so that an interrupted run keeps what it has."""

    def __init__(self, context: ProveContext, live: Live, step: Step) -> None:
        self._context = context
        self._live = live
        self._step = step
        self.proofs: list[Proof] = []
        self.left_behind: VerifyError | None = None

    def run(self) -> None:
        """Try every address. VerifyError when the test instance does not start."""
        holders = {one.address: one for one in self._live.holders if one.project != VERIFY_PROJECT}
        addresses = self._context.plan.external.floating_addresses
        free = any(address not in holders for address in addresses)
        with contextlib.ExitStack() as stack:
            instance = stack.enter_context(self._instance()) if free else {}
            for address in addresses:
                with self._step.step(str(address)) as part:
                    proof = self._prove(address, holders.get(address), instance, part)
                self.proofs.append(proof)
                if not proof.ok:
                    self._step.note(f"{address}: {proof.text}")

    @contextlib.contextmanager
    def _instance(self) -> Iterator[Mapping[str, Any]]:
        try:
            with self._step.step(TEST_INSTANCE) as part:
                made = call(
                    self._context.controller,
                    "address_start",
                    address_request(self._context.plan),
                    step=part,
                    timeout_s=INSTANCE_TIMEOUT_S,
                )
            yield made
        finally:
            with self._step.step("clean up") as part:
                self._clean_up(part)

    def _prove(
        self, address: IPv4Address, holder: Holder | None, instance: Mapping[str, Any], step: Step
    ) -> Proof:
        if holder is None:
            return self._prove_free(address, instance, step)
        if holder.kind == "reserved":
            why = not_tried(f"reserved by project {holder.project}, given to no instance")
            return self._proof(address, holder.text, why, why)
        must_answer = holder.must_answer
        tries = self._both(address, "", HELD_LIMIT_S, must_answer=must_answer, step=step)
        return self._proof(address, holder.text, *settle(*tries))

    def _prove_free(self, address: IPv4Address, instance: Mapping[str, Any], step: Step) -> Proof:
        request = {**instance, "address": str(address)}
        try:
            call(
                self._context.controller,
                "address_move",
                request,
                step=step,
                timeout_s=MOVE_TIMEOUT_S,
            )
        except SolostackError as error:
            detail = f"cannot be given to an instance: {error.message}"
            failed = Try(outcome=Outcome.FAILED, detail=detail)
            return self._proof(address, TEST_INSTANCE, failed, not_tried(detail))
        tries = self._both(
            address, str(instance["page"]), FREE_LIMIT_S, must_answer=True, step=step
        )
        return self._proof(address, TEST_INSTANCE, *tries)

    def _both(
        self, address: IPv4Address, page: str, limit_s: float, *, must_answer: bool, step: Step
    ) -> tuple[Try, Try]:
        context = self._context
        step.say("from inside")
        inside = _try(context.inside, address, page, limit_s, must_answer=must_answer)
        if context.outside is None:
            return inside, not_tried(context.no_outside)
        step.say("from outside")
        limit_s = limit_s if inside.outcome is Outcome.PROVEN else HOPELESS_LIMIT_S
        return inside, _try(context.outside, address, page, limit_s, must_answer=must_answer)

    def _proof(self, address: IPv4Address, by: str, inside: Try, outside: Try) -> Proof:
        when = self._context.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        return Proof(address=address, by=by, when=when, inside=inside, outside=outside)

    def _clean_up(self, step: Step) -> None:
        # What an earlier verify left of volumes must not keep addresses waiting for their service.
        request = {"project": VERIFY_PROJECT, "keep_volumes": True}
        try:
            call(
                self._context.controller,
                "verify_cleanup",
                request,
                step=step,
                timeout_s=CLEAN_UP_TIMEOUT_S,
            )
        except SolostackError as error:
            # Not raised here: it would hide what came before.
            self.left_behind = VerifyError(
                f"the test instance could not be removed: {error.message}",
                details=error.details,
                hint="run solostack verify: it removes what an earlier run left",
            )
            self._step.note(self.left_behind.message)


def _try(
    executor: Executor, address: IPv4Address, page: str, limit_s: float, *, must_answer: bool
) -> Try:
    try:
        reach = probe_reach(executor, address, page=page, limit_s=limit_s)
    except SolostackError as error:
        detail = "; ".join((error.message, *error.details[-1:]))
        return Try(outcome=Outcome.FAILED, detail=detail)
    return judge(reach, must_answer=must_answer)
