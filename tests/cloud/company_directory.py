"""A directory that somebody else runs: 389 Directory Server beyond the provider's router.

solostack may read it with the account that it was given, and has no other way to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

from solostack.flows.deployment import role_recipe
from solostack.lab.lab import Lab
from solostack.lab.spec import upstream_namespace
from solostack.openstack import auth
from solostack.openstack.directory import UNIT, user_password
from solostack.site.model import Role
from tests.host.directory_world import KEYSTONE, SUFFIX, Server, make_authority
from tests.host.engine_container import open_container

# Next to the lab's address beyond the router (RFC 5737), on a network of its own.
ROUTER, SERVER = IPv4Interface("192.0.2.9/30"), IPv4Interface("192.0.2.10/30")
URL = f"ldaps://{SERVER.ip}"
CA, PASSWORD = "company-ca.pem", "company-password"
# Like FreeIPA's but for the class of groups: locked accounts are told in the same way.
SETTINGS = f"""
directory:
  provider: external
  external:
    preset: freeipa
    url: {URL}
    ca: {CA}
    bind_dn: {KEYSTONE}
    bind_password_file: {PASSWORD}
    user_tree: ou=people,{SUFFIX}
    group_tree: ou=groups,{SUFFIX}
    group_object_class: groupOfNames
  groups:
    - {{name: makers, project: demo}}
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """The directory, and the folder with the two files that its owner gave."""

    server: Server
    folder: Path

    def tell_password(self, password: str = "") -> None:
        """Write the account's password where the site looks for it, or another one."""
        path = self.folder / PASSWORD
        path.touch(mode=0o600)
        path.write_text(password or self.server.secrets[auth.DIRECTORY_BIND_PASSWORD])

    def password_of(self, user: str) -> str:
        return self.server.secrets[user_password(user)]

    def stop(self) -> None:
        self.server.box.shell(f"systemctl stop {UNIT}")

    def start(self) -> None:
        self.server.box.shell(f"systemctl start {UNIT}")


@contextlib.contextmanager
def open_directory(lab: Lab, mount: Path, folder: Path) -> Iterator[Company]:
    """Run one for a lab. mount: an empty folder for the container; folder: the site file's."""
    with open_container(mount, role_recipe(Role.DIRECTORY, "2025.1")) as box:
        _connect(lab, box.pid)
        box.shell("echo '127.0.0.1 directory' >>/etc/hosts")
        server = Server(box, make_authority("directory", SERVER.network), addresses=(SERVER.ip,))
        server.certify()
        server.apply()
        company = Company(server=server, folder=folder)
        company.tell_password()
        (folder / CA).write_text(server.authority.certificate)
        yield company


def _connect(lab: Lab, pid: int) -> None:
    """Lay a cable from the router to the container; it goes with the container."""
    router, inside = upstream_namespace(lab.name), f"nsenter --net=/proc/{pid}/ns/net ip"
    script = f"""
ip link add company netns {router} type veth peer name company netns {pid}
ip -n {router} address add {ROUTER} dev company
ip -n {router} link set company up
{inside} link set lo up
{inside} address add {SERVER} dev company
{inside} link set company up
{inside} route add default via {ROUTER.ip}
"""
    subprocess.run(("sh", "-eu", "-c", script), check=True)
