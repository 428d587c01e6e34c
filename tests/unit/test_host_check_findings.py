"""The set of rules as a whole: a good host, what findings hold, their JSON, their page."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from solostack.errors import ExitCode, HostError
from solostack.host import check
from solostack.host.check import Finding, Severity, Subject, findings
from solostack.host.kvm import Verdict
from solostack.host.probe_observation import NODES_PATH, HostObservation, Presence
from solostack.plan.build import build_plan
from solostack.site.services import Cinder, Storage
from tests.unit.host_observations import (
    GOOD,
    KERNEL,
    SITE,
    chain,
    file_system,
    link,
    listener,
    seen,
    site,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "check.md"
WORST = seen(
    machine={"cores": 1, "memory_mib": 2000, "available_memory_mib": 100},
    guest={"verdict": Verdict.NO, "reason": "no"},
    system={
        "hostname": "localhost",
        "os_version": 11,
        "is_root": False,
        "systemd": False,
        "python": (3, 9, 2),
        "candidates": {},
        "name_servers": (),
        "time_synchronized": False,
        "dpkg_problem": "half configured",
        "selinux_enforcing": True,
        "units": {},
        "suites": ("trixie",),
    },
    kernel={
        "features": dict.fromkeys(KERNEL.features, Presence.MISSING),
        "sysctls": {"bridge.bridge-nf-call-iptables": 1, "ipv4.conf.all.proxy_arp": 1},
    },
    network={
        "links": (link("br-data"), link("eno2", "198.51.100.1/28", "172.16.0.9/24")),
        "routes": (),
        "listeners": (listener("tcp", "127.0.0.1", 6640),),
        "chains": (chain("forward", "drop"), chain("input", "drop")),
        "legacy_tables": ("filter",),
    },
    libvirt={"installed": True, "error": "no socket"},
    traces={"sites": ("other",), "nova_compute_id": True},
    file_systems={NODES_PATH: file_system(NODES_PATH, free_mib=100, read_only=True)},
)


def test_good_host_has_nothing_against_it() -> None:
    found = findings(SITE, None, GOOD)
    assert {finding.severity for finding in found} == {Severity.OK}
    assert check.worst(found) is Severity.OK
    check.require_fit("phys1", found)


def test_a_second_host_is_refused_and_the_first_is_not() -> None:
    """Nothing joins their data networks yet."""
    hosts = [
        {"name": "phys1", "address": "203.0.113.2", "nic": "eno1"},
        {"name": "phys2", "address": "203.0.113.3", "nic": "eno1"},
    ]
    two = site(hosts=hosts)
    [first] = [f for f in findings(two, None, GOOD) if f.subject is Subject.HOSTS]
    assert first.severity is Severity.OK
    second = findings(two, None, dataclasses.replace(GOOD, name="phys2"))
    with pytest.raises(HostError) as caught:
        check.require_fit("phys2", second)
    assert caught.value.message == (
        "phys2 is not fit for this site: phys2 cannot join the cloud on phys1 yet"
    )
    assert caught.value.hint == "keep one host in the site for now: take phys2 out of hosts"


def test_every_subject_is_looked_at() -> None:
    """A reader sees of a good host that each thing was looked at."""
    of_hosts = set(Subject) - {Subject.CERTIFICATES}  # the deployment's; flows.check looks at them
    full = SITE.model_copy(update={"storage": Storage(cinder=Cinder())})
    assert {finding.subject for finding in findings(full, None, GOOD)} == of_hosts


@pytest.mark.parametrize("observation", [GOOD, WORST])
def test_findings_say_why_and_what_to_do(observation: HostObservation) -> None:
    for finding in findings(SITE, None, observation):
        assert finding.what
        if finding.severity is not Severity.OK:
            assert finding.why, finding
        if finding.severity in {Severity.WARNING, Severity.ERROR}:
            assert finding.todo, finding


def test_bad_host_is_refused_with_all_errors_at_once() -> None:
    found = findings(SITE, None, WORST)
    with pytest.raises(HostError, match="phys1 is not fit for this site") as caught:
        check.require_fit("phys1", found)
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    assert len(caught.value.details) == len(errors) > 15
    assert caught.value.exit_code is ExitCode.HOST
    assert caught.value.hint == errors[0].todo


def test_warnings_do_not_refuse() -> None:
    found = findings(SITE, None, seen(machine={"cores": 1}))
    assert check.worst(found) is Severity.WARNING
    check.require_fit("phys1", found)


def test_plan_tells_the_data_address() -> None:
    plan = build_plan(SITE, {"phys1": GOOD.facts()})
    bound = seen(network={"listeners": (listener("udp", "172.16.0.1", 6081),)})
    ports = [f for f in findings(SITE, plan, bound) if f.subject is Subject.PORTS]
    assert [finding.severity for finding in ports] == [Severity.ERROR]


def test_unknown_host() -> None:
    with pytest.raises(HostError, match="the site has no host phys9") as caught:
        findings(SITE, None, dataclasses.replace(GOOD, name="phys9"))
    assert "phys1" in caught.value.hint


def test_equal_input_equal_findings() -> None:
    assert findings(SITE, None, WORST) == findings(SITE, None, WORST)


def test_json_holds_everything() -> None:
    found = findings(SITE, None, WORST)
    value = json.loads(json.dumps(check.findings_json("phys1", found)))
    assert value["host"] == "phys1"
    assert value["worst"] == "error"
    assert sum(value["counts"].values()) == len(found)
    assert [Finding(**{**item, "severity": Severity(item["severity"]),
                       "subject": Subject(item["subject"])})
            for item in value["findings"]] == list(found)  # fmt: skip


def test_page_has_a_row_for_each_subject() -> None:
    rows = re.findall(r"^\| `([a-z ]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert rows == sorted(str(subject) for subject in Subject)
