"""Packages that undo keeps: what they brought enabled does not start at the next boot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from solostack.doors.progress import Progress
from solostack.engine.apply import Report, undo_ledger
from solostack.engine.operations import Bundle, Operation, Packages, Unit, phase
from tests.host.engine_box import Box
from tests.host.engine_container import open_container

pytestmark = pytest.mark.host
REPOSITORY = "/usr/share/solo-repository"
# Two packages whose services are enabled when they are installed, as Debian's are.
MAKE = f"""
mkdir -p {REPOSITORY}
for name in solo-old solo-new
do
    mkdir -p /tmp/$name/DEBIAN /tmp/$name/usr/lib/systemd/system
    printf 'Package: %s\\nVersion: 1\\nArchitecture: all\\nDescription: test\\n' $name \\
        >/tmp/$name/DEBIAN/control
    echo 'Maintainer: nobody <nobody@example.com>' >>/tmp/$name/DEBIAN/control
    printf '#!/bin/sh\\nsystemctl -q enable %s.service\\n' $name >/tmp/$name/DEBIAN/postinst
    chmod 755 /tmp/$name/DEBIAN/postinst
    printf '%s\\n' '[Service]' 'ExecStart=/bin/sleep infinity' '[Install]' \\
        WantedBy=multi-user.target >/tmp/$name/usr/lib/systemd/system/$name.service
    dpkg-deb --root-owner-group -b /tmp/$name {REPOSITORY}/$name.deb >/dev/null
    cat /tmp/$name/DEBIAN/control
    printf 'Filename: ./%s.deb\\nSize: %s\\nSHA256: %s\\n\\n' $name \\
        $(stat -c %s {REPOSITORY}/$name.deb) $(sha256sum {REPOSITORY}/$name.deb | cut -d' ' -f1)
done >{REPOSITORY}/Packages
chmod -R a+rX {REPOSITORY}
rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists
echo 'deb [trusted=yes] file:{REPOSITORY} ./' >/etc/apt/sources.list
"""
DISABLE = ("solo-old.service", "solo-new.service", "solo-absent.service")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_container(tmp_path_factory.mktemp("container")) as box:
        box.shell(MAKE)
        yield box


def bundle(*operations: Operation) -> Bundle:
    return Bundle(target="box", phases=(phase("all", *operations),))


def undo(box: Box, *, dry_run: bool = False) -> Report:
    with Progress().step("undo") as step:
        return undo_ledger(box.executor, step=step, dry_run=dry_run, disable=DISABLE)


def state(box: Box, name: str) -> str:
    return box.shell(f"systemctl show --value -p UnitFileState -p ActiveState {name}.service")


def test_only_units_of_packages_from_the_ledger_are_disabled(box: Box) -> None:
    box.apply(bundle(Packages(names=("solo-old",))))
    both = Packages(names=("solo-old", "solo-new"))
    units = (Unit(name="solo-old.service"), Unit(name="solo-new.service"))
    box.apply(bundle(both, *units), ledger=True)
    assert state(box, "solo-new").split() == ["active", "enabled"]
    preview = undo(box, dry_run=True)
    assert state(box, "solo-new").split() == ["active", "enabled"]
    report = undo(box)
    assert preview.changed == report.changed
    (change,) = [one for one in report.changes if one.operation == "undo packages solo-new"]
    assert change.details == ("kept: solo-new", "disable solo-new.service")
    assert state(box, "solo-new").split() == ["inactive", "disabled"]
    assert state(box, "solo-old").split() == ["inactive", "enabled"]
    assert undo(box).changed == ()
    # Again on the same host, where the package is there already: made so, and taken back so.
    box.apply(bundle(both, *units), ledger=True)
    assert state(box, "solo-new").split() == ["active", "enabled"]
    undo(box)
    assert state(box, "solo-new").split() == ["inactive", "disabled"]
    assert state(box, "solo-old").split() == ["inactive", "enabled"]


def test_an_apply_that_was_stopped_after_the_packages_is_quiet_too(box: Box) -> None:
    box.shell("dpkg --purge solo-new >/dev/null 2>&1")
    box.apply(bundle(Packages(names=("solo-new",))), ledger=True)
    assert state(box, "solo-new").split() == ["inactive", "enabled"]
    undo(box)
    assert state(box, "solo-new").split() == ["inactive", "disabled"]
