"""Whose a host is: a mark on it, compared before anything there is changed or removed.

The mark names the site and the state directory that the cloud was made from. Without it a second
machine, or one that lost its state, would make new secrets and keys for a cloud that has others.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence

from solostack.doors.process import Executor
from solostack.errors import CommandError, HostError, StateError
from solostack.flows.parallel import run_together
from solostack.flows.state import State

TIMEOUT_S = 60.0
_OWNER, _NODE = "owner ", "node "
_LOOK = """set -eu
state=/var/lib/solostack
for trace in "$state/owner" "$state/ledger/journal.jsonl" "$state/nodes"; do
    [ ! -e "$trace" ] || echo "trace $trace"
done
[ ! -e "$state/owner" ] || echo "owner $(cat "$state/owner")"
for file in /etc/solostack/nodes/*.json; do
    [ ! -e "$file" ] || echo "node $(tr -d '\\n' <"$file")"
done
"""
# link(2) is exclusive and the file behind it is whole, whatever happens in between.
_CLAIM = """set -eu
umask 077
state=/var/lib/solostack
[ -d "$state" ] || mkdir -p -m 711 "$state"
if [ ! -e "$state/owner" ]; then
    new=$(mktemp "$state/.owner.XXXXXX")
    trap 'rm -f "$new"' EXIT
    cat >"$new"
    sync "$new"
    ln "$new" "$state/owner" || [ -e "$state/owner" ]
    sync "$state"
fi
echo "owner $(cat "$state/owner")"
"""
# The state of before is of no use to the next deployment; it is put away as the ledger is.
_RELEASE = """set -eu
state=/var/lib/solostack
[ ! -e "$state/before/state.json" ] || mv -f "$state/before/state.json" "$state/before/last.json"
rm -f "$state/owner" "$state"/.owner.*
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a host says of who holds it.

    begun: something of a deployment is there that was not taken back. owner is the id in the mark,
    empty without one; sites are those that the mark and the descriptions of nodes there name.
    """

    host: str
    begun: bool = False
    owner: str = ""
    sites: tuple[str, ...] = ()


def look(executors: Mapping[str, Executor]) -> tuple[Holding, ...]:
    """Ask all hosts at once who holds them; changes nothing.

    Raises:
        ConnectError: a host cannot be reached.
        HostError: a host was reached and could not be asked.
    """
    return tuple(run_together([functools.partial(_look, *item) for item in executors.items()]))


def claim(executor: Executor, host: str, site: str, state: State) -> None:
    """Mark a host as this state's, before the first change to it. StateError when it is not."""
    mark = f"{site} {state.owner()}\n".encode()
    require_ours(site, state, [parse(host, _run(executor, host, _CLAIM, mark))])


def release(executor: Executor, host: str) -> None:
    """Take the mark off a host that nothing of ours is left on."""
    _run(executor, host, _RELEASE)


def require_ours(
    site: str, state: State, holdings: Iterable[Holding], *, take_over: bool = False
) -> None:
    """Raise StateError for the first host that is held by somebody else.

    A host without a mark is free, or was made before there were marks. take_over lets pass what is
    this very site's, made with a state that is not here.
    """
    for holding in holdings:
        others = [name for name in holding.sites if name != site]
        if others:
            raise StateError(
                f"{holding.host} belongs to another deployment: {', '.join(others)}",
                details=(f"this site is {site}; nothing was touched",),
                hint=f"take {others[0]} down with its own site file first: solostack down",
            )
        if holding.owner and holding.owner != state.owner() and not take_over:
            raise StateError(
                f"{holding.host}: the cloud {site} was made from another machine, or its state "
                "is lost",
                details=("its secrets and keys are not here; nothing was touched",),
                hint=f"put {state.directory} back, from the machine that made the cloud; "
                "or remove the cloud: solostack down --take-over",
            )


def parse(host: str, text: str) -> Holding:
    """Return what the lines of a host's answer say."""
    lines = text.splitlines()
    marks = [line.removeprefix(_OWNER).split() for line in lines if line.startswith(_OWNER)]
    sites = [mark[0] for mark in marks if mark]
    sites += [_site(line.removeprefix(_NODE)) for line in lines if line.startswith(_NODE)]
    return Holding(
        host=host,
        begun=bool(lines),
        owner=next((mark[1] for mark in marks if len(mark) > 1), ""),
        sites=tuple(dict.fromkeys(sites)),
    )


def begun_hosts(holdings: Sequence[Holding]) -> frozenset[str]:
    """Return the names of the hosts that something of a deployment is on."""
    return frozenset(holding.host for holding in holdings if holding.begun)


def _site(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    # Not ours to say whose it is then, so it is not ours to remove.
    return str(value.get("site", "unknown")) if isinstance(value, dict) else "unknown"


def _look(host: str, executor: Executor) -> Holding:
    return parse(host, _run(executor, host, _LOOK))


def _run(executor: Executor, host: str, script: str, stdin: bytes = b"") -> str:
    try:
        done = executor.run(("sh", "-c", script), stdin=stdin, timeout_s=TIMEOUT_S)
    except CommandError as error:
        raise HostError(
            f"{host}: cannot tell whose it is",
            details=error.details or (error.message,),
            hint="see what is wrong with the host: solostack check",
        ) from error
    return done.text
