"""`addresses`: the use of every address, who holds it now, and what was proven of it.

The use comes from the site alone; holders are asked of the cloud and of the machines; proofs are
made by flows.prove_addresses and kept in the state.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from solostack.cloud.address_proof import Holder, Proof, build_holder, merge_proofs
from solostack.cloud.client import Caller, call
from solostack.cloud.credentials import SECRET_NAMES, build_access
from solostack.cloud.desired import EXTERNAL_NETWORK
from solostack.doors.process import Executor
from solostack.doors.progress import Progress, Step
from solostack.engine.secrets import SecretStore
from solostack.errors import ConnectError, SolostackError, StateError, VerifyError
from solostack.flows.applied import APPLIED_PLAN
from solostack.flows.deployment import (
    Deployment,
    host_executors,
    make_deployment,
    site_state,
)
from solostack.flows.facts import known_facts
from solostack.flows.parallel import run_together
from solostack.flows.state import State
from solostack.plan.addresses import address_rows
from solostack.plan.build import home_of
from solostack.plan.model import AddressRow
from solostack.plan.serial import from_json, to_data
from solostack.site.loader import LoadedSite
from solostack.site.model import ExternalMethod, Role, Site

PROOFS = "addresses.json"
ASK_TIMEOUT_S = 30.0
NOBODY = "nobody"
_ADDRESSES = ("ip", "-4", "-json", "address", "show")
IPv4Address = ipaddress.IPv4Address


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One address. held_by is None where nobody was asked; proof None where it was never tried."""

    row: AddressRow
    held_by: str | None = None
    proof: Proof | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The proofs as they are in the state. They are worth nothing after a change of method."""

    method: ExternalMethod
    proofs: tuple[Proof, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Who holds what: the cloud's holders, and machines by the addresses they really have."""

    holders: tuple[Holder, ...]
    machines: Mapping[IPv4Address, str]


def known_addresses(loaded: LoadedSite, live: Live | None = None) -> tuple[Known, ...]:
    """Return every address of a site with what is known of it; asks nobody."""
    rows = address_rows(loaded.site, home_of(loaded.site, Role.NETWORK))
    return build_known(rows, load_proofs(site_state(loaded), loaded.site), live)


def build_known(
    rows: Sequence[AddressRow], proofs: Iterable[Proof], live: Live | None
) -> tuple[Known, ...]:
    """Put rows, proofs and holders together; routers' addresses get rows of their own. Pure."""
    by_address = {proof.address: proof for proof in proofs}
    seen = {row.address for row in rows}
    more = [
        AddressRow(
            address=holder.address,
            network="transit",
            use="router gateway",
            usable=False,
            why="a router has it; traffic of instances without floating IP leaves from it",
        )
        for holder in sorted(live.holders if live else (), key=lambda one: one.address)
        if holder.kind == "router" and holder.address not in seen
    ]
    last = max((n for n, row in enumerate(rows) if row.network == "transit"), default=-1) + 1
    return tuple(
        Known(
            row=row,
            held_by=None if live is None else held_by(row, live),
            proof=by_address.get(row.address) if row.usable else None,
        )
        for row in (*rows[:last], *more, *rows[last:])
    )


def held_by(row: AddressRow, live: Live) -> str:
    """Return who holds an address now, in words."""
    holder = next((one for one in live.holders if one.address == row.address), None)
    if holder is not None:
        return holder.text
    return live.machines.get(row.address, NOBODY)


def ask_live(loaded: LoadedSite, progress: Progress) -> Live:
    """Ask the cloud and all machines who holds what. StateError or ConnectError without a cloud."""
    deployment = open_deployment(loaded)
    with progress.step("ask the cloud") as step:
        return read_live(deployment, step)


def open_deployment(loaded: LoadedSite) -> Deployment:
    """Return the deployment of a cloud that is there; StateError when none was made from here."""
    state = site_state(loaded)
    if state.read_json(APPLIED_PLAN) is None:
        raise StateError(
            f"{loaded.site.name}: no cloud was made from this machine, so nobody can be asked",
            details=(f"there is no {APPLIED_PLAN} in {state.directory}",),
            hint=f"make it: solostack up -f {loaded.path}; or leave --live and --prove away",
        )
    return make_deployment(loaded, state, known_facts(state, loaded, host_executors(loaded)))


def read_live(deployment: Deployment, step: Step) -> Live:
    """Ask the cloud's API for holders, and every host and node for its own addresses."""
    # The controller first: where it does not answer, no other machine is waited for.
    holders = ask_holders(address_caller(deployment), step)
    executors: dict[str, Executor] = dict(deployment.executors)
    executors |= {node.name: deployment.node(node) for node in deployment.plan.nodes}
    works: list[Callable[[], Mapping[IPv4Address, str]]] = [
        functools.partial(_machine, name, executor) for name, executor in executors.items()
    ]
    machines: dict[IPv4Address, str] = {}
    for found in run_together(works):
        machines |= found
    return Live(holders=holders, machines=machines)


def address_caller(deployment: Deployment) -> Caller:
    """Return how the cloud agent is called for addresses."""
    secrets = SecretStore(deployment.state.directory).ensure(SECRET_NAMES)
    return Caller(
        executor=deployment.node(deployment.plan.node(Role.CONTROLLER)),
        access=build_access(deployment.plan, secrets),
        failure=VerifyError,
    )


def ask_holders(caller: Caller, step: Step) -> tuple[Holder, ...]:
    """Ask the cloud who holds floating IPs and gateway addresses."""
    request = {"external_network": EXTERNAL_NETWORK}
    try:
        answer = call(caller, "address_holders", request, step=step, timeout_s=ASK_TIMEOUT_S)
    except ConnectError as error:
        raise ConnectError(
            "the cloud cannot be asked who holds its addresses: the controller does not answer",
            details=(error.message, *error.details),
            hint="solostack status says what is wrong; without --live the plan is shown",
        ) from error
    return tuple(build_holder(row) for row in answer["holders"])


def _machine(name: str, executor: Executor) -> Mapping[IPv4Address, str]:
    try:
        done = executor.run(_ADDRESSES, timeout_s=ASK_TIMEOUT_S)
    except SolostackError:
        return {}
    return parse_machine(name, done.text)


def parse_machine(name: str, text: str) -> Mapping[IPv4Address, str]:
    """Read the answer of ``ip -4 -json address show``: address to "NAME (INTERFACE)"."""
    return {
        IPv4Address(entry["local"]): f"{name} ({link['ifname']})"
        for link in json.loads(text or "[]")
        for entry in link.get("addr_info", ())
        if link["ifname"] != "lo"
    }


def load_proofs(state: State, site: Site) -> tuple[Proof, ...]:
    """Return the proofs kept in the state; none of another method."""
    value = state.read_json(PROOFS)
    if value is None:
        return ()
    kept = from_json(Kept, json.dumps(value))
    return kept.proofs if kept.method is site.external.method else ()


def keep_proofs(state: State, site: Site, proofs: Iterable[Proof]) -> None:
    """Keep new proofs beside the older ones of other addresses."""
    merged = merge_proofs(load_proofs(state, site), proofs)
    state.write_json(PROOFS, to_data(Kept(method=site.external.method, proofs=merged)))
