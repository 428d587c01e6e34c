"""The tiny guest under a real QEMU, and QEMUs that hang, break or lie."""

import shutil
import time
from pathlib import Path

import pytest

from solostack.doors.process import LocalExecutor, PrefixExecutor
from solostack.errors import HostError
from solostack.host import kvm
from solostack.host.kvm import Accelerator, GuestProbe, Verdict, probe_kvm
from solostack.host.probe_guest import GOOD_STATUS, WORD

pytestmark = pytest.mark.host
needs_qemu = pytest.mark.skipif(
    shutil.which(kvm.QEMU) is None, reason=f"{kvm.QEMU} is not installed"
)


def probe(accelerator: Accelerator = Accelerator.TCG, timeout_s: float = 60.0) -> GuestProbe:
    return probe_kvm(LocalExecutor(), accelerator=accelerator, timeout_s=timeout_s)


@needs_qemu
def test_guest_runs_under_tcg() -> None:
    found = probe()
    assert (found.verdict, found.reason) == (Verdict.YES, "a 64-bit guest ran")
    assert 0 < found.duration_s < 60


@needs_qemu
def test_kvm_is_answered_within_the_deadline() -> None:
    """Whatever KVM is like here: never a hang, and a reason with every no."""
    started = time.monotonic()
    found = probe(Accelerator.KVM, timeout_s=20.0)
    assert time.monotonic() - started < 45
    assert found.verdict in {Verdict.YES, Verdict.NO}
    assert found.reason
    if not Path("/dev/kvm").exists():
        assert (found.verdict, found.reason) == (Verdict.NO, "there is no /dev/kvm")


@needs_qemu
def test_processor_without_long_mode_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = kvm.qemu_arguments(Accelerator.TCG)
    weaker = tuple("qemu32" if part == "Nehalem" else part for part in arguments)
    monkeypatch.setattr(kvm, "qemu_arguments", lambda _: weaker)
    found = probe()
    assert (found.verdict, found.reason) == (
        Verdict.NO,
        "the guest's own test of the processor failed",
    )


def fake_qemu(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(kvm, "QEMU", str(program))


def test_silent_guest_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_qemu(tmp_path, f"echo $$ >{tmp_path}/pid\nexec sleep 600", monkeypatch)
    started = time.monotonic()
    found = probe(timeout_s=3.0)
    assert time.monotonic() - started < 30
    assert (found.verdict, found.reason) == (Verdict.NO, "the guest said nothing within 3 s")
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists(), "QEMU is still there"


def test_guest_that_kvm_gave_up_on_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # QEMU stops the guest after an internal error of KVM and stays.
    error = "KVM internal error. Suberror: 1"
    fake_qemu(tmp_path, f"echo '{error}' >&2\nexec sleep 600", monkeypatch)
    started = time.monotonic()
    found = probe(timeout_s=100.0)
    assert time.monotonic() - started < 50
    assert (found.verdict, found.reason) == (Verdict.NO, f"KVM gave up on the guest: {error}")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"echo {WORD}; exit 0", "QEMU ended with status 0, the guest did not finish"),
        (f"exit {GOOD_STATUS}", f"QEMU ended with status {GOOD_STATUS}, the guest did not finish"),
        ("echo no MSR >&2; kill -ABRT $$", "QEMU was ended by signal 6: no MSR"),
    ],
)
def test_word_and_status_are_both_needed(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(tmp_path, script, monkeypatch)
    found = probe()
    assert (found.verdict, found.reason) == (Verdict.NO, reason)


def test_missing_qemu_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "QEMU", "no-such-qemu")
    found = probe()
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "no-such-qemu is not installed")


def test_machine_without_python_is_a_host_error() -> None:
    executor = PrefixExecutor(LocalExecutor(), ("false",), "phys1")
    with pytest.raises(HostError, match="phys1: the KVM probe did not run"):
        probe_kvm(executor)
