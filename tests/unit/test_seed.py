"""A seed's identity archive, by value."""

from __future__ import annotations

import importlib.resources
import io
import tarfile

from solostack.doors.process import LocalExecutor
from solostack.seed.identity import Identity, identity_archive

IDENTITY = Identity(
    hostname="controller",
    machine_id="0" * 31 + "1",
    host_key="PRIVATE\n",
    host_key_public="PUBLIC\n",
    authorized_key="ssh-ed25519 AAAA solostack\n",
)


def test_identity_files_have_their_content_and_modes():
    with tarfile.open(fileobj=io.BytesIO(identity_archive(IDENTITY))) as archive:
        modes = {entry.name: entry.mode for entry in archive.getmembers()}
        texts = {
            entry.name: archive.extractfile(entry).read().decode()
            for entry in archive.getmembers()
            if entry.isfile()
        }
        owners = {(entry.uid, entry.gid) for entry in archive.getmembers()}
    assert modes == {
        "root/.ssh": 0o700,
        "etc/hostname": 0o644,
        "etc/machine-id": 0o444,
        "etc/ssh/ssh_host_ed25519_key": 0o600,
        "etc/ssh/ssh_host_ed25519_key.pub": 0o644,
        "root/.ssh/authorized_keys": 0o600,
    }
    assert texts["etc/hostname"] == "controller\n"
    assert texts["etc/machine-id"] == "0" * 31 + "1\n"
    assert texts["etc/ssh/ssh_host_ed25519_key"] == "PRIVATE\n"
    assert owners == {(0, 0)}


def test_equal_identities_give_equal_bytes():
    assert identity_archive(IDENTITY) == identity_archive(IDENTITY)


def test_the_seed_script_is_valid_sh():
    script = importlib.resources.files("solostack.seed").joinpath("seed.sh").read_text()
    assert LocalExecutor().run(("sh", "-n"), stdin=script.encode()).status == 0
