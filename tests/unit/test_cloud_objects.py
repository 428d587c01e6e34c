"""The object store's check: an account that moves to a disk that was added is waited for."""

from __future__ import annotations

import pytest

from solostack.cloud.agent import objects
from solostack.cloud.agent.report import AgentError

CREATED, NOT_FOUND = 201, 404


class Store(objects.Store):
    """A store that answers with these statuses, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        super().__init__("http://127.0.0.1:1/v1/AUTH_a")
        self.statuses = list(statuses)
        self.asked = 0

    def ask(
        self, method: str, path: str, token: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        assert (method, path, token, body) == ("PUT", "/c", "token", None)
        self.asked += 1
        return (self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]), b"words"


def test_an_account_on_its_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MOVING_PAUSE_S", 0.0)
    store = Store(NOT_FOUND, NOT_FOUND, CREATED)
    objects._make_container(store, "/c", "token")
    assert store.asked == 4


@pytest.mark.parametrize("status", [NOT_FOUND, 507])
def test_what_stays_is_a_failure_with_a_hint(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(objects, "MOVING_S", 0.0)
    with pytest.raises(AgentError, match=f"PUT of /c: {status} words") as caught:
        objects._make_container(Store(status), "/c", "token")
    assert caught.value.hint == objects.REFUSED
