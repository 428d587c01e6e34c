"""Work side by side, ended together: threads whose first failure or Ctrl-C stops the rest."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from solostack.doors import process

STOP_INTERVAL_S = 0.5
Result = TypeVar("Result")


def run_together(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run every callable in a thread of its own and return their results in order.

    The first failure, or Ctrl-C, ends every command that still runs, and is raised when all have
    ended: whatever runs here can be run again.
    """
    if not works:
        return []
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(works)) as pool:
        futures = [pool.submit(work) for work in works]
        try:
            done, left = concurrent.futures.wait(
                futures, return_when=concurrent.futures.FIRST_EXCEPTION
            )
        except KeyboardInterrupt:
            _stop(futures)
            raise
        failed = next((future for future in futures if future in done and future.exception()), None)
        if failed is not None:
            _stop(left)
        return [future.result() for future in ((failed,) if failed else futures)]


def _stop(futures: Iterable[concurrent.futures.Future[Result]]) -> None:
    left = set(futures)
    while left:
        # Again and again: a work may be just about to start its next command.
        process.stop_all()
        left = concurrent.futures.wait(left, timeout=STOP_INTERVAL_S).not_done
