"""A lab on this machine: up, the ways in, breaking its host, and down without a trace."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from solostack.doors.process import Completed, LocalExecutor
from solostack.doors.progress import Progress
from solostack.errors import CommandError, ConnectError, LabError
from solostack.flows.bake import bake_trees, lab_host_recipe
from solostack.lab.lab import HostCondition, Lab, Wanted
from solostack.lab.processes import container_leader
from solostack.lab.spec import Provider, host_namespace, upstream_namespace
from solostack.lab.state import lab_state
from tests.host.lab_traces import find_traces

pytestmark = pytest.mark.host

COMMAND = ("-m", "solostack", "lab")
START_S = 30.0


@pytest.fixture(scope="session")
def host_tree() -> Path:
    given = os.environ.get("SOLOSTACK_LAB_HOST_TREE")
    if given:
        return Path(given)
    recipe = lab_host_recipe()
    return Path(bake_trees((recipe,), Progress())[recipe.name])


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cache")
    (directory / "shown").write_text("by the machine\n")
    return directory


@pytest.fixture(scope="module")
def lab(host_tree: Path, cache: Path) -> Iterator[Lab]:
    start = time.monotonic()
    with make_lab("life", Wanted(host_tree=host_tree, cache=cache)) as lab:
        assert time.monotonic() - start < START_S
        yield lab


@contextlib.contextmanager
def make_lab(suffix: str, wanted: Wanted) -> Iterator[Lab]:
    """A lab of this test run's own, and proof that nothing of it is left."""
    lab = Lab(lab_name(suffix))
    try:
        lab.up(wanted)
        yield lab
    finally:
        lab.down()
        assert find_traces(lab.name, lab.state.directory) == []


def lab_name(suffix: str) -> str:
    return f"t{os.getpid()}-{suffix}"


def upstream(lab: Lab, *argv: str) -> Completed:
    return lab.upstream_executor().run(argv, check=False)


def answers(lab: Lab, address: str) -> bool:
    return upstream(lab, "ping", "-c1", "-W2", address).status == 0


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def test_up_again_changes_nothing_and_is_quick(lab: Lab) -> None:
    before = lab.status().hosts[0].pid
    start = time.monotonic()
    status = lab.up(Wanted())
    assert time.monotonic() - start < START_S / 2
    assert status.upstream
    assert status.hosts[0].pid == before
    assert status.hosts[0].condition is HostCondition.ON


def test_a_host_is_a_server_with_one_card(lab: Lab) -> None:
    host = lab.host_executor("phys1")
    links = host.run(("ip", "-brief", "link", "show", "type", "veth")).text.split()
    assert links[0].startswith("peth0@")
    assert links[2] == lab.spec().hosts[0].mac
    assert "203.0.113.2/24" in host.run(("ip", "address", "show", "peth0")).text
    assert host.run(("hostname",)).text == "phys1\n"
    assert host.run(("sh", "-c", "echo $HOME; pwd")).text.split() == ["/root", "/root"]
    assert host.run(("cat", "/root/.cache/solostack/shown")).text == "by the machine\n"


def test_a_host_is_reached_as_a_real_one(lab: Lab) -> None:
    ssh = lab.ssh_executor("phys1")
    assert ssh.run(("id", "-un")).text == "root\n"
    assert ssh.run(("ping", "-c1", "-W2", "192.0.2.1")).status == 0
    assert lab.state.site_file.exists()
    assert answers(lab, "203.0.113.2")
    route = upstream(lab, "ip", "route", "get", "198.51.100.15").text
    assert "via 203.0.113.2" in route


def test_the_command_line_passes_words_and_status_on(lab: Lab) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, *COMMAND, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    name = ("--name", lab.name)
    done = run("exec", *name, "phys1", "--", "sh", "-c", "hostname; exit 7", "--name", "x")
    assert (done.returncode, done.stdout) == (7, "phys1\n")
    assert run("upstream", *name, "--", "ping", "-c1", "203.0.113.2").returncode == 0
    assert lab.name in run("list").stdout.split()


def test_the_machines_devices_keep_their_owners(lab: Lab) -> None:
    """The host's systemd changes owner and mode of the device nodes it finds."""
    host = lab.host_executor("phys1")
    for device in ("/dev/net/tun", "/dev/loop-control"):
        host.run(("chmod", "600", device))
        host.run(("chown", "1:1", device))
        assert Path(device).stat().st_uid == 0
    with Path("/dev/net/tun").open("rb"):
        host.run(("test", "-c", "/dev/net/tun"))


def test_a_host_runs_overlays_containers_and_libvirt(lab: Lab) -> None:
    host = lab.host_executor("phys1")
    script = """
    cd /var/lib && mkdir -p try/upper try/work try/root && cd try
    mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work try root
    test -e root/etc/hostname
    umount root
    mount -t overlay -o lowerdir=/root/.cache/solostack,upperdir=upper,workdir=work try root
    test -e root/shown
    umount root && cd .. && rm -r try
    virsh -q -c qemu:///system list --all
    nft add table inet try && nft delete table inet try
    """
    host.run(("sh", "-ec", script))


def test_a_reboot_keeps_the_disk_and_loses_the_network(lab: Lab) -> None:
    host = lab.host_executor("phys1")
    host.run(
        ("sh", "-ec", "echo kept | tee /etc/kept >/var/lib/kept; ip link add gone type bridge")
    )
    machine = host.run(("cat", "/etc/machine-id")).text
    before = lab.status().hosts[0].pid
    lab.reboot("phys1")
    assert lab.status().hosts[0].pid != before
    assert host.run(("cat", "/etc/kept", "/var/lib/kept")).text == "kept\nkept\n"
    assert host.run(("ip", "link", "show", "gone"), check=False).status != 0
    assert host.run(("cat", "/etc/machine-id")).text == machine
    assert lab.ssh_executor("phys1").run(("hostname",)).text == "phys1\n"


def test_a_reboot_from_within_is_one_too(lab: Lab) -> None:
    before = lab.status().hosts[0].pid
    lab.host_executor("phys1").run(("systemctl", "reboot"))
    namespace = host_namespace(lab.name, "phys1")
    wait_for(
        lambda: (leader := container_leader(namespace)) and leader.pid != before, "another boot"
    )
    lab.start("phys1")
    assert lab.ssh_executor("phys1").run(("hostname",)).text == "phys1\n"


def test_a_power_cut_ends_everything_at_once(lab: Lab) -> None:
    host = lab.host_executor("phys1")
    host.run(("sh", "-ec", "echo kept >/etc/before-cut; sync"))
    nested = "setsid unshare --pid --net --fork sleep 98765 >/dev/null 2>&1 &"
    host.run(("sh", "-c", nested))
    wait_for(lambda: sleepers(), "a process in a container of the host")
    lab.kill("phys1")
    assert sleepers() == []
    assert not answers(lab, "203.0.113.2")
    status = lab.status().hosts[0]
    assert (status.condition, status.pid) == (HostCondition.OFF, None)
    with pytest.raises(LabError, match="is off") as caught:
        host.run(("true",))
    assert caught.value.hint == f"switch it on: solostack lab start phys1 --name {lab.name}"
    lab.start("phys1")
    assert host.run(("cat", "/etc/before-cut")).text == "kept\n"


def sleepers() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == b"sleep\x0098765\x00":
                found.append(path.parent.name)
    return found


def test_a_host_that_is_shut_down_is_switched_on_by_up(lab: Lab) -> None:
    lab.host_executor("phys1").run(("systemctl", "poweroff"))
    assert lab.up(Wanted()).hosts[0].condition is HostCondition.ON


def test_a_pulled_cable_leaves_the_console(lab: Lab) -> None:
    lab.unplug("phys1")
    host = lab.host_executor("phys1")
    assert "NO-CARRIER" in host.run(("ip", "link", "show", "peth0")).text
    assert not answers(lab, "203.0.113.2")
    with pytest.raises((ConnectError, CommandError)):
        lab.ssh_executor("phys1").run(("true",), timeout_s=15)
    lab.reboot("phys1")
    assert not lab.status().hosts[0].plugged
    assert not answers(lab, "203.0.113.2")
    lab.plug("phys1")
    wait_for(lambda: answers(lab, "203.0.113.2"), "an answer after plugging in")


def test_what_a_lab_is_cannot_be_changed_behind_its_back(lab: Lab) -> None:
    with pytest.raises(LabError, match="routed provider already") as caught:
        lab.up(Wanted(provider=Provider.SINGLE))
    assert f"solostack lab down --name {lab.name}" in caught.value.hint
    with pytest.raises(LabError, match="not the root of a Debian system"):
        lab.up(Wanted(hosts=2, host_tree=Path("/nonexistent")))
    with pytest.raises(LabError, match="needs a tree"):
        lab.up(Wanted(hosts=2))
    assert len(lab.spec().hosts) == 1


def test_labs_stand_side_by_side(lab: Lab, host_tree: Path, cache: Path) -> None:
    """Two hosts behind a filtering switch, beside another lab with the same addresses."""
    before = lab.status().hosts[0].pid
    wanted = Wanted(host_tree=host_tree, cache=cache, hosts=2, provider=Provider.MAC_FILTER)
    with make_lab("beside", wanted) as other:
        first = other.host_executor("phys1")
        assert first.run(("ping", "-c1", "-W2", "203.0.113.3")).status == 0
        assert first.run(("cat", "/etc/machine-id")).text != (
            lab.host_executor("phys1").run(("cat", "/etc/machine-id")).text
        )
        assert other.state.known_hosts.read_text() != lab.state.known_hosts.read_text()
        assert other.ssh_executor("phys2").run(("hostname",)).text == "phys2\n"
        assert not answers(lab, "203.0.113.3")
        # The provider finds an address of the block on the wire, but only behind the host's MAC.
        first.run(("ip", "address", "add", "198.51.100.5/32", "dev", "peth0"))
        assert answers(other, "198.51.100.5")
        first.run(("ip", "link", "add", "foreign", "link", "peth0", "type", "macvlan"))
        first.run(("ip", "link", "set", "foreign", "up"))
        first.run(("arping", "-c1", "-I", "foreign", "203.0.113.1"), check=False)
        first.run(("ping", "-c1", "-W1", "-I", "foreign", "203.0.113.1"), check=False)
        of_first, of_second = (host.violations for host in other.status().hosts)
        assert of_first
        assert of_second == 0
    assert lab.status().hosts[0].violations is None
    assert lab.status().hosts[0].pid == before
    assert answers(lab, "203.0.113.2")


def test_a_provider_may_scatter_addresses(host_tree: Path, cache: Path) -> None:
    wanted = Wanted(host_tree=host_tree, cache=cache, provider=Provider.SCATTERED)
    with make_lab("scatter", wanted) as lab:
        host = lab.host_executor("phys1")
        assert "203.0.113.2/32" in host.run(("ip", "address", "show", "peth0")).text
        assert host.run(("ping", "-c1", "-W2", "192.0.2.1")).status == 0
        host.run(("ip", "address", "add", "198.51.100.77/32", "dev", "peth0"))
        assert answers(lab, "198.51.100.77")
        assert not answers(lab, "198.51.100.78")


def test_down_is_content_with_nothing(tmp_path: Path) -> None:
    lab = Lab(lab_name("never"), home=tmp_path)
    assert lab.down() == ()
    assert lab.down() == ()
    assert list(tmp_path.iterdir()) == []


def test_down_removes_a_lab_whose_spec_is_damaged(host_tree: Path, cache: Path) -> None:
    lab = Lab(lab_name("damaged"))
    try:
        start_and_kill(lab.name, "namespace", host_tree, cache)
        lab.state.spec_file.write_text("half a fil")
    finally:
        assert lab.down()
    assert find_traces(lab.name, lab.state.directory) == []


def test_down_ends_what_runs_in_the_providers_namespace(host_tree: Path, tmp_path: Path) -> None:
    lab = Lab(lab_name("busy"), home=tmp_path)
    local = LocalExecutor()
    lab.state.directory.mkdir(parents=True)
    local.run(("ip", "netns", "add", upstream_namespace(lab.name)))
    argv = ["nsenter", f"--net=/run/netns/{upstream_namespace(lab.name)}", "sleep", "600"]
    with subprocess.Popen(argv) as process:
        wait_for(lambda: lab.down(), "a lab to remove")
        assert process.wait(timeout=5) in (-signal.SIGTERM, -signal.SIGKILL)
    assert find_traces(lab.name, lab.state.directory) == []


def moments(name: str) -> dict[str, Callable[[], bool]]:
    """The moments at which `lab up` is killed: what has just come into being."""
    state = lab_state(name)
    host = state.host("phys1")
    netns = Path("/run/netns")
    return {
        "spec": state.spec_file.exists,
        "key": state.key.exists,
        "upstream": (netns / upstream_namespace(name)).exists,
        "var": host.var.exists,
        "prepared": host.prepared.exists,
        "namespace": (netns / host_namespace(name, "phys1")).exists,
        "booting": lambda: container_leader(host_namespace(name, "phys1")) is not None,
    }


@pytest.mark.parametrize("moment", moments("x"))
def test_up_killed_at_any_moment_leaves_nothing_after_down(
    moment: str, host_tree: Path, cache: Path
) -> None:
    name = lab_name(f"k-{moment}")
    lab = Lab(name)
    try:
        start_and_kill(name, moment, host_tree, cache)
    finally:
        lab.down()
    assert find_traces(name, lab.state.directory) == []
    assert lab.down() == ()


@pytest.mark.parametrize("moment", ["var", "booting"])
def test_up_killed_at_any_moment_goes_on(moment: str, host_tree: Path, cache: Path) -> None:
    name = lab_name(f"g-{moment}")
    start_and_kill(name, moment, host_tree, cache)
    with make_lab(f"g-{moment}", Wanted(host_tree=host_tree, cache=cache)) as lab:
        assert lab.ssh_executor("phys1").run(("hostname",)).text == "phys1\n"


def start_and_kill(name: str, moment: str, host_tree: Path, cache: Path) -> None:
    argv = [sys.executable, *COMMAND, "up", "--name", name, "--host-tree", str(host_tree)]
    reached = moments(name)[moment]
    with subprocess.Popen([*argv, "--cache", str(cache)], stderr=subprocess.DEVNULL) as process:
        try:
            while not reached():
                assert process.poll() is None, f"`lab up` ended before {moment}"
                time.sleep(0.002)
        finally:
            process.kill()
