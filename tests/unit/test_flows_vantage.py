"""From where `verify` looks at floating IPs: outside wherever that can be."""

import json
from collections.abc import Sequence

import pytest

from solostack.doors.process import Completed, Executor, LocalExecutor
from solostack.errors import CommandError
from solostack.flows.verify import find_vantage
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.model import Site

PRIVATE = {"method": "private", "block": "10.98.1.0/24"}


class Here:
    """A machine that answers `ip route get`."""

    name = "here"

    def __init__(self, routes: object, status: int = 0) -> None:
        self._routes = routes
        self._status = status
        self.asked: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        self.asked.append(argv)
        if self._routes is None:
            raise CommandError("here: there is no program ip")
        text = json.dumps(self._routes) if self._status == 0 else ""
        return Completed(tuple(argv), self._status, text.encode(), b"")


def make_plan(external: dict[str, object]) -> Plan:
    site = {"hosts": [{"name": "phys1", "address": "192.168.1.20", "nic": "eno1"}]}
    facts = HostFacts(
        name="phys1", cores=4, memory_mib=16384, disk_gib=200, kvm=True, openvswitch_module=True
    )
    return build_plan(Site.model_validate({**site, "external": external}), {"phys1": facts})


def vantage(plan: Plan, here: Here) -> Executor:
    return find_vantage(plan, here, {"phys1": LocalExecutor("phys1")})


def test_public_addresses_are_looked_at_from_here_without_asking() -> None:
    here = Here(None)
    assert vantage(make_plan({"block": "198.51.100.0/28"}), here) is here
    assert here.asked == []


@pytest.mark.parametrize(
    ("routes", "status", "wanted"),
    [
        ([{"dst": "10.98.1.0", "gateway": "192.168.1.20", "dev": "wlan0"}], 0, "here"),
        ([{"dst": "10.98.1.0", "dev": "br-external"}], 0, "here"),
        ([{"dst": "10.98.1.0", "gateway": "192.168.1.1", "dev": "wlan0"}], 0, "phys1"),
        ([], 2, "phys1"),
        (None, 0, "phys1"),
    ],
    ids=["neighbour", "host itself", "default route", "no route", "no ip"],
)
def test_private_addresses_are_looked_at_from_where_a_route_leads_through_the_host(
    routes: object, status: int, wanted: str
) -> None:
    here = Here(routes, status)
    assert vantage(make_plan(PRIVATE), here).name == wanted
    assert here.asked == [("ip", "-4", "-json", "route", "get", "10.98.1.0")]
