"""The server's certificate: PEM files of ours, put into the NSS database that the server reads.

The database is made anew beside the old one and moved over it, so it holds exactly what was given,
and a killed import leaves a whole one; which certificate counts is what the server presents.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import tempfile
from pathlib import Path

from .instance import FOLDERS, run

FOLDER = Path("/etc/solostack-directory")
CA, CERTIFICATE, KEY = FOLDER / "ca.pem", FOLDER / "certificate.pem", FOLDER / "key.pem"
DATABASE = Path(FOLDERS[0])
FILES = ("cert9.db", "key4.db", "pkcs11.txt")
NICKNAME = "Server-Cert"
CONNECT_TIMEOUT_S = 5


def is_served() -> bool:
    """Return whether the server presents the certificate of the file on port 636."""
    text = CERTIFICATE.read_text(encoding="ascii")
    first = text[: text.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    wanted = ssl.PEM_cert_to_DER_cert(first[first.index("-----BEGIN CERTIFICATE-----") :])
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", 636), CONNECT_TIMEOUT_S) as link,
            context.wrap_socket(link) as secured,
        ):
            return secured.getpeercert(binary_form=True) == wanted
    except OSError:
        return False


def install() -> None:
    """Put the certificate, its key and the CA where the server reads them at its next start."""
    owner = DATABASE.stat()
    work = Path(tempfile.mkdtemp(prefix=".solostack-", dir=DATABASE))
    try:
        _fill(work)
        for name in FILES:
            os.chown(work / name, owner.st_uid, owner.st_gid)
            (work / name).chmod(0o600)
            (work / name).rename(DATABASE / name)
    finally:
        shutil.rmtree(work)


def _fill(work: Path) -> None:
    pin, bundle, empty = DATABASE / "pwdfile.txt", work / "bundle.p12", work / "empty"
    empty.write_text("\n", encoding="ascii")
    database = ("-d", f"sql:{work}")
    run(("certutil", "-N", *database, "-f", str(pin)))
    run(("certutil", "-A", *database, "-n", "site-ca", "-t", "CT,,", "-a", "-f", str(pin),
         "-i", str(CA)))  # fmt: skip
    run(("openssl", "pkcs12", "-export", "-name", NICKNAME, "-in", str(CERTIFICATE),
         "-inkey", str(KEY), "-out", str(bundle), "-passout", f"file:{empty}"))  # fmt: skip
    run(("pk12util", "-i", str(bundle), *database, "-k", str(pin), "-w", str(empty)))
