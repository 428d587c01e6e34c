"""`down`: the cloud, its nodes and every change to the hosts, undone from the ledger."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

from solostack.doors.clock import Clock, SystemClock
from solostack.doors.process import Executor
from solostack.doors.progress import Progress, Step
from solostack.engine.apply import Report
from solostack.errors import CommandError, HostError, SiteError, SolostackError, StateError
from solostack.flows import guarded, owner
from solostack.flows.applied import applied_plan
from solostack.flows.cloud_files import close_cloud
from solostack.flows.deployment import (
    Deployment,
    host_executors,
    make_deployment,
    site_hosts,
    site_state,
)
from solostack.flows.facts import known_facts
from solostack.flows.parallel import run_together
from solostack.flows.state import State
from solostack.host.snapshot_model import Comparison
from solostack.host.snapshot_take import compare_with_before
from solostack.openstack.volumes import TARGET_PREFIX
from solostack.plan.model import Plan
from solostack.site.loader import LoadedSite
from solostack.site.model import Role

# Instances that the API could not delete any more, then what services left in Open vSwitch and on
# disk, then sessions of volumes; nothing where the host never became a chassis of ours. Only Nova's
# own domains: names of other machines never begin so under libvirt's polkit rule.
INSTANCES = """set -eu
grep -qs '"chassis ' /var/lib/solostack/ledger/journal.jsonl || exit 0
mkdir -p /var/lib/solostack/before
touch /var/lib/solostack/before/chassis
command -v virsh >/dev/null || exit 0
for name in $(virsh -q -c qemu:///system list --all --name | grep '^instance-' || true); do
    virsh -q -c qemu:///system destroy "$name" >/dev/null 2>&1 || true
    virsh -q -c qemu:///system undefine "$name" >/dev/null 2>&1 || true
done
systemctl stop nova-compute neutron-ovn-metadata-agent ovn-controller 2>/dev/null || true
for space in $(ip netns list | cut -d' ' -f1 | grep '^ovnmeta-' || true); do
    ip netns delete "$space" || true
done
ovs-vsctl --if-exists del-br br-int 2>/dev/null || true
"""
# os-brick's records are automatic: the next boot would try each for two minutes, as no portal is
# left. A session whose target is dead may not end in time; its record stays, and is made manual.
# Packages go after this, and theirs must be empty by then. Targets of others are left alone.
INSTANCES += f"""
command -v iscsiadm >/dev/null || exit 0
ours=$({{ iscsiadm -m session || true; iscsiadm -m node || true; }} 2>/dev/null |
    awk -v prefix='{TARGET_PREFIX}' '
        {{ for (i = 1; i <= NF; i++) if (index($i, prefix) == 1) print $i }}' | sort -u)
for target in $ours; do
    timeout 20 iscsiadm -m node -T "$target" -u >/dev/null 2>&1 || true
    iscsiadm -m node -T "$target" -o delete >/dev/null 2>&1 ||
        iscsiadm -m node -T "$target" -o update -n node.startup -v manual >/dev/null 2>&1 || true
done
before=/var/lib/solostack/before/state.json
[ -e "$before" ] || exit 0
for path in /var/lib/iscsi/*; do
    grep -qF "\\"$path\\"" "$before" || rmdir "$path" 2>/dev/null || true
done
"""
# What services and libvirt make beside what they were told; kept where it was there before, and
# all of Nova's where the host never became a chassis of ours (noted above; the journal is away).
_REMAINS = """set -eu
for node in "$@"; do
    systemctl stop "solostack-seed-$node" 2>/dev/null || true
    ip netns delete "solostack-seed-$node" 2>/dev/null || true
    rm -rf --one-file-system "/var/lib/solostack/nodes/$node"
done
chassis=/var/lib/solostack/before/chassis
if [ -e "$chassis" ]; then
    rm -rf --one-file-system /var/lib/nova/instances/* /var/lib/nova/compute_id
    rm "$chassis"
fi
rmdir /var/lib/solostack/nodes 2>/dev/null || true
before=/var/lib/solostack/before/state.json
if [ -e "$before" ]; then
    for path in /var/lib/nova/.cache /var/lib/neutron/external /var/lib/neutron/metadata_proxy \\
        /var/lib/neutron/ovn-metadata-proxy; do
        grep -qF "\\"$path\\"" "$before" || rm -rf --one-file-system "$path"
    done
    path=/etc/libvirt/qemu/autostart
    grep -qF "\\"$path\\"" "$before" || rmdir "$path" 2>/dev/null || true
fi
"""
REMAINS_TIMEOUT_S = 600
# Units that packages of ours brought enabled. With the packages kept and our configuration gone
# they would start at the next boot with Debian's samples. The next `up` enables what it needs.
QUIET_UNITS = (
    "haproxy.service",
    "neutron-ovn-metadata-agent.service",
    "nova-compute.service",
    "openvswitch-switch.service",
    "ovn-host.service",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What `down` did on one host, and how the host differs from before `up`."""

    report: Report
    comparison: Comparison


class Down:
    """One run of `down`, under the deployment's lock; works on a half-made cloud, and twice.

    take_over: also a cloud of this site that was made with a state that is not here.
    """

    def __init__(
        self, deployment: Deployment, *, take_over: bool = False, clock: Clock | None = None
    ) -> None:
        self.deployment = deployment
        self._take_over = take_over
        self._clock = clock or SystemClock()

    def look(self, progress: Progress) -> tuple[str, ...]:
        """Return the hosts that something is to be taken away on; changes nothing.

        Raises:
            StateError: a host belongs to another deployment, or to another state of this one.
            ConnectError: a host cannot be reached.
        """
        deployment = self.deployment
        with progress.step("look at hosts") as step:
            holdings = owner.look(deployment.executors)
            owner.require_ours(
                deployment.plan.site, deployment.state, holdings, take_over=self._take_over
            )
            begun = owner.begun_hosts(holdings)
            for name in deployment.executors:
                if name not in begun:
                    step.note(f"{name}: nothing to do, no deployment is there")
        return tuple(name for name in deployment.executors if name in begun)

    def work(self, progress: Progress, *, remove_packages: bool) -> list[Undone]:
        """Take everything away; return what each host's ledger undid, and what is not as before.

        Cached trees stay. A difference is no failure: all that the ledger holds was taken back,
        and what others did to the host meanwhile differs, too.
        """
        steps = ("look at hosts", "close cloud", "undo host changes", "remove nodes")
        progress.announce((*steps, "compare with before"))
        # Again: since the operator was asked somebody else may have taken a host.
        hosts = self.look(progress)
        with progress.step("close cloud") as step:
            self._close_cloud(hosts, step)
        with progress.step("undo host changes") as step:
            for name in hosts:
                # Its timer would bring back what is undone here.
                guarded.settle(self.deployment.host(name), step)
            undo = functools.partial(
                _undo, self.deployment, step=step, remove_packages=remove_packages
            )
            reports = run_together([functools.partial(undo, name) for name in hosts])
        with progress.step("remove nodes"):
            for name in hosts:
                _remove_nodes(self.deployment, name)
        with progress.step("compare with before") as step:
            compare = functools.partial(self._compare, step=step)
            comparisons = run_together([functools.partial(compare, name) for name in hosts])
            for name in hosts:
                owner.release(self.deployment.host(name), name)
        self.deployment.state.forget()
        return [
            Undone(report=report, comparison=comparison)
            for report, comparison in zip(reports, comparisons, strict=True)
        ]

    def _compare(self, host: str, *, step: Step) -> Comparison:
        try:
            return compare_with_before(self.deployment.host(host), name=host, clock=self._clock)
        except HostError as error:
            # All is taken back already: a host must not stay ours because it cannot be looked at.
            step.note(error.message)
            return Comparison(problem=error.message)

    def _close_cloud(self, hosts: tuple[str, ...], step: Step) -> None:
        if self.deployment.plan.node(Role.CONTROLLER).host not in hosts:
            return
        try:
            close_cloud(self.deployment, step)
        except SolostackError as error:
            step.note(f"the cloud does not answer; going on without it ({error.message})")


@contextlib.contextmanager
def open_down(loaded: LoadedSite, *, take_over: bool = False) -> Iterator[Down]:
    """Lock a site's deployment and plan it as it was made."""
    state = site_state(loaded)
    with state.locked():
        yield Down(_as_made(loaded, state), take_over=take_over)


def _as_made(loaded: LoadedSite, state: State) -> Deployment:
    """Return the deployment with the plan it was made from, whatever the site says by now.

    Where none is kept (no node was made, or the state is lost) the site is planned anew.
    """
    try:
        plan = applied_plan(state)
    except StateError:  # of another version: what `down` needs of it is the same in a new one
        plan = None
    executors = host_executors(loaded)
    if plan is None:
        return make_deployment(loaded, state, known_facts(state, loaded, executors))
    _require_hosts(loaded, plan)
    return Deployment(loaded=loaded, state=state, executors=executors, plan=plan)


def _require_hosts(loaded: LoadedSite, plan: Plan) -> None:
    known = site_hosts(loaded)
    gone = [host for host in plan.hosts if host.name not in known]
    if gone:
        names = ", ".join(host.name for host in gone)
        raise SiteError(
            f"the cloud {plan.site} is on {names} too, which {loaded.path} does not have any more",
            details=[f"{host.name} had address {host.address}, nic {host.nic}" for host in gone],
            hint=f"put {names} back under hosts, then: solostack down -f {loaded.path}",
        )


def _undo(deployment: Deployment, host: str, *, step: Step, remove_packages: bool) -> Report:
    executor = deployment.host(host)
    _script(executor, INSTANCES)
    packages = "remove" if remove_packages else "keep"
    return guarded.undo_guarded(deployment, host, step, packages=packages, disable=QUIET_UNITS)


def _remove_nodes(deployment: Deployment, host: str) -> None:
    names = tuple(node.name for node in deployment.plan.nodes if node.host == host)
    _script(deployment.host(host), _REMAINS, *names)


def _script(executor: Executor, text: str, *arguments: str) -> None:
    try:
        executor.run(
            ("sh", "-s", "--", *arguments), stdin=text.encode(), timeout_s=REMAINS_TIMEOUT_S
        )
    except CommandError as error:
        raise SolostackError(
            f"{executor.name}: could not be cleaned",
            details=error.details,
            hint="run solostack down again; what is done already is skipped",
        ) from error
