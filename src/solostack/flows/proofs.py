"""Proofs of single services, as parts of `verify`: each makes its own checks and adds the results.

A service's proof is a module of its own (flows/verify_*.py) that builds a Proof from a deployment;
flows/verify.py makes them one after the other and knows nothing of what they do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from solostack.cloud import probes
from solostack.cloud.client import Caller, call
from solostack.cloud.probes import CheckResult
from solostack.doors.progress import Step
from solostack.errors import SolostackError
from solostack.flows.verify_parts import Part

Add = Callable[[CheckResult], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One service's checks. title names the step; make adds each result as soon as it is known.

    part is what it is asked for by. needs_apis: without database and broker the checks would only
    wait, so they are skipped then. checks are the names of all it makes, for what was skipped.
    beside_instances: it is made while verify's own instances run, and may use them.
    """

    part: Part
    title: str
    make: Callable[[Add, Step], None]
    checks: tuple[str, ...] = ()
    needs_apis: bool = True
    beside_instances: bool = False


def broken(name: str, error: SolostackError, hint: str = "") -> CheckResult:
    """Return the result of a check that could not be made."""
    detail = "; ".join((error.message, *error.details))
    return CheckResult(name=name, ok=False, seconds=0.0, detail=detail, hint=error.hint or hint)


def add_broken(checks: Sequence[probes.Check], error: SolostackError, add: Add) -> None:
    """Add checks that could not be made: the first fails with the error, others are skipped."""
    first, *others = checks
    add(broken(first.name, error, first.hint))
    for check in others:
        add(probes.skipped(check.name))


def ask_agent(
    controller: Caller,
    action: str,
    request: Mapping[str, object],
    checks: Sequence[probes.Check],
    *,
    add: Add,
    step: Step,
    timeout_s: float,
) -> Mapping[str, Any]:
    """Let the cloud agent make checks and add what it finds; checks it did not make are skipped.

    Returns the agent's answer, {} when the call failed.
    """
    made: list[CheckResult] = []

    def on_finding(finding: Mapping[str, Any]) -> None:
        made.append(probes.agent_result(finding, checks))
        add(made[-1])

    result: Mapping[str, Any] = {}
    try:
        result = call(
            controller, action, request, step=step, timeout_s=timeout_s, on_finding=on_finding
        )
    except SolostackError as error:
        add(broken("checks on the controller", error))
    for skipped in probes.missing_results(made, checks):
        add(skipped)
    return result
