"""Steps with volumes, made by openstacksdk on the controller: one action of a JSON request.

Streamed there: python3 - ; the request is the last line of the script's own text (see ask).
"""

from __future__ import annotations

import json
from typing import Any

from solostack.doors.process import Executor

# Runs on the controller, with what Debian's client brings.
_PROGRAM = r"""
import json, subprocess, sys, time
import openstack
asked = json.loads(sys.argv[1])
login = json.loads(sys.stdin.read())
cloud = openstack.connect(
    auth={"auth_url": login["auth_url"], "username": "admin", "password": login["password"],
          "project_name": "admin", "user_domain_name": "Default",
          "project_domain_name": "Default"},
    region_name=login["region"], interface="internal", compute_api_version="2.96",
    block_storage_api_version="3")
end = time.monotonic() + asked["timeout_s"]
COPIES = ("disks-snapshot", "disks-of-snapshot", "disks-clone")


def until(what, look, pause_s=2):
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > end:
            sys.exit(what + " took too long")
        time.sleep(pause_s)


def server():
    found = cloud.compute.find_server(asked["server"], ignore_missing=True)
    return found and cloud.compute.get_server(found.id)


def settled(state):
    one = server()
    if one.status == "ERROR":
        sys.exit("ERROR: " + str(one.fault))
    return one.status == state and one.task_state is None and one


def volume(*states):
    one = cloud.block_storage.find_volume(asked["volume"])
    if one.status.startswith("error"):
        sys.exit("volume " + one.status)
    return one.status in states and one


# An emulated processor in an emulated one translates every instruction twice: what an instance can
# do without is left out, and its kernel is unpacked (QEMU starts an ELF file by its PVH note).
SPARE = ("lsm= audit=0 cryptomgr.notests initcall_blacklist=load_system_certificate_list,"
         "jent_mod_init,bpf_tcp_ca_kfunc_init,inet6_init")


def unpacked(kernel):
    packed = kernel[kernel.index(b"\x28\xb5\x2f\xfd"):]
    # zstd complains of what follows the payload.
    elf = subprocess.run(("zstd", "-dc"), input=packed, capture_output=True).stdout
    assert elf.startswith(b"\x7fELF")
    return elf


def image():
    there = cloud.image.find_image("disks")
    if there is None:
        tiny = next(each for each in cloud.image.images(name="tiny", tag="solostack"))
        content = unpacked(cloud.image.download_image(tiny.kernel_id).content)
        kernel = cloud.create_image(
            "disks-kernel", data=content, disk_format="aki", container_format="aki", wait=True)
        there = cloud.create_image(
            "disks", data=cloud.image.download_image(tiny).content, disk_format="raw",
            container_format="bare", wait=True, allow_duplicates=True,
            kernel_id=kernel.id, ramdisk_id=tiny.ramdisk_id, hw_machine_type="pc",
            os_command_line=" ".join((tiny.os_command_line, "solostack.disks", SPARE)))
    return there


def create(**more):
    flavor = cloud.compute.find_flavor("m1.nano")
    cloud.compute.create_server(name=asked["server"], flavor_id=flavor.id, networks="none",
                                availability_zone="nova:" + asked["host"], **more)
    until("start", lambda: settled("ACTIVE"))


def room():
    # What the scheduler asks. Nova's own list of hypervisors asks each, also one that only starts.
    found = [each for each in cloud.placement.resource_providers() if each.name == asked["host"]]
    path = "/resource_providers/%s/inventories"
    return found and cloud.placement.get(path % found[0].id).json()["inventories"]


def act(do):
    if do == "host":
        return until("nova-compute", lambda: [
            each.host for each in cloud.compute.services(binary="nova-compute")
            if each.host == asked["host"] and each.state == asked.get("state", "up")])
    if do == "room":
        return until("room on the host", room)
    if do == "forget":
        for each in cloud.compute.services(binary="nova-compute"):
            if each.host == asked["host"]:
                cloud.compute.delete_service(each.id)
    elif do == "start-from-volume":
        create(block_device_mapping_v2=[{
            "boot_index": 0, "uuid": image().id, "source_type": "image",
            "destination_type": "volume", "volume_size": 1, "delete_on_termination": True}])
    elif do == "extend":
        cloud.block_storage.post("/volumes/%s/action" % volume("in-use").id,
                                 json={"os-extend": {"new_size": 2}}, microversion="3.42")
        until("extend", lambda: volume("in-use") and volume("in-use").size == 2)
    elif do == "detach":
        cloud.compute.delete_volume_attachment(server(), volume("in-use").id)
        until("detach", lambda: volume("available"))
    elif do == "copies":
        one = volume("available")
        snapshot = cloud.create_volume_snapshot(one.id, name=COPIES[0], wait=True, timeout=900)
        made = [cloud.create_volume(one.size, name=name, wait=True, timeout=900, **source)
                for name, source in ((COPIES[1], {"snapshot_id": snapshot.id}),
                                     (COPIES[2], {"source_volid": one.id}))]
        return [one.id, *(each.id for each in made)]
    elif do == "quota":
        project = cloud.current_project_id
        cloud.set_volume_quotas(project, volumes=0)
        try:
            cloud.create_volume(1, name="too-many", wait=False)
        except openstack.exceptions.HttpException as error:
            return [error.status_code, str(error)]
        finally:
            cloud.delete_volume_quotas(project)
    elif do == "reboot":
        cloud.compute.reboot_server(server(), "HARD")
        time.sleep(3)
        until("reboot", lambda: settled("ACTIVE"))
    elif do == "status":
        return server().status
    elif do == "delete":
        if server():
            cloud.compute.delete_server(server(), force=True)
            until("delete", lambda: server() is None)
        for name in reversed(COPIES[1:]):
            cloud.delete_volume(name, wait=True, timeout=900)
        cloud.delete_volume_snapshot(COPIES[0], wait=True, timeout=900)
        if asked.get("volume"):
            one = cloud.block_storage.find_volume(asked["volume"])
            if one is not None:
                cloud.block_storage.delete_volume(one)
                until("delete", lambda: cloud.block_storage.find_volume(asked["volume"]) is None)
    elif do == "console":
        # The marks of a disk, the newest last, once there is one that is wanted. A host that
        # boots gives no console.
        def look():
            try:
                text = cloud.compute.get_server_console_output(server(), length=400)["output"] or ""
            except openstack.exceptions.HttpException:
                return None
            rows = [line.split("SOLOSTACK DISK ")[1].split() for line in text.splitlines()
                    if "SOLOSTACK DISK " + asked["disk"] in line]
            rows = [row for row in rows if len(row) == 4]
            return [row for row in rows if row[1] in asked["marks"]
                    and int(row[2]) >= asked["sectors"]
                    and asked["after"] < int(row[3]) < asked["before"]] and rows
        # Each look takes the host a second of the processor that its instances run on.
        return until("console", look, pause_s=8)
    return None


print("ANSWER " + json.dumps(act(asked["do"])))
"""


def ask(controller: Executor, login: dict[str, str], do: str, **wanted: Any) -> Any:
    """Make one step and return what it says; AssertionError with its words when it fails."""
    request = {"do": do, "timeout_s": 900, **wanted}
    # The program comes as an argument, which holds nothing secret; the login over standard input.
    command = ("python3", "-I", "-c", _PROGRAM, json.dumps(request))
    done = controller.run(command, stdin=json.dumps(login).encode(), timeout_s=1000, check=False)
    assert done.status == 0, f"{request}: {done.stderr.decode('utf-8', 'replace')[-2000:]}"
    line = next(line for line in done.text.splitlines() if line.startswith("ANSWER "))
    return json.loads(line.removeprefix("ANSWER "))
