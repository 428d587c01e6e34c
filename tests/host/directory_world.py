"""389 Directory Server in a container, as the directory node has it, and its certificates."""

from __future__ import annotations

import dataclasses
import datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from solostack.doors.progress import Progress
from solostack.engine import certificates
from solostack.engine.apply import Report, apply_bundle
from solostack.engine.operations import Bundle, phase
from solostack.engine.secrets import generate_secret
from solostack.flows.users import ask_directory
from solostack.openstack import auth, directory
from solostack.plan.build import build_plan
from solostack.plan.certificates import WantedAuthority, WantedCertificate
from solostack.plan.model import HostFacts, Plan
from solostack.site.model import Role, Site
from tests.host.engine_box import Box

SUFFIX = "dc=cloud,dc=internal"
KEYSTONE = f"cn=keystone,ou=services,{SUFFIX}"
FACTS = HostFacts(
    name="phys1", cores=4, memory_mib=16000, disk_gib=200, kvm=False, openvswitch_module=True
)
BIND = """
import ldap, sys
ldap.set_option(ldap.OPT_X_TLS_CACERTFILE, "/etc/solostack-directory/ca.pem")
link = ldap.initialize("ldaps://directory")
try:
    link.simple_bind_s(sys.argv[1], sys.argv[2])
    print("yes")
except ldap.LDAPError as error:
    print(type(error).__name__)
"""


def make_plan(**changes: Any) -> Plan:
    wanted = {
        "users": [
            {"name": "ada", "full_name": "Ada Lovelace", "mail": "ada@example.org"},
            {"name": "bo.b-x", "enabled": False},
        ],
        "groups": [{"name": "makers", "members": ["ada"]}, {"name": "empty"}],
    }
    site = Site.model_validate(
        {
            "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1"}],
            "external": {"block": "198.51.100.0/28"},
            "directory": wanted | changes,
        }
    )
    return build_plan(site, {"phys1": FACTS})


@dataclasses.dataclass
class Server:
    """The node with its certificates; expired ones can be had.

    addresses: what clients know it by besides its name, which is directory.
    """

    box: Box
    authority: certificates.Pair
    secrets: dict[str, str] = dataclasses.field(default_factory=dict)
    addresses: tuple[IPv4Address, ...] = ()

    def certify(self, *, expired: bool = False) -> None:
        now = datetime.datetime.now(tz=datetime.UTC)
        wanted = WantedCertificate(
            name="directory",
            title="the directory",
            dns=("directory",),
            addresses=self.addresses,
            used="",
        )
        then = now - datetime.timedelta(days=4000) if expired else now
        pair = certificates.issue(self.authority, wanted, then)
        self.secrets |= {
            auth.DIRECTORY_CA: self.authority.certificate,
            directory.CERTIFICATE_SECRET: pair.certificate,
            directory.KEY_SECRET: pair.key,
        }

    def apply(self, plan: Plan | None = None) -> Report:
        plan = plan or make_plan()
        node = plan.node(Role.DIRECTORY)
        for name in directory.secret_names(plan):
            self.secrets.setdefault(name, generate_secret(name))
        bundle = Bundle(
            target=node.name,
            phases=(
                phase("directory", *directory.directory_operations(plan, node)),
                phase("units", *directory.directory_units(plan)),
            ),
        )
        with Progress().step("apply") as step:
            return apply_bundle(self.box.executor, bundle, self.secrets, step=step)

    def ask(self, action: str, **request: object) -> Any:
        return ask_directory(self.box.executor, {"action": action, **request})

    def users(self) -> dict[str, Any]:
        return {row["name"]: row for row in self.ask("list")["users"]}

    def groups(self) -> dict[str, list[str]]:
        return {row["name"]: row["members"] for row in self.ask("list")["groups"]}

    def python(self, script: str, *arguments: str) -> str:
        done = self.box.executor.run(("python3", "-", *arguments), stdin=script.encode())
        return done.text.strip()

    def bind(self, user: str, password: str) -> str:
        dn = f"uid={user},ou=people,{SUFFIX}" if user and "=" not in user else user
        return self.python(BIND, dn, password)


def make_authority(name: str, *networks: IPv4Network) -> certificates.Pair:
    """Make an authority that can sign servers of that name, and of addresses in these networks."""
    yesterday = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(days=1)
    wanted = WantedAuthority(title="authority", dns=(name,), networks=networks)
    return certificates.make_authority(wanted, yesterday)
