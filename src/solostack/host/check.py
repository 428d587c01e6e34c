"""Whether a physical host is fit for a site: every rule, on one observation. Pure, changes nothing.

Each rule yields what it found, good things too, so that a reader sees what was looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from solostack.errors import HostError
from solostack.host import (
    check_directory,
    check_exposure,
    check_firewall,
    check_machine,
    check_method,
    check_network,
    check_storage,
    check_system,
    check_traces,
)
from solostack.host.check_model import Finding, Look, Severity, Subject
from solostack.host.probe_observation import HostObservation
from solostack.plan.model import Plan
from solostack.site.model import Site

Rule = Callable[[Look], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    check_system.hosts_rule,
    check_system.root_rule,
    check_system.debian_rule,
    check_machine.architecture_rule,
    check_machine.virtualization_rule,
    check_system.systemd_rule,
    check_system.python_rule,
    check_system.hostname_rule,
    check_machine.cpu_rule,
    check_machine.kvm_rule,
    check_machine.memory_rule,
    check_machine.disk_rule,
    check_machine.cache_rule,
    check_machine.kernel_rule,
    check_storage.initiator_rule,
    check_network.nic_rule,
    check_network.gateway_rule,
    check_network.block_rule,
    check_method.method_rule,
    check_method.bridge_rule,
    check_network.prefix_rule,
    check_network.names_rule,
    check_network.ports_rule,
    check_network.network_manager_rule,
    check_exposure.ssh_rule,
    check_exposure.open_ports_rule,
    check_exposure.networks_rule,
    check_firewall.firewall_rule,
    check_firewall.bridge_netfilter_rule,
    check_firewall.sysctl_rule,
    check_traces.libvirt_rule,
    check_traces.other_cloud_rule,
    check_traces.deployment_rule,
    check_system.packages_rule,
    check_system.dpkg_rule,
    check_system.dns_rule,
    check_system.time_rule,
    check_directory.directory_rule,
    check_system.security_module_rule,
)

__all__ = [
    "RULES",
    "Finding",
    "Severity",
    "Subject",
    "findings",
    "findings_json",
    "require_fit",
    "worst",
]


def findings(site: Site, plan: Plan | None, observation: HostObservation) -> tuple[Finding, ...]:
    """Judge one host of the site, the one whose name the observation has.

    plan, where there is one, tells addresses that the site leaves open; rules work without.

    Raises:
        HostError: the site has no host of that name.
    """
    host = next((host for host in site.hosts if host.name == observation.name), None)
    if host is None:
        known = ", ".join(host.name for host in site.hosts)
        raise HostError(
            f"the site has no host {observation.name}", hint=f"check one of its hosts: {known}"
        )
    look = Look(site=site, host=host, plan=plan, seen=observation)
    return tuple(finding for rule in RULES for finding in rule(look))


def worst(found: Iterable[Finding]) -> Severity:
    """Return the gravest severity; OK for nothing found."""
    order = list(Severity)
    return max((finding.severity for finding in found), key=order.index, default=Severity.OK)


def require_fit(host: str, found: Sequence[Finding]) -> None:
    """Raise HostError when an error is among the findings about the host called so."""
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    if not errors:
        return
    raise HostError(
        f"{host} is not fit for this site: {errors[0].what}",
        details=[f"{item.subject}: {item.what}: {item.why}. To do: {item.todo}" for item in errors],
        hint=errors[0].todo,
    )


def findings_json(host: str, found: Sequence[Finding]) -> dict[str, object]:
    """Return the findings about the host called so as a value for JSON; keys as in Finding."""
    counts = {
        str(severity): sum(finding.severity is severity for finding in found)
        for severity in Severity
    }
    return {
        "host": host,
        "worst": str(worst(found)),
        "counts": counts,
        "findings": [
            {key: str(value) for key, value in dataclasses.asdict(finding).items()}
            for finding in found
        ],
    }
