"""The site's own authority and what it signs, judged by OpenSSL's own rules where that can be."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence

import pytest
from cryptography import x509 as library
from cryptography.x509 import verification
from hypothesis import given
from hypothesis import strategies as st

from solostack.engine import certificates as x509
from solostack.engine.certificates import CertificateError, Pair
from solostack.plan.certificates import WantedAuthority, WantedCertificate

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
HOSTNAMES = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
ADDRESSES = st.ip_addresses(v=4)


def certificate(
    dns: Sequence[str] = ("cloud.example.org",), addresses: Sequence[str] = ("203.0.113.2",)
) -> WantedCertificate:
    return WantedCertificate(
        name="front_door",
        title="front door of cloud",
        dns=tuple(dns),
        addresses=tuple(ipaddress.IPv4Address(each) for each in addresses),
        used="HAProxy on controller",
    )


def authority_for(*wanted: WantedCertificate) -> WantedAuthority:
    return WantedAuthority(
        title="certificate authority of cloud",
        dns=tuple(dict.fromkeys(name for each in wanted for name in each.dns)),
        networks=tuple(
            dict.fromkeys(ipaddress.IPv4Network(one) for each in wanted for one in each.addresses)
        ),
    )


def trusts(authority: Pair, server: Pair, name: str, when: datetime.datetime = NOW) -> bool:
    """Whether a client that knows authority takes server for name (RFC 5280, CA/B rules)."""
    try:
        subject: library.verification.Subject = library.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = library.DNSName(name)
    store = verification.Store([x509.load_certificate(authority.certificate)])
    verifier = verification.PolicyBuilder().store(store).time(when).build_server_verifier(subject)
    try:
        verifier.verify(x509.load_certificate(server.certificate), [])
    except verification.VerificationError:
        return False
    return True


@pytest.fixture(scope="module")
def wanted() -> WantedCertificate:
    return certificate()


@pytest.fixture(scope="module")
def authority(wanted: WantedCertificate) -> Pair:
    return x509.make_authority(authority_for(wanted), NOW)


@pytest.fixture(scope="module")
def server(authority: Pair, wanted: WantedCertificate) -> Pair:
    return x509.issue(authority, wanted, NOW)


@given(
    dns=st.lists(HOSTNAMES.filter(lambda name: not name[-1].isdigit()), max_size=3),
    addresses=st.lists(ADDRESSES, max_size=3),
)
def test_whatever_is_wanted_is_trusted_under_exactly_these_names(
    dns: list[str], addresses: list[ipaddress.IPv4Address]
) -> None:
    one = certificate(("controller", *dns), [str(each) for each in addresses])
    authority = x509.make_authority(authority_for(one), NOW)
    pair = x509.issue(authority, one, NOW)
    facts = x509.facts_of(x509.load_certificate(pair.certificate))

    assert set(facts.names) == {"controller", *dns, *map(str, addresses)}
    assert all(trusts(authority, pair, name) for name in facts.names)
    assert not trusts(authority, pair, "other.example.net")
    assert x509.why_new_certificate(pair, one, authority, NOW) == ""
    assert x509.why_new_authority(authority, authority_for(one), NOW) == ""


def test_the_authority_cannot_vouch_for_anybody_else(authority: Pair) -> None:
    bank = x509.issue(authority, certificate(["bank.example"], ["192.0.2.1"]), NOW)
    assert not trusts(authority, bank, "bank.example")
    assert not trusts(authority, bank, "192.0.2.1")


def test_the_authority_signs_servers_and_no_other_authority(authority: Pair) -> None:
    certificate = x509.load_certificate(authority.certificate)
    basic = certificate.extensions.get_extension_for_class(library.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(library.KeyUsage)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert certificate.extensions.get_extension_for_class(library.NameConstraints).critical


def test_a_server_is_no_authority_and_signs_nothing(server: Pair) -> None:
    certificate = x509.load_certificate(server.certificate)
    basic = certificate.extensions.get_extension_for_class(library.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(library.KeyUsage).value
    extended = certificate.extensions.get_extension_for_class(library.ExtendedKeyUsage).value
    assert not basic.ca
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert list(extended) == [library.ExtendedKeyUsageOID.SERVER_AUTH]


def test_python_takes_the_authority_and_the_pair_as_files_have_them(
    authority: Pair, server: Pair, tmp_path: object
) -> None:
    context = ssl.create_default_context(cadata=authority.certificate)
    (told,) = context.get_ca_certs()
    assert "certificate authority of cloud" in str(told["subject"])
    path = f"{tmp_path}/pair.pem"
    with open(path, "w") as file:  # noqa: PTH123
        file.write(server.text)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)


def test_it_is_valid_yesterday_for_late_clocks_and_for_no_longer_than_browsers_take(
    server: Pair,
) -> None:
    facts = x509.facts_of(x509.load_certificate(server.certificate))
    assert facts.valid_from == NOW - DAY
    assert facts.days_left(NOW) == 820
    assert facts.valid_until - facts.valid_from <= 825 * DAY


def test_serial_numbers_and_keys_are_never_the_same(
    authority: Pair, wanted: WantedCertificate
) -> None:
    pairs = [x509.issue(authority, wanted, NOW) for _ in range(20)]
    assert len({pair.key for pair in pairs}) == 20
    serials = {x509.load_certificate(pair.certificate).serial_number for pair in pairs}
    assert len(serials) == 20
    assert max(serials).bit_length() > 64


@given(days=st.integers(min_value=0, max_value=1200))
def test_it_is_renewed_when_fewer_than_thirty_days_are_left(days: int) -> None:
    one = certificate()
    authority, pair = _MADE
    why = x509.why_new_certificate(pair, one, authority, NOW + days * DAY)
    assert bool(why) == (820 - days < 30)
    if days >= 820:
        assert why == "it has expired"


def test_it_is_renewed_when_the_names_change(authority: Pair, server: Pair) -> None:
    for other in (certificate(["new.example.org"]), certificate(addresses=["203.0.113.3"])):
        why = x509.why_new_certificate(server, other, authority, NOW)
        assert why == "the site's names changed"
        assert x509.why_new_authority(authority, authority_for(other), NOW)


def test_it_is_renewed_when_the_authority_is_another(
    server: Pair, wanted: WantedCertificate
) -> None:
    other = x509.make_authority(authority_for(wanted), NOW)
    why = x509.why_new_certificate(server, wanted, other, NOW)
    assert why == "the authority is another one"
    assert not trusts(other, server, "cloud.example.org")


def test_a_certificate_of_the_same_authority_key_keeps_what_it_signed(
    authority: Pair, server: Pair, wanted: WantedCertificate
) -> None:
    more = authority_for(wanted, certificate(["more.example.org"]))
    anew = x509.make_authority(more, NOW + DAY, old=authority)
    assert anew.key == authority.key
    assert anew.certificate != authority.certificate
    assert x509.why_new_certificate(server, wanted, anew, NOW + DAY) == ""
    assert trusts(anew, server, "cloud.example.org", NOW + DAY)
    later = x509.issue(anew, wanted, NOW + DAY)
    assert trusts(authority, later, "cloud.example.org", NOW + DAY)


@given(days=st.integers(min_value=0, max_value=4000))
def test_no_certificate_outlives_its_authority(days: int) -> None:
    one = certificate()
    authority, _ = _MADE
    now = NOW + days * DAY
    if x509.why_new_authority(authority, authority_for(one), now):
        authority = x509.make_authority(authority_for(one), now, old=authority)
    pair = x509.issue(authority, one, now)
    ends = [
        x509.load_certificate(each.certificate).not_valid_after_utc for each in (pair, authority)
    ]
    assert ends[0] <= ends[1]
    assert ends[0] - now == 820 * DAY


@pytest.mark.parametrize(
    ("dns", "name", "covered"),
    [
        (["cloud.example.org"], "cloud.example.org", True),
        (["cloud.example.org"], "Cloud.Example.ORG.", True),
        (["*.example.org"], "cloud.example.org", True),
        (["*.example.org"], "a.cloud.example.org", False),
        (["*.example.org"], "example.org", False),
        (["cloud.example.org"], "cloud.example.com", False),
        ([], "203.0.113.2", True),
        ([], "203.0.113.3", False),
    ],
)
def test_names_are_covered_as_browsers_see_it(
    authority: Pair, dns: list[str], name: str, covered: bool
) -> None:
    pair = x509.issue(authority, certificate(dns), NOW)
    assert x509.facts_of(x509.load_certificate(pair.certificate)).covers(name) is covered


def test_a_pair_comes_back_from_its_text(server: Pair) -> None:
    assert x509.split_pair(server.text) == server


def test_what_is_no_pair_is_refused_with_the_reason(authority: Pair, server: Pair) -> None:
    mixed = Pair(certificate=server.certificate, key=authority.key)
    for text, why in (
        ("", "no PEM certificate"),
        (server.certificate, "no private key"),
        (mixed.text, "another certificate's"),
        (server.text[:-60], "no usable PEM private key"),
    ):
        with pytest.raises(CertificateError, match=why):
            x509.split_pair(text)


def test_a_key_shows_in_no_representation(server: Pair) -> None:
    assert "PRIVATE KEY" not in repr(server)


_MADE = (
    (made := x509.make_authority(authority_for(certificate()), NOW)),
    x509.issue(made, certificate(), NOW),
)
