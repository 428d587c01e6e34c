"""Runs a shell script on a node of a site, as solostack itself gets there; prints what it prints.

Run where the site's hosts can be reached: python3 run_on_node.py SITE NODE SCRIPT
"""

from __future__ import annotations

import sys
from pathlib import Path

from solostack.flows.deployment import host_executors, make_deployment, site_state
from solostack.flows.facts import known_facts
from solostack.site.loader import load_site

TIMEOUT_S = 900


def main() -> int:
    """Do it; the exit status is the script's."""
    site, name, script = sys.argv[1:]
    loaded = load_site(Path(site))
    state = site_state(loaded)
    deployment = make_deployment(loaded, state, known_facts(state, loaded, host_executors(loaded)))
    node = next(node for node in deployment.plan.nodes if node.name == name)
    done = deployment.node(node).run(
        ("sh",), stdin=script.encode(), timeout_s=TIMEOUT_S, check=False
    )
    sys.stdout.write(done.text)
    sys.stderr.write(done.stderr.decode("utf-8", "replace"))
    return done.status


if __name__ == "__main__":
    sys.exit(main())
