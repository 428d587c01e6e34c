"""Calls of the cloud agent: packed, sent to the controller, run there, their events followed."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from solostack.cloud.credentials import Access
from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.errors import CommandError, ConfigureError, SolostackError

AGENT = Path(__file__).parent / "agent"
ENTRY = "import sys\n\nfrom agent.main import main\n\nsys.exit(main())\n"
# The archive holds passwords: it comes over standard input, lies in memory (tmpfs) for root alone
# while the agent runs, and is gone with it.
RUN = """
umask 077
archive=$(mktemp /run/solostack-cloud.XXXXXX) || exit 1
trap 'rm -f "$archive"' EXIT
trap 'exit 130' HUP INT TERM
cat >"$archive"
python3 -I "$archive"
"""
# What the agent itself may need beyond the waits that it was given.
GRACE_S = 60.0
Event = Mapping[str, Any]
OnFinding = Callable[[Event], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Where calls go and as whom. failure is the kind of error a failed call becomes.

    attachments are files put beside the agent, by name (tiny.py: the builder of the test image).
    """

    executor: Executor
    access: Access
    attachments: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    failure: type[SolostackError] = ConfigureError


def call(
    caller: Caller,
    action: str,
    request: Mapping[str, object],
    *,
    step: Step,
    timeout_s: float = 300.0,
    on_finding: OnFinding | None = None,
) -> dict[str, Any]:
    """Run one action of the agent on the controller and return its result.

    Args:
        caller: the controller and the login.
        action: a name in agent.main.ACTIONS.
        request: the action's request, without access.
        step: is told what the agent does.
        timeout_s: how long the action may wait for the cloud.
        on_finding: gets each finding of a check as it is made.

    Raises:
        ConnectError: the controller cannot be reached.
        caller.failure: the action failed; the message is the agent's own.
    """
    follower = _Follower(step, on_finding)
    archive = pack(caller, action, {**request, "timeout_s": timeout_s})
    try:
        done = caller.executor.run(
            ("sh", "-c", RUN),
            stdin=archive,
            timeout_s=2 * timeout_s + GRACE_S,
            check=False,
            on_line=follower.on_line,
        )
    except CommandError as error:
        raise caller.failure(
            f"{caller.executor.name}: {action} of the cloud stopped while it did: {follower.last}",
            details=(*error.message.splitlines()[:1], *error.details),
            hint="run the same command again: what is done is not done twice",
        ) from error
    if follower.error is not None:
        message = str(follower.error["message"])
        raise caller.failure(
            f"{caller.executor.name}: {message}", hint=str(follower.error["hint"] or "")
        )
    if follower.result is None:
        raise caller.failure(
            f"{caller.executor.name}: the cloud agent ended (status {done.status}) during {action}",
            details=done.stderr.decode("utf-8", "replace").strip().splitlines()[-15:],
            hint="run the same command again; if it stays, report the lines above",
        )
    return follower.result


def pack(caller: Caller, action: str, request: Mapping[str, object]) -> bytes:
    """Pack the agent with one request into a zip archive that Python runs."""
    access = dataclasses.asdict(caller.access)
    body = {**request, "action": action, "access": access}
    test_image = request.get("test_image")
    if isinstance(test_image, Mapping):
        body["test_image"] = {**test_image, "recipe": _recipe(caller.attachments)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", ENTRY)
        archive.writestr("request.json", json.dumps(body))
        for path in sorted(AGENT.glob("*.py")):
            archive.writestr(f"agent/{path.name}", path.read_bytes())
        for name, content in sorted(caller.attachments.items()):
            archive.writestr(name, content)
    return buffer.getvalue()


def _recipe(attachments: Mapping[str, bytes]) -> str:
    # What the test image is made by stands for what it is: another builder, another image.
    return hashlib.sha256(attachments["tiny.py"]).hexdigest()


class _Follower:
    """Takes the agent's lines in."""

    def __init__(self, step: Step, on_finding: OnFinding | None) -> None:
        self._step = step
        self._on_finding = on_finding
        self.last = "nothing yet"
        self.result: dict[str, Any] | None = None
        self.error: Event | None = None

    def on_line(self, line: str) -> None:
        """Take one line of standard output in."""
        try:
            event = json.loads(line)
        except ValueError:
            return
        match event.get("event"):
            case "say":
                self.last = event["text"]
                self._step.say(self.last)
            case "finding" if self._on_finding is not None:
                self._on_finding(event)
            case "result":
                self.result = event["result"]
            case "error":
                self.error = event
            case _:
                pass
