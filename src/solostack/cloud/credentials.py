"""Who may log in to the cloud and how: the values, and the files that clients read.

Rendering only; the files hold passwords, and whoever writes them makes them 0600.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping

from solostack.plan.model import Plan
from solostack.site.model import Role

ADMIN_PASSWORD = "admin_password"  # noqa: S105  a name, not a value
DEMO_PASSWORD = "demo_password"  # noqa: S105  a name, not a value
KEYSTONE_PORT = 5000
SECRET_NAMES = (ADMIN_PASSWORD, DEMO_PASSWORD)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to log in. demo_user is also the first project's name; empty when the site has none.

    cacert is the file of the authority that the URL's certificate is from; "" where there is none,
    or where systems know it by themselves.
    """

    auth_url: str
    region: str
    admin_password: str = dataclasses.field(repr=False)
    demo_user: str = ""
    demo_password: str = dataclasses.field(default="", repr=False)
    cacert: str = ""


def outside_access(plan: Plan, secrets: Mapping[str, str], *, cacert: str) -> Access:
    """Return how to log in from outside: by the front door, where the site has one."""
    inside = build_access(plan, secrets)
    if plan.front_door is None:
        return inside
    auth_url = f"{plan.front_door.url}/identity/v3"
    return dataclasses.replace(inside, auth_url=auth_url, cacert=cacert)


def build_access(plan: Plan, secrets: Mapping[str, str]) -> Access:
    """Put a plan and the values of SECRET_NAMES together, for those on the data network."""
    controller = plan.node(Role.CONTROLLER).data_address
    return Access(
        auth_url=f"http://{controller}:{KEYSTONE_PORT}/v3",
        region=plan.region,
        admin_password=secrets[ADMIN_PASSWORD],
        demo_user=plan.demo.project if plan.demo else "",
        demo_password=secrets.get(DEMO_PASSWORD, ""),
    )


def cloud_names(site: str, access: Access) -> tuple[str, ...]:
    """Return the names in clouds.yaml: administrator, then the first project if there is one."""
    return (f"{site}-admin", site) if access.demo_user else (f"{site}-admin",)


def render_clouds_yaml(site: str, access: Access) -> str:
    """Render clouds.yaml for openstacksdk and the openstack command (``--os-cloud NAME``)."""
    lines = ["clouds:"]
    for name, (user, password) in zip(cloud_names(site, access), _logins(access), strict=True):
        lines += [
            f"  {_quoted(name)}:",
            "    auth:",
            f"      auth_url: {_quoted(access.auth_url)}",
            f"      username: {_quoted(user)}",
            f"      password: {_quoted(password)}",
            f"      project_name: {_quoted(user)}",
            "      user_domain_name: Default",
            "      project_domain_name: Default",
            f"    region_name: {_quoted(access.region)}",
            "    interface: public",
            "    identity_api_version: 3",
        ]
        if access.cacert:
            lines.append(f"    cacert: {_quoted(access.cacert)}")
    return "\n".join(lines) + "\n"


def render_openrc(access: Access, *, admin: bool) -> str:
    """Render a file to source in a shell, for the administrator or the first project's user."""
    user, password = _logins(access)[0 if admin else 1]
    values = {
        "OS_AUTH_URL": access.auth_url,
        "OS_USERNAME": user,
        "OS_PASSWORD": password,
        "OS_PROJECT_NAME": user,
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": access.region,
        "OS_INTERFACE": "public",
        "OS_IDENTITY_API_VERSION": "3",
    }
    if access.cacert:
        values["OS_CACERT"] = access.cacert
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def _logins(access: Access) -> tuple[tuple[str, str], ...]:
    admin = ("admin", access.admin_password)
    return (admin, (access.demo_user, access.demo_password)) if access.demo_user else (admin,)


def _quoted(text: str) -> str:
    # A JSON string is a YAML string (YAML 1.2, section 1.3), but YAML knows no surrogate pairs.
    escaped = (
        json.dumps(character)[1:-1] if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
        for character in text
    )
    return f'"{"".join(escaped)}"'
