"""What differs between two states of a host, and what of it belongs to packages that stay."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.cli.down_view import show_down
from solostack.engine.apply import Report
from solostack.flows.down import Undone
from solostack.host.snapshot import (
    ALL,
    compare,
    count_compared,
    owners_request,
    parse_owners,
    parse_snapshot,
)
from solostack.host.snapshot_model import Comparison, Difference, Kind, Owners, Section, Snapshot
from solostack.host.snapshot_reasons import MODULE
from solostack.host.snapshot_script import SECTIONS, SETTING, nft_items
from solostack.host.snapshot_volatile import VOLATILE, is_volatile

TEXTS = st.text(alphabet="abcxyz/.:-_ 019", max_size=12)
NAMES = TEXTS.filter(bool)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    sections = {}
    for name in draw(st.sets(st.sampled_from(sorted(SECTIONS)), min_size=1)):
        items = draw(st.dictionaries(NAMES, TEXTS, max_size=6))
        unknown = "" if items else draw(st.sampled_from(("", "it does not run")))
        sections[name] = Section(items=items, unknown=unknown)
    return Snapshot(sections=sections)


def with_item(snapshot: Snapshot, section: str, name: str, value: str | None) -> Snapshot:
    """Return the snapshot with one item set, or without it."""
    items = {key: old for key, old in snapshot.items(section).items() if key != name}
    if value is not None:
        items[name] = value
    return Snapshot(sections={**snapshot.sections, section: Section(items=items)})


def shuffled(snapshot: Snapshot, seed: int) -> Snapshot:
    order = random.Random(seed)
    sections = list(snapshot.sections.items())
    order.shuffle(sections)
    found = {}
    for name, section in sections:
        items = list(section.items.items())
        order.shuffle(items)
        found[name] = Section(items=dict(items), unknown=section.unknown)
    return Snapshot(sections=found)


def host(**sections: dict[str, str]) -> Snapshot:
    named = {name.replace("_", " "): items for name, items in sections.items()}
    return Snapshot(sections={name: Section(items=named.get(name, {})) for name in SECTIONS})


def reasons(found: tuple[Difference, ...]) -> dict[str, str]:
    return {one.name: one.because for one in found}


@given(snapshots())
def test_nothing_differs_from_itself(one: Snapshot) -> None:
    assert compare(one, one) == ()


@given(snapshots(), snapshots(), st.integers(), st.integers())
def test_order_does_not_matter(one: Snapshot, two: Snapshot, first: int, second: int) -> None:
    assert compare(one, two) == compare(shuffled(one, first), shuffled(two, second))


@given(snapshots(), st.data())
def test_every_single_change_is_reported_exactly_once(one: Snapshot, data: st.DataObject) -> None:
    known = sorted(name for name, section in one.sections.items() if not section.unknown)
    if not known:
        return
    section = data.draw(st.sampled_from(known))
    name = data.draw(NAMES.filter(lambda name: not is_volatile(section, name)))
    old, new = data.draw(
        st.tuples(st.none() | TEXTS, st.none() | TEXTS).filter(lambda pair: pair[0] != pair[1])
    )
    before = with_item(one, section, name, old)
    after = with_item(one, section, name, new)
    kind = Kind.ADDED if old is None else Kind.REMOVED if new is None else Kind.CHANGED
    (found,) = compare(before, after)
    assert (found.section, found.name, found.kind) == (section, name, kind)
    assert (found.before, found.after) == (old or "", new or "")
    (back,) = compare(after, before)
    assert (back.before, back.after) == (found.after, found.before)


@pytest.mark.parametrize(("section", "pattern", "why"), VOLATILE)
def test_what_is_volatile_has_a_section_and_a_reason(section: str, pattern: str, why: str) -> None:
    assert section in SECTIONS
    assert why
    assert is_volatile(section, pattern.replace("[0-6S]", "3").replace("*", "x"))


def test_volatile_things_are_not_reported_and_not_counted() -> None:
    before = host(sysctl={"kernel.random.uuid": "1", "net.ipv4.ip_forward": "0"})
    after = host(sysctl={"kernel.random.uuid": "2", "net.ipv4.ip_forward": "0"})
    assert compare(before, after) == ()
    counts = count_compared(before, after)
    assert {name: count for name, count in counts.items() if count} == {"sysctl": 1}
    assert set(counts) == set(SECTIONS)


@pytest.mark.parametrize(
    "path", ["/etc/machine-id", "/etc/passwd", "/etc/resolv.conf", "/etc/hosts"]
)
def test_files_that_say_who_the_host_is_always_count(path: str) -> None:
    (one,) = compare(host(files={path: "a"}), host(files={path: "b"}))
    assert one.kind is Kind.CHANGED


def test_settings_of_an_interface_that_went_are_not_listed_besides() -> None:
    key = "net.ipv4.conf.eth0/100.rp_filter"
    before = host(links={"lo": "up", "eth0.100": "up"}, sysctl={key: "2"})
    assert [one.section for one in compare(before, host(links={"lo": "up"}))] == ["links"]
    stays = host(links={"lo": "up", "eth0.100": "up"}, sysctl={key: "0"})
    assert [one.name for one in compare(before, stays)] == [key]
    both = "net.ipv4.conf.all.rp_filter"
    assert compare(host(sysctl={both: "2"}), host(sysctl={both: "0"}))[0].name == both


def test_a_section_that_could_not_be_looked_at() -> None:
    absent = Snapshot(sections={"libvirt": Section(unknown="libvirt does not run")})
    empty = Snapshot(sections={"libvirt": Section()})
    full = Snapshot(sections={"libvirt": Section(items={"domain a": "1", "domain b": "2"})})
    assert compare(absent, absent) == compare(absent, empty) == compare(empty, absent) == ()
    (one,) = compare(full, absent)
    assert (one.name, one.before, one.after) == (ALL, "2 of them", "unknown: libvirt does not run")
    assert count_compared(full, absent) == {"libvirt": 0}
    assert len(compare(empty, full)) == 2


PACKAGE = frozenset({"nova-common"})
OWNERS = Owners(
    paths={
        "/etc/nova": PACKAGE,
        "/etc/alternatives/editor": PACKAGE,
        "/etc/default": frozenset({"base-files", "nova-common"}),
        "/etc/default/nova": PACKAGE,
        "/etc/libvirt/own.conf": PACKAGE,
    },
    mentions={"/var/lib/nova": PACKAGE},
    units={"nova-compute.service": PACKAGE},
    accounts={"nova": PACKAGE},
    sysctl={"vm.unprivileged_userfaultfd": PACKAGE},
    edited=frozenset({"/etc/default/nova"}),
)
BEFORE = host(
    packages={"bash": "5"},
    users={"root": "0"},
    groups={"root": "0:", "kvm": "104:"},
    files={
        "/etc/passwd": "file 0644 0:0 sha256:1",
        "/etc/group": "file 0644 0:0 sha256:1",
        "/etc/default": "directory",
        "/etc/alternatives/editor": "link 0:0 -> /bin/nano",
        "/etc/libvirt/own.conf": "file 1",
    },
    sysctl={"vm.unprivileged_userfaultfd": "0"},
)
AFTER = host(
    packages={"bash": "5", "nova-common:amd64": "31", "mine": "1"},
    users={"root": "0", "nova": "64060"},
    groups={"root": "0:", "kvm": "104:nova", "nova": "64060:"},
    files={
        "/etc/passwd": "file 0644 0:0 sha256:2",
        "/etc/group": "file 0644 0:0 sha256:2",
        "/etc/default": "directory",
        "/etc/default/nova": "file 1",
        "/etc/default/other": "file 1",
        "/etc/nova": "directory",
        "/etc/nova/deep/nova.conf": "file 1",
        "/etc/nova/deep": "directory",
        "/etc/alternatives/editor": "link 0:0 -> /usr/share/nova/editor",
        "/etc/libvirt/own.conf": "file 2",
    },
    state_folders={"/var/lib/nova": "directory", "/var/lib/nova/instances": "directory"},
    units={"nova-compute.service": "disabled", "mine.service": "enabled"},
    sysctl={"vm.unprivileged_userfaultfd": "1", "net.netfilter.nf_conntrack_max": "9"},
)


def test_what_follows_from_packages_that_stay_has_its_reason() -> None:
    found = reasons(compare(BEFORE, AFTER, kept_packages=PACKAGE, owners=OWNERS))
    why = "kept package nova-common"
    assert found == {
        "nova-common:amd64": why,
        "mine": "",
        "nova": why,
        "kvm": why,
        "/etc/passwd": why,
        "/etc/group": why,
        "/etc/default/nova": "",  # edited since
        "/etc/default/other": "",  # the folder is not the package's own
        "/etc/nova": why,
        "/etc/nova/deep": why,
        "/etc/nova/deep/nova.conf": why,
        "/etc/alternatives/editor": why,
        "/etc/libvirt/own.conf": "",  # was there before
        "/var/lib/nova": why,
        "/var/lib/nova/instances": why,
        "nova-compute.service": why,
        "mine.service": "",
        "vm.unprivileged_userfaultfd": why,
        "net.netfilter.nf_conntrack_max": MODULE,
    }


def test_what_up_made_or_libvirt_was_told_is_no_packages_own() -> None:
    """It is in folders that packages brought, and would be hidden there."""
    packages = {"packages": {"nova-common": "31"}}
    owners = Owners(
        paths={
            "/etc/libvirt": PACKAGE,
            "/etc/libvirt/qemu": PACKAGE,
            "/etc/nova": PACKAGE,
            "/etc/x/x.wants/a": PACKAGE,
        },
        mentions={"/etc/libvirt/qemu/default.xml": PACKAGE, "/etc/pam.d/common-auth": PACKAGE},
    )
    files = (
        "/etc/libvirt", "/etc/libvirt/qemu", "/etc/libvirt/qemu/data.xml",
        "/etc/libvirt/qemu/default.xml", "/etc/nova", "/etc/nova/by-package", "/etc/nova/ours",
        "/etc/x", "/etc/x/x.wants", "/etc/x/x.wants/a", "/etc/y", "/etc/y/a",
    )  # fmt: skip
    auth = {"/etc/pam.d/common-auth": "file 0644 0:0 sha256:1"}
    after = host(
        **packages,
        files={
            **dict.fromkeys(files, "directory 0755 0:0"),
            "/etc/pam.d/common-auth": "file 0644 0:0 sha256:2",
        },
        libvirt={"network data": "1", "domain vm": "2"},
    )
    found = compare(
        host(files=auth), after, kept_packages=PACKAGE, made=["/etc/nova/ours"], owners=owners
    )
    assert {name for name, why in reasons(found).items() if not why} == {
        "/etc/libvirt/qemu/data.xml",
        "/etc/nova/ours",
        "/etc/y",
        "/etc/y/a",
        "network data",
        "domain vm",
    }
    assert "/etc/libvirt/qemu/networks/data.xml" in owners_request(found)["paths"]


def test_without_kept_packages_all_of_it_is_left_over() -> None:
    found = reasons(compare(BEFORE, AFTER, owners=OWNERS))
    assert {name for name, why in found.items() if why} == {"net.netfilter.nf_conntrack_max"}
    assert len(found) == len(reasons(compare(BEFORE, AFTER, kept_packages=PACKAGE)))


def test_a_package_that_was_there_before_explains_nothing() -> None:
    sections = {**BEFORE.sections, "packages": Section(items={"bash": "5", "nova-common": "30"})}
    found = compare(Snapshot(sections=sections), AFTER, kept_packages=PACKAGE, owners=OWNERS)
    assert not [one for one in found if one.because and one.section != "sysctl"]
    remnant = Section(items={"bash": "5", "nova-common": "30 (config-files)"})
    before = Snapshot(sections={**BEFORE.sections, "packages": remnant})
    assert reasons(compare(before, AFTER, kept_packages=PACKAGE, owners=OWNERS))["nova"]


def test_a_stranger_among_the_users_keeps_passwd_in_the_list() -> None:
    after = with_item(AFTER, "users", "eve", "1000")
    after = with_item(after, "groups", "kvm", "104:eve,nova")
    found = reasons(compare(BEFORE, after, kept_packages=PACKAGE, owners=OWNERS))
    assert found["/etc/passwd"] == found["eve"] == found["kvm"] == found["/etc/group"] == ""
    assert found["nova"]
    open_to_all = with_item(AFTER, "files", "/etc/passwd", "file 0666 0:0 sha256:2")
    found = reasons(compare(BEFORE, open_to_all, kept_packages=PACKAGE, owners=OWNERS))
    assert found["/etc/passwd"] == ""


def test_owners_are_asked_for_what_differs_and_the_folders_around_it() -> None:
    request = owners_request(compare(BEFORE, AFTER))
    assert {"/etc/nova", "/etc/nova/deep", "/etc/nova/deep/nova.conf"} <= set(request["paths"])
    assert "/etc/systemd/system/mine.service" in request["paths"]
    assert request["accounts"] == ["kvm", "nova"]
    assert "bash" not in str(request)


def test_parsing() -> None:
    raw = {
        "format": 1,
        "sections": {"links": {"items": {"lo\udcff": "up"}}, "nft": {"unknown": "x"}},
    }
    assert parse_snapshot(raw) == Snapshot(
        sections={"links": Section(items={"lo?": "up"}), "nft": Section(unknown="x")}
    )
    with pytest.raises(ValueError, match="no snapshot of this version"):
        parse_snapshot({"format": 2, "sections": {}})
    lists = {"paths": {"/etc/x": ["b", "a"]}, "mentions": {}, "units": {}, "accounts": {}}
    owners = parse_owners({**lists, "sysctl": {}, "edited": ["/etc/x"]})
    assert owners == Owners(paths={"/etc/x": frozenset({"a", "b"})}, edited=frozenset({"/etc/x"}))


NFT = """table inet own {
\tcomment "mine"
\tset seen {
\t\ttype ipv4_addr
\t\tflags dynamic,timeout
\t\telements = { 192.0.2.1 timeout 1m,
\t\t\t     192.0.2.2 timeout 1m }
\t}

\tset fixed {
\t\ttype ipv4_addr
\t\telements = { 192.0.2.1 }
\t}

\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\ttcp dport 22 counter accept
\t}
}
# Warning: table ip nat is managed by iptables-nft, do not touch!
table ip nat {
}
"""


def test_nft_is_split_into_what_can_differ() -> None:
    assert nft_items(NFT) == {
        "inet own": 'comment "mine"',
        "inet own set seen": "type ipv4_addr\nflags dynamic,timeout",
        "inet own set fixed": "type ipv4_addr\nelements = { 192.0.2.1 }",
        "inet own chain input": "type filter hook input priority filter; policy accept;\n"
        "tcp dport 22 counter accept",
        "ip nat": "",
    }


def test_settings_of_open_vswitch() -> None:
    text = '{hostname=phys1, system-id="a,b", "iface-types"="x, \\"y", n="1"}'
    assert [(key, value.strip('"')) for key, value in SETTING.findall(text)] == [
        ("hostname", "phys1"),
        ("system-id", "a,b"),
        ("iface-types", 'x, \\"y'),
        ("n", "1"),
    ]
    assert SETTING.findall("{}") == []


def undone(comparison: Comparison) -> Undone:
    report = Report(
        machine="phys1",
        changed=("undo path /etc/x",),
        changes=(),
        failed=None,
        seconds=1,
        timings=(),
    )
    return Undone(report=report, comparison=comparison)


def shown(capsys: pytest.CaptureFixture[str], comparison: Comparison) -> tuple[str, str]:
    show_down([undone(comparison)], json=False)
    out, err = capsys.readouterr()
    return out, err


def test_what_down_prints(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"files": 40, "links": 2}
    out, err = shown(capsys, Comparison(compared=counts))
    assert "phys1: the host is as it was before: 42 things compared" in out
    assert not err

    kept = Difference(section="files", name="/etc/nova", kind=Kind.ADDED, because="kept package x")
    out, err = shown(capsys, Comparison(compared=counts, kept_with_packages=(kept,)))
    assert "as it was before, but for packages that stay: 42 things compared" in out
    assert "belongs to packages that stay: 1 files" in out
    assert not err

    chain = Difference(
        section="nft",
        name="inet own chain input",
        kind=Kind.CHANGED,
        before="type filter\ntcp dport 22 accept",
        after="type filter\ntcp dport 23 accept\nudp dport 1 accept",
    )
    out, err = shown(capsys, Comparison(compared=counts, differences=(chain,) * 50))
    assert err == "warning: phys1: 50 of 42 things are not as before\n"
    (row, *_) = (line for line in out.splitlines() if "inet own" in line)
    assert "tcp dport 22 accept" in row
    assert "tcp dport 23 accept (and 1 more lines)" in row
    assert "and 10 more" in out

    out, err = shown(capsys, Comparison(problem="none was kept"))
    assert err == "warning: phys1: not compared with before: none was kept\n"


def test_the_json_of_down(capsys: pytest.CaptureFixture[str]) -> None:
    one = Difference(section="links", name="br0", kind=Kind.ADDED, after="bridge")
    show_down([undone(Comparison(differences=(one,), compared={"links": 3}))], json=True)
    text = capsys.readouterr().out
    for part in ('"kept_with_packages": []', '"kind": "added"', '"links": 3', '"not_compared": ""'):
        assert part in text


def test_the_documentation_has_every_section() -> None:
    page = (Path(__file__).parents[2] / "docs" / "down.md").read_text()
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert rows == list(SECTIONS)
