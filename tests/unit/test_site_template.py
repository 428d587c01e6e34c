"""What init writes loads back, and its commented defaults are the real ones."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import ruamel.yaml

from solostack.errors import SiteError
from solostack.site.loader import load_site, parse_site
from solostack.site.model import Host, Site
from solostack.site.schema import (
    EDITOR_HINT,
    SCHEMA_FILE,
    json_schema,
    render_reference,
    render_schema,
)
from solostack.site.template import Answers, render_site

ROOT = Path(__file__).parents[2]
PATH = Path("site.yaml")
ANSWERS = Answers(address="203.0.113.2", nic="eth0", block="198.51.100.0/28")


def wanted(**host: object) -> Site:
    first = {"name": "phys1", "address": "203.0.113.2", "nic": "eth0"} | host
    return Site.model_validate({"hosts": [first], "external": {"block": "198.51.100.0/28"}})


def uncommented(text: str) -> str:
    return re.sub(r"^( *)# ((?: *)(?:- \{|[a-z0-9_]+:).*)$", r"\1\2", text, flags=re.MULTILINE)


def test_rendered_site_loads_back_equal() -> None:
    assert parse_site(render_site(ANSWERS), PATH).site == wanted()


def test_rendered_site_has_under_ten_active_lines_and_a_hint_for_editors() -> None:
    lines = render_site(ANSWERS).splitlines()
    assert lines[0] == EDITOR_HINT
    active = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(active) < 10


def test_every_commented_line_is_the_default() -> None:
    text = uncommented(render_site(ANSWERS))
    assert parse_site(text, PATH).site == wanted()


def test_every_key_stands_in_the_rendered_site() -> None:
    text = uncommented(render_site(ANSWERS))
    data = ruamel.yaml.YAML(typ="safe", pure=True).load(text)
    assert set(data) == set(Site.model_fields)
    assert set(data["hosts"][0]) == set(Host.model_fields)


def test_answers_show_in_the_site() -> None:
    answers = Answers(
        name="prod",
        host="box",
        address="192.0.2.9",
        nic="enp1s0",
        block="198.51.100.64/29",
        local=True,
    )
    site = parse_site(render_site(answers), PATH).site
    assert (site.name, site.hosts[0].name, site.hosts[0].local) == ("prod", "box", True)
    assert str(site.hosts[0].address) == "192.0.2.9"
    assert str(site.external.block) == "198.51.100.64/29"


@pytest.mark.parametrize(
    ("answers", "external"),
    [
        (Answers(address="203.0.113.2", nic="eth0", method="private"), {"method": "private"}),
        (
            Answers(
                address="203.0.113.2",
                nic="eth0",
                method="proxy",
                addresses=("198.51.100.7", "198.51.100.9"),
            ),
            {"method": "proxy", "addresses": ["198.51.100.7", "198.51.100.9"]},
        ),
        (
            Answers(address="203.0.113.2", nic="eth0", method="bridge", block="203.0.113.0/29"),
            {"method": "bridge", "block": "203.0.113.0/29"},
        ),
    ],
)
def test_every_method_is_written_and_its_comments_change_nothing(
    answers: Answers, external: dict[str, object]
) -> None:
    host = {"name": "phys1", "address": "203.0.113.2", "nic": "eth0"}
    site = Site.model_validate({"hosts": [host], "external": external})
    text = render_site(answers)
    assert parse_site(text, PATH).site == site
    assert parse_site(uncommented(text), PATH).site == site


@pytest.mark.parametrize("nic", ["eth0: x", "eth0 # no", "true", "'", "", "- a", "{", "\n"])
def test_wrong_answers_are_refused_by_value_never_by_syntax(nic: str) -> None:
    answers = Answers(address="203.0.113.2", nic=nic, block="198.51.100.0/28")
    try:
        site = parse_site(render_site(answers), PATH).site
    except SiteError as error:
        [line] = error.details
        assert "hosts[0].nic: expected a network device name" in line
    else:
        assert site.hosts[0].nic == nic


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "examples").glob("*.yaml")))
def test_schema_takes_what_the_loader_takes(name: str) -> None:
    path = ROOT / "examples" / f"{name}.yaml"
    load_site(path)
    data = ruamel.yaml.YAML(typ="safe", pure=True).load(path.read_text())
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(data, json_schema())


@pytest.mark.parametrize(
    "text",
    [
        "hosst: []",
        "release: '2024.2'",
        "external: {block: 198.51.100.0/28, method: magic}",
        "external: {block: nonsense}",
        "nodes: {controller: {runtime: vmm}}",
        "workers: 0",
        "hosts: []",
    ],
)
def test_schema_refuses_what_the_loader_refuses(text: str) -> None:
    data = {
        "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "eth0"}],
        "external": {"block": "198.51.100.0/28"},
    }
    jsonschema.validate(data, json_schema())
    data |= ruamel.yaml.YAML(typ="safe", pure=True).load(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json_schema())


def test_schema_takes_an_unquoted_release() -> None:
    jsonschema.validate(2025.1, json_schema()["properties"]["release"])


def test_every_key_is_described() -> None:
    for row in render_reference().splitlines()[2:]:
        assert not row.endswith("|  |"), row


def test_generated_files_are_up_to_date(pytestconfig: pytest.Config) -> None:
    schema_path = ROOT / "examples" / SCHEMA_FILE
    docs_path = ROOT / "docs" / "site.md"
    begin, end = "<!-- keys: begin -->\n", "<!-- keys: end -->"
    head, rest = docs_path.read_text().split(begin)
    table, tail = rest.split(end)
    if pytestconfig.getoption("--regenerate", default=False):
        schema_path.write_text(render_schema())
        table = render_reference()
        docs_path.write_text(head + begin + table + end + tail)
    assert schema_path.read_text() == render_schema()
    assert table == render_reference()
    for block in re.findall(r"```yaml\n(.*?)```", head + tail, flags=re.DOTALL):
        parse_site(block, docs_path)
