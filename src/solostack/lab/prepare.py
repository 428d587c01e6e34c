"""Making what a simulated host boots from: its directories, its keys, the way in.

Everything here may be interrupted and done again; a host counts as prepared when its mark is there.
"""

from __future__ import annotations

from pathlib import Path

from solostack.doors.process import Executor
from solostack.lab.bootscript import render_boot_script
from solostack.lab.hostfiles import (
    Identity,
    lay_out,
    new_machine_id,
    render_host_files,
    render_known_hosts,
    render_site,
)
from solostack.lab.spec import LabHost, LabSpec
from solostack.lab.state import LabState, write_atomically

COPY_TIMEOUT_S = 300.0


def ensure_key(path: Path, comment: str, local: Executor) -> None:
    """Make an Ed25519 key pair at path and path.pub unless it is there."""
    if path.exists():
        return
    # A crash may have left either half of a pair; the private key gets its name last.
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    argv = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(temporary))
    local.run(argv)
    temporary.with_name(f"{temporary.name}.pub").replace(path.with_name(f"{path.name}.pub"))
    temporary.replace(path)


def ensure_prepared(spec: LabSpec, host: LabHost, lab: LabState, local: Executor) -> None:
    """Make a host's directories unless they are complete, and its boot script."""
    state = lab.host(host.name)
    if not state.prepared.exists():
        _prepare(spec, host, lab, local)
    write_atomically(state.boot_script, render_boot_script(spec, host, state))


def write_access(spec: LabSpec, lab: LabState) -> None:
    """Write the lab's known_hosts and site file."""
    keys = {str(host.address): read_public(lab.host(host.name).host_key) for host in spec.hosts}
    write_atomically(lab.known_hosts, render_known_hosts(keys))
    write_atomically(lab.site_file, render_site(spec, lab.key, lab.known_hosts))


def read_public(key: Path) -> str:
    """Read the public half of the pair whose private half is key."""
    return key.with_name(f"{key.name}.pub").read_text()


def _prepare(spec: LabSpec, host: LabHost, lab: LabState, local: Executor) -> None:
    """Make a host's directories; what an interrupted try left is thrown away."""
    state = lab.host(host.name)
    empty = (state.upper, state.work, state.root, state.nodes)
    half = [str(directory) for directory in (*empty, state.var)]
    local.run(("rm", "-rf", "--one-file-system", "--", *half), timeout_s=COPY_TIMEOUT_S)
    for directory in empty:
        directory.mkdir(parents=True)
    argv = ("cp", "--archive", str(host.tree / "var"), str(state.var))
    local.run(argv, timeout_s=COPY_TIMEOUT_S)
    ensure_key(state.host_key, host.name, local)
    identity = Identity(
        machine_id=new_machine_id(),
        host_key=state.host_key.read_text(),
        host_public_key=read_public(state.host_key),
        authorized_key=read_public(lab.key),
    )
    lay_out(render_host_files(spec, host, identity), host.tree, state.upper)
    state.prepared.touch()
