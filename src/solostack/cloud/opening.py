"""Open the cloud: one call of the agent, and one more for images whose file it did not have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from solostack.cloud.client import Caller, call
from solostack.cloud.staging import stage_image
from solostack.doors.process import Executor
from solostack.doors.progress import Step

OPEN_TIMEOUT_S = 600.0
CLOSE_TIMEOUT_S = 180.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What became of one object: created, changed, unchanged, deleted or hidden."""

    kind: str
    name: str
    outcome: str


def open_cloud(
    caller: Caller, image_source: Executor, request: Mapping[str, object], *, step: Step
) -> tuple[Opened, ...]:
    """Make everything of a cloud_request be there; nothing is touched that is as wanted.

    image_source is the machine that the site's image paths are of. caller needs the attachment
    tiny.py. Raises what call and stage_image raise.
    """
    result = call(caller, "open", request, step=step, timeout_s=OPEN_TIMEOUT_S)
    needs = result["needs"]
    if needs:
        for image in needs:
            stage_image(image_source, caller.executor, image, step=step)
        result = call(caller, "open", request, step=step, timeout_s=OPEN_TIMEOUT_S)
    return tuple(Opened(**row) for row in result["changes"])


def close_cloud(caller: Caller, *, all_instances: bool, step: Step) -> tuple[Opened, ...]:
    """Delete what solostack made in the cloud, with all_instances every instance too."""
    request = {"instances": "all" if all_instances else "ours"}
    result = call(caller, "close", request, step=step, timeout_s=CLOSE_TIMEOUT_S)
    return tuple(Opened(**row) for row in result["changes"])
