"""A person's browser for the tests: the distribution's Chromium, which reaches nothing but loopback, and what it saw."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, FrameLocator, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
# Chromium's own business with its maker is off, no proxy is asked, and no name but loopback's is found.
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking"]
LOOPBACK_ONLY = ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
WIDE, NARROW = (1280, 900), (390, 844)
Size = tuple[int, int]


@dataclass
class Visit:
    """A window of somebody who is logged in to Airflow; what its pages asked for, and what went wrong in them."""

    page: Page
    airflow: str
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def frame(self) -> FrameLocator:
        """The review within Airflow's page."""
        return self.page.frame_locator("iframe[src*='churn-review']")

    def open_review(self, page: str = "") -> None:
        """The review as people find it, within Airflow's own page."""
        self.page.goto(f"{self.airflow}/plugin/churn-review/churn-review/{page}")
        self.frame.locator("h1").wait_for()

    def open_alone(self, page: str = "") -> None:
        """The same page by itself."""
        self.page.goto(f"{self.airflow}/churn-review/{page}")
        self.page.locator("h1").wait_for()

    def choose(self, theme: str, size: Size) -> None:
        """Airflow's switch and the window's size."""
        self.page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        self.page.set_viewport_size({"width": size[0], "height": size[1]})

    def strangers(self) -> list[str]:
        """Whatever was asked of another host than this one."""
        parts = [urlsplit(url) for url in self.asked]
        return [part.geturl() for part in parts if part.netloc and part.hostname != "127.0.0.1"]

    def barriers(self) -> list[str]:
        """What axe finds in the way of people who do not see, or use no mouse, on the page that is open."""
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


@contextmanager
def logged_in(airflow: str, user: str, password: str) -> Iterator[Visit]:
    """A window in which somebody has logged in, and been led back to the review."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET + LOOPBACK_ONLY)
        context: BrowserContext = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
        context.set_default_timeout(60_000)
        visit = Visit(context.new_page(), airflow)
        context.on("request", lambda request: visit.asked.append(request.url))
        visit.page.goto(f"{airflow}/plugin/churn-review")
        visit.page.wait_for_url(re.compile("/auth/login"))
        visit.page.fill("input[name=username]", user)
        visit.page.fill("input[name=password]", password)
        visit.page.keyboard.press("Enter")
        visit.frame.locator("h1").wait_for()
        visit.page.on("console", lambda said: visit.errors.append(said.text) if said.type == "error" else None)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        try:
            yield visit
        finally:
            browser.close()
