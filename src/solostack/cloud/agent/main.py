"""The agent's entry: read the request out of our own archive, act, tell how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .addresses import address_holders, address_move, address_start
from .closing import close_cloud, verify_cleanup
from .directory import verify_directory
from .objects import verify_storage
from .opening import open_cloud
from .proving import verify_start
from .report import AgentError, Wait, emit
from .rest import Body
from .servers import console, create_server, delete_server
from .status import status
from .volumes import verify_volumes

LOCK = Path("/run/solostack-cloud.lock")
LOCK_TIMEOUT_S = 120
READING: dict[str, Callable[[Body], Body]] = {
    "status": status,
    "console": console,
    "address_holders": address_holders,
}
CHANGING: dict[str, Callable[[Body], Body]] = {
    "open": open_cloud,
    "create_server": create_server,
    "delete_server": delete_server,
    "close": close_cloud,
    "verify_start": verify_start,
    "verify_storage": verify_storage,
    "verify_volumes": verify_volumes,
    "verify_cleanup": verify_cleanup,
    "verify_directory": verify_directory,
    "address_start": address_start,
    "address_move": address_move,
}


def main() -> int:
    """Run the action of request.json; the exit status is 0 with a result, else 1."""
    with zipfile.ZipFile(sys.path[0]) as archive:
        request: Body = json.loads(archive.read("request.json"))
    try:
        emit("result", result=_act(request))
    except AgentError as error:
        emit("error", message=error.message, hint=error.hint)
        return 1
    except BrokenPipeError:
        # Nobody listens; and nothing more may be written when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _act(request: Body) -> Body:
    action = request["action"]
    if action in READING:
        return READING[action](request)
    with _alone():
        return CHANGING[action](request)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    # The agent of a solostack that was killed works on until it has something to say.
    with LOCK.open("w") as handle:
        wait = Wait(LOCK_TIMEOUT_S)
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if not wait.left("waiting for another solostack that works on the cloud"):
                    raise AgentError(
                        "another solostack works on the cloud",
                        hint="wait for it to end, then run the same command again",
                    ) from error
            else:
                break
        yield
