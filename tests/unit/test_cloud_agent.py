import json
from typing import Any

import pytest

from solostack.cloud.agent import ensure, grants, opening, proving, report, rest

CONSOLE = """\
SeaBIOS (version 1.16)\r
\x1bc\x1b[?7l\x1b[2JSOLOSTACK DHCP 10.254.254.17\r
SOLOSTACK METADATA i-0000000a\r
SOLOSTACK READY\r
user-data: VERIFY listening yes\r
user-data: VERIFY outward no\r
"""


def test_markers_are_read_off_a_real_console() -> None:
    assert proving.read_markers(CONSOLE) == {
        "DHCP": "10.254.254.17",
        "METADATA": "i-0000000a",
        "READY": "",
        "listening": "yes",
        "outward": "no",
    }


def test_the_last_word_counts() -> None:
    console = CONSOLE + "user-data: VERIFY outward yes\r\n"
    assert proving.read_markers(console)["outward"] == "yes"


def test_findings_judge_the_consoles(capsys: pytest.CaptureFixture[str]) -> None:
    seen = {name: proving.Seen() for name in ("first", "second")}
    seen["first"].look(CONSOLE, 12.0)
    proving._judge(seen)
    findings = {
        event["name"]: event for event in map(json.loads, capsys.readouterr().out.splitlines())
    }
    assert findings["DHCP: first instance"]["ok"]
    assert findings["DHCP: first instance"]["seconds"] == 12.0
    assert not findings["DHCP: second instance"]["ok"]
    assert findings["outward with a floating IP"]["detail"] == "the console says no"
    assert findings["console log readable"]["ok"]


def test_free_addresses_keep_their_order() -> None:
    wanted = ["198.51.100.0", "198.51.100.15", "198.51.100.1"]
    assert proving.free_addresses(wanted, ["198.51.100.0"]) == wanted[1:]


def test_agents_that_are_dead_or_absent_are_told() -> None:
    rows = [
        {"type": "OVN Controller Gateway agent", "host": "network", "alive": True},
        {"type": "OVN Controller agent", "host": "phys1", "alive": True},
        {"type": "OVN Metadata agent", "host": "phys1", "alive": False},
    ]
    chassis = {"network": ["gateway"], "phys1": ["controller", "metadata"]}
    assert proving.missing_agents(rows, chassis) == [
        "OVN Metadata agent on phys1",
        "metadata agent on phys1",
    ]


def test_differences_ignore_order_inside_lists() -> None:
    row = {"pools": [{"start": "1"}, {"start": "2"}], "name": "n", "more": 1, "gateway": "g"}
    wanted = {"pools": [{"start": "2"}, {"start": "1"}], "name": "n", "gateway": None}
    assert ensure.differing(row, wanted) == {"gateway": None}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"NeutronError": {"message": "in use", "type": "X", "detail": ""}}, "in use"),
        ({"badRequest": {"code": 400, "message": "bad flavor"}}, "bad flavor"),
        ({"error": {"code": 401, "message": "no", "title": "Unauthorized"}}, "no"),
        ({"errors": [{"status": 404, "detail": "no such provider"}]}, "no such provider"),
        (None, "502 Bad Gateway"),
    ],
)
def test_error_texts_of_every_service(body: object, text: str) -> None:
    class Response:
        text = "<html><h1>502</h1> Bad Gateway</html>"

        def json(self) -> object:
            if body is None:
                raise ValueError
            return body

    assert rest.error_text(Response()) == text


@pytest.mark.parametrize(
    ("service", "page", "path"),
    [
        ("image", {"next": "/v2/images?marker=1"}, "/images?marker=1"),
        (
            "compute",
            {"servers_links": [{"rel": "next", "href": "http://c:8774/v2.1/servers?marker=1"}]},
            "/servers?marker=1",
        ),
        ("network", {"servers": []}, None),
    ],
)
def test_the_next_page_is_found(service: str, page: dict[str, object], path: str | None) -> None:
    assert rest._next_page(service, page, "servers") == path


def test_collections_are_spelled_as_neutron_wants() -> None:
    assert rest.collection("security_groups", "1") == "/security-groups/1"
    assert rest.collection("security_group_rules") == "/security-group-rules"


def test_a_failed_check_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    with report.finding("one") as one:
        one.detail = "before"
        raise report.AgentError("it broke")
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (event["event"], event["ok"], event["detail"]) == ("finding", False, "it broke")


def test_subnets_the_site_no_longer_has_are_retired_others_stay() -> None:
    rows = [
        {"name": "transit", "cidr": "10.99.0.0/24", "description": ensure.MARK},
        {"name": "floating", "cidr": "198.51.100.4/30", "description": ensure.MARK},
        {"name": "mine", "cidr": "192.0.2.0/24", "description": ""},
    ]
    wanted = [{"name": "transit", "fixed": {"cidr": "10.99.0.0/24"}}]
    assert [row["name"] for row in opening.retired(rows, wanted)] == ["floating"]


class RefusingCloud(rest.Cloud):
    """A cloud with one subnet of ours that it does not delete."""

    def __init__(self, status: int) -> None:
        self.status = status

    def list(self, service: str, path: str, **query: object) -> list[rest.Body]:
        return [{"id": "1", "name": "old", "cidr": "192.0.2.0/24", "description": ensure.MARK}]

    def delete(self, service: str, path: str) -> None:
        raise rest.ApiError("refused", status=self.status)


@pytest.mark.parametrize(("status", "said"), [(409, "its addresses are in use"), (503, "^refused")])
def test_a_subnet_in_use_is_told_from_an_api_that_fails(status: int, said: str) -> None:
    with pytest.raises(report.AgentError, match=said):
        opening._retire_subnets(RefusingCloud(status), {"id": "n"}, [], report.Changes())


class GrantedCloud(rest.Cloud):
    """A cloud in which group ops is admin of project prod and of a domain."""

    def __init__(self) -> None:
        self.changed: list[tuple[str, str]] = []

    def list(self, service: str, kind: str, **_: object) -> list[rest.Body]:
        roles = [{"id": "r-admin", "name": "admin"}, {"id": "r-member", "name": "member"}]
        one = {"id": kind[0], "name": "one", "description": ensure.MARK, "enabled": True}
        return roles if kind == "roles" else [one]

    def get(self, service: str, path: str, **query: object) -> Any:
        assert (path, query) == ("/role_assignments", {"group.id": "g"})
        role = {"id": "r-admin"}
        scopes = ({"project": {"id": "p"}}, {"domain": {"id": "d"}})
        return {"role_assignments": [{"scope": scope, "role": role} for scope in scopes]}

    def request(
        self, method: str, service: str, path: str, body: object = None, **_: object
    ) -> None:
        self.changed.append((method, path))


@pytest.mark.parametrize(
    ("groups", "changed"),
    [
        ([{"name": "ops", "project": "prod", "role": "admin"}], []),
        # Without its project the group loses its role; gone from the site it is left alone.
        (
            [{"name": "ops", "project": None, "role": "member"}],
            [("DELETE", "/projects/p/groups/g/roles/r-admin")],
        ),
        ([], []),
        (
            [{"name": "ops", "project": "prod", "role": "member"}],
            [
                ("PUT", "/projects/p/groups/g/roles/r-member"),
                ("DELETE", "/projects/p/groups/g/roles/r-admin"),
            ],
        ),
    ],
)
def test_a_group_has_the_role_that_the_site_says_and_no_other(
    groups: list[rest.Body], changed: list[tuple[str, str]]
) -> None:
    cloud = GrantedCloud()
    grants.ensure_grants(cloud, {"domain": "users", "groups": groups}, report.Changes())
    assert cloud.changed == changed


class Consoles:
    """Two instances; the second says nothing until it is started a second time."""

    def __init__(self) -> None:
        self.rebooted: list[str] = []

    def request(self, _: str, __: str, path: str, body: Any) -> Any:
        server = path.split("/")[2]
        if "reboot" in body:
            self.rebooted.append(server)
            return None
        silent = server == "second" and "second" not in self.rebooted
        said = ["SOLOSTACK DHCP 10.0.0.5", "SOLOSTACK METADATA i-1", "SOLOSTACK READY"]
        said += [f"user-data: VERIFY {word} yes" for word in ("listening", "outward", "peer")]
        return {"output": "" if silent else "\n".join(said)}


@pytest.mark.parametrize("emulated", [True, False])
def test_a_silent_instance_gets_a_second_start_where_it_is_emulated(
    emulated: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(proving, "SILENT_S", 0.0)
    monkeypatch.setattr(proving, "CONSOLE_PAUSE_S", 0.01)
    cloud = Consoles()
    stage = {"cloud": cloud, "servers": {"first": "first", "second": "second"}}
    seen = proving._watch(stage, 0.1, emulated=emulated)
    capsys.readouterr()
    proving._judge(seen)
    told = {one["name"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert cloud.rebooted == (["second"] if emulated else [])
    assert told["DHCP: first instance"]["detail"] == "10.0.0.5"
    second = told["DHCP: second instance"]
    assert second["ok"] is emulated
    assert second["detail"] == (
        "10.0.0.5, after a second start" if emulated else "nothing on the console"
    )
