"""What the documentation shows is there and works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer

from solostack.cli import main
from solostack.site.loader import parse_site

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def words_after_solostack(text: str) -> Iterator[str]:
    """Yield the first word of every command of ours: in code, at the start of a line or a span."""
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        spans = [line] if fenced or line.startswith("    ") else line.split("`")[1::2]
        for span in spans:
            found = re.match(r"\s*(?:\$ )?solostack ([a-z]+)\b", span)
            if found:
                yield found[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())

    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_shown_exist(page: Path) -> None:
    known = getattr(typer.main.get_command(main.build_app()), "commands", {})

    assert set(words_after_solostack(page.read_text())) <= set(known)


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CHANGELOG.md").read_text()
    known = getattr(typer.main.get_command(main.build_app()), "commands", {})

    assert not [name for name in known if not re.search(rf"\b{name}\b", text)]


def test_the_readmes_site_is_one_and_so_it_is_with_all_services() -> None:
    text, services = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    assert parse_site(text, Path("README.md")).site.hosts[0].name == "phys1"
    assert text.count("\n") < 10
    assert parse_site(text + services, Path("README.md")).site.dashboard is not None


def test_the_picture_is_well_formed() -> None:
    ElementTree.parse(ROOT / "docs" / "topology.svg")


def test_the_makefiles_targets_are_in_its_help_and_phony() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", text, re.MULTILINE)) - {"packages"}
    phony = set(" ".join(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)).split())
    helped = set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))

    assert targets == helped
    assert targets <= phony
    assert {"setup", "demo", "test", "check", "bench", "clean", "lock", "help"} == targets


def test_every_package_of_the_set_up_is_explained() -> None:
    lines = (ROOT / "packages.txt").read_text().splitlines()
    names = {line for line in lines if line and not line.startswith("#")}
    page = (ROOT / "docs" / "dependencies.md").read_text()

    assert not [name for name in names if name not in page]
