"""Changes that lock hosts out are refused beforehand, and those that do not are not."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any

import pytest

from solostack.host.check_model import Severity
from solostack.host.mistakes import (
    BRIDGE_NETFILTER,
    PlannedBridge,
    PlannedRoute,
    UplinkChange,
    change_of,
    refusals,
)
from solostack.host.probe_observation import HostObservation
from tests.unit.host_observations import GOOD, KERNEL, chain, link, seen
from tests.unit.test_host_bundle import make_plan

IPv4Address = ipaddress.IPv4Address
MAC = "52:54:00:00:00:01"
ALONE = seen(network={"links": (link("eno1", "203.0.113.2/32"),)})
FILTERED = {"kernel": {"sysctls": {**KERNEL.sysctls, "bridge.bridge-nf-call-iptables": 1}}}


def change(**values: Any) -> UplinkChange:
    return UplinkChange(nic="eno1", **values)


@pytest.mark.parametrize(
    ("wanted", "host", "word"),
    [
        (change(sysctls={"ipv4/conf/eno1/arp_ignore": "2"}), ALONE, "arp_ignore would be 2"),
        (change(sysctls={"ipv4/conf/all/arp_ignore": "3"}), ALONE, "arp_ignore would be 3"),
        (change(sysctls={"ipv4/conf/all/arp_ignore": "8"}), GOOD, "arp_ignore would be 8"),
        (change(dropping=("forward",)), seen(**FILTERED), "bridged frames"),
        (
            change(dropping=("forward",), sysctls={BRIDGE_NETFILTER: "1"}),
            GOOD,
            "bridged frames",
        ),
        (
            change(bridge=PlannedBridge(name="br-uplink", mac=MAC)),
            seen(network={"chains": (chain("forward", "drop"),)}, **FILTERED),
            "bridged frames",
        ),
        (change(owned=frozenset()), GOOD, "own address 203.0.113.2"),
        (change(bridge=PlannedBridge(name="br-uplink", mac="")), GOOD, "has not its MAC"),
        (
            change(
                routes=(
                    PlannedRoute(
                        destination="default", gateway=IPv4Address("192.0.2.1"), onlink=False
                    ),
                )
            ),
            ALONE,
            "gateway 192.0.2.1",
        ),
    ],
)
def test_a_mistake_is_refused_with_its_reason(
    wanted: UplinkChange, host: HostObservation, word: str
) -> None:
    (found,) = refusals(wanted, host)

    assert word in found.what
    assert found.severity is Severity.ERROR
    assert found.why
    assert found.todo


@pytest.mark.parametrize(
    ("wanted", "host"),
    [
        (change(), GOOD),
        (change(sysctls={"ipv4/conf/eno1/arp_ignore": "1"}), ALONE),
        (change(sysctls={"ipv4/conf/eno1/arp_ignore": "2"}), GOOD),
        (change(dropping=("forward",)), GOOD),
        (change(dropping=("forward",), sysctls={BRIDGE_NETFILTER: "0"}), seen(**FILTERED)),
        (change(owned=frozenset({IPv4Address("203.0.113.2")})), GOOD),
        (change(bridge=PlannedBridge(name="br-uplink", mac=MAC.upper())), GOOD),
        (
            change(
                routes=(
                    PlannedRoute(
                        destination="default", gateway=IPv4Address("192.0.2.1"), onlink=True
                    ),
                )
            ),
            ALONE,
        ),
    ],
)
def test_what_is_harmless_is_not_refused(wanted: UplinkChange, host: HostObservation) -> None:
    assert refusals(wanted, host) == ()


@pytest.mark.parametrize("observed", [GOOD, ALONE, seen(**FILTERED)])
def test_what_we_do_ourselves_is_never_a_mistake(observed: HostObservation) -> None:
    plan = make_plan()
    links = tuple(
        dataclasses.replace(one, name=plan.hosts[0].nic) if one.name == "eno1" else one
        for one in observed.network.links
    )
    network = dataclasses.replace(observed.network, links=links)
    observed = dataclasses.replace(observed, network=network)

    made = change_of(plan, plan.hosts[0], observed)

    assert made.owned is not None
    assert made.sysctls[f"ipv4/conf/{plan.hosts[0].nic}/arp_ignore"] == "1"
    assert refusals(made, observed) == ()
