"""X.509 certificates: the site's own authority, what it signs, and the judging of any.

Owns keys and signatures; what is wanted comes from plan.certificates, where things are kept is the
business of flows. All moments are given, so that the same functions judge any day.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from solostack.plan.certificates import WantedAuthority, WantedCertificate

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

AUTHORITY_DAYS = 3650
VALID_DAYS = 820
"""Below the 825 days after which Apple's systems refuse a certificate, whoever signed it."""
RENEW_DAYS = 30
BACKDATED = datetime.timedelta(days=1)
"""Clocks of machines that just got installed may be late."""
_CURVE = ec.SECP256R1


class CertificateError(Exception):
    """A text is no certificate or key, or of a kind that cannot be judged; its text says which."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its private key, both PEM (RFC 7468)."""

    certificate: str
    key: str = dataclasses.field(repr=False)

    @property
    def text(self) -> str:
        """Both in one file, certificate first."""
        return self.certificate + self.key


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a certificate says. dns and addresses are its subject's alternative names."""

    subject: str
    issuer: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    valid_from: datetime.datetime
    valid_until: datetime.datetime
    self_signed: bool
    fingerprint: str
    """SHA-256 in hexadecimal digits."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, DNS names first."""
        return (*self.dns, *self.addresses)

    def days_left(self, now: datetime.datetime) -> int:
        """Return whole days until it expires, below 0 when it has."""
        return (self.valid_until - now) // datetime.timedelta(days=1)

    def covers(self, name: str) -> bool:
        """Return whether name, an address or a DNS name, is among its names (RFC 6125, 6.4)."""
        lower = name.lower().rstrip(".")
        _, _, parent = lower.partition(".")
        wildcard = {f"*.{parent}"} if "." in parent else set[str]()
        known = {each.lower() for each in self.dns}
        return name in self.addresses or bool(known & {lower, *wildcard})


def make_authority(
    wanted: WantedAuthority, now: datetime.datetime, *, old: Pair | None = None
) -> Pair:
    """Make an authority, or certify old's key anew: what it has signed then stays valid.

    It can sign servers of the wanted names only (RFC 5280, 4.2.1.10): who has its key can pretend
    to be this cloud, and nobody else, to those that trust it.
    """
    key = _load_key(old.key) if old else ec.generate_private_key(_CURVE())
    name = _name(wanted.title)
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key.public_key(), now=now, days=AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(
            x509.NameConstraints(permitted_subtrees=_subtrees(wanted), excluded_subtrees=None),
            critical=True,
        )
        .add_extension(public, critical=False)
        .add_extension(_key_identifier(public), critical=False)
    )
    return _signed(builder, signer=key, key=key)


def issue(authority: Pair, wanted: WantedCertificate, now: datetime.datetime) -> Pair:
    """Make a key and a server's certificate for it. CertificateError when authority is unreadable.

    It never outlives the authority.
    """
    issuer = load_certificate(authority.certificate)
    signer = _load_key(authority.key)
    key = ec.generate_private_key(_CURVE())
    left = (issuer.not_valid_after_utc - now).days
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(
            _name(wanted.title),
            issuer.subject,
            key.public_key(),
            now=now,
            days=min(VALID_DAYS, left),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_alternative_names(wanted), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_identifier(identifier), critical=False)
    )
    return _signed(builder, signer=signer, key=key)


def why_new_authority(current: Pair | None, wanted: WantedAuthority, now: datetime.datetime) -> str:
    """Return why the authority must be certified anew, "" when it is as wanted.

    Long before it ends: no certificate it signs may outlive it.
    """
    if current is None:
        return "there is none"
    certificate = load_certificate(current.certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    if set(constraints.permitted_subtrees or ()) != set(_subtrees(wanted)):
        return "the site's names changed"
    left = facts_of(certificate).days_left(now)
    return f"{left} days left" if left < VALID_DAYS + RENEW_DAYS else ""


def why_new_certificate(
    current: Pair | None, wanted: WantedCertificate, authority: Pair, now: datetime.datetime
) -> str:
    """Return why a certificate of ours must be made anew, "" when it is as wanted.

    Raises CertificateError when one of them is no certificate.
    """
    if current is None:
        return "there is none"
    certificate = load_certificate(current.certificate)
    facts = facts_of(certificate)
    if not is_signed_by(certificate, load_certificate(authority.certificate)):
        return "the authority is another one"
    wanted_names = (*wanted.dns, *(str(each) for each in wanted.addresses))
    if set(facts.names) != set(wanted_names):
        return "the site's names changed"
    left = facts.days_left(now)
    if facts.valid_until <= now:
        return "it has expired"
    return f"{left} days left" if left < RENEW_DAYS else ""


def load_certificate(text: str) -> x509.Certificate:
    """Return the first certificate of a PEM text. Raises CertificateError."""
    return load_chain(text)[0]


def load_chain(text: str) -> tuple[x509.Certificate, ...]:
    """Return all certificates of a PEM text, at least one. Raises CertificateError."""
    try:
        return tuple(x509.load_pem_x509_certificates(text.encode()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"no PEM certificate: {_reason(error)}") from error


def matches(certificate: x509.Certificate, key: str) -> bool:
    """Return whether a PEM private key is a certificate's. Raises CertificateError."""
    mine = _load_key(key).public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return mine.public_bytes(*form) == certificate.public_key().public_bytes(*form)


def plain_key(text: str) -> str:
    """Return a PEM private key as PKCS #8. CertificateError, also for one with a passphrase."""
    return _pem_of_key(_load_key(text))


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether issuer's key really signed certificate, and its name is the issuer's."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def facts_of(certificate: x509.Certificate) -> Facts:
    """Return what a certificate says."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    return Facts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        dns=tuple(names.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(each) for each in names.get_values_for_type(x509.IPAddress)),
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        self_signed=is_signed_by(certificate, certificate),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def pem_of(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def split_pair(text: str) -> Pair:
    """Return what Pair.text held. Raises CertificateError for anything else."""
    certificate = pem_of(load_certificate(text))
    start = text.find("-----BEGIN PRIVATE KEY-----")
    if start < 0:
        raise CertificateError("no private key in it")
    pair = Pair(certificate=certificate, key=text[start:])
    if not matches(load_certificate(certificate), pair.key):
        raise CertificateError("the key is another certificate's")
    return pair


def _load_key(text: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"no usable PEM private key: {_reason(error)}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CertificateError("a private key that browsers do not know (neither EC nor RSA)")
    return key


def _reason(error: Exception) -> str:
    # A key with a passphrase is the one mistake that is worth its own words.
    if "encrypted" in str(error):
        return "it has a passphrase"
    return "not of the form -----BEGIN ...-----, or damaged"


def _name(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: CertificatePublicKeyTypes,
    *,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _signed(
    builder: x509.CertificateBuilder,
    *,
    signer: PrivateKey,
    key: PrivateKey,
) -> Pair:
    certificate = builder.sign(signer, hashes.SHA256())
    return Pair(certificate=pem_of(certificate), key=_pem_of_key(key))


def _pem_of_key(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_identifier(public: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(public)


def _alternative_names(wanted: WantedCertificate) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [*_dns(wanted.dns), *(x509.IPAddress(each) for each in wanted.addresses)]
    )


def _subtrees(wanted: WantedAuthority) -> Sequence[x509.GeneralName]:
    networks = (x509.IPAddress(each) for each in wanted.networks)
    return [*_dns(wanted.dns), *networks]


def _dns(names: Iterable[str]) -> Sequence[x509.GeneralName]:
    return [x509.DNSName(each) for each in names]
