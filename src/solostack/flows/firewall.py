"""`firewall`: what every host lets in, refuses and rewrites; as planned, or as it is now."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from solostack.doors.process import Executor
from solostack.doors.progress import Progress
from solostack.errors import CommandError, ConnectError, HostError, UsageError
from solostack.flows.deployment import host_executors, site_state
from solostack.flows.facts import load_facts
from solostack.flows.parallel import run_together
from solostack.host.firewall import UNIT
from solostack.host.firewall_live import (
    QUESTION,
    ShownRule,
    in_order,
    parse_tables,
    planned_rule,
)
from solostack.host.firewall_rules import firewall_rules
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import LoadedSite


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostFirewall:
    """One host's rules, in the order of a packet's way.

    loaded None: nobody asked, these are the plan's. missing are rules of the plan that the host
    does not have, unknown those it has and the plan does not; both empty where there is no plan to
    compare with. advice is the next command where something is not as it should be, else "".
    """

    host: str
    loaded: bool | None
    rules: tuple[ShownRule, ...]
    missing: tuple[ShownRule, ...] = ()
    unknown: tuple[ShownRule, ...] = ()
    advice: str = ""


def planned_firewalls(
    loaded: LoadedSite, facts: Mapping[str, HostFacts] | None = None, *, only: str = ""
) -> tuple[HostFirewall, ...]:
    """Return the hosts' rules from the plan alone; no host is asked anything.

    Raises:
        UsageError: only is no host of the site.
        HostError: the hosts' facts are not kept yet.
    """
    names = _names(loaded, only)
    known = load_facts(site_state(loaded)) if facts is None else facts
    if any(host.name not in known for host in loaded.site.hosts):
        raise HostError(
            "the hosts' facts are not kept yet, so there is no plan",
            hint=f"ask them once: solostack plan -f {loaded.path}",
        )
    plan = build_plan(loaded.site, known)
    return tuple(
        HostFirewall(host=name, loaded=None, rules=in_order(_planned(plan, name))) for name in names
    )


def live_firewalls(
    loaded: LoadedSite, progress: Progress, *, only: str = ""
) -> tuple[HostFirewall, ...]:
    """Ask the hosts what they have loaded, side by side, and compare it with the plan.

    Raises:
        UsageError: only is no host of the site.
        ConnectError: a host cannot be reached.
        HostError: a host cannot tell.
    """
    names = _names(loaded, only)
    executors = host_executors(loaded)
    with progress.step("ask hosts"):
        answers = run_together([functools.partial(_ask, executors[name]) for name in names])
    plan = _known_plan(loaded)
    return tuple(
        _compare(loaded, name, tables, _planned(plan, name) if plan else ())
        for name, tables in zip(names, answers, strict=True)
    )


def _ask(executor: Executor) -> Mapping[str, tuple[ShownRule, ...]]:
    try:
        answer = executor.run(("sh", "-eu"), stdin=QUESTION.encode())
    except ConnectError:
        raise
    except CommandError as error:
        raise HostError(
            f"{executor.name}: its nftables rules cannot be read",
            hint="see that nftables is installed there and that you log in as root",
        ) from error
    return parse_tables(answer.text)


def _compare(
    loaded: LoadedSite,
    name: str,
    tables: Mapping[str, tuple[ShownRule, ...]],
    planned: Sequence[ShownRule],
) -> HostFirewall:
    rules = tuple(rule for table in tables.values() for rule in table)
    there = {rule.identity for rule in rules}
    wanted = {rule.identity for rule in planned}
    missing = tuple(rule for rule in planned if rule.identity not in there)
    unknown = tuple(rule for rule in rules if planned and rule.identity not in wanted)
    advice = ""
    if not rules:
        advice = f"on the host: systemctl restart {UNIT}; never set up: solostack up"
    elif missing or unknown:
        advice = f"solostack up -f {loaded.path}"
    return HostFirewall(
        host=name,
        loaded=bool(rules),
        rules=in_order(rules),
        missing=in_order(missing),
        unknown=in_order(unknown),
        advice=advice,
    )


def _planned(plan: Plan, name: str) -> tuple[ShownRule, ...]:
    return tuple(planned_rule(rule) for rule in firewall_rules(plan, plan.host(name)))


def _known_plan(loaded: LoadedSite) -> Plan | None:
    """Return the plan where all facts are kept and still fit; without it nothing is compared."""
    known = load_facts(site_state(loaded))
    try:
        return build_plan(loaded.site, known)
    except HostError:
        return None


def _names(loaded: LoadedSite, only: str) -> tuple[str, ...]:
    names = tuple(host.name for host in loaded.site.hosts)
    if not only:
        return names
    if only not in names:
        raise UsageError(f"the site has no host called {only}", hint=f"one of: {', '.join(names)}")
    return (only,)
