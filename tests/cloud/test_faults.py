"""What goes wrong in a cloud's life, on the full site: told with a hint, and recovered from.

Faults are made as they happen in life. While they last, `verify --json` ends by itself, has a
failed check with a hint for each of them and nothing else, and no traceback. So the report of each
round also proves that what the round before broke is whole again by itself; after the last round
all is. What needs no instance is verified by its parts. The rounds run in the order of this file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from solostack.cloud.agent.volumes import ON_INSTANCE
from solostack.cloud.probes import AGENT_CHECKS, VOLUME_CHECKS
from solostack.engine.certificates import VALID_DAYS, issue
from solostack.errors import ExitCode
from solostack.flows.certificates import AUTHORITY, CertificateStore
from solostack.flows.verify_parts import Part
from solostack.openstack import front_door, storage_disks
from solostack.plan.certificates import FRONT_DOOR, wanted_certificates
from tests.cloud.conftest import Operator

pytestmark = [pytest.mark.cloud, pytest.mark.lane("full site")]

# A whole verify takes about two minutes on an emulated cloud; more is the hang of something.
VERIFY_TIMEOUT_S = 600.0
# Where nothing can work without what is down, nothing is tried.
TOLD_S = 90.0
RECOVER_S = 300.0
# All of them use the database, the broker or both.
SERVICES = (
    "keystone.service", "glance-api.service", "placement-api.service", "neutron-api.service",
    "nova-api.service", "nova-scheduler.service", "nova-conductor.service",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong, and what verify must say while it does.

    checks is a pattern for the names of all checks that may fail for it. One of them must have
    detail and hint (patterns too).
    """

    name: str
    make: Callable[[Operator], object]
    undo: Callable[[Operator], object]
    checks: str
    detail: str
    hint: str

    def told_by(self, check: Mapping[str, Any]) -> bool:
        """Return whether a check says this, and what to do."""
        return all(
            re.search(pattern, str(check[key]))
            for key, pattern in (
                ("name", self.checks), ("detail", self.detail), ("hint", self.hint),
            )
        )  # fmt: skip


def on_node(name: str, *command: str, timeout_s: float = 180) -> Callable[[Operator], object]:
    """Return what runs a command on a control node."""
    return lambda cloud: cloud.node(name).run(command, timeout_s=timeout_s)


def up(cloud: Operator) -> None:
    """Do what the hint says; there is nothing to do where it helped against another fault too."""
    value = cloud.solostack("up", "--yes", "--verify=directory", "--verify=front-door")
    assert value.get("verify", {"ok": True})["ok"], value


def power(verb: str, node: str) -> Callable[[Operator], object]:
    """Return what switches a node that is a container on or off."""
    command = ("systemctl", verb, f"solostack-node@{node}.service")
    return lambda cloud: cloud.lab.host_executor("phys1").run(command, timeout_s=180)


def let_expire(cloud: Operator) -> None:
    """Give the front door a certificate of the site's own authority that has expired."""
    deployment = cloud.deployment()
    pairs = CertificateStore(deployment.state, deployment.plan).kept()
    (wanted,) = (one for one in wanted_certificates(deployment.plan) if one.name == FRONT_DOOR)
    long_ago = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(days=VALID_DAYS + 10)
    pair = issue(pairs[AUTHORITY], wanted, long_ago)
    # Into the file that is there: its owner and mode stay.
    script = f"cat >{front_door.CERTIFICATE}; systemctl reload haproxy.service"
    cloud.node("controller").run(("sh", "-euc", script), stdin=pair.text.encode())


MARIADB = Fault(
    name="MariaDB stopped",
    make=on_node("controller", "systemctl", "stop", "mariadb.service"),
    undo=on_node("controller", "systemctl", "start", "mariadb.service"),
    checks=r"^units controller$",
    detail=r"mariadb\.service inactive",
    hint=r"solostack up.*on controller: journalctl -b -u mariadb\.service",
)
RABBITMQ = Fault(
    name="RabbitMQ stopped",
    make=on_node("controller", "systemctl", "stop", "rabbitmq-server.service"),
    undo=on_node("controller", "systemctl", "start", "rabbitmq-server.service"),
    checks=r"^units controller$",
    detail=r"rabbitmq-server\.service inactive",
    hint=r"solostack up.*on controller: journalctl -b -u rabbitmq-server\.service",
)
# Nothing works without these: told one by one, and quickly.
PILLARS = (MARIADB, RABBITMQ)
DIRECTORY_OFF = Fault(
    name="directory off",
    make=power("stop", "directory"),
    undo=power("start", "directory"),
    checks=r"^(directory: |units (directory|phys1)$)",
    detail=r"nothing answers at ldaps://",
    hint=r"start the directory node: solostack up",
)
LDAP_PASSWORD = Fault(
    name="wrong LDAP password",
    make=on_node(
        "controller", "sh", "-euc",
        "sed -i 's/^password = .*/password = \"wrong\"/' /etc/keystone/domains/keystone.*.conf; "
        "systemctl restart keystone.service",
    ),
    undo=up,
    checks=r"^directory: ",
    detail=r"",
    hint=r"solostack up puts the password right",
)  # fmt: skip
EXPIRED = Fault(
    name="expired certificate",
    make=let_expire,
    undo=up,
    checks=r"^(front door|dashboard)",
    detail=r"expired",
    hint=r"solostack",
)
GROUP = storage_disks.VOLUME_GROUP
# What volumes hold is allocated when it is written, not when a volume is made.
FILL = f"""
size=$(lvs --noheadings --nosuffix --units m -o lv_size {GROUP}/{GROUP}-pool | tr -d ' ')
lvcreate -q --yes -V "$size"m --thinpool {GROUP}-pool -n filler {GROUP}
dd if=/dev/zero of=/dev/{GROUP}/filler bs=4M count=$((${{size%.*}} * 97 / 400)) oflag=direct
"""
# After a time-out it may still be written there, or yet be made. The brackets: not this shell.
FILLS = f"of=/dev/{GROUP}/[f]iller"
UNFILL = f"""
while pkill -KILL -f '{FILLS}'
do
    sleep 1
done
lvremove -q --yes {GROUP}/filler
"""
FILL_S = 900.0
FULL_GROUP = Fault(
    name="full volume group",
    make=on_node("storage", "sh", "-euc", FILL, timeout_s=FILL_S),
    undo=on_node("storage", "sh", "-euc", UNFILL),
    checks=r"^disks of the storage node$",
    detail=r"cinder 9\d %",
    hint=r"solostack storage grow",
)
# All but what boots instances and makes volumes, which takes minutes where they are emulated.
SERVICES_ALONE = tuple(part for part in Part if part not in {Part.INSTANCES, Part.VOLUMES})
# Those of one round are made together: each must be told beside the others.
ROUNDS = ((DIRECTORY_OFF, FULL_GROUP), (LDAP_PASSWORD, EXPIRED))


@contextlib.contextmanager
def made(cloud: Operator, *faults: Fault) -> Iterator[None]:
    """Make faults, and undo what was made."""
    with contextlib.ExitStack() as stack:
        for fault in faults:
            stack.callback(fault.undo, cloud)
            fault.make(cloud)
        yield


Checks = list[Mapping[str, Any]]


def verify(cloud: Operator, *parts: Part) -> tuple[int, Checks]:
    """Run verify, or parts of it; return its status and its checks. It has no traceback."""
    only = [f"--only={part}" for part in parts]
    done = cloud.run(*cloud.command("verify", *only, "--json"), timeout_s=VERIFY_TIMEOUT_S)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout[-3000:] + done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout)["checks"]


def failures(checks: Checks) -> Checks:
    """Return those that failed; others were skipped for it."""
    return [one for one in checks if not one["ok"] and not one["skipped"]]


def verify_until_only(cloud: Operator, *faults: Fault, parts: Sequence[Part] = ()) -> Checks:
    """Verify until these faults are told and nothing else fails, and return all; nobody helps."""
    end_s = time.monotonic() + RECOVER_S
    while True:
        status, checks = verify(cloud, *parts)
        failed = failures(checks)
        assert status == (ExitCode.VERIFY if failed else ExitCode.OK), failed
        others = [
            check
            for check in failed
            if not any(re.search(one.checks, check["name"]) for one in faults)
        ]
        untold = [one.name for one in faults if not any(map(one.told_by, failed))]
        if not others and not untold:
            assert all(check["hint"] for check in failed), failed
            return checks
        assert time.monotonic() < end_s, (untold, failed)
        time.sleep(5)


@pytest.fixture(scope="module")
def services(full: Operator) -> tuple[str, ...]:
    """The processes of the services before anything went wrong."""
    return main_pids(full)


def main_pids(cloud: Operator) -> tuple[str, ...]:
    command = ("systemctl", "show", "-P", "MainPID", *SERVICES)
    return tuple(cloud.node("controller").run(command).text.split())


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("fault", PILLARS, ids=lambda fault: fault.name)
def test_without_a_pillar_it_is_told_at_once(full: Operator, fault: Fault) -> None:
    with made(full, fault):
        start_s = time.monotonic()
        status, checks = verify(full)
        duration_s = time.monotonic() - start_s
        value = full.solostack("status") if fault is MARIADB else {}
    failed = failures(checks)
    assert status == ExitCode.VERIFY
    assert len(failed) == 1, failed
    assert fault.told_by(failed[0]), failed
    assert duration_s < TOLD_S
    if fault is MARIADB:
        assert value["cloud"] is None
        assert "Keystone" in value["cloud_error"]


def test_all_services_connect_again_by_themselves(
    full: Operator, services: tuple[str, ...]
) -> None:
    """Both pillars went and came back; nobody was restarted for it, and verify is content."""
    verify_until_only(full, parts=SERVICES_ALONE)
    assert len(services) == len(SERVICES)
    assert "0" not in services
    assert main_pids(full) == services


@pytest.mark.parametrize(
    "faults", ROUNDS, ids=lambda faults: ", ".join(fault.name for fault in faults)
)
def test_faults_are_told_beside_each_other(full: Operator, faults: tuple[Fault, ...]) -> None:
    with made(full, *faults):
        verify_until_only(full, *faults, parts=SERVICES_ALONE)


def test_at_last_all_is_well_by_itself(full: Operator) -> None:
    """Every service has been looked at, and nothing was left out but what the lab cannot do."""
    checks = verify_until_only(full)
    assert {one["name"] for one in checks if one["skipped"]} == {ON_INSTANCE}
    wanted = {one.name for one in (*AGENT_CHECKS, *VOLUME_CHECKS)} - {ON_INSTANCE}
    assert {one["name"] for one in checks if one["ok"]} >= wanted
    assert full.solostack("up", "--yes") == {"pending": []}
