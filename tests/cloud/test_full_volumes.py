"""Volumes: grown under way, and on instances of a compute host whose kernel has an initiator."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solostack.cloud.credentials import SECRET_NAMES, build_access
from solostack.doors.process import Executor
from solostack.engine.secrets import SecretStore
from solostack.errors import SolostackError
from solostack.flows.deployment import Deployment, make_deployment, site_state
from solostack.flows.facts import load_facts
from solostack.site.loader import load_site
from tests.cloud import compute_vm
from tests.cloud.conftest import Operator
from tests.cloud.dashboard import log_in, open_dashboard
from tests.cloud.volume_steps import ask

pytestmark = [pytest.mark.cloud, pytest.mark.lane("full site")]

GIB = 2**30
STORAGE_BOOT_S = 600
# The compute host stays with the lab it is in (see the fixture full).
KEPT = bool(os.environ.get("SOLOSTACK_FULL_LAB"))
SECTORS_IN_GIB = 2**21


def deployment_of(operator: Operator) -> Deployment:
    loaded = load_site(operator.site)
    state = site_state(loaded, operator.state_home / "solostack")
    return make_deployment(loaded, state, load_facts(state))


def storage(operator: Operator, *arguments: str, ok: bool = True) -> Any:
    command = (sys.executable, "-m", "solostack", "storage", *arguments)
    done = operator.run(*command, "-f", str(operator.site), "--json", timeout_s=1500)
    assert (done.returncode == 0) is ok, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout) if ok else done.stderr


def disks_of(operator: Operator) -> dict[str, Any]:
    return {disk["name"]: disk for disk in storage(operator, "list")["disks"]}


def test_the_disks_are_listed_with_what_is_on_them(full: Operator) -> None:
    disks = disks_of(full)
    assert set(disks) == {"cinder", "swift1", "nfs"}
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
        reboot = f"{compute_vm.VIRSH} reboot storage\n".encode()
        self.console.run(("sh",), stdin=reboot)
        end_s = time.monotonic() + STORAGE_BOOT_S
        while self._storage_boot() in {"", before}:
            assert time.monotonic() < end_s, "the storage node does not reboot"
            time.sleep(2)

    def _storage_boot(self) -> str:
        """Return the kernel's name for this boot (random(4)), empty when nothing answers."""
        try:
            return self.storage.run(("cat", "/proc/sys/kernel/random/boot_id"), timeout_s=40).text
        except SolostackError:
            return ""

    def power_cut(self) -> None:
        """Cut the power of the compute host, and give it back once Nova has noticed."""
        vm = f"{compute_vm.VIRSH} destroy {compute_vm.NAME}\n"
        self.console.run(("sh",), stdin=vm.encode())
        self.ask("host", state="down")
        self.console.run(("sh",), stdin=vm.replace("destroy", "start").encode())
        self.ask("host")


@pytest.fixture(scope="module")
def stage(full: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    deployment = deployment_of(full)
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
    storage node, and a power cut of the instance's host. While that is down it is told; nobody
    helps when it is back.
    """
    name = {"server": "disks", "volume": "data"}
    grown = 2 * SECTORS_IN_GIB
    try:
        stage.ask("start-from-volume", **name)
        stage.disk("disks", "vda", "written|kept", sectors=SECTORS_IN_GIB)
        dashboard = open_dashboard(full, tmp_path_factory)
        told = dashboard.browse(
            log_in(dashboard, "admin"),
            {"do": "volume", "name": "data", "size_gib": 1},
            {"do": "attach", "name": "data", "instance": "disks", "shot": "volume"},
            {"do": "log_out"},
        )
        assert "on disks" in told[2]["line"], told
        stage.disk("disks", "vdb", "written")
        stage.ask("extend", **name)
        stage.disk("disks", "vdb", "kept", sectors=grown)
        stage.ask("reboot", **name)
        stage.disk("disks", "vda", "kept", sectors=SECTORS_IN_GIB)
        last = stage.disk("disks", "vdb", "kept", sectors=grown)
        stage.storage_reboot()
        last = stage.disk("disks", "vdb", "kept", after=last + 2)
        stage.power_cut()
        stage.disk("disks", "vda", "kept", sectors=SECTORS_IN_GIB, before=last)
        stage.disk("disks", "vdb", "kept", sectors=grown)
        assert stage.ask("status", **name) == "ACTIVE"
        stage.ask("detach", **name)
    finally:
        stage.ask("delete", **name)
