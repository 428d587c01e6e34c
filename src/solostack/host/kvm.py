"""Whether a host really runs a guest under KVM: boots one and listens to what it says.

The presence of /dev/kvm and of CPU flags proves nothing: a hypervisor that lends only a part of
the processor to its guests shows both.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import zlib
from pathlib import Path

from solostack.doors.process import Executor
from solostack.errors import CommandError, HostError
from solostack.host import probe_boot, probe_guest

QEMU = "qemu-system-x86_64"
DEFAULT_TIMEOUT_S = 20.0
ROUND_TRIP_S = 20.0
"""What the way to the host and the start of Python may take on top of the guest's own time."""


class Accelerator(enum.StrEnum):
    """What executes the guest's instructions. TCG is for proving the guest itself."""

    KVM = "kvm"
    TCG = "tcg"


class Verdict(enum.StrEnum):
    """Whether the guest ran. UNKNOWN: there was no QEMU to try it with."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuestProbe:
    """The answer: verdict, the reason in a reader's words, and how long it took."""

    verdict: Verdict
    reason: str
    duration_s: float


NOT_PROBED = GuestProbe(verdict=Verdict.UNKNOWN, reason="no guest was booted", duration_s=0.0)


def probe_kvm(
    executor: Executor,
    *,
    accelerator: Accelerator = Accelerator.KVM,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> GuestProbe:
    """Boot the tiny guest on the executor's machine and return whether it ran.

    Takes well under a second where it works, at most timeout_s where it hangs. The guest gets the
    host's own CPU model under KVM, as control nodes do.

    Raises:
        HostError: the machine could not even run the script that starts QEMU.
        ConnectError: the machine cannot be reached.
    """
    try:
        done = executor.run(
            ("python3", "-I", "-"),
            stdin=_script(accelerator, timeout_s),
            timeout_s=timeout_s + ROUND_TRIP_S,
        )
    except CommandError as error:
        raise HostError(
            f"{executor.name}: the KVM probe did not run: {error.message}",
            details=error.details,
            hint=f"see that python3 works on {executor.name}: apt install python3",
        ) from error
    return parse_probe(done.text, executor.name)


def parse_probe(text: str, name: str) -> GuestProbe:
    """Read the line the script printed on the machine called name."""
    try:
        answer = json.loads(text)
        return GuestProbe(
            verdict=Verdict(answer["verdict"]),
            reason=str(answer["reason"]),
            duration_s=float(answer["duration_s"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(
            f"{name}: the KVM probe's answer cannot be read: {error}",
            details=text.splitlines()[-5:],
            hint=f"log in to {name} and see what python3 -I prints besides",
        ) from error


def qemu_arguments(accelerator: Accelerator) -> tuple[str, ...]:
    """Build the arguments of QEMU; ``@disk@`` stands for the disk's path."""
    cpu = "host" if accelerator is Accelerator.KVM else "Nehalem"
    return (
        "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
        "-machine", f"q35,accel={accelerator}", "-cpu", cpu, "-smp", "1", "-m", "64",
        "-serial", "stdio", "-no-reboot", "-nic", "none",
        "-device", f"isa-debug-exit,iobase={probe_guest.DEBUG_EXIT_PORT:#x},iosize=0x04",
        "-drive", "file=@disk@,format=raw,if=ide",
    )  # fmt: skip


def _script(accelerator: Accelerator, timeout_s: float) -> bytes:
    request = {
        "accelerator": accelerator,
        "argv": qemu_arguments(accelerator),
        "bad_status": probe_guest.BAD_STATUS,
        "disk": base64.b64encode(zlib.compress(probe_guest.build_boot_disk())).decode(),
        "good_status": probe_guest.GOOD_STATUS,
        "qemu": QEMU,
        "timeout_s": timeout_s,
        "word": probe_guest.WORD,
    }
    source = Path(probe_boot.__file__).read_text(encoding="utf-8")
    return f"{source}\nmain({json.dumps(request)!r})\n".encode()
