"""The stages of `up`, each idempotent: what is done already is found done and left alone."""

from __future__ import annotations

import functools

from solostack.cloud.opening import Opened
from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.engine.apply import Report, apply_bundle
from solostack.errors import CommandError, ConfigureError
from solostack.flows import cloud_files
from solostack.flows.bake import build_missing
from solostack.flows.deployment import HOST_CACHE, Deployment
from solostack.flows.guarded import apply_guarded
from solostack.flows.parallel import run_together
from solostack.images.disks import make_disk
from solostack.images.trees import tree_path
from solostack.machines.domain import node_directory
from solostack.machines.operations import machine_bundle
from solostack.machines.readiness import wait_for_ports
from solostack.openstack import roles
from solostack.plan.model import HostPlan, NodePlan
from solostack.seed.seeding import Seed, prepare_seed, running_seed
from solostack.site.model import Role, Runtime

# A VM under emulation starts Python services about ten times slower than a CPU would.
NODE_TIMEOUT_S = 900.0
SEED_MARK = "seeded"
MAP_TIMEOUT_S = 300.0
SYNC_TIMEOUT_S = 600.0
# Asked of the database, because starting nova-manage takes seconds; root needs no password there.
_MAP_HOSTS = """set -eu
count() { mariadb -BNe "select count(distinct host) from $1 where host in ($hosts) $2"; }
wanted=$1 hosts=$2
for try in $(seq 120); do
    [ "$(count nova_api.host_mappings '')" != "$wanted" ] || exit 0
    reported=$(count nova.services "and \\`binary\\` = 'nova-compute' and deleted = 0")
    if [ "$reported" = "$wanted" ]; then
        nova-manage cell_v2 discover_hosts --by-service
    fi
    sleep 1
done
mariadb -BNe "select host, updated_at from nova.services" >&2
exit 1
"""


def bake(deployment: Deployment, step: Step) -> None:
    """Build the trees that are missing on the hosts where nodes will live."""
    for host in deployment.plan.hosts:
        nodes = tuple(node for node in deployment.plan.nodes if node.host == host.name)
        recipes = tuple(deployment.recipe(node) for node in nodes)
        build_missing(deployment.host(host.name), HOST_CACHE, recipes, step)


def apply_base(deployment: Deployment, host: HostPlan, step: Step) -> Report:
    """Make a host ready for nodes: packages, networks, firewall, isolation.

    What touches the host's way in is made under the guard (flows.guarded).
    """
    return apply_guarded(deployment, host, deployment.base_bundle(host), step)


def apply_compute(deployment: Deployment, host: HostPlan, step: Step) -> Report:
    """Make a host a compute host; the controller must answer."""
    return apply_bundle(
        deployment.host(host.name),
        deployment.compute_bundle(host),
        deployment.secrets(),
        step=step,
        ledger=True,
    )


def is_seeded(deployment: Deployment, node: NodePlan) -> bool:
    """Return whether a node's seed was finished on its host."""
    mark = f"{node_directory(node.name)}/{SEED_MARK}"
    return deployment.host(node.host).run(("test", "-e", mark), check=False).status == 0


def seed(deployment: Deployment, node: NodePlan, step: Step) -> None:
    """Seed a node unless it was: configured tree, then a disk where it will be a VM."""
    executor = deployment.host(node.host)
    one = deployment.seed(node, tree_path(HOST_CACHE, deployment.recipe(node)))
    if is_seeded(deployment, node):
        if node.runtime is Runtime.VM:
            _remove_tree(executor, one)
        return
    with step.step("copy tree"):
        prepare_seed(executor, one, deployment.identity(node))
    with step.step("configure") as part:
        part.say("booting as a container")
        with running_seed(executor, one) as inside:
            apply_bundle(
                inside,
                deployment.node_bundle(node, seeding=True),
                deployment.secrets(),
                step=part,
            )
            part.say("shutting down cleanly")
    if node.runtime is Runtime.VM:
        with step.step("make disk"):
            make_disk(executor, root=one.root, directory=one.directory, disk_gib=node.disk_gib)
    # On disk before the mark: after a power cut the mark must not outlive what it stands for.
    executor.run(("sync", "-f", one.directory), timeout_s=SYNC_TIMEOUT_S)
    executor.run(("touch", f"{one.directory}/{SEED_MARK}"))
    if node.runtime is Runtime.VM:
        _remove_tree(executor, one)


def _remove_tree(executor: Executor, one: Seed) -> None:
    executor.run(("rm", "-rf", "--one-file-system", one.root), timeout_s=SYNC_TIMEOUT_S)


def start(deployment: Deployment, node: NodePlan, step: Step) -> Report:
    """Make a seeded node run, now and after every boot of its host."""
    return apply_bundle(
        deployment.host(node.host),
        machine_bundle(deployment.plan, node),
        deployment.secrets(),
        step=step,
        ledger=True,
    )


def wait(deployment: Deployment, node: NodePlan, ports: tuple[int, ...], step: Step) -> None:
    """Wait until a node accepts connections at TCP ports."""
    wait_for_ports(
        deployment.host(node.host),
        node=node.name,
        address=str(node.data_address),
        ports=ports,
        timeout_s=NODE_TIMEOUT_S,
        step=step,
    )


def wait_started(deployment: Deployment, node: NodePlan) -> None:
    """Wait until all that a node starts at its boot runs or has failed, so that nothing is both."""
    command = ("systemctl", "is-system-running", "--wait")
    deployment.node(node).run(command, check=False, timeout_s=NODE_TIMEOUT_S)


def configure(deployment: Deployment, node: NodePlan, step: Step) -> Report:
    """Bring a running node to its desired state."""
    return apply_bundle(
        deployment.node(node), deployment.node_bundle(node), deployment.secrets(), step=step
    )


def bring_up_node(deployment: Deployment, node: NodePlan, step: Step) -> None:
    """Seed, start and wait for one node."""
    with step.step(node.name) as part:
        was_seeded = is_seeded(deployment, node)
        seed(deployment, node, part)
        with part.step("start") as inner:
            start(deployment, node, inner)
        ports = roles.node_ports(deployment.plan, node.role)
        with part.step("answer") as inner:
            # What a node that is there already does not serve yet is made only below.
            wait(deployment, node, (roles.SSH_PORT,) if was_seeded else ports, inner)
            if was_seeded:
                wait_started(deployment, node)
        if was_seeded:
            with part.step("configure") as inner:
                configure(deployment, node, inner)
                wait(deployment, node, ports, inner)


def bring_up_nodes(deployment: Deployment, step: Step) -> None:
    """Bring up all nodes side by side."""
    run_together(
        [functools.partial(bring_up_node, deployment, node, step) for node in deployment.plan.nodes]
    )


def map_hosts(deployment: Deployment, step: Step) -> None:
    """Wait until every nova-compute has reported itself, and map it to Nova's cell.

    nova-scheduler would do that too (discover_hosts_in_cells_interval), but only after up to half
    a minute in which instances fail with "not mapped to any cell".
    """
    step.say("mapping compute hosts to the cell")
    names = [host.name for host in deployment.plan.hosts]
    controller = deployment.node(deployment.plan.node(Role.CONTROLLER))
    try:
        controller.run(
            ("sh", "-s", "--", str(len(names)), ", ".join(f"'{name}'" for name in names)),
            stdin=_MAP_HOSTS.encode(),
            timeout_s=MAP_TIMEOUT_S,
        )
    except CommandError as error:
        raise ConfigureError(
            f"Nova does not know all of its compute hosts: {', '.join(names)}",
            details=error.details,
            hint="on each host: journalctl -u nova-compute -e; then run the same command again",
        ) from error


def open_cloud(deployment: Deployment, step: Step) -> tuple[Opened, ...]:
    """Create the cloud's networks, flavors, images and first project; write the credentials."""
    result = cloud_files.open_cloud(deployment, step)
    cloud_files.write_credentials(deployment)
    return result
