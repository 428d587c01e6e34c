"""Seeds and starts the nodes of a site, without compute and cloud; prints what runs in them.

Run where the site's hosts can be reached: python3 bring_up_nodes.py SITE
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

from solostack.doors.progress import Progress, Step
from solostack.flows import stages
from solostack.flows.deployment import Deployment
from solostack.flows.parallel import run_together
from solostack.flows.up import open_up, prepare_hosts
from solostack.machines.readiness import wait_for_ports
from solostack.plan.model import NodePlan
from solostack.site.loader import load_site
from solostack.site.model import Role, Runtime

# What must answer: all of a controller's Python services would take very long under emulation.
PORTS = {Role.CONTROLLER: (22, 3306), Role.NETWORK: (22,)}
TIMEOUT_S = 900
LOOK = r"""
hostname
systemd-detect-virt
systemctl list-units --type=service --state=active --plain --no-legend | cut -d' ' -f1 | xargs
ovs-vsctl list-br | xargs
"""
# SSH and MariaDB both speak first.
GREET = """
import json, socket, sys
said = {}
for port in (22, 3306):
    with socket.create_connection((sys.argv[1], port), 300) as connection:
        connection.settimeout(300)
        said[port] = connection.recv(200).decode("ascii", "replace")
print(json.dumps(said))
"""


def bring_up(deployment: Deployment, node: NodePlan, step: Step) -> dict[str, object]:
    """Seed and start one node, wait for it, and look inside."""
    stages.seed(deployment, node, step)
    stages.start(deployment, node, step)
    wait_for_ports(
        deployment.host(node.host),
        node=node.name,
        address=str(node.data_address),
        ports=PORTS[node.role],
        timeout_s=TIMEOUT_S,
        step=step,
    )
    look = greet if node.runtime is Runtime.VM else look_inside
    return {"name": node.name, **look(deployment, node)}


def greet(deployment: Deployment, node: NodePlan) -> dict[str, object]:
    """Ask what a VM says by itself: while it is emulated and starts up, a login takes minutes."""
    host = deployment.host(node.host)
    address = str(node.data_address)
    greetings = host.run(("python3", "-I", "-", address), stdin=GREET.encode(), timeout_s=TIMEOUT_S)
    state = host.run(("virsh", "-c", "qemu:///system", "domstate", node.name)).text.strip()
    return {"greetings": json.loads(greetings.text), "state": state}


def look_inside(deployment: Deployment, node: NodePlan) -> dict[str, object]:
    """Log in and look at what runs."""
    done = deployment.node(node).run(("sh",), stdin=LOOK.encode(), timeout_s=300)
    hostname, virtualization, active, bridges = done.text.split("\n")[:4]
    return {
        "hostname": hostname,
        "virtualization": virtualization,
        "active": active.split(),
        "bridges": bridges.split(),
    }


def main() -> None:
    """Do it for the site named on the command line."""
    with open_up(load_site(Path(sys.argv[1]))) as run, Progress().step("nodes") as step:
        deployment = run.deployment
        deployment.write_known_hosts()
        prepare_hosts(deployment, step)
        seen = run_together(
            [functools.partial(bring_up, deployment, node, step) for node in deployment.plan.nodes]
        )
    sys.stdout.write(json.dumps({node["name"]: node for node in seen}) + "\n")


if __name__ == "__main__":
    main()
