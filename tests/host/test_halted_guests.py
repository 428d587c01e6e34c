"""Guests that sleep with an interrupt in service, under real QEMU: reset, no other is."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.engine.operations import File
from solostack.host.halted_guests import SCRIPT_PATH, halted_guests_operations
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts
from solostack.site.loader import parse_site
from tests.ties import TIED

pytestmark = pytest.mark.host

SITE = """hosts:
  - {name: phys1, address: 203.0.113.2, nic: nic0}
external: {block: 198.51.100.0/28}
"""
PREFIX = f"solostack-test-halted-{os.getpid()}-"
VIRSH = ("virsh", "-q", "-c", "qemu:///system")
# A boot sector: writes B to the first serial line, goes to protected mode, enables the local APIC,
# and sends itself interrupt 236, whose handler halts without an end of interrupt.
SEND = bytes.fromhex("c7050003e0feec400400")
STUCK = bytes.fromhex(
    "fa31c08ed88ed0bc007cbaf803b042eee4920c02e6920f0116907c0f20c00c010f22c0ea287c080066b810008ed8"
    "8ed0bc007c00000f011d967c0000c705f000e0feff010000c7058000e0fe00000000c70560170000727c0800c705"
    "64170000008e0000fbc7050003e0feec400400f4ebfdf4ebfd8d76000000000000000000ffff0000009acf00ffff"
    "00000092cf001700787c0000ff0700100000"
)
# The same without sending it, halted with interrupts off.
ASLEEP = STUCK.replace(b"\xfb" + SEND, b"\xfa" + b"\x90" * len(SEND))
NOVA = (
    "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
    "<nova:name>x</nova:name></nova:instance></metadata>"
)
DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>{metadata}<memory unit='MiB'>16</memory><vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>
  <features><apic/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <serial type='pty'><log file='{log}'/></serial>
  </devices>
</domain>
"""


def start(folder: Path, name: str, sector: bytes, metadata: str = NOVA) -> Path:
    """Start a guest; return the log of its serial line, which has a B for each boot."""
    disk, log = folder / f"{name}.raw", Path(f"/var/log/libvirt/qemu/{PREFIX}{name}.log.serial")
    disk.write_bytes(sector.ljust(510, b"\0") + b"\x55\xaa" + b"\0" * 2**20)
    disk.chmod(0o644)
    text = DOMAIN.format(name=PREFIX + name, disk=disk, log=log, metadata=metadata)
    subprocess.run([*VIRSH, "create", "/dev/stdin"], input=text.encode(), check=True)
    return log


@pytest.fixture
def folder() -> Iterator[Path]:
    if shutil.which("virsh") is None or shutil.which("qemu-system-x86_64") is None:
        pytest.skip("virsh or qemu-system-x86_64 is not installed here")
    if subprocess.run([*VIRSH, "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no libvirt with QEMU here")
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    listed = subprocess.run([*VIRSH, "list", "--name"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name.startswith(PREFIX):
            subprocess.run([*VIRSH, "destroy", name], check=True)
    for log in Path("/var/log/libvirt/qemu").glob(f"{PREFIX}*"):
        log.unlink()
    shutil.rmtree(made)


def test_a_guest_with_an_interrupt_in_service_is_reset_and_another_is_not(folder: Path) -> None:
    facts = HostFacts(
        name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=False, openvswitch_module=False
    )
    plan = build_plan(parse_site(SITE, Path("site.yaml")).site, {"phys1": facts})
    script, *_ = halted_guests_operations(plan.hosts[0])
    assert isinstance(script, File)
    assert script.path == SCRIPT_PATH
    program = folder / "program"
    program.write_text(script.content.replace("sleep 10", "sleep 2"))
    boots = {name: start(folder, name, sector) for name, sector in
             (("stuck", STUCK), ("asleep", ASLEEP))}  # fmt: skip
    boots["theirs"] = start(folder, "theirs", STUCK, metadata="")
    told = folder / "told"
    with told.open("w") as output, subprocess.Popen(
        (*TIED, "bash", str(program)), stdout=output
    ) as process:  # fmt: skip
        end_s = time.monotonic() + 90
        while boots["stuck"].read_bytes().count(b"B") < 3 and time.monotonic() < end_s:
            time.sleep(1)
        process.kill()
    assert boots["stuck"].read_bytes().count(b"B") >= 3, told.read_text()
    assert boots["asleep"].read_bytes().count(b"B") == 1
    assert boots["theirs"].read_bytes().count(b"B") == 1
    lines = told.read_text().splitlines()
    assert {*lines} == {f"{PREFIX}stuck slept with an interrupt in service: reset"}
