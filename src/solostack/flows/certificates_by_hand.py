"""What an operator asks of certificates: to see them, to have the authority's, to renew some."""

from __future__ import annotations

from collections.abc import Sequence

from solostack.errors import ConfigureError, HostError, UsageError
from solostack.flows.certificates import (
    AUTHORITY,
    Certificate,
    CertificateStore,
    authority_file,
    list_certificates,
)
from solostack.flows.deployment import site_state
from solostack.flows.facts import load_facts
from solostack.flows.state import State
from solostack.plan.build import build_plan
from solostack.plan.certificates import FRONT_DOOR, wanted_certificates
from solostack.plan.model import Plan
from solostack.site.loader import LoadedSite


def certificates_of(loaded: LoadedSite) -> tuple[Certificate, ...]:
    """Return the deployment's certificates. HostError when the hosts' facts are not kept yet."""
    state, plan = _open(loaded)
    return list_certificates(loaded, state, plan)


def authority_of(loaded: LoadedSite) -> str:
    """Return, as PEM, the authority that clients of the front door must know.

    Raises:
        HostError: the hosts' facts are not kept yet.
        ConfigureError: there is nothing that clients must know.
    """
    state, plan = _open(loaded)
    path = authority_file(loaded, state, plan)
    if path is not None:
        return path.read_text()
    if plan.front_door is not None and not plan.front_door.own_certificate:
        raise ConfigureError(
            f"{plan.site}: its certificates are not made yet", hint=f"solostack up -f {loaded.path}"
        )
    why = "the operator's certificate is from an authority that systems know"
    raise ConfigureError(
        f"{plan.site}: clients need no certificate of ours",
        details=(why if plan.front_door else "the site has no front_door",),
    )


def renew(loaded: LoadedSite, names: Sequence[str]) -> tuple[Certificate, ...]:
    """Make certificates anew, all servers' without names; return all. `up` puts them in place.

    The authority, by its name, gets a new key, and with it every certificate.

    Raises:
        UsageError: a name is no certificate of this site that solostack makes.
        HostError: the hosts' facts are not kept yet.
        StateError: another solostack works on this deployment.
    """
    state, plan = _open(loaded)
    own = plan.front_door is not None and plan.front_door.own_certificate
    servers = [
        each.name for each in wanted_certificates(plan) if not (own and each.name == FRONT_DOOR)
    ]
    known = (AUTHORITY, *servers) if wanted_certificates(plan) else ()
    for name in names:
        if name not in known:
            what = "is the operator's own" if own and name == FRONT_DOOR else "is none of them"
            raise UsageError(
                f"solostack makes {', '.join(known) or 'no certificate'} here; {name} {what}",
                hint="see them: solostack certificates list",
            )
    store = CertificateStore(state, plan)
    with state.locked():
        store.renew(names or servers)
        store.ensure(but=(FRONT_DOOR,) if own else ())
    return list_certificates(loaded, state, plan)


def _open(loaded: LoadedSite) -> tuple[State, Plan]:
    state = site_state(loaded)
    facts = load_facts(state)
    if any(host.name not in facts for host in loaded.site.hosts):
        raise HostError(
            "the hosts' facts are not kept yet, so there is no plan",
            hint=f"ask them once: solostack plan -f {loaded.path}",
        )
    return state, build_plan(loaded.site, facts)
