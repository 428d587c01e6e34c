"""`launch`: one tiny instance that can be reached at once."""

from __future__ import annotations

from solostack.doors.progress import Progress
from solostack.flows.cloud_files import launch
from solostack.flows.deployment import host_executors, make_deployment, site_state
from solostack.flows.facts import known_facts
from solostack.site.loader import LoadedSite


def launch_in(loaded: LoadedSite, name: str, address: str, progress: Progress) -> dict[str, object]:
    """Launch an instance in a site's first project; see cloud_files.launch."""
    state = site_state(loaded)
    state.create()
    deployment = make_deployment(loaded, state, known_facts(state, loaded, host_executors(loaded)))
    with progress.step(f"launch {name}") as step:
        return launch(deployment, name, address, step=step)
