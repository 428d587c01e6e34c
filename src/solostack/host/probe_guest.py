"""The smallest guest that proves a hypervisor: one boot sector, made of bytes, no kernel needed.

Owns the machine code and the word it says. The firmware loads it in real mode; it asks CPUID for
long mode, builds page tables, writes EFER, enters 64-bit mode and there tests what real kernels
need at once: an MSR written and read back, 64-bit arithmetic, an SSE register, and a timer
interrupt taken out of HLT. Only then does it write WORD to the first serial port. References:
Intel SDM volume 3A, 11.8.5 (IA-32e mode), and 8259A/8250 data sheets; QEMU's isa-debug-exit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

WORD = "SOLOSTACK-KVM-OK"
DEBUG_EXIT_PORT = 0xF4
GOOD_STATUS = 0x43
"""QEMU's exit status after the guest wrote 0x21 to isa-debug-exit: value * 2 + 1."""
BAD_STATUS = 0x21
"""The same for 0x10: a test inside the guest failed."""

ORIGIN = 0x7C00
SECTOR_SIZE = 512
DISK_SIZE = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """The address of the next byte."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A label's address: size bytes; relative to the byte behind it for short jumps (size 1)."""

    name: str
    size: int


Item = bytes | Label | Reference


def _code(text: str) -> bytes:
    return bytes.fromhex(text)


REAL_MODE: Sequence[Item] = (
    _code("fa"),  # cli
    _code("31c0 8ed8 8ec0 8ed0"),  # xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax
    _code("bc007c fc"),  # mov sp,0x7c00; cld
    _code("e492 0c02 e692"),  # in al,0x92; or al,2; out 0x92,al (address line 20)
    _code("31c0 bf0010 b90020 f3ab"),  # ax=0; di=0x1000; cx=0x2000; rep stosw (to 0x4fff)
    _code("c70600100320"),  # mov word [0x1000],0x2003 (PML4 entry 0: present, writable)
    _code("c70600200330"),  # mov word [0x2000],0x3003 (page directory pointer entry 0)
    _code("c70600308300"),  # mov word [0x3000],0x0083 (page directory entry 0: one 2 MiB page)
    _code("c7060042"), Reference("tick", 2),  # mov word [0x4200],tick (IDT gate 0x20: offset)
    _code("c70602420800"),  # mov word [0x4202],0x0008 (its code selector)
    _code("c7060442008e"),  # mov word [0x4204],0x8e00 (64-bit interrupt gate, present)
    _code("66b801000080 0fa2"),  # mov eax,0x80000001; cpuid
    _code("660fbae21d 73"), Reference("bad", 1),  # bt edx,29 (long mode); jnc bad
    _code("66b820060000 0f22e0"),  # mov eax,0x620 (PAE, OSFXSR, OSXMMEXCPT); mov cr4,eax
    _code("66b800100000 0f22d8"),  # mov eax,0x1000; mov cr3,eax
    _code("66b9800000c0 0f32"),  # mov ecx,0xc0000080 (EFER); rdmsr
    _code("660d01010000 0f30"),  # or eax,0x101 (LME, SCE); wrmsr
    _code("0f20c0 660d01000080 0f22c0"),  # mov eax,cr0; or eax,0x80000001 (PG, PE); mov cr0,eax
    _code("0f0116"), Reference("gdtr", 2),  # lgdt [gdtr]
    _code("ea"), Reference("long", 2), _code("0800"),  # jmp 0x0008:long
)  # fmt: skip

# mov al,0x10; out 0xf4,al; cli; hlt; jmp back to the hlt. The same bytes in 16 and 64-bit mode.
FAILED: Sequence[Item] = (Label("bad"), _code("b010 e6f4 fa f4 ebfd"))

LONG_MODE: Sequence[Item] = (
    Label("long"),
    _code("b9800000c0 0f32"),  # mov ecx,0xc0000080 (EFER); rdmsr
    _code("0fbae00a 73"), Reference("bad", 1),  # bt eax,10 (LMA: long mode active); jnc bad
    _code("b9820000c0 b878563412 31d2 0f30"),  # mov ecx,LSTAR; mov eax,0x12345678; edx=0; wrmsr
    _code("31c0 0f32 3d78563412 75"), Reference("bad", 1),  # eax=0; rdmsr; cmp eax,..; jne bad
    _code("48b80000000000010000"),  # mov rax,1 << 40
    _code("66480f6ec0 66480f7ec3"),  # movq xmm0,rax; movq rbx,xmm0
    _code("4839c3 75"), Reference("bad", 1),  # cmp rbx,rax; jne bad
    _code("48c1eb28 83fb01 75"), Reference("bad", 1),  # shr rbx,40; cmp ebx,1; jne bad
    _code("0f011c25"), Reference("idtr", 4),  # lidt [idtr]
    _code("b011 e620 b020 e621 b004 e621 b001 e621"),  # 8259A: first interrupt is 0x20
    _code("b0fe e621"),  # mov al,0xfe; out 0x21,al (all masked but the timer)
    _code("31db"),  # xor ebx,ebx
    _code("bc007c0000"),  # mov esp,0x7c00
    Label("wait"),
    _code("fb f4"),  # sti; hlt
    _code("84db 74"), Reference("wait", 1),  # test bl,bl; jz wait (until tick set it)
    _code("fa be"), Reference("word", 4),  # cli; mov esi,word
    Label("next"),
    _code("ac 84c0 74"), Reference("done", 1),  # lodsb; test al,al; jz done
    _code("88c3 66bafd03"),  # mov bl,al; mov dx,0x3fd (line status)
    Label("busy"),
    _code("ec a820 74"), Reference("busy", 1),  # in al,dx; test al,0x20 (holds nothing); jz busy
    _code("66baf803 88d8 ee eb"), Reference("next", 1),  # mov dx,0x3f8; mov al,bl; out dx,al
    Label("done"),
    _code("b021 e6f4 f4 ebfd"),  # mov al,0x21; out 0xf4,al; hlt; jmp back to the hlt
    Label("tick"),
    _code("b301 b020 e620 48cf"),  # mov bl,1; mov al,0x20; out 0x20,al (end of interrupt); iretq
)  # fmt: skip

DATA: Sequence[Item] = (
    Label("gdt"),
    bytes(8),
    _code("ffff0000009aaf00"),  # selector 8: 64-bit code
    Label("gdtr"), _code("0f00"), Reference("gdt", 4),
    Label("idtr"), _code("ff0f"), _code("0040000000000000"),
    Label("word"), WORD.encode() + b"\r\n\0",
)  # fmt: skip


def build_boot_disk() -> bytes:
    """Build the guest's raw disk: the boot sector, then zeroes."""
    sector = assemble((*REAL_MODE, *FAILED, *LONG_MODE, *DATA), origin=ORIGIN)
    if len(sector) > SECTOR_SIZE - 2:
        message = f"the boot sector has {len(sector)} bytes, {SECTOR_SIZE - 2} is the most"
        raise ValueError(message)
    return (sector.ljust(SECTOR_SIZE - 2, b"\0") + b"\x55\xaa").ljust(DISK_SIZE, b"\0")


def assemble(items: Sequence[Item], *, origin: int) -> bytes:
    """Put bytes one behind the other and fill in the references to labels.

    Raises:
        ValueError: a short jump goes too far.
        KeyError: there is no such label.
    """
    addresses: dict[str, int] = {}
    address = origin
    for item in items:
        match item:
            case Label(name=name):
                addresses[name] = address
            case Reference(size=size):
                address += size
            case _:
                address += len(item)
    return _fill(items, addresses, origin)


def _fill(items: Sequence[Item], addresses: dict[str, int], origin: int) -> bytes:
    code = bytearray()
    for item in items:
        match item:
            case Label():
                continue
            case Reference(name=name, size=1):
                distance = addresses[name] - (origin + len(code) + 1)
                if not -128 <= distance <= 127:
                    message = f"the short jump to {name} goes {distance} bytes"
                    raise ValueError(message)
                code += distance.to_bytes(1, "little", signed=True)
            case Reference(name=name, size=size):
                code += addresses[name].to_bytes(size, "little")
            case _:
                code += item
    return bytes(code)
