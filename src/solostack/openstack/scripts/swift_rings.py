"""Swift's three rings from their description, and where each partition then is.

A ring here is a function of its description alone: it is made by adding the disks one after the
other with a fixed seed, so that the ring of n + 1 disks is the ring of n disks with only the
partitions moved that the new disk takes. What swift-ring-builder keeps in builder files as history
is thereby known from the list of disks, and losing a builder file loses nothing.

Usage: swift_rings.py WANTED.json [DIRECTORY]
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from swift.common.ring import RingBuilder  # type: ignore[import-not-found]

SWIFT = "/etc/swift"
# At most one replica of a partition moves in one rebalance; two settle what a new disk can take.
REBALANCES = 2


def build(wanted: dict[str, Any], port: int) -> RingBuilder:
    """Return the builder of a ring whose devices are served at a port."""
    builder = RingBuilder(wanted["part_power"], 1, 0)
    for number, device in enumerate(wanted["devices"], start=1):
        builder.add_dev(
            {
                "id": number - 1,
                "region": 1,
                "zone": 1,
                "ip": wanted["address"],
                "port": port,
                "device": device["name"],
                "weight": float(device["weight"]),
                "meta": "",
            }
        )
        builder.set_replicas(min(number, wanted["replicas"]))
        for _ in range(REBALANCES):
            builder.rebalance(seed=wanted["seed"])
    builder.validate()
    return builder


def main() -> None:
    """Write account, container and object ring with their builder files."""
    wanted = json.loads(pathlib.Path(sys.argv[1]).read_text())
    directory = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else SWIFT)
    for name, port in wanted["ports"].items():
        builder = build(wanted, port)
        # Both are replaced by renaming, so servers never read half a ring.
        builder.save(str(directory / f"{name}.builder"))
        builder.get_ring().save(str(directory / f"{name}.ring.gz"))


main()
