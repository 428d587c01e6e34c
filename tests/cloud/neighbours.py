"""Control nodes as neighbours on the data network, seen from a host."""

from __future__ import annotations

import json
from pathlib import Path

from solostack.doors.process import Executor

WIRE = Path(__file__).with_name("wire.py")


def assert_each_is_one_neighbour(host: Executor, *nodes: str) -> None:
    """Fail where two MACs answer for a node, or the host or the node hears a packet twice.

    A switch of the userspace datapath leaves each frame to the kernel as well. A node that answers
    by its card's MAC, too, is out of its tunnels' reach as soon as the host takes that for it. Not
    even a duplicate would be seen where rp_filter is on for all devices; here it is off.
    """
    (route,) = json.loads(host.run(("ip", "-json", "route", "get", nodes[0])).text)
    request = {
        "device": route["dev"],
        "sender": route["prefsrc"],
        "targets": nodes,
        "tries": 3,
        "wait_s": 0.5,
    }
    asking = ("python3", "-I", "-", "ask", json.dumps(request))
    answers = json.loads(host.run(asking, stdin=WIRE.read_bytes()).text)
    assert {node: len(macs) for node, macs in answers.items()} == dict.fromkeys(nodes, 1), answers
    for node in nodes:
        # Duplicates are told between the two.
        pings = host.run(("ping", "-c4", "-i0.3", node)).text
        assert "4 received, 0% packet loss" in pings, pings


def assert_gets_out(host: Executor, node: str) -> None:
    """Fail where a node in a container does not reach who is beyond the provider's router.

    It leaves by the host's address, which takes connection tracking at the right place of all that
    a packet passes: the data bridge, the card, the switch, its bridge.
    """
    inside = ("ip", "netns", "exec", f"solostack-{node}")
    host.run((*inside, "ping", "-c3", "-i0.3", "-W2", "192.0.2.1"))
