"""A visit to the dashboard as a browser without scripts makes it; shipped to a machine outside.

Runs by itself, with the standard library alone, for Python 3.9 and newer. Standard input holds a
JSON object: url, address and limit_s, trusted (certificates besides the system's own, PEM), user,
password, domain. Prints a JSON line for each part of the visit and ends at the first that fails.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import sys
import time
import urllib.parse
from typing import Any

LOGIN, LOGOUT, OVERVIEW = "/auth/login/", "/auth/logout/", "/project/"
HTTPS_PORT = 443
# ssl.VERIFY_X509_PARTIAL_CHAIN, which Python has a name for since 3.10.
PARTIAL_CHAIN = 0x80000


class FailedError(Exception):
    """A part of the visit came to something else than it should."""


class Link(http.client.HTTPSConnection):
    """Dials an address, asks it for a name. http.client heeds no proxy of the environment."""

    def __init__(self, visit: dict[str, Any]) -> None:
        place = urllib.parse.urlsplit(visit["url"])
        super().__init__(str(place.hostname), place.port or HTTPS_PORT, timeout=visit["limit_s"])
        self._address = visit["address"]
        self._trust = ssl.create_default_context()
        # Python sets it since 3.13. What the door shows may be an operator's, of an old authority.
        self._trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if visit["trusted"]:
            self._trust.load_verify_locations(cadata=visit["trusted"])
            # The door's own certificate may be trusted itself, whoever signed it.
            self._trust.verify_flags |= PARTIAL_CHAIN

    def connect(self) -> None:
        """Open the connection and check the certificate for the name in the URL."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._trust.wrap_socket(plain, server_hostname=self.host)


class Browser:
    """Cookies, and the page looked at last."""

    def __init__(self, visit: dict[str, Any]) -> None:
        self.visit = visit
        self.page = ""
        self._cookies: dict[str, str] = {}

    def ask(
        self, path: str, form: dict[str, str] | None = None, encoding: str = "identity"
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask for a path, or send a form there; follows no redirect."""
        headers = {"Referer": self.visit["url"] + path, "Accept-Encoding": encoding}
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{key}={value}" for key, value in self._cookies.items())
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        link = Link(self.visit)
        try:
            link.request("GET" if form is None else "POST", path, body, headers)
            answer = link.getresponse()
            data = answer.read()
        finally:
            link.close()
        for line in answer.headers.get_all("Set-Cookie") or ():
            key, _, value = line.strip().partition(";")[0].partition("=")
            self._cookies[key] = value
        return answer, data


def title(page: str) -> str:
    """Return a page's title."""
    found = re.search(r"<title>\s*(.*?)\s*</title>", page, re.DOTALL)
    return found[1] if found else "no title"


def alerts(page: str) -> str:
    """Return the error messages of a login page as text."""
    found = re.findall(r"alert-danger[^>]*>(.*?)</div>", page, re.DOTALL)
    return " ".join(" ".join(re.sub("<[^>]+>", " ", one).split()) for one in found)


def expect(good: object, message: str) -> None:
    """Raise FailedError with a message unless good."""
    if not good:
        raise FailedError(message)


def login_page(browser: Browser) -> str:
    """Fetch the login page."""
    answer, data = browser.ask(LOGIN)
    browser.page = data.decode("utf-8", "replace")
    expect(answer.status == http.client.OK, f"status {answer.status}: {title(browser.page)}")
    expect("csrfmiddlewaretoken" in browser.page, f"no login page: {title(browser.page)}")
    return f"{title(browser.page)}, {len(data) // 1024} KiB"


def static_file(browser: Browser) -> str:
    """Fetch a style sheet of the login page as browsers do."""
    found = re.search(r'"(/static/[^"]+\.[0-9a-f]{12}\.css)"', browser.page)
    expect(found, "the login page names no style sheet of its own")
    path = found[1] if found else ""
    answer, data = browser.ask(path, encoding="gzip")
    expect(answer.status == http.client.OK, f"{path}: status {answer.status}")
    expect(answer.headers.get("Content-Encoding") == "gzip", f"{path} is not compressed")
    rule = answer.headers.get("Cache-Control") or "no rule"
    expect("immutable" in rule, f"{path} may not be kept by browsers: {rule}")
    return f"{len(data) // 1024} KiB compressed"


def log_in(browser: Browser) -> str:
    """Log in, look at the overview of the first project, log out."""
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.page)
    form = {name: browser.visit[name] for name in ("password", "domain")}
    form |= {"username": browser.visit["user"], "region": "0", "next": ""}
    answer, data = browser.ask(LOGIN, {**form, "csrfmiddlewaretoken": token[1] if token else ""})
    page = data.decode("utf-8", "replace")
    expect(answer.status == http.client.FOUND, f"status {answer.status}: {alerts(page)}")
    answer, data = browser.ask(OVERVIEW)
    page = data.decode("utf-8", "replace")
    shown = answer.status == http.client.OK and "Overview" in title(page)
    expect(shown, f"overview: status {answer.status}: {title(page)}")
    browser.ask(LOGOUT)
    return title(page)


def main() -> None:
    """Make the visit, part by part."""
    browser = Browser(json.load(sys.stdin))
    for part in (login_page, static_file, log_in):
        start_s = time.monotonic()
        try:
            ok, detail = True, part(browser)
        except (FailedError, OSError, http.client.HTTPException) as error:
            ok, detail = False, str(error) or type(error).__name__
        told = {"ok": ok, "detail": detail, "seconds": time.monotonic() - start_s}
        print(json.dumps(told), flush=True)  # noqa: T201
        if not ok:
            break


if __name__ == "__main__":
    main()
