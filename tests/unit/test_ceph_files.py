"""The operator's Ceph files: what is good is handed on, what is wrong is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from solostack.errors import SiteError
from solostack.flows.ceph_files import read_ceph_files
from solostack.site.loader import LoadedSite, parse_site

CONF = "[global]\n\tfsid = 1\n\tmon host = 192.0.2.7,192.0.2.8\n"
KEY = "AQBzZWNyZXQta2V5LXNlY3JldC1rZXk="
KEYRING = f'[client.cinder]\n    key = {KEY}\n    caps mon = "profile rbd"\n'
SITE = """\
hosts: [{name: phys1, address: 203.0.113.2, nic: eth0}]
external: {block: 198.51.100.0/28}
storage:
  cinder:
    backend: rbd
    rbd:
      conf: ceph.conf
      keyring: ceph.keyring
"""


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedSite:
    (tmp_path / "ceph.conf").write_text(CONF)
    keyring = tmp_path / "ceph.keyring"
    keyring.write_text(KEYRING)
    keyring.chmod(0o600)
    return parse_site(SITE, tmp_path / "site.yaml")


def details(loaded: LoadedSite) -> str:
    with pytest.raises(SiteError) as caught:
        read_ceph_files(loaded)
    assert KEY not in "\n".join((caught.value.message, *caught.value.details))
    return "\n".join(caught.value.details)


def test_good_files_become_secrets(loaded: LoadedSite) -> None:
    assert read_ceph_files(loaded) == {
        "ceph_conf": CONF,
        "ceph_keyring": KEYRING,
        "ceph_key": KEY,
    }


def test_a_site_without_ceph_reads_nothing(tmp_path: Path) -> None:
    text = SITE[: SITE.index("storage:")]
    assert read_ceph_files(parse_site(text, tmp_path / "site.yaml")) == {}


def test_missing_files_are_named_with_their_lines(loaded: LoadedSite, tmp_path: Path) -> None:
    (tmp_path / "ceph.conf").unlink()
    (tmp_path / "ceph.keyring").unlink()
    said = details(loaded)
    assert "site.yaml:7: storage.cinder.rbd.conf: expected a file that can be read" in said
    assert "site.yaml:8: storage.cinder.rbd.keyring: expected a file that can be read" in said


def test_a_keyring_that_others_can_read_is_refused(loaded: LoadedSite, tmp_path: Path) -> None:
    (tmp_path / "ceph.keyring").chmod(0o640)
    assert "with mode 0640; chmod 600" in details(loaded)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ceph.conf", "[global]\nfsid = 1\n", "expected mon_host under [global]"),
        ("ceph.conf", "no ini at all\n", "which is no ini file"),
        (
            "ceph.keyring",
            KEYRING.replace("cinder", "glance"),
            "expected [client.cinder] with a key",
        ),
        ("ceph.keyring", "[client.cinder]\nkey = $%&\n", "that is no base64"),
    ],
)
def test_wrong_contents_are_said(
    loaded: LoadedSite, tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    assert said in details(loaded)
