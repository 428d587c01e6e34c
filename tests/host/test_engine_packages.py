"""Packages with the real apt and dpkg, from a repository made here."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.engine.operations import Bundle, Packages, phase
from solostack.errors import ApplyError, ConfigureError
from tests.host.engine_box import Box, agent_pid, open_box, start_agent

pytestmark = pytest.mark.host
REPOSITORY = "/usr/share/solo-repository"
POLICY = "/usr/sbin/policy-rc.d"
# What invoke-rc.d asks before it starts a service, written down at installation.
POSTINST = """#!/bin/sh
set -e
status=0
[ ! -x /usr/sbin/policy-rc.d ] || /usr/sbin/policy-rc.d app start || status=$?
echo $status >/srv/policy
[ ! -e /srv/slow ] || { touch /srv/busy; sleep 2; }
"""
# dpkg's lock is fcntl(2)'s, which flock(1) does not take.
LOCKER = (
    "import fcntl, time; file = open('/var/lib/dpkg/lock-frontend', 'w');"
    "fcntl.lockf(file, fcntl.LOCK_EX); open('/srv/locked', 'w'); time.sleep(3)"
)
KILL_DPKG = """
for exe in /proc/[0-9]*/exe
do
    case $(readlink $exe) in
    */dpkg|*/apt-get) pid=${exe%/exe}; kill -9 ${pid#/proc/} ;;
    esac
done
"""
CONTROL = """Package: {name}
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.com>
Description: test
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_box(tmp_path_factory.mktemp("box")) as box:
        make_repository(box)
        yield box


@pytest.fixture
def box(shared: Box) -> Box:
    shared.clear()
    shared.shell(
        f"dpkg --purge --force-all solo-app solo-lib solo-more solo-nice >/dev/null 2>&1 || true;"
        f"rm -rf /var/lib/apt/lists {POLICY} {POLICY}.solostack-saved"
    )
    return shared


def make_repository(box: Box) -> None:
    entries = []
    add = {
        "solo-app": "Depends: solo-lib\nRecommends: solo-nice\n",
        "solo-lib": "",
        "solo-more": "Depends: solo-lib\n",
        "solo-nice": "",
    }
    for name, relations in add.items():
        control = CONTROL.format(name=name) + relations
        folder = box.path(f"/tmp/{name}/DEBIAN")
        folder.mkdir(parents=True)
        (folder / "control").write_text(control)
        (folder / "postinst").write_text(POSTINST)
        (folder / "postinst").chmod(0o755)
        box.shell(
            f"mkdir -p {REPOSITORY}; dpkg-deb --root-owner-group -b /tmp/{name} "
            f"{REPOSITORY}/{name}.deb >/dev/null"
        )
        data = box.path(f"{REPOSITORY}/{name}.deb").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        entries.append(f"{control}Filename: ./{name}.deb\nSize: {len(data)}\nSHA256: {digest}\n")
    box.path(f"{REPOSITORY}/Packages").write_text("\n".join(entries))
    box.shell(f"rm -rf /etc/apt/sources.list.d/*; chmod -R a+rX {REPOSITORY}")
    box.path("/etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{REPOSITORY} ./\n")


def bundle(*names: str) -> Bundle:
    return Bundle(target="box", phases=(phase("all", Packages(names=names)),))


def installed(box: Box) -> set[str]:
    script = "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' 'solo-*' 2>/dev/null || true"
    lines = box.shell(script).splitlines()
    return {line.split()[0] for line in lines if line.endswith(" installed")}


def test_packages_are_installed_without_recommends_and_without_starting_services(box: Box) -> None:
    preview = box.apply(bundle("solo-app"), dry_run=True)
    assert installed(box) == set()
    report = box.apply(bundle("solo-app"))
    assert preview.changed == report.changed == ("packages solo-app",)
    assert report.changes[0].details == ("install solo-app",)
    assert installed(box) == {"solo-app", "solo-lib"}
    assert box.path("/srv/policy").read_text() == "101\n"
    assert not os.path.lexists(box.path(POLICY))
    assert box.apply(bundle("solo-app", "solo-lib")).changed == ()


def test_a_policy_of_the_machines_own_is_put_back(box: Box) -> None:
    box.path(POLICY).write_text("#!/bin/sh\nexit 104\n")
    box.path(POLICY).chmod(0o755)
    box.apply(bundle("solo-lib"))
    assert box.path("/srv/policy").read_text() == "101\n"
    assert box.path(POLICY).read_text() == "#!/bin/sh\nexit 104\n"
    assert not box.path(f"{POLICY}.solostack-saved").exists()


def test_a_package_that_is_not_there_is_an_error_with_apts_words(box: Box) -> None:
    with pytest.raises(ConfigureError) as caught:
        box.apply(bundle("solo-lib", "solo-nothing"))
    assert "cannot install solo-lib solo-nothing" in caught.value.message
    assert "Unable to locate package solo-nothing" in "".join(caught.value.details)
    assert not os.path.lexists(box.path(POLICY))


def test_undo_keeps_or_removes_what_was_newly_installed(box: Box) -> None:
    box.apply(bundle("solo-lib"))
    box.apply(bundle("solo-app", "solo-lib"), ledger=True)
    assert box.undo(dry_run=True, packages="remove").changed == ("undo packages solo-app",)
    assert box.undo(packages="remove").changed == ("undo packages solo-app",)
    assert installed(box) == {"solo-lib"}
    box.apply(bundle("solo-app"), ledger=True)
    assert box.undo(packages="keep").changed == ()
    assert installed(box) == {"solo-app", "solo-lib"}


def test_undo_does_not_remove_what_somebody_else_needs_by_now(box: Box) -> None:
    box.apply(bundle("solo-app"), ledger=True)
    box.apply(bundle("solo-more"))
    with pytest.raises(ApplyError) as caught:
        box.undo(packages="remove")
    assert caught.value.details == ("solo-more",)
    assert installed(box) == {"solo-app", "solo-lib", "solo-more"}
    assert box.undo(packages="keep").failed is None


def test_it_waits_for_another_package_manager(box: Box) -> None:
    box.shell(f"python3 -c {LOCKER!r} >/dev/null 2>&1 &")
    wait_for(box.path("/srv/locked"))
    report = box.apply(bundle("solo-lib"))
    assert report.seconds > 1
    assert installed(box) == {"solo-lib"}


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_killed_in_the_middle_the_next_apply_waits_and_goes_on(box: Box) -> None:
    box.shell("touch /srv/slow")
    with start_agent(box, bundle("solo-app")) as process:
        wait_for(box.path("/srv/busy"))
        os.kill(agent_pid(process), signal.SIGKILL)
    box.apply(bundle("solo-app"))
    assert installed(box) == {"solo-app", "solo-lib"}
    assert box.shell("dpkg --audit") == ""
    assert not os.path.lexists(box.path(POLICY))


def test_half_configured_packages_are_finished_first(box: Box) -> None:
    box.shell("touch /srv/slow")
    with start_agent(box, bundle("solo-app")) as process:
        wait_for(box.path("/srv/busy"))
        os.kill(agent_pid(process), signal.SIGKILL)
        # A power cut takes dpkg too.
        box.shell(KILL_DPKG)
    box.shell("rm /srv/slow; rm -f /run/solostack/running/*")
    box.apply(bundle("solo-app"))
    assert installed(box) == {"solo-app", "solo-lib"}
    assert box.shell("dpkg --audit") == ""
