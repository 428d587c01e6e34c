"""Volumes: grown under way, and on instances of a compute host whose kernel has an initiator."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from solostack.cloud.credentials import SECRET_NAMES, build_access
from solostack.doors.process import Executor
from solostack.engine.secrets import SecretStore
from solostack.errors import SolostackError
from solostack.lab.lab import Lab
from solostack.openstack import storage_disks
from solostack.site.model import Role
from tests.cloud import compute_vm
from tests.cloud import test_full_swift as objects
from tests.cloud.conftest import Operator
from tests.cloud.dashboard import log_in, open_dashboard
from tests.cloud.volume_steps import ask

pytestmark = [pytest.mark.cloud, pytest.mark.lane("full site")]

GIB = 2**30
BOOT_S = 600
# Beside the sessions of Nova, by an interface of its own; leaves nothing.
LOGINS = r"""
record=$(iscsiadm -m session | head -1 |
    sed -nE 's/.* ([0-9.]+:3260),[0-9]+ (iqn\.2010-10\S+).*/\1 \2/p')
portal=${record% *} target=${record#* }
iscsiadm -m iface -I stranger -o new >/dev/null
record() { iscsiadm -m node -T "$target" -p "$portal" -I stranger "$@" >/dev/null 2>&1; }
try() { status=0; record --login || status=$?; echo $status; }
record -o new
try
for setting in authmethod=CHAP username=somebody password=wrong-password; do
    record -o update -n "node.session.auth.${setting%=*}" -v "${setting#*=}"
done
try
record -o delete
iscsiadm -m iface -I stranger -o delete >/dev/null
"""
# The compute host stays with the lab it is in (see the fixture full).
KEPT = bool(os.environ.get("SOLOSTACK_FULL_LAB"))
SECTORS_IN_GIB = 2**21


def storage(operator: Operator, *arguments: str, ok: bool = True) -> Any:
    command = (sys.executable, "-m", "solostack", "storage", *arguments)
    done = operator.run(*command, "-f", str(operator.site), "--json", timeout_s=1500)
    assert (done.returncode == 0) is ok, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout) if ok else done.stderr


def disks_of(operator: Operator) -> dict[str, Any]:
    return {disk["name"]: disk for disk in storage(operator, "list")["disks"]}


def test_the_disks_are_listed_with_what_is_on_them(full: Operator) -> None:
    disks = disks_of(full)
    planned = full.deployment().plan.node(Role.STORAGE).disks
    assert set(disks) == {disk.name for disk in planned} >= {"cinder", "swift1", "nfs"}
    for disk in disks.values():
        assert disk["error"] == ""
        assert disk["actual_bytes"] == disk["size_gib"] * GIB
        assert 0 < disk["guest_total_bytes"] <= disk["actual_bytes"]


@pytest.mark.parametrize("name", ["cinder", "nfs"])
def test_a_disk_grows_while_it_is_used(full: Operator, name: str) -> None:
    before = disks_of(full)[name]
    remarks = [line for line in full.site.read_text().splitlines() if line.startswith("#")]
    wanted = before["size_gib"] + 2
    grown = storage(full, "grow", name, str(wanted))
    assert (grown["disks"], grown["new_gib"], grown["applied"]) == ([name], wanted, True)
    after = disks_of(full)[name]
    assert after["actual_bytes"] == wanted * GIB
    assert after["guest_total_bytes"] > before["guest_total_bytes"] + 1.9 * GIB
    assert [line for line in full.site.read_text().splitlines() if line.startswith("#")] == remarks
    assert storage(full, "grow", name, str(wanted))["applied"]
    assert full.solostack("up", "--yes") == {"pending": []}


def test_a_disk_never_shrinks(full: Operator) -> None:
    assert "cannot shrink" in storage(full, "grow", "cinder", "1", ok=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The controller to ask, the host to attach on, and the login."""

    controller: Executor
    storage: Executor
    compute: compute_vm.ComputeVm
    console: Executor
    login: dict[str, str]

    def ask(self, do: str, **wanted: Any) -> Any:
        return ask(self.controller, self.login, do, host=compute_vm.NAME, **wanted)

    def disk(
        self,
        server: str,
        disk: str,
        marks: str,
        *,
        sectors: int = 0,
        after: int = 0,
        before: int = 10**6,
    ) -> int:
        """Wait until the instance says one of these marks of a disk; return the round it was.

        It counts rounds from its boot on; the round must lie between after and before.
        """
        wanted = {"disk": disk, "marks": marks.split("|"), "sectors": sectors}
        wanted |= {"after": after, "before": before}
        rows = self.ask("console", server=server, **wanted)
        assert not [row for row in rows if row[1] == "lost"], rows
        return int(rows[-1][3])

    def storage_reboot(self) -> None:
        """Reboot the storage node, as its own systemd does it, and wait until it is back."""
        before = self._storage_boot()
        assert before
        self._virsh("reboot storage")
        self._wait_until(lambda: self._storage_boot() not in {"", before}, "it has rebooted")

    def _storage_boot(self) -> str:
        """Return the kernel's name for this boot (random(4)), empty when nothing answers."""
        try:
            return self.storage.run(("cat", "/proc/sys/kernel/random/boot_id"), timeout_s=40).text
        except SolostackError:
            return ""

    def power_cut(self, lab: Lab, meanwhile: Callable[[], object]) -> None:
        """Cut the power of the host that carries everything, and give it back.

        The compute host is back first and has to wait for the storage node: so it is on a host
        that carries both. What is to be seen meanwhile is looked at before the node starts.
        """
        self._virsh(f"autostart {compute_vm.NAME}", "autostart --disable storage")
        lab.kill("phys1")
        lab.start("phys1")
        try:
            compute_vm.wait_for_ssh(self.console, str(self.compute.plan.data_address.ip))
            self._wait_until(self._compute_waits, "nova-compute waits for the storage node")
            assert self.ask("host", state="down")
            meanwhile()
        finally:
            self._virsh("autostart storage", "start storage")
        self.ask("host")

    def _compute_waits(self) -> bool:
        state = ("systemctl", "show", "-P", "SubState", "nova-compute.service")
        try:
            return self.compute.executor.run(state, timeout_s=60).text.strip() == "start-pre"
        except SolostackError:
            return False

    def clean_shutdown(self) -> None:
        """Shut the compute host down as its own systemd does it; its instances end before."""
        assert self._connections() > 0
        self._virsh(f"shutdown {compute_vm.NAME}")
        off = (*compute_vm.VIRSH.split(), "domstate", compute_vm.NAME)
        self._wait_until(lambda: self.console.run(off).text.strip() == "shut off", "it is off")
        assert self._connections() == 0, "it logged out of its volumes"

    def _connections(self) -> int:
        """Return how many initiators the storage node has connections with."""
        show = ("tgtadm", "--lld", "iscsi", "--op", "show", "--mode", "target")
        return self.storage.run(show, timeout_s=60).text.count("Connection:")

    def _wait_until(self, happened: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + BOOT_S
        while not happened():
            assert time.monotonic() < end_s, f"not within {BOOT_S} s: {what}"
            time.sleep(2)

    def logins(self) -> list[int]:
        """Log in to a volume in use without a password, and with a wrong one; iscsiadm's statuses.

        24 is ISCSI_ERR_LOGIN_AUTH_FAILED (iscsiadm(8)).
        """
        done = self.compute.executor.run(("sh", "-eu"), stdin=LOGINS.encode(), timeout_s=180)
        return [int(word) for word in done.text.split()]

    def _virsh(self, *commands: str) -> None:
        script = "".join(f"{compute_vm.VIRSH} {command}\n" for command in commands)
        self.console.run(("sh", "-e"), stdin=script.encode(), timeout_s=120)

    def contents(self, volumes: list[str]) -> set[str]:
        """Return what the storage node finds on volumes: how they begin, and a digest."""
        device = f"/dev/{storage_disks.VOLUME_GROUP}/volume-"
        script = "".join(
            f"head -c 9 {device}{one}; dd if={device}{one} bs=1M count=4 status=none | sha256sum\n"
            for one in volumes
        )
        done = self.storage.run(("sh", "-eu"), stdin=script.encode(), timeout_s=180)
        return set(done.text.splitlines())


@pytest.fixture(scope="module")
def stage(full: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    deployment = full.deployment()
    console = full.lab.host_executor("phys1")
    folder: Path = tmp_path_factory.mktemp("phys2")
    access = build_access(
        deployment.plan, SecretStore(deployment.state.directory).ensure(SECRET_NAMES)
    )
    try:
        vm = compute_vm.start(deployment, console, full.lab.upstream_executor(), folder)
        compute_vm.make_compute(deployment, vm)
        made = Stage(
            controller=full.node("controller"),
            storage=full.node("storage"),
            compute=vm,
            console=console,
            login={
                "auth_url": access.auth_url,
                "region": access.region,
                "password": access.admin_password,
            },
        )
        made.ask("host")
        # As `up` does; Nova itself would look for new hosts every half minute.
        discover = ("nova-manage", "cell_v2", "discover_hosts", "--by-service")
        made.controller.run(("runuser", "-u", "nova", "--", *discover), timeout_s=120)
        made.ask("room")
        yield made
        if not KEPT:
            made.ask("forget")
    finally:
        if not KEPT:
            compute_vm.stop(console)


def test_volumes_are_booted_from_attached_kept_and_detached(
    stage: Stage, full: Operator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One that the instance boots from, and one made and attached in the browser.

    Both are written by the instance and read back, also after a reboot of the instance, of the
    storage node, and of the instance's host while all others lose their power: nobody helps when
    they are back. Nobody else can log in to them; a snapshot and a clone hold the same. Verify
    tells meanwhile that the storage node is off, and objects outlive it, too.
    """
    name = {"server": "disks", "volume": "data"}
    grown = 2 * SECTORS_IN_GIB
    try:
        stage.ask("start-from-volume", **name)
        stage.disk("disks", "vda", "written|kept", sectors=SECTORS_IN_GIB)
        dashboard = open_dashboard(full, tmp_path_factory)
        told = dashboard.browse(
            log_in(dashboard, "admin"),
            {"do": "use_project", "name": "admin"},
            {"do": "volume", "name": "data", "size_gib": 1},
            {"do": "attach", "name": "data", "instance": "disks", "shot": "volume"},
            {"do": "log_out"},
        )
        assert "on disks" in told[3]["line"], told
        stage.disk("disks", "vdb", "written")
        assert stage.logins() == [24, 24]
        stage.ask("extend", **name)
        stage.disk("disks", "vdb", "kept", sectors=grown)
        stage.ask("reboot", **name)
        stage.disk("disks", "vda", "kept", sectors=SECTORS_IN_GIB)
        last = stage.disk("disks", "vdb", "kept", sectors=grown)
        stage.storage_reboot()
        last = stage.disk("disks", "vdb", "kept", after=last + 2)
        stage.clean_shutdown()
        kept = objects.ask(full, "put_get", container="outlives", size=objects.MIB, delete=False)
        assert kept["put"]["status"] == 201, kept
        stage.storage.run(("sync",), timeout_s=60)
        stage.power_cut(full.lab, lambda: objects.assert_node_off_is_told(full))
        stage.disk("disks", "vda", "kept", sectors=SECTORS_IN_GIB, before=last)
        stage.disk("disks", "vdb", "kept", sectors=grown)
        assert stage.ask("status", **name) == "ACTIVE"
        objects.verify_until_well(full)
        told = objects.ask(full, "put_get", container="outlives", put=False, size=0)
        assert (told["got"]["md5"], told["delete"]["status"]) == (kept["sent"], 204)
        stage.ask("detach", **name)
        (content,) = stage.contents(stage.ask("copies", **name))
        assert content.startswith("solostack")
    finally:
        stage.ask("delete", **name)


def test_more_volumes_than_the_quota_are_refused(stage: Stage) -> None:
    status, said = stage.ask("quota")
    assert status == 413
    assert "maximum number of volumes allowed (0) exceeded" in said.lower()


def test_the_shared_folder_is_mounted_by_a_compute_host(stage: Stage) -> None:
    """It writes, and the storage node has it, as everybody's is: nobody's."""
    address = stage.compute.plan.data_address.ip
    script = (
        f"set -- {address}\n{objects.MOUNT}echo there >/mnt/folder/of-compute\numount /mnt/folder\n"
    )
    stage.compute.executor.run(("sh",), stdin=script.encode(), timeout_s=180)
    look = "cd /srv/nfs; cat of-compute; stat -c %U of-compute; rm of-compute\n"
    done = stage.storage.run(("sh", "-e"), stdin=look.encode(), timeout_s=60)
    assert done.text.split() == ["there", "nobody"]
