"""Calls of the cloud agent for a deployment, and the credential files that people use."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping

from solostack.cloud import opening
from solostack.cloud.client import Caller, call
from solostack.cloud.credentials import (
    SECRET_NAMES,
    Access,
    build_access,
    outside_access,
    render_clouds_yaml,
    render_openrc,
)
from solostack.cloud.desired import (
    EXTERNAL_NETWORK,
    TEST_IMAGE,
    cloud_request,
    smallest_flavor,
)
from solostack.cloud.door_probes import DoorToProbe
from solostack.cloud.opening import Opened
from solostack.doors.progress import Step
from solostack.engine.secrets import SecretStore
from solostack.errors import ConfigureError
from solostack.flows.deployment import Deployment
from solostack.openstack.directory import user_password
from solostack.plan.model import FrontDoorPlan
from solostack.site.model import Role

STATUS_TIMEOUT_S = 30.0
LAUNCH_TIMEOUT_S = 300.0


def open_cloud(deployment: Deployment, step: Step) -> tuple[Opened, ...]:
    """Create the cloud's networks, flavors, images and first project; nothing is made twice."""
    plan = deployment.plan
    tiny = importlib.resources.files("solostack.images").joinpath("tiny.py").read_bytes()
    return opening.open_cloud(
        _caller(deployment, attachments={"tiny.py": tiny}),
        deployment.host(plan.node(Role.CONTROLLER).host),
        cloud_request(plan),
        step=step,
    )


def close_cloud(deployment: Deployment, step: Step) -> tuple[Opened, ...]:
    """Delete instances and everything that solostack made through the API."""
    return opening.close_cloud(_caller(deployment), all_instances=True, step=step)


def cloud_status(deployment: Deployment, step: Step) -> dict[str, object]:
    """Return services, agents, instances and addresses as the APIs tell them."""
    return call(_caller(deployment), "status", {}, step=step, timeout_s=STATUS_TIMEOUT_S)


def write_credentials(deployment: Deployment) -> tuple[str, ...]:
    """Write clouds.yaml and openrc files (0600) into the state directory; return their paths.

    They are for use from outside; the file of the authority is beside them.
    """
    secrets = SecretStore(deployment.state.directory).ensure(SECRET_NAMES)
    cacert = deployment.authority_file()
    access = outside_access(deployment.plan, secrets, cacert=str(cacert) if cacert else "")
    texts = {
        "clouds.yaml": render_clouds_yaml(deployment.plan.site, access),
        "admin-openrc": render_openrc(access, admin=True),
    }
    if access.demo_user:
        texts["openrc"] = render_openrc(access, admin=False)
    first = _first_passwords(deployment)
    if first:
        texts["first-passwords"] = first
    return tuple(str(deployment.state.write_text(name, text)) for name, text in texts.items())


def door_to_probe(deployment: Deployment, door: FrontDoorPlan) -> DoorToProbe:
    """Return the front door as its clients know it.

    Raises SiteError for an operator's certificate that cannot be used.
    """
    path = deployment.authority_file()
    authority = path.read_text() if path else ""
    return DoorToProbe(door=door, authority=authority, access=_access(deployment))


def _first_passwords(deployment: Deployment) -> str:
    """Return the passwords with which the site's users were made, a line each; "" without any."""
    directory = deployment.plan.directory
    if directory is None or not deployment.plan.has(Role.DIRECTORY):
        return ""
    secrets = deployment.secrets()
    return "".join(f"{user.name} {secrets[user_password(user.name)]}\n" for user in directory.users)


def _access(deployment: Deployment) -> Access:
    secrets = SecretStore(deployment.state.directory).ensure(SECRET_NAMES)
    return build_access(deployment.plan, secrets)


def _caller(deployment: Deployment, attachments: Mapping[str, bytes] | None = None) -> Caller:
    return Caller(
        executor=deployment.node(deployment.plan.node(Role.CONTROLLER)),
        access=_access(deployment),
        attachments=attachments or {},
    )


def launch(
    deployment: Deployment, name: str, address: str, *, user_data: str = "", step: Step
) -> dict[str, object]:
    """Start the test image as an instance of the first project, with a floating IP.

    address is one of the block's, or "auto". An instance of that name is taken as it is. Raises
    ConfigureError, also when the site has no first project.
    """
    plan = deployment.plan
    if plan.demo is None:
        raise ConfigureError(
            f"{plan.site} has no first project to launch in",
            hint="set demo in the site file, or use the openstack client",
        )
    request = {
        "project": plan.demo.project,
        "name": name,
        "network": plan.demo.project,
        "image": TEST_IMAGE,
        "flavor": smallest_flavor(plan.flavors).name,
        "floating": address,
        "external_network": EXTERNAL_NETWORK,
        "user_data": user_data,
    }
    return call(
        _caller(deployment), "create_server", request, step=step, timeout_s=LAUNCH_TIMEOUT_S
    )
