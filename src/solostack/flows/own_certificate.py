"""The operator's own certificate for the front door: read and judged before anything is changed."""

from __future__ import annotations

import dataclasses
import itertools
import stat
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509 as library

from solostack.engine import certificates as x509
from solostack.engine.certificates import CertificateError, Facts
from solostack.plan.model import Plan
from solostack.site.loader import LoadedSite, site_error
from solostack.site.problems import Problem
from solostack.site.services import OwnCertificate

CERTIFICATE = ("front_door", "certificate", "certificate")
KEY = ("front_door", "certificate", "key")
MAX_BYTES = 256 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnChain:
    """The operator's certificate. text is what HAProxy reads: certificate, chain, key.

    trust is the certificate at the chain's end where that signed itself: what clients must know.
    "" where the chain ends below an authority that systems know by themselves.
    """

    text: str = dataclasses.field(repr=False)
    facts: Facts
    trust: str


class _UnreadableError(Exception):
    """A file cannot be used; its text says why."""


def load_own_certificate(loaded: LoadedSite, plan: Plan) -> OwnChain | None:
    """Read the operator's certificate; None where the site's own CA makes one.

    What has expired is not refused here, or nothing else could be changed any more: the findings
    say it. Raises SiteError with all that is wrong otherwise, by file and line.
    """
    door = loaded.site.front_door
    if door is None or door.certificate is None:
        return None
    problems: list[Problem] = []
    chain = _certificates(loaded, door.certificate, problems)
    key = _key(loaded, door.certificate, problems)
    if chain and key:
        problems += [*_pair_problems(chain[0], key), *_chain_problems(chain)]
        problems += _name_problems(x509.facts_of(chain[0]), plan)
    if problems:
        raise site_error(loaded, problems)
    return OwnChain(
        text="".join(map(x509.pem_of, chain)) + key,
        facts=x509.facts_of(chain[0]),
        trust=x509.pem_of(chain[-1]) if x509.facts_of(chain[-1]).self_signed else "",
    )


def _certificates(
    loaded: LoadedSite, own: OwnCertificate, problems: list[Problem]
) -> tuple[library.Certificate, ...]:
    try:
        return x509.load_chain(_read(_path(loaded, own.certificate)))
    except (_UnreadableError, CertificateError) as error:
        problems.append(
            Problem(
                location=CERTIFICATE,
                expected="a PEM file with the certificate, then its chain",
                found=f"{own.certificate}: {error}",
            )
        )
        return ()


def _key(loaded: LoadedSite, own: OwnCertificate, problems: list[Problem]) -> str:
    path = _path(loaded, own.key)
    try:
        text = _read(path)
        key = x509.plain_key(text)
    except (_UnreadableError, CertificateError) as error:
        found = f"{own.key}: {error}"
        suggestion = ""
        if "passphrase" in found:
            suggestion = "without one: openssl pkey -in KEY -out NEW_KEY; chmod 0600 NEW_KEY"
        problems.append(
            Problem(
                location=KEY,
                expected="a PEM file with the certificate's key, without a passphrase",
                found=found,
                suggestion=suggestion,
            )
        )
        return ""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        problems.append(
            Problem(
                location=KEY,
                expected="a key that only its owner can read (mode 0600)",
                found=f"{own.key} with mode {mode:04o}",
                suggestion=f"chmod 0600 {path}; if others may have read it, get a new key",
            )
        )
    return key


def _path(loaded: LoadedSite, text: str) -> Path:
    return loaded.path.parent.resolve() / Path(text).expanduser()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode()
    except OSError as error:
        raise _UnreadableError(error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _UnreadableError("not PEM but binary (DER?)") from error


def _pair_problems(certificate: library.Certificate, key: str) -> Iterator[Problem]:
    if not x509.matches(certificate, key):
        yield Problem(
            location=KEY,
            other=CERTIFICATE,
            expected="the key of the file's first certificate",
            found="another certificate's key",
        )


def _chain_problems(chain: tuple[library.Certificate, ...]) -> Iterator[Problem]:
    """Each certificate must be signed by the one behind it (RFC 5246, 7.4.2)."""
    for number, (one, issuer) in enumerate(itertools.pairwise(chain), start=1):
        if not x509.is_signed_by(one, issuer):
            yield Problem(
                location=CERTIFICATE,
                expected="the certificate first, each one behind it signing the one before",
                found=f"number {number} ({x509.facts_of(one).subject}) is not signed by number "
                f"{number + 1} ({x509.facts_of(issuer).subject})",
            )


def _name_problems(facts: Facts, plan: Plan) -> Iterator[Problem]:
    door = plan.front_door
    name = "" if door is None else door.hostname or str(door.address)
    if not facts.covers(name):
        known = ", ".join(facts.names) or "no name at all"
        yield Problem(
            location=CERTIFICATE,
            expected=f"a certificate for {name}, which the front door's URL has",
            found=f"one for {known}",
            suggestion="set front_door.hostname to a name that it has" if facts.dns else "",
        )
