"""The server instance: made whole by dscreate(8), or taken away and made again."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from .server import INSTANCE, UNIT, SetupError

# What dscreate makes; the instance counts as made only once the mark is there.
FOLDERS = (
    f"/etc/dirsrv/slapd-{INSTANCE}",
    f"/var/lib/dirsrv/slapd-{INSTANCE}",
    f"/var/log/dirsrv/slapd-{INSTANCE}",
    f"/run/lock/dirsrv/slapd-{INSTANCE}",
)
MARK = Path(f"/var/lib/dirsrv/.{INSTANCE}-complete")
CONFIG = Path(FOLDERS[0]) / "dse.ldif"
TIMEOUT_S = 300
INF = """\
[general]
full_machine_name = {name}
strict_host_checking = False
start = True
[slapd]
instance_name = {instance}
root_password = {password}
self_sign_cert = False
db_lib = mdb
mdb_max_size = {size}
[backend-userroot]
suffix = {suffix}
create_suffix_entry = True
"""
DATABASE_BYTES = 256 << 20
"""The database's address space: a sparse file, some hundred thousand users."""


def is_complete() -> bool:
    """Return whether the instance was made to its end."""
    return MARK.exists() and CONFIG.exists()


def suffix_made() -> str:
    """Return the suffix that the instance was made with."""
    return MARK.read_text(encoding="utf-8").strip()


def build(name: str, suffix: str) -> None:
    """Make the instance. What a killed run left of one holds nothing yet and is removed first."""
    run(("systemctl", "stop", UNIT), check=False)
    for folder in FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    Path(f"/etc/tmpfiles.d/dirsrv-{INSTANCE}.conf").unlink(missing_ok=True)
    # The manager's password is known to nobody: root needs none on the local socket.
    text = INF.format(
        name=name,
        instance=INSTANCE,
        password=secrets.token_hex(32),
        size=DATABASE_BYTES,
        suffix=suffix,
    )
    inf = Path("/run/solostack-directory.inf")
    inf.unlink(missing_ok=True)
    with os.fdopen(os.open(inf, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        run(("dscreate", "from-file", str(inf)))
    finally:
        inf.unlink(missing_ok=True)
    MARK.write_text(suffix + "\n", encoding="utf-8")
    os.sync()


def restart() -> None:
    """Restart the server; it answers when this returns (Type=notify)."""
    run(("systemctl", "reset-failed", UNIT), check=False)
    run(("systemctl", "restart", UNIT))


def start() -> None:
    """Start the server unless it runs."""
    run(("systemctl", "start", UNIT))


def is_running() -> bool:
    """Return whether the unit is active."""
    return run(("systemctl", "-q", "is-active", UNIT), check=False) == 0


def run(argv: tuple[str, ...], *, check: bool = True, stdin: str = "") -> int:
    """Run a command; SetupError with the end of what it said when it fails."""
    done = subprocess.run(  # noqa: S603  argv is ours, no shell
        argv,
        input=stdin,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=False,
    )
    if check and done.returncode != 0:
        lines = done.stdout.strip().splitlines()[-8:]
        raise SetupError(
            f"{argv[0]} {argv[1]} ended with status {done.returncode}: " + " | ".join(lines),
            hint=f"on the directory node: journalctl -u {UNIT} -e",
        )
    return done.returncode
