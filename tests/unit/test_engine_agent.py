"""The agent's decisions, without a machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.engine.agent.diff import render_diff
from solostack.engine.agent.files import FILE, LINK, NOTHING, State
from solostack.engine.agent.pending import is_watched
from solostack.engine.agent.report import Reporter
from solostack.engine.agent.runner import label_of, resolve
from solostack.engine.agent.tree import edit_line
from solostack.engine.agent.units import PROPERTIES, describe, is_running, plan_actions

lines = st.lists(st.text(alphabet="ab=\r\t", max_size=5), max_size=6)


@given(lines=lines, end=st.sampled_from(("", "\n")))
def test_an_edited_line_is_found_again_and_the_rest_is_left(lines: list[str], end: str) -> None:
    text = "\n".join(lines) + end
    old, edited = edit_line(text, "^a=", "a=9")
    assert edit_line(edited, "^a=", "a=9") == ("a=9", edited)
    before, after = text.split("\n"), edited.split("\n")
    if old is None:
        assert edited == text + ("\n" if text and not text.endswith("\n") else "") + "a=9\n"
    else:
        place = before.index(old)
        assert after == [*before[:place], "a=9", *before[place + 1 :]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "k=1\n"),
        ("x", "x\nk=1\n"),
        ("x\n", "x\nk=1\n"),
        ("k=0\nk=5\n", "k=1\nk=5\n"),
        ("#k=0", "k=1"),
    ],
)
def test_edit_line(before: str, after: str) -> None:
    assert edit_line(before, "^#?k=", "k=1")[1] == after


def test_redaction_takes_the_longest_secret_first_and_lines_of_keys() -> None:
    reporter = Reporter(["abc", "abcdef", "-----BEGIN-----\nMIIEpAIBAAKCAQEA\n--\n", ""])
    assert reporter.redact("x abcdef abc") == "x *** ***"
    assert reporter.redact("got MIIEpAIBAAKCAQEA and --") == "got *** and --"


def test_a_watched_folder_covers_what_is_below_it() -> None:
    assert is_watched("/etc/a/b", ("/etc/a",))
    assert is_watched("/etc/a/b", ("/etc/a/",))
    assert is_watched("/etc/a", ("/etc/a",))
    assert not is_watched("/etc/ab", ("/etc/a",))


def state(**properties: str) -> dict[str, str]:
    base = dict.fromkeys(PROPERTIES, "")
    base.update(
        ActiveState="inactive",
        UnitFileState="disabled",
        LoadState="loaded",
        Result="success",
        Type="simple",
    )
    return {**base, **properties}


UNIT: dict[str, Any] = {
    "name": "a.service",
    "enabled": True,
    "running": True,
    "reload": False,
    "masked": False,
}
ACTIVE = {"ActiveState": "active", "UnitFileState": "enabled"}


@pytest.mark.parametrize(
    ("wanted", "properties", "due", "actions"),
    [
        ({}, {}, False, ("enable", "start")),
        ({}, ACTIVE, False, ()),
        ({}, ACTIVE, True, ("restart",)),
        ({"reload": True}, ACTIVE, True, ("reload",)),
        ({"reload": True}, {}, True, ("enable", "start")),
        ({}, {"ActiveState": "activating", "SubState": "auto-restart"}, True, ("enable", "start")),
        ({}, {"UnitFileState": "masked"}, False, ("unmask", "enable", "start")),
        ({}, {**ACTIVE, "UnitFileState": "static"}, False, ()),
        ({}, {**ACTIVE, "UnitFileState": "enabled-runtime"}, False, ("enable",)),
        ({"enabled": None}, {"ActiveState": "failed"}, False, ("start",)),
        ({"enabled": None, "running": False}, ACTIVE, True, ("stop",)),
        ({"enabled": False, "running": False}, ACTIVE, False, ("disable", "stop")),
        ({"enabled": False, "running": False}, {}, True, ()),
        ({"enabled": None, "running": False}, {"UnitFileState": "masked"}, False, ()),
        ({"masked": True}, ACTIVE, True, ("stop", "mask")),
        ({"masked": True}, {"UnitFileState": "masked"}, True, ()),
    ],
)
def test_the_verbs_that_take_a_unit_where_it_should_be(
    wanted: dict[str, object], properties: dict[str, str], due: bool, actions: tuple[str, ...]
) -> None:
    assert plan_actions({**UNIT, **wanted}, state(**properties), due=due) == actions


def test_a_one_shot_that_has_run_is_up() -> None:
    done = {"Type": "oneshot", "RemainAfterExit": "no", "InactiveEnterTimestamp": "Mon"}
    assert is_running(state(**done))
    assert not is_running(state(**{**done, "InactiveEnterTimestamp": ""}))
    assert not is_running(state(**{**done, "Result": "exit-code"}))


def test_a_crash_loop_is_described() -> None:
    looping = state(
        ActiveState="activating", SubState="auto-restart", Result="exit-code", NRestarts="7"
    )
    assert not is_running(looping)
    assert describe(looping) == "activating (auto-restart), result exit-code, 7 restarts"


def test_labels() -> None:
    assert label_of({"kind": "Packages", "names": list("abcdef")}) == "packages a b c d and 2 more"
    assert label_of({"kind": "File", "path": "/a"}) == "file /a"
    assert label_of({"kind": "Step", "name": "migrate"}) == "step migrate"


def test_secrets_are_put_in_and_the_operation_remembers_it() -> None:
    resolved = resolve({"kind": "File", "content": "x=@@secret:a@@"}, {"a": "1", "b": "2"})
    assert resolved["content"] == "x=1"
    assert resolved["holds_secrets"] is True
    assert resolve({"kind": "File", "content": "x"}, {"a": "1"})["holds_secrets"] is False


def file(content: str, mode: int = 0o644) -> State:
    return State(FILE, content=content.encode(), mode=mode)


def test_a_diff_of_public_text_is_whole_and_of_private_text_hides_what_is_there() -> None:
    new = file("a\nC\n")
    assert "-b\n" in render_diff("/x", file("a\nb\n"), new, private=False)
    for old, private in ((file("a\nb\n"), True), (file("a\nb\n", 0o640), False)):
        shown = render_diff("/x", old, new, private=private)
        assert "+C\n" in shown
        assert "b\n" not in shown
        assert "not shown" in shown
    assert render_diff("/x", NOTHING, new, private=True).startswith("--- /dev/null\n+++ /x\n")
    assert "-> /y" in render_diff("/x", State(LINK, target="/y"), new, private=False)
    assert "(binary)" in render_diff("/x", file("\0"), new, private=False)
