"""Packing: deterministic, complete, and strict about what cannot mean what it says."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from solostack.engine.bundle import digest, pack, secret_names
from solostack.engine.operations import (
    Absent,
    Bundle,
    Directory,
    File,
    Lane,
    Line,
    Operation,
    Packages,
    Phase,
    Step,
    Unit,
    phase,
    secret,
)
from solostack.errors import StateError

FULL = Bundle(
    target="node",
    phases=(
        phase("packages", Packages(names=("a", "b"))),
        phase(
            "files",
            File(path="/etc/a", content=f"pw = {secret('db')}", mode=0o600),
            Directory(path="/srv/a"),
            Line(path="/etc/hosts", line="1.2.3.4 x", match="x$"),
            Absent(path="/etc/b"),
            Step(name="s", run=f"echo {secret('key')}", unless="true"),
        ),
        phase("units", Unit(name="a.service", restart_on=("/etc/a",))),
    ),
)
VALUES = {"db": "dbvalue", "key": "keyvalue", "other": "othervalue"}


def content(archive: bytes) -> dict[str, object]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        found: dict[str, object] = json.loads(opened.read("bundle.json"))
    return found


def test_equal_input_gives_equal_bytes() -> None:
    assert pack(FULL, VALUES) == pack(FULL, dict(reversed(VALUES.items())))


def test_only_named_secrets_are_shipped_and_apart_from_the_text() -> None:
    found = content(pack(FULL, VALUES))
    assert found["secrets"] == {"db": "dbvalue", "key": "keyvalue"}
    assert "dbvalue" not in json.dumps(found["phases"])
    assert secret_names(FULL) == {"db", "key"}


def test_an_unknown_secret_is_an_error_that_names_it() -> None:
    with pytest.raises(StateError, match="db, key"):
        pack(FULL, {})


def test_the_archive_holds_the_agent() -> None:
    with zipfile.ZipFile(io.BytesIO(pack(FULL, VALUES))) as opened:
        names = set(opened.namelist())
    assert {"__main__.py", "bundle.json", "agent/main.py", "agent/__init__.py"} <= names


def test_the_digest_follows_the_content_and_not_the_secrets() -> None:
    changed = Bundle(target="node", phases=FULL.phases[:2])
    assert digest(FULL) != digest(changed)
    assert len(digest(FULL)) == 64


def refuse(*phases: Phase) -> str:
    with pytest.raises(ValueError) as caught:
        pack(Bundle(target="node", phases=phases), {})
    return str(caught.value)


CONF = File(path="/etc/app/a.conf", content="")
UNIT = Unit(name="a.service", restart_on=("/etc/app",))


def lanes(*each: Operation) -> Phase:
    return Phase(
        name="p",
        lanes=tuple(Lane(name=str(n), operations=(one,)) for n, one in enumerate(each)),
    )


def test_a_watched_path_must_not_be_written_after_its_watcher() -> None:
    assert "written later" in refuse(phase("p", UNIT, CONF))
    assert "written later" in refuse(phase("p", UNIT), phase("q", CONF))
    assert "written later" in refuse(lanes(CONF, UNIT))
    step = Step(name="s", run="true", when_changed=("/etc/app/a.conf",))
    assert "s watches" in refuse(phase("p", step, CONF))
    pack(Bundle(target="n", phases=(phase("p", CONF, UNIT),)), {})
    pack(Bundle(target="n", phases=(phase("p", UNIT, CONF), phase("q", UNIT))), {})


def test_lanes_of_a_phase_must_not_write_the_same_path() -> None:
    assert "two lanes of phase p write /etc/app/a.conf" in refuse(lanes(CONF, CONF))


def test_a_line_must_be_found_by_its_own_expression() -> None:
    assert "misses" in refuse(phase("p", Line(path="/etc/a", line="b=1", match="^a=")))


@pytest.mark.parametrize("path", ["etc/a", "/etc/../a", "/etc/a/", "/etc//a"])
def test_paths_are_plain_and_absolute(path: str) -> None:
    assert "plain absolute path" in refuse(phase("p", Absent(path=path)))


def test_step_names_are_unique() -> None:
    step = Step(name="same", run="true")
    assert "two steps are called 'same'" in refuse(phase("p", step, step))
