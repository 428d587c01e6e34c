"""Images: the tiny test image, made here from the node's own kernel, and those the site names."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from .report import AgentError, Changes, say
from .rest import Body, Cloud, collection

TAG = "solostack"
CHUNK_BYTES = 1024 * 1024
FETCH_TIMEOUT_S = 60
STAGING = "/var/tmp/solostack-images"  # noqa: S108 (root's, 0700, made by staging)
PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


def ensure_images(cloud: Cloud, request: Body, changes: Changes) -> list[Body]:
    """Make the images be there; return those whose file must first be put on this machine."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        test = pool.submit(_ensure_test_image, cloud, request["test_image"], changes)
        needs = [
            image for image in request["images"] if not _ensure_site_image(cloud, image, changes)
        ]
        test.result()
    return needs


def our_images(cloud: Cloud) -> list[Body]:
    """Return every image with our tag, the hidden ones too."""
    return [
        image
        for hidden in ("false", "true")
        for image in cloud.list("image", "images", tag=TAG, os_hidden=hidden)
    ]


def _survey(cloud: Cloud, name: str, key: str, value: str) -> tuple[bool, list[Body]]:
    """Return whether our image of a name with this property is there, and our older ones.

    Half-uploaded ones, which an interrupted run left, are deleted.
    """
    there, older = False, []
    for image in cloud.list("image", "images", name=name, tag=TAG):
        if image["status"] != "active":
            cloud.delete("image", collection("images", image["id"]))
        elif not there and image.get(key) == value:
            there = True
        else:
            older.append(image)
    return there, older


def _hide(cloud: Cloud, images: list[Body], changes: Changes) -> None:
    # Not deleted: instances may stand on them.
    patch = [{"op": "replace", "path": "/os_hidden", "value": True}]
    for image in images:
        path, headers = collection("images", image["id"]), {"Content-Type": PATCH_TYPE}
        cloud.request("PATCH", "image", path, patch, headers=headers)
        changes.add("image", f"{image['name']} ({image['id']})", "hidden")


def _ensure_test_image(cloud: Cloud, wanted: Body | None, changes: Changes) -> None:
    if wanted is None:
        return
    name = wanted["name"]
    there, older = _survey(cloud, name, "solostack_recipe", wanted["recipe"])
    if not there:
        _make_test_image(cloud, wanted)
    changes.add("image", name, "unchanged" if there else "created")
    _hide(cloud, older, changes)


def _make_test_image(cloud: Cloud, wanted: Body) -> None:
    name = wanted["name"]
    say(f"image {name}: building")
    tiny = importlib.import_module("tiny")  # came along with the call
    try:
        built = tiny.build_tiny_image(Path(wanted["kernel_tree"]), Path(wanted["busybox"]))
    except (tiny.TinyImageError, OSError) as error:
        raise AgentError(
            f"cannot build the test image: {error}",
            hint="on the controller: apt-get install linux-image-cloud-amd64 busybox-static",
        ) from error
    kernel = _upload(cloud, _plain(f"{name}-kernel", "aki", wanted), built.kernel)
    ramdisk = _upload(cloud, _plain(f"{name}-ramdisk", "ari", wanted), built.initramfs)
    properties = {
        **_plain(name, "raw", wanted),
        "container_format": "bare",
        "os_hidden": False,
        "kernel_id": kernel,
        "ramdisk_id": ramdisk,
        "os_command_line": tiny.COMMAND_LINE,
        "min_ram": 96,
    }
    _upload(cloud, properties, built.disk)


def _plain(name: str, kind: str, wanted: Body) -> Body:
    return {
        "name": name,
        "disk_format": kind,
        "container_format": kind,
        "visibility": "public",
        "os_hidden": True,
        "tags": [TAG],
        "solostack_recipe": wanted["recipe"],
    }


def _ensure_site_image(cloud: Cloud, wanted: Body, changes: Changes) -> bool:
    """Make one image of the site be there; False when its file is not on this machine yet."""
    name = wanted["name"]
    there, older = _survey(cloud, name, "solostack_sha256", wanted["sha256"])
    if there:
        changes.add("image", name, "unchanged")
        _hide(cloud, older, changes)
        return True
    staged = Path(STAGING) / wanted["sha256"]
    if not staged.exists() and not wanted["fetch"]:
        return False
    properties = {
        "name": name,
        "disk_format": wanted["disk_format"],
        "container_format": "bare",
        "visibility": "public",
        "tags": [TAG],
        "min_disk": wanted["min_disk_gib"],
        "solostack_sha256": wanted["sha256"],
    }
    with _file(wanted, staged) as source:
        _upload(cloud, properties, source)
    staged.unlink(missing_ok=True)
    changes.add("image", name, "created")
    _hide(cloud, older, changes)
    return True


def _upload(cloud: Cloud, properties: Body, data: bytes | BinaryIO) -> str:
    name = properties["name"]
    say(f"image {name}: uploading")
    image_id = str(cloud.request("POST", "image", "/images", properties)["id"])
    uploaded = False
    try:
        cloud.request(
            "PUT",
            "image",
            collection("images", image_id, "file"),
            data=data,
            headers={"Content-Type": "application/octet-stream"},
        )
        uploaded = True
    finally:
        if not uploaded:
            cloud.delete("image", collection("images", image_id))
    return image_id


@contextlib.contextmanager
def _file(wanted: Body, staged: Path) -> Iterator[BinaryIO]:
    if staged.exists():
        with staged.open("rb") as source:
            _check(wanted, _digest(source, wanted["name"]))
            source.seek(0)
            yield source
        return
    Path(STAGING).mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=STAGING) as source:
        _check(wanted, _fetch(wanted, source))
        source.seek(0)
        yield source


def _fetch(wanted: Body, target: Any) -> str:  # noqa: ANN401 (a binary file)
    digest = hashlib.sha256()
    url = wanted["source"]
    try:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK_BYTES):
                target.write(chunk)
                digest.update(chunk)
                say(f"image {wanted['name']}: {_progress(target.tell(), total)}")
    except (OSError, ValueError) as error:
        raise AgentError(
            f"image {wanted['name']}: cannot fetch {url}: {error}",
            hint="fetch it yourself and give its path on the host as source",
        ) from error
    return digest.hexdigest()


def _progress(done: int, total: int) -> str:
    share = f" of {total // CHUNK_BYTES}" if total else ""
    return f"{done // CHUNK_BYTES}{share} MiB"


def _digest(source: BufferedReader, name: str) -> str:
    say(f"image {name}: checking")
    return hashlib.file_digest(source, "sha256").hexdigest()


def _check(wanted: Body, actual: str) -> None:
    if actual != wanted["sha256"]:
        raise AgentError(
            f"image {wanted['name']}: the file's sha256 is {actual}, not {wanted['sha256']}",
            hint="correct sha256 in the site file, or get the right file",
        )
