"""An external directory by value: each step of a login that fails has its own finding."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from solostack.errors import HostError, SiteError
from solostack.flows.directory_files import external_secrets, read_credentials
from solostack.host.check import Finding, Severity, Subject, findings
from solostack.host.directory_probe import (
    Credentials,
    DirectorySeen,
    Entries,
    build_request,
    pack,
    parse_seen,
)
from solostack.site.loader import LoadedSite, parse_site
from solostack.site.model import Site
from tests.unit.host_observations import GOOD, site

EXTERNAL: dict[str, Any] = {
    "url": "ldaps://ds.example.org",
    "bind_dn": "cn=reader,dc=example,dc=org",
    "bind_password_file": "password",
    "user_tree": "ou=people,dc=example,dc=org",
    "group_tree": "ou=groups,dc=example,dc=org",
}
USERS = Entries(count=3, all=True, lacking={"uid": 0, "mail": 1})
GROUPS = Entries(count=2, all=True, lacking={"cn": 0, "member": 0})
WELL = DirectorySeen(step="", users=USERS, groups=GROUPS)


def external_site(**changes: Any) -> Site:
    return site(directory={"provider": "external", "external": {**EXTERNAL, **changes}})


def found(seen: DirectorySeen | None, **changes: Any) -> list[Finding]:
    observation = dataclasses.replace(GOOD, directory=seen)
    every = findings(external_site(**changes), None, observation)
    return [one for one in every if one.subject is Subject.DIRECTORY]


def one_error(seen: DirectorySeen, **changes: Any) -> Finding:
    [finding] = found(seen, **changes)
    assert finding.severity is Severity.ERROR
    assert finding.why
    assert finding.todo
    return finding


def test_a_directory_that_answers_is_well() -> None:
    assert [one.what for one in found(WELL)] == [
        "ldaps://ds.example.org answers: 3 users",
        "2 groups",
    ]


@pytest.mark.parametrize(
    ("step", "kind", "says", "todo"),
    [
        ("resolve", "name", "not known there", "url"),
        ("connect", "refused", "nothing answers", "firewall"),
        ("connect", "timeout", "nothing answers", "port"),
        ("tls", "ca", "no secure connection", "directory.external.ca"),
        ("tls", "name", "no secure connection", "subjectAltName"),
        ("tls", "expired", "no secure connection", "renewed"),
        ("tls", "not yet", "no secure connection", "clocks"),
        ("tls", "start", "no secure connection", "ldaps://"),
        ("tls", "protocol", "no secure connection", "636"),
        ("bind", "credentials", "refuses cn=reader", "directory.external.bind_dn"),
        ("bind", "refused", "not log in", "locked"),
        ("user tree", "absent", "there is no ou=people", "directory.external.user_tree"),
        ("group tree", "absent", "there is no ou=groups", "directory.external.group_tree"),
        ("users", "none", "no user below ou=people", "user_object_class"),
        ("users", "filter", "fails", "user_filter"),
        ("groups", "filter", "fails", "group_filter"),
    ],
)
def test_each_fault_says_what_and_what_to_do(step: str, kind: str, says: str, todo: str) -> None:
    finding = one_error(DirectorySeen(step=step, kind=kind, said="because"))
    assert says in finding.what
    assert todo in finding.todo
    assert "because" in finding.what + finding.why


def test_an_attribute_that_nobody_has_is_an_error_and_one_that_some_lack_is_not() -> None:
    nobody = dataclasses.replace(WELL, users=dataclasses.replace(USERS, lacking={"uid": 3}))
    [_, error, _] = found(nobody)
    assert (error.severity, "has uid" in error.what) == (Severity.ERROR, True)
    some = dataclasses.replace(WELL, users=dataclasses.replace(USERS, lacking={"uid": 1}))
    assert [one.severity for one in found(some)].count(Severity.INFO) == 1


def test_no_group_is_a_warning() -> None:
    empty = dataclasses.replace(WELL, groups=Entries(count=0, all=True, lacking={}))
    assert [one.severity for one in found(empty)] == [Severity.OK, Severity.WARNING]


def test_a_directory_that_was_not_asked_is_told() -> None:
    [finding] = found(None)
    assert finding.severity is Severity.INFO


def test_the_request_asks_what_keystone_will() -> None:
    external = external_site(preset="freeipa", user_filter="(ou=x)").directory
    assert external is not None
    assert external.external is not None
    request = build_request(external.external, Credentials(password="p", ca="PEM"))
    assert request["user_filter"] == "(&(objectClass=person)(ou=x))"
    assert request["user_attributes"] == ["uid", "mail", "nsAccountLock"]
    assert request["start_tls"] is False


def test_what_is_packed_runs_alone() -> None:
    with zipfile.ZipFile(io.BytesIO(pack({"url": "ldaps://x"}))) as archive:
        names = set(archive.namelist())
        request = json.loads(archive.read("request.json"))
    assert {"directory_probe_script.py", "ldap3/__init__.py", "pyasn1/__init__.py"} <= names
    assert request == {"url": "ldaps://x"}


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"result": {"step": 1}}'])
def test_an_answer_that_cannot_be_read_names_the_host(text: str) -> None:
    with pytest.raises(HostError, match="phys1"):
        parse_seen(text, "phys1")


def load(folder: Path) -> LoadedSite:
    text = json.dumps(
        {
            "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1"}],
            "external": {"block": "198.51.100.0/28"},
            "directory": {"provider": "external", "external": {**EXTERNAL, "ca": "ca.pem"}},
        }
    )
    return parse_site(text, folder / "site.yaml")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


CA = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"


def test_files_are_beside_the_site_file_and_a_dollar_is_doubled_for_keystone(
    tmp_path: Path,
) -> None:
    write(tmp_path / "password", 'a$b" c\n')
    write(tmp_path / "ca.pem", CA, 0o644)
    assert external_secrets(load(tmp_path)) == {
        "directory_bind_password": 'a$$b" c',
        "directory_external_ca": CA,
    }


@pytest.mark.parametrize(
    ("password", "mode", "ca", "says"),
    [
        (None, 0o600, CA, "cannot read"),
        ("secret\n", 0o644, CA, "others may read"),
        ("\n", 0o600, CA, "on one line"),
        ("two\nlines\n", 0o600, CA, "on one line"),
        ("secret\n", 0o600, "no certificate", "holds no certificate"),
        ("secret\n", 0o600, None, "cannot read"),
    ],
)
def test_a_file_that_will_not_do_is_named(
    tmp_path: Path, password: str | None, mode: int, ca: str | None, says: str
) -> None:
    if password is not None:
        write(tmp_path / "password", password, mode)
    if ca is not None:
        write(tmp_path / "ca.pem", ca)
    loaded = load(tmp_path)
    assert loaded.site.directory is not None
    assert loaded.site.directory.external is not None
    with pytest.raises(SiteError, match=says) as caught:
        read_credentials(loaded, loaded.site.directory.external)
    assert caught.value.hint
    assert "secret" not in str(caught.value)
