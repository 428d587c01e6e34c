"""Connecting over SSH: a real sshd of this test's own, with its own keys and configuration."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.inventory import ConnectFailure, HypervisorConnectError, connect
from solostack.inventory.nodes import list_nodes, node_executor

pytestmark = pytest.mark.host

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host-key
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
"""


@dataclasses.dataclass
class Server:
    """An sshd and a client's configuration for it."""

    folder: Path
    port: int

    @property
    def uri(self) -> str:
        return f"qemu+ssh://root@127.0.0.1:{self.port}/system?command={self.folder}/ssh"

    def know(self, key: Path) -> None:
        """Make the client expect the host key whose public half is in key."""
        kind, value, *_ = key.read_text().split()
        line = f"[127.0.0.1]:{self.port} {kind} {value}\n"
        (self.folder / "known").write_text(line)

    def admit(self) -> None:
        """Let the client's key in."""
        shutil.copy(self.folder / "user-key.pub", self.folder / "authorized")


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if SSHD is None:
        pytest.skip("sshd is not installed here")
    if os.geteuid() != 0:
        pytest.skip("sshd of this test runs as root")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("host-key", "other-key", "user-key"):
        make_key(tmp_path / name)
    (tmp_path / "authorized").touch()
    (tmp_path / "known").touch()
    (tmp_path / "sshd_config").write_text(CONFIG.format(port=port, folder=tmp_path))
    client = tmp_path / "ssh"
    client.write_text(
        f"#!/bin/sh\nexec ssh -F /dev/null -i {tmp_path}/user-key -o IdentitiesOnly=yes "
        f'-o UserKnownHostsFile={tmp_path}/known -o GlobalKnownHostsFile=/dev/null "$@"\n'
    )
    client.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    daemon = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        yield Server(tmp_path, port)
    finally:
        daemon.terminate()
        daemon.wait()


def wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("sshd did not start")


def failure_of(uri: str) -> HypervisorConnectError:
    with pytest.raises(HypervisorConnectError) as caught:
        connect(uri, timeout_s=30).close()
    return caught.value


def test_an_unknown_host_key(server: Server) -> None:
    server.admit()
    error = failure_of(server.uri)
    assert error.failure is ConnectFailure.HOST_KEY
    assert "is unknown" in error.message
    assert f"ssh -p {server.port} root@127.0.0.1 true" in error.hint


def test_a_changed_host_key(server: Server) -> None:
    server.admit()
    server.know(server.folder / "other-key.pub")
    error = failure_of(server.uri)
    assert error.failure is ConnectFailure.HOST_KEY
    assert "has changed" in error.message
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}'" in error.hint


def test_a_login_that_is_refused(server: Server) -> None:
    server.know(server.folder / "host-key.pub")
    assert failure_of(server.uri).failure is ConnectFailure.AUTHENTICATION


def test_a_host_where_no_daemon_runs(server: Server) -> None:
    server.admit()
    server.know(server.folder / "host-key.pub")
    error = failure_of(server.uri + "&socket=/nonexistent/libvirt-sock&proxy=netcat")
    assert error.failure is ConnectFailure.DAEMON
    assert "systemctl start libvirtd" in error.hint


def test_a_port_where_nobody_listens(server: Server) -> None:
    error = failure_of(server.uri.replace(f":{server.port}", ":1"))
    assert error.failure is ConnectFailure.UNREACHABLE


def test_the_nodes_of_a_host_are_read_through_the_same_login(server: Server) -> None:
    server.admit()
    server.know(server.folder / "host-key.pub")
    executor = node_executor(server.uri)
    assert executor is not None
    assert executor.name == "127.0.0.1"
    described = Path("/etc/solostack/nodes")
    found = list_nodes(executor)
    count = len(list(described.glob("*.json"))) if described.is_dir() else 0
    assert len(found) + len(found.notes) == count
