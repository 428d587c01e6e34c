"""The SSH door: the command line it builds, and what it makes of ssh's answers."""

from __future__ import annotations

import dataclasses
import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.doors.process import Completed, OnLine
from solostack.doors.ssh import SshExecutor, SshTarget, ssh_argv
from solostack.errors import CommandError, CommandTimeoutError, ConnectError

HOST = SshTarget(name="phys1", address="203.0.113.2")


@pytest.fixture(autouse=True)
def short_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@dataclasses.dataclass
class Answer:
    """An executor that gives one prepared answer and remembers what it was asked."""

    status: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    asked: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    name: str = "localhost"

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        self.asked.append(tuple(argv))
        return Completed(tuple(argv), self.status, self.stdout, self.stderr)


def options(argv: Sequence[str]) -> dict[str, str]:
    pairs = [argv[index + 1].partition("=") for index, word in enumerate(argv) if word == "-o"]
    return {key: value for key, _, value in pairs}


def test_a_known_target_trusts_its_own_keys_only() -> None:
    target = dataclasses.replace(
        HOST, key=Path("/state/key"), known_hosts=Path("/state/known"), port=2222
    )

    argv = ssh_argv(target)

    assert argv[0] == "ssh"
    assert argv[-1] == "root@203.0.113.2"
    assert options(argv)["StrictHostKeyChecking"] == "yes"
    assert options(argv)["UserKnownHostsFile"] == "/state/known"
    assert options(argv)["GlobalKnownHostsFile"] == "/dev/null"
    assert options(argv)["IdentitiesOnly"] == "yes"
    assert options(argv)["BatchMode"] == "yes"
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[argv.index("-i") + 1] == "/state/key"


def test_an_unknown_target_is_left_to_the_users_own_configuration() -> None:
    assert not {"StrictHostKeyChecking", "UserKnownHostsFile", "IdentitiesOnly"} & set(
        options(ssh_argv(HOST))
    )


def test_a_jump_goes_through_the_other_targets_connection() -> None:
    node = SshTarget(name="controller", address="172.16.0.11", jump=HOST)

    proxy = shlex.split(options(ssh_argv(node))["ProxyCommand"])

    assert proxy[-3:] == ["-W", "%h:%p", "root@203.0.113.2"]
    assert options(proxy)["ControlPath"] == options(ssh_argv(HOST))["ControlPath"]


@given(name=st.text(min_size=1, max_size=300), port=st.integers(1, 65535))
def test_every_target_has_a_short_socket_of_its_own(name: str, port: int) -> None:
    one = dataclasses.replace(HOST, name=name, port=port)
    other = dataclasses.replace(one, user="other")

    paths = [options(ssh_argv(target))["ControlPath"] for target in (one, other)]

    assert paths[0] != paths[1]
    # ssh adds 17 characters while it connects; a Unix socket's path has at most 107 bytes.
    assert len(Path(paths[0]).name) + 17 + len("/tmp/solostack-ssh/") < 107


def test_sockets_are_in_a_private_folder() -> None:
    folder = Path(options(ssh_argv(HOST))["ControlPath"]).parent

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()


@given(argv=st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1))
def test_the_other_side_gets_the_words_as_they_are(argv: list[str]) -> None:
    local = Answer()

    SshExecutor(HOST, local=local).run(argv)

    # ssh hands one text to the login shell there; shlex is that shell's rule of words.
    assert shlex.split(local.asked[0][-1]) == argv


def test_no_connection_is_a_connect_error_with_the_command_to_try() -> None:
    local = Answer(status=255, stderr=b"ssh: connect to host: No route to host\n")

    with pytest.raises(ConnectError) as caught:
        SshExecutor(HOST, local=local).run(("true",), check=False)

    assert "root@203.0.113.2" in caught.value.message
    assert caught.value.details == ("ssh: connect to host: No route to host",)
    assert caught.value.hint.startswith("try it by hand: ssh ")
    assert caught.value.hint.endswith(" true")


def test_a_failing_command_is_a_command_error_with_its_words() -> None:
    local = Answer(status=3, stderr=b"no such unit\n")

    with pytest.raises(CommandError) as caught:
        SshExecutor(HOST, local=local).run(("systemctl", "status", "x"))

    assert caught.value.status == 3
    assert caught.value.message == "phys1: status 3 from: systemctl status x"
    assert caught.value.details == ("no such unit",)


def test_a_failing_command_that_may_fail_is_an_answer() -> None:
    done = SshExecutor(HOST, local=Answer(status=1, stdout=b"out")).run(("false",), check=False)

    assert done == Completed(("false",), 1, b"out", b"")


def test_a_command_without_an_end_names_the_machine_and_what_to_try() -> None:
    class Silent(Answer):
        def run(self, *_: object, **__: object) -> Completed:
            raise CommandTimeoutError("localhost: no end within 5 s: ssh -o BatchMode=yes ...")

    with pytest.raises(CommandTimeoutError) as caught:
        SshExecutor(HOST, local=Silent()).run(("systemctl", "is-active", "a"), timeout_s=5)
    assert caught.value.message == "phys1: no end within 5 s: systemctl is-active a"
    assert caught.value.hint.startswith("see whether it answers: ssh ")
