"""`users` at the command line: refusals that need no cloud, and passwords that are never asked."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from solostack.cli import edge, main
from solostack.doors.process import Completed
from solostack.errors import CommandError, ConfigureError, ConnectError, ExitCode, UsageError
from solostack.flows.users import ask_directory, end_tokens, generate_password
from solostack.site.model import Role

SITE = {
    "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1"}],
    "external": {"block": "198.51.100.0/28"},
}
EXTERNAL = {
    "url": "ldaps://ds.example.org",
    "bind_dn": "cn=reader,dc=example,dc=org",
    "bind_password_file": "password",
    "user_tree": "ou=people,dc=example,dc=org",
}


def site_file(folder: Path, directory: dict[str, Any] | None) -> str:
    path = folder / "site.yaml"
    path.write_text(json.dumps({**SITE, "directory": directory}))
    return str(path)


def refused(*words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        main.main_inner(["users", *words])
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value


@pytest.mark.parametrize(
    "words", [("list",), ("add", "ada", "--generate"), ("passwd", "ada"), ("remove", "ada", "-y")]
)
def test_without_a_directory_of_its_own_there_are_no_users(
    tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    error = refused(*words, "-f", site_file(tmp_path, None))
    assert "has no directory" in error.message
    assert "directory: {}" in error.hint
    external = {"provider": "external", "external": EXTERNAL}
    error = refused(*words, "-f", site_file(tmp_path, external))
    assert "ldaps://ds.example.org" in error.message
    assert "manage them there" in error.hint


def test_nobody_is_asked_where_nobody_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    path = site_file(tmp_path, {})
    assert "--generate" in refused("add", "ada", "-f", path).hint
    assert "--yes" in refused("remove", "ada", "-f", path).hint
    assert "exclude" in refused("add", "ada", "--stdin", "--generate", "-f", path).message
    assert "empty" in refused("passwd", "ada", "--stdin", "-f", path).message


def test_no_password_is_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("add", "passwd"):
        main.main_inner(["users", verb, "--help"])
        assert "--password" not in capsys.readouterr().out


def test_generated_passwords_have_every_kind_of_character() -> None:
    for _ in range(50):
        password = generate_password()
        assert len(password) >= 20
        assert any(map(str.isdigit, password))
        assert any(map(str.islower, password))
        assert any(map(str.isupper, password))


class Node:
    """A directory node that answers so."""

    name = "directory"

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked = b""

    def run(self, argv: tuple[str, ...], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        del timeout_s
        assert not any(b"secret" in word.encode() for word in argv)
        self.asked = stdin
        if isinstance(self.answer, Exception):
            raise self.answer
        return Completed(argv=argv, status=0, stdout=json.dumps(self.answer).encode(), stderr=b"")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"error": {"kind": "weak", "message": "too short", "hint": "--generate"}}, UsageError),
        ({"error": {"kind": "down", "message": "is down", "hint": ""}}, ConfigureError),
        (ConnectError("no SSH connection"), ConnectError),
        (CommandError("no end within 45 s"), ConnectError),
        (CommandError("status 1", status=1), ConfigureError),
    ],
)
def test_failures_say_whose_they_are_and_what_to_do(answer: object, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        ask_directory(Node(answer), {"action": "list"})  # type: ignore[arg-type]
    assert caught.value.hint  # type: ignore[attr-defined]


def test_a_password_goes_over_standard_input() -> None:
    node = Node({"done": True})
    ask_directory(node, {"action": "password", "password": "secret"})  # type: ignore[arg-type]
    assert b"secret" in node.asked


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ConnectError("no SSH connection"), ConnectError),
        (CommandError("status 1", status=1), ConfigureError),
    ],
)
def test_tokens_that_cannot_be_ended_are_told(answer: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="who is logged in as ada stays so") as caught:
        end_tokens(Node(answer), "users", "ada")  # type: ignore[arg-type]
    assert "then do this again" in caught.value.hint  # type: ignore[attr-defined]


@pytest.mark.parametrize("generate", [True, False])
@pytest.mark.parametrize("changes", [True, False])
def test_a_generated_password_is_shown_when_the_user_has_it(
    *,
    generate: bool,
    changes: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The directory does as asked or not; on the controller no session can be ended."""
    directory = Node({"done": True} if changes else ConnectError("no SSH connection"))
    controller = Node(ConnectError("no SSH connection"))
    nodes = {Role.DIRECTORY: directory, Role.CONTROLLER: controller}
    plan = SimpleNamespace(
        has=lambda _: True, node=lambda role: role, directory=SimpleNamespace(domain="users")
    )
    deployment = SimpleNamespace(plan=plan, node=nodes.__getitem__)
    monkeypatch.setattr("solostack.flows.users.known_facts", lambda *_: {})
    monkeypatch.setattr("solostack.flows.users.make_deployment", lambda *_: deployment)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    how = "--generate" if generate else "--stdin"
    argv = ["users", "passwd", "ada", how, "--json", "-f", site_file(tmp_path, {})]
    assert edge.guard(main.main_inner, argv) == ExitCode.CONNECT
    (shown, told) = (json.loads(text) for text in (capsys.readouterr().out, directory.asked))
    assert ("stays so" in shown["error"]["message"]) == changes
    assert shown.get("password") == (told["password"] if generate and changes else None)
