"""A site file is read whole and typed, or refused in one error with the line of every problem."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from solostack.errors import ExitCode, SiteError
from solostack.site.loader import LoadedSite, load_site, parse_site
from solostack.site.model import Demo, Runtime, Site

ROOT = Path(__file__).parents[2]
PATH = Path("site.yaml")
MINIMAL = """\
hosts:
  - name: phys1
    address: 203.0.113.2
    nic: eth0
external:
  block: 198.51.100.0/28
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SiteError) as caught:
        parse_site(text, PATH)
    assert caught.value.exit_code is ExitCode.SITE
    assert caught.value.hint
    return list(caught.value.details)


def test_smallest_useful_file_has_under_ten_lines_and_all_defaults() -> None:
    loaded = parse_site(MINIMAL, PATH)
    assert len(MINIMAL.splitlines()) < 10
    assert loaded.path == PATH
    assert loaded.text == MINIMAL
    assert loaded.digest == hashlib.sha256(MINIMAL.encode()).hexdigest()
    host = {"name": "phys1", "address": "203.0.113.2", "nic": "eth0"}
    wanted = {"hosts": [host], "external": {"block": "198.51.100.0/28"}}
    assert loaded.site == Site.model_validate(wanted)


@pytest.mark.parametrize("name", ["minimal", "full", "every-key"])
def test_examples_load(name: str) -> None:
    load_site(ROOT / "examples" / f"{name}.yaml")


def test_full_example_gives_every_value() -> None:
    site = load_site(ROOT / "examples" / "every-key.yaml").site
    assert site.release == "2025.1"
    assert [host.name for host in site.hosts] == ["phys1", "phys2"]
    assert site.nodes.network.runtime is Runtime.VM
    assert site.nodes.controller.memory_mib == 6144
    assert site.images[0].min_disk_gib == 3
    assert site.demo == Demo(dns=(ipaddress.IPv4Address("192.0.2.53"),))


def test_unquoted_release_stays_a_text() -> None:
    assert parse_site(MINIMAL + "release: 2025.1\n", PATH).site.release == "2025.1"


def test_heading_without_content_keeps_defaults_and_null_is_null() -> None:
    assert parse_site(MINIMAL + "demo:\n  # project: x\n", PATH).site.demo == Demo()
    assert parse_site(MINIMAL + "demo: null\n", PATH).site.demo is None


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_site(path).site == parse_site(MINIMAL, PATH).site


BAD_DOCUMENTS = [
    ("", "site.yaml:1: expected the keys of a site, found nothing (an empty file)"),
    ("# a\n", "site.yaml:1: expected the keys of a site, found nothing (an empty file)"),
    (
        "\n- a\n",
        "site.yaml:2: expected a mapping (`key: value` lines), found a list",
    ),
    ("word", "site.yaml:1: expected a mapping (`key: value` lines), found the text 'word'"),
    ("hosts:\n\t- name: x\n", "site.yaml:2: expected spaces as indentation, found a tab"),
    ("a: b: c\n", "site.yaml:1: expected YAML, found: mapping values are not allowed here"),
    ("%YAML 1.10\n---\na: 1\n", "site.yaml:1: expected a key, found a directive (%)"),
    ("a: 1\n---\nb: 2\n", "site.yaml:2: expected one YAML document, found a second one"),
    ("a: &x 1\n", "site.yaml:1: expected a plain value, found an anchor (&x)"),
    ("a: 1\nb: *x\n", "site.yaml:2: expected the value itself, found an alias (*name)"),
    (
        "a: !!python/object/apply:os.system [id]\n",
        "site.yaml:1: expected a plain value, found a tag "
        "(tag:yaml.org,2002:python/object/apply:os.system)",
    ),
    ("? [a]\n: 1\n", "site.yaml:1: expected a name as key, found a list or mapping"),
    ("a: 1\nb: \x07\n", "site.yaml:2: expected text, found the character U+0007"),
    ("hosts:\n  -\n", "site.yaml:2: expected a list item, found nothing behind `-`"),
    ("a: " + "[" * 5000, "site.yaml:1: expected at most 20 levels, found more"),
]


@pytest.mark.parametrize(("text", "line"), BAD_DOCUMENTS)
def test_what_is_no_document_is_refused_with_its_line(text: str, line: str) -> None:
    assert problems(text) == [line]


def test_unreadable_files_are_site_errors(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="there is no site file") as caught:
        load_site(tmp_path / "none.yaml")
    assert "solostack init" in caught.value.hint
    with pytest.raises(SiteError, match="cannot read the site file"):
        load_site(tmp_path)
    path = tmp_path / "site.yaml"
    path.write_bytes(b"name: x\nrelease: \xff\n")
    with pytest.raises(SiteError) as caught:
        load_site(path)
    assert caught.value.details == (f"{path}:2: expected text in UTF-8, found the byte 0xff",)
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(SiteError) as caught:
        load_site(path)
    assert "at most 1048576 bytes" in caught.value.details[0]


BAD_VALUES = [
    ("name: Cloud", "name: expected a name", "found 'Cloud'; did you mean 'cloud'?"),
    ("name: my cloud", "name: expected a name", "did you mean 'my-cloud'?"),
    ("name: null", "name: expected a text", "found null"),
    ("hosst: 1", "hosst: expected one of the keys name,", "did you mean 'hosts'?"),
    ("workers: many", "workers: expected a whole number", "found 'many'"),
    ("workers: 1.5", "workers: expected a whole number", "found '1.5'"),
    ("workers: 0", "workers: expected a number of at least 1", "found '0'"),
    ("workers: 33", "workers: expected a number of at most 32", "found '33'"),
    ("workers: [1]", "workers: expected a whole number", "found a list"),
    ("egress: ture", "egress: expected true or false", "did you mean 'true'?"),
    ("nodes: []", "nodes: expected a mapping", "found an empty list"),
    ("flavors: {}", "flavors: expected a list", "found a mapping"),
    ("nodes: {controler: {}}", "nodes.controler: expected one of", "did you mean 'controller'?"),
    (
        "nodes: {network: {runtime: vms}}",
        "nodes.network.runtime: expected one of auto, vm, container",
        "did you mean 'vm'?",
    ),
    (
        "nodes: {controller: {memory_mib: 4g}}",
        "nodes.controller.memory_mib: expected a whole number",
        "did you mean '4096'?",
    ),
    (
        "nodes: {controller: {disk_gib: 1TiB}}",
        "nodes.controller.disk_gib: expected a whole number",
        "did you mean '1024'?",
    ),
    ("nodes: {controller: {vcpus: 65}}", "nodes.controller.vcpus", "at most 64, found '65'"),
    (
        "data: {cidr: 172.16.0.1/24}",
        "data.cidr: expected an IPv4 network",
        "did you mean '172.16.0.0/24'?",
    ),
    ("data: {cidr: fd00::/64}", "data.cidr: expected an IPv4 network", "found 'fd00::/64'"),
    ("data: {cidr: 172.16.0.0/33}", "data.cidr: expected an IPv4 network", "/33'"),
    ("data: {bridge: an-overlong-name}", "data.bridge: expected a network device", "long-name'"),
    ("data: {cidr: false}", "data.cidr: expected an IPv4 network", "found 'false'"),
    ("data: {mtu: 1300}", "data.mtu: expected a number of at least 1400", "found '1300'"),
    (
        "images: [{name: x, source: /x, sha256: abc}]",
        "images[0].sha256: expected a SHA-256 sum",
        "found 'abc'",
    ),
    (
        "images: [{name: x, source: /x}]",
        "images[0].sha256: expected the key 'sha256' (checksum of the file)",
        "found nothing",
    ),
    (
        f"images: [{{name: x, source: /x, sha256: '{64 * 'a'}', disk_format: qcow}}]",
        "images[0].disk_format: expected one of qcow2, raw",
        "did you mean 'qcow2'?",
    ),
    ("demo: {dns: 192.0.2.1}", "demo.dns: expected a list", "found '192.0.2.1'"),
    ("demo: {dns: [192.0.2.1/32]}", "demo.dns[0]: expected an IPv4 addr", "mean '192.0.2.1'?"),
]


@pytest.mark.parametrize(("text", "expected", "found"), BAD_VALUES)
def test_bad_value_names_line_path_expectation_and_suggestion(
    text: str, expected: str, found: str
) -> None:
    [line] = problems(f"{MINIMAL}\n{text}\n")
    assert line.startswith(f"site.yaml:8: {expected}")
    assert line.endswith(found)


def test_missing_keys_point_at_the_mapping_that_lacks_them() -> None:
    assert problems("hosts:\n  - name: a\n    nic: b\n") == [
        "site.yaml:1: external: expected the key 'external' (public addresses), found nothing",
        "site.yaml:2: hosts[0].address: expected the key 'address' "
        "(the host's own public (or LAN) address), found nothing",
    ]
    assert "site.yaml:1: hosts: expected at least one, found an empty list" in problems(
        "hosts: []\n"
    )


def test_all_problems_come_at_once_in_the_order_of_lines() -> None:
    text = """\
name: Cloud
hosts:
  - name: phys1
    adress: 203.0.113.2
    nic: eth0
external:
  block: 198.51.100.3/28
  block: 198.51.100.0/28
"""
    assert [line.split(" ")[0:2] for line in problems(text)] == [
        ["site.yaml:8:", "external.block:"],
        ["site.yaml:1:", "name:"],
        ["site.yaml:3:", "hosts[0].address:"],
        ["site.yaml:4:", "hosts[0].adress:"],
        ["site.yaml:7:", "external.block:"],
    ]


def test_duplicate_keys_are_refused_with_both_lines() -> None:
    assert problems(MINIMAL + "demo: {project: a}\ndemo: {project: b}\n") == [
        "site.yaml:8: demo: expected each key once, found it again (first in line 7)"
    ]


def outcome(text: str) -> LoadedSite | SiteError:
    try:
        return parse_site(text, PATH)
    except SiteError as error:
        assert error.details
        assert all(line.startswith("site.yaml:") and "\n" not in line for line in error.details)
        return error


@given(st.text())
@example("%YAML 3.1\n---\na: 1")
@example("\ufeff%YAML 1.10\n---\na: 1")
@example("a: \ud800")
@example("\x85- a\n\u2028b: \t")
def test_any_text_loads_or_is_a_site_error(text: str) -> None:
    outcome(text)


YAML_BITS = st.lists(
    st.sampled_from(
        [
            *"-:?[]{},&*!|>'\"%@`#~ \n\t\\0aé",
            ": ",
            "- ",
            "\n  ",
            "---",
            "...",
            "<<",
            "%YAML 1.1",
            "%TAG",
        ]
    )
).map("".join)


@given(YAML_BITS)
def test_anything_like_yaml_loads_or_is_a_site_error(text: str) -> None:
    outcome(text)


@given(st.integers(0, len(MINIMAL)), st.integers(0, 20), YAML_BITS)
def test_a_damaged_site_loads_or_is_a_site_error(at: int, cut: int, text: str) -> None:
    outcome(MINIMAL[:at] + text + MINIMAL[at + cut :])


KEYS = st.sampled_from(
    ["name", "hosts", "external", "block", "data", "cidr", "nodes", "controller", "demo", "ssh"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES))
def test_any_values_under_known_keys_load_or_are_a_site_error(data: dict[str, object]) -> None:
    outcome(json.dumps(data))


@given(st.binary())
def test_any_bytes_load_or_are_a_site_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "site.yaml"
        path.write_bytes(content)
        try:
            load_site(path)
        except SiteError as error:
            assert error.details
