"""The server instance: made whole by dscreate(8), or taken away and made again.

Once it was made to its end it holds people who are nowhere else: from then on nothing here removes
anything of it, whatever is missing.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from .server import INSTANCE, UNIT, SetupError

# What dscreate makes; the instance counts as made only once the mark is there, and from then on.
FOLDERS = (
    f"/etc/dirsrv/slapd-{INSTANCE}",
    f"/var/lib/dirsrv/slapd-{INSTANCE}",
    f"/var/log/dirsrv/slapd-{INSTANCE}",
    f"/run/lock/dirsrv/slapd-{INSTANCE}",
)
MARK = Path(f"/var/lib/dirsrv/.{INSTANCE}-complete")
CONFIG = Path(FOLDERS[0]) / "dse.ldif"
# What the server keeps of its configuration: the one before, and that of its last good start.
CONFIG_COPIES = ("dse.ldif.bak", "dse.ldif.startOK")
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


def is_made() -> bool:
    """Return whether the instance was once made to its end, so that it may hold users."""
    # Not by its dse.ldif: the server replaces that by renaming, so for a moment there is none.
    return MARK.exists()


def suffix_made() -> str:
    """Return the suffix that the instance was made with."""
    return MARK.read_text(encoding="utf-8").strip()


def build(name: str, suffix: str) -> None:
    """Make the instance; only for one that was never made to its end.

    What a killed run left of it holds nothing yet and is removed first.
    """
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
    """Start the server unless it runs.

    Without a dse.ldif it takes the copy that it renamed last (dse_check_file in 389's dse.c);
    SetupError says how to put one back where it has none.
    """
    run(("systemctl", "reset-failed", UNIT), check=False)
    try:
        run(("systemctl", "start", UNIT))
    except SetupError as error:
        if CONFIG.exists():
            raise
        raise SetupError(
            f"{CONFIG} is missing, and without it the directory server does not start; its users "
            f"are still in {FOLDERS[1]}",
            hint=_restore_hint(),
        ) from error


def _restore_hint() -> str:
    for name in CONFIG_COPIES:
        copy = CONFIG.with_name(name)
        if copy.exists() and copy.stat().st_size:
            return f"on the directory node: cp -p {copy} {CONFIG}; then run solostack up"
    return (
        f"put {CONFIG} back from a backup of the directory node ({' or '.join(CONFIG_COPIES)} "
        "beside it would do, but are missing too); then run solostack up"
    )


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
