"""The agent's door to the network: authenticated requests to the services of the catalogue."""

from __future__ import annotations

import re
from typing import Any

from .report import AgentError

Body = dict[str, Any]
VERSIONS = {
    "identity": "/v3",
    "image": "/v2",
    "compute": "/v2.1",
    "network": "/v2.0",
    "block-storage": "/v3",
}
# The newest ones of OpenStack 2025.1; an older cloud answers 406 and says so.
MICROVERSIONS = {
    "compute": "compute 2.96",
    "placement": "placement 1.39",
    "block-storage": "volume 3.71",
}
REQUEST_TIMEOUT_S = 180
RETRIES = 4


class ApiError(AgentError):
    """An API refused a request. status is the HTTP status."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Cloud:
    """One login: a user in a project. Requests may be made from several threads."""

    def __init__(self, access: Body, *, user: str, password: str, project: str) -> None:
        # Imported here so that the rest of the agent is usable where keystoneauth1 is not.
        from keystoneauth1 import session  # type: ignore[import-not-found,unused-ignore]
        from keystoneauth1.identity import v3  # type: ignore[import-not-found,unused-ignore]

        auth = v3.Password(
            access["auth_url"],
            username=user,
            password=password,
            project_name=project,
            user_domain_id="default",
            project_domain_id="default",
        )
        self._region: str = access["region"]
        self._session = session.Session(auth=auth, timeout=REQUEST_TIMEOUT_S)
        self._roots: dict[str, str] = {}

    def login(self) -> None:
        """Get a token. Raises ApiError with status 401 when the password or project is wrong."""
        from keystoneauth1 import exceptions  # type: ignore[import-not-found,unused-ignore]

        try:
            self._session.get_token()
        except exceptions.HttpError as error:
            raise ApiError(
                f"Keystone refuses the login: {error}",
                status=error.http_status,
                hint="was the password changed, or does the controller belong to another site?",
            ) from error
        except exceptions.ClientException as error:
            raise ApiError(
                f"Keystone does not answer: {error}",
                status=503,
                hint="on the controller: systemctl status keystone",
            ) from error

    def ids(self) -> tuple[str, str]:
        """Return the ids of this login's user and project."""
        return self._session.get_user_id(), self._session.get_project_id()

    def reach(self, service: str) -> tuple[str, str]:
        """Return a service's internal URL, as the catalogue has it for this login, and a token."""
        url = self._session.get_endpoint(
            service_type=service, interface="internal", region_name=self._region
        )
        if not url:
            raise AgentError(f"the catalogue of region {self._region} has no {service} service")
        return str(url), str(self._session.get_token())

    def request(
        self,
        method: str,
        service: str,
        path: str,
        body: object = None,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 (JSON)
        """Make one request and return the decoded JSON, None for an empty answer.

        options are requests' own (params, data, headers). Raises ApiError for a status of 400 and
        above, and when the service cannot be reached.
        """
        from keystoneauth1 import exceptions

        headers = {"Accept": "application/json", **options.pop("headers", {})}
        if service in MICROVERSIONS:
            headers["OpenStack-API-Version"] = MICROVERSIONS[service]
        if body is not None:
            options["json"] = body
        try:
            response = self._session.request(
                self._root(service) + VERSIONS.get(service, "") + path,
                method,
                headers=headers,
                raise_exc=False,
                connect_retries=RETRIES,
                status_code_retries=RETRIES,
                **options,
            )
        except exceptions.ClientException as error:
            raise ApiError(
                f"{service}: no answer to {method} {path}: {error}",
                status=503,
                hint="on the controller: systemctl --failed; journalctl -e",
            ) from error
        if response.status_code >= 400:
            message = f"{service}: {method} {path}: {response.status_code} {error_text(response)}"
            raise ApiError(message, status=response.status_code)
        return response.json() if response.content else None

    def get(self, service: str, path: str, **params: Any) -> Any:  # noqa: ANN401
        """GET; params become the query."""
        return self.request("GET", service, path, params=params or None)

    def list(self, service: str, kind: str, **params: Any) -> list[Body]:  # noqa: ANN401
        """Return all objects of a kind: its plural as in the path, such as servers/detail."""
        path: str | None = collection(kind)
        key = kind.partition("/")[0].removeprefix("os-")
        rows: list[Body] = []
        while path is not None:
            page = self.get(service, path, **params)
            rows += page[key]
            path = _next_page(service, page, key)
            params = {}
        return rows

    def delete(self, service: str, path: str) -> bool:
        """DELETE; return False when the object was not there."""
        try:
            self.request("DELETE", service, path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def has(self, service: str) -> bool:
        """Return whether the catalogue has a service."""
        return bool(self._endpoint(service))

    def _endpoint(self, service: str) -> str:
        from keystoneauth1 import exceptions

        try:
            url = self._session.get_endpoint(
                service_type=service, interface="internal", region_name=self._region
            )
        except exceptions.EndpointNotFound:
            return ""
        return str(url or "")

    def _root(self, service: str) -> str:
        if service not in self._roots:
            url = self._endpoint(service)
            if not url:
                raise AgentError(f"the catalogue of region {self._region} has no {service} service")
            self._roots[service] = re.sub(r"/v\d+(\.\d+)?/?$", "", url).rstrip("/")
        return self._roots[service]


def collection(kind: str, *parts: str) -> str:
    """Return the path of a collection or of something in it; Neutron spells some with dashes."""
    spelled = kind.replace("_", "-") if kind.startswith("security_") else kind
    return "/".join(("", spelled, *parts))


def error_text(response: Any) -> str:  # noqa: ANN401 (requests.Response)
    """Return the message inside an error answer, whatever the service's way to say it."""
    try:
        found = _message(response.json())
    except ValueError:
        found = ""
    return found or " ".join(re.sub(r"<[^>]*>", " ", response.text).split())[:300]


def _message(value: object) -> str:
    if isinstance(value, dict):
        if isinstance(value.get("message"), str):
            return str(value["message"])
        if isinstance(value.get("detail"), str):
            return str(value["detail"])
        value = list(value.values())
    if isinstance(value, list):
        return next((text for text in map(_message, value) if text), "")
    return ""


def _next_page(service: str, page: Body, kind: str) -> str | None:
    # Glance: "next" is a path; Nova and Neutron: a list of links; Keystone does not page.
    url = page.get("next") if service == "image" else None
    for link in page.get(f"{kind}_links", []):
        if link.get("rel") == "next":
            url = link["href"]
    if not url:
        return None
    path = re.sub(r"^https?://[^/]+", "", url)
    return path.removeprefix(VERSIONS.get(service, ""))
