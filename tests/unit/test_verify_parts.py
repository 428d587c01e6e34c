"""Parts of `verify`: those that are asked for are made, and no others."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import pytest

from solostack.cli.cloud_view import show_verify
from solostack.cloud.client import Caller
from solostack.cloud.credentials import build_access
from solostack.cloud.probes import CheckResult
from solostack.doors.process import Completed
from solostack.doors.progress import Progress, Step
from solostack.errors import UsageError
from solostack.flows.deployment import Deployment, make_deployment, site_state
from solostack.flows.proofs import Add, Proof
from solostack.flows.verify import (
    Machine,
    VerifyContext,
    VerifyReport,
    require_parts_of,
    verify,
)
from solostack.flows.verify_parts import Part, require_parts
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import load_site
from solostack.site.model import Site

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVICES = {Part.DIRECTORY, Part.DISKS, Part.VOLUMES}


class Node:
    """A machine on which every unit is in one state, and which has no Python."""

    name = "controller"

    def __init__(self, state: str) -> None:
        self.state = state
        self.programs: list[str] = []

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        self.programs.append(argv[0])
        lines = [self.state] * (len(argv) - 2) if argv[:2] == ("systemctl", "is-active") else []
        return Completed(tuple(argv), 0, "\n".join(lines).encode(), b"")


def make_plan() -> Plan:
    facts = HostFacts(
        name="phys1", cores=4, memory_mib=16384, disk_gib=200, kvm=True, openvswitch_module=True
    )
    site = {
        "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1"}],
        "external": {"block": "198.51.100.0/28"},
    }
    return build_plan(Site.model_validate(site), {"phys1": facts})


def proof(part: Part, *, needs_apis: bool) -> Proof:
    def make(add: Add, _: Step) -> None:
        add(CheckResult(name=f"made {part}", ok=True, seconds=0.0))

    return Proof(
        part=part,
        title=part,
        make=make,
        checks=(f"made {part}",),
        needs_apis=needs_apis,
        beside_instances=part is Part.VOLUMES,
    )


def run(node: Node, *only: Part) -> VerifyReport:
    plan = make_plan()
    access = build_access(plan, {"admin_password": "a", "demo_password": "b"})
    context = VerifyContext(
        plan=plan,
        controller=Caller(executor=node, access=access),
        vantage=node,
        machines=(Machine(executor=node, units=("a.service",), all_ours=False),),
        upstream=ipaddress.IPv4Address("203.0.113.1"),
        proofs=tuple(proof(part, needs_apis=part is not Part.DISKS) for part in SERVICES),
        only=frozenset(only),
    )
    with Progress().step("verify") as step:
        return verify(context, step)


def test_one_part_is_made_and_nothing_else() -> None:
    assert [result.name for result in run(Node("active"), Part.DISKS).results] == ["made disks"]
    assert [result.name for result in run(Node("active"), Part.UNITS).results] == [
        "units controller"
    ]


def test_several_parts_are_made_in_their_order() -> None:
    names = [result.name for result in run(Node("active"), Part.DIRECTORY, Part.UNITS).results]
    assert names == ["units controller", "made directory"]


def test_without_its_pillars_a_part_is_skipped_not_waited_for() -> None:
    """And the units are told, or a verify of nothing but that part would say that all is well."""
    report = run(Node("inactive"), Part.DIRECTORY, Part.DISKS)
    assert not report.ok
    assert {result.name: result.skipped for result in report.results} == {
        "units controller": False,
        "made directory": True,
        "made disks": False,
    }


@pytest.mark.parametrize("part", [Part.VOLUMES, Part.INSTANCES])
def test_volumes_bring_the_instances_they_are_proven_on(part: Part) -> None:
    names = [result.name for result in run(Node("inactive"), part).results]
    assert "ping" in " ".join(names)
    assert ("made volumes" in names) is (part is Part.VOLUMES)


@pytest.mark.parametrize("part", [Part.VOLUMES, Part.INSTANCES])
def test_instances_are_really_made_where_the_pillars_stand(part: Part) -> None:
    """This controller cannot make any, which must be told: not skipped."""
    report = run(Node("active"), part)
    assert "checks on the controller" in {result.name for result in report.failed}
    assert ("made volumes" in {result.name for result in report.results}) is (part is Part.VOLUMES)


def test_a_part_of_what_a_site_does_not_have_is_refused() -> None:
    require_parts({Part.DISKS, Part.UNITS, Part.INSTANCES}, SERVICES, "cloud")
    with pytest.raises(UsageError, match="cloud has nothing of dashboard to verify") as refused:
        require_parts([Part.DASHBOARD], SERVICES, "cloud")
    assert refused.value.hint == ("parts of this site: units, directory, disks, instances, volumes")


def test_a_console_does_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    failed = CheckResult(name="DHCP", ok=False, seconds=0.0)
    console = "\x1bc\x1b[2JSOLOSTACK DHCP none\r\n[bold]as it is"
    report = VerifyReport(results=(failed,), consoles={"verify-second": console}, seconds=1.0)
    show_verify(report, json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "SOLOSTACK DHCP none" in shown
    assert "[bold]as it is" in shown


def test_up_takes_the_parts_that_its_site_has(tmp_path: Path) -> None:
    facts = HostFacts(
        name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
    )

    def deployment(example: str) -> Deployment:
        loaded = load_site(EXAMPLES / f"{example}.yaml")
        state = site_state(loaded, tmp_path)
        state.create()
        return make_deployment(loaded, state, {"phys1": facts})

    require_parts_of(deployment("full"), [Part.OBJECTS, Part.UNITS])
    require_parts_of(deployment("minimal"), ())
    with pytest.raises(UsageError, match="has nothing of objects to verify"):
        require_parts_of(deployment("minimal"), [Part.OBJECTS])
