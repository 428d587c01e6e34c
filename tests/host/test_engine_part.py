"""A partial undo with the real agent: the rest stays open, and comes later or again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from solostack.doors.process import clean_environment
from solostack.doors.progress import Progress
from solostack.engine.apply import BOOT, Report, undo_ledger
from solostack.engine.bundle import Part, labels, pack_undo
from solostack.engine.operations import Bundle, Directory, File, Line, Phase, Step, phase
from solostack.errors import ApplyError
from tests.host.engine_box import Box, agent_pid, open_box

pytestmark = pytest.mark.host
LEDGER = "/var/lib/solostack/ledger"
JOURNAL = f"{LEDGER}/journal.jsonl"
FOLDER = "/srv/t"


def step(name: str) -> Step:
    mark = f"{FOLDER}/lib/mark-{name}"
    script = f"{FOLDER}/lib/{name}"
    return Step(name=name, run=f"touch {mark}", undo=f"sh {script} && rm -f {mark}")


def script(name: str) -> File:
    return File(path=f"{FOLDER}/lib/{name}", content=f"echo {name} >>{FOLDER}.log\n", mode=0o755)


BASE = phase("base", Directory(path=f"{FOLDER}/lib"), script("guard"), step("guard"))
WAY = phase(
    "uplink", script("uplink"), step("uplink"), File(path=f"{FOLDER}/own", content="ours\n")
)
LATER = phase(
    "compute",
    Line(path=f"{FOLDER}/lines", line="b=2", match="^b="),
    script("compute"),
    step("compute"),
    File(path=f"{FOLDER}/new/file", content="x"),
)
MORE = phase("base", script("guard2"), step("guard2"), File(path=f"{FOLDER}/new/base", content="x"))
PARTS = (
    Part(newer_than=labels([WAY]), but=labels([BASE, MORE, WAY])),
    Part(only=labels([WAY])),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_box(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Box:
    shared.clear()
    shared.shell(
        f"mkdir {FOLDER}; echo theirs >{FOLDER}/own; chmod 640 {FOLDER}/own\n"
        f"echo b=1 >{FOLDER}/lines"
    )
    return shared


def make(box: Box, *phases: Phase) -> None:
    box.apply(Bundle(target="box", phases=phases), ledger=True)


def undo(box: Box, part: Part | None = None, *, dry_run: bool = False) -> Report:
    with Progress().step("undo") as inner:
        return undo_ledger(box.executor, step=inner, part=part, dry_run=dry_run)


def killed(box: Box, part: Part, lines: int) -> None:
    """Start a partial undo and kill it after so many of its events, if it still runs then."""
    archive = box.path("/tmp/archive")
    archive.write_bytes(pack_undo(part))
    argv = (*box.prefix, "python3", "-I", "-S", "-c", BOOT, "undo")
    with archive.open("rb") as source:
        process = subprocess.Popen(
            argv, stdin=source, stdout=subprocess.PIPE, env=clean_environment()
        )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline()
        pid = agent_pid(process)
        for _ in range(lines - 1):
            process.stdout.readline()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("again", [False, True], ids=["made at once", "and changed later"])
def test_parts_and_then_the_rest_give_back_what_was(box: Box, *, again: bool) -> None:
    before = box.fingerprint(FOLDER)
    make(box, BASE, WAY, LATER)
    if again:
        make(box, MORE)
    made = box.fingerprint(FOLDER)

    assert undo(box, PARTS[0], dry_run=True).changed
    assert undo(box, PARTS[1], dry_run=True).changed
    assert box.fingerprint(FOLDER) == made
    undo(box, PARTS[0])

    left = box.fingerprint(FOLDER)
    gone = {"lib/compute", "lib/mark-compute", "new/file"} | (set() if again else {"new"})
    assert set(made) - set(left) == gone
    assert box.path(f"{FOLDER}/lines").read_text() == "b=1\n"
    assert box.path(JOURNAL).exists()

    undo(box, PARTS[1])

    assert set(left) - set(box.fingerprint(FOLDER)) == {"lib/uplink", "lib/mark-uplink"}
    assert box.path(f"{FOLDER}/own").read_text() == "theirs\n"
    assert undo(box, PARTS[0]).changed == undo(box, PARTS[1]).changed == ()
    undo(box)

    assert box.fingerprint(FOLDER) == before
    assert not box.path(JOURNAL).exists()
    ended = ["compute", "uplink", *(["guard2"] if again else []), "guard"]
    assert box.path(f"{FOLDER}.log").read_text().split() == ended
    assert undo(box).changed == ()


def test_killed_anywhere_it_goes_on(box: Box) -> None:
    before = box.fingerprint(FOLDER)
    for lines in range(1, 8):
        make(box, BASE, WAY, LATER)
        killed(box, PARTS[0], lines)
        undo(box, PARTS[0])
        killed(box, PARTS[1], lines)
        if lines % 2:
            undo(box, PARTS[1])
        undo(box)
        assert box.fingerprint(FOLDER) == before, lines


def test_with_the_journal_of_before_its_records_are_open_again(box: Box) -> None:
    """So does the guard: it puts back files, the journal among them, and starts what ran."""
    before = box.fingerprint(FOLDER)
    make(box, BASE, WAY, LATER)
    undo(box, PARTS[0])
    contents = set(box.path(f"{LEDGER}/blobs").iterdir())
    box.shell(f"cp -a {FOLDER} {FOLDER}.kept; cp -a {JOURNAL} {FOLDER}.journal")
    undo(box, PARTS[1])
    assert not undo(box, PARTS[1], dry_run=True).changed

    box.shell(f"cp -a {FOLDER}.kept/. {FOLDER}/; cp -a {FOLDER}.journal {JOURNAL}")

    assert set(box.path(f"{LEDGER}/blobs").iterdir()) == contents
    assert "undo step uplink" in undo(box, PARTS[1], dry_run=True).changed
    assert not undo(box, PARTS[0]).changed
    undo(box, PARTS[1])
    undo(box)
    assert box.fingerprint(FOLDER) == before


def test_what_fails_in_a_part_is_tried_again_with_all_it_runs(box: Box) -> None:
    before = box.fingerprint(FOLDER)
    make(box, BASE, WAY, LATER)
    box.shell(f"mv {FOLDER}/lib/compute {FOLDER}/lib/compute.away")
    with pytest.raises(ApplyError, match="undo step compute"):
        undo(box, PARTS[0])
    undo(box, PARTS[1])
    box.shell(f"mv {FOLDER}/lib/compute.away {FOLDER}/lib/compute")
    undo(box)
    assert box.fingerprint(FOLDER) == before


def test_a_part_leaves_what_the_undo_of_the_rest_runs(box: Box) -> None:
    tail = phase("rest", Step(name="tail", run="true", undo=f"sh {FOLDER}/lib/uplink"))
    make(box, BASE, WAY, tail)
    undo(box, PARTS[1])
    assert box.path(f"{FOLDER}/lib/uplink").exists()
    undo(box)
    assert not box.path(f"{FOLDER}/lib").exists()
