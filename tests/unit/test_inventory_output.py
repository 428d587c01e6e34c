"""What is printed: JSON by its schema, CSV, tables that fit, filters, orders, nodes."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from solostack.cli import inventory_commands, main
from solostack.cli.inventory_tables import disks_table, domains_table, duration
from solostack.doors.clock import FakeClock
from solostack.doors.hypervisor_records import BlockStats
from solostack.errors import ExitCode, UsageError
from solostack.inventory import DiskInfo, DomainInfo, NodeInfo, connect, list_domains
from solostack.inventory.disks import build_disks
from solostack.inventory.documents import (
    DISK_COLUMNS,
    DISKS_FORMAT,
    DOMAIN_COLUMNS,
    DOMAINS_FORMAT,
    Source,
    disk_row,
    disks_document,
    domain_row,
    domain_value,
    domains_document,
    node_value,
)
from solostack.inventory.listing import DomainNotFoundError
from solostack.inventory.nodes import (
    containers,
    node_executor,
    nodes_from_json,
    with_site_addresses,
)
from solostack.inventory.parsing import parse_xml
from solostack.inventory.selection import (
    DISK_KEYS,
    DOMAIN_KEYS,
    parse_owners,
    parse_states,
    select_machines,
    sort_by,
)
from solostack.inventory.snapshot import Wanted, read_machines

pytest.importorskip("libvirt")

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "tests" / "data" / "host.xml"
EXAMPLES = sorted((ROOT / "tests" / "data" / "domains").glob("*.xml"))
URI = f"test://{HOST}"
SCHEMA = json.loads((ROOT / "docs" / "inventory-schema.json").read_text())
SOURCE = Source(uri=URI, host="phys1", notes=("a note",))
GIB = 1024**3

DESCRIPTION = {
    "site": "lab",
    "name": "network",
    "role": "network",
    "runtime": "container",
    "uuid": "11111111-0000-4000-8000-0000000000aa",
    "vcpus": 2,
    "memory_mib": 1024,
    "interfaces": [
        {
            "name": "eth0",
            "mac": "52:54:00:AA:00:0A",
            "network": "data",
            "bridge": "eth1",
            "address": "172.16.0.12/24",
        },
        {
            "name": "eth1",
            "mac": "52:54:00:aa:00:0b",
            "network": "external",
            "bridge": "ext0",
            "address": None,
        },
    ],
    "directory": "/var/lib/solostack/nodes/network",
}
UNIT = {
    "Id": "solostack-node@network.service",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "CPUUsageNSec": "61000000000",
    "MemoryCurrent": "536870912",
}
# The controller of tests/data/host.xml, which is a VM.
CONTROLLER = {
    **DESCRIPTION,
    "name": "controller",
    "runtime": "vm",
    "uuid": "11111111-0000-4000-8000-000000000001",
    "interfaces": [
        {"name": "eth0", "mac": "52:54:00:aa:00:01", "network": "data", "address": "172.16.0.11/24"}
    ],
}


def nodes(*entries: dict[str, Any]) -> Any:
    return nodes_from_json(json.dumps(entries))


@pytest.fixture(scope="module")
def machines() -> list[DomainInfo | NodeInfo]:
    with connect(URI) as conn:
        domains = list_domains(conn)
    # The test driver gives the time of day as CPU time.
    steady = [dataclasses.replace(domain, cpu_time_ns=3_723 * 10**9) for domain in domains]
    return [*steady, *containers(nodes({"path": "p", "description": DESCRIPTION, "unit": UNIT}))]


@pytest.fixture(scope="module")
def disks() -> list[DiskInfo]:
    found: list[DiskInfo] = []
    blocks = (
        BlockStats(
            device="vda", capacity_bytes=40 * GIB, allocation_bytes=GIB, physical_bytes=2 * GIB
        ),
    )
    for path in EXAMPLES:
        tree = parse_xml(path.read_text(), "domain")
        found += build_disks(
            tree, name=tree.findtext("name"), uuid=tree.findtext("uuid"), blocks=blocks
        )
    return found


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main.main_inner(argv) == 0
    return capsys.readouterr().out


# JSON


def test_the_documents_follow_their_schema(
    machines: list[DomainInfo | NodeInfo], disks: list[DiskInfo]
) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    domains = [item for item in machines if isinstance(item, DomainInfo)]
    boxes = [item for item in machines if isinstance(item, NodeInfo)]
    for document in (
        domains_document(SOURCE, domains, boxes),
        disks_document(SOURCE, disks),
        domains_document(SOURCE, (), ()),
    ):
        jsonschema.validate(json.loads(json.dumps(document)), SCHEMA)


def test_the_schema_names_every_field_and_no_other(
    machines: list[DomainInfo | NodeInfo], disks: list[DiskInfo]
) -> None:
    definitions = SCHEMA["$defs"]
    domain = next(item for item in machines if isinstance(item, DomainInfo) and item.interfaces)
    value = domain_value(domain)
    box = next(item for item in machines if isinstance(item, NodeInfo))
    interface = node_value(box)["interfaces"]
    found = {
        "domain": value,
        "owner": value["owner"],
        "interface": interface[0] if isinstance(interface, list) else {},
        "node": node_value(box),
        "disk": disks[0]._asdict(),
    }
    for name, fields in found.items():
        assert set(definitions[name]["properties"]) == set(fields), name  # type: ignore[call-overload]
        assert set(definitions[name]["required"]) == set(fields), name  # type: ignore[call-overload]
    assert definitions["domains_document"]["properties"]["format"]["const"] == DOMAINS_FORMAT
    assert definitions["disks_document"]["properties"]["format"]["const"] == DISKS_FORMAT


def test_the_commands_print_json_by_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(run(capsys, "domains", "-c", URI, "--json"))
    jsonschema.validate(document, SCHEMA)
    assert document["uri"] == URI
    assert len(document["domains"]) == 10
    document = json.loads(run(capsys, "disks", "-c", URI, "--json"))
    jsonschema.validate(document, SCHEMA)
    assert len(document["disks"]) == 14


# CSV


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, "disks", "-c", URI, "--csv"))))
    assert tuple(rows[0]) == DISK_COLUMNS
    assert DISK_COLUMNS[:3] == ("device", "source_file", "format")
    by_device = {row["device"]: row for row in rows if row["domain"] == "every-disk"}
    assert by_device["vdb"]["hosts"] == "mon1:6789 mon2"
    assert by_device["vdf"]["shareable"] == "true"
    assert by_device["vdf"]["format"] == ""
    web = next(row for row in rows if row["domain"] == "instance-00000001")
    assert web["backing"] == "/default-pool/base.raw"
    rows = list(csv.DictReader(io.StringIO(run(capsys, "domains", "-c", URI, "--csv"))))
    assert tuple(rows[0]) == DOMAIN_COLUMNS
    assert len(rows) == 10


def test_csv_rows_by_value(machines: list[DomainInfo | NodeInfo]) -> None:
    rows = {
        item.name: dict(zip(DOMAIN_COLUMNS, domain_row(item), strict=True)) for item in machines
    }
    off, box = rows["off"], rows["network"]
    assert (off["id"], off["state"], off["state_code"]) == ("", "shut off", "5")
    assert (off["autostart"], off["persistent"], off["owner"]) == ("false", "true", "other")
    assert (box["type"], box["state"], box["owner"]) == ("container", "running", "solostack")
    assert (box["site"], box["role"], box["addresses"]) == ("lab", "network", "172.16.0.12")
    assert box["macs"] == "52:54:00:aa:00:0a 52:54:00:aa:00:0b"
    assert (box["networks"], box["state_code"]) == ("data external", "")


def test_csv_of_every_kind_of_disk_has_every_column(disks: list[DiskInfo]) -> None:
    for disk in disks:
        assert len(disk_row(disk)) == len(DISK_COLUMNS)


# Tables


def lines_of(table: Any, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 160, 200])
def test_tables_fit(
    machines: list[DomainInfo | NodeInfo], disks: list[DiskInfo], width: int
) -> None:
    for table in (domains_table(machines, width), disks_table(disks, width)):
        assert max(len(line) for line in lines_of(table, width)) <= width


def test_nothing_important_is_cut_at_80_columns(
    machines: list[DomainInfo | NodeInfo], disks: list[DiskInfo]
) -> None:
    text = "\n".join(lines_of(domains_table(machines, 80), 80))
    assert "…" not in text
    for name in ("controller", "instance-00000001", "nova/web-1", "suspended by PM", "network"):
        assert name in text
    lines = lines_of(disks_table(disks, 80), 80)
    assert "…" not in "\n".join(lines)
    # A source that is too long goes on in the next line, complete.
    column = lines[0].index("Source")
    flowing = "".join(line[column:].strip() for line in lines)
    for disk in disks:
        assert disk.source is None or disk.source in flowing


def test_more_columns_show_more(machines: list[DomainInfo | NodeInfo]) -> None:
    def titles(width: int) -> list[str]:
        return [str(column.header) for column in domains_table(machines, width).columns]

    assert titles(20) == ["Name", "State"]
    assert {"vCPUs", "Memory", "Owner"} <= set(titles(80))
    assert {"ID", "Type", "Addresses", "Networks"} <= set(titles(120))
    assert "UUID" in titles(220)
    assert all(set(titles(width)) <= set(titles(width + 20)) for width in range(20, 220, 20))


def test_a_name_cannot_drive_the_terminal() -> None:
    evil = DiskInfo(device="vda", source_file=None, format=None, domain="a\x1b[2Jb", source="\x07x")
    text = "\n".join(lines_of(disks_table([evil], 80), 80))
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(0, "0:00:00"), (59 * 10**9, "0:00:59"), (3_723 * 10**9, "1:02:03"), (10**15, "277:46:40")],
)
def test_durations(time_ns: int, text: str) -> None:
    assert duration(time_ns) == text


def test_no_colours_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in run(capsys, "domains", "-c", URI)
    text = run(capsys, "disks", "-c", URI)
    assert "\x1b" not in text
    # One row is one line for grep, however long it is.
    assert len(text.splitlines()) == 2 + 14


# Filters and orders


def names(items: Any) -> list[str]:
    return [item.name for item in items]


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (["running"], ["controller", "fleeting", "instance-00000001", "network"]),
        (["shutoff,crashed"], ["crash", "off"]),
        (["inactive"], ["off"]),
        (["suspended by PM", "no-state"], ["no-state", "sleeper"]),
        (["unknown"], []),
    ],
)
def test_states(
    machines: list[DomainInfo | NodeInfo], states: list[str], wanted: list[str]
) -> None:
    assert sorted(names(select_machines(machines, parse_states(states), ()))) == wanted


@pytest.mark.parametrize(
    ("owners", "wanted"),
    [
        (["solostack"], ["controller", "network"]),
        (["solostack/lab"], ["controller", "network"]),
        (["solostack/lab/network"], ["network"]),
        (["solostack/la"], []),
        (["nova"], ["instance-00000001"]),
        (["nova/web-1,solostack/lab/controller"], ["controller", "instance-00000001"]),
    ],
)
def test_owners(
    machines: list[DomainInfo | NodeInfo], owners: list[str], wanted: list[str]
) -> None:
    assert sorted(names(select_machines(machines, frozenset(), parse_owners(owners)))) == wanted


def test_unknown_words_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="--state: runing") as caught:
        parse_states(["runing"])
    assert caught.value.hint == "did you mean running?"
    with pytest.raises(UsageError, match="--owner: novo"):
        parse_owners(["novo"])
    with pytest.raises(UsageError, match="--sort: size"):
        sort_by([], DISK_KEYS, "size")


@pytest.mark.parametrize("order", [*DOMAIN_KEYS, *(f"-{key}" for key in DOMAIN_KEYS)])
def test_every_order_of_domains(machines: list[DomainInfo | NodeInfo], order: str) -> None:
    ordered = sort_by(machines, DOMAIN_KEYS, order)
    assert sorted(names(ordered)) == sorted(names(machines))
    key = DOMAIN_KEYS[order.removeprefix("-")]
    values = [key(item) for item in ordered]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=order.startswith("-"))
    assert values[: len(known)] == known


@pytest.mark.parametrize("order", [*DISK_KEYS, *(f"-{key}" for key in DISK_KEYS)])
def test_every_order_of_disks(disks: list[DiskInfo], order: str) -> None:
    assert len(sort_by(disks, DISK_KEYS, order)) == len(disks)


# Control nodes that are containers


def test_a_container_node() -> None:
    found = nodes({"path": "p", "description": DESCRIPTION, "unit": UNIT})
    box = containers(found)[0]
    assert (box.name, box.site, box.role, box.type) == ("network", "lab", "network", "container")
    assert (box.unit, box.state, box.reason) == (UNIT["Id"], "running", "running")
    assert (box.vcpus, box.memory_max_kib, box.memory_kib) == (2, 1024**2, 512 * 1024)
    assert (box.cpu_time_ns, box.autostart) == (61 * 10**9, True)
    assert str(box.owner) == "solostack/lab/network"
    assert [card.mac for card in box.interfaces] == ["52:54:00:aa:00:0a", "52:54:00:aa:00:0b"]
    address = box.interfaces[0].addresses[0]
    assert (address.address, address.prefix, address.source) == ("172.16.0.12", 24, "site")


@pytest.mark.parametrize(
    ("unit", "state", "memory"),
    [
        ({}, None, None),
        ({"ActiveState": "inactive", "MemoryCurrent": "[not set]"}, "shut off", None),
        ({"ActiveState": "failed", "MemoryCurrent": str(2**64 - 1)}, "crashed", None),
        ({"ActiveState": "activating"}, "activating", None),
    ],
)
def test_states_of_units(unit: dict[str, str], state: str | None, memory: int | None) -> None:
    box = nodes({"path": "p", "description": DESCRIPTION, "unit": unit})[0]
    assert (box.state, box.memory_kib) == (state, memory)


def test_odd_descriptions_are_noted() -> None:
    found = nodes(
        {"path": "/etc/a.json", "problem": "Permission denied"},
        {"path": "/etc/b.json", "description": ["what"], "unit": {}},
        {"path": "/etc/c.json", "description": {"name": "c", "interfaces": 7, "vcpus": "two"}},
    )
    assert names(found) == ["c"]
    assert found[0].vcpus is None
    assert found.notes == (
        "/etc/a.json: Permission denied",
        "/etc/b.json: is no description of a node",
    )
    assert nodes_from_json("") == ()


def test_the_description_of_a_vm_gives_its_domain_the_addresses(
    machines: list[DomainInfo | NodeInfo],
) -> None:
    domains = [item for item in machines if isinstance(item, DomainInfo)]
    described = nodes({"path": "p", "description": CONTROLLER, "unit": {}})
    assert containers(described) == ()
    found = {item.name: item for item in with_site_addresses(domains, described)}
    assert [a.address for a in found["controller"].interfaces[0].addresses] == ["172.16.0.11"]
    assert found["instance-00000001"].interfaces[0].addresses == ()


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("qemu:///system", "localhost"),
        ("lxc:///", "localhost"),
        ("qemu+unix:///system", "localhost"),
        ("qemu+ssh://root@node1:2222/system", "node1"),
        ("qemu+libssh2://node1/system", "node1"),
        ("test:///default", None),
        ("qemu+tls://node1/system", None),
        ("esx://node1/", None),
        ("alias", None),
    ],
)
def test_the_way_to_the_host_of_a_uri(uri: str, name: str | None) -> None:
    executor = node_executor(uri)
    assert (None if executor is None else executor.name) == name


def test_containers_can_be_chosen_by_name_like_domains() -> None:
    class Host:
        name = "phys1"

        def run(self, argv: Any, **_: Any) -> Any:
            text = json.dumps([{"path": "p", "description": DESCRIPTION, "unit": UNIT}])
            return type("Done", (), {"text": text})

    with connect(URI) as conn:
        everything = read_machines(conn, Wanted(), Host())  # type: ignore[arg-type]
        assert names(everything.nodes) == ["network"]
        assert len(everything.domains) == 10
        one = read_machines(conn, Wanted(names=("network",)), Host())  # type: ignore[arg-type]
        assert (names(one.machines), one.domains) == (["network"], ())
        both = read_machines(conn, Wanted(names=("network", "off")), Host())  # type: ignore[arg-type]
        assert names(both.machines) == ["network", "off"]


# The commands


def test_domains_by_name_and_by_filter(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "domains", "off", "controller", "-c", URI)
    assert [line.split()[1] for line in text.splitlines()[2:]] == ["controller", "off"]
    text = run(capsys, "domains", "-c", URI, "--state", "paused", "--sort", "-memory")
    assert "every-disk" in text
    assert "controller" not in text


def test_disks_by_domain_and_by_its_state(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "disks", "controller", "-c", URI, "--no-sizes")
    assert "/default-pool/controller.qcow2" in text
    assert "archive" not in text
    text = run(capsys, "disks", "-c", URI, "--state", "inactive")
    assert "archive.raw" in text
    assert "controller" not in text
    text = run(capsys, "disks", "-c", URI, "--owner", "nova", "--json")
    assert {disk["domain"] for disk in json.loads(text)["disks"]} == {"instance-00000001"}


def test_nothing_found_is_said_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("domains", "disks"):
        assert main.main_inner([command, "-c", URI, "--state", "unknown"]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"no {command} at {URI}" in captured.err


def test_libvirts_own_variable_chooses_the_host(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", URI)
    assert "controller" in run(capsys, "domains")


@pytest.mark.parametrize(
    "argv",
    [
        ("domains", "--json", "--csv"),
        ("domains", "--watch", "--csv"),
        ("domains", "--state", "asleep"),
        ("domains", "--owner", "me"),
        ("domains", "--sort", "beauty"),
        ("domains", "--addresses", "nova"),
        ("disks", "--json", "--csv"),
        ("disks", "--sort", "beauty"),
    ],
)
def test_wrong_words_are_usage_errors_before_anything_is_read(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        main.main_inner([*argv, "-c", "test:///not/there"])
    assert caught.value.hint


def test_an_unknown_name_fails_with_the_nearest() -> None:
    with pytest.raises(DomainNotFoundError) as caught:
        main.main_inner(["domains", "controler", "-c", URI])
    assert caught.value.exit_code is ExitCode.FAILED
    assert caught.value.hint == "did you mean controller?"


class EndingClock(FakeClock):
    """A clock whose user presses Ctrl-C during the third wait."""

    waits = 0

    def sleep(self, duration_s: float) -> None:
        super().sleep(duration_s)
        self.waits += 1
        if self.waits == 3:
            raise KeyboardInterrupt


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndingClock]:
    ending = EndingClock()
    monkeypatch.setattr(inventory_commands, "SystemClock", lambda: ending)
    return ending


def test_watching_shows_one_reading_after_the_other(
    capsys: pytest.CaptureFixture[str], clock: EndingClock
) -> None:
    with pytest.raises(KeyboardInterrupt):
        main.main_inner(["domains", "-c", URI, "--watch", "--interval", "5"])
    text = capsys.readouterr().out
    assert text.count("controller") == 3 * 2  # the name and the owner
    assert "1970-01-01T00:00:05Z" in text
    assert clock.monotonic_s() == 15


def test_watching_on_a_terminal_uses_its_screen(
    clock: EndingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = os.openpty()
    said: list[bytes] = []
    thread = threading.Thread(target=lambda: said.extend(iter(lambda: read_from(reader), b"")))
    thread.start()
    with os.fdopen(writer, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        with pytest.raises(KeyboardInterrupt):
            main.main_inner(["domains", "-c", URI, "--watch"])
    thread.join()
    os.close(reader)
    text = b"".join(said).decode()
    assert "\x1b[?1049h" in text  # the alternate screen, left again at the end
    assert "\x1b[?1049l" in text
    assert text.count("Ctrl-C ends") == 3
    assert "solostack/lab/controller" in text
    assert "…" not in text
    assert "\x1b[32mrunning" in text


def read_from(descriptor: int) -> bytes:
    """Read what there is; a terminal whose other side is closed is an OSError on Linux."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_watching_as_json_is_one_line_a_reading(
    capsys: pytest.CaptureFixture[str], clock: EndingClock
) -> None:
    with pytest.raises(KeyboardInterrupt):
        main.main_inner(["domains", "-c", URI, "--watch", "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:
        jsonschema.validate(json.loads(line), SCHEMA)
