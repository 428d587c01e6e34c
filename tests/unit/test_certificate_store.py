"""A deployment's certificates in its state: made once, renewed in time, private; or brought."""

from __future__ import annotations

import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from solostack.engine import certificates as x509
from solostack.engine.certificates import Pair
from solostack.errors import ConfigureError, StateError, UsageError
from solostack.flows import certificates, certificates_by_hand
from solostack.flows.certificates import CertificateStore
from solostack.flows.check import certificate_findings
from solostack.flows.state import State
from solostack.host.check_model import Severity
from solostack.plan.certificates import WantedCertificate
from tests.unit.certificate_home import DAY_S, OWN, Home, bring_chain


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Home(tmp_path)


def test_certificates_are_made_once(home: Home) -> None:
    first = home.secrets()
    assert sorted(first) == [
        "tls_ca_certificate",
        "tls_directory_certificate",
        "tls_directory_key",
        "tls_front_door",
    ]
    home.clock.sleep(700 * DAY_S)
    assert home.secrets() == first


def test_nothing_is_made_where_nothing_speaks_tls(home: Home) -> None:
    home.site("")
    assert home.secrets() == {}
    assert not (home.state.directory / "tls").exists()


def test_everything_is_private_and_the_authority_is_beside_clouds_yaml(home: Home) -> None:
    secrets = home.secrets()
    for path in home.state.directory.rglob("*"):
        forbidden = 0o077
        assert stat.S_IMODE(path.stat().st_mode) & forbidden == 0, path
    exported = (home.state.directory / "ca.pem").read_text()
    assert exported == secrets["tls_ca_certificate"]
    assert "PRIVATE" not in exported


def test_up_renews_what_is_about_to_expire_and_only_that(home: Home) -> None:
    first = home.secrets()
    home.clock.sleep(791 * DAY_S)
    assert home.rows()["front_door"].time_problem == "expires in 29 days"
    second = home.secrets()
    assert second["tls_front_door"] != first["tls_front_door"]
    assert second["tls_ca_certificate"] == first["tls_ca_certificate"]
    assert home.rows()["front_door"].time_problem == ""


def test_a_new_name_is_certified_and_the_authority_keeps_its_key(home: Home) -> None:
    home.secrets()
    before = CertificateStore(home.state, home.plan).kept()
    home.site("front_door: {hostname: new.example.org}\ndirectory: {}\n")
    home.secrets()
    after = CertificateStore(home.state, home.plan).kept()
    assert "new.example.org" in home.rows()["front_door"].names
    assert after["ca"].key == before["ca"].key
    assert after["directory"] == before["directory"]


@pytest.mark.parametrize("damage", ["", "nonsense\n", "cut"])
def test_a_damaged_file_is_told_and_not_replaced_silently(home: Home, damage: str) -> None:
    home.secrets()
    path = home.state.directory / "tls" / "ca.pem"
    text = path.read_text()
    path.write_text(text[:-200] if damage == "cut" else damage)
    with pytest.raises(StateError) as caught:
        home.secrets()
    assert str(path) in caught.value.message
    assert f"rm {path}" in caught.value.hint


@pytest.mark.parametrize("left", ["ca", "front_door"])
def test_an_interruption_leaves_nothing_that_does_not_fit(home: Home, left: str) -> None:
    """Whatever files were written when it was killed, the next run ends with what fits."""
    home.secrets()
    for path in (home.state.directory / "tls").glob("*.pem"):
        if path.stem != left:
            path.unlink()
    (home.state.directory / "ca.pem").unlink()
    home.secrets()
    pairs = CertificateStore(home.state, home.plan).kept()
    issuer = x509.load_certificate(pairs["ca"].certificate)
    for name in ("front_door", "directory"):
        assert x509.is_signed_by(x509.load_certificate(pairs[name].certificate), issuer)


def test_the_operators_own_is_taken_as_it_is(home: Home) -> None:
    home.site(OWN)
    home.bring()
    secrets = home.secrets()
    text = secrets["tls_front_door"]
    assert text.count("BEGIN CERTIFICATE") == 3
    assert text.count("BEGIN PRIVATE KEY") == 1
    assert home.rows()["front_door"].own
    assert not (home.state.directory / "tls" / "front_door.pem").exists()
    path = certificates.authority_file(home.loaded, home.state, home.plan)
    assert path is not None
    assert x509.facts_of(x509.load_certificate(path.read_text())).subject == "CN=root"


def test_clients_need_no_file_where_systems_know_the_authority(home: Home) -> None:
    home.site(OWN)
    home.bring(change=lambda chain, key: (chain[:2], key))
    home.secrets()
    assert certificates.authority_file(home.loaded, home.state, home.plan) is None
    with pytest.raises(ConfigureError, match="clients need no certificate"):
        certificates_by_hand.authority_of(home.loaded)


def test_another_key_is_refused_at_its_line(home: Home) -> None:
    home.site(OWN)
    other = bring_chain("x.example", home.clock.now(), 9)[1]
    home.bring(change=lambda chain, _: (chain, other))
    (line,) = home.problems()
    assert line.startswith("7: front_door.certificate.key: expected the key of the file's first")


def test_a_chain_in_the_wrong_order_is_refused(home: Home) -> None:
    home.site(OWN)
    home.bring(change=lambda chain, key: ([chain[0], chain[2], chain[1]], key))
    lines = home.problems()
    assert lines[0].startswith("6: front_door.certificate.certificate: expected the certificate")
    assert "number 1 (CN=server) is not signed by number 2 (CN=root)" in lines[0]


def test_a_certificate_for_another_name_is_refused(home: Home) -> None:
    home.site(OWN)
    home.bring(dns="www.example.org")
    (line,) = home.problems()
    assert "expected a certificate for cloud.example.org" in line
    assert "found one for www.example.org" in line


def test_a_key_that_others_can_read_is_refused(home: Home) -> None:
    home.site(OWN)
    home.bring()
    (home.folder / "cloud.key").chmod(0o640)
    (line,) = home.problems()
    assert "found cloud.key with mode 0640" in line
    assert f"chmod 0600 {home.folder}/cloud.key" in line


def test_a_key_with_a_passphrase_is_refused_with_the_way_out(home: Home) -> None:
    home.site(OWN)
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    home.bring(change=lambda chain, _: (chain, key.decode()))
    (line,) = home.problems()
    assert "without a passphrase" in line
    assert "openssl pkey -in KEY -out NEW_KEY" in line


def test_missing_and_binary_files_are_told_both_at_once(home: Home) -> None:
    home.site(OWN)
    (home.folder / "cloud.pem").write_bytes(b"\x30\x82\xff\xfe")
    lines = home.problems()
    assert len(lines) == 2
    assert "cloud.pem: not PEM but binary (DER?)" in lines[0]
    assert "cloud.key: No such file or directory" in lines[1]


def test_an_expired_one_of_the_operator_is_told_and_keeps_nobody_from_working(home: Home) -> None:
    home.site(OWN)
    home.bring(days=-2)
    home.secrets()
    row = home.rows()["front_door"]
    assert row.expired
    (found,) = certificate_findings(home.loaded, home.plan, "phys1", home.clock)
    assert found.severity is Severity.WARNING
    assert "the certificate front_door expired on" in found.what
    assert "front_door.certificate in the site" in found.todo


def test_check_tells_of_time_and_up_mends_it(home: Home) -> None:
    assert certificate_findings(home.loaded, home.plan, "phys1", home.clock) == ()
    home.secrets()
    (fine,) = certificate_findings(home.loaded, home.plan, "phys1", home.clock)
    assert fine.severity is Severity.OK
    home.clock.sleep(830 * DAY_S)
    found = certificate_findings(home.loaded, home.plan, "phys1", home.clock)
    assert [each.what.split(" expired")[0] for each in found] == [
        "the certificate front_door",
        "the certificate directory",
    ]
    assert all(each.todo == "solostack up renews it" for each in found)
    home.secrets()
    (fine,) = certificate_findings(home.loaded, home.plan, "phys1", home.clock)
    assert fine.severity is Severity.OK


def test_looking_changes_nothing(home: Home) -> None:
    assert certificates.authority_file(home.loaded, home.state, home.plan) is None
    with pytest.raises(ConfigureError, match="not made yet"):
        certificates_by_hand.authority_of(home.loaded)
    home.secrets()
    home.clock.sleep(900 * DAY_S)
    before = {path: path.read_bytes() for path in home.state.directory.rglob("*.pem")}
    home.rows()
    certificate_findings(home.loaded, home.plan, "phys1", home.clock)
    assert certificates_by_hand.authority_of(home.loaded).startswith("-----BEGIN CERTIFICATE")
    assert certificates_by_hand.certificates_of(home.loaded)
    assert {path: path.read_bytes() for path in home.state.directory.rglob("*.pem")} == before


def test_renewed_by_hand(home: Home) -> None:
    home.secrets()
    before = CertificateStore(home.state, home.plan).kept()
    certificates_by_hand.renew(home.loaded, ["front_door"])
    after = CertificateStore(home.state, home.plan).kept()
    assert after["front_door"] != before["front_door"]
    assert after["directory"] == before["directory"]
    assert after["ca"] == before["ca"]
    certificates_by_hand.renew(home.loaded, ["ca"])
    last = CertificateStore(home.state, home.plan).kept()
    assert last["ca"].key != after["ca"].key
    issuer = x509.load_certificate(last["ca"].certificate)
    assert x509.is_signed_by(x509.load_certificate(last["directory"].certificate), issuer)


def test_what_is_not_ours_is_not_renewed(home: Home) -> None:
    with pytest.raises(UsageError, match="ca, front_door, directory here; fron is none of them"):
        certificates_by_hand.renew(home.loaded, ["fron"])
    home.site(OWN)
    home.bring()
    with pytest.raises(UsageError, match="is the operator's own"):
        certificates_by_hand.renew(home.loaded, ["front_door"])


def test_pairs_of_others_are_not_taken_for_ours(home: Home) -> None:
    home.secrets()
    wanted = WantedCertificate(
        name="front_door",
        title="x",
        dns=("controller",),
        addresses=(ipaddress.IPv4Address("203.0.113.2"), ipaddress.IPv4Address("172.16.0.11")),
        used="x",
    )
    other = x509.make_authority(certificates.wanted_authority(home.plan), home.clock.now())
    stranger: Pair = x509.issue(other, wanted, home.clock.now())
    State(home.state.directory).write_text("tls/front_door.pem", stranger.text)
    assert home.secrets()["tls_front_door"] != stranger.text
