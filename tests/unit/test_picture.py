"""The picture of a topology: everything of the plan is in it, nothing lies on anything else.

``pytest tests/unit/test_picture.py --regenerate`` rewrites the pictures in docs; look at them.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solostack.cli import main
from solostack.doors.process import Completed
from solostack.errors import CommandError, UsageError
from solostack.flows import picture
from solostack.flows.status import HOST_UNITS, HostStatus
from solostack.picture.layout import lay_out
from solostack.picture.model import Topology
from solostack.picture.sheet import Box, Line, Look, Picture, Text
from solostack.picture.svg import render_html, render_svg
from solostack.picture.text import fit_text, split_name, text_width, wrap_text
from solostack.plan.model import Plan
from tests.unit.picture_plans import (
    PLANS,
    broken_status,
    example_plan,
    facts,
    marked,
    minimal_plan,
    plan_of,
    server,
    status_of,
)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "minimal.yaml"
GOLDEN = {
    "full": "full",
    "topology": "minimal",
    "external-routed": "routed",
    "external-proxy": "proxy-subnet",
    "external-bridge": "bridge",
    "external-private": "private",
}
SLACK = 0.51


def topologies() -> Iterator[tuple[str, Topology]]:
    for name, plan in PLANS.items():
        yield name, picture.build_site_topology(plan)
        yield f"{name}-live", picture.build_site_topology(plan, status_of(plan))
        yield f"{name}-broken", picture.build_site_topology(plan, broken_status(plan))


each_topology = pytest.mark.parametrize(
    "topology", [pytest.param(value, id=name) for name, value in topologies()]
)
each_plan = pytest.mark.parametrize("plan", [pytest.param(v, id=k) for k, v in PLANS.items()])


def faults(drawn: Picture) -> Iterator[str]:
    """Yield what lies on something else, or out of what it belongs to."""
    boxes = [shape for shape in drawn.shapes if isinstance(shape, Box)]
    texts = [shape for shape in drawn.shapes if isinstance(shape, Text)]
    lines = [shape for shape in drawn.shapes if isinstance(shape, Line)]
    by_name = {box.name: box for box in boxes}
    page = (0.0, 0.0, drawn.width, drawn.height)
    for box in boxes:
        outer = edges(by_name[box.inside]) if box.inside else page
        if not within(edges(box), outer):
            yield f"{box.name} is not in {box.inside or 'the page'}"
    for text in texts:
        outer = edges(by_name[text.inside]) if text.inside else page
        if not within(edges(text), outer):
            yield f"{text.text!r} is not in {text.inside or 'the page'}"
    for one, other in itertools.combinations(boxes, 2):
        if one.inside == other.inside and overlap(edges(one), edges(other)):
            yield f"{one.name} lies on {other.name}"
    for one_text, other_text in itertools.combinations(texts, 2):
        if overlap(edges(one_text), edges(other_text)):
            yield f"{one_text.text!r} lies on {other_text.text!r}"
    for text, box in itertools.product(texts, boxes):
        if overlap(edges(text), edges(box)) and box.name not in around(text.inside, by_name):
            yield f"{text.text!r} lies on {box.name}"
    for line, text in itertools.product(lines, texts):
        for (x1, y1), (x2, y2) in itertools.pairwise(line.points):
            stroke = (min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2) + 1, max(y1, y2) + 1)
            if overlap(stroke, edges(text)):
                yield f"a {line.look} line crosses {text.text!r}"


def around(name: str, boxes: dict[str, Box]) -> Iterator[str]:
    """Yield the box and all those around it."""
    while name:
        yield name
        name = boxes[name].inside


Edges = tuple[float, float, float, float]


def edges(shape: Box | Text) -> Edges:
    if isinstance(shape, Box):
        return (shape.x, shape.y, shape.right, shape.bottom)
    top, bottom = shape.y - 0.76 * shape.size, shape.y + 0.22 * shape.size
    return (shape.x, top, shape.x + shape.width, bottom)


def within(inner: Edges, outer: Edges) -> bool:
    return (
        inner[0] >= outer[0] - SLACK
        and inner[1] >= outer[1] - SLACK
        and inner[2] <= outer[2] + SLACK
        and inner[3] <= outer[3] + SLACK
    )


def overlap(one: Edges, other: Edges) -> bool:
    return (
        one[0] < other[2] - SLACK
        and other[0] < one[2] - SLACK
        and one[1] < other[3] - SLACK
        and other[1] < one[3] - SLACK
    )


@each_topology
def test_nothing_lies_on_anything_else(topology: Topology) -> None:
    assert not list(faults(lay_out(topology)))


def test_what_lies_on_something_else_would_be_found() -> None:
    """A rule that never bites would pass for ever."""
    drawn = lay_out(picture.build_site_topology(minimal_plan()))
    moved = {"phys1/network": {"x": 200.0}, "block": {"width": 500.0}}
    shapes = [
        dataclasses.replace(shape, **moved.get(shape.name, {})) if isinstance(shape, Box) else shape
        for shape in drawn.shapes
    ]
    shapes.append(Line(points=((0, 60), (400, 60)), look=Look.WIRE))
    found = "\n".join(faults(dataclasses.replace(drawn, shapes=tuple(shapes))))

    assert "phys1/network lies on phys1/controller" in found
    assert "'network' is not in phys1/network" in found
    assert "block is not in the page" in found
    assert "a wire line crosses 'cloud'" in found


@settings(max_examples=8)
@given(
    hosts=st.integers(1, 4),
    name=st.from_regex(r"[a-z][a-z0-9-]{0,28}", fullmatch=True),
    prefix=st.integers(24, 29),
    method=st.sampled_from(["routed", "proxy", "bridge"]),
)
def test_nothing_overlaps_whatever_the_names(
    hosts: int, name: str, prefix: int, method: str
) -> None:
    block = f"198.51.100.0/{prefix}"
    plan = plan_of(hosts, block=block, name=name.rstrip("-"), method=method)
    topology = picture.build_site_topology(plan, broken_status(plan))

    assert not list(faults(lay_out(topology)))


@each_plan
def test_every_name_and_address_of_the_plan_is_shown(plan: Plan) -> None:
    drawn = lay_out(picture.build_site_topology(plan))
    # A long name may be on two lines; nothing of a plan may be cut.
    lines = [shape.text for shape in drawn.shapes if isinstance(shape, Text)]
    text = "\n".join(lines)
    flowing = "".join(lines)
    external = plan.external
    wanted = [plan.site, external.bridge, plan.data.bridge, plan.data.network]
    wanted += [external.transit, external.transit_gateway, *external.transit_pool]
    if external.block is not None:
        wanted += [external.block, external.block[0], external.block[-1]]
    for host in plan.hosts:
        wanted += [host.address, host.nic, host.data_address, f"Geneve {host.data_address.ip}"]
        assert host.name in flowing
    for node in plan.nodes:
        wanted += [node.name, f"{node.vcpus} vCPU", f"{node.memory_mib} MiB"]
        wanted += [f"{node.interfaces[0].name} {node.data_address}"]
    if plan.demo:
        wanted += [plan.demo.project, plan.demo.network]

    assert not [str(each) for each in wanted if str(each) not in text]


@each_topology
def test_it_is_well_formed_in_both_forms_and_the_same_each_time(topology: Topology) -> None:
    svg = render_svg(lay_out(topology))

    root = ElementTree.fromstring(svg)
    assert root.get("viewBox", "").startswith("0 0 1200 ")
    assert svg == render_svg(lay_out(topology))
    assert svg in render_html(lay_out(topology))
    assert "prefers-color-scheme: dark" in svg


@pytest.mark.parametrize(("name", "example"), list(GOLDEN.items()))
def test_the_pictures_in_docs_are_those_of_the_examples(
    name: str, example: str, request: pytest.FixtureRequest
) -> None:
    golden = ROOT / "docs" / f"{name}.svg"
    svg = render_svg(lay_out(picture.build_site_topology(example_plan(example))))
    if request.config.getoption("--regenerate"):
        golden.write_text(svg)

    assert golden.read_text() == svg


def test_what_is_as_planned_is_not_marked() -> None:
    plan = minimal_plan()

    assert not marked(picture.build_site_topology(plan))
    assert not marked(picture.build_site_topology(plan, status_of(plan)))


def test_what_is_absent_or_failed_is_marked_and_nothing_else() -> None:
    plan = minimal_plan()
    whole = status_of(plan, (server("good", "phys1", 3), server("bad", "phys1", 4, "ERROR")))
    services = dict.fromkeys(HOST_UNITS, "active") | {"nova-compute.service": "failed"}
    services["solostack-firewall.service"] = "inactive"
    host = dataclasses.replace(whole.hosts[0], services=services)
    nodes = [
        dataclasses.replace(node, machine="absent") if node.name == "network" else node
        for node in whole.nodes
    ]
    status = dataclasses.replace(whole, hosts=(host,), nodes=tuple(nodes))

    found = marked(picture.build_site_topology(plan, status))

    assert {"network", "absent", "nova-compute: failed", "bad"} <= found
    assert "Firewall, table inet solostack: inactive" in found
    assert not {"controller", "good", "libvirt", "external", "gateway", "phys1"} & found


def test_a_host_that_does_not_answer_is_marked_once() -> None:
    plan = plan_of(2)
    whole = status_of(plan)
    silent = HostStatus(name="phys1", address="203.0.113.101", error="no route")
    status = dataclasses.replace(whole, hosts=(whole.hosts[0], silent))

    found = marked(picture.build_site_topology(plan, status))

    assert found == {"phys1", "does not answer"}


def test_without_an_answer_of_the_cloud_instances_are_not_known() -> None:
    plan = minimal_plan()
    status = dataclasses.replace(status_of(plan), cloud=None, cloud_error="connection refused")

    svg = render_svg(lay_out(picture.build_site_topology(plan, status)))

    assert "instances not known" in svg
    assert "the cloud&#x27;s API does not answer" in svg.replace("'", "&#x27;")
    assert "connection refused" in svg


def test_used_addresses_are_counted_and_instances_beyond_the_room_too() -> None:
    plan = minimal_plan()
    servers = tuple(server(f"web-{n}", "phys1", n) for n in range(15))

    topology = picture.build_site_topology(plan, status_of(plan, servers))
    svg = render_svg(lay_out(topology))

    assert topology.block.used == tuple(f"198.51.100.{n}" for n in range(15))
    assert "public addresses, 15 in use" in svg
    shown = [n for n in range(15) if f">web-{n}<" in svg]
    assert shown == list(range(len(shown)))
    assert f"+{15 - len(shown)} more" in svg
    assert "web-14" in svg  # in the tip of the last card


def test_odd_names_do_not_break_the_document() -> None:
    plan = minimal_plan()
    name = '</svg><script>"&\x00\ud800'
    status = status_of(plan, (server(name, "phys1", 3),))

    root = ElementTree.fromstring(render_svg(lay_out(picture.build_site_topology(plan, status))))

    assert not [each for each in root.iter() if each.tag.endswith("script")]


@given(st.text(), st.floats(20, 400), st.floats(8, 30), st.booleans(), st.booleans())
def test_a_fitted_text_fits(text: str, width: float, size: float, bold: bool, mono: bool) -> None:
    shown, smaller = fit_text(text, width, size, bold=bold, mono=mono)

    assert smaller <= size
    assert text_width(shown, smaller, bold=bold, mono=mono) <= width or shown == "…"


@given(
    st.lists(st.text("ab,", min_size=1), min_size=1, max_size=20).map(" ".join),
    st.floats(20, 400),
    st.booleans(),
)
def test_a_wrapped_text_is_whole_and_only_a_word_is_wider(
    text: str, width: float, mono: bool
) -> None:
    lines = wrap_text(text, width, 12, mono=mono)

    assert " ".join(lines) == text
    assert all(text_width(each, 12, mono=mono) <= width or " " not in each for each in lines)


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?", fullmatch=True))
def test_a_split_name_is_whole(name: str) -> None:
    lines = split_name(name, 200, 18)

    assert "".join(lines) == name
    assert all(lines)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "site.yaml").write_text(EXAMPLE.read_text())
    values = dataclasses.asdict(facts("phys1"))
    (tmp_path / "facts.json").write_text(json.dumps({"phys1": values}))
    return tmp_path


def test_the_command_writes_what_the_name_ends_in(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main_inner(["diagram", "--facts", "facts.json"]) == 0
    assert main.main_inner(["diagram", "--facts", "facts.json", "-o", "page.HTML"]) == 0
    assert capsys.readouterr().out == "wrote topology.svg\nwrote page.HTML\n"
    assert main.main_inner(["diagram", "--facts", "facts.json", "-o", "-"]) == 0

    svg = (folder / "topology.svg").read_text()
    assert capsys.readouterr().out == svg
    assert svg in (folder / "page.HTML").read_text()


def test_the_command_prints_what_is_drawn_as_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main_inner(["diagram", "--facts", "facts.json", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["hosts"][0]["name"] == "phys1"
    assert not (folder / "topology.svg").exists()


@pytest.mark.parametrize(
    ("name", "said"), [("a.pdf", r"from a\.pdf"), ("none/a.svg", "No such file")]
)
def test_where_it_cannot_be_written(folder: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        main.main_inner(["diagram", "--facts", "facts.json", "-o", name])
    assert re.search(said, caught.value.message)


class Missing:
    """A machine without rsvg-convert."""

    name = "localhost"

    def run(self, argv: tuple[str, ...], **_: object) -> None:
        raise CommandError(f"localhost: command not found: {argv[0]}")


class Converter:
    """A machine with an rsvg-convert that turns everything into the same."""

    name = "localhost"

    def run(self, argv: tuple[str, ...], *, stdin: bytes, **_: object) -> Completed:
        assert argv[0] == "rsvg-convert"
        ElementTree.fromstring(stdin)
        return Completed(argv, 0, b"\x89PNG", b"")


def test_a_png_is_what_the_program_makes_of_the_svg() -> None:
    topology = picture.build_site_topology(minimal_plan())

    made = picture.render_picture(topology, picture.Format.PNG, Converter())  # type: ignore[arg-type]
    assert made == b"\x89PNG"


def test_a_missing_program_is_named_with_its_package() -> None:
    topology = picture.build_site_topology(minimal_plan())

    with pytest.raises(CommandError) as caught:
        picture.render_picture(topology, picture.Format.PNG, Missing())  # type: ignore[arg-type]
    assert "librsvg2-bin" in caught.value.hint
    assert "rsvg-convert" in html.unescape(caught.value.details[0])
