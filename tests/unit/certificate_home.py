"""A site with certificates in a folder of its own, and what an operator may bring to it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from solostack.doors.clock import FakeClock
from solostack.engine import certificates as x509
from solostack.errors import SiteError
from solostack.flows import certificates
from solostack.flows.certificates import certificate_secrets, list_certificates
from solostack.flows.deployment import site_state
from solostack.flows.facts import save_facts
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import LoadedSite, load_site

DAY_S = 86400.0
START_S = 1.8e9
HEAD = "hosts: [{name: phys1, address: 203.0.113.2, nic: eth0}]\n"
HEAD += "external: {block: 198.51.100.0/28}\n"
FULL = "front_door: {}\ndirectory: {}\n"
OWN = "front_door:\n  hostname: cloud.example.org\n  certificate:\n"
OWN += "    certificate: cloud.pem\n    key: cloud.key\n"
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
)


class Home:
    """A site file, its state, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(START_S)
        self.site(FULL)
        self.state = site_state(self.loaded)
        self.state.create()
        save_facts(self.state, {"phys1": FACTS})

    def site(self, text: str) -> None:
        path = self.folder / "site.yaml"
        path.write_text(HEAD + text)
        self.loaded: LoadedSite = load_site(path)
        self.plan: Plan = build_plan(self.loaded.site, {"phys1": FACTS})

    def secrets(self) -> dict[str, str]:
        return dict(certificate_secrets(self.loaded, self.state, self.plan, self.clock))

    def rows(self) -> dict[str, certificates.Certificate]:
        found = list_certificates(self.loaded, self.state, self.plan, self.clock)
        return {each.name: each for each in found}

    def bring(
        self,
        *,
        dns: str = "cloud.example.org",
        days: int = 90,
        change: Callable[[list[str], str], tuple[list[str], str]] | None = None,
    ) -> None:
        """Put a certificate of a company's own authority where the site says."""
        now = self.clock.now()
        chain, key = bring_chain(dns, now, days)
        if change is not None:
            chain, key = change(chain, key)
        (self.folder / "cloud.pem").write_text("".join(chain))
        path = self.folder / "cloud.key"
        path.write_text(key)
        path.chmod(0o600)

    def problems(self) -> list[str]:
        with pytest.raises(SiteError) as caught:
            self.secrets()
        return [line.partition("site.yaml:")[2] for line in caught.value.details]


def bring_chain(dns: str, now: datetime.datetime, days: int) -> tuple[list[str], str]:
    """A certificate, an intermediate authority and the root that signed that; and the key."""
    root_key, middle_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))

    def make(
        subject: str,
        own: ec.EllipticCurvePrivateKey,
        issuer: str,
        signer: ec.EllipticCurvePrivateKey,
        names: list[str],
    ) -> str:
        builder = (
            library.CertificateBuilder()
            .subject_name(library.Name.from_rfc4514_string(f"CN={subject}"))
            .issuer_name(library.Name.from_rfc4514_string(f"CN={issuer}"))
            .public_key(own.public_key())
            .serial_number(library.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=days))
        )
        if names:
            alternative = library.SubjectAlternativeName([library.DNSName(one) for one in names])
            builder = builder.add_extension(alternative, critical=False)
        return x509.pem_of(builder.sign(signer, hashes.SHA256()))

    chain = [
        make("server", key, "middle", middle_key, [dns]),
        make("middle", middle_key, "root", root_key, []),
        make("root", root_key, "root", root_key, []),
    ]
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    return chain, key.private_bytes(*form, serialization.NoEncryption()).decode()
