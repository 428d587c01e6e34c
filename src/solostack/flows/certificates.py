"""A deployment's certificates: made, kept in its state, renewed, listed; or the operator's own.

All files are private (0600): a certificate and its key are one file, so that no interruption can
part them. What others need, the authority's certificate, is a file of its own beside clouds.yaml.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from solostack.doors.clock import Clock, SystemClock
from solostack.engine import certificates as x509
from solostack.engine.certificates import CertificateError, Pair
from solostack.errors import StateError
from solostack.flows.own_certificate import OwnChain, load_own_certificate
from solostack.flows.placed_certificates import placed_certificates
from solostack.flows.state import State
from solostack.plan.certificates import (
    DIRECTORY,
    FRONT_DOOR,
    WantedAuthority,
    WantedCertificate,
    wanted_authority,
    wanted_certificates,
)
from solostack.plan.model import Plan
from solostack.site.loader import LoadedSite

AUTHORITY = "ca"
AUTHORITY_FILE = "ca.pem"
OWN_AUTHORITY_FILE = "front_door_ca.pem"
"""The end of an operator's chain, where that is no authority that systems know."""
FOLDER = "tls"
AUTHORITY_SECRET = "tls_ca_certificate"  # noqa: S105  a name, not a value
FRONT_DOOR_SECRET = "tls_front_door"  # noqa: S105


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate of the deployment, as clients get it.

    own: the operator's, which solostack cannot renew. waiting: it is not the newest any more, `up`
    will put another one in its place.
    """

    name: str
    subject: str
    names: tuple[str, ...]
    valid_until: datetime.datetime
    days_left: int
    used: str
    own: bool
    waiting: bool
    fingerprint: str

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.days_left < 0

    @property
    def time_problem(self) -> str:
        """What is wrong with its time, "" when nothing is."""
        if self.expired:
            return f"expired on {self.valid_until:%Y-%m-%d %H:%M} UTC"
        return f"expires in {self.days_left} days" if self.days_left < x509.RENEW_DAYS else ""

    @property
    def problem(self) -> str:
        """What is wrong with it, "" when nothing is."""
        waits = "is still in use, a new one is not in place yet" if self.waiting else ""
        return " and ".join(filter(None, (self.time_problem, waits)))

    @property
    def todo(self) -> str:
        """What to do about its problem."""
        if self.waiting:
            return "solostack up puts the new one in its place"
        if self.own:
            return (
                "put a new one into the files of front_door.certificate in the site, then: "
                "solostack up"
            )
        return "solostack up renews it"


class CertificateStore:
    """The certificates of one deployment. Threads and processes may use it side by side."""

    def __init__(self, state: State, plan: Plan, clock: Clock | None = None) -> None:
        self._state = state
        self._plan = plan
        self._clock = clock or SystemClock()

    def ensure(self, *, but: Sequence[str] = ()) -> Mapping[str, Pair]:
        """Make what is missing, renew what must be, and return all by name.

        but names certificates that somebody else provides. Nothing is made where the plan needs
        no certificate. Raises StateError for a file that is damaged.
        """
        wanted = [each for each in wanted_certificates(self._plan) if each.name not in but]
        if not wanted_certificates(self._plan):
            return {}
        with self._locked():
            authority = self._ensure_authority(wanted_authority(self._plan))
            pairs = {each.name: self._ensure(authority, each) for each in wanted}
        return {AUTHORITY: authority, **pairs}

    def renew(self, names: Sequence[str]) -> None:
        """Make these anew, the authority with a new key; what it signed must follow it."""
        with self._locked():
            for name in names:
                (self._folder / f"{name}.pem").unlink(missing_ok=True)

    def kept(self) -> Mapping[str, Pair]:
        """Return what is there already, by name. Raises StateError for a file that is damaged."""
        wanted = wanted_certificates(self._plan)
        names = (AUTHORITY, *(each.name for each in wanted)) if wanted else ()
        found = {name: self._read(name) for name in names}
        return {name: pair for name, pair in found.items() if pair is not None}

    @property
    def _folder(self) -> Path:
        return self._state.directory / FOLDER

    def _ensure_authority(self, wanted: WantedAuthority) -> Pair:
        old, now = self._read(AUTHORITY), self._clock.now()
        if old is not None and not x509.why_new_authority(old, wanted, now):
            authority = old
        else:
            authority = x509.make_authority(wanted, now, old=old)
            self._write(AUTHORITY, authority)
        self._export(authority)
        return authority

    def _ensure(self, authority: Pair, wanted: WantedCertificate) -> Pair:
        old, now = self._read(wanted.name), self._clock.now()
        if old is not None and not x509.why_new_certificate(old, wanted, authority, now):
            return old
        pair = x509.issue(authority, wanted, now)
        self._write(wanted.name, pair)
        return pair

    def _export(self, authority: Pair) -> None:
        path = self._state.directory / AUTHORITY_FILE
        if not path.exists() or path.read_text() != authority.certificate:
            self._state.write_text(AUTHORITY_FILE, authority.certificate)

    def _read(self, name: str) -> Pair | None:
        path = self._folder / f"{name}.pem"
        try:
            return x509.split_pair(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, CertificateError) as error:
            raise StateError(
                f"cannot use {path}: {error}",
                hint=f"put it back from a backup, or have it made anew: rm {path}; solostack up",
            ) from error

    def _write(self, name: str, pair: Pair) -> None:
        self._state.write_text(f"{FOLDER}/{name}.pem", pair.text)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def certificate_secrets(
    loaded: LoadedSite, state: State, plan: Plan, clock: Clock | None = None
) -> Mapping[str, str]:
    """Return the values that bundles know by name: the authority, the door's, the directory's.

    Raises SiteError for an operator's certificate that cannot be used, StateError as ensure.
    """
    own = load_own_certificate(loaded, plan)
    pairs = CertificateStore(state, plan, clock).ensure(but=(FRONT_DOOR,) if own else ())
    return _secrets(own, pairs)


def kept_certificate_secrets(loaded: LoadedSite, state: State, plan: Plan) -> Mapping[str, str]:
    """Return what certificate_secrets does of what is there already; makes and renews nothing.

    For those who look: only `up` can put a renewed one in its place. Raises as certificate_secrets.
    """
    return _secrets(load_own_certificate(loaded, plan), CertificateStore(state, plan).kept())


def _secrets(own: OwnChain | None, pairs: Mapping[str, Pair]) -> Mapping[str, str]:
    values = {}
    if AUTHORITY in pairs:
        values[AUTHORITY_SECRET] = pairs[AUTHORITY].certificate
    if own is not None:
        values[FRONT_DOOR_SECRET] = own.text
    elif FRONT_DOOR in pairs:
        values[FRONT_DOOR_SECRET] = pairs[FRONT_DOOR].text
    if DIRECTORY in pairs:
        values["tls_directory_certificate"] = pairs[DIRECTORY].certificate
        values["tls_directory_key"] = pairs[DIRECTORY].key
    return values


def authority_file(loaded: LoadedSite, state: State, plan: Plan) -> Path | None:
    """Return the file of the authority that clients of the front door must know.

    Makes and renews nothing. None where there is no front door, nothing made yet, or where systems
    know the authority of the operator's certificate by themselves.
    """
    if plan.front_door is None:
        return None
    own = load_own_certificate(loaded, plan)
    if own is None:
        path = state.directory / AUTHORITY_FILE
        return path if path.exists() else None
    return state.write_text(OWN_AUTHORITY_FILE, own.trust) if own.trust else None


def list_certificates(
    loaded: LoadedSite, state: State, plan: Plan, clock: Clock | None = None
) -> tuple[Certificate, ...]:
    """Return the deployment's certificates; those not made yet are not among them.

    Of a server that has an older one still, that one: clients get it, until `up` has ended.
    """
    now = (clock or SystemClock()).now()
    used = {each.name: each.used for each in wanted_certificates(plan)}
    used[AUTHORITY] = f"clients: {state.directory / AUTHORITY_FILE}"
    own = load_own_certificate(loaded, plan)
    found = {
        name: x509.facts_of(x509.load_certificate(text))
        for name, text in _newest(own, CertificateStore(state, plan).kept()).items()
    }
    placed = placed_certificates(state)
    return tuple(
        Certificate(
            name=name,
            subject=facts.subject,
            names=facts.names,
            valid_until=facts.valid_until,
            days_left=facts.days_left(now),
            used=used[name],
            own=own is not None and name == FRONT_DOOR,
            waiting=facts.fingerprint != newest.fingerprint,
            fingerprint=facts.fingerprint,
        )
        for name, newest in found.items()
        for facts in (placed.get(name, newest),)
    )


def server_certificates(loaded: LoadedSite, state: State, plan: Plan) -> Mapping[str, str]:
    """Return, as PEM by name, the servers' certificates that `up` puts in place; makes none."""
    own = load_own_certificate(loaded, plan)
    newest = _newest(own, CertificateStore(state, plan).kept())
    return {name: text for name, text in newest.items() if name != AUTHORITY}


def _newest(own: OwnChain | None, pairs: Mapping[str, Pair]) -> Mapping[str, str]:
    found = {name: pair.certificate for name, pair in pairs.items()}
    brought = {} if own is None else {FRONT_DOOR: x509.pem_of(x509.load_certificate(own.text))}
    return {**found, **brought}
