"""The secret store: made once, private, never shown."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from solostack.engine.secrets import SecretStore
from solostack.errors import StateError


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "state")
    assert store.values() == {}
    first = store.ensure(["a", "hex_b"])
    assert len(first["a"]) == 32
    assert first["a"].isalnum()
    assert int(first["hex_b"], 16) >= 0
    assert SecretStore(tmp_path / "state").ensure(["a", "c"])["a"] == first["a"]
    assert set(store.values()) == {"a", "hex_b", "c"}


def test_the_file_is_private_and_the_store_tells_nothing(tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "state")
    values = store.ensure(["a"])
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "state").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert values["a"] not in repr(store) + str(store)


def test_makers_at_the_same_time_agree(tmp_path: Path) -> None:
    found: list[str] = []

    def make() -> None:
        found.append(SecretStore(tmp_path).ensure(["a"])["a"])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_broken_file_is_an_error_that_quotes_nothing(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text('{"a": "hunter2')
    with pytest.raises(StateError) as caught:
        SecretStore(tmp_path).ensure(["a"])
    assert "hunter2" not in caught.value.message + repr(caught.value.__cause__)
    assert (tmp_path / "secrets.json").read_text() == '{"a": "hunter2'
