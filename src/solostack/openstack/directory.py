"""389 Directory Server on the directory node: one instance, TLS only, made by a program there.

The program (scripts/directory) reads what is true from the server itself, so a second apply finds
nothing to do and what somebody changed is put right. Root is the manager through the local socket;
nobody needs or knows a manager's password.
"""

from __future__ import annotations

import importlib.resources
import json

from solostack.engine.operations import Directory, File, Operation, Step, Unit, secret
from solostack.openstack import auth
from solostack.openstack.programs import DIRECTORY as PROGRAMS
from solostack.plan.model import NodePlan, Plan
from solostack.site.model import Role
from solostack.site.services import DirectoryUser

PACKAGES = ("389-ds-base", "ldap-utils", "python3-ldap", "python3-lib389")
UNITS: tuple[str, ...] = ()
UNIT = "dirsrv@solostack.service"
PORT = 636
CERTIFICATE_SECRET = "tls_directory_certificate"  # noqa: S105  a name, not a value
KEY_SECRET = "tls_directory_key"  # noqa: S105
CONFIG = "/etc/solostack-directory"
WANTED = f"{CONFIG}/wanted.json"
COMMAND = "/usr/local/sbin/solostack-directory"
_ENTRY = f"""\
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "{PROGRAMS}")
from directory.main import main

sys.exit(main())
"""


def directory_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return the instance, its certificate, settings, users and groups."""
    programs = _programs()
    return (
        Directory(path=CONFIG, mode=0o700),
        File(path=f"{CONFIG}/ca.pem", content=secret(auth.DIRECTORY_CA)),
        File(path=f"{CONFIG}/certificate.pem", content=secret(CERTIFICATE_SECRET)),
        File(path=f"{CONFIG}/key.pem", content=secret(KEY_SECRET), mode=0o600),
        File(path=WANTED, content=render_wanted(plan, node), mode=0o600),
        *programs,
        File(path=COMMAND, content=_ENTRY, mode=0o755),
        Step(
            name="directory server",
            run=f"{COMMAND} ensure {WANTED}\n",
            unless=f"{COMMAND} check {WANTED}\n",
            timeout_s=900,
        ),
    )


def directory_units(plan: Plan, *, running: bool = True) -> tuple[Operation, ...]:
    """Return the instance's unit; it runs in a seed too, where it was configured running."""
    del plan, running
    return (Unit(name=UNIT),)


def user_password(name: str) -> str:
    """Return the name of the secret that is a site user's first password.

    Names of secrets are of fewer characters than login names: the others are written as numbers.
    """
    plain = "".join(one if one.isalnum() else f"_{ord(one):02x}" for one in name)
    return f"directory_user_{plain}"


def secret_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of the passwords that are made for the own directory."""
    if plan.directory is None or not plan.has(Role.DIRECTORY):
        return ()
    users = (user_password(user.name) for user in plan.directory.users)
    return (auth.DIRECTORY_BIND_PASSWORD, *users)


def render_wanted(plan: Plan, node: NodePlan) -> str:
    """Render what the program makes, with passwords."""
    wanted = plan.directory
    if wanted is None:
        message = "a directory node without a directory"
        raise ValueError(message)
    return (
        json.dumps(
            {
                "name": node.name,
                "suffix": wanted.suffix,
                "keystone_password": secret(auth.DIRECTORY_BIND_PASSWORD),
                "users": [_user(user) for user in wanted.users],
                "groups": [
                    {"name": group.name, "members": list(group.members)} for group in wanted.groups
                ],
            },
            indent=2,
        )
        + "\n"
    )


def _user(user: DirectoryUser) -> dict[str, object]:
    return {
        "name": user.name,
        "full_name": user.full_name,
        "mail": user.mail,
        "enabled": user.enabled,
        "password": secret(user_password(user.name)),
    }


def _programs() -> tuple[File, ...]:
    folder = importlib.resources.files("solostack.openstack.scripts") / "directory"
    sources = sorted(
        (each for each in folder.iterdir() if each.name.endswith(".py")), key=lambda one: one.name
    )
    return tuple(
        File(path=f"{PROGRAMS}/directory/{each.name}", content=each.read_text(encoding="utf-8"))
        for each in sources
    )
