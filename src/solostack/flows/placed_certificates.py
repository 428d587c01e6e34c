"""Which certificates `up` put in place last: what is made since then, clients do not get yet.

Owns one file of the state. A certificate is made before it is anywhere: by `certificates renew`, by
the survey of an `up` that nobody agreed to, by the operator who puts other files into its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from solostack.engine import certificates as x509
from solostack.engine.certificates import CertificateError, Facts
from solostack.errors import StateError
from solostack.flows.state import State

PLACED = "tls/placed.json"


def keep_placed(state: State, certificates: Mapping[str, str]) -> None:
    """Remember that these certificates (PEM, by name), and no others, are in place."""
    if (state.read_json(PLACED) or {}) != certificates:
        state.write_json(PLACED, dict(certificates))


def placed_certificates(state: State) -> Mapping[str, Facts]:
    """Return what is in place, by name; {} before the first `up` ended. StateError when damaged."""
    value = state.read_json(PLACED)
    if value is None:
        return {}
    try:
        if not isinstance(value, dict):
            raise CertificateError("not a JSON object")
        return {
            str(name): x509.facts_of(x509.load_certificate(str(pem))) for name, pem in value.items()
        }
    except CertificateError as error:
        path = state.directory / PLACED
        raise StateError(
            f"cannot use {path}: {error}", hint=f"have it written anew: rm {path}; solostack up"
        ) from error
