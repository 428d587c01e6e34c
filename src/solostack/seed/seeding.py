"""Seeding: a role's tree becomes one node, configured at native speed before it ever boots.

The copy runs as a systemd-nspawn container with the node's final name and address in a network
namespace of its own, gets its files, databases and catalogue there from the same engine that later
changes the running node, and is shut down cleanly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.resources
import shlex
from collections.abc import Iterator

from solostack.doors.process import Executor, PrefixExecutor
from solostack.errors import CommandError, MachineError
from solostack.seed.identity import Identity, identity_archive

START_TIMEOUT_S = 180
COPY_TIMEOUT_S = 1800


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """One node's seed on a host. directory is the node's own folder there; root lies below it.

    address is with its prefix, for example ``172.16.0.11/24``.
    """

    node: str
    directory: str
    tree: str
    nic: str
    mac: str
    address: str

    @property
    def root(self) -> str:
        """The node's root directory."""
        return f"{self.directory}/root"


def prepare_seed(host: Executor, seed: Seed, identity: Identity) -> None:
    """Copy the tree and give it its identity. Does nothing that is already done."""
    _call(host, seed, "prepare", seed.tree, timeout_s=COPY_TIMEOUT_S)
    host.run(
        ("tar", "-x", "-p", "--overwrite", "-C", seed.root, "-f", "-"),
        stdin=identity_archive(identity),
    )


@contextlib.contextmanager
def running_seed(host: Executor, seed: Seed) -> Iterator[Executor]:
    """Boot the seed, give an executor inside it, and shut it down cleanly at the end.

    A seed that a killed run left running is taken over. Raises MachineError when it does not boot.
    """
    _call(host, seed, "start", seed.nic, seed.mac, seed.address, timeout_s=START_TIMEOUT_S)
    try:
        yield inside_seed(host, seed)
    finally:
        stop_seed(host, seed)


def inside_seed(host: Executor, seed: Seed) -> Executor:
    """Return an executor inside a running seed."""
    enter = (
        "sh", "-c",
        'main=$(systemctl show -P MainPID "$0") && '
        'exec nsenter -t "$(cut -d" " -f1 /proc/$main/task/$main/children)" -m -u -i -n -p -- '
        'env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root "$@"',
        f"solostack-seed-{seed.node}",
    )  # fmt: skip
    return PrefixExecutor(host, enter, f"seed of {seed.node}")


def stop_seed(host: Executor, seed: Seed) -> None:
    """Shut the seed down if it runs, and remove its namespace."""
    _call(host, seed, "stop", timeout_s=START_TIMEOUT_S)


def _call(host: Executor, seed: Seed, verb: str, *arguments: str, timeout_s: float) -> None:
    script = importlib.resources.files("solostack.seed").joinpath("seed.sh").read_text()
    command = ("sh", "-s", "--", verb, seed.node, seed.directory, *arguments)
    try:
        host.run(command, stdin=script.encode(), timeout_s=timeout_s)
    except CommandError as error:
        raise MachineError(
            f"seed of {seed.node} on {host.name}: {verb} failed",
            details=error.details,
            hint=f"look at it there: journalctl -u {shlex.quote('solostack-seed-' + seed.node)}",
        ) from error
