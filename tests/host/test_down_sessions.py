"""What `down` does to iSCSI sessions and records of volumes, by the script itself, run by sh.

The host's own programs are stand-ins: nothing of this machine is asked, or changed. iscsiadm keeps
sessions in a file and records as folders, and ends with 21 where it has none, as iscsiadm(8) says.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from solostack.flows import down

pytestmark = pytest.mark.host

OURS = "iqn.2010-10.org.openstack:volume-1"
STUCK = "iqn.2010-10.org.openstack:volume-stuck"
OTHERS = "iqn.2001-04.com.example:has.iqn.2010-10.org.openstack:x"
ISCSIADM = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>calls
case "$*" in
"-m session")
    [ -s sessions ] || exit 21
    sed 's/.*/tcp: [1] 172.16.0.13:3260,1 & (non-flash)/' sessions ;;
"-m node")
    [ -n "$(ls iscsi/nodes 2>/dev/null)" ] || exit 21
    ls iscsi/nodes | sed 's/^/172.16.0.13:3260,4294967295 /' ;;
*stuck*-u | *stuck*delete) exit 8 ;;
*-u) grep -vxF "$4" sessions >new; mv new sessions ;;
*delete) rmdir "iscsi/nodes/$4" ;;
esac
"""
# All that the scripts may find beside them: never the virsh or iscsiadm of this machine.
TOOLS = "awk cut dirname grep ls mkdir mv rm rmdir sed sort timeout touch"


class Host:
    """A folder that stands for a host which became a chassis."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.iscsi = folder / "iscsi"
        (folder / "ledger").mkdir()
        (folder / "ledger/journal.jsonl").write_text('{"name": "chassis phys1"}\n')
        (folder / "before").mkdir()
        (folder / "before/state.json").write_text('{"files": {}}\n')
        self.iscsi.mkdir()
        for name in TOOLS.split():
            (folder / name).symlink_to(shutil.which(name) or name)
        self.program("iscsiadm", ISCSIADM)
        for name in ("virsh", "systemctl", "ip", "ovs-vsctl"):
            self.program(name, "#!/bin/sh\n")

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def has(self, *, sessions: tuple[str, ...] = (), records: tuple[str, ...] = ()) -> None:
        (self.folder / "sessions").write_text("".join(f"{each}\n" for each in sessions))
        for each in records:
            (self.iscsi / "nodes" / each).mkdir(parents=True)

    def clean(self) -> list[str]:
        """Run what `down` runs first; return what iscsiadm was called for."""
        script = down.INSTANCES.replace("/var/lib/solostack", str(self.folder))
        script = script.replace("/var/lib/iscsi", str(self.iscsi))
        done = subprocess.run(
            ("/bin/sh", "-s", "--"),
            input=script,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": str(self.folder)},
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_sessions_and_records_of_volumes_end_and_others_stay(host: Host) -> None:
    host.has(sessions=(OURS, OTHERS), records=(OURS, OTHERS))
    assert host.clean()[2:] == [f"-m node -T {OURS} -u", f"-m node -T {OURS} -o delete"]
    assert (host.folder / "sessions").read_text() == f"{OTHERS}\n"
    assert [each.name for each in (host.iscsi / "nodes").iterdir()] == [OTHERS]


def test_a_record_whose_session_is_gone_already_is_deleted(host: Host) -> None:
    """And with it the folder that iscsiadm made, which the host did not have before."""
    host.has(records=(OURS,))
    assert f"-m node -T {OURS} -o delete" in host.clean()
    assert not (host.iscsi / "nodes").exists()


def test_folders_of_before_stay(host: Host) -> None:
    host.has(records=(OURS,))
    (host.folder / "before/state.json").write_text(f'{{"{host.iscsi}/nodes": "dir 0700 0:0"}}\n')
    host.clean()
    assert (host.iscsi / "nodes").is_dir()


def test_a_session_that_does_not_end_is_not_tried_at_the_next_boot(host: Host) -> None:
    host.has(sessions=(STUCK, OURS), records=(STUCK, OURS))
    calls = host.clean()
    assert calls[-1] == f"-m node -T {STUCK} -o update -n node.startup -v manual"
    assert [each.name for each in (host.iscsi / "nodes").iterdir()] == [STUCK]


def test_without_volumes_nothing_is_done(host: Host) -> None:
    host.has(sessions=(OTHERS,), records=(OTHERS,))
    assert host.clean() == ["-m session", "-m node"]


def test_without_iscsi_there_is_nothing_to_do(host: Host) -> None:
    (host.folder / "iscsiadm").unlink()
    assert host.clean() == []


def test_a_host_that_never_became_a_chassis_is_left_alone(host: Host) -> None:
    host.has(sessions=(OURS,), records=(OURS,))
    (host.folder / "ledger/journal.jsonl").write_text("")
    assert host.clean() == []
