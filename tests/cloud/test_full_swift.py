"""Objects, images among them, and the shared folder of the full site, as their users see them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from solostack.flows.certificates import AUTHORITY_FILE
from solostack.site.edit import with_number
from solostack.site.loader import load_site
from tests.cloud.conftest import Operator

pytestmark = [pytest.mark.cloud, pytest.mark.lane("full site")]

HERE = Path(__file__).parent
MIB = 1 << 20
FOLDER = "172.16.0.13:/srv/nfs"
# What the client needs lies in one text on standard input: passwords show in no process list.
LOADER = (
    "import json, sys; code, _, request = sys.stdin.read().partition(chr(0)); "
    "scope = {'__name__': 'client'}; exec(code, scope); request = json.loads(request); "
    "print(json.dumps(scope['ACTIONS'][request.pop('do')](request)))"
)
Client = Callable[..., dict[str, Any]]


def state_of(operator: Operator) -> Path:
    return operator.state_home / "solostack/sites" / operator.lab.name


def on_node(operator: Operator, node: str, script: str) -> str:
    """Run a script on a node; its output. Fails the test when it fails."""
    done = operator.run(
        sys.executable, str(HERE / "run_on_node.py"), str(operator.site), node, script,
        timeout_s=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def client_text(operator: Operator, request: dict[str, Any]) -> bytes:
    """Return the client with a request as user of the first project."""
    secrets = json.loads((state_of(operator) / "secrets.json").read_text())
    login = {"user": "demo", "project": "demo", "password": secrets["demo_password"]}
    program = (HERE / "object_client.py").read_text()
    return (program + "\0" + json.dumps(login | request)).encode()


def ask(operator: Operator, do: str, **request: Any) -> dict[str, Any]:
    """Let the client do something on the physical host, by the data network."""
    inside = {"auth_url": "http://172.16.0.11:5000/v3", "interface": "internal"}
    text = client_text(operator, inside | request | {"do": do})
    done = operator.lab.host_executor("phys1").run(
        ("python3", "-I", "-c", LOADER), stdin=text, timeout_s=900
    )
    value: dict[str, Any] = json.loads(done.text)
    return value


def ask_outside(operator: Operator, do: str, **request: Any) -> dict[str, Any]:
    """Let the client do something at the provider's end, by the front door."""
    outside = {
        "auth_url": "https://203.0.113.2/identity/v3",
        "interface": "public",
        "ca": (state_of(operator) / AUTHORITY_FILE).read_text(),
    }
    done = subprocess.run(
        operator.argv(sys.executable, "-I", "-c", LOADER),
        input=client_text(operator, outside | request | {"do": do}),
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def test_an_object_of_100_mb_comes_back_as_it_was(full: Operator) -> None:
    told = ask(full, "put_get", container="large", size=100 * 1000 * 1000)
    assert told["put"]["status"] == 201, told
    assert (told["got"]["status"], told["got"]["bytes"]) == (200, 100_000_000)
    assert told["got"]["md5"] == told["sent"]
    assert told["bad"]["status"] == told["none"]["status"] == 401
    assert told["delete"]["status"] == 204
    assert told["gone"]["status"] == 404
    assert told["emptied"]["status"] == 204, "the listing knew at once that it is empty"


def test_s3_clients_sign_and_see_the_same_objects(full: Operator) -> None:
    told = ask(full, "s3", bucket="bucket", size=3 * MIB)
    assert told["bucket"]["status"] == told["put"]["status"] == 200, told
    assert told["got"]["md5"] == told["native"]["md5"] == told["sent"]
    assert "<Key>o</Key>" in told["list"]["text"]
    assert told["wrong"]["status"] == 403
    assert "SignatureDoesNotMatch" in told["wrong"]["text"]
    assert told["completed"]["status"] == 200, told["completed"]
    assert told["whole"], "the parts are one object"
    assert told["deleted"] == [204, 204, 204]


def test_the_front_door_leads_to_objects_for_both_kinds_of_clients(full: Operator) -> None:
    told = ask_outside(full, "put_get", container="outside", size=MIB)
    assert told["url"].startswith("https://203.0.113.2/object-store/v1/AUTH_")
    assert told["got"]["md5"] == told["sent"]
    assert told["bad"]["status"] == 401
    by_s3 = ask_outside(full, "s3", bucket="outside-bucket", size=MIB)
    assert by_s3["url"] == "https://203.0.113.2"
    assert by_s3["got"]["md5"] == by_s3["native"]["md5"] == by_s3["sent"]
    assert by_s3["wrong"]["status"] == 403
    assert "<Location>https://203.0.113.2/outside-bucket/parts<" in by_s3["completed"]["text"]
    opened = ask_outside(full, "public", container="outside-page")
    assert (opened["signed"]["text"], opened["opened"]["text"]) == ("hello", "hello")
    assert opened["closed"]["status"] == opened["forged"]["status"] == 401


def test_containers_can_be_open_and_links_good_for_a_while(full: Operator) -> None:
    told = ask(full, "public", container="page")
    assert told["closed"]["status"] == 401
    assert (told["signed"]["status"], told["signed"]["text"]) == (200, "hello")
    assert told["forged"]["status"] == 401
    assert (told["opened"]["status"], told["opened"]["text"]) == (200, "hello")
    assert told["write"]["status"] == 401


def test_the_services_behind_the_proxy_are_not_on_the_network(full: Operator) -> None:
    listening = on_node(full, "storage", "ss -Hltn | awk '{print $4}'\n").split()
    for port in (6200, 6201, 6202, 11211):
        assert [one for one in listening if one.endswith(f":{port}")] == [f"127.0.0.1:{port}"]
    assert not [one for one in listening if one.endswith(":111")], "rpcbind"
    assert "172.16.0.13:2049" in listening


def test_the_passes_find_nothing_wrong(full: Operator) -> None:
    script = "".join(
        f"systemctl start solostack-swift-{name}.service\n"
        f"systemctl show -P Result solostack-swift-{name}.service\n"
        for name in ("upkeep", "audit")
    )
    assert on_node(full, "storage", script).split() == ["success", "success"]
    journal = "journalctl -b -o cat -u 'solostack-swift-*' -t swift-object-auditor | cat\n"
    assert "Traceback" not in on_node(full, "storage", journal)


def openstack(operator: Operator, command: str) -> str:
    """Run the command line client on the controller as administrator."""
    secrets = json.loads((state_of(operator) / "secrets.json").read_text())
    login = (
        "export OS_AUTH_URL=http://172.16.0.11:5000/v3 OS_IDENTITY_API_VERSION=3 OS_USERNAME=admin "
        "OS_PROJECT_NAME=admin OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default "
        f"OS_INTERFACE=internal OS_PASSWORD={secrets['admin_password']}\n"
    )
    return on_node(operator, "controller", login + command)


def store_of(operator: Operator, image: str) -> str:
    """Return the store that an image is in."""
    shown = json.loads(openstack(operator, f"openstack image show -f json {image}"))
    store: str = shown["properties"]["stores"]
    return store


def test_images_in_swift_are_read_back_and_files_stay_readable(full: Operator) -> None:
    """Both ways: an image made in files before, one made in Swift, both after each change."""
    made = (
        "head -c 5000000 /dev/urandom >/tmp/{0}\n"
        "openstack image create -f value -c id {0} --file /tmp/{0}\n"
    )
    site = full.site.read_text()
    assert "images_in_swift: false" in site
    openstack(full, made.format("in-files"))
    try:
        full.site.write_text(site.replace("images_in_swift: false", "images_in_swift: true"))
        assert full.solostack("up", "--yes", "--verify=objects")["verify"]["ok"]
        openstack(full, made.format("in-swift"))
        # Glance itself remembers where each image is, and reads it from there alone.
        stores = {name: store_of(full, name) for name in ("in-files", "in-swift")}
        assert stores == {"in-files": "fs", "in-swift": "swift"}
        check = "openstack image save --file /tmp/back {0}; cmp /tmp/back /tmp/{0}; rm /tmp/back\n"
        for name in ("in-files", "in-swift"):
            openstack(full, "set -e\n" + check.format(name))
        full.site.write_text(site)
        assert full.solostack("up", "--yes", "--verify=objects")["verify"]["ok"]
        for name in ("in-files", "in-swift"):
            openstack(full, "set -e\n" + check.format(name))
        openstack(full, "openstack image delete in-files in-swift; rm /tmp/in-files /tmp/in-swift")
    finally:
        full.site.write_text(site)


# Without mount.nfs4, which only machines have that are clients on purpose: the kernel's own words.
MOUNT = f"""set -e
mkdir -p /mnt/folder
mount -i -t nfs4 -o vers=4.2,addr=172.16.0.13,clientaddr=$1 {FOLDER} /mnt/folder
"""


def test_the_shared_folder_is_mounted_by_the_node_itself(full: Operator) -> None:
    """All users are nobody, what is written comes back after another mount; version 3 is off."""
    written = on_node(
        full, "storage",
        f"set -- 172.16.0.13\n{MOUNT}echo here >/mnt/folder/proof\n"
        "stat -c %U:%G /mnt/folder/proof\numount /mnt/folder\n"
        f"set -- 172.16.0.13\n{MOUNT}cat /mnt/folder/proof\nrm /mnt/folder/proof\n"
        "umount /mnt/folder\ncat /proc/fs/nfsd/versions\n",
    ).split("\n")  # fmt: skip
    assert written[:2] == ["nobody:nogroup", "here"]
    assert "-3" in written[2].split()
    assert "+4.2" in written[2].split()


def verify(operator: Operator) -> dict[str, Any]:
    """Verify what the storage node serves, whatever is found; its checks by name."""
    parts = ("--only", "disks", "--only", "objects")
    done = operator.run(*operator.command("verify", *parts, "--json"), timeout_s=900)
    assert "Traceback" not in done.stderr
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def verify_until_well(operator: Operator, limit_s: float = 300) -> None:
    """The proxy does not ask a disk again at once that refused something; a node may just boot."""
    end_s = time.monotonic() + limit_s
    while True:
        found = verify(operator)
        assert "objects: put, get, delete" in found
        bad = [check for check in found.values() if not check["ok"]]
        if not bad:
            return
        assert time.monotonic() < end_s, bad


def test_a_disk_that_is_not_mounted_gets_nothing_and_is_named(full: Operator) -> None:
    before = on_node(full, "storage", "df --output=used / | tail -1\n")
    # Lazily: Swift's servers have it open.
    on_node(full, "storage", "umount -l /srv/node/swift*\n")
    try:
        told = ask(full, "put_get", container="nowhere", size=MIB, delete=False)
        assert told["put"]["status"] in {404, 503, 507}, told
        found = verify(full)
        assert not found["disks of the storage node"]["ok"]
        assert (
            "swift1 /srv/node/swift1 is not mounted" in found["disks of the storage node"]["detail"]
        )
        assert "solostack-disks" in found["disks of the storage node"]["hint"]
        assert not found["objects: put, get, delete"]["ok"]
        left = "df --output=used / | tail -1; find /srv/node -mindepth 2\n"
        after = on_node(full, "storage", left)
        assert int(after.split()[0]) - int(before) < 20 * 1024, "KiB: nothing on the root disk"
        assert after.split()[1:] == []
    finally:
        on_node(full, "storage", "systemctl restart solostack-disks.service\n")
    verify_until_well(full)


def test_a_full_disk_refuses_new_objects_and_is_named(full: Operator) -> None:
    fill = (
        "for disk in /srv/node/*; do\n"
        "free=$(df --output=avail -B1 $disk | tail -1)\n"
        "fallocate -l $((free * 99 / 100)) $disk/filler\n"
        "done\n"
    )
    kept = ask(full, "put_get", container="kept", size=MIB, delete=False)
    assert kept["put"]["status"] == 201, kept
    on_node(full, "storage", fill)
    try:
        told = ask(full, "put_get", container="full", size=MIB, delete=False)
        assert told["container"]["status"] in {503, 507}, told
        assert told["put"]["status"] in {404, 503, 507}, told
        found = verify(full)["disks of the storage node"]
        assert not found["ok"]
        assert "swift1" in found["detail"]
        assert "storage grow" in found["hint"]
        read = ask(full, "put_get", container="kept", put=False, delete=False, size=0)
        assert read["got"]["md5"] == kept["sent"], "reading still works"
    finally:
        on_node(full, "storage", "rm -f /srv/node/*/filler\n")
    verify_until_well(full)
    told = ask(full, "put_get", container="kept", put=False, size=0)
    assert (told["got"]["status"], told["delete"]["status"]) == (200, 204)


def assert_node_off_is_told(operator: Operator) -> None:
    """Verify while the storage node has no power: it names what starts it."""
    found = verify(operator)
    bad = found["objects: put, get, delete"]
    assert not bad["ok"]
    assert "object-store does not answer at 172.16.0.13:8080" in bad["detail"]
    assert "solostack up" in bad["hint"]
    assert not found["shared folder answers"]["ok"]
    assert "solostack" in found["disks of the storage node"]["hint"]


def swift_disks(operator: Operator) -> dict[str, Any]:
    command = (sys.executable, "-m", "solostack", "storage", "list", "-f", str(operator.site))
    done = operator.run(*command, "--json", timeout_s=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    disks = json.loads(done.stdout)["disks"]
    return {disk["name"]: disk for disk in disks if disk["name"].startswith("swift")}


def test_a_further_disk_is_attached_while_the_node_runs(full: Operator) -> None:
    """And takes its part of what is there. Nothing is restored: no disk can be taken back."""
    boot = "cat /proc/sys/kernel/random/boot_id\n"
    before, booted = swift_disks(full), on_node(full, "storage", boot)
    # Several, for one alone may stay where it is.
    names = [f"spread{number}" for number in range(4)]
    kept = {}
    for name in names:
        told = ask(full, "put_get", container=name, size=MIB, delete=False)
        assert told["put"]["status"] == 201, told
        kept[name] = told["sent"]
    wanted = len(before) + 1
    text = full.site.read_text()
    full.site.write_text(with_number(text, ("storage", "swift", "disks"), wanted))
    site = load_site(full.site).site
    assert site.storage is not None
    assert site.storage.swift is not None
    assert site.storage.swift.disks == wanted
    # A pass that read the old rings must not keep accounts where they are.
    on_node(full, "storage", "systemctl --no-block start solostack-swift-upkeep.service\n")

    value = full.solostack("up", "--yes", "--verify=disks", "--verify=objects")
    assert value["verify"]["ok"]
    assert {"objects: put, get, delete"} <= {one["name"] for one in value["verify"]["checks"]}

    after = swift_disks(full)
    assert set(after) == {*before, f"swift{wanted}"}
    new = after[f"swift{wanted}"]
    assert [disk["error"] for disk in after.values()] == [""] * wanted
    assert new["actual_bytes"] == new["size_gib"] << 30
    assert 0 < new["guest_total_bytes"] <= new["actual_bytes"]
    assert on_node(full, "storage", boot) == booted, "it was attached, the node did not start anew"
    assert full.solostack("up", "--yes") == {"pending": []}
    for name in names:
        told = ask(full, "put_get", container=name, put=False, size=0)
        assert told["got"]["md5"] == kept[name]
        assert told["delete"]["status"] == 204
    told = ask(full, "put_get", container="later", size=MIB)
    assert (told["container"]["status"], told["put"]["status"]) == (201, 201), told
