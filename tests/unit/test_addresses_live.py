"""Who holds an address, how a try is judged, and a whole proof with machines that only pretend."""

from __future__ import annotations

import dataclasses
import io
import ipaddress
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from solostack.cli import address_view
from solostack.cloud.address_proof import (
    Holder,
    Outcome,
    Proof,
    Try,
    Way,
    build_failure,
    build_holder,
    judge,
    merge_proofs,
    not_tried,
    settle,
)
from solostack.cloud.agent import addresses as agent
from solostack.cloud.client import Caller
from solostack.cloud.credentials import Access
from solostack.cloud.desired import address_request
from solostack.cloud.reach import Reach
from solostack.doors.clock import FakeClock
from solostack.doors.process import Completed
from solostack.doors.progress import Progress
from solostack.errors import StateError, VerifyError
from solostack.flows.addresses import (
    Live,
    ask_live,
    build_known,
    keep_proofs,
    known_addresses,
    load_proofs,
    parse_machine,
)
from solostack.flows.prove_addresses import ProveContext, Prover, leads_to
from solostack.flows.state import State
from solostack.plan.addresses import address_rows
from solostack.plan.build import home_of
from solostack.site.loader import parse_site
from solostack.site.model import ExternalMethod, Role
from tests.unit.test_host_bundle import SITE, make_plan

IP = ipaddress.IPv4Address
PING = {"direction": "ingress", "ethertype": "IPv4", "protocol": "icmp", "port_range_min": None,
        "remote_ip_prefix": None, "remote_group_id": None}  # fmt: skip
PORT = {"id": "p1", "device_id": "s1", "device_owner": "compute:nova", "network_id": "n1",
        "security_groups": ["g1"], "fixed_ips": [{"ip_address": "10.10.0.5"}]}  # fmt: skip


def groups(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": "g1", "security_group_rules": [{**PING, **changes}]}]


@pytest.mark.parametrize(
    ("changes", "pings"),
    [
        ({}, True),
        ({"protocol": None}, True),
        ({"port_range_min": 8}, True),
        ({"remote_ip_prefix": "0.0.0.0/0"}, True),
        ({"protocol": "tcp"}, False),
        ({"port_range_min": 0}, False),
        ({"direction": "egress"}, False),
        ({"ethertype": "IPv6"}, False),
        ({"remote_ip_prefix": "192.0.2.0/24"}, False),
        ({"remote_group_id": "g1"}, False),
        ({"remote_address_group_id": "a1"}, False),
    ],
)
def test_pings_are_let_in_by_a_rule_for_everybody(changes: dict[str, Any], pings: bool) -> None:
    assert agent.lets_pings_in(PORT, groups(**changes)) is pings
    assert not agent.lets_pings_in({**PORT, "security_groups": []}, groups(**changes))
    assert agent.lets_pings_in({**PORT, "port_security_enabled": False}, [])


def test_holders_are_instances_routers_other_ports_and_projects() -> None:
    answers = {
        "ports": [PORT, {**PORT, "id": "p2", "device_id": "lb", "device_owner": "Octavia"}],
        "servers": [{"id": "s1", "name": "web", "status": "ACTIVE"}],
        "groups": groups(),
        "routers": [{"id": "r1", "name": "demo", "project_id": "j1"}],
        "floatingips": [
            {"floating_ip_address": f"198.51.100.{number}", "port_id": port, "project_id": "j1"}
            for number, port in enumerate(("p1", "p2", None, "gone"))
        ],
        "gateways": [{"device_id": "r1", "fixed_ips": [{"ip_address": "10.99.0.7"}]}],
    }
    rows = agent._floating_rows(answers, {"j1": "demo"}) + agent._gateway_rows(
        answers, {"j1": "demo"}
    )
    assert [build_holder(row).text for row in rows] == [
        "instance web (project demo)",
        "port Octavia (project demo)",
        "nobody; reserved by project demo",
        "nobody; reserved by project demo",
        "router demo (project demo)",
    ]
    assert [build_holder(row).must_answer for row in rows] == [True, False, False, False, False]
    stopped = build_holder({**rows[0], "status": "SHUTOFF"})
    assert not stopped.must_answer
    assert stopped.text == "instance web (project demo), SHUTOFF"


def test_moving_takes_the_old_floating_ip_away_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[object] = []

    class Cloud:
        def list(self, service: str, kind: str, **query: str) -> list[dict[str, str]]:
            done.append(("list", kind, query))
            return [{"id": "f1"}] if query.get("port_id") else []

        def delete(self, service: str, path: str) -> bool:
            done.append(("delete", path))
            return True

        def request(self, method: str, service: str, path: str, body: Any) -> Any:
            done.append((method, path, body["floatingip"]))
            return body

    monkeypatch.setattr(agent, "admin", lambda request: Cloud())
    stage = {"project_id": "j1", "external_id": "n1", "port_id": "p1", "address": "198.51.100.3"}
    assert agent.address_move(stage) == {"address": "198.51.100.3"}
    assert done[:2] == [("list", "floatingips", {"port_id": "p1"}), ("delete", "/floatingips/f1")]
    method, path, body = done[-1]  # type: ignore[misc]
    assert (method, path) == ("POST", "/floatingips")
    assert body["floating_ip_address"] == "198.51.100.3"
    assert body["floating_network_id"] == "n1"
    assert json.loads(capsys.readouterr().out)["event"] == "say"


def reach(**changes: Any) -> Reach:
    values = {"done": True, "ping": True, "tcp": "open", "page": "hello", "seconds": 0.5}
    return Reach(**{**values, **changes})


def test_silence_is_a_failure_only_where_an_answer_was_due() -> None:
    silent = reach(done=False, ping=False, tcp="no answer", page="")
    assert judge(reach(), must_answer=False).outcome is Outcome.PROVEN
    assert judge(silent, must_answer=True).outcome is Outcome.FAILED
    shy = judge(silent, must_answer=False)
    assert shy.outcome is Outcome.SILENT
    assert shy.detail == "ping without answer, TCP 80 no answer"
    assert settle(shy, shy) == (shy, shy)
    good = judge(reach(), must_answer=False)
    assert settle(good, shy)[1].outcome is Outcome.FAILED
    assert settle(shy, good)[0].outcome is Outcome.FAILED
    assert settle(good, not_tried("here")) == (good, not_tried("here"))


def proof(number: int, inside: Outcome, outside: Outcome, *, day: int = 24) -> Proof:
    return Proof(
        address=IP(f"198.51.100.{number}"),
        by="test instance",
        when=f"2026-11-{day}T10:00:00Z",
        inside=Try(outcome=inside, detail="inside detail"),
        outside=Try(outcome=outside, detail="outside detail"),
    )


P, F, S, N = Outcome.PROVEN, Outcome.FAILED, Outcome.SILENT, Outcome.NOT_TRIED


@pytest.mark.parametrize(
    ("outcomes", "text", "ok"),
    [
        ((P, P), "proven inside+outside 2026-11-24", True),
        ((P, N), "proven inside 2026-11-24", True),
        ((P, F), "failed outside, proven inside 2026-11-24", False),
        ((F, F), "failed inside+outside 2026-11-24", False),
        ((S, S), "silent inside+outside 2026-11-24", False),
        ((N, N), "not tried", False),
    ],
)
def test_a_proof_in_words(outcomes: tuple[Outcome, Outcome], text: str, ok: bool) -> None:
    assert proof(1, *outcomes).text == text
    assert proof(1, *outcomes).ok is ok


def test_what_was_not_tried_replaces_no_proof() -> None:
    old = (proof(1, P, P, day=1), proof(2, P, P, day=1))
    new = (proof(0, N, N), proof(1, N, N), proof(2, F, F))
    assert merge_proofs(old, new) == (proof(0, N, N), proof(1, P, P, day=1), proof(2, F, F))


@pytest.mark.parametrize("method", list(ExternalMethod))
def test_the_failure_names_each_address_and_what_to_look_at(method: ExternalMethod) -> None:
    way = Way(method=method, host="203.0.113.2", nic="eno1")
    good = [proof(0, P, P), proof(1, S, S), proof(2, N, N)]
    assert build_failure(good, way) is None
    outside = build_failure([*good, proof(3, P, F)], way)
    assert outside is not None
    assert outside.message == "1 of 4 addresses do not work: 198.51.100.3"
    assert outside.details == ("198.51.100.3 from outside (test instance): outside detail",)
    assert "198.51.100.3" in outside.hint
    assert "{" not in outside.hint
    both = build_failure([proof(4, F, F), *good], way)
    assert both is not None
    assert len(both.details) == 2
    assert both.hint.startswith("follow the packet on the host")


def test_proofs_are_kept_and_are_worth_nothing_after_a_change_of_method(tmp_path: Path) -> None:
    site = parse_site(SITE, Path("site.yaml")).site
    state = State(tmp_path)
    assert load_proofs(state, site) == ()
    keep_proofs(state, site, [proof(1, P, P)])
    keep_proofs(state, site, [proof(2, P, N)])
    assert load_proofs(state, site) == (proof(1, P, P), proof(2, P, N))
    external = site.external.model_copy(update={"method": ExternalMethod.PROXY})
    assert load_proofs(state, site.model_copy(update={"external": external})) == ()


def holder(number: int, kind: str, **changes: Any) -> Holder:
    values = {"name": "web", "project": "demo", "status": "ACTIVE", "pings": True, **changes}
    return Holder(address=IP(f"198.51.100.{number}"), kind=kind, **values)


def test_rows_are_joined_with_holders_machines_and_proofs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    site = parse_site(SITE, Path("site.yaml")).site
    rows = address_rows(site, home_of(site, Role.NETWORK))
    plain = build_known(rows, (), None)
    assert [one.row for one in plain] == list(rows)
    assert {one.held_by for one in plain} == {None}
    router = dataclasses.replace(
        holder(0, "router", name="demo", status=""), address=IP("10.99.0.9")
    )
    live = Live(
        holders=(holder(3, "instance"), router),
        machines={IP("203.0.113.2"): "phys1 (enp1s0)"},
    )
    known = build_known(rows, [proof(3, P, P), proof(4, P, N)], live)
    by_address = {str(one.row.address): one for one in known}
    assert by_address["198.51.100.3"].held_by == "instance web (project demo)"
    assert by_address["198.51.100.4"].held_by == "nobody"
    assert by_address["203.0.113.2"].held_by == "phys1 (enp1s0)"
    assert by_address["10.99.0.9"].held_by == "router demo (project demo)"
    networks = [one.row.network for one in known]
    assert networks == sorted(networks, key=networks.index), "one table per network"
    address_view.show_addresses(known, ExternalMethod.ROUTED, json=False)
    out = capsys.readouterr().out
    assert "proven inside+outside 2026-11-24" in out
    assert "proven from inside and outside: 1, from one side only: 1" in out
    address_view.show_addresses(known, ExternalMethod.ROUTED, json=True)
    value = json.loads(capsys.readouterr().out)
    assert (value["usable"], value["proven"]) == (16, 2)
    row = next(row for row in value["addresses"] if row["address"] == "198.51.100.3")
    assert row["proof"]["inside"]["outcome"] == "proven"


def test_a_machines_own_addresses() -> None:
    loopback = {"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]}
    bridge = {"ifname": "br-external", "addr_info": [{"local": "10.99.0.1"}]}
    text = json.dumps([loopback, bridge, {"ifname": "bare"}])
    assert parse_machine("phys1", text) == {IP("10.99.0.1"): "phys1 (br-external)"}
    assert parse_machine("phys1", "") == {}


def test_a_private_block_is_outside_only_with_a_route() -> None:
    assert leads_to('[{"dst": "10.50.0.1", "gateway": "203.0.113.2"}]', IP("203.0.113.2"))
    assert not leads_to('[{"dst": "10.50.0.1", "gateway": "203.0.113.1"}]', IP("203.0.113.2"))
    assert not leads_to('[{"dst": "10.50.0.1", "dev": "eth0"}]', IP("203.0.113.2"))
    assert not leads_to("", IP("203.0.113.2"))


def test_without_a_cloud_nobody_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    loaded = parse_site(SITE, Path("site.yaml"))
    assert len(known_addresses(loaded)) > 16
    with pytest.raises(StateError) as caught:
        ask_live(loaded, Progress())
    assert "solostack up -f site.yaml" in caught.value.hint
    assert not list(tmp_path.iterdir()), "asking in vain leaves nothing behind"


class Machine:
    """An executor: the controller answers as the agent, the others as the script of reach."""

    def __init__(self, name: str, answer: Callable[[str, dict[str, Any]], Any]) -> None:
        self.name = name
        self.answer = answer

    def run(self, argv: Sequence[str], *, stdin: Any = b"", **options: Any) -> Completed:
        if argv[0] == "sh":
            with zipfile.ZipFile(io.BytesIO(stdin)) as archive:
                request = json.loads(archive.read("request.json"))
            event = {"event": "result", "result": self.answer(request["action"], request)}
            if isinstance(event["result"], str):
                event = {"event": "error", "message": event["result"], "hint": ""}
            options["on_line"](json.dumps(event))
            return Completed(tuple(argv), 0, b"", b"")
        address, page, limit_s = json.loads(argv[-1])
        told = self.answer("reach", {"address": address, "page": page, "limit_s": limit_s})
        return Completed(tuple(argv), 0, json.dumps(told).encode(), b"")


class Scene:
    """A cloud in which one address fails from outside; it remembers what was asked of it."""

    def __init__(self, bad: str = "") -> None:
        self.bad = bad
        self.asked: list[tuple[str, ...]] = []
        self.interrupt_at = ""
        self.taken = ""
        self.keep_volumes = False

    def controller(self, action: str, request: dict[str, Any]) -> Any:
        self.asked.append((action, request.get("address", "")))
        self.keep_volumes = request.get("keep_volumes", False)
        if action == "address_start":
            return {"project_id": "j", "external_id": "n", "port_id": "p", "page": "solostack v "}
        return "in use" if self.taken and request.get("address") == self.taken else {}

    def side(self, name: str) -> Callable[[str, dict[str, Any]], Any]:
        def answer(_: str, request: dict[str, Any]) -> Any:
            self.asked.append((name, request["address"]))
            if request["address"] == self.interrupt_at:
                raise KeyboardInterrupt
            good = not (name == "outside" and request["address"] == self.bad)
            return dataclasses.asdict(reach(done=good, ping=good, page=request["page"]))

        return answer

    def prover(self, holders: tuple[Holder, ...], *, outside: bool = True) -> Prover:
        context = ProveContext(
            plan=make_plan(),
            controller=Caller(
                executor=Machine("controller", self.controller),
                access=Access(auth_url="http://c", region="r", admin_password="x"),
                failure=VerifyError,
            ),
            inside=Machine("phys1", self.side("inside")),
            outside=Machine("here", self.side("outside")) if outside else None,
            no_outside="" if outside else "solostack runs on the host",
            clock=FakeClock(),
        )
        live = Live(holders=holders, machines={})
        with Progress().step("prove") as step:
            return Prover(context, live, step)


def test_the_free_ones_are_tried_one_after_the_other_and_all_is_removed() -> None:
    scene = Scene()
    held = (holder(0, "instance"), holder(1, "reserved"), holder(2, "port", pings=False))
    run = scene.prover(held)
    run.run()
    assert len(run.proofs) == 16
    moved = [address for action, address in scene.asked if action == "address_move"]
    assert moved == [f"198.51.100.{number}" for number in range(3, 16)]
    assert scene.asked[0][0] == "address_start"
    assert scene.asked[-1] == ("verify_cleanup", "")
    assert scene.keep_volumes, "or it would wait for a storage node that is off"
    assert run.proofs[0].by == "instance web (project demo)"
    assert run.proofs[1].inside == not_tried("reserved by project demo, given to no instance")
    assert sum(one.ok for one in run.proofs) == 15
    assert ("inside", "198.51.100.1") not in scene.asked
    assert build_failure(run.proofs, Way(method=ExternalMethod.ROUTED, host="h", nic="n")) is None


def test_with_nothing_free_no_instance_is_made() -> None:
    scene = Scene()
    run = scene.prover(tuple(holder(number, "instance") for number in range(16)))
    run.run()
    assert {action for action, _ in scene.asked} == {"inside", "outside"}


def test_on_the_host_itself_there_is_no_outside() -> None:
    run = Scene().prover((), outside=False)
    run.run()
    assert {one.outside.detail for one in run.proofs} == {"solostack runs on the host"}
    assert {one.text for one in run.proofs} == {"proven inside 1970-01-01"}


def test_what_fails_is_named_and_the_rest_is_tried() -> None:
    scene = Scene(bad="198.51.100.7")
    scene.taken = "198.51.100.9"
    run = scene.prover(())
    run.run()
    error = build_failure(run.proofs, Way(method=ExternalMethod.ROUTED, host="h", nic="eno1"))
    assert error is not None
    assert error.message == "2 of 16 addresses do not work: 198.51.100.7, 198.51.100.9"
    assert "in use" in error.details[1]
    assert "tcpdump -ni eno1 host 198.51.100.7" in error.hint


def test_an_interrupted_proof_is_cleaned_up_and_keeps_what_it_has() -> None:
    scene = Scene()
    scene.interrupt_at = "198.51.100.2"
    run = scene.prover(())
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert scene.asked[-1] == ("verify_cleanup", "")
    assert [str(one.address) for one in run.proofs] == ["198.51.100.0", "198.51.100.1"]


def test_what_could_not_be_removed_is_told_and_hides_nothing() -> None:
    scene = Scene()
    answer = scene.controller

    def controller(action: str, request: dict[str, Any]) -> Any:
        return "the API is gone" if action == "verify_cleanup" else answer(action, request)

    scene.controller = controller  # type: ignore[method-assign]
    run = scene.prover(())
    run.run()
    assert len(run.proofs) == 16
    assert run.left_behind is not None
    assert "the API is gone" in run.left_behind.message


def test_the_test_instance_lets_pings_and_http_in() -> None:
    request = address_request(make_plan())
    assert request["project"] == "solostack-verify"
    assert [(rule["protocol"], rule["port_range_min"]) for rule in request["rules"]] == [
        ("icmp", None),
        ("tcp", 80),
    ]
