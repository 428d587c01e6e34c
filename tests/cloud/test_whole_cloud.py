"""The main job on real parts: `up` killed again and again, then everything a user would try.

The tests run in the order of this file; each leaves the cloud as it found it, and the last removes
it.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import warnings
from pathlib import Path

import pytest

from solostack.errors import ExitCode
from tests.cloud import company_directory
from tests.cloud.conftest import UP_TIMEOUT_S, Operator
from tests.cloud.login import login, roles_of
from tests.cloud.on_host import install_on_host, on_host
from tests.cloud.silence import NO_LOGIN, why_silent

pytestmark = [
    pytest.mark.cloud,
    pytest.mark.filterwarnings("default::tests.cloud.test_whole_cloud.HungGuest"),
]

FIRST, LAST = "198.51.100.0", "198.51.100.15"
# Spread over a whole run: while preparing the host, copying trees, migrating databases, making the
# disk, booting nodes, starting compute, opening the cloud, verifying.
KILLED_AFTER_S = (2, 5, 9, 15, 22, 30, 40, 50, 35, 30)


class HungGuest(UserWarning):
    """A guest that QEMU emulates, which no more does anything: shown at the run's end."""


def host_text(operator: Operator, *command: str) -> str:
    return operator.lab.host_executor("phys1").run(command, timeout_s=60, check=False).text


def test_up_killed_ten_times_ends_in_a_verified_cloud(operator: Operator) -> None:
    finished = 0
    for after_s in KILLED_AFTER_S:
        process = subprocess.Popen(
            operator.argv(*operator.command("up", "--yes")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=operator.environment(),
        )
        time.sleep(after_s)
        finished += process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert finished <= 1, "on a machine this fast the moments must be closer together"
    value = operator.solostack("up", "--yes")
    report = value["verify"] if "verify" in value else operator.solostack("verify")
    assert report["ok"], report
    names = {check["name"] for check in report["checks"] if check["ok"]}
    assert len(names) >= 10, names


def test_a_second_up_has_nothing_to_do(operator: Operator) -> None:
    assert operator.solostack("up", "--yes") == {"pending": []}


@pytest.mark.parametrize("address", [FIRST, LAST])
def test_the_ends_of_the_block_are_floating_ips_that_answer(
    operator: Operator, address: str
) -> None:
    name = f"at-{address.replace('.', '-')}"
    server = operator.solostack("launch", name, "--address", address)
    assert server["floating"] == address
    ping = operator.run("ping", "-c3", "-W5", address)
    if ping.returncode != 0:
        ping = operator.run("ping", "-c60", "-i1", "-W2", address)
    assert " 0 received" not in ping.stdout, ping.stdout + why_silent(operator, name)
    page = operator.run(
        "curl", "-sf", "--retry", "30", "--retry-all-errors", "--retry-delay", "2",
        f"http://{address}/",
    )  # fmt: skip
    assert page.returncode == 0, page.stderr
    assert "solostack" in page.stdout


def test_all_addresses_of_the_block_are_proven_from_inside_and_outside(operator: Operator) -> None:
    """Those of the two instances as they are, the other fourteen lent to a test instance."""
    value = operator.solostack("addresses", "--prove")
    assert (value["usable"], value["proven"]) == (16, 16)
    block = [row for row in value["addresses"] if row["usable"]]
    for row in block:
        outcomes = {row["proof"][side]["outcome"] for side in ("inside", "outside")}
        assert outcomes == {"proven"}, row
    held = {row["address"]: row["proof"]["by"] for row in block}
    assert held[FIRST].startswith("instance at-198-51-100-0 ")
    assert held[LAST].startswith("instance at-198-51-100-15 ")
    assert list(held.values()).count("test instance") == 14
    later = operator.solostack("addresses", "--live")
    assert later["proven"] == 16
    by_address = {row["address"]: row["held_by"] for row in later["addresses"]}
    assert by_address[FIRST].startswith("instance at-198-51-100-0 ")
    assert by_address["198.51.100.7"] == "nobody", "the test instance is gone"
    assert by_address["172.16.0.11"] == "controller (eth0)"
    assert by_address["10.99.0.1"] == "phys1 (br-external)"
    assert any(str(text).startswith("router demo ") for text in by_address.values())


def test_nova_sees_instances_only(operator: Operator) -> None:
    command = "virsh -c qemu:///system list --all --name"
    seen = host_text(operator, "su", "-s", "/bin/sh", "nova", "-c", command).split()
    everything = host_text(operator, "virsh", "-c", "qemu:///system", "list", "--all", "--name")
    assert "network" in everything.split()
    assert len(seen) == 2
    assert all(name.startswith("instance-") for name in seen)
    refused = host_text(
        operator, "su", "-s", "/bin/sh", "nova", "-c",
        "virsh -c qemu:///system destroy network 2>&1",
    )  # fmt: skip
    assert "failed to get domain" in refused


def test_no_address_of_the_block_is_on_the_host(operator: Operator) -> None:
    addresses = host_text(operator, "ip", "-4", "-o", "address")
    assert "203.0.113.2/" in addresses
    assert "198.51.100." not in addresses


def test_the_data_network_cannot_be_reached_from_the_providers_wire(operator: Operator) -> None:
    """Neither the APIs nor OVN's databases, also for a neighbour that sends to the host's MAC."""
    answers = host_text(operator, "curl", "-s", "-m", "5", "http://172.16.0.11:5000/")
    assert "versions" in answers
    route = ("172.16.0.0/24", "via", "203.0.113.2")
    assert operator.run("ip", "route", "add", *route).returncode == 0
    try:
        for port in (5000, 6641, 3306):
            tried = operator.run("curl", "-s", "-m", "3", f"telnet://172.16.0.11:{port}")
            assert tried.returncode == 28, (port, tried.returncode, tried.stderr)
    finally:
        operator.run("ip", "route", "delete", *route)


def test_status_shows_everything_well(operator: Operator) -> None:
    value = operator.solostack("status")
    (host,) = value["hosts"]
    assert set(host["services"].values()) == {"active"}
    assert {(node["name"], node["system"]) for node in value["nodes"]} == {
        ("controller", "running"),
        ("network", "running"),
    }
    assert all(service["state"] == "up" for service in value["cloud"]["compute_services"])
    assert all(agent["alive"] for agent in value["cloud"]["agents"])


def test_the_control_plane_stays_small(operator: Operator) -> None:
    console = operator.lab.host_executor("phys1")
    script = Path(__file__).parents[2] / "bench/on_host/pss.py"
    mib = [
        int(console.run(("python3", "-I", "-", wanted), stdin=script).text)
        for wanted in ("solostack-node@controller.service", "guest=network")
    ]
    assert all(one > 100 for one in mib)
    assert sum(mib) < 2560


def test_secrets_are_nowhere_that_others_can_read(operator: Operator) -> None:
    secrets = json.loads(
        (operator.state_home / "solostack/sites" / operator.lab.name / "secrets.json").read_text()
    )
    values = "\n".join(sorted(set(secrets.values())))
    found = operator.lab.host_executor("phys1").run(
        ("sh", "-c", "cat >/run/wanted; chmod 600 /run/wanted; "
         "find /etc /var/log /usr/local /run -xdev -type f -perm -o=r -print0 "
         "| xargs -0 grep -lFf /run/wanted 2>/dev/null; rm /run/wanted"),
        stdin=values.encode(), check=False,
    )  # fmt: skip
    assert found.text == ""
    arguments = host_text(operator, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
    assert not [value for value in secrets.values() if value in arguments]


def test_solostack_on_the_host_itself_finds_the_same_cloud(
    operator: Operator, tmp_path: Path
) -> None:
    """With the host's own Python, as root there, without SSH to the host."""
    console = operator.lab.host_executor("phys1")
    install_on_host(console, tmp_path)
    text = operator.site.read_text()
    local = re.sub(r"ssh: \{.*\}", "local: true", text)
    assert local != text
    console.run(("sh", "-c", "cat >/root/site.yaml"), stdin=local.encode())
    state = tmp_path / "state.tar"
    subprocess.run(["tar", "-C", operator.state_home, "-cf", state, "solostack"], check=True)
    unpack = "mkdir -p /root/.local/state && tar -x -C /root/.local/state -f -"
    console.run(("sh", "-c", unpack), stdin=state)
    assert on_host(console, "up", "--yes") == {"pending": []}
    assert {node["system"] for node in on_host(console, "status")["nodes"]} == {"running"}
    assert on_host(console, "verify", "--only=units")["ok"]


def test_the_inventory_tells_control_nodes_from_instances(operator: Operator) -> None:
    console = operator.lab.host_executor("phys1")
    command = "HOME=/root /opt/solostack/bin/solostack {} --json"
    domains = json.loads(console.run(("sh", "-c", command.format("domains"))).text)
    owners = {row["name"]: row["owner"] for row in domains["domains"]}
    assert owners["network"]["kind"] == "solostack", owners
    instances = [owner for name, owner in owners.items() if name.startswith("instance-")]
    assert {owner["kind"] for owner in instances} == {"nova"}, owners
    assert [node["name"] for node in domains["nodes"]] == ["controller"]
    disks = json.loads(console.run(("sh", "-c", command.format("disks network"))).text)
    (disk,) = disks["disks"]
    assert disk["device"] == "vda"
    assert disk["source_file"] == "/var/lib/solostack/nodes/network/disk.qcow2"
    assert disk["format"] == "qcow2"


def running_nodes(operator: Operator) -> list[str]:
    """The processes that the nodes are: other ones after any restart."""
    container = ("systemctl", "show", "-P", "MainPID", "solostack-node@controller.service")
    vm = ("cat", "/run/libvirt/qemu/network.pid")
    return [host_text(operator, *command).strip() for command in (container, vm)]


def test_the_data_bridge_is_renamed_and_back_under_running_nodes(operator: Operator) -> None:
    site = operator.site.read_text()
    assert "\ndata:" not in site
    before = running_nodes(operator)
    assert all(pid.isdigit() and pid != "0" for pid in before), before
    ports = host_text(operator, "ls", "/sys/class/net/br-data/brif").split()
    assert len(ports) >= 3, "the host's own, the container's, the VM's"
    ping = "exec ping -O -n -i 0.2 172.16.0.11 >/run/rename-ping"
    host_text(operator, "systemd-run", "-q", "--unit=rename-ping", "sh", "-c", ping)
    for text, old, new in (
        (site + "data: {bridge: eth1}\n", "br-data", "eth1"),
        (site, "eth1", "br-data"),
    ):
        operator.site.write_text(text)
        value = operator.solostack("up", "--yes", "--verify=units")
        assert value["verify"]["ok"], value["verify"]
        wait_for_pages(operator, FIRST, LAST)
        assert f" {new}: " in host_text(operator, "ip", "-o", "link", "show", new)
        assert host_text(operator, "ip", "-o", "link", "show", old) == ""
        assert running_nodes(operator) == before
        # libvirt puts VMs' taps where it thinks they belong when it starts.
        host_text(operator, "systemctl", "restart", "libvirtd.service")
        host_text(operator, "virsh", "-c", "qemu:///system", "list")
        assert host_text(operator, "ls", f"/sys/class/net/{new}/brif").split() == ports
        assert operator.solostack("up", "--yes") == {"pending": []}
    host_text(operator, "systemctl", "stop", "rename-ping.service")
    lost = host_text(operator, "grep", "-c", "no answer yet", "/run/rename-ping")
    assert int(lost) <= 50, "two renames, below 5 s each even when everything is emulated"


def wait_for_pages(operator: Operator, *addresses: str) -> None:
    """Wait until instances answer again; fail with all that is known of one that does not.

    One that Nova and libvirt have running, and whose kernel never came to its first program, hangs
    in QEMU's emulation, as may the network node: such a guest is reset, and the run tells of it.
    One that runs well may have to wait for the network node, which is emulated too and starts at
    the same time; one that does not run yet, for nova-compute.
    """
    for address in addresses:
        name = f"at-{address.replace('.', '-')}"
        for patience_s in (300, 300):
            end_s = time.monotonic() + patience_s
            while not (answers := answering(operator, address)) and time.monotonic() < end_s:
                time.sleep(3)
            if answers:
                break
            told = why_silent(operator, name)
            domain = re.search(r"== domain (\S+): running", told)
            hung = [domain[1]] if domain is not None and "SOLOSTACK" not in told else []
            hung += ["network"] if NO_LOGIN in told else []
            for one in hung:
                warnings.warn(f"{one} hangs in emulation\n{told}", HungGuest, stacklevel=2)
                host_text(operator, "virsh", "-c", "qemu:///system", "reset", one)
        else:
            pytest.fail(f"{name} stays silent\n{why_silent(operator, name)}")


def answering(operator: Operator, address: str) -> bool:
    return "solostack" in operator.run("curl", "-sf", "-m", "5", f"http://{address}/").stdout


def test_people_of_somebody_elses_directory_work_in_this_cloud(
    operator: Operator, tmp_path: Path
) -> None:
    """Told to the running cloud, and taken from it again."""
    site = operator.site.read_text()
    mount = tmp_path / "mount"
    mount.mkdir()
    with company_directory.open_directory(operator.lab, mount, operator.site.parent) as company:
        operator.site.write_text(site + company_directory.SETTINGS)
        company.tell_password("wrong")
        status, findings = directory_findings(operator)
        assert status == ExitCode.HOST
        assert [one["severity"] for one in findings] == ["error"]
        assert "refuses" in findings[0]["what"], findings
        company.tell_password()
        status, findings = directory_findings(operator)
        assert {one["severity"] for one in findings} == {"ok"}, findings
        value = operator.solostack("up", "--yes", "--verify=directory")
        assert value["verify"]["ok"], value["verify"]
        status, answer, _ = login(operator, "ada", company.password_of("ada"))
        assert status == 201, answer
        assert "member" in roles_of(answer)
        assert login(operator, "ada", "wrong")[0] == 401
        company.server.ask("lock", name="ada", locked=True)
        assert login(operator, "ada", company.password_of("ada"))[0] == 401
        assert operator.solostack("up", "--yes") == {"pending": []}
        company.stop()
        told = operator.run(*operator.command("verify", "--only=directory", "--json"))
        assert told.returncode == ExitCode.VERIFY, told.stdout + told.stderr
        bad = {one["name"]: one for one in json.loads(told.stdout)["checks"] if not one["ok"]}
        assert f"nothing answers at {company_directory.URL}" in bad["directory: answers"]["detail"]
        assert "solostack check" in bad["directory: answers"]["hint"]
        company.start()
        assert operator.solostack("verify", "--only=directory")["ok"]
    operator.site.write_text(site)
    value = operator.solostack("up", "--yes", "--verify=units")
    assert value["verify"]["ok"], value["verify"]
    assert operator.solostack("up", "--yes") == {"pending": []}


def directory_findings(operator: Operator) -> tuple[int, list[dict[str, str]]]:
    """Return the status of `check`, and what it says of the directory."""
    done = operator.run(*operator.command("check", "--json"), timeout_s=300)
    (host,) = json.loads(done.stdout)["hosts"]
    return done.returncode, [one for one in host["findings"] if one["subject"] == "directory"]


def test_after_a_power_cut_everything_is_back_by_itself(operator: Operator) -> None:
    """As after a reboot in order, which is tried at other providers."""
    operator.lab.kill("phys1")
    operator.lab.start("phys1")
    wait_for_pages(operator, FIRST, LAST)
    assert operator.solostack("verify")["ok"]


def test_down_takes_everything_away(operator: Operator) -> None:
    value = operator.solostack("down", "--yes")
    (host,) = value["hosts"]
    assert host["differences"] == []
    assert not host["not_compared"]
    assert sum(host["compared"].values()) > 1000
    domains = host_text(operator, "virsh", "-c", "qemu:///system", "list", "--all", "--name")
    networks = host_text(operator, "virsh", "-c", "qemu:///system", "net-list", "--all", "--name")
    assert domains.split() == []
    assert not {"data", "external"} & set(networks.split())
    assert "198.51.100" not in host_text(operator, "ip", "route")
    assert "solostack" not in host_text(operator, "nft", "list", "ruleset")
    assert host_text(operator, "ls", "/etc/solostack", "/var/lib/solostack/nodes") == ""
    again = operator.run(*operator.command("down", "--yes"), timeout_s=UP_TIMEOUT_S)
    assert again.returncode == 0, again.stderr
