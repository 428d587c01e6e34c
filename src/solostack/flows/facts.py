"""The hosts' facts: read once, kept in the state, so that a plan does not move by itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from solostack.doors.process import Executor
from solostack.errors import StateError
from solostack.flows.parallel import run_together
from solostack.flows.state import State
from solostack.host.facts import read_facts
from solostack.host.kvm import Verdict, probe_kvm
from solostack.plan.model import HostFacts
from solostack.site.loader import LoadedSite

FACTS = "facts.json"


def known_facts(
    state: State, loaded: LoadedSite, executors: Mapping[str, Executor]
) -> dict[str, HostFacts]:
    """Return every host's facts; those not kept yet are read and kept.

    ConnectError when a host that is not known yet cannot be reached.
    """
    kept = load_facts(state)
    names = [host.name for host in loaded.site.hosts]
    missing = [name for name in names if name not in kept]
    if missing:
        read = run_together(
            [functools.partial(read_facts, executors[name], name=name) for name in missing]
        )
        kept.update({facts.name: facts for facts in read})
        save_facts(state, kept)
    return {name: kept[name] for name in names}


def prove_facts(state: State, executors: Mapping[str, Executor]) -> tuple[str, ...]:
    """Boot a guest where KVM was only guessed, now that QEMU is there; return wrong guesses.

    The facts are kept corrected, so the next plan is right. Those kept of hosts that the site does
    not have any more stay as they are.
    """
    kept = load_facts(state)
    wrong = []
    for name, facts in kept.items():
        if facts.kvm_proven or name not in executors:
            continue
        real = probe_kvm(executors[name]).verdict is Verdict.YES
        kept[name] = dataclasses.replace(facts, kvm=real, kvm_proven=True)
        if real is not facts.kvm:
            wrong.append(name)
    save_facts(state, kept)
    return tuple(wrong)


def load_facts(state: State) -> dict[str, HostFacts]:
    """Return the facts kept in a state directory."""
    value = state.read_json(FACTS)
    if value is None:
        return {}
    try:
        return {name: HostFacts(**fields) for name, fields in dict(value).items()}  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        path = state.directory / FACTS
        raise StateError(
            f"{path} does not hold host facts", hint=f"remove it: rm {path}"
        ) from error


def save_facts(state: State, facts: Mapping[str, HostFacts]) -> None:
    """Keep hosts' facts."""
    state.create()
    state.write_json(FACTS, {name: dataclasses.asdict(value) for name, value in facts.items()})
