"""Steps whose true state is expensive to read: a marker file says that they are done.

A marker is valid while none of the step's inputs is newer than it (as with make), so a step runs
again after its input changed, also when the apply that changed it was killed in between. The
check costs no process: sh's own ``[``.
"""

from __future__ import annotations

import hashlib

from solostack.engine.operations import Step

DONE = "/var/lib/solostack/done"


def once(
    name: str,
    run: str,
    *,
    inputs: tuple[str, ...] = (),
    results: tuple[str, ...] = (),
    timeout_s: int = 300,
) -> Step:
    """Build a step that runs once per text of its script and per version of its inputs.

    inputs and results are paths on the node: the step runs again when an input is newer than its
    marker, and when an input or a result is not there.
    """
    marker = f"{DONE}/{name}.{hashlib.sha256(run.encode()).hexdigest()[:12]}"
    checks = [f"[ -e {path} ]" for path in (marker, *inputs, *results)]
    checks += [f"! [ {path} -nt {marker} ]" for path in inputs]
    # The marker is made last, so a step that is killed runs again.
    finish = f"mkdir -p {DONE}\nrm -f {DONE}/{name}.*\ntouch {marker}\nsync {marker}\n"
    return Step(
        name=name,
        run=run.rstrip("\n") + "\n" + finish,
        unless=" && ".join(checks) + "\n",
        timeout_s=timeout_s,
    )


def package_files(package: str) -> str:
    """Return the path that dpkg rewrites whenever it unpacks a version of package."""
    return f"/var/lib/dpkg/info/{package}.list"
