"""Commit-confirm, the operator's side: what is installed on a host, and how it is asked.

What runs on the host is host/guard_agent. A change is armed, made, noted as made (applied) and
confirmed over a new SSH connection; without the last step the host takes it back by itself.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from solostack.doors.process import Executor
from solostack.engine.operations import (
    Absent,
    Directory,
    File,
    Line,
    Operation,
    Packages,
    Phase,
    Step,
    Unit,
)
from solostack.errors import CommandError, HostError

FOLDER = "/usr/local/lib/solostack"
SCRIPT_PATH = f"{FOLDER}/guard"
AGENT_FOLDER = f"{FOLDER}/guard_agent"
STATE_FOLDER = "/var/lib/solostack/guard"
UNIT = "solostack-guard.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
REFUSED_STATUS = 3
ASK_TIMEOUT_S = 20.0
ROLLBACK_TIMEOUT_S = 180.0
_SOURCE = Path(__file__).parent / "guard_agent"
# -B: compiled files beside ours would be left behind when the host is given back.
_SCRIPT = f"""#!/usr/bin/python3 -IBS
# Installed by solostack: takes back a change of this host's network that nobody confirmed.
import sys

sys.path.insert(0, "{FOLDER}")
from guard_agent.main import run

run()
"""
# Without an armed change the unit is not started at all, so it costs nothing. Armed, it comes back
# whatever kills it, until it ends by itself because nothing is armed any more. At boot it is done
# with the files before the network's services read them.
_UNIT_TEXT = f"""[Unit]
Description=solostack: takes back a change of the network that nobody confirmed
DefaultDependencies=no
RequiresMountsFor={STATE_FOLDER} {FOLDER}
After=local-fs.target
Before=network-pre.target systemd-sysctl.service nftables.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
ConditionPathExists={STATE_FOLDER}/armed.json
StartLimitIntervalSec=0

[Service]
ExecStartPre=-{SCRIPT_PATH} boot
ExecStart={SCRIPT_PATH} watch
Restart=always
RestartPreventExitStatus=0
RestartSec=200ms
OOMScoreAdjust=-900
TimeoutStartSec=60

[Install]
WantedBy=sysinit.target
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The files and systemd units that a change is going to touch.

    restart_on has (unit, paths): the unit runs on what it read there.
    """

    files: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    restart_on: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a change ended. result is ``kept``, ``taken back`` or ``failed``.

    why says who proved it or what was missed; done and failed are the commands of the way back;
    differs is what still is not as before. at_s is seconds since 1970.
    """

    id: str
    what: str
    nic: str
    result: str
    at_s: int
    why: str = ""
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuardStatus:
    """What is armed on a host, and how the last change ended (None: there was none).

    seconds_left counts down to the moment when the change is taken back; applied says whether the
    change is wholly made, before which it cannot be confirmed.
    """

    installed: bool = True
    armed: bool = False
    id: str = ""
    what: str = ""
    nic: str = ""
    timeout_s: float = 0.0
    seconds_left: float = 0.0
    applied: bool = False
    last: Ended | None = None


def guard_operations() -> tuple[Operation, ...]:
    """Return what installs the guard; for a phase before any that touches the network."""
    agent = (
        File(path=f"{AGENT_FOLDER}/{path.name}", content=path.read_text(encoding="utf-8"))
        for path in sorted(_SOURCE.glob("*.py"))
    )
    return (
        Directory(path=AGENT_FOLDER),
        *agent,
        File(path=SCRIPT_PATH, content=_SCRIPT, mode=0o755),
        File(path=UNIT_PATH, content=_UNIT_TEXT),
        # No Unit operation: it runs only while something is armed, and must not be stopped then.
        Step(
            name="network guard at boot",
            run=f"systemctl daemon-reload\nsystemctl -q enable {UNIT}\n",
            unless=f"systemctl -q is-enabled {UNIT}",
            undo=f"systemctl -q disable --now {UNIT} || true\n"
            # Files of the operator's that a way back moved aside stay for him to look at.
            f"[ ! -d {STATE_FOLDER} ] || find {STATE_FOLDER} -mindepth 1 -maxdepth 1 "
            f"! -name aside -exec rm -rf {{}} +\nrmdir {STATE_FOLDER} 2>/dev/null || true\n",
        ),
    )


def watched(phases: Iterable[Phase], *, more: Sequence[str] = ()) -> Watched:
    """Return what the operations of phases change on disk and in systemd.

    more are files that what they install writes: left as they became, they would mislead it.
    """
    files = list(more)
    units: dict[str, tuple[str, ...]] = {}
    for operation in (one for phase in phases for lane in phase.lanes for one in lane.operations):
        match operation:
            case File() | Line() | Absent():
                files.append(operation.path)
            case Unit():
                units[operation.name] = operation.restart_on
            case Packages() | Directory() | Step():
                pass
    return Watched(
        files=tuple(dict.fromkeys(files)), units=tuple(units), restart_on=tuple(units.items())
    )


def arm(
    executor: Executor,
    identity: str,
    *,
    what: str,
    nic: str,
    timeout_s: float,
    touched: Watched,
) -> GuardStatus:
    """Start the timer on a host; from its return on an unconfirmed change is taken back.

    Raises HostError when the guard refuses (another change is armed, its unit does not run).
    """
    request = {
        "what": what,
        "files": touched.files,
        "units": touched.units,
        "restart_on": dict(touched.restart_on),
    }
    return _ask(
        executor,
        ("arm", identity, "--timeout", f"{timeout_s:g}", "--nic", nic),
        stdin=json.dumps(request).encode(),
    )


def applied(executor: Executor, identity: str) -> GuardStatus:
    """Note that the change is made; only sessions that begin later can confirm it."""
    return _ask(executor, ("applied", identity))


def confirm(executor: Executor, identity: str, *, console: bool = False) -> GuardStatus:
    """Keep the change. The executor must be a new SSH connection, or console must be set.

    Raises HostError when the guard does not take it as a proof; ConnectError comes through.
    """
    more = ("--console",) if console else ()
    return _ask(executor, ("confirm", identity, *more))


def status(executor: Executor) -> GuardStatus:
    """Return what is armed; changes nothing. A host without a guard has nothing armed."""
    done = executor.run(
        ("sh", "-c", f"[ ! -x {SCRIPT_PATH} ] || {SCRIPT_PATH} status"), timeout_s=ASK_TIMEOUT_S
    )
    if not done.text.strip():
        return GuardStatus(installed=False)
    return parse_status(json.loads(done.text))


def rollback(executor: Executor, identity: str = "") -> GuardStatus:
    """Take the armed change back now. Raises HostError when none (or not this one) is armed."""
    more = (identity,) if identity else ()
    return _ask(executor, ("rollback", *more), timeout_s=ROLLBACK_TIMEOUT_S)


def parse_status(answer: Mapping[str, Any]) -> GuardStatus:
    """Read what the guard printed."""
    last = answer.get("last")
    names = ("id", "what", "nic", "timeout_s", "seconds_left", "applied")
    return GuardStatus(
        armed=answer["armed"],
        last=None if last is None else parse_ended(last),
        **{name: answer[name] for name in names if name in answer},
    )


def parse_ended(last: Mapping[str, Any]) -> Ended:
    """Read how a change ended."""
    return Ended(
        id=last["id"],
        what=last["what"],
        nic=last["nic"],
        result=last["result"],
        at_s=last["at"],
        why=last.get("why", ""),
        done=tuple(last.get("done", ())),
        failed=tuple(last.get("failed", ())),
        differs=tuple(last.get("differs", ())),
    )


def _ask(
    executor: Executor,
    arguments: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float = ASK_TIMEOUT_S,
) -> GuardStatus:
    done = executor.run((SCRIPT_PATH, *arguments), stdin=stdin, timeout_s=timeout_s, check=False)
    try:
        answer: Mapping[str, Any] = json.loads(done.text)
    except ValueError as error:
        stderr = done.stderr.decode("utf-8", "replace")
        raise CommandError(
            f"{executor.name}: the network guard gave no answer (status {done.status})",
            details=stderr.rstrip().splitlines()[-15:],
            hint=f"try it there by hand: {SCRIPT_PATH} {shlex.join(arguments)}",
            status=done.status,
            stderr=stderr,
        ) from error
    if done.status == REFUSED_STATUS:
        raise HostError(
            f"{executor.name}: the network guard refuses to {arguments[0]}: {answer['refused']}",
            hint=answer.get("hint") or "see: solostack guard status",
        )
    return parse_status(answer)
