"""The files that make a copy of the host tree one particular server: identity, access, network.

render_ functions are pure; lay_out writes into the directory that becomes the host's root.
"""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path

from solostack.lab.spec import (
    BLOCK,
    GATEWAY,
    NIC,
    PRIVATE_BLOCK,
    PUBLISHED_PORT,
    SCATTERED,
    WIRE,
    WIRE_BLOCK,
    WIRE_ROUTER,
    LabHost,
    LabSpec,
    Provider,
)

_UNITS = "/usr/lib/systemd/system"
# What `systemctl enable systemd-networkd` links, from the [Install] sections of systemd 257.
_NETWORKD_LINKS = (
    ("multi-user.target.wants", "systemd-networkd.service"),
    ("sockets.target.wants", "systemd-networkd.socket"),
    ("network-online.target.wants", "systemd-networkd-wait-online.service"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostFile:
    """A file of the host's root; with target it is a symbolic link and has no content."""

    path: str
    content: str = ""
    mode: int = 0o644
    target: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells a host from every other, and who may enter it."""

    machine_id: str
    host_key: str
    host_public_key: str
    authorized_key: str


def new_machine_id() -> str:
    """Return a fresh machine-id(5)."""
    return uuid.uuid4().hex


def render_host_files(spec: LabSpec, host: LabHost, identity: Identity) -> tuple[HostFile, ...]:
    """Build what an installer would have written on this host."""
    ssh = "/etc/ssh/ssh_host_ed25519_key"
    return (
        HostFile(path="/etc/hostname", content=f"{host.name}\n"),
        HostFile(path="/etc/hosts", content=_render_hosts(host)),
        HostFile(path="/etc/machine-id", content=f"{identity.machine_id}\n", mode=0o444),
        HostFile(path=ssh, content=identity.host_key, mode=0o600),
        HostFile(path=f"{ssh}.pub", content=identity.host_public_key),
        HostFile(path="/root/.ssh/authorized_keys", content=identity.authorized_key, mode=0o600),
        HostFile(
            path=f"/etc/systemd/network/10-{NIC}.network",
            content=render_network(spec.provider, host),
        ),
        *(
            HostFile(path=f"/etc/systemd/system/{target}/{unit}", target=f"{_UNITS}/{unit}")
            for target, unit in _NETWORKD_LINKS
        ),
    )


def render_network(provider: Provider, host: LabHost) -> str:
    """Build the systemd.network(5) file a server of that provider comes with."""
    match = f"[Match]\nName={NIC}\n\n[Network]\n"
    if provider is Provider.SCATTERED:
        route = f"[Route]\nGateway={GATEWAY}\nGatewayOnLink=yes\n"
        return f"{match}Address={host.address}/32\n\n{route}"
    return f"{match}Address={host.address}/{WIRE.prefixlen}\nGateway={GATEWAY}\n"


def render_known_hosts(keys: dict[str, str]) -> str:
    """Build a known_hosts file from address -> public key line (``ssh-ed25519 AAAA...``)."""
    lines = (f"{address} {' '.join(key.split()[:2])}\n" for address, key in sorted(keys.items()))
    return "".join(lines)


def render_site(spec: LabSpec, key: Path, known_hosts: Path) -> str:
    """Build a site file for the lab: its hosts, how to enter them, its addresses."""
    lines = [f"# Lab {spec.name}, provider kind {spec.provider}.", f"name: {spec.name}", "hosts:"]
    for host in spec.hosts:
        lines += [
            f"  - name: {host.name}",
            f"    address: {host.address}",
            f"    nic: {NIC}",
            f"    ssh: {{key: {key}, known_hosts: {known_hosts}}}",
        ]
    return "\n".join([*lines, *_render_external(spec.provider)]) + "\n"


def lay_out(files: tuple[HostFile, ...], tree: Path, upper: Path) -> None:
    """Write files into upper, an overlay's upper directory over tree.

    A directory made in upper hides the owner and mode of the one in tree, so they are copied.
    """
    for file in files:
        target = upper / file.path.lstrip("/")
        _make_directories(target.parent, tree, upper)
        target.unlink(missing_ok=True)
        if file.target:
            target.symlink_to(file.target)
        else:
            target.write_text(file.content)
            target.chmod(file.mode)


def _make_directories(directory: Path, tree: Path, upper: Path) -> None:
    if directory.is_dir():
        return
    _make_directories(directory.parent, tree, upper)
    directory.mkdir()
    original = tree / directory.relative_to(upper)
    directory.chmod(original.stat().st_mode & 0o7777 if original.is_dir() else 0o755)


def _render_hosts(host: LabHost) -> str:
    return f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost ip6-localhost\n"


def _render_external(provider: Provider) -> tuple[str, ...]:
    match provider:
        case Provider.ROUTED:
            return ("external:", f"  block: {BLOCK}")
        case Provider.ON_LINK | Provider.MAC_FILTER:
            return (
                "external:",
                "  method: proxy",
                f"  block: {WIRE_BLOCK}",
                f"  not_ours: [{WIRE_ROUTER}]",
            )
        case Provider.SCATTERED:
            single = ", ".join(str(address) for address in SCATTERED)
            return ("external:", "  method: proxy", f"  addresses: [{single}]")
        case Provider.SINGLE:
            leads = f"port: {PUBLISHED_PORT}, to: {PRIVATE_BLOCK[0]}, to_port: 80"
            return (
                "external:",
                "  method: private",
                f"  block: {PRIVATE_BLOCK}",
                "  published:",
                f"    - {{{leads}}}",
            )
