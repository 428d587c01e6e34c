"""The progress door: what is recorded, and what an implementation is told."""

from __future__ import annotations

import threading

import pytest

from solostack.doors.clock import FakeClock
from solostack.doors.progress import Progress, Timing


class Recorder(Progress):
    """Writes down every call, and whether the door's lock was held."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.calls: list[tuple[object, ...]] = []

    def on_announce(self, titles: tuple[str, ...]) -> None:
        self.calls.append(("announce", *titles))

    def on_start(self, path: tuple[str, ...]) -> None:
        self.calls.append(("start", *path))

    def on_say(self, path: tuple[str, ...], text: str) -> None:
        self.calls.append(("say", *path, text))

    def on_note(self, path: tuple[str, ...], text: str) -> None:
        self.calls.append(("note", *path, text))

    def on_end(self, timing: Timing) -> None:
        self.calls.append(("end", *timing.path, timing.duration_s, timing.failed))


def test_steps_nest_and_are_timed() -> None:
    clock = FakeClock()
    progress = Recorder(clock)

    progress.announce(["bake", "seed"])
    with progress.step("bake") as step:
        step.say("starting")
        with step.step("controller") as part:
            clock.sleep(2)
            part.note("cached")
        clock.sleep(1)

    assert progress.calls == [
        ("announce", "bake", "seed"),
        ("start", "bake"),
        ("say", "bake", "starting"),
        ("start", "bake", "controller"),
        ("note", "bake", "controller", "cached"),
        ("end", "bake", "controller", 2.0, False),
        ("end", "bake", 3.0, False),
    ]
    assert [timing.path for timing in progress.timings] == [("bake", "controller"), ("bake",)]


def test_what_ran_elsewhere_is_kept_under_its_step() -> None:
    progress = Recorder(FakeClock())

    with progress.step("configure") as step:
        step.record("nova", 12.5)

    assert [(one.path, one.duration_s) for one in progress.timings] == [
        (("configure", "nova"), 12.5),
        (("configure",), 0.0),
    ]
    assert [call[0] for call in progress.calls] == ["start", "end"], "nothing is shown for it"


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit()])
def test_a_step_that_is_left_by_any_exception_has_failed(error: BaseException) -> None:
    progress = Recorder(FakeClock())

    with pytest.raises(type(error)), progress.step("seed") as step, step.step("keystone"):
        raise error

    assert [(timing.path, timing.failed) for timing in progress.timings] == [
        (("seed", "keystone"), True),
        (("seed",), True),
    ]


def test_steps_of_many_threads_are_all_recorded() -> None:
    progress = Recorder(FakeClock())

    def work(name: str) -> None:
        with progress.step(name) as step:
            for number in range(50):
                with step.step(str(number)) as part:
                    part.say("on it")

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert len(progress.timings) == 8 * 51
    assert len(progress.calls) == 8 * (2 + 50 * 3)
