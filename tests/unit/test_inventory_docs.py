"""docs/inventory.md: every recipe runs as it stands, every field and option is there."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from solostack import inventory
from solostack.cli import main
from solostack.inventory import ConnectFailure, DiskInfo, DomainInfo
from solostack.inventory.documents import DOMAIN_COLUMNS

pytest.importorskip("libvirt")

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "inventory.md").read_text()
HOST = ROOT / "tests" / "data" / "host.xml"
RECIPES = dict(
    re.findall(r"^### ([^\n]+)\n(?:(?!^### ).)*?^```python\n(.*?)^```", TEXT, re.M | re.S)
)


def run(title: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run a recipe with libvirt's test driver in the place of its hosts; return what it printed."""
    other = folder / "other.xml"
    text = HOST.read_text().replace("<name>fleeting<", "<name>moved<")
    text = text.replace("<test:runstate>3<", "<test:runstate>1<")
    other.write_text(text.replace("<vcpu>4<", "<vcpu>8<"))
    script = RECIPES[title].replace("qemu+ssh://root@other/system", f"test://{other}")
    assert "qemu:///system" in script
    script = script.replace("qemu:///system", f"test://{HOST}")
    exec(compile(script, title, "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_five_recipes() -> None:
    assert len(RECIPES) == 5


def test_disks_over_a_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("Disks over 50 GiB", folder, capsys) == [
        "off vda 200.0 GiB /default-pool/archive.raw"
    ]


def test_isos_still_mounted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("Domains with an ISO still mounted", folder, capsys) == [
        "every-disk: http://web.example:80/cd.iso?a=b in hda",
        "instance-00000001: /default-pool/install.iso in hdc",
    ]


def test_files_that_no_domain_uses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("Files in a pool that no domain uses", folder, capsys) == [
        "/default-pool/forgotten.qcow2"
    ]


def test_export_to_csv(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("Export to CSV", folder, capsys) == []
    with (folder / "disks.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["domain", "device", "format", "source", "bytes"]
    assert rows[1] == ["controller", "vda", "qcow2", "/default-pool/controller.qcow2", ""]
    assert len(rows) == 15


def test_compare_two_hosts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("Compare two hosts", folder, capsys) == [
        "controller: vcpus_max is 4 here, 8 there",
        "every-disk: state is paused here, running there",
        "fleeting: only here",
        "moved: only there",
    ]


def test_every_field_call_and_failure_is_documented() -> None:
    words = set(re.findall(r"\w+", TEXT))
    fields = {field.name for field in dataclasses.fields(DomainInfo)} - {"connection"}
    calls = {name for name in inventory.__all__ if name[0].islower()}
    failures = {failure.name for failure in ConnectFailure}
    assert fields | set(DiskInfo._fields) | calls | failures <= words


def test_the_columns_of_csv_are_documented_in_their_order() -> None:
    assert ", ".join(DOMAIN_COLUMNS) in " ".join(TEXT.split())


@pytest.mark.parametrize("name", ["domains", "disks"])
def test_every_option_is_documented(name: str) -> None:
    command: Any = typer.main.get_command(main.build_app())
    options = {text for item in command.commands[name].params for text in item.opts}
    for option in options:
        if option.startswith("--"):
            assert f"`{option}" in TEXT, option
