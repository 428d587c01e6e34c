"""A host's rules as one file of nftables. Pure.

Each table of ours is emptied, deleted and made again in one transaction (nft(8), "-f"): packets
meet the old rules or the new ones, never none, and nobody else's table is named.
"""

from __future__ import annotations

from collections.abc import Iterator

from solostack.host.firewall_model import Chain, Rule
from solostack.host.firewall_rules import firewall_rules
from solostack.plan.model import HostPlan, Plan

TABLE = "solostack"
FAMILIES = ("inet", "arp", "bridge")
OWNED = "owned"
"""The set, in family arp, of addresses the host may use on the wire."""


def rules_text(plan: Plan, host: HostPlan) -> str:
    """Render every table of ours; one that this host has no rules for is removed."""
    rules = firewall_rules(plan, host)
    return "".join(
        f"{removal(family)}\n{''.join(_table(family, rules, host))}" for family in FAMILIES
    )


def removal(family: str) -> str:
    """Return the statement that removes a table of ours, also where there is none."""
    # "destroy" would say it in a word, but nftables 1.0.6 does not know it yet.
    return f"table {family} {TABLE} {{}}; delete table {family} {TABLE};"


def _table(family: str, rules: tuple[Rule, ...], host: HostPlan) -> Iterator[str]:
    chains = tuple(dict.fromkeys(rule.chain for rule in rules if rule.chain.family == family))
    if not chains:
        return
    yield f"table {family} {TABLE} {{\n"
    if family == "arp":
        yield (
            f"    set {OWNED} {{\n        type ipv4_addr\n"
            f"        elements = {{ {host.address} }}\n    }}\n"
        )
    for chain in chains:
        yield from _chain(chain, rules)
    yield "}\n"


def _chain(chain: Chain, rules: tuple[Rule, ...]) -> Iterator[str]:
    yield f"    chain {chain.name} {{\n        {chain.hook}; policy accept;\n"
    yield from (f"        {_rule(rule)}\n" for rule in rules if rule.chain == chain)
    yield "    }\n"


def _rule(rule: Rule) -> str:
    return f'{rule.match} counter {rule.verdict} comment "{rule.comment}"'
