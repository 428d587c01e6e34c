"""What makes a tree one particular machine: pure rendering of its identity files."""

from __future__ import annotations

import dataclasses
import io
import tarfile


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A node's own identity. Host keys are made beforehand, so that SSH never has to ask.

    machine_id is 32 hexadecimal digits (machine-id(5)); the keys are OpenSSH's file texts.
    """

    hostname: str
    machine_id: str
    host_key: str
    host_key_public: str
    authorized_key: str


def identity_archive(identity: Identity) -> bytes:
    """Return a tar of the identity files, to be unpacked at the tree's root as root.

    Equal identity, equal bytes.
    """
    files = (
        ("etc/hostname", f"{identity.hostname}\n", 0o644),
        ("etc/machine-id", f"{identity.machine_id}\n", 0o444),
        ("etc/ssh/ssh_host_ed25519_key", identity.host_key, 0o600),
        ("etc/ssh/ssh_host_ed25519_key.pub", identity.host_key_public, 0o644),
        ("root/.ssh/authorized_keys", identity.authorized_key, 0o600),
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("root/.ssh")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        archive.addfile(folder)
        for path, text, mode in files:
            entry = tarfile.TarInfo(path)
            data = text.encode()
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
