"""The dashboard of the full site, used by people with a browser and by what happens to sessions.

``SOLOSTACK_PICTURES=FOLDER`` keeps the pictures that are taken on the way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator

import pytest

from tests.cloud.conftest import Operator
from tests.cloud.dashboard import LOCAL, Dashboard, log_in, open_dashboard

pytestmark = [pytest.mark.cloud, pytest.mark.lane("full site")]

FIRST_PAGE_S = 3.0
SESSION_S = 1800
"""As examples/full.yaml has it."""
LOGIN_PAGE = "/auth/login/"
CLEAN_UP = """
export OS_AUTH_URL=http://172.16.0.11:5000/v3 OS_PROJECT_NAME=demo OS_INTERFACE=internal
export OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default OS_IDENTITY_API_VERSION=3
delete() {
    ids=$(openstack $1 list -f value -c ID)
    [ -z "$ids" ] || openstack $1 delete ${2-} $ids
}
delete server --wait
delete volume
delete "floating ip"
"""
DIRECTORY = "users (directory)"
DIRECTORY_USER = "ada"
IMAGE, FLAVOR, NETWORK = "tiny", "m1.nano", "demo"


class Visitor:
    """Somebody with a browser that knows no scripts; follows no redirect."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.cookies: dict[str, str] = {}
        self._dashboard = dashboard

    def ask(
        self, path: str, form: dict[str, str] | None = None, *, script: bool = False
    ) -> tuple[int, str, str]:
        """Return status, where one is sent to, and the page."""
        url = f"{self._dashboard.url}{path}"
        config = [f'url = "{url}"', "insecure", "silent", "include", f'referer = "{url}"']
        config += [f'cookie = "{key}={value}"' for key, value in self._cookies()]
        if script:
            config.append('header = "X-Requested-With: XMLHttpRequest"')
        if form is not None:
            config.append(f'data = "{urllib.parse.urlencode(form)}"')
        done = subprocess.run(
            self._dashboard.operator.argv("curl", "--config", "-"),
            input="\n".join(config),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        head, _, page = done.stdout.replace("\r", "").partition("\n\n")
        for key, value in re.findall(r"^set-cookie: *([^=]+)=([^;\n]*)", head, re.M | re.I):
            self.cookies[key] = value
        status = re.match(r"HTTP/\S+ (\d+)", head)
        assert status is not None, done.stdout
        sent = re.search(r"^location: *(\S+)", head, re.M | re.I)
        where = sent[1].removeprefix(self._dashboard.url) if sent else ""
        return int(status[1]), where, page

    def get(self, path: str, *, script: bool = False) -> tuple[int, str]:
        """Return status, and where one is sent to."""
        return self.ask(path, script=script)[:2]

    def page(self, path: str) -> str:
        return self.ask(path)[2]

    def until(self, path: str, status: int) -> int:
        """Ask until this status comes, for a minute."""
        end_s = time.monotonic() + 60
        while (seen := self.get(path)[0]) != status and time.monotonic() < end_s:
            time.sleep(1)
        return seen

    def log_in(self, user: str, password: str) -> str:
        """Log in; return what the login page says to it, nothing when one is in."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.page(LOGIN_PAGE))
        assert token is not None
        form = {"csrfmiddlewaretoken": token[1], "username": user, "password": password}
        form |= {"domain": "Default", "region": "0", "next": ""}
        status, _, page = self.ask(LOGIN_PAGE, form)
        alerts = re.findall(r"alert-danger[^>]*>(.*?)</div>", page, re.DOTALL)
        text = " ".join(re.sub("<[^>]+>", " ", " ".join(alerts)).split())
        return "" if status == 302 else text or f"status {status}"

    def _cookies(self) -> list[tuple[str, str]]:
        joined = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        first, _, rest = joined.partition("=")
        return [(first, rest.replace("\\", "\\\\").replace('"', '\\"'))] if joined else []


@contextlib.contextmanager
def working(dashboard: Dashboard, user: str = "demo", password: str = "") -> Iterator[Visitor]:
    """Somebody who is logged in and has just seen the overview."""
    person = Visitor(dashboard)
    refused = person.log_in(user, password or dashboard.secrets[f"{user}_password"])
    assert not refused, refused
    status, where, page = person.ask("/project/")
    assert status == 200, (status, where, page[:2000])
    yield person
    person.get("/auth/logout/")


@contextlib.contextmanager
def stopped(dashboard: Dashboard, unit: str) -> Iterator[None]:
    dashboard.on_controller(f"systemctl stop {unit}")
    try:
        yield
    finally:
        dashboard.on_controller(f"systemctl start {unit}")


@pytest.fixture(scope="module")
def dashboard(full: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    made = open_dashboard(full, tmp_path_factory)
    yield made
    login = f"OS_USERNAME=demo OS_PASSWORD={made.secrets['demo_password']}"
    made.on_controller(f"export {login}\n{CLEAN_UP}")


def test_the_first_page_comes_at_once_compressed_and_is_kept(dashboard: Dashboard) -> None:
    dashboard.on_controller("systemctl restart solostack-horizon.service")
    (cold,) = dashboard.browse({"do": "open", "path": "/", "shot": "login"})
    assert cold["seconds"] < FIRST_PAGE_S, cold["seconds"]
    assert cold["url"].startswith("/auth/login/")
    assert cold["title"].startswith("Login")
    assert cold["bytes"] < 1_000_000
    own = [one for one in cold["traffic"] if re.search(r"\.[0-9a-f]{12}\.(css|js)$", one["path"])]
    assert len(own) >= 4
    assert {one["encoding"] for one in own} == {"gzip"}
    assert all("immutable" in one["cache"] for one in own)
    assert all(one["status"] in (200, 302) for one in cold["traffic"])


def test_the_admin_launches_one_in_another_project_and_sees_its_console(
    dashboard: Dashboard,
) -> None:
    token = dashboard.admin_token()
    _, users = dashboard.api("GET", "/users?name=admin", token)
    _, projects = dashboard.api("GET", "/projects?name=demo", token)
    _, roles = dashboard.api("GET", "/roles?name=admin", token)
    user, project, role = users["users"][0], projects["projects"][0], roles["roles"][0]
    grant = f"/projects/{project['id']}/users/{user['id']}/roles/{role['id']}"
    dashboard.api("PUT", grant, token)
    try:
        told = dashboard.browse(
            log_in(dashboard, "admin"),
            {"do": "open", "path": "/admin/", "shot": "admin"},
            {"do": "use_project", "name": "demo"},
            {"do": "launch", "name": "second", "image": IMAGE, "flavor": FLAVOR,
             "network": NETWORK},
            {"do": "floating_ip", "name": "second"},
            {"do": "console", "name": "second", "picture": "admin-console"},
            {"do": "delete", "name": "second"},
            {"do": "log_out"},
        )  # fmt: skip
    finally:
        # Or Horizon might take this project for the administrator's first in other tests.
        dashboard.api("DELETE", grant, dashboard.admin_token())
    by_step = {one["do"]: one for one in told}
    assert by_step["open"]["status"] == 200
    assert by_step["console"]["drawn"] > 500
    assert by_step["log_out"]["url"].startswith("/auth/login/")


def test_a_user_of_the_directory_launches_an_instance_reaches_it_and_sees_its_console(
    dashboard: Dashboard,
) -> None:
    password = dashboard.secrets[f"directory_user_{DIRECTORY_USER}"]
    login = {"do": "log_in", "user": DIRECTORY_USER, "password": password, "domain": DIRECTORY}
    told = dashboard.browse(
        {**login, "shot": "overview"},
        {"do": "launch", "name": "first", "image": IMAGE, "flavor": FLAVOR, "network": NETWORK,
         "picture": "launch", "shot": "instances"},
        {"do": "floating_ip", "name": "first", "shot": "floating-ip"},
        {"do": "volume", "name": "data", "size_gib": 1, "shot": "volumes"},
        {"do": "console", "name": "first", "picture": "console", "shot": "console-page"},
        {"do": "log_out", "shot": "logged-out"},
    )  # fmt: skip
    by_step = {one["do"]: one for one in told}
    assert by_step["log_in"]["title"].startswith("Instance Overview")
    console = by_step["console"]
    assert console["source"].startswith(f"{dashboard.url}/"), "one origin"
    assert console["width"] >= 640
    assert console["drawn"] > 500, console
    assert by_step["log_out"]["url"].startswith(LOGIN_PAGE)
    assert "1GiB" in by_step["volume"]["line"]
    public = [one for one in by_step["floating_ip"]["addresses"] if one.startswith("198.51.100.")]
    page = dashboard.operator.run(
        "curl", "-sf", "--retry", "30", "--retry-all-errors", "--retry-delay", "2",
        f"http://{public[0]}/",
    )  # fmt: skip
    assert "solostack" in page.stdout, page.stderr
    (elsewhere,) = dashboard.browse({**login, "domain": LOCAL})
    assert "Invalid credentials" in elsewhere["refused"]


def test_a_wrong_password_is_refused_in_words(dashboard: Dashboard) -> None:
    (told,) = dashboard.browse({**log_in(dashboard), "password": "wrong"})
    assert "Invalid credentials" in told["refused"]


def test_a_disabled_user_of_the_directory_is_refused(dashboard: Dashboard) -> None:
    password = dashboard.secrets["directory_user_mallory"]
    login = {"do": "log_in", "user": "mallory", "password": password, "domain": DIRECTORY}
    (told,) = dashboard.browse(login)
    assert "Invalid credentials" in told["refused"]


def test_without_the_directory_its_users_are_told_and_local_ones_work(
    dashboard: Dashboard,
) -> None:
    host = dashboard.operator.lab.host_executor("phys1")
    unit = "solostack-node@directory.service"
    host.run(("systemctl", "stop", unit), timeout_s=180)
    try:
        password = dashboard.secrets[f"directory_user_{DIRECTORY_USER}"]
        told = dashboard.browse(
            {"do": "log_in", "user": DIRECTORY_USER, "password": password, "domain": DIRECTORY},
            log_in(dashboard),
            {"do": "log_out"},
        )
    finally:
        host.run(("systemctl", "start", unit), timeout_s=180)
    assert "An error occurred authenticating" in told[0]["refused"]
    assert told[1]["title"].startswith("Instance Overview")


def test_a_session_survives_restarts_of_everything_around_it(dashboard: Dashboard) -> None:
    with working(dashboard) as person:
        restart = ("memcached", "solostack-horizon", "haproxy")
        for unit in restart:
            dashboard.on_controller(f"systemctl restart {unit}.service")
            assert person.until("/project/", 200) == 200, unit
        dashboard.on_controller("systemctl restart mariadb.service")
        assert person.until("/project/", 200) == 200
        left = "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), MAX(expire_date))"
        left_s = int(dashboard.on_controller(f'mariadb -N -e "{left} FROM horizon.django_session"'))
        assert SESSION_S - 300 < left_s <= SESSION_S, "as the site says"


def test_memcached_down_is_not_noticed(dashboard: Dashboard) -> None:
    with working(dashboard) as person, stopped(dashboard, "memcached.service"):
        assert person.get("/project/instances/")[0] == 200
        assert person.get("/auth/login/?next=/")[0] == 200


@pytest.mark.parametrize(
    "end",
    [
        "DELETE FROM horizon.django_session",
        "UPDATE horizon.django_session SET expire_date = UTC_TIMESTAMP() - INTERVAL 1 MINUTE",
        "UPDATE horizon.django_session SET session_data = REVERSE(session_data)",
    ],
    ids=["deleted", "expired", "of another secret key"],
)
def test_an_ended_session_leads_to_the_login_page(dashboard: Dashboard, end: str) -> None:
    with working(dashboard) as person:
        dashboard.on_controller(f'mariadb -e "{end}"')
        for path in ("/project/", "/project/instances/", "/settings/"):
            assert person.get(path) == (302, f"{LOGIN_PAGE}?next={path}")
        assert person.get("/")[0] == 302
        assert person.get(LOGIN_PAGE)[0] == 200
        assert person.get("/api/nova/servers/", script=True)[0] == 401


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A member of the first project, made for one test. user and role are paths of Keystone's."""

    name: str
    password: str
    user: str
    role: str


@pytest.fixture
def account(dashboard: Dashboard) -> Iterator[Account]:
    token = dashboard.admin_token()
    name, password = f"gone-{time.monotonic_ns()}", "a-password-for-once"
    body = {"name": name, "password": password, "domain_id": "default"}
    _, made = dashboard.api("POST", "/users", token, {"user": body})
    user = f"/users/{made['user']['id']}"
    _, projects = dashboard.api("GET", "/projects?name=demo", token)
    _, roles = dashboard.api("GET", "/roles?name=member", token)
    role = f"/projects/{projects['projects'][0]['id']}{user}/roles/{roles['roles'][0]['id']}"
    dashboard.api("PUT", role, token)
    yield Account(name=name, password=password, user=user, role=role)
    _, left = dashboard.api("GET", f"/users?name={name}", token)
    if left["users"]:
        dashboard.api("DELETE", user, token)


@pytest.mark.parametrize("end", ["disabled", "new password", "no role", "deleted"])
def test_a_refused_token_leads_to_the_login_page(
    dashboard: Dashboard, account: Account, end: str
) -> None:
    """Horizon's own answer is a page "not authorized", until the cookie is removed by hand."""
    token = dashboard.admin_token()
    with working(dashboard, account.name, account.password) as person:
        match end:
            case "disabled":
                dashboard.api("PATCH", account.user, token, {"user": {"enabled": False}})
            case "new password":
                dashboard.api("PATCH", account.user, token, {"user": {"password": "another"}})
            case "no role":
                dashboard.api("DELETE", account.role, token)
            case _:
                dashboard.api("DELETE", account.user, token)
        # Services remember for a while that a token was good.
        dashboard.on_controller("systemctl restart memcached.service")
        # A service that finds its cache gone may say for a moment that it does not answer.
        assert person.until("/project/instances/", 302) == 302
        assert "session has ended" in person.page(LOGIN_PAGE)
        assert person.get("/project/") == (302, f"{LOGIN_PAGE}?next=/project/")


def test_without_keystone_the_pages_say_so(dashboard: Dashboard) -> None:
    with working(dashboard) as person, stopped(dashboard, "keystone.service"):
        assert person.get("/settings/")[0] == 503
        assert "Keystone) does not answer" in person.page("/settings/")
        stranger = Visitor(dashboard)
        assert "Unable to establish connection to keystone" in stranger.log_in("demo", "x")
    dashboard.on_controller("systemctl is-active keystone.service")


def test_without_its_database_the_pages_say_so(dashboard: Dashboard) -> None:
    with working(dashboard) as person:
        with stopped(dashboard, "mariadb.service"):
            assert person.get("/project/")[0] == 503
            assert "database does not answer" in person.page("/project/")
            assert Visitor(dashboard).get(LOGIN_PAGE)[0] == 200
        assert person.until("/project/", 200) == 200


def test_a_damaged_farewell_does_not_break_the_login_page(dashboard: Dashboard) -> None:
    stranger = Visitor(dashboard)
    stranger.cookies["logout_reason"] = "\\x"
    assert stranger.get(LOGIN_PAGE)[0] == 200


def test_a_browser_whose_session_has_ended_ends_on_the_login_page(dashboard: Dashboard) -> None:
    """Also on the pages that are scripts and only ask for data."""
    told = dashboard.browse(
        log_in(dashboard),
        {"do": "open", "path": "/project/images"},
        {"do": "lose_session"},
        {"do": "open", "path": "/project/instances/", "shot": "expired"},
        log_in(dashboard),
        {"do": "open", "path": "/project/images"},
        {"do": "lose_session"},
        {"do": "click", "name": "Create Image"},
        {"do": "wait_for", "path": LOGIN_PAGE},
    )
    assert told[3]["url"].startswith(LOGIN_PAGE)
    assert told[3]["status"] == 200
    assert told[-1]["url"].startswith(LOGIN_PAGE)


def test_ended_sessions_are_removed(dashboard: Dashboard) -> None:
    dashboard.on_controller(
        "mariadb -e \"INSERT INTO horizon.django_session VALUES ('old', '', '2020-01-01')\"\n"
        "systemctl start solostack-horizon-sessions.service"
    )
    rows = dashboard.on_controller(
        "mariadb -N -e \"SELECT COUNT(*) FROM horizon.django_session WHERE session_key = 'old'\""
    )
    assert rows.strip() == "0"
    assert "active" in dashboard.on_controller(
        "systemctl is-active solostack-horizon-sessions.timer"
    )
