"""XML from anywhere: read, or refused with a clear error; never more than that."""

from __future__ import annotations

import tracemalloc
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from solostack.doors.hypervisor_records import DomainRecord
from solostack.inventory import DomainXmlError, disks_from_xml
from solostack.inventory.disks import build_disks
from solostack.inventory.documents import disk_row, disk_value, domain_row, domain_value
from solostack.inventory.domains import build_domain
from solostack.inventory.parsing import number, parse_xml, size_bytes

BOMB = (
    "<!DOCTYPE domain [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 10}'>" for i in range(9))
    + "]><domain><name>&j;</name></domain>"
)
EXTERNAL = "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>"


@pytest.mark.parametrize("text", [BOMB, EXTERNAL, "<!DOCTYPE domain><domain/>"])
def test_a_document_type_is_refused(text: str) -> None:
    tracemalloc.start()
    with pytest.raises(DomainXmlError, match="document type"):
        parse_xml(text, "domain")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_the_words_of_a_document_type_in_text_are_just_text() -> None:
    text = "<domain><!-- <!DOCTYPE --><description><![CDATA[<!DOCTYPE x>]]></description></domain>"
    assert parse_xml(text, "domain").findtext("description") == "<!DOCTYPE x>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not well-formed"),
        ("<domain>", "not well-formed"),
        ("<domain><!DOCTYPE", "not well-formed"),
        ("<domain>\x00</domain>", "not well-formed"),
        ("<domain>&nbsp;</domain>", "not well-formed"),
        ("<network/>", "root element is network"),
        ("<domain xmlns='urn:x'/>", "root element is {urn:x}domain"),
        ("<domain>\ud800</domain>", "not well-formed"),
    ],
)
def test_what_is_no_domain_is_a_clear_error(text: str, words: str) -> None:
    with pytest.raises(DomainXmlError) as caught:
        disks_from_xml(text)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        (" 12\n", 12),
        ("18446744073709551615", 2**64 - 1),
        (None, None),
        ("", None),
        ("-1", None),
        ("1_0", None),
        ("0x10", None),
        ("²", None),
        ("٣", None),
        ("9" * 21, None),
    ],
)
def test_numbers(text: str | None, value: int | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<memory>1024</memory>", 1024**2),
        ("<memory unit='bytes'>1024</memory>", 1024),
        ("<memory unit='MiB'>2</memory>", 2 * 1024**2),
        ("<memory unit='M'>2</memory>", 2 * 1024**2),
        ("<memory unit='MB'>2</memory>", 2_000_000),
        ("<memory unit='GiB'>2</memory>", 2 * 1024**3),
        ("<memory unit='TB'>1</memory>", 10**12),
        ("<memory unit='stones'>2</memory>", None),
        ("<memory>much</memory>", None),
        ("<memory/>", None),
    ],
)
def test_sizes_have_libvirts_units(text: str, value: int | None) -> None:
    assert size_bytes(ET.fromstring(text), default_unit="KiB") == value


# Names that libvirt uses, so that the examples get to the code, and a few that it does not.
TAGS = (
    "name", "uuid", "title", "metadata", "memory", "currentMemory", "vcpu", "os", "type",
    "devices", "disk", "driver", "source", "target", "host", "boot", "serial", "backingStore",
    "format", "mirror", "encryption", "address", "snapshot", "readonly", "interface", "mac",
    "virtualport", "parameters", "model", "x:disk", "n:instance", "n:ports", "n:port", "n:ip",
    "n:flavor", "n:owner", "s:node", "other",
)  # fmt: skip
KEYS = (
    "type", "device", "file", "dev", "dir", "protocol", "name", "port", "pool", "volume", "bus",
    "cache", "order", "unit", "current", "domain", "slot", "namespace", "path", "transport",
    "socket", "query", "uuid", "address", "interfaceid", "network", "bridge", "x:file", "index",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(("file", "network", "nvme", "volume", "vda", "0x1f", "7", "", "-1", "hostdev")),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12).filter(
        lambda text: "\ufffe" not in text and "\uffff" not in text
    ),
)
NAMESPACES = (
    " xmlns:x='urn:x' xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'"
    " xmlns:s='https://solostack.example/xmlns/domain/1.0'"
)


def render(tag: str, attributes: dict[str, str], text: str, children: list[str]) -> str:
    words = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    return f"<{tag}{words}>{escape(text)}{''.join(children)}</{tag}>"


ELEMENTS = st.recursive(
    st.builds(
        render,
        st.sampled_from(TAGS),
        st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
        VALUES,
        st.just([]),
    ),
    lambda inner: st.builds(
        render,
        st.sampled_from(TAGS),
        st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
        VALUES,
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)
DISKS = st.builds(
    render,
    st.just("disk"),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    st.just(""),
    st.lists(ELEMENTS, max_size=5),
)
DOMAINS = st.builds(
    lambda first, devices, more: (
        f"<domain{NAMESPACES}>{''.join(first)}<devices>{''.join(devices)}</devices>"
        f"{''.join(more)}</domain>"
    ),
    st.lists(ELEMENTS, max_size=4),
    st.lists(st.one_of(DISKS, ELEMENTS), max_size=5),
    st.lists(ELEMENTS, max_size=2),
)
RECORD = DomainRecord(
    handle=None,
    name="d",
    uuid="6d1b5a3e-0001-4000-8000-000000000001",
    id=None,
    persistent=None,
    autostart=None,
    state=99,
    reason=99,
    vcpus=None,
    vcpus_max=None,
    memory_kib=None,
    memory_max_kib=None,
    cpu_time_ns=None,
    blocks=(),
)


@given(DOMAINS)
@example("<domain><devices><disk type='nvme'><source><address/></source></disk></devices></domain>")
def test_any_well_formed_domain_gives_a_result(text: str) -> None:
    tree = parse_xml(text, "domain")
    disks = build_disks(tree, name=None, uuid=None, blocks=())
    assert len(disks) == len(tree.findall("./devices/disk"))
    for disk in disks:
        assert len(disk_row(disk)) == len(disk_value(disk))
    domain = build_domain(RECORD, tree, {})
    assert domain.state == "unknown (99)"
    assert len(domain.interfaces) == len(tree.findall("./devices/interface"))
    assert domain_value(domain)["name"] == "d"
    assert domain_row(domain)[0] == "d"


@given(st.text(max_size=60))
def test_any_text_gives_disks_or_a_clear_error(text: str) -> None:
    for candidate in (text, f"<domain>{text}</domain>", f"<domain {text}/>"):
        try:
            disks_from_xml(candidate)
        except DomainXmlError as error:
            assert error.message


def test_a_very_long_chain_of_layers_is_no_problem() -> None:
    depth = 5000
    layer = "<backingStore type='file'><format type='qcow2'/><source file='/x'/>"
    chain = layer * depth + "</backingStore>" * depth
    found = disks_from_xml(f"<domain><devices><disk>{chain}</disk></devices></domain>")
    assert found[0].backing is not None
    assert len(found[0].backing) == depth
