"""What Keystone and the directory node are told: golden texts by kind of directory, and rules."""

from __future__ import annotations

import configparser
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.engine.operations import SECRET_PATTERN, File, Step
from solostack.openstack import auth, directory, keystone, keystone_domain, roles
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.fields import LOGIN_PATTERN
from solostack.site.model import Role, Site

GOLDEN = Path(__file__).parents[1] / "golden" / "openstack"
FACTS = HostFacts(
    name="phys1", cores=4, memory_mib=16000, disk_gib=200, kvm=True, openvswitch_module=True
)
OWN = {
    "suffix": "dc=example,dc=org",
    "users": [
        {"name": "ada", "full_name": "Ada Lovelace", "mail": "ada@example.org"},
        {"name": "bo.b-x", "enabled": False},
    ],
    "groups": [{"name": "makers", "members": ["ada"], "project": "demo"}],
}
EXTERNAL = {
    "url": "ldaps://ds.example.org",
    "bind_dn": "cn=reader,dc=example,dc=org",
    "bind_password_file": "password",
    "user_tree": "ou=people,dc=example,dc=org",
}
KINDS: dict[str, dict[str, Any]] = {
    "own": OWN,
    "ldap": {"provider": "external", "external": {**EXTERNAL, "url": "ldap://ds.example.org:389"}},
    "freeipa": {
        "provider": "external",
        "external": {
            **EXTERNAL,
            "preset": "freeipa",
            "ca": "ipa.pem",
            "group_tree": "cn=groups,cn=accounts,dc=example,dc=org",
            "user_filter": "(memberOf=cn=cloud,cn=groups,cn=accounts,dc=example,dc=org)",
        },
    },
    "ad": {"provider": "external", "external": {**EXTERNAL, "preset": "ad", "ca": "ad.pem"}},
}


def make_plan(**wanted: Any) -> Plan:
    site = Site.model_validate(
        {
            "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1"}],
            "external": {"block": "198.51.100.0/28"},
            "directory": wanted or None,
        }
    )
    return build_plan(site, {"phys1": FACTS})


def domain_text(plan: Plan) -> str:
    [file] = [
        one
        for one in keystone_domain.domain_files(plan)
        if isinstance(one, File) and one.path.endswith(".conf")
    ]
    assert (file.mode, file.group) == (0o640, "keystone")
    return file.content


def ldap_section(plan: Plan) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=True)
    parser.read_string(domain_text(plan))
    return parser["ldap"]


@pytest.mark.parametrize("kind", KINDS)
def test_golden(kind: str, pytestconfig: pytest.Config) -> None:
    path = GOLDEN / f"keystone-domain-{kind}.conf"
    text = domain_text(make_plan(**KINDS[kind]))
    if pytestconfig.getoption("--regenerate", default=False):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_no_password_goes_in_the_clear_or_to_an_unknown_server(kind: str) -> None:
    section = ldap_section(make_plan(**KINDS[kind]))
    secure = section["url"].startswith("ldaps://")
    assert secure or section["use_tls"] == "true"
    # Keystone refuses both at once.
    assert not (secure and section.get("use_tls") == "true")
    assert section["tls_req_cert"] == "demand"
    assert section["tls_cacertfile"]


def test_an_old_password_does_not_live_on_in_a_pooled_connection() -> None:
    assert ldap_section(make_plan(**OWN))["use_pool"] == "false"


def test_without_a_directory_keystone_has_one_domain_and_old_files_go() -> None:
    plan = make_plan()
    assert keystone_domain.identity_section(plan) == {}
    assert "domain_specific" not in keystone.render_conf(plan)
    assert not any(isinstance(one, File) for one in keystone_domain.domain_files(plan))
    [step] = [one for one in keystone_domain.domain_files(plan) if isinstance(one, Step)]
    assert "rm -f" in step.run


def test_keystone_restarts_for_what_it_reads_at_its_start() -> None:
    [unit] = keystone.keystone_units(make_plan(**OWN))
    assert "/etc/keystone/domains/keystone.users.conf" in unit.restart_on  # type: ignore[union-attr]


def test_the_node_is_told_everything_with_secrets_by_name() -> None:
    plan = make_plan(**OWN)
    files = {
        one.path: one
        for one in directory.directory_operations(plan, plan.node(Role.DIRECTORY))
        if isinstance(one, File)
    }
    wanted = files[directory.WANTED]
    assert wanted.mode == 0o600
    told = json.loads(wanted.content)
    assert [user["name"] for user in told["users"]] == ["ada", "bo.b-x"]
    assert told["users"][1]["enabled"] is False
    assert told["groups"] == [{"name": "makers", "members": ["ada"]}]
    names = set(SECRET_PATTERN.findall(wanted.content))
    assert names == {auth.DIRECTORY_BIND_PASSWORD, "directory_user_ada",
                     "directory_user_bo_2eb_2dx"}  # fmt: skip
    assert names <= set(roles.secret_names(plan))
    assert files["/etc/solostack-directory/key.pem"].mode == 0o600


def test_blanks_around_a_name_and_an_address_are_none() -> None:
    users = [
        {"name": "ada", "full_name": " Ada Lovelace ", "mail": "ada@example.org "},
        {"name": "bo", "full_name": " ", "mail": "\t"},
    ]
    plan = make_plan(users=users)
    told = json.loads(directory.render_wanted(plan, plan.node(Role.DIRECTORY)))["users"]
    seen = [(user["full_name"], user["mail"]) for user in told]
    assert seen == [("Ada Lovelace", "ada@example.org"), ("", "")]


def test_nothing_is_generated_for_a_directory_of_somebody_else() -> None:
    plan = make_plan(**KINDS["ad"])
    assert not plan.has(Role.DIRECTORY)
    assert auth.DIRECTORY_BIND_PASSWORD not in roles.secret_names(plan)


@given(st.from_regex(LOGIN_PATTERN, fullmatch=True), st.from_regex(LOGIN_PATTERN, fullmatch=True))
def test_each_login_name_has_a_secret_of_its_own(first: str, second: str) -> None:
    names = {directory.user_password(first), directory.user_password(second)}
    assert len(names) == len({first, second})
    assert all(SECRET_PATTERN.fullmatch(f"@@secret:{name}@@") for name in names)


def test_a_site_key_beats_its_preset() -> None:
    external = {**EXTERNAL, "preset": "ad", "user_name_attribute": "userPrincipalName"}
    section = ldap_section(make_plan(provider="external", external=external))
    assert section["user_name_attribute"] == "userPrincipalName"
    assert section["user_enabled_mask"] == "2"


def test_a_renamed_domain_leaves_no_file_of_the_old_one() -> None:
    plan = make_plan(**OWN)
    assert plan.directory is not None
    renamed = dataclasses.replace(
        plan, directory=plan.directory.model_copy(update={"domain": "people"})
    )
    [step] = [one for one in keystone_domain.domain_files(renamed) if isinstance(one, Step)]
    assert keystone_domain.domain_path("people") in step.unless
    assert "keystone.users.conf" not in step.unless
