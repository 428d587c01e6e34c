"""The tiny guest's bytes, and reading the answer of the script that boots it."""

import json

import hypothesis
import hypothesis.strategies as st
import pytest

from solostack.errors import HostError
from solostack.host.kvm import Accelerator, Verdict, parse_probe, qemu_arguments
from solostack.host.probe_guest import (
    DISK_SIZE,
    WORD,
    Label,
    Reference,
    assemble,
    build_boot_disk,
)


def test_disk_is_a_boot_sector_and_the_same_each_time() -> None:
    disk = build_boot_disk()
    assert len(disk) == DISK_SIZE
    assert disk[510:512] == b"\x55\xaa"
    assert WORD.encode() + b"\r\n\0" in disk[:510]
    assert not any(disk[512:])
    assert disk == build_boot_disk()


def test_references() -> None:
    items = (Reference("end", 2), Reference("end", 4), b"\xeb", Reference("start", 1), Label("end"))
    code = assemble((Label("start"), *items), origin=0x7C00)
    assert code == bytes.fromhex("087c 087c0000 eb f8")


@hypothesis.given(st.integers(0, 300), st.booleans())
def test_short_jumps_reach_exactly_127_forward_and_128_back(gap: int, forward: bool) -> None:
    filler = b"\x90" * gap
    jump = Reference("there", 1)
    items = (jump, filler, Label("there")) if forward else (Label("there"), filler, jump)
    reaches = gap <= 127 if forward else gap + 1 <= 128
    if reaches:
        code = assemble(items, origin=0)
        offset = int.from_bytes(code[:1] if forward else code[-1:], "little", signed=True)
        assert offset == (gap if forward else -gap - 1)
    else:
        with pytest.raises(ValueError, match="short jump to there"):
            assemble(items, origin=0)


def test_unknown_label() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        assemble((Reference("nowhere", 2),), origin=0)


def test_kvm_is_tried_with_the_processor_that_nodes_get() -> None:
    arguments = qemu_arguments(Accelerator.KVM)
    assert arguments[arguments.index("-cpu") + 1] == "host"
    assert arguments[arguments.index("-machine") + 1] == "q35,accel=kvm"
    assert "Nehalem" in qemu_arguments(Accelerator.TCG)


def test_answer() -> None:
    text = json.dumps({"verdict": "no", "reason": "there is no /dev/kvm", "duration_s": 0.01})
    found = parse_probe(text, "phys1")
    assert (found.verdict, found.reason, found.duration_s) == (
        Verdict.NO,
        "there is no /dev/kvm",
        0.01,
    )


@pytest.mark.parametrize(
    "text", ["", "Welcome!\n{}", "{}", '{"verdict": "maybe", "reason": "", "duration_s": 0}', "[]"]
)
def test_unreadable_answer(text: str) -> None:
    with pytest.raises(HostError, match="phys1: the KVM probe's answer cannot be read"):
        parse_probe(text, "phys1")
