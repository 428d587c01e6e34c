"""The directory's part of `verify`: a login from end to end, with users made for it and removed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

from solostack.cloud.client import Caller
from solostack.cloud.probes import Check, CheckResult
from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.errors import SolostackError, UsageError
from solostack.flows.deployment import Deployment
from solostack.flows.proofs import Add, Proof, ask_agent, broken
from solostack.flows.users import ask_directory, generate_password
from solostack.flows.verify_parts import Part
from solostack.openstack.keystone_domain import domain_path
from solostack.site.model import Role

TIMEOUT_S = 60.0
LOGIN = "directory: a user logs in"
ENABLED, LOCKED = "solostack-verify", "solostack-verify-locked"
_START = (
    "start the directory node: solostack up; if the directory is somebody else's: solostack check"
)
_RENEW = "solostack up renews the certificate of the site's own; else see solostack check"
CHECKS = (
    Check(name="directory: answers", hint=_START),
    Check(name="directory: certificate", hint=_RENEW),
    Check(
        name="directory: Keystone's account",
        hint="solostack up puts the password right on both sides; for an external directory "
        "correct directory.external.bind_dn or bind_password_file first",
    ),
    Check(
        name="directory: users listed",
        hint="on the controller: journalctl -u keystone -e",
    ),
    Check(
        name=LOGIN,
        hint="on the controller: journalctl -u keystone -e; on the directory node: "
        "tail /var/log/dirsrv/slapd-solostack/security",
    ),
    Check(
        name="directory: a locked user is refused",
        hint="on the controller: grep user_enabled /etc/keystone/domains/*.conf",
    ),
)


def directory_proofs(deployment: Deployment, controller: Caller) -> tuple[Proof, ...]:
    """Build the directory's proof; none where the site has no directory."""
    plan = deployment.plan
    if plan.directory is None:
        return ()
    own = plan.has(Role.DIRECTORY)
    checks = CHECKS if own else CHECKS[:-2]
    work = _Work(
        domain=plan.directory.domain,
        controller=controller,
        node=deployment.node(plan.node(Role.DIRECTORY)) if own else None,
        checks=checks,
    )
    names = tuple(one.name for one in checks)
    return (Proof(part=Part.DIRECTORY, title="directory", make=work.make, checks=names),)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What the checks work with. node is None where the directory is somebody else's."""

    domain: str
    controller: Caller
    node: Executor | None
    checks: tuple[Check, ...]

    def make(self, add: Add, step: Step) -> None:
        """Make the checks, and remove the users made for them."""
        results: list[CheckResult] = []

        def note(result: CheckResult) -> None:
            results.append(result)
            add(result)

        try:
            with _verify_users(self.node, step) as made:
                request = {
                    "domain": self.domain,
                    "domain_file": domain_path(self.domain),
                    "users": made.users,
                    "absent_name": ENABLED,
                }
                ask_agent(
                    self.controller,
                    "verify_directory",
                    request,
                    self.checks if made.error is None else self.checks[:-2],
                    add=note,
                    step=step,
                    timeout_s=TIMEOUT_S,
                )
                if made.error is not None and all(result.ok for result in results):
                    note(broken(LOGIN, made.error))
        except SolostackError as error:
            note(broken("directory: users of the checks removed", error))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """The users made for the checks; error says why there are none, None where none can be."""

    users: Mapping[str, object] | None = None
    error: SolostackError | None = None


@contextlib.contextmanager
def _verify_users(node: Executor | None, step: Step) -> Iterator[_Made]:
    """Make two users of ours, one of them locked, and remove them at the end."""
    if node is None:
        yield _Made()
        return
    step.say("making two users for it")
    passwords = {name: generate_password() for name in (ENABLED, LOCKED)}
    try:
        _remove(node)
        for name, password in passwords.items():
            _add(node, name, password)
        ask_directory(node, {"action": "lock", "name": LOCKED, "locked": True})
    except SolostackError as error:
        # Kept: a directory that is off is what the checks say in better words.
        yield _Made(error=error)
        return
    users = {
        "enabled": {"name": ENABLED, "password": passwords[ENABLED]},
        "locked": {"name": LOCKED, "password": passwords[LOCKED]},
    }
    try:
        yield _Made(users=users)
    finally:
        _remove(node)


def _add(node: Executor, name: str, password: str) -> None:
    user = {"name": name, "password": password, "full_name": "", "mail": "", "groups": []}
    ask_directory(node, {"action": "add", **user})


def _remove(node: Executor) -> None:
    for name in (ENABLED, LOCKED):
        with contextlib.suppress(UsageError):  # there is none
            ask_directory(node, {"action": "remove", "name": name})
