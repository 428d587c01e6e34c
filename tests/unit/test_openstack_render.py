"""Texts that every service's files are made of."""

from __future__ import annotations

import configparser

from hypothesis import given, settings
from hypothesis import strategies as st

from solostack.openstack.ini import render_ini
from solostack.openstack.uwsgi import UwsgiApp, render_uwsgi

NAMES = st.text("abc_", min_size=1, max_size=6)
TEXTS = st.text("Az09:/@._-", min_size=1, max_size=8)
VALUES = st.one_of(
    TEXTS, st.integers(0, 10**6), st.booleans(), st.lists(TEXTS, min_size=1, max_size=3)
)


def parse(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(default_section="none of ours", strict=True)
    parser.read_string(text)
    return parser


@settings(max_examples=40)
@given(
    st.dictionaries(
        NAMES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), min_size=1, max_size=3
    )
)
def test_what_is_rendered_is_read_back(
    sections: dict[str, dict[str, str | int | bool | list[str]]],
) -> None:
    parser = parse(render_ini(sections))
    assert parser.sections() == list(sections)
    for name, section in sections.items():
        for key, value in section.items():
            text = parser[name][key]
            match value:
                case bool():
                    assert text == str(value).lower()
                case list():
                    assert text.split(",") == value
                case _:
                    assert text == str(value)


def test_an_empty_section_is_left_out() -> None:
    assert "[empty]" not in render_ini({"empty": {}, "full": {"key": 1}})


def test_order_is_kept_and_equal_input_gives_equal_text() -> None:
    sections = {"b": {"z": 1, "a": 2}, "a": {"x": True}}
    text = render_ini(sections)
    assert text.index("[b]") < text.index("z = 1") < text.index("a = 2") < text.index("[a]")
    assert text == render_ini(sections)


def test_uwsgi_does_not_stay_up_without_its_application() -> None:
    app = UwsgiApp(name="n", project="p", wsgi_file="/usr/bin/w", processes=3, threads=2)
    section = parse(render_uwsgi(app))["uwsgi"]
    assert section["need-app"] == "true"
    assert (section["processes"], section["threads"]) == ("3", "2")
    assert (section["uid"], section["chdir"]) == ("p", "/var/lib/p")
    assert "logto" not in section


def test_uwsgi_extra_wins() -> None:
    app = UwsgiApp(
        name="n",
        project="p",
        wsgi_file="/usr/bin/w",
        processes=1,
        threads=1,
        extra={"enable-threads": False, "start-time": "%t"},
    )
    section = parse(render_uwsgi(app))["uwsgi"]
    assert section["enable-threads"] == "false"
    assert section["start-time"] == "%t"
