"""Opening a connection: each way to fail says what it is and what to do.

The texts of failures are what libvirt 9.0 and OpenSSH 9.2 really said; where nothing but this
process is needed, the real failure is made.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.doors.bounded import in_thread
from solostack.doors.hypervisor import Connection, adopt
from solostack.doors.hypervisor_errors import explain_open_failure, split_uri, unattended_uri
from solostack.errors import ExitCode
from solostack.inventory import (
    ConnectFailure,
    HypervisorConnectError,
    HypervisorError,
    connect,
    list_domains,
)

SSH = "qemu+ssh://root@node1.example:2222/system"
SOCKET = "/var/run/libvirt/libvirt-sock-ro"
# URI, what libvirt says, failure, words of the message, words of the hint
SAID = (
    (
        "qemu:///system",
        f"Failed to connect socket to '{SOCKET}': No such file or directory",
        ConnectFailure.DAEMON,
        "the libvirt daemon is not there",
        "systemctl start libvirtd",
    ),
    (
        "qemu:///system",
        f"Failed to connect socket to '{SOCKET}': Connection refused",
        ConnectFailure.DAEMON,
        "the libvirt daemon is not there",
        "apt install libvirt-daemon-system",
    ),
    (
        SSH,
        "End of file while reading data: virt-ssh-helper: cannot connect to "
        f"'{SOCKET}': Failed to connect socket to '{SOCKET}': No such file or directory: "
        "Input/output error",
        ConnectFailure.DAEMON,
        "not there on node1.example",
        "ssh -p 2222 root@node1.example systemctl start libvirtd",
    ),
    (
        SSH,
        f"End of file while reading data: nc: {SOCKET}: No such file or directory: "
        "Input/output error",
        ConnectFailure.DAEMON,
        "not there on node1.example",
        "ssh -p 2222 root@node1.example",
    ),
    (
        SSH,
        "End of file while reading data: sh: 1: nc: not found: Input/output error",
        ConnectFailure.DAEMON,
        "not there on node1.example",
        "apt install libvirt-daemon-system",
    ),
    (
        "qemu:///system",
        "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
        ConnectFailure.PERMISSION,
        "no permission to use the libvirt daemon",
        "usermod -aG libvirt",
    ),
    (
        "qemu:///system",
        "authentication unavailable: no polkit agent available to authenticate action "
        "'org.libvirt.unix.manage'",
        ConnectFailure.PERMISSION,
        "no permission",
        "usermod -aG libvirt",
    ),
    (
        "qemu:///system",
        "internal error: Unable to get system bus connection: Could not connect: No such file or "
        "directory",
        ConnectFailure.PERMISSION,
        "no permission",
        "run it as root",
    ),
    (
        "qemu:///nonsense",
        "internal error: unexpected qemu URI path '/nonsense', try qemu:///system",
        ConnectFailure.URI,
        "not a URI that libvirt can open",
        "qemu:///system",
    ),
    (
        "qemo:///system",
        "no connection driver available for qemo:///system",
        ConnectFailure.URI,
        "not a URI",
        "did you mean the driver qemu?",
    ),
    (
        "xen:///system",
        "no connection driver available for xen:///system",
        ConnectFailure.DRIVER,
        "has no driver for xen",
        "install libvirt's driver for xen",
    ),
    (
        "qemu+foo:///system",
        "invalid argument: remote_open: transport in URL not recognised (should be tls|unix|ssh)",
        ConnectFailure.URI,
        "not a URI",
        "qemu+ssh://root@host/system",
    ),
    (
        "qemu+tcp://node1.example/system",
        "unable to connect to server at 'node1.example:16509': Connection refused",
        ConnectFailure.UNREACHABLE,
        "the host node1.example cannot be reached",
        "ping -c 3 node1.example",
    ),
    (
        "qemu+tcp://nohost.invalid/system",
        "Unable to resolve address 'nohost.invalid' service '16509': Name or service not known",
        ConnectFailure.UNREACHABLE,
        "nohost.invalid cannot be reached",
        "ping -c 3 nohost.invalid",
    ),
    (
        SSH,
        "Cannot recv data: ssh: Could not resolve hostname node1.example: Name or service not "
        "known: Connection reset by peer",
        ConnectFailure.UNREACHABLE,
        "node1.example cannot be reached",
        "ssh -p 2222 root@node1.example true",
    ),
    (
        SSH,
        "Cannot recv data: ssh: connect to host node1.example port 2222: No route to host: "
        "Connection reset by peer",
        ConnectFailure.UNREACHABLE,
        "node1.example cannot be reached",
        "ssh -p 2222 root@node1.example true",
    ),
    (
        SSH,
        "Cannot recv data: Host key verification failed.: Connection reset by peer",
        ConnectFailure.HOST_KEY,
        "the SSH host key of node1.example is unknown",
        "compare its fingerprint and accept it once: ssh -p 2222 root@node1.example true",
    ),
    (
        SSH,
        "Cannot recv data: @@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@@@\n"
        "Host key verification failed.: Connection reset by peer",
        ConnectFailure.HOST_KEY,
        "the SSH host key of node1.example has changed",
        "ssh-keygen -R '[node1.example]:2222'",
    ),
    (
        SSH,
        "Cannot recv data: root@node1.example: Permission denied (publickey,password).: "
        "Connection reset by peer",
        ConnectFailure.AUTHENTICATION,
        "not authenticated on node1.example",
        "make this work without a question first: ssh -p 2222 root@node1.example true",
    ),
    (
        "qemu+tls://node1.example/system",
        "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory",
        ConnectFailure.AUTHENTICATION,
        "not authenticated on node1.example",
        "libvirt.org/kbase/tlscerts.html",
    ),
    (
        "qemu:///system",
        "something that nobody has seen before",
        ConnectFailure.OTHER,
        "cannot connect",
        "virsh -c 'qemu:///system' list --all",
    ),
)


@pytest.mark.parametrize(("uri", "text", "failure", "message", "hint"), SAID)
def test_every_failure_says_what_it_is_and_what_to_do(
    uri: str, text: str, failure: ConnectFailure, message: str, hint: str
) -> None:
    error = explain_open_failure(uri, text)
    assert error.failure is failure
    assert error.message.startswith(f"{uri}: ")
    assert message in error.message
    assert hint in error.hint
    assert error.details[0] == text.splitlines()[0]
    assert error.exit_code is ExitCode.CONNECT


@pytest.mark.parametrize(
    ("uri", "failure"),
    [
        ("qemu+unix:///system?socket=/nonexistent/socket", ConnectFailure.DAEMON),
        ("test+unix:///default?socket=/nonexistent/socket", ConnectFailure.DAEMON),
        ("not a uri", ConnectFailure.URI),
        ("qemu", ConnectFailure.URI),
        ("qemu+carrier-pigeon:///system", ConnectFailure.URI),
        ("qemu+tcp://127.0.0.1:1/system", ConnectFailure.UNREACHABLE),
    ],
)
def test_real_failures(
    uri: str, failure: ConnectFailure, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HypervisorConnectError) as caught:
        connect(uri, timeout_s=30)
    assert caught.value.failure is failure
    assert caught.value.hint
    # libvirt's own handler would print the same once more.
    assert capfd.readouterr() == ("", "")


def test_a_file_of_the_test_driver_that_is_not_there() -> None:
    with pytest.raises(HypervisorConnectError) as caught:
        connect("test:///no/such/file.xml")
    assert caught.value.failure is ConnectFailure.URI


@pytest.fixture
def silent_socket(tmp_path: Path) -> Iterator[Path]:
    """A daemon that takes every connection and never says a word."""
    path = tmp_path / "libvirt-sock-ro"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


def test_a_daemon_that_never_answers_is_given_up(silent_socket: Path) -> None:
    uri = f"qemu+unix:///system?socket={silent_socket}"
    with pytest.raises(HypervisorConnectError, match=r"no answer within 0\.3 s") as caught:
        connect(uri, timeout_s=0.3)
    assert caught.value.failure is ConnectFailure.TIMEOUT
    assert "libvirtd" in caught.value.hint


def test_a_remote_host_that_never_answers_is_given_up() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        uri = f"qemu+tcp://127.0.0.1:{server.getsockname()[1]}/system"
        with pytest.raises(HypervisorConnectError) as caught:
            connect(uri, timeout_s=0.3)
    assert caught.value.failure is ConnectFailure.TIMEOUT
    assert "127.0.0.1" in caught.value.hint


def test_a_call_that_hangs_is_given_up_and_closing_does_not_hang_either() -> None:
    released = threading.Event()
    with (
        connect("test:///default", timeout_s=0.2) as conn,
        pytest.raises(HypervisorConnectError, match="no answer within"),
    ):
        conn.call(released.wait, "waiting for nothing")
    released.set()


def test_after_a_call_that_hung_the_next_one_does_not_wait_again() -> None:
    released = threading.Event()
    with connect("test:///default", timeout_s=0.2) as conn:
        for what in ("waiting for nothing", "answering an earlier call"):
            with pytest.raises(HypervisorConnectError, match=what):
                conn.call(released.wait, what)
    released.set()


def test_a_closed_connection_says_so() -> None:
    with connect("test:///default") as conn:
        pass
    with pytest.raises(HypervisorError, match="closed"):
        list_domains(conn)


def test_connections_need_no_with() -> None:
    conn = connect("test:///default")
    assert isinstance(conn, Connection)
    assert (conn.uri, conn.read_only) == ("test:///default", True)
    conn.close()
    conn.close()


def test_read_only_is_the_default_and_read_write_can_be_had() -> None:
    libvirt = pytest.importorskip("libvirt")
    with connect("test:///default") as conn, pytest.raises(libvirt.libvirtError, match="read only"):
        conn.raw.lookupByName("test").suspend()
    with connect("test:///default", read_only=False) as conn:
        conn.raw.lookupByName("test").suspend()


def test_libvirts_own_connection_can_be_used() -> None:
    libvirt = pytest.importorskip("libvirt")
    raw = libvirt.open("test:///default")
    assert adopt(raw).uri == "test:///default"
    assert [domain.name for domain in list_domains(raw)] == ["test"]
    raw.close()


def test_something_else_than_a_connection_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"solostack\.inventory\.connect"):
        list_domains("test:///default")


def test_an_error_in_the_thread_arrives() -> None:
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 / 0).result(5)


@pytest.mark.parametrize(
    ("uri", "result"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu+ssh://h/system", "qemu+ssh://h/system?no_tty=1"),
        (
            "qemu+ssh://u@h:22/system?keyfile=/k%20y",
            "qemu+ssh://u@h:22/system?keyfile=%2Fk%20y&no_tty=1",
        ),
        ("qemu+ssh://h/system?no_tty=0", "qemu+ssh://h/system?no_tty=0"),
        ("qemu+libssh2://h/system", "qemu+libssh2://h/system"),
        ("my-alias", "my-alias"),
        ("qemu+ssh://[::1]:22/system", "qemu+ssh://[::1]:22/system?no_tty=1"),
    ],
)
def test_ssh_never_asks(uri: str, result: str) -> None:
    assert unattended_uri(uri) == result


def test_the_parts_of_a_uri() -> None:
    parts = split_uri("qemu+ssh://root@[2001:db8::1]:2222/system?keyfile=/k")
    assert parts is not None
    assert (parts.driver, parts.transport, parts.user) == ("qemu", "ssh", "root")
    assert (parts.host, parts.port, parts.path) == ("2001:db8::1", 2222, "/system")
    assert parts.query == (("keyfile", "/k"),)
    assert parts.is_remote
    assert parts.is_ssh
    for text in ("", "qemu", "not a uri", "qemu://h:port/system", "qemu://[::1/system"):
        assert split_uri(text) is None
