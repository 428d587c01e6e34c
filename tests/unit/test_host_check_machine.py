"""Rules about machine and operating system, by value, both ways."""

from typing import Any

import pytest

from solostack.host.check import Subject
from solostack.host.kvm import Verdict
from solostack.host.probe_observation import NODES_PATH, HostObservation, Presence, UnitState
from solostack.host.probe_parse import CACHE_PATH, INSTANCES_PATH, NEEDED_PACKAGES
from tests.unit.host_observations import GOOD, KERNEL, SYSTEM, about, file_system, full, seen, site


@pytest.mark.parametrize(
    ("subject", "observation", "expected"),
    [
        (Subject.ROOT, seen(system={"is_root": False}), ("error", "not logged in as root")),
        (
            Subject.ARCHITECTURE,
            seen(machine={"architecture": "aarch64"}),
            ("error", "the machine is aarch64"),
        ),
        (Subject.CPU, seen(machine={"cores": 1}), ("warning", "1 cores, AMD Ryzen 5 3600")),
        (
            Subject.SYSTEMD,
            seen(system={"systemd": False}),
            ("error", "the host is not run by systemd"),
        ),
        (Subject.PYTHON, seen(system={"python": (3, 10, 12)}), ("error", "python3 is 3.10.12")),
        (
            Subject.DEBIAN,
            seen(system={"os_version": 12, "os_text": "Debian 12"}),
            ("error", "the system is Debian 12"),
        ),
        (
            Subject.DEBIAN,
            seen(system={"os_id": "ubuntu", "os_text": "Ubuntu 24.04"}),
            ("error", "the system is Ubuntu 24.04"),
        ),
        (
            Subject.DEBIAN,
            seen(system={"os_version": 0, "os_text": "Debian forky/sid"}),
            ("warning", "the system is Debian forky/sid"),
        ),
        (
            Subject.HOSTNAME,
            seen(system={"hostname": "phys1.example.org"}),
            ("info", "the host's name is phys1.example.org, the site's phys1"),
        ),
        (
            Subject.HOSTNAME,
            seen(system={"hostname": "localhost"}),
            ("warning", "the host has no name of its own (localhost)"),
        ),
        (
            Subject.HOSTNAME,
            seen(system={"hostname": "web", "fqdn": "web.example.org"}),
            ("info", "the host is called web (in full web.example.org), in the site phys1"),
        ),
        (
            Subject.TIME,
            seen(system={"time_synchronized": False}),
            ("warning", "the clock is not synchronized"),
        ),
        (
            Subject.TIME,
            seen(system={"time_synchronized": None}),
            ("info", "cannot tell whether the clock is synchronized"),
        ),
        (
            Subject.DNS,
            seen(system={"name_servers": ()}),
            ("warning", "no name server in /etc/resolv.conf"),
        ),
        (
            Subject.DPKG,
            seen(system={"dpkg_problem": "The following packages are only half configured\n a"}),
            (
                "error",
                "dpkg has unfinished work: The following packages are only half configured",
            ),
        ),
        (
            Subject.SECURITY_MODULE,
            seen(system={"selinux_enforcing": True}),
            ("warning", "SELinux is enforcing"),
        ),
        (
            Subject.CACHE,
            seen(file_systems={CACHE_PATH: file_system(CACHE_PATH, free_mib=3000)}),
            ("error", f"2 GiB free for {CACHE_PATH}"),
        ),
        (
            Subject.CACHE,
            seen(file_systems={CACHE_PATH: file_system(CACHE_PATH, free_mib=5000)}),
            ("warning", f"4 GiB free for {CACHE_PATH}"),
        ),
    ],
)
def test_bad_value_is_found_and_good_one_is_not(
    subject: Subject, observation: HostObservation, expected: tuple[str, str]
) -> None:
    assert about(subject, observation) == [expected]
    assert [severity for severity, _ in about(subject, GOOD)] == ["ok"]


@pytest.mark.parametrize(
    ("verdict", "machine", "expected", "todo"),
    [
        (Verdict.UNKNOWN, {}, "info", "nothing: up installs QEMU and tries again"),
        (Verdict.NO, {"kvm_usable": False}, "warning", "make /dev/kvm readable and writable"),
        (Verdict.NO, {"cpu_flag": "", "kvm_device": False}, "warning", "machine's firmware"),
        (Verdict.NO, {"virtualization": "kvm"}, "warning", "nested virtualization"),
    ],
)
def test_kvm(verdict: Verdict, machine: dict[str, Any], expected: str, todo: str) -> None:
    observation = seen(guest={"verdict": verdict, "reason": "because"}, machine=machine)
    [finding] = full(Subject.KVM, observation)
    assert str(finding.severity) == expected
    assert "because" in finding.what
    assert todo in finding.todo


def test_kvm_that_runs_a_guest() -> None:
    assert about(Subject.KVM, GOOD) == [("ok", "a guest ran under KVM (0.2 s)")]


def test_vm_without_kvm_is_named() -> None:
    wanted = site(nodes={"controller": {"runtime": "vm"}})
    broken = seen(guest={"verdict": Verdict.NO})
    assert ("warning", "runtime vm is set for controller") in about(Subject.KVM, broken, wanted)
    assert about(Subject.KVM, GOOD, wanted) == about(Subject.KVM, GOOD)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ({"virtualization": "kvm"}, "the host is itself a virtual machine (kvm)"),
        (
            {"virtualization": "systemd-nspawn", "is_container": True},
            "the host is itself a container (systemd-nspawn)",
        ),
    ],
)
def test_virtualization(machine: dict[str, Any], expected: str) -> None:
    assert about(Subject.VIRTUALIZATION, seen(machine=machine)) == [("info", expected)]
    assert about(Subject.VIRTUALIZATION, GOOD) == [("ok", "a physical machine")]


def test_memory_that_does_not_hold_the_nodes() -> None:
    [finding] = full(
        Subject.MEMORY, seen(machine={"memory_mib": 4000, "available_memory_mib": 3900})
    )
    assert (str(finding.severity), finding.what) == (
        "error",
        "4000 MiB do not hold what the site asks for",
    )
    assert "1024 MiB" in finding.why, "the arithmetic is shown"


def test_memory_in_use_by_others() -> None:
    busy = {"memory_mib": 15900, "available_memory_mib": 10000}
    assert ("warning", "5900 MiB are in use now, the site keeps 1024 MiB") in about(
        Subject.MEMORY, seen(machine=busy)
    )
    own = seen(machine=busy, traces={"sites": ("cloud",), "ledger": True})
    assert [severity for severity, _ in about(Subject.MEMORY, own)] == ["ok"]
    assert [severity for severity, _ in about(Subject.MEMORY, GOOD)] == ["ok"]


def test_an_8_gib_host_is_enough() -> None:
    small = seen(machine={"memory_mib": 7900, "available_memory_mib": 7600})
    assert [severity for severity, _ in about(Subject.MEMORY, small)] == ["ok"]


def test_disk_counts_what_solostack_uses_already() -> None:
    full_disk = file_system(NODES_PATH, free_mib=10 * 1024)
    ours = file_system(NODES_PATH, free_mib=10 * 1024, used_mib=40 * 1024)
    assert about(Subject.DISK, seen(file_systems={NODES_PATH: full_disk})) == [
        ("error", f"10 GiB for {NODES_PATH} do not hold what the site asks for")
    ]
    [(severity, what)] = about(Subject.DISK, seen(file_systems={NODES_PATH: ours}))
    assert severity == "ok"
    assert what.startswith(f"50 GiB for {NODES_PATH}")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"read_only": True}, ("error", "/ is mounted read-only")),
        ({"restricted": ("nodev", "nosuid")}, ("error", "/ is mounted nodev,nosuid")),
        ({"kind": "tmpfs"}, ("warning", "/ is in memory (tmpfs)")),
    ],
)
def test_unfit_file_system(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    observation = seen(file_systems={NODES_PATH: file_system(NODES_PATH, **changes)})
    assert expected in about(Subject.DISK, observation)
    assert expected not in about(Subject.DISK, GOOD)


def test_instances_on_a_disk_of_their_own() -> None:
    other = file_system(INSTANCES_PATH, device=2, free_mib=102400)
    assert (
        "info",
        f"{INSTANCES_PATH} is another file system, 100 GiB free",
    ) in about(Subject.DISK, seen(file_systems={INSTANCES_PATH: other}))


@pytest.mark.parametrize(
    ("name", "presence", "severity"),
    [
        ("tun", Presence.MISSING, "error"),
        ("nft_masq", Presence.MISSING, "error"),
        ("openvswitch", Presence.MISSING, "info"),
        ("vhost_net", Presence.MISSING, "info"),
    ],
)
def test_missing_kernel_feature(name: str, presence: Presence, severity: str) -> None:
    observation = seen(kernel={"features": {**KERNEL.features, name: presence}})
    assert (severity, f"the kernel has no {name}") in about(Subject.KERNEL, observation)
    [(found, what)] = about(Subject.KERNEL, GOOD)
    assert (found, name in what) == ("ok", True)


def test_unknown_kernel_features_are_one_finding() -> None:
    observation = seen(kernel={"features": dict.fromkeys(KERNEL.features, Presence.UNKNOWN)})
    [(severity, what)] = about(Subject.KERNEL, observation)
    assert severity == "info"
    assert "openvswitch" in what


def test_modules_of_the_running_kernel_are_gone() -> None:
    kernel = {"modules_folder": False, "releases": ("6.12.110+deb13-amd64",)}
    gone = "the modules of the running kernel 6.12.107+deb13-amd64 are not on disk"
    assert ("error", gone) in about(Subject.KERNEL, seen(kernel=kernel))
    container = seen(kernel=kernel, machine={"is_container": True})
    assert ("error", gone) not in about(Subject.KERNEL, container)


def test_package_without_a_source() -> None:
    without = {key: value for key, value in SYSTEM.candidates.items() if key != "ovn-host"}
    assert ("error", "apt has no source for ovn-host") in about(
        Subject.PACKAGES, seen(system={"candidates": without})
    )
    installed = {"ovn-host": "25.03.0-1"}
    assert [s for s, _ in about(Subject.PACKAGES, seen(
        system={"candidates": without, "installed": installed}))] == ["ok"]  # fmt: skip


def test_without_package_lists_a_source_is_not_missed() -> None:
    fresh = {"candidates": dict.fromkeys(NEEDED_PACKAGES, ""), "suites": ()}
    assert about(Subject.PACKAGES, seen(system=fresh)) == [("info", "apt has no package lists yet")]
    read = seen(system=fresh | {"suites": ("trixie", "trixie-security")})
    [(severity, what)] = about(Subject.PACKAGES, read)
    assert severity == "error"
    assert what.startswith("apt has no source for ")


@pytest.mark.parametrize(
    ("version", "wrong"),
    [
        ("2:31.0.0-6+deb13u2", False),
        ("31.1.0-1", False),
        ("2:26.2.2-1~deb12u5", True),
        ("3:32.0.0-1~bpo13+1", True),
    ],
)
def test_nova_of_another_release(version: str, wrong: bool) -> None:
    candidates = {**SYSTEM.candidates, "nova-compute": version}
    found = about(Subject.PACKAGES, seen(system={"candidates": candidates}))
    assert (("error", f"nova-compute would be {version}") in found) is wrong


def test_security_suite() -> None:
    found = about(Subject.PACKAGES, seen(system={"suites": ("trixie",)}))
    assert ("warning", "apt does not know trixie-security") in found
    assert [s for s, _ in about(Subject.PACKAGES, seen(system={"suites": ()}))] == ["ok"]


def test_reboot_and_stub_resolver_are_told() -> None:
    assert ("info", "an upgrade waits for a reboot") in about(
        Subject.DPKG, seen(system={"reboot_required": True})
    )
    stub = seen(system={"name_servers": ("127.0.0.53",)})
    assert ("info", "the host's name server is on the host alone (127.0.0.53)") in about(
        Subject.DNS, stub
    )


def test_units_are_known_by_name() -> None:
    assert SYSTEM.units["systemd-networkd.service"] == UnitState(active=True, enabled=True)
