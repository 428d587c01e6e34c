"""Rules about the operating system: Debian, packages, time, names, what is on guard. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping

from solostack.host.check_model import Finding, Look, Subject, error, info, ok, warning
from solostack.host.probe_observation import System
from solostack.host.probe_parse import NEEDED_PACKAGES
from solostack.plan.build import home_of
from solostack.site.model import Role
from solostack.site.releases import RELEASES

LEAST_PYTHON = (3, 11)
NOVA_VERSIONS: Mapping[str, int] = {"2025.1": 31}
"""Nova's major version in each OpenStack release (releases.openstack.org)."""

_EPOCH_AND_MAJOR = re.compile(r"^(?:\d+:)?(\d+)\.")


def hosts_rule(look: Look) -> Iterator[Finding]:
    """One host for now: nothing carries the data network from one host to another yet."""
    home = home_of(look.site, Role.CONTROLLER)
    if look.host is home:
        yield ok(Subject.HOSTS, f"{home.name} is the home of the controller")
        return
    yield error(
        Subject.HOSTS,
        f"{look.host.name} cannot join the cloud on {home.name} yet",
        why="nothing joins the hosts' data networks: this host would never reach the controller, "
        "and up would fail only after a long time",
        todo=f"keep one host in the site for now: take {look.host.name} out of hosts",
    )


def debian_rule(look: Look) -> Iterator[Finding]:
    """Hosts run the Debian that has the site's OpenStack release."""
    system = look.seen.system
    wanted = RELEASES[look.site.release].debian_version
    suite = RELEASES[look.site.release].debian_suite
    if system.os_id == "debian" and system.os_version == wanted:
        yield ok(Subject.DEBIAN, system.os_text)
        return
    why = f"OpenStack {look.site.release} is in Debian {wanted} ({suite})"
    todo = f"install Debian {wanted} on the host"
    if system.os_id != "debian":
        yield error(Subject.DEBIAN, f"the system is {system.os_text}", why=why, todo=todo)
    elif 0 < system.os_version < wanted:
        todo = f"upgrade the host to Debian {wanted} ({suite}), release by release"
        yield error(Subject.DEBIAN, f"the system is {system.os_text}", why=why, todo=todo)
    else:
        why += "; newer packages may want other settings"
        yield warning(Subject.DEBIAN, f"the system is {system.os_text}", why=why, todo=todo)


def systemd_rule(look: Look) -> Iterator[Finding]:
    """Everything of ours on the host is a unit."""
    if look.seen.system.systemd:
        yield ok(Subject.SYSTEMD, "systemd runs the host")
    else:
        yield error(
            Subject.SYSTEMD,
            "the host is not run by systemd",
            why="networks, control nodes and nova-compute are systemd units",
            todo="install systemd-sysv and reboot the host",
        )


def python_rule(look: Look) -> Iterator[Finding]:
    """The apply script runs with the host's Python."""
    version = ".".join(str(part) for part in look.seen.system.python)
    if look.seen.system.python >= LEAST_PYTHON:
        yield ok(Subject.PYTHON, f"python3 is {version}")
    else:
        least = ".".join(str(part) for part in LEAST_PYTHON)
        yield error(
            Subject.PYTHON,
            f"python3 is {version}",
            why=f"what changes the host is a script for Python {least} or newer",
            todo="install Debian 13's python3, and have no other python3 in /usr/local/bin",
        )


def root_rule(look: Look) -> Iterator[Finding]:
    """Only root may change networks and start machines."""
    if look.seen.system.is_root:
        yield ok(Subject.ROOT, "logged in as root")
    else:
        yield error(
            Subject.ROOT,
            "not logged in as root",
            why="networks, packages and machines are root's to change; much was not seen either",
            todo="run solostack as root, or set ssh.user: root for the host",
        )


def hostname_rule(look: Look) -> Iterator[Finding]:
    """Nova and OVN compare host names; ours are set, others' tools see the host's own."""
    system = look.seen.system
    name = look.host.name
    if system.hostname == name:
        yield ok(Subject.HOSTNAME, name)
    elif system.hostname.split(".")[0] == name:
        yield info(
            Subject.HOSTNAME,
            f"the host's name is {system.hostname}, the site's {name}",
            why="Nova and OVN are told the site's name, so they agree; only logs show the other",
        )
    elif system.hostname in {"localhost", "localhost.localdomain", "debian", "(none)"}:
        yield warning(
            Subject.HOSTNAME,
            f"the host has no name of its own ({system.hostname})",
            why="libvirt's migration asks a host for its name and must not get this one",
            todo=f"hostnamectl set-hostname {name}",
        )
    else:
        yield info(
            Subject.HOSTNAME,
            f"the host is called {system.hostname} (in full {system.fqdn}), in the site {name}",
            why="Nova and OVN are told the site's name, which cannot change later",
            todo=f"to have one name: hostnamectl set-hostname {name}, or name it so in the site",
        )


def dns_rule(look: Look) -> Iterator[Finding]:
    """Packages are fetched by name."""
    servers = look.seen.system.name_servers
    if not servers:
        yield warning(
            Subject.DNS,
            "no name server in /etc/resolv.conf",
            why="packages and images are fetched by name",
            todo="name one there, or in the network's configuration that writes it",
        )
        return
    yield ok(Subject.DNS, f"name servers {', '.join(servers)}")
    if look.site.egress and all(_is_loopback(server) for server in servers):
        yield info(
            Subject.DNS,
            f"the host's name server is on the host alone ({', '.join(servers)})",
            why="control nodes and instances cannot ask it",
            todo="set demo.dns in the site to servers that instances can reach",
        )


def time_rule(look: Look) -> Iterator[Finding]:
    """Tokens, certificates and the database need one time on all machines."""
    synchronized = look.seen.system.time_synchronized
    if synchronized:
        yield ok(Subject.TIME, "the clock is synchronized")
    elif synchronized is None or look.seen.machine.is_container:
        yield info(
            Subject.TIME,
            "cannot tell whether the clock is synchronized",
            why="tokens and certificates need the same time on all machines",
        )
    else:
        yield warning(
            Subject.TIME,
            "the clock is not synchronized",
            why="tokens and certificates need the same time on all machines",
            todo="apt install systemd-timesyncd && timedatectl set-ntp true",
        )


def packages_rule(look: Look) -> Iterator[Finding]:
    """What is needed is there or can be installed, in the right release."""
    system = look.seen.system
    there = [name for name in NEEDED_PACKAGES if name in system.installed]
    missing = [
        name
        for name in NEEDED_PACKAGES
        if name not in system.installed and not system.candidates.get(name)
    ]
    if missing and not system.suites:
        yield info(
            Subject.PACKAGES,
            "apt has no package lists yet",
            why="whether it has a source for all that the host needs shows when they are read",
            todo="nothing: up reads them; to see it now: apt update, and check again",
        )
    elif missing:
        yield error(
            Subject.PACKAGES,
            f"apt has no source for {', '.join(missing)}",
            why="the host needs them, and OpenStack comes from Debian's own packages",
            todo="apt update; if they are missing still, see that /etc/apt/sources.list.d has "
            f"Debian's {RELEASES[look.site.release].debian_suite} main",
        )
    else:
        lacking = len(NEEDED_PACKAGES) - len(there)
        rest = f", apt has the other {lacking}" if lacking else ""
        yield ok(Subject.PACKAGES, f"{len(there)} of the needed packages are there{rest}")
    yield from _nova_finding(look)
    suite = f"{RELEASES[look.site.release].debian_suite}-security"
    if system.suites and suite not in system.suites:
        yield warning(
            Subject.PACKAGES,
            f"apt does not know {suite}",
            why="OpenStack's packages get security fixes there every few weeks",
            todo=f"add Debian's {suite} to /etc/apt/sources.list.d, then: apt update",
        )


def _nova_finding(look: Look) -> Iterator[Finding]:
    system = look.seen.system
    version = system.installed.get("nova-compute") or system.candidates.get("nova-compute", "")
    major = _EPOCH_AND_MAJOR.match(version)
    wanted = NOVA_VERSIONS.get(look.site.release)
    if major is not None and wanted is not None and int(major[1]) != wanted:
        yield error(
            Subject.PACKAGES,
            f"nova-compute would be {version}",
            why=f"OpenStack {look.site.release} has Nova {wanted}; control nodes and compute "
            "hosts must be of one release",
            todo="use Debian's own packages of that release and no other OpenStack repository",
        )


def dpkg_rule(look: Look) -> Iterator[Finding]:
    """An interrupted installation stops the next one."""
    system = look.seen.system
    if system.dpkg_problem:
        yield error(
            Subject.DPKG,
            f"dpkg has unfinished work: {system.dpkg_problem.splitlines()[0]}",
            why="nothing can be installed before that is done",
            todo="dpkg --configure -a && apt -f install",
        )
    else:
        yield ok(Subject.DPKG, "no unfinished installation")
    if system.reboot_required:
        yield info(
            Subject.DPKG,
            "an upgrade waits for a reboot",
            why="a reboot later takes the cloud down for some minutes",
            todo="reboot the host before building the cloud",
        )


def security_module_rule(look: Look) -> Iterator[Finding]:
    """Debian's libvirt comes with AppArmor profiles; nothing of Debian's has SELinux rules."""
    if look.seen.system.selinux_enforcing:
        yield warning(
            Subject.SECURITY_MODULE,
            "SELinux is enforcing",
            why="Debian's OpenStack and libvirt packages bring no rules for it",
            todo="setenforce 0, and SELINUX=permissive in /etc/selinux/config",
        )
    else:
        yield ok(Subject.SECURITY_MODULE, _on_guard(look.seen.system))


def _on_guard(system: System) -> str:
    return "AppArmor is on" if system.apparmor else "neither AppArmor nor SELinux is on"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.split("%")[0]).is_loopback
    except ValueError:
        return False
