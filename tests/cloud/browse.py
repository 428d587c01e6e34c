"""A person at the dashboard in a real Chromium, at the provider's end of the wire.

A program of its own: it runs in the provider's namespace. Standard input holds a JSON object:
``url`` of the front door, ``folder`` for pictures, ``steps``, a list of objects whose ``do`` is the
name of a method of Person and the rest its arguments; with ``shot``, a picture of it is taken
when the step is done. Prints one JSON list: what each step told. A step that fails leaves
``failed.png`` and ends the program with what went wrong on standard error.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Error, Frame, Locator, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
# The closed network of a test machine: no look-ups of the browser's maker.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEW = {"width": 1200, "height": 800}
PATIENCE_S = 120
BUILD_S = 420
CONSOLE = "#noVNC_container canvas"
SAVED_COOKIES = ("sessionid",)
# Counts the colours of a canvas: a console that shows nothing has one.
COLOURS = """canvas => {
  if (!canvas.width || !canvas.height) return {colours: 0, width: 0, height: 0, drawn: 0};
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Map();
  for (let at = 0; at < pixels.length; at += 4) {
    const colour = pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2];
    colours.set(colour, (colours.get(colour) || 0) + 1);
  }
  const most = Math.max(0, ...colours.values());
  return {colours: colours.size, width: canvas.width, height: canvas.height,
          drawn: pixels.length / 4 - most};
}"""


class Person:
    """Somebody with a browser; each method is something done with it."""

    def __init__(self, context: BrowserContext, url: str, folder: Path) -> None:
        self.page = context.pages[0] if context.pages else context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self._context = context
        self._url = url
        self._folder = folder
        self._traffic: list[dict[str, Any]] = []
        self.page.on("response", lambda answer: self._traffic.append(seen(answer)))

    def picture(self, name: str) -> None:
        self.page.screenshot(path=self._folder / f"{name}.png")

    def open(self, path: str) -> dict[str, Any]:
        """Open a page; tell where one ended, how long it took and what it weighed."""
        self._traffic.clear()
        start_s = time.monotonic()
        answer = self.page.goto(self._url + path, wait_until="load")
        seconds = time.monotonic() - start_s
        return {
            "url": self.page.url.removeprefix(self._url),
            "title": self.page.title().strip(),
            "status": answer.status if answer else 0,
            "seconds": seconds,
            "requests": len(self._traffic),
            "bytes": sum(one["bytes"] for one in self._traffic),
            "traffic": list(self._traffic),
        }

    def log_in(self, user: str, password: str, domain: str = "") -> dict[str, Any]:
        """Log in as one does who knows a name and a password, and an entry of the list at most."""
        self.page.goto(f"{self._url}/")
        self.page.get_by_label("User Name").fill(user)
        self.page.get_by_label("Password", exact=True).fill(password)
        if domain:
            self.page.get_by_label("Domain").select_option(label=domain)
        start_s = time.monotonic()
        with self.page.expect_navigation():
            self.page.get_by_role("button", name="Sign In").click()
        told = {"seconds": time.monotonic() - start_s, "url": self._path()}
        if "/auth/login" in self.page.url:
            # Shown by the page's scripts.
            alert = self.page.locator(".alert-danger").filter(has_text=re.compile(r"\w")).first
            expect(alert).to_be_visible()
            return {**told, "refused": alert.inner_text().strip()}
        return {**told, "title": self.page.title().strip()}

    def log_out(self) -> dict[str, Any]:
        """Log out by the menu."""
        self.page.locator("#navbar-collapse, .navbar").locator(".user-name").first.click()
        self.page.get_by_role("link", name="Sign Out").click()
        self.page.wait_for_url("**/auth/login/**")
        return {"url": self._path(), "title": self.page.title().strip()}

    def use_project(self, name: str) -> dict[str, Any]:
        """Choose a project in the bar."""
        self.page.locator(".context-overview").click()
        self.page.locator(".context-selection a").filter(
            has=self.page.get_by_text(name, exact=True)
        ).click()
        self.page.wait_for_load_state("load")
        return {"url": self._path(), "title": self.page.title().strip()}

    def launch(
        self, name: str, image: str, flavor: str, network: str, picture: str = ""
    ) -> dict[str, Any]:
        """Launch an instance through the form and wait until it is active."""
        self.page.goto(f"{self._url}/project/instances/")
        self.page.get_by_role("button", name="Launch Instance").or_(
            self.page.get_by_role("link", name="Launch Instance")
        ).first.click()
        wizard = self.page.locator(".ng-wizard")
        wizard.locator("#name").fill(name)
        if picture:
            self.picture(f"{picture}-details")
        for step, row in (("Source", image), ("Flavor", flavor), ("Networks", network)):
            self._choose(wizard, step, row)
            if picture:
                self.picture(f"{picture}-{step.lower()}")
        start_s = time.monotonic()
        wizard.get_by_role("button", name="Launch Instance").click()
        expect(wizard).to_have_count(0)
        line = self._wait_line("instances", name, "Active")
        return {"line": line, "seconds": time.monotonic() - start_s}

    def floating_ip(self, name: str) -> dict[str, Any]:
        """Give an instance a floating IP through its menu; tell the address."""
        self.page.goto(f"{self._url}/project/instances/")
        row = self._row(name)
        row.locator(".dropdown-toggle").click()
        row.get_by_text("Associate Floating IP", exact=True).click()
        form = self.page.locator("#modal_wrapper .modal-dialog")
        form.locator("a[data-add-to-field], a.ajax-add, .btn-default .fa-plus").first.click()
        self.page.get_by_role("button", name="Allocate IP").click()
        chosen = form.locator("select[name=ip_id] option:checked, #id_ip_id")
        expect(chosen.first).to_contain_text(re.compile(r"\d+\.\d+\.\d+\.\d+"))
        form.get_by_role("button", name="Associate").last.click()
        expect(form).to_have_count(0)
        for _ in every(2, PATIENCE_S):
            self.page.goto(f"{self._url}/project/instances/")
            found = re.findall(r"\d+\.\d+\.\d+\.\d+", self._row(name).inner_text())
            if len(found) > 1:
                return {"addresses": found}
        raise AssertionError(f"{name} shows no floating IP")

    def console(self, name: str, picture: str = "") -> dict[str, Any]:
        """Look at an instance's console until something is drawn on it."""
        self.page.goto(f"{self._url}/project/instances/")
        self._row(name).get_by_role("link", name=name, exact=True).click()
        self.page.get_by_role("tab", name="Console").or_(
            self.page.get_by_role("link", name="Console", exact=True)
        ).first.click()
        self.page.locator("#console_embed").wait_for()
        source = self.page.locator("#console_embed").get_attribute("src")
        seen: dict[str, Any] = {}
        for _ in every(2, PATIENCE_S):
            canvas = self._frame().locator(CONSOLE)
            if canvas.count():
                seen = canvas.first.evaluate(COLOURS)
                if seen["colours"] > 1 and seen["drawn"] > 500:
                    break
        if picture:
            self._frame().locator(CONSOLE).first.screenshot(path=self._folder / f"{picture}.png")
        return {**seen, "source": source}

    def volume(self, name: str, size_gib: int) -> dict[str, Any]:
        """Make a volume; tell its line in the list once it can be used."""
        self.page.goto(f"{self._url}/project/volumes/")
        self.page.locator("#volumes__action_create").click()
        form = self.page.locator("#modal_wrapper .modal-dialog")
        form.locator("#id_name").fill(name)
        form.locator("#id_size").fill(str(size_gib))
        form.get_by_role("button", name="Create Volume").click()
        return {"line": self._wait_line("volumes", name, "Available")}

    def attach(self, name: str, instance: str) -> dict[str, Any]:
        """Give a volume to an instance; tell the volume's line in the list."""
        self.page.goto(f"{self._url}/project/volumes/")
        form = self.page.locator("#modal_wrapper .modal-dialog")
        row = self._line("volumes", name)
        row.locator(".dropdown-toggle").click()
        row.get_by_text("Manage Attachments").click()
        # The list itself is hidden behind a menu that looks like the rest of the page.
        choice = form.locator(".themable-select").filter(has=self.page.locator("#id_instance"))
        choice.locator(".dropdown-toggle").first.click()
        choice.locator(".dropdown-menu a").filter(has_text=instance).first.click()
        form.get_by_role("button", name="Attach Volume").click()
        return {"line": self._wait_line("volumes", name, "In-use")}

    def delete(self, name: str) -> dict[str, Any]:
        """Delete an instance through its menu and wait until it is gone."""
        self.page.goto(f"{self._url}/project/instances/")
        row = self._row(name)
        row.locator(".dropdown-toggle").click()
        row.get_by_text("Delete Instance").click()
        self.page.locator(".modal-dialog .btn", has_text="Delete Instance").click()
        for _ in every(2, BUILD_S):
            self.page.goto(f"{self._url}/project/instances/")
            if not self._row(name).count():
                return {}
        raise AssertionError(f"{name} is still there")

    def click(self, name: str) -> dict[str, Any]:
        """Follow a link or press a button by its name; tell where that leads to."""
        self.page.locator("a, button").filter(has_text=name).first.click()
        self.page.wait_for_load_state("load")
        return {"url": self._path(), "title": self.page.title().strip()}

    def wait_for(self, path: str) -> dict[str, Any]:
        """Wait until the browser is at a path, by itself."""
        self.page.wait_for_url(f"**{path}*")
        return {"url": self._path(), "title": self.page.title().strip()}

    def wait_idle(self) -> dict[str, Any]:
        """Wait until the page's scripts have got what they asked for."""
        self.page.wait_for_load_state("networkidle")
        return {"url": self._path(), "title": self.page.title().strip()}

    def lose_session(self) -> dict[str, Any]:
        """Lose the cookie of the session, as when the browser was closed.

        An answer still under way would bring it back.
        """
        self.page.wait_for_load_state("networkidle")
        for name in SAVED_COOKIES:
            self._context.clear_cookies(name=name)
        return {}

    def text(self, selector: str = "body") -> dict[str, Any]:
        """Tell the text of a part of the page."""
        return {"text": self.page.locator(selector).first.inner_text()}

    def _choose(self, wizard: Locator, step: str, row: str) -> None:
        wizard.locator(".wizard-nav").get_by_text(step, exact=True).click()
        part = wizard.locator(".wizard-steps > .step:not(.ng-hide)")
        allocated = part.locator(".transfer-allocated tr", has_text=row)
        if not allocated.count():
            line = part.locator(".transfer-available tr", has_text=row).first
            line.locator(".fa-arrow-up").first.click()
        expect(allocated.first).to_be_visible()

    def _row(self, name: str) -> Locator:
        return self._line("instances", name)

    def _line(self, table: str, name: str) -> Locator:
        link = self.page.get_by_role("link", name=name, exact=True)
        return self.page.locator(f"#{table} tbody tr").filter(has=link)

    def _wait_line(self, table: str, name: str, status: str) -> str:
        text = ""
        for _ in every(3, BUILD_S):
            try:
                self.page.goto(f"{self._url}/project/{table}/")
            except Error as error:
                # The page that a form leads to comes in between.
                if "ERR_ABORTED" not in str(error):
                    raise
                continue
            line = self._line(table, name)
            text = " ".join(line.inner_text().split()) if line.count() else ""
            if re.search(rf"\b{status}\b", text):
                return text
            if re.search(r"\bError\b", text):
                break
        raise AssertionError(f"{name} is not {status}: {text or 'not there'}")

    def _frame(self) -> Frame:
        handle = self.page.locator("#console_embed").element_handle()
        frame = handle.content_frame() if handle else None
        if frame is None:
            raise AssertionError("the console's frame is empty")
        return frame

    def _path(self) -> str:
        return self.page.url.removeprefix(self._url)


def every(pause_s: float, limit_s: float) -> Iterator[None]:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        yield
        time.sleep(pause_s)


def seen(answer: Any) -> dict[str, Any]:
    headers = answer.headers
    return {
        "path": re.sub(r"^https?://[^/]+", "", answer.url),
        "status": answer.status,
        "bytes": int(headers.get("content-length", 0)),
        "encoding": headers.get("content-encoding", ""),
        "cache": headers.get("cache-control", ""),
    }


@contextmanager
def browser() -> Iterator[BrowserContext]:
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home,
            executable_path=CHROMIUM,
            headless=True,
            args=list(FLAGS),
            ignore_https_errors=True,
            viewport=VIEW,
        )
        yield context
        context.close()


def main() -> int:
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    expect.set_options(timeout=PATIENCE_S * 1000)
    told: list[dict[str, Any]] = []
    with browser() as context:
        person = Person(context, request["url"], folder)
        for step in request["steps"]:
            arguments = {key: value for key, value in step.items() if key not in ("do", "shot")}
            try:
                told.append({"do": step["do"], **getattr(person, step["do"])(**arguments)})
            except (AssertionError, Error) as error:
                person.picture("failed")
                print(f"{step['do']} at {person.page.url}: {error}", file=sys.stderr)  # noqa: T201
                return 1
            if "shot" in step:
                person.picture(step["shot"])
    print(json.dumps(told))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
