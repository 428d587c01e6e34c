"""Changes of a host's network under the guard: armed, made, confirmed by a new connection, or gone.

The timer runs on the host. Whatever happens here, a killed solostack included, an unconfirmed
change is taken back there; the next `up` (or `down`) finds it missing and makes it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence

from solostack.doors.clock import Clock, Deadline, SystemClock
from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.doors.ssh import SshExecutor
from solostack.engine.apply import Report, apply_bundle, undo_ledger
from solostack.engine.bundle import Part, labels
from solostack.engine.operations import Bundle
from solostack.errors import (
    ApplyError,
    CommandError,
    ConnectError,
    HostError,
    SolostackError,
    UsageError,
)
from solostack.flows.deployment import Deployment, host_executors, host_target, site_hosts
from solostack.host import guard, mistakes, uplink
from solostack.host.check_model import Finding
from solostack.host.facts import read_observation
from solostack.plan.model import HostPlan
from solostack.site.loader import LoadedSite

GUARDED_PHASES = frozenset({"uplink", "firewall"})
# Two minutes after arming the host must be reached again, the way back included.
TIMEOUT_S = 90.0
RETURN_TIMEOUT_S = 120.0
POLL_S = 1.0
# What the uplink's undo removes besides its operations' files: without the kept settings (`before`
# in uplink_script) ours would become those of before. And the ledger's journal (JOURNAL in
# engine/agent/ledger.py): as it was, it says that what comes back has yet to be undone.
UNDO_FILES = (
    uplink.STATE_PATH,
    "/var/lib/solostack/before/uplink",
    "/var/lib/solostack/before/uplink-sysctls",
    "/var/lib/solostack/ledger/journal.jsonl",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The ways to a host: the usual one, and new(), which makes a new connection each time.

    console: solostack runs on that very host, so no connection proves anything.
    """

    name: str
    nic: str
    executor: Executor
    new: Callable[[], Executor]
    console: bool = False


def doors(loaded: LoadedSite) -> dict[str, Door]:
    """Return the doors of a site's hosts by name, in the site's order."""
    executors = host_executors(loaded)
    return {name: _door(loaded, name, executor) for name, executor in executors.items()}


def _door(loaded: LoadedSite, name: str, executor: Executor) -> Door:
    host = site_hosts(loaded)[name]
    if host.local:
        return Door(name=name, nic=host.nic, executor=executor, new=lambda: executor, console=True)
    target = dataclasses.replace(host_target(loaded, host), shared=False)
    return Door(name=name, nic=host.nic, executor=executor, new=lambda: SshExecutor(target))


def status_of(loaded: LoadedSite, host: str = "") -> dict[str, guard.GuardStatus]:
    """Return what waits for its confirmation, by host; only that host's when one is named."""
    return {door.name: guard.status(door.executor) for door in _chosen(loaded, host)}


def confirm_by_hand(loaded: LoadedSite, host: str = "") -> dict[str, guard.GuardStatus]:
    """Keep what waits, over new connections. HostError when nothing does or it is no proof."""
    return {
        door.name: guard.confirm(door.new(), seen.id, console=door.console)
        for door, seen in _waiting(loaded, host)
    }


def rollback_by_hand(loaded: LoadedSite, host: str = "") -> dict[str, guard.GuardStatus]:
    """Take back what waits. HostError when nothing does."""
    return {
        door.name: guard.rollback(door.executor, seen.id) for door, seen in _waiting(loaded, host)
    }


def _chosen(loaded: LoadedSite, host: str) -> list[Door]:
    known = doors(loaded)
    if host and host not in known:
        raise UsageError(
            f"{loaded.path} has no host {host}", hint=f"its hosts are: {', '.join(known)}"
        )
    return [door for name, door in known.items() if host in {"", name}]


def _waiting(loaded: LoadedSite, host: str) -> list[tuple[Door, guard.GuardStatus]]:
    chosen = _chosen(loaded, host)
    seen = [(door, guard.status(door.executor)) for door in chosen]
    waiting = [(door, each) for door, each in seen if each.armed]
    if not waiting:
        names = ", ".join(door.name for door in chosen)
        raise HostError(
            f"no change of the network waits for a confirmation on {names}",
            hint="see how the last one ended: solostack guard status",
        )
    return waiting


def apply_guarded(deployment: Deployment, host: HostPlan, bundle: Bundle, step: Step) -> Report:
    """Apply a host's bundle; the phases that touch its way in under the guard, if they change.

    HostError when they were refused beforehand, or taken back.
    """
    door = _door(deployment.loaded, host.name, deployment.host(host.name))
    settle(door.executor, step)
    head, middle, tail = split(bundle)
    secret_values = deployment.secrets()

    def apply(part: Bundle, inner: Step, *, dry_run: bool = False) -> Report:
        return apply_bundle(
            door.executor, part, secret_values, step=inner, ledger=True, dry_run=dry_run
        )

    reports = [apply(head, step)]
    if apply(middle, step, dry_run=True).changed:
        require_harmless(deployment, host)
        touched = guard.watched(middle.phases, more=(uplink.STATE_PATH,))
        with guarded(door, what="uplink and firewall", touched=touched, step=step) as inner:
            reports.append(apply(middle, inner))
    if tail.phases:
        reports.append(apply(tail, step))
    return merged(reports)


def undo_guarded(
    deployment: Deployment, host: str, step: Step, *, packages: str, disable: Sequence[str]
) -> Report:
    """Undo a host's ledger; what touches its way in under the guard, if it is still there.

    HostError when that was taken back: then it is all in the ledger again, but for what came after
    it. A host whose guard is not installed (any more) has everything undone at once.
    """
    door = _door(deployment.loaded, host, deployment.host(host))

    def undo(inner: Step, part: Part | None = None, *, dry_run: bool = False) -> Report:
        return undo_ledger(
            door.executor,
            step=inner,
            packages=packages,
            disable=disable,
            part=part,
            dry_run=dry_run,
        )

    planned = [each for each in deployment.plan.hosts if each.name == host]
    if not planned or not guard.status(door.executor).installed:
        return undo(step)
    later, way = parts(base := deployment.base_bundle(planned[0]))
    if not undo(step, way, dry_run=True).changed:
        return undo(step)
    reports = []
    try:
        reports.append(undo(step, later))
    except ApplyError as error:
        # As in a run over everything, the rest goes all the same. The last part tries it again,
        # and fails if that does.
        step.note(error.message)
    door = dataclasses.replace(door, nic=planned[0].nic)
    touched = guard.watched(split(base)[1].phases, more=UNDO_FILES)
    with guarded(door, what="uplink and firewall given back", touched=touched, step=step) as inner:
        reports.append(undo(inner, way))
    reports.append(undo(step))
    return merged(reports)


def parts(base: Bundle) -> tuple[Part, Part]:
    """Return the parts of a host's ledger to undo before the rest: what came later, the way in.

    Of a deployment that was made in one go this is its order, reversed: compute, nodes | firewall,
    uplink | network, guard and the rest. A later `up` appends what it made anew, of any phase. So
    the way in is told by its names, wherever it is; and of the base, which has the guard, nothing
    goes before it. Else the order stays. What moves is of the base and goes after things of compute
    hosts and nodes that are older: it works without them, as it is made before any of them is.
    """
    way = labels(split(base)[1].phases)
    return Part(newer_than=way, but=labels(base.phases)), Part(only=way)


def split(bundle: Bundle) -> tuple[Bundle, Bundle, Bundle]:
    """Return a bundle's phases before the guarded ones, the guarded ones, and those after."""
    guarded_at = [n for n, phase in enumerate(bundle.phases) if phase.name in GUARDED_PHASES]
    first = guarded_at[0] if guarded_at else len(bundle.phases)
    last = guarded_at[-1] + 1 if guarded_at else first
    parts = (bundle.phases[:first], bundle.phases[first:last], bundle.phases[last:])
    head, middle, tail = (dataclasses.replace(bundle, phases=part) for part in parts)
    return head, middle, tail


def merged(reports: list[Report]) -> Report:
    """Return what several reports of one machine say together."""
    return dataclasses.replace(
        reports[0],
        changed=tuple(label for report in reports for label in report.changed),
        changes=tuple(change for report in reports for change in report.changes),
        seconds=sum(report.seconds for report in reports),
        timings=tuple(timing for report in reports for timing in report.timings),
    )


def require_harmless(deployment: Deployment, host: HostPlan) -> None:
    """Raise HostError for a change that is known to lock hosts out, before anything is made."""
    seen = read_observation(deployment.host(host.name), name=host.name, boot_guest=False)
    found = mistakes.refusals(mistakes.change_of(deployment.plan, host, seen), seen)
    if found:
        raise refusal(host.name, found)


def refusal(host: str, found: tuple[Finding, ...]) -> HostError:
    """Return the error for a change that is not even tried."""
    return HostError(
        f"{host}: the change of the network would lock everybody out; nothing was changed",
        details=[line for each in found for line in (each.what, f"  because {each.why}")],
        hint=found[0].todo,
    )


def settle(executor: Executor, step: Step) -> None:
    """Take back what an earlier run left armed: it was killed before it could confirm."""
    seen = guard.status(executor)
    if not seen.armed:
        return
    step.note(
        f"{executor.name}: taking back the unconfirmed change of an earlier run ({seen.what})"
    )
    with contextlib.suppress(HostError):  # its own timer was faster
        guard.rollback(executor, seen.id)


@contextlib.contextmanager
def guarded(
    door: Door,
    *,
    what: str,
    touched: guard.Watched,
    step: Step,
    timeout_s: float = TIMEOUT_S,
    clock: Clock | None = None,
) -> Iterator[Step]:
    """Arm the guard, let the change be made, confirm it over a new connection.

    The change made inside fails: it is taken back at once and the failure goes on. It cannot be
    confirmed: HostError once the host has taken it back and is reached again.
    """
    clock = clock or SystemClock()
    identity = secrets.token_hex(4)
    with step.step(f"guarded change of {door.name}") as part:
        armed = guard.arm(
            door.executor,
            identity,
            what=what,
            nic=door.nic,
            timeout_s=timeout_s,
            touched=touched,
        )
        run = _Run(door, identity, Deadline.after(clock, armed.seconds_left), clock, part)
        try:
            with run.countdown(), part.step(what) as inner:
                yield inner
        except ConnectError as error:
            run.wait_taken_back([error.message, *error.details])
            raise
        except SolostackError:
            run.take_back()
            raise
        else:
            with run.countdown():
                missed = run.confirm()
            if missed:
                run.wait_taken_back(missed)


@dataclasses.dataclass(frozen=True, slots=True)
class _Run:
    """One armed change, from here."""

    door: Door
    identity: str
    deadline: Deadline
    clock: Clock
    step: Step

    @contextlib.contextmanager
    def countdown(self) -> Iterator[None]:
        """Say every second how long is left, from a thread of its own."""
        ended = threading.Event()

        def tick() -> None:
            while not ended.is_set():
                left = self.deadline.left_s()
                self.step.say(f"taken back unless confirmed within {left:.0f} s")
                ended.wait(POLL_S)

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def confirm(self) -> list[str]:
        """Confirm until it works or the time is over; return why it did not, empty when kept."""
        noted = False
        missed: list[str] = []
        ways: list[Callable[[], Executor]] = [lambda: self.door.executor, self.door.new]
        while not self.deadline.passed():
            try:
                if not noted:
                    # The connection of before may hang where a new one would work.
                    ways.append(ways.pop(0))
                    guard.applied(ways[-1](), self.identity)
                    noted = True
                guard.confirm(self.door.new(), self.identity, console=self.door.console)
            except (ConnectError, CommandError, HostError) as error:
                missed = [error.message, *error.details]
            else:
                return []
            self.clock.sleep(POLL_S)
        return missed or ["no answer in time"]

    def wait_taken_back(self, missed: list[str]) -> None:
        """Wait until the host is reached again and says how it ended; HostError unless kept."""
        limit = Deadline.after(self.clock, self.deadline.left_s() + RETURN_TIMEOUT_S)
        self.step.say("not confirmed; waiting until the host has taken it back")
        while not limit.passed():
            last = self._how_it_ended()
            if last is not None and last.result == "kept":  # only the answer was lost
                return
            if last is not None:
                raise taken_back(self.door.name, last, missed)
            self.clock.sleep(POLL_S)
        raise HostError(
            f"{self.door.name} is not reached again after an unconfirmed change of its network",
            details=missed,
            hint="use the provider's console there: "
            f"{guard.SCRIPT_PATH} status; journalctl -u {guard.UNIT}",
        )

    def _how_it_ended(self) -> guard.Ended | None:
        try:
            seen = guard.status(self.door.new())
        except (ConnectError, CommandError):
            return None
        last = seen.last
        return last if not seen.armed and last is not None and last.id == self.identity else None

    def take_back(self) -> None:
        """Take the change back at once, as it failed half-way; the timer does it if we cannot."""
        self.step.say("the change failed; taking it back")
        with contextlib.suppress(ConnectError, CommandError, HostError):
            guard.rollback(self.door.executor, self.identity)
            self.step.note(f"{self.door.name}: the network is as it was before")


def taken_back(host: str, last: guard.Ended, missed: list[str]) -> HostError:
    """Return the error for a change that the host took back."""
    left = [f"still not as before: {line}" for line in last.differs]
    return HostError(
        f"the change of the network was taken back on {host}",
        details=[*missed, *left],
        hint=f"see what was done: solostack guard status --host {host}; "
        "mend the cause, then run the same command again",
    )
