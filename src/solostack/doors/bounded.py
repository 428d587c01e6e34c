"""Calls that may never come back, made in a thread that nobody has to wait for.

Python cannot take back a call into a C library. It can stop waiting for it.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Run work in a daemon thread: one that never ends does not keep the process alive.

    An executor's threads would be waited for at the interpreter's end, so they cannot be used.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits for it)
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="libvirt", daemon=True).start()
    return future
