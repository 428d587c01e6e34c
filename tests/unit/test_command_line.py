"""The command line as a whole: help, wrong words, and the verbs around a site file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer

from solostack.cli import main
from solostack.errors import ExitCode, SiteError, UsageError
from solostack.site.loader import load_site

ANSWERS = ("--address", "203.0.113.2", "--nic", "enp1s0", "--block", "198.51.100.0/28")
FACTS = {
    "name": "phys1",
    "cores": 4,
    "memory_mib": 7800,
    "disk_gib": 200,
    "kvm": True,
    "openvswitch_module": True,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def facts(folder: Path) -> str:
    path = folder / "facts.json"
    path.write_text(json.dumps({"phys1": FACTS}))
    return str(path)


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group, the program itself first."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*words, name))

    return walk(typer.main.get_command(main.build_app()), ())


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_of_every_command_says_what_it_does_with_an_example(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main_inner([*words, "--help"]) == 0

    text = capsys.readouterr().out
    assert text.startswith(f"Usage: {' '.join(('solostack', *words))}")
    assert "Examples:" in text
    assert " ".join(("solostack", *words)) in text.partition("Examples:")[2]
    too_wide = [line for line in text.splitlines() if len(line) > 100]
    assert not too_wide


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main_inner([]) == 0
    assert capsys.readouterr().out.startswith("Usage: solostack")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main_inner(["--version"]) == 0
    assert capsys.readouterr().out.startswith("solostack 0.")


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["pln"], "No such command 'pln'. Did you mean 'plan'?", "see solostack --help"),
        (["plan", "--fil"], "No such option: --fil", "see solostack plan --help"),
        (["plan", "extra"], "extra", "see solostack plan --help"),
        (["plan", "--file"], "requires an argument", "see solostack"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(
    argv: list[str], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        main.main_inner(argv)

    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == ExitCode.USAGE


def test_init_writes_a_site_that_loads_and_a_schema_that_accepts_it(folder: Path) -> None:
    assert main.main_inner(["init", *ANSWERS]) == 0

    loaded = load_site(Path("site.yaml"))
    assert str(loaded.site.external.block) == "198.51.100.0/28"
    schema = json.loads((folder / "site.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)


def test_init_of_a_block_on_the_wire_recalls_the_providers_router(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main_inner(["init", *ANSWERS, "--method", "proxy"]) == 0

    assert "external.not_ours" in capsys.readouterr().out.splitlines()[0]
    assert (folder / "site.yaml").exists()


def test_init_never_overwrites(folder: Path) -> None:
    (folder / "site.yaml").write_text("mine")

    with pytest.raises(UsageError, match=r"site\.yaml is there already"):
        main.main_inner(["init", *ANSWERS])
    assert (folder / "site.yaml").read_text() == "mine"


def test_init_without_a_terminal_says_which_option_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)

    with pytest.raises(UsageError, match="init needs --nic"):
        main.main_inner(["init", "--address", "203.0.113.2"])


def test_init_with_impossible_answers_writes_nothing(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        main.main_inner(["init", "--address", "here", *ANSWERS[2:]])

    assert any("hosts[0].address" in line for line in caught.value.details)
    assert not (folder / "site.yaml").exists()


def test_addresses_lists_the_whole_block(capsys: pytest.CaptureFixture[str]) -> None:
    main.main_inner(["init", *ANSWERS])
    capsys.readouterr()

    assert main.main_inner(["addresses", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["addresses"]
    usable = [row["address"] for row in rows if row["usable"]]
    assert usable == [f"198.51.100.{number}" for number in range(16)]

    assert main.main_inner(["addresses"]) == 0
    assert "16 of 16 usable (routed)" in capsys.readouterr().out


def test_plan_from_given_facts_is_the_same_bytes_each_time(
    facts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main_inner(["init", *ANSWERS])
    capsys.readouterr()

    assert main.main_inner(["plan", "--facts", facts, "--json"]) == 0
    first = capsys.readouterr().out
    assert main.main_inner(["plan", "--facts", facts, "--json"]) == 0
    assert capsys.readouterr().out == first
    assert json.loads(first)["changes"] is None
    assert {node["name"] for node in json.loads(first)["plan"]["nodes"]} == {
        "controller",
        "network",
    }


def test_plan_for_people(facts: str, capsys: pytest.CaptureFixture[str]) -> None:
    main.main_inner(["init", *ANSWERS])
    capsys.readouterr()

    assert main.main_inner(["plan", "--facts", facts]) == 0

    text = capsys.readouterr().out
    assert "16: 198.51.100.0 to 198.51.100.15" in text
    assert "controller" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "does not hold"), ('{"phys1": {"name": 1}}', "does not hold"), (None, "cannot read")],
)
def test_facts_that_are_none(folder: Path, content: str | None, said: str) -> None:
    main.main_inner(["init", *ANSWERS])
    if content is not None:
        (folder / "facts.json").write_text(content)

    with pytest.raises(UsageError, match=said):
        main.main_inner(["plan", "--facts", "facts.json"])


def test_schema_is_what_init_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.main_inner(["init", *ANSWERS])
    capsys.readouterr()

    assert main.main_inner(["schema"]) == 0
    assert capsys.readouterr().out == (folder / "site.schema.json").read_text()


def test_a_missing_site_says_how_to_write_one() -> None:
    with pytest.raises(SiteError) as caught:
        main.main_inner(["addresses", "-f", "other.yaml"])

    assert caught.value.hint == "write one: solostack init other.yaml"
