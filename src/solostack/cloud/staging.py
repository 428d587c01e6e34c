"""Bring an image's file from where it is to the controller, whatever lies between the two.

Host and controller need not reach each other: the file goes through the machine solostack runs on,
in pieces, so that its size does not matter for memory.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.errors import CommandError, ImageError

STAGING = "/var/tmp/solostack-images"  # noqa: S108 (root's, 0700; agent.images reads there)
PIECE_MIB = 32
_PIECE = PIECE_MIB << 20
PIECE_TIMEOUT_S = 600.0
FETCH_TIMEOUT_S = 7200.0


def stage_image(
    source: Executor, target: Executor, image: Mapping[str, str], *, step: Step
) -> None:
    """Copy an image's file to the staging folder of target under its sha256.

    image has name, source (a path on the source machine, or a URL that it can fetch) and sha256. A
    copy that was interrupted goes on where it stopped. Raises ImageError when the file is not there
    or is another one.
    """
    name, digest = image["name"], image["sha256"]
    try:
        path = _fetched(source, image, step)
        size = int(source.run(("stat", "-L", "-c", "%s", path)).text)
        _check(source, path, image, step)
        part = f"{STAGING}/{digest}.part"
        target.run(("sh", "-c", f"umask 077; mkdir -p {STAGING}; touch {part}"))
        done = int(target.run(("stat", "-c", "%s", part)).text) // _PIECE * _PIECE
        target.run(("truncate", "-s", str(done), part))
        while done < size:
            step.say(f"image {name}: {done >> 20} of {size >> 20} MiB copied")
            done += _copy_piece(source, path, target, part, number=done // _PIECE)
        target.run(("mv", part, f"{STAGING}/{digest}"))
    except CommandError as error:
        raise ImageError(
            f"image {name}: cannot bring {image['source']} to {target.name}: {error.message}",
            details=error.details,
            hint=f"source must be a file on {source.name}, or a URL that it can fetch",
        ) from error


def _fetched(source: Executor, image: Mapping[str, str], step: Step) -> str:
    url = image["source"]
    if not url.startswith(("http://", "https://")):
        return url
    path = f"{STAGING}/{image['sha256']}.fetched"
    step.say(f"image {image['name']}: fetching on {source.name}")
    script = (
        "umask 077; mkdir -p {folder}; test -e {path} || "
        "{{ curl -fsSL --retry 3 -o {path}.new {url} && mv {path}.new {path}; }}"
    ).format(folder=STAGING, path=shlex.quote(path), url=shlex.quote(url))
    source.run(("sh", "-c", script), timeout_s=FETCH_TIMEOUT_S)
    return path


def _check(source: Executor, path: str, image: Mapping[str, str], step: Step) -> None:
    step.say(f"image {image['name']}: checking")
    actual = source.run(("sha256sum", path), timeout_s=PIECE_TIMEOUT_S).text.split()[0].lstrip("\\")
    if actual != image["sha256"]:
        raise ImageError(
            f"image {image['name']}: the sha256 of {image['source']} is {actual}, "
            f"not {image['sha256']}",
            hint="correct sha256 in the site file, or get the right file",
        )


def _copy_piece(source: Executor, path: str, target: Executor, part: str, *, number: int) -> int:
    reading = ("dd", f"if={path}", "bs=1M", f"skip={number * PIECE_MIB}", f"count={PIECE_MIB}",
               "status=none")  # fmt: skip
    piece = source.run(reading, timeout_s=PIECE_TIMEOUT_S).stdout
    target.run(("sh", "-c", f"cat >>{part}"), stdin=piece, timeout_s=PIECE_TIMEOUT_S)
    return len(piece)
