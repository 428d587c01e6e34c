"""`users`: the accounts of the site's own directory, by a program on its node."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from solostack.doors.process import Executor
from solostack.doors.progress import Progress
from solostack.engine.secrets import generate_secret
from solostack.errors import (
    CommandError,
    ConfigureError,
    ConnectError,
    SiteError,
    SolostackError,
    UsageError,
)
from solostack.flows.deployment import host_executors, make_deployment, site_state
from solostack.flows.facts import known_facts
from solostack.openstack.directory import COMMAND, UNIT, WANTED
from solostack.openstack.keystone import REVOKE
from solostack.site.loader import LoadedSite
from solostack.site.model import Role
from solostack.site.services import DirectoryProvider

TIMEOUT_S = 45.0
# Keystone's own code is loaded for it: 2 s, on an emulated controller that is busy over 45 s.
END_TOKENS_TIMEOUT_S = 240.0
# Kinds of refusals that are mistakes of the command line, not of the directory.
_MISTAKES = frozenset({"absent", "exists", "name", "site", "weak"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user. origin is site (the site file names it) or command (`users add` made it)."""

    name: str
    full_name: str
    mail: str
    enabled: bool
    origin: str
    groups: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to be made."""

    name: str
    password: str = dataclasses.field(repr=False)
    full_name: str = ""
    mail: str = ""
    groups: tuple[str, ...] = ()


def generate_password() -> str:
    """Return a random password that every policy of ours accepts."""
    while True:
        password = generate_secret("password")
        if all(any(test(one) for one in password) for test in _CHARACTERS):
            return password


_CHARACTERS = (str.isdigit, str.islower, str.isupper)


def require_own_directory(loaded: LoadedSite) -> None:
    """Raise UsageError where a site's users are not in a directory of its own."""
    directory = loaded.site.directory
    if directory is None:
        raise UsageError(
            f"site {loaded.site.name} has no directory",
            hint=f"write `directory: {{}}` into {loaded.path} and run solostack up",
        )
    if directory.provider is DirectoryProvider.EXTERNAL and directory.external is not None:
        raise UsageError(
            f"the users of site {loaded.site.name} are in {directory.external.url}",
            hint="manage them there; solostack only reads that directory",
        )


def list_users(loaded: LoadedSite, progress: Progress) -> tuple[User, ...]:
    """Return all users by name."""
    answer = _ask(loaded, {"action": "list"}, progress)
    return tuple(User(**{**row, "groups": tuple(row["groups"])}) for row in answer["users"])


def add_user(loaded: LoadedSite, user: NewUser, progress: Progress) -> None:
    """Make a user. UsageError when there is one of that name, or the password is too weak."""
    _ask(loaded, {"action": "add", **dataclasses.asdict(user)}, progress)


def remove_user(loaded: LoadedSite, name: str, progress: Progress) -> None:
    """Delete a user. UsageError when there is none, or the site file names it."""
    _ask(loaded, {"action": "remove", "name": name}, progress)


def set_password(
    loaded: LoadedSite,
    name: str,
    password: str,
    progress: Progress,
    *,
    changed: Callable[[], object],
) -> None:
    """Give a user a new password, and end the tokens that were given for the old one.

    Also ends a lock that wrong passwords brought. changed is called as soon as the new password is
    the user's: what comes after may fail.
    """
    request = {"action": "password", "name": name, "password": password}
    _ask(loaded, request, progress, changed=changed, end_tokens_of=name)


def lock_user(loaded: LoadedSite, name: str, progress: Progress, *, locked: bool) -> None:
    """Lock a user out, which ends the tokens it has, or let it in again."""
    request = {"action": "lock", "name": name, "locked": locked}
    _ask(loaded, request, progress, end_tokens_of=name if locked else None)


def change_group(
    loaded: LoadedSite, name: str, group: str, progress: Progress, *, member: bool
) -> None:
    """Put a user into a group or take it out."""
    action = "join" if member else "leave"
    _ask(loaded, {"action": action, "name": name, "group": group}, progress)


def ask_directory(executor: Executor, request: Mapping[str, object]) -> Mapping[str, Any]:
    """Have the program on the directory node carry out one request.

    Raises:
        ConnectError: the node does not answer.
        UsageError: the request asks for what cannot be (no such user, a weak password).
        ConfigureError: the directory server does not do it.
    """
    try:
        done = executor.run(
            (COMMAND, "accounts", WANTED), stdin=json.dumps(request).encode(), timeout_s=TIMEOUT_S
        )
        answer: dict[str, Any] = json.loads(done.text)
    except ConnectError as error:
        raise _unreachable(error) from error
    except (CommandError, ValueError) as error:
        # A connection that is shared since before the node went off only falls silent.
        if isinstance(error, CommandError) and error.status is None:
            raise _unreachable(error) from error
        details = error.details if isinstance(error, SolostackError) else ()
        raise ConfigureError(
            f"{executor.name}: the program for users did not run",
            details=details,
            hint="run solostack up, which puts the directory node right",
        ) from error
    problem = answer.get("error")
    if problem is None:
        return answer
    if problem["kind"] in _MISTAKES:
        raise UsageError(str(problem["message"]), hint=str(problem["hint"]))
    raise ConfigureError(
        f"{executor.name}: {problem['message']}",
        hint=str(problem["hint"]) or f"on the directory node: journalctl -u {UNIT} -e",
    )


def end_tokens(controller: Executor, domain: str, name: str) -> None:
    """End the tokens that a user was given: Keystone learns of no change in a directory.

    Raises ConfigureError, ConnectError when the controller does not answer.
    """
    command = ("python3", "-I", REVOKE.path, domain, name)
    try:
        controller.run(
            ("runuser", "-u", "keystone", "--", *command), timeout_s=END_TOKENS_TIMEOUT_S
        )
    except SolostackError as error:
        kind = ConnectError if isinstance(error, ConnectError) else ConfigureError
        raise kind(
            f"the directory has changed, but who is logged in as {name} stays so: {error.message}",
            details=error.details,
            hint="see solostack status; solostack up puts the controller right; then do this again",
        ) from error


def _unreachable(error: SolostackError) -> ConnectError:
    return ConnectError(
        f"the directory node does not answer: {error.message}",
        details=error.details,
        hint="see solostack status; solostack up starts it",
    )


def _ask(
    loaded: LoadedSite,
    request: Mapping[str, object],
    progress: Progress,
    *,
    changed: Callable[[], object] | None = None,
    end_tokens_of: str | None = None,
) -> Mapping[str, Any]:
    require_own_directory(loaded)
    state = site_state(loaded)
    state.create()
    facts = known_facts(state, loaded, host_executors(loaded))
    deployment = make_deployment(loaded, state, facts)
    if not deployment.plan.has(Role.DIRECTORY):
        raise SiteError(f"site {loaded.site.name} has no directory node")
    plan = deployment.plan
    with progress.step("ask the directory"):
        answer = ask_directory(deployment.node(plan.node(Role.DIRECTORY)), request)
    if changed is not None:
        changed()
    if end_tokens_of is not None and plan.directory is not None:
        with progress.step("end its sessions"):
            controller = deployment.node(plan.node(Role.CONTROLLER))
            end_tokens(controller, plan.directory.domain, end_tokens_of)
    return answer
