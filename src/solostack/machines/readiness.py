"""Waiting for a node: its TCP ports, asked from its host, with a deadline."""

from __future__ import annotations

import json
from collections.abc import Sequence

from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.errors import CommandError, MachineError

# Runs on the host, where the data network is; a port counts when it answers twice in a row.
_SCRIPT = """
import json, socket, sys, time
address, ports, limit = json.loads(sys.argv[1])
end = time.monotonic() + limit
good = {port: 0 for port in ports}
left = ports
while True:
    for port in left:
        try:
            socket.create_connection((address, port), 2).close()
            good[port] += 1
        except OSError:
            good[port] = 0
    left = [port for port in ports if good[port] < 2]
    if not left:
        break
    print("waiting for port " + ", ".join(map(str, left)), flush=True)
    if time.monotonic() > end:
        sys.exit(1)
    time.sleep(0.5)
"""


def wait_for_ports(
    host: Executor,
    *,
    node: str,
    address: str,
    ports: Sequence[int],
    timeout_s: float,
    step: Step,
) -> None:
    """Wait until every port of a node accepts connections; MachineError after timeout_s."""
    last = ""

    def follow(line: str) -> None:
        nonlocal last
        last = line
        step.say(f"{node}: {line}")

    request = json.dumps([address, list(ports), timeout_s])
    command = ("python3", "-I", "-", request)
    try:
        host.run(command, stdin=_SCRIPT.encode(), timeout_s=timeout_s + 30, on_line=follow)
    except CommandError as error:
        raise MachineError(
            f"node {node} does not answer at {address} within {timeout_s:.0f} s",
            details=(last, *error.details),
            hint=f"see its console on {host.name}: solostack status, or journalctl -u "
            f"solostack-node@{node} (container), virsh console {node} (VM)",
        ) from error
