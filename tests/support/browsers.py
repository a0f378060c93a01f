"""A browser for the tests: the distribution's Chromium, restricted to loopback, and a record of its requests and errors."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    APIResponse,
    BrowserContext,
    ConsoleMessage,
    Error,
    FrameLocator,
    Locator,
    Page,
    Request,
    Response,
    sync_playwright,
)

CHROMIUM = shutil.which("chromium")
# Chromium sends nothing to its vendor, uses no proxy, and resolves no name but that of loopback.
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking"]
LOOPBACK_ONLY = ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"
_TIMES = 10
"""How often an address is opened, while container networks change or its service is busy with other tests."""
_UNAVAILABLE = 503
WIDE, NARROW = (1280, 900), (390, 844)
Size = tuple[int, int]


@dataclass
class Visit:
    """A window of a user who is logged in to Airflow.

    `requested` are the addresses of all requests, `given_up` those that Chromium gave up because a container network came or went,
    `unavailable` those of the review that were answered too late for a page, and `errors` those of pages.
    """

    page: Page
    airflow: str
    requested: list[str] = field(default_factory=list)
    given_up: set[str] = field(default_factory=set)
    unavailable: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def record(self, error: str, source: str = "") -> None:
        """Record an error of a page, unless it is about a request that was given up, that is made again, or that Airflow's page makes.

        Airflow's pages ask for what is not there yet, such as the question of a task that has just been answered.
        """
        ignored = {*self.given_up, *self.unavailable}
        if NETWORK_CHANGED in error or source in ignored or any(url in error for url in ignored):
            return
        if error.startswith("Failed to load resource") and source.startswith(f"{self.airflow}/api/"):
            return
        self.errors.append(f"{error} ({source})")

    def record_message(self, message: ConsoleMessage) -> None:
        """Record what a page writes to the console, if it is an error."""
        if message.type == "error":
            self.record(message.text, message.location["url"])

    def record_failure(self, request: Request) -> None:
        """Remember a request that was given up: pages report its file as missing, such as that of an editor."""
        if NETWORK_CHANGED in (request.failure or ""):
            self.given_up.add(request.url)

    def record_answer(self, answer: Response) -> None:
        """Remember a page of the review that says that it should be loaded again."""
        if answer.status == _UNAVAILABLE and "/churn-review/" in answer.url:
            self.unavailable.append(answer.url)

    @property
    def frame(self) -> FrameLocator:
        """The review within Airflow's page."""
        return self.page.frame_locator("iframe[src*='churn-review']")

    def open_review(self, page: str = "") -> None:
        """Open the review as people do, within Airflow's own page."""
        self._open(f"{self.airflow}/plugin/churn-review/churn-review/{page}", self.frame.locator("h1"))

    def open_alone(self, page: str = "") -> None:
        """Open the same page by itself."""
        self._open(f"{self.airflow}/churn-review/{page}", self.page.locator("h1"))

    def get(self, url: str) -> APIResponse:
        """Request an address; again as long as it is unavailable."""
        for _ in range(_TIMES - 1):
            answer = self.page.request.get(url)
            if answer.status != _UNAVAILABLE:
                return answer
        return self.page.request.get(url)

    def _open(self, url: str, heading: Locator) -> None:
        """Open an address and wait for its heading; again if a container network came or went, or if it is unavailable.

        Pages give the ledger about a second, so that a person does not wait for one that hangs; beside other tests it may need more.
        """
        for _ in range(_TIMES):
            before = len(self.unavailable)
            try:
                self.page.goto(url)
            except Error as error:
                if NETWORK_CHANGED not in error.message:
                    raise
                continue
            heading.wait_for()
            if len(self.unavailable) == before:
                return
        raise AssertionError(f"{url} could not be opened {_TIMES} times. Unavailable: {self.unavailable}")

    def choose(self, theme: str, size: Size) -> None:
        """Choose Airflow's theme and the size of the window."""
        self.page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        self.page.set_viewport_size({"width": size[0], "height": size[1]})

    def external_requests(self) -> list[str]:
        """List the requests to other hosts than loopback."""
        parts = [urlsplit(url) for url in self.requested]
        return [part.geturl() for part in parts if part.netloc and part.hostname != "127.0.0.1"]

    def accessibility_violations(self) -> list[str]:
        """List the accessibility violations that axe finds on the open page."""
        violations = Axe().run(self.page).response["violations"]
        return [f"{violation['id']}: {violation['nodes'][0]['html'][:200]}" for violation in violations]


@contextmanager
def logged_in(airflow: str, user: str, password: str) -> Iterator[Visit]:
    """Open a window, log in to Airflow, and follow the redirect back to the review."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET + LOOPBACK_ONLY)
        context: BrowserContext = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
        context.set_default_timeout(120_000)
        visit = Visit(context.new_page(), airflow)
        context.on("request", lambda request: visit.requested.append(request.url))
        context.on("requestfailed", visit.record_failure)
        context.on("response", visit.record_answer)
        visit.page.goto(f"{airflow}/plugin/churn-review")
        visit.page.wait_for_url(re.compile("/auth/login"))
        visit.page.fill("input[name=username]", user)
        visit.page.fill("input[name=password]", password)
        visit.page.keyboard.press("Enter")
        visit.frame.locator("h1").wait_for()
        visit.page.on("console", visit.record_message)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        try:
            yield visit
        finally:
            browser.close()
