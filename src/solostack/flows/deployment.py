"""A deployment: the site, its plan and state, and how to reach its hosts and nodes.

The one place that puts executors together, so that every flow works alike on this very host and on
hosts behind SSH.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from solostack.cloud.credentials import SECRET_NAMES
from solostack.doors.process import Executor, LocalExecutor
from solostack.doors.ssh import SshExecutor, SshTarget
from solostack.engine.operations import Bundle
from solostack.engine.secrets import SecretStore
from solostack.flows.ceph_files import read_ceph_files
from solostack.flows.certificates import authority_file, certificate_secrets
from solostack.flows.directory_files import external_secrets
from solostack.flows.state import State, state_home
from solostack.host.bundle import base_bundle, compute_bundle
from solostack.images.recipes import Recipe, node_recipe
from solostack.machines.domain import node_directory
from solostack.openstack import roles
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, HostPlan, NodePlan, Plan
from solostack.seed.identity import Identity
from solostack.seed.seeding import Seed
from solostack.site.loader import LoadedSite
from solostack.site.model import Host, Role
from solostack.site.releases import RELEASES

# On the host, of user root: the same folder that `solostack bake` fills on a machine of its own.
HOST_CACHE = "/root/.cache/solostack"
NODE_KNOWN_HOSTS = "known_hosts"
# A VM that is emulated and starts its services may take long until its sshd says a word.
NODE_CONNECT_TIMEOUT_S = 60


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Site, state and plan together; plan is None until the hosts' facts are known."""

    loaded: LoadedSite
    state: State
    executors: Mapping[str, Executor]
    plan: Plan

    def host(self, name: str) -> Executor:
        """Return the executor on a physical host."""
        return self.executors[name]

    def node(self, node: NodePlan) -> Executor:
        """Return the executor inside a running control node (SSH over the data network)."""
        return SshExecutor(self.node_target(node))

    def node_target(self, node: NodePlan) -> SshTarget:
        """Return how a control node is reached; through its host when that is not this machine."""
        site_host = site_hosts(self.loaded)[node.host]
        key, _, _ = self.state.key_pair("nodes")
        return SshTarget(
            name=node.name,
            address=str(node.data_address),
            key=key,
            known_hosts=self.state.directory / NODE_KNOWN_HOSTS,
            jump=None if site_host.local else host_target(self.loaded, site_host),
            connect_timeout_s=NODE_CONNECT_TIMEOUT_S,
        )

    def secrets(self) -> Mapping[str, str]:
        """Return the deployment's secrets, made once, its certificates, renewed in time, and more.

        That is what files of the site say of an external directory. Raises StateError, and
        SiteError for an operator's file that cannot be used.
        """
        names = (*roles.secret_names(self.plan), *SECRET_NAMES)
        certificates = certificate_secrets(self.loaded, self.state, self.plan)
        made = SecretStore(self.state.directory).ensure(names)
        of_files = {**read_ceph_files(self.loaded), **external_secrets(self.loaded)}
        return {**made, **certificates, **of_files}

    def authority_file(self) -> Path | None:
        """Return the file of the front door's authority, None where clients need none."""
        return authority_file(self.loaded, self.state, self.plan)

    def identity(self, node: NodePlan) -> Identity:
        """Return a node's identity; its host key is made once, on this machine."""
        _, private, public = self.state.key_pair(f"host-{node.name}")
        _, _, authorized = self.state.key_pair("nodes")
        return Identity(
            hostname=node.name,
            machine_id=node.machine_id,
            host_key=private,
            host_key_public=public,
            authorized_key=authorized,
        )

    def write_known_hosts(self) -> None:
        """Write the nodes' host keys, so that SSH never asks."""
        lines = []
        for node in self.plan.nodes:
            _, _, public = self.state.key_pair(f"host-{node.name}")
            lines.append(f"{node.data_address} {' '.join(public.split()[:2])}\n")
        self.state.write_text(NODE_KNOWN_HOSTS, "".join(lines))

    def node_bundle(self, node: NodePlan, *, seeding: bool = False) -> Bundle:
        """Return a node's whole desired state; a seed need not start what it shuts down again."""
        _, _, authorized = self.state.key_pair("nodes")
        return roles.node_bundle(
            self.plan, node, authorized_key=authorized.strip(), start_services=not seeding
        )

    def base_bundle(self, host: HostPlan) -> Bundle:
        """Return a host's desired state before its nodes start."""
        return base_bundle(self.plan, host, roles.COMPUTE_PACKAGES)

    def compute_bundle(self, host: HostPlan) -> Bundle:
        """Return a host's desired state as a compute host."""
        return compute_bundle(host, roles.compute_operations(self.plan, host))

    def recipe(self, node: NodePlan) -> Recipe:
        """Return the recipe of a node's tree."""
        return role_recipe(node.role, self.plan.release)

    def seed(self, node: NodePlan, tree: str) -> Seed:
        """Return a node's seed."""
        nic = node.interfaces[0]
        return Seed(
            node=node.name,
            directory=node_directory(node.name),
            tree=tree,
            nic=nic.name,
            mac=nic.mac,
            address=str(nic.address),
        )


def role_recipe(role: Role, release: str) -> Recipe:
    """Return the recipe of a role's tree."""
    suite = RELEASES[release].debian_suite
    return node_recipe(str(role), suite, roles.role_packages(role), roles.role_units(role))


def site_hosts(loaded: LoadedSite) -> dict[str, Host]:
    """Return the site's hosts by name."""
    return {host.name: host for host in loaded.site.hosts}


def host_target(loaded: LoadedSite, host: Host) -> SshTarget:
    """Return how a host is reached over SSH; files are relative to the site file's folder."""

    def path(text: str | None) -> Path | None:
        return loaded.path.parent.resolve() / Path(text).expanduser() if text else None

    return SshTarget(
        name=host.name,
        address=str(host.address),
        user=host.ssh.user,
        port=host.ssh.port,
        key=path(host.ssh.key),
        known_hosts=path(host.ssh.known_hosts),
    )


def host_executors(loaded: LoadedSite) -> dict[str, Executor]:
    """Return an executor for each of the site's hosts."""
    return {
        host.name: LocalExecutor(host.name)
        if host.local
        else SshExecutor(host_target(loaded, host))
        for host in loaded.site.hosts
    }


def site_state(loaded: LoadedSite, home: Path | None = None) -> State:
    """Return the state of a site's deployment."""
    return State((home or state_home()) / "sites" / loaded.site.name)


def make_deployment(loaded: LoadedSite, state: State, facts: Mapping[str, HostFacts]) -> Deployment:
    """Plan a site. Raises SiteError or HostError when it cannot be."""
    plan = build_plan(loaded.site, facts)
    return Deployment(loaded=loaded, state=state, executors=host_executors(loaded), plan=plan)
