"""`up`: from a site to a verified cloud. Survey, show, then only what is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping

from solostack.doors.progress import Progress, Step
from solostack.engine.apply import Report, apply_bundle
from solostack.errors import CommandError, ConnectError, HostError, SolostackError
from solostack.flows import check, owner, stages
from solostack.flows.applied import (
    applied_plan,
    changes_since_applied,
    keep_applied_plan,
    only_growth,
    require_possible,
)
from solostack.flows.ceph_files import read_ceph_files
from solostack.flows.certificates import server_certificates
from solostack.flows.deployment import (
    HOST_CACHE,
    Deployment,
    host_executors,
    make_deployment,
    site_state,
)
from solostack.flows.facts import known_facts, prove_facts
from solostack.flows.parallel import run_together
from solostack.flows.placed_certificates import keep_placed
from solostack.flows.verify import VerifyReport, deployment_context, require_parts_of, verify
from solostack.flows.verify_parts import Part
from solostack.host.check_model import Subject
from solostack.host.snapshot_take import keep_before
from solostack.images.trees import missing_trees
from solostack.machines.operations import machine_bundle
from solostack.plan.model import HostPlan, NodePlan
from solostack.plan.serial import digest
from solostack.site.loader import LoadedSite

JOURNAL = "journal.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """One thing that `up` would do: where, and what."""

    where: str
    what: str


class Up:
    """One run of `up`, under the deployment's lock: survey, then (if the operator agrees) work.

    May be interrupted at any moment and made again.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.pending: tuple[Pending, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts that would be changed."""
        return tuple(host.name for host in self.deployment.plan.hosts)

    def require_ours(self) -> None:
        """StateError when a host belongs to another deployment, or to another state of this one."""
        _look(self.deployment)

    def keep_growth(self) -> None:
        """Remember a plan that only has larger disks, which are there now, as the one applied.

        What was finished before is finished still; what was not is for the next `up`.
        """
        state, plan = self.deployment.state, self.deployment.plan
        journal = state.read_json(JOURNAL)
        applied = applied_plan(state)
        done = journal if isinstance(journal, Mapping) else {}
        if applied is None or not done.get("finished") or done.get("plan") != digest(applied):
            return
        if only_growth(changes_since_applied(state, plan) or ()):
            state.write_json(JOURNAL, {"finished": True, "plan": digest(plan)})
            keep_applied_plan(state, plan)

    def survey(self, progress: Progress) -> tuple[Pending, ...]:
        """Find out what is not as planned; changes nothing anywhere.

        A certificate whose time has come is made already, in the state; until it is in place, the
        older one counts as the one that clients get.

        StateError when a host belongs to another deployment, or to another state of this one.
        """
        with progress.step("survey") as step:
            _look(self.deployment)
            certificates = _certificates(self.deployment)
            self.pending = survey(self.deployment, step)
        if not self.pending:
            keep_placed(self.deployment.state, certificates)
        return self.pending

    def require_parts(self, only: Collection[Part]) -> None:
        """Raise UsageError for parts to verify that the site has nothing of."""
        require_parts_of(self.deployment, only)

    def require_fit(self, progress: Progress) -> None:
        """Look at the hosts as `check` does. HostError for one that is not fit for the site.

        What only the making of something needs counts only where that is not made yet.
        """
        checks = check.check_hosts(self.deployment.loaded, progress)
        begun = _look(self.deployment)
        check.require_fit(
            [
                without(one, _settled(self.deployment, one.host, begun=one.host in begun))
                for one in checks
            ]
        )

    def work(self, progress: Progress, *, only: Collection[Part] = ()) -> VerifyReport:
        """Do what is missing and verify the cloud, or only parts of it.

        Parts are enough only where all was proven before; else the next `up` has that to do yet.
        """
        state = self.deployment.state
        journal = state.read_json(JOURNAL)
        enough = not only or (isinstance(journal, Mapping) and bool(journal.get("finished")))
        state.write_json(JOURNAL, {"finished": False})
        self.deployment.write_known_hosts()
        certificates = _certificates(self.deployment)
        report = _work(self.deployment, progress, only)
        keep_placed(state, certificates)
        if report.ok and enough:
            state.write_json(JOURNAL, {"finished": True, "plan": digest(self.deployment.plan)})
            keep_applied_plan(state, self.deployment.plan)
        return report


@contextlib.contextmanager
def open_up(loaded: LoadedSite) -> Iterator[Up]:
    """Lock a site's deployment, read its hosts and plan it.

    SiteError when the site differs from the cloud that is there in what cannot change.
    """
    state = site_state(loaded)
    read_ceph_files(loaded)
    with state.locked():
        facts = known_facts(state, loaded, host_executors(loaded))
        deployment = make_deployment(loaded, state, facts)
        require_possible(state, deployment.plan)
        yield Up(deployment)


def without(one: check.HostCheck, settled: frozenset[Subject]) -> check.HostCheck:
    """Return a host's check without the findings about these subjects."""
    left = tuple(finding for finding in one.findings if finding.subject not in settled)
    return dataclasses.replace(one, findings=left)


def _certificates(deployment: Deployment) -> Mapping[str, str]:
    """Make what must be made; return what will be in place, or is, once nothing is pending.

    To be asked before: what became due in the meantime is for the next `up`, which is told so.
    """
    deployment.secrets()
    return server_certificates(deployment.loaded, deployment.state, deployment.plan)


def _look(deployment: Deployment) -> frozenset[str]:
    holdings = owner.look(deployment.executors)
    owner.require_ours(deployment.plan.site, deployment.state, holdings)
    return owner.begun_hosts(holdings)


def _settled(deployment: Deployment, host: str, *, begun: bool) -> frozenset[Subject]:
    """Return what does not matter any more on a host that an earlier `up` worked on.

    An installation that was stopped is finished by the next one. Instances take the room that
    nodes and trees have already.
    """
    if not begun:
        return frozenset()
    settled = {Subject.DPKG}
    nodes = tuple(node for node in deployment.plan.nodes if node.host == host)
    recipes = tuple(deployment.recipe(node) for node in nodes)
    if not missing_trees(deployment.host(host), HOST_CACHE, recipes):
        settled.add(Subject.CACHE)
    if all(stages.is_seeded(deployment, node) for node in nodes):
        settled.add(Subject.DISK)
    return frozenset(settled)


def _work(deployment: Deployment, progress: Progress, only: Collection[Part]) -> VerifyReport:
    works: tuple[tuple[str, Callable[[Deployment, Step], object]], ...] = (
        ("prepare hosts", prepare_hosts),
        ("bake trees", stages.bake),
        ("nodes", bring_up_nodes),
        ("compute hosts", compute_hosts),
        ("open cloud", stages.open_cloud),
    )
    progress.announce((*(title for title, _ in works), "verify"))
    for title, work in works:
        with progress.step(title) as step:
            work(deployment, step)
    with progress.step("verify") as step:
        return verify(deployment_context(deployment, only=only), step)


def prepare_hosts(deployment: Deployment, step: Step) -> None:
    """Make every host ours and ready for nodes, side by side.

    Only now can a guest be booted on a host that had no QEMU. HostError when KVM, which the plan
    counted on, does not run one: the facts are corrected, and the next `up` plans anew.
    """
    plan = deployment.plan
    for host in plan.hosts:
        owner.claim(deployment.host(host.name), host.name, plan.site, deployment.state)
    run_together([functools.partial(_keep_before, deployment, host, step) for host in plan.hosts])
    run_together(
        [functools.partial(stages.apply_base, deployment, host, step) for host in plan.hosts]
    )
    wrong = prove_facts(deployment.state, deployment.executors)
    if wrong:
        raise HostError(
            f"KVM runs no guest on {', '.join(wrong)} after all",
            details=("/dev/kvm is there, but a guest booted under it does not run",),
            hint="run the same command again: nodes with runtime auto become containers",
        )


def _keep_before(deployment: Deployment, host: HostPlan, step: Step) -> None:
    if not keep_before(deployment.host(host.name), name=host.name):
        step.note(f"{host.name}: changed before its state was kept; down will not compare")


def bring_up_nodes(deployment: Deployment, step: Step) -> None:
    """Bring up all nodes; from here on the plan cannot change in what they are made of."""
    keep_applied_plan(deployment.state, deployment.plan)
    stages.bring_up_nodes(deployment, step)


def compute_hosts(deployment: Deployment, step: Step) -> None:
    """Make every host a compute host, side by side, and known to Nova's scheduler."""
    run_together(
        [
            functools.partial(stages.apply_compute, deployment, host, step)
            for host in deployment.plan.hosts
        ]
    )
    stages.map_hosts(deployment, step)


def survey(deployment: Deployment, step: Step) -> tuple[Pending, ...]:
    """Return everything that is not yet as planned, by asking; changes nothing.

    Asks all machines at once. A node that does not answer or was not seeded is one entry.
    """
    plan = deployment.plan
    works: list[Callable[[], tuple[Pending, ...]]] = []
    works += [functools.partial(_survey_host, deployment, host, step) for host in plan.hosts]
    works += [functools.partial(_survey_node, deployment, node, step) for node in plan.nodes]
    found = [entry for entries in run_together(works) for entry in entries]
    journal = deployment.state.read_json(JOURNAL)
    done = journal if isinstance(journal, Mapping) else {}
    if not done.get("finished") or done.get("plan") != digest(plan):
        found.append(Pending(where="cloud", what="open and verify"))
    return tuple(found)


def _survey_host(deployment: Deployment, host: HostPlan, step: Step) -> tuple[Pending, ...]:
    executor = deployment.host(host.name)
    nodes = tuple(node for node in deployment.plan.nodes if node.host == host.name)
    recipes = tuple(deployment.recipe(node) for node in nodes)
    absent = [
        Pending(where=host.name, what=f"bake tree {recipe.name}")
        for recipe in missing_trees(executor, HOST_CACHE, recipes)
    ]
    secrets = deployment.secrets()
    bundles = [deployment.base_bundle(host)]
    bundles += [machine_bundle(deployment.plan, node) for node in nodes]
    bundles.append(deployment.compute_bundle(host))
    reports = [
        apply_bundle(executor, bundle, secrets, step=step, dry_run=True, ledger=True)
        for bundle in bundles
    ]
    return (*absent, *(_pending(host.name, report) for report in reports if report.changed))


def _survey_node(deployment: Deployment, node: NodePlan, step: Step) -> tuple[Pending, ...]:
    if not stages.is_seeded(deployment, node):
        return (Pending(where=node.name, what=f"seed and start as {node.runtime}"),)
    try:
        report = apply_bundle(
            deployment.node(node),
            deployment.node_bundle(node),
            deployment.secrets(),
            step=step,
            dry_run=True,
        )
    except (CommandError, ConnectError):
        return (Pending(where=node.name, what="does not answer: start"),)
    except SolostackError as error:
        return (Pending(where=node.name, what=f"configure ({error.message})"),)
    return (_pending(node.name, report),) if report.changed else ()


def _pending(where: str, report: Report) -> Pending:
    first = ", ".join(report.changed[:3])
    more = f" and {len(report.changed) - 3} more" if len(report.changed) > 3 else ""
    return Pending(where=where, what=f"{len(report.changed)} changes: {first}{more}")
