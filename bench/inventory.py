"""Measure the inventory: 2,000 domains with 4 disks each, against the two usual ways.

Everything runs on libvirt's test driver in this process, so what is measured is the work on this
side, without a daemon and a network. Three ways to the device, path and format of every disk:

* solostack: list_all_disks, with sizes, as the command does it;
* virsh: a shell loop with one `virsh domblklist` per domain. Measured on a sample and scaled; the
  sample is in a small file of its own, so that virsh is not charged for loading the others;
* naive: the loop of many scripts, one libvirt call and one parse per field. Sampled and scaled.

Ends with status 1 when all disks take more than 1 s.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

from solostack.inventory import connect, iterate_disks, list_all_disks, list_domains

DOMAINS = 2000
DISKS = 4
SAMPLE = 40
ROUNDS = 5
LIMIT_S = 1.0
MIB = 1024**2

DISK = """
      <disk type='file' device='disk'>
        <driver name='qemu' type='qcow2' cache='none' io='native' discard='unmap'/>
        <source file='/var/lib/libvirt/images/{name}-{letter}.qcow2'/>
        <target dev='vd{letter}' bus='virtio'/>
        <serial>{name}-{letter}</serial>
      </disk>"""
DOMAIN = """
  <domain type='test'>
    <name>{name}</name>
    <memory unit='MiB'>2048</memory>
    <vcpu>2</vcpu>
    <os><type>hvm</type></os>
    <devices>{disks}
      <interface type='network'>
        <mac address='52:54:00:{high:02x}:{low:02x}:01'/>
        <source network='default'/>
      </interface>
    </devices>
  </domain>"""
NETWORK = """
  <network>
    <name>default</name>
    <bridge name='virbr0'/>
    <ip address='192.168.122.1' netmask='255.255.255.0'/>
  </network>"""


def write_host(path: Path, count: int) -> str:
    """Write a host of count domains for the test driver and return its URI."""
    names = [f"domain-{number:05}" for number in range(count)]
    domains = "".join(
        DOMAIN.format(
            name=name,
            high=number // 256,
            low=number % 256,
            disks="".join(DISK.format(name=name, letter=letter) for letter in "abcd"[:DISKS]),
        )
        for number, name in enumerate(names)
    )
    path.write_text(f"<node>{domains}{NETWORK}\n</node>\n")
    return f"test://{path}"


def measure_s(work: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the best and the median time of several rounds, in seconds."""
    times = []
    for _ in range(rounds):
        gc.collect()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times), statistics.median(times)


def virsh_loop(uri: str, names: list[str]) -> None:
    """List the disks of each domain with a virsh of its own, as shell scripts do."""
    for name in names:
        subprocess.run(
            ["virsh", "-q", "-r", "-c", uri, "domblklist", "--details", name],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def naive_loop(raw: Any, names: list[str]) -> list[tuple[str | None, ...]]:  # noqa: ANN401
    """Read every field of every disk on its own: look up, fetch the XML, parse, find."""
    found = []

    def root(name: str) -> ET.Element:
        return ET.fromstring(raw.lookupByName(name).XMLDesc())

    def attribute(name: str, number: int, tag: str, key: str) -> str | None:
        element = root(name).findall("./devices/disk")[number].find(tag)
        return None if element is None else element.get(key)

    for name in names:
        for number in range(len(root(name).findall("./devices/disk"))):
            device = attribute(name, number, "target", "dev")
            file = attribute(name, number, "source", "file")
            found.append((device, file, attribute(name, number, "driver", "type")))
    return found


def held_bytes(work: Callable[[], object]) -> tuple[int, int]:
    """Return the memory that the result of work holds, and the most that was held meanwhile."""
    gc.collect()
    tracemalloc.start()
    result = work()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return held, peak


def drain(conn: Any) -> None:  # noqa: ANN401
    """Go through all disks and keep none."""
    for _ in iterate_disks(conn):
        pass


def report_memory(directory: Path) -> dict[int, float]:
    """Print the memory per domain for hosts of several sizes and return it by size, in bytes."""
    print(f"\n{'domains':>8} {'result held':>13} {'per domain':>12} {'streaming peak':>15}")
    found = {}
    for count in (DOMAINS // 4, DOMAINS // 2, DOMAINS):
        with connect(write_host(directory / f"memory-{count}.xml", count)) as conn:
            held, _ = held_bytes(lambda conn=conn: list_all_disks(conn))
            _, peak = held_bytes(lambda conn=conn: drain(conn))
        found[count] = held / count
        print(f"{count:>8} {held / MIB:>9.2f} MiB {held / count:>10.0f} B {peak / MIB:>11.2f} MiB")
    return found


def main() -> int:
    """Run everything and print the figures; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        names = [f"domain-{number:05}" for number in range(DOMAINS)]
        sample_uri = write_host(directory / "sample.xml", SAMPLE)
        with connect(write_host(directory / "host.xml", DOMAINS), timeout_s=60) as conn:
            disks = list_all_disks(conn)
            if len(disks) != DOMAINS * DISKS:
                print(f"wrong: {len(disks)} disks", file=sys.stderr)
                return 1
            ours, ours_median = measure_s(lambda: list_all_disks(conn))
            domains, domains_median = measure_s(lambda: list_domains(conn))
            sample = names[:: DOMAINS // SAMPLE]
            scale = DOMAINS / len(sample)
            naive, naive_median = measure_s(lambda: naive_loop(conn.raw, sample), 3)
            if naive_loop(conn.raw, names[:2]) != [tuple(disk[:3]) for disk in disks[: 2 * DISKS]]:
                print("wrong: the ways differ", file=sys.stderr)
                return 1
        virsh, virsh_median = measure_s(lambda: virsh_loop(sample_uri, names[:SAMPLE]), 3)
        print(f"{DOMAINS} domains with {DISKS} disks each, test driver, {os.cpu_count()} CPUs")
        print(f"\n{'way':<28} {'best':>9} {'median':>9} {'ratio':>8}")
        rows = (
            ("solostack, all disks", ours, ours_median),
            ("solostack, all domains", domains, domains_median),
            (f"virsh loop ({SAMPLE}, scaled)", virsh * scale, virsh_median * scale),
            (f"naive loop ({SAMPLE}, scaled)", naive * scale, naive_median * scale),
        )
        for title, best, median in rows:
            print(f"{title:<28} {best:>7.2f} s {median:>7.2f} s {best / ours:>7.1f}x")
        per_domain = report_memory(directory)
    flat = max(per_domain.values()) / min(per_domain.values())
    passed = ours <= LIMIT_S
    print(f"\nall disks in {ours:.2f} s, limit {LIMIT_S:.1f} s: {'ok' if passed else 'TOO SLOW'}")
    print(f"memory per domain, largest host to smallest: {flat:.2f}")
    print(
        json.dumps(
            {
                "all_disks_s": round(ours, 3),
                "all_domains_s": round(domains, 3),
                "virsh_ratio": round(virsh * scale / ours, 1),
                "naive_ratio": round(naive * scale / ours, 1),
                "bytes_per_domain": round(per_domain[DOMAINS]),
                "memory_growth": round(flat, 3),
            }
        )
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
