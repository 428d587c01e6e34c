"""Work side by side, ended together: threads whose first failure or Ctrl-C stops the rest."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from solostack.doors import process

STOP_INTERVAL_S = 0.5
Result = TypeVar("Result")


def run_together(
    works: Sequence[Callable[[], Result]], *, at_once: int | None = None
) -> list[Result]:
    """Run every callable in a thread and return their results in order.

    All run at the same time, or at_once of them; the others begin in order as those end.

    The first failure, or Ctrl-C, ends every command that still runs, and is raised when all have
    ended: whatever runs here can be run again.
    """
    if not works:
        return []
    failures: list[BaseException] = []

    def begin(work: Callable[[], Result]) -> Result:
        if failures:
            raise concurrent.futures.CancelledError
        try:
            return work()
        except BaseException as error:
            failures.append(error)
            raise

    with concurrent.futures.ThreadPoolExecutor(max_workers=at_once or len(works)) as pool:
        futures = [pool.submit(begin, work) for work in works]
        try:
            _, left = concurrent.futures.wait(
                futures, return_when=concurrent.futures.FIRST_EXCEPTION
            )
        except KeyboardInterrupt as interrupt:
            failures.append(interrupt)
            _stop(futures)
            raise
        if failures:
            _stop(left)
            raise failures[0]
        return [future.result() for future in futures]


def _stop(futures: Iterable[concurrent.futures.Future[Result]]) -> None:
    left = set(futures)
    while left:
        # Again and again: a work may be just about to start its next command.
        process.stop_all()
        left = concurrent.futures.wait(left, timeout=STOP_INTERVAL_S).not_done
