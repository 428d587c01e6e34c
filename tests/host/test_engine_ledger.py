"""The ledger: whatever was applied, finished or killed half-way, undo gives back what was."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solostack.engine.apply import Report
from solostack.engine.operations import (
    Absent,
    Bundle,
    Directory,
    File,
    Line,
    Operation,
    Step,
    phase,
    secret,
)
from solostack.errors import ApplyError
from tests.host.engine_box import Box, agent_pid, open_box, start_agent

pytestmark = pytest.mark.host
JOURNAL = "/var/lib/solostack/ledger/journal.jsonl"
FOLDER = "/srv/t"
PATHS = ("a", "b", "d", "d/x", "d/e", "d/e/y")
MODES = (0o600, 0o644, 0o755, 0o4755)
EXAMPLES = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_box(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Box:
    shared.clear()
    return shared


def bundle(*operations: Operation) -> Bundle:
    return Bundle(target="box", phases=(phase("all", *operations),))


paths = st.sampled_from(PATHS).map(lambda name: f"{FOLDER}/{name}")
texts = st.lists(st.sampled_from(("k=1", "k=2", "j=1", "other")), max_size=4).map("\n".join)
contents = st.tuples(texts, st.sampled_from(("", "\n"))).map("".join)
owners = st.sampled_from(("root", "daemon"))


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    path, mode, owner = draw(paths), draw(st.sampled_from(MODES)), draw(owners)
    key, value = draw(st.sampled_from("kj")), draw(st.integers(1, 3))
    number = draw(st.integers(0, 2))
    return draw(
        st.sampled_from(
            (
                File(path=path, content=draw(contents), mode=mode, owner=owner),
                Directory(path=path, mode=mode, group=owner),
                Line(path=path, line=f"{key}={value}", match=f"^{key}="),
                Absent(path=path),
                Step(
                    name=f"step {number}",
                    run=f"echo {value} >{FOLDER}/step{number}",
                    unless=f"test -e {FOLDER}/step{number}",
                    undo=f"rm -f {FOLDER}/step{number}",
                ),
            )
        )
    )


bundles = st.lists(
    operations(), min_size=1, max_size=8, unique_by=lambda one: getattr(one, "name", one)
).map(lambda found: bundle(*found))
trees = st.dictionaries(
    st.sampled_from(PATHS),
    st.tuples(
        st.sampled_from(("file", "link", "directory")), contents, st.sampled_from(MODES), owners
    ),
    max_size=5,
)


def plant(box: Box, tree: dict[str, tuple[str, str, int, str]]) -> None:
    box.clear()
    box.path(FOLDER).mkdir()
    for name, (kind, content, mode, owner) in sorted(tree.items()):
        path = box.path(f"{FOLDER}/{name}")
        if not path.parent.is_dir() or path.parent.is_symlink():
            continue
        if kind == "file":
            path.write_text(content)
        elif kind == "link":
            path.symlink_to("a")
            continue
        else:
            path.mkdir()
        path.chmod(mode)
        os.chown(path, 0, 1 if owner == "daemon" else 0)
        os.utime(path, ns=(10**18, 10**18))


def apply_quietly(box: Box, wanted: Bundle, *, dry_run: bool = False) -> Report | None:
    """Apply; a random bundle may ask for what cannot be done, which is the half-made case."""
    try:
        return box.apply(wanted, dry_run=dry_run, ledger=True)
    except ApplyError:
        return None


@EXAMPLES
@given(tree=trees, wanted=st.lists(bundles, min_size=1, max_size=2))
def test_undo_gives_back_the_same_tree(
    box: Box, tree: dict[str, tuple[str, str, int, str]], wanted: list[Bundle]
) -> None:
    plant(box, tree)
    before = box.fingerprint(FOLDER)
    for one in wanted:
        apply_quietly(box, one)
    after = box.fingerprint(FOLDER)
    preview = box.undo(dry_run=True)
    assert box.fingerprint(FOLDER) == after
    report = box.undo()
    assert box.fingerprint(FOLDER) == before
    assert preview.changed == report.changed
    assert box.undo().changed == ()


@EXAMPLES
@given(tree=trees, wanted=bundles)
def test_a_second_apply_changes_nothing_and_a_dry_run_tells_the_truth(
    box: Box, tree: dict[str, tuple[str, str, int, str]], wanted: Bundle
) -> None:
    plant(box, tree)
    before = box.fingerprint(FOLDER)
    preview = apply_quietly(box, wanted, dry_run=True)
    assert box.fingerprint(FOLDER) == before
    report = apply_quietly(box, wanted)
    assert (preview and preview.changed) == (report and report.changed)
    # Operations that want different things of one path go back and forth at every apply.
    written = [getattr(one, "path", one) for one in wanted.operations()]
    if report is not None and len(set(written)) == len(written):
        after = box.fingerprint(FOLDER)
        assert box.apply(wanted).changed == ()
        assert box.fingerprint(FOLDER) == after


def many() -> Bundle:
    files = [
        operation
        for number in range(60)
        for operation in (
            File(path=f"{FOLDER}/d{number % 7}/f{number}", content="new\n" * number),
            Line(path=f"{FOLDER}/hosts", line=f"{number} node{number}", match=f"node{number}$"),
            File(path=f"{FOLDER}/old", content=f"{number}\n", mode=0o600),
        )
    ]
    return bundle(*files)


def test_killed_at_any_moment_undo_gives_back_the_same_tree(box: Box) -> None:
    for round_number in range(12):
        plant(box, {"a": ("file", "k=1\n", 0o644, "daemon")})
        box.shell(f"echo old >{FOLDER}/old; echo host >{FOLDER}/hosts; mkdir {FOLDER}/d1")
        before = box.fingerprint(FOLDER)
        with start_agent(box, many(), ledger=True) as process:
            assert process.stdout is not None
            for _ in range(1 + round_number * 30):
                process.stdout.readline()
            os.kill(agent_pid(process), signal.SIGKILL)
        if round_number % 2:
            box.apply(many(), ledger=True)
        box.undo()
        assert box.fingerprint(FOLDER) == before, round_number


def test_a_killed_undo_goes_on(box: Box) -> None:
    for round_number in range(5):
        plant(box, {"a": ("file", "k=1\n", 0o644, "daemon")})
        before = box.fingerprint(FOLDER)
        box.apply(many(), ledger=True)
        with start_agent(box, bundle(), ledger=True, mode=("undo",)) as process:
            assert process.stdout is not None
            for _ in range(1 + round_number * 40):
                process.stdout.readline()
            os.kill(agent_pid(process), signal.SIGKILL)
        box.undo()
        assert box.fingerprint(FOLDER) == before, round_number


def test_an_undo_whose_connection_ends_finishes_what_it_is_at(box: Box) -> None:
    plant(box, {})
    before = box.fingerprint(FOLDER)
    step = Step(name="mark", run=f"touch {FOLDER}/mark", undo=f"sleep 1; rm {FOLDER}/mark")
    box.apply(bundle(File(path=f"{FOLDER}/a", content="a"), step), ledger=True)
    with start_agent(box, bundle(), ledger=True, mode=("undo",)) as process:
        assert process.stdout is not None
        assert b"undo step mark" in process.stdout.readline()
        process.stdout.close()
    assert (box.path(f"{FOLDER}/mark").exists(), box.path(f"{FOLDER}/a").exists()) == (False, True)
    assert box.undo().changed == (f"undo path {FOLDER}/a",)
    assert box.fingerprint(FOLDER) == before


def test_a_journal_cut_off_by_a_power_cut_is_read_and_continued(box: Box) -> None:
    plant(box, {})
    before = box.fingerprint(FOLDER)
    box.apply(bundle(File(path=f"{FOLDER}/a", content="a")), ledger=True)
    with box.path(JOURNAL).open("a") as journal:
        journal.write('{"id": 2, "kind": "pa')
    box.apply(bundle(File(path=f"{FOLDER}/b", content="b")), ledger=True)
    box.undo()
    assert box.fingerprint(FOLDER) == before


def test_the_first_state_is_kept_over_many_applies(box: Box) -> None:
    plant(box, {"a": ("file", "first\n", 0o600, "daemon")})
    before = box.fingerprint(FOLDER)
    for number in range(3):
        box.apply(bundle(File(path=f"{FOLDER}/a", content=f"{number}\n")), ledger=True)
    assert len(box.path(JOURNAL).read_text().splitlines()) == 1
    box.undo()
    assert box.fingerprint(FOLDER) == before


def test_a_line_is_taken_back_without_what_others_wrote_since(box: Box) -> None:
    plant(box, {})
    box.shell(f"printf 'one\\nkey=1\\nthree\\n' >{FOLDER}/a")
    wanted = bundle(
        Line(path=f"{FOLDER}/a", line="key=2", match="^key="),
        Line(path=f"{FOLDER}/a", line="more=1", match="^more="),
    )
    box.apply(wanted, ledger=True)
    box.shell(f"echo theirs >>{FOLDER}/a")
    box.undo()
    assert box.path(f"{FOLDER}/a").read_text() == "one\nkey=1\nthree\ntheirs\n"


def test_a_directory_with_somebody_elses_files_is_kept(box: Box) -> None:
    plant(box, {})
    box.apply(bundle(File(path=f"{FOLDER}/new/a", content="a")), ledger=True)
    box.shell(f"touch {FOLDER}/new/theirs")
    report = box.undo()
    assert box.shell(f"ls {FOLDER}/new") == "theirs\n"
    assert report.changed == (f"undo path {FOLDER}/new/a",)


def test_what_fails_is_said_and_stays_in_the_ledger(box: Box) -> None:
    plant(box, {})
    before = box.fingerprint(FOLDER)
    step = Step(
        name="mark",
        run=f"echo {secret('key')} >{FOLDER}/mark",
        undo=f"echo {secret('key')}; test -e /srv/allowed; rm {FOLDER}/mark",
    )
    wanted = bundle(File(path=f"{FOLDER}/a", content="a"), step)
    box.apply(wanted, {"key": "Zq7hunter2"}, ledger=True)
    with pytest.raises(ApplyError) as caught:
        box.undo()
    assert "undo step mark" in caught.value.message
    assert caught.value.details == ("***",)
    assert not box.path(f"{FOLDER}/a").exists()
    box.shell("touch /srv/allowed")
    assert box.undo().changed == ("undo step mark",)
    assert box.fingerprint(FOLDER) == before


def test_what_a_failed_undo_runs_stays_until_it_has_worked(box: Box) -> None:
    plant(box, {})
    before = box.fingerprint(FOLDER)
    script = File(path=f"{FOLDER}/script", content="test -e /srv/ready\n", mode=0o755)
    step = Step(name="mark", run="true", undo=f"[ ! -x {FOLDER}/script ] || sh {FOLDER}/script")
    other = File(path=f"{FOLDER}/other", content="a")
    box.apply(bundle(other, script, step), ledger=True)
    for _ in range(2):
        with pytest.raises(ApplyError, match="undo step mark"):
            box.undo()
        assert (box.path(script.path).exists(), box.path(other.path).exists()) == (True, False)
    box.shell("touch /srv/ready")
    assert box.undo().changed == ("undo step mark", f"undo path {script.path}")
    assert box.fingerprint(FOLDER) == before


def test_the_ledger_is_private_and_put_away_at_the_end(box: Box) -> None:
    plant(box, {"a": ("file", "secret\n", 0o600, "root")})
    box.apply(bundle(File(path=f"{FOLDER}/a", content="b")), ledger=True)
    listing = box.shell("find /var/lib/solostack/ledger -printf '%m %y\\n' | sort -u")
    assert listing == "600 f\n700 d\n"
    stamp = time.strftime("%Y")
    box.undo()
    assert not box.path(JOURNAL).exists()
    archived = list(box.path("/var/lib/solostack/ledger/archive").glob(f"{stamp}*/journal.jsonl"))
    assert len(archived) == 1


def test_without_a_ledger_nothing_is_kept(box: Box) -> None:
    plant(box, {})
    box.apply(bundle(File(path=f"{FOLDER}/a", content="a")))
    assert not box.path("/var/lib/solostack").exists()
    assert box.undo().changed == ()
