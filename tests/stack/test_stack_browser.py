"""What people see of the stack, in a browser: a night from its form to its verdict; a viewer; somebody without a name.

Every step leaves a picture in the folder that TEST_SCREENSHOTS names, for a person to look at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from churn.foundation.links import RETRAINING
from stack.conftest import Person
from support.basics import ROOT
from support.browsers import CHROMIUM, LOOPBACK_ONLY, QUIET
from support.stacks import Stack

NOTE = "Asked for in the form by otto"
TASKS = 7
NIGHT_MS, PAGE_MS = 600_000, 60_000

pytestmark = [
    pytest.mark.stack,
    pytest.mark.engine,
    pytest.mark.browser,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
]


@dataclass
class Visit:
    """A person's window, the pictures of it, and all that its pages asked for."""

    page: Page
    stack: Stack
    pictures: Path
    title: str
    asked: list[str] = field(default_factory=list)
    steps: int = 0

    def picture(self, step: str, page: Page | None = None) -> None:
        self.steps += 1
        path = self.pictures / f"{self.title}-{self.steps}-{step}.png"
        (page or self.page).screenshot(path=path, animations="disabled")

    def open_dag(self) -> None:
        self.page.goto(f"{self.stack.airflow_url}/dags/{RETRAINING}")

    def log_in(self, person: Person) -> None:
        """At the login page, to which Airflow has led whoever opened the DAG's; it leads back there."""
        self.page.wait_for_url("**/auth/login/**")
        self.picture("login")
        self.page.fill("input[name=username]", person.name)
        self.page.fill("input[name=password]", person.password)
        self.page.get_by_role("button", name="Sign In").click()
        self.page.wait_for_url(f"{self.stack.airflow_url}/dags/{RETRAINING}")
        expect(self.page.get_by_test_id("task-compare")).to_be_visible()
        # Before its words have come, the page shows their names: `triggerDag.button`.
        expect(self.page.get_by_test_id("trigger-dag-button")).to_have_text("Trigger")
        expect(self.page.get_by_text(re.compile("^Failed (Tasks|Runs)$"))).to_have_count(2)
        self.picture("dag")

    def strangers(self) -> list[str]:
        """Whatever was asked of another host than this one."""
        parts = [urlsplit(url) for url in self.asked]
        return [part.geturl() for part in parts if part.netloc and part.hostname != "127.0.0.1"]


Open = Callable[[str, Person | None], AbstractContextManager[Visit]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PAGE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET + LOOPBACK_ONLY)
        yield browser
        browser.close()


@pytest.fixture
def visit(stack: Stack, chromium: Browser, tmp_path: Path) -> Open:
    """Open a window: for nobody, or for a person whose name and password MLflow gets when it asks."""
    pictures = Path(os.environ.get("TEST_SCREENSHOTS") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def open_window(title: str, person: Person | None) -> Iterator[Visit]:
        known = {"username": person.name, "password": person.password, "origin": stack.mlflow_url} if person else None
        context = chromium.new_context(http_credentials=known, viewport={"width": 1200, "height": 800})
        context.set_default_timeout(PAGE_MS)
        window_of_person = Visit(context.new_page(), stack, pictures, title)
        context.on("request", lambda request: window_of_person.asked.append(request.url))
        try:
            yield window_of_person
        except BaseException:
            for number, page in enumerate(context.pages):
                page.screenshot(path=pictures / f"{title}-failed-{number}.png")
            raise
        finally:
            context.close()
        assert window_of_person.strangers() == []

    return open_window


def test_an_operator_follows_a_night_from_the_form_to_its_verdict(
    stack: Stack, people: dict[str, Person], visit: Open
) -> None:
    """Log in, trigger with a note, see the run turn green, open the comparison from its task, read verdict and note in MLflow."""
    stack.make("land", FILE=str(ROOT / "data/sample/night-1.csv"))
    operator = people["Op"]
    with visit("operator", operator) as window:
        page = window.page
        window.open_dag()
        window.log_in(operator)
        page.get_by_test_id("trigger-dag-button").click()
        form = page.get_by_role("dialog")
        form.get_by_role("button", name="For the record").click()
        note = form.locator("[name=element_note]")
        note.fill(NOTE)
        expect(form.get_by_text("Do not enter customer data.")).to_be_visible()
        expect(form).to_contain_text("Advanced Options")
        window.picture("form")
        form.get_by_test_id("trigger-dag-submit").click()

        page.wait_for_url(f"**/dags/{RETRAINING}/runs/*")
        night = unquote(urlsplit(page.url).path.rpartition("/")[2])
        state = page.get_by_test_id("header-card").get_by_test_id("state-badge")
        expect(state).to_have_text(re.compile("Queued|Running"))
        window.picture("run-begins")
        expect(state).to_have_text(re.compile("Success|Failed"), timeout=NIGHT_MS)
        expect(state).to_have_text("Success")
        tasks = page.get_by_test_id("table-list").get_by_test_id("state-badge")
        expect(tasks).to_have_text(["Success"] * TASKS)  # the page asks again every few seconds
        window.picture("run-ends")

        page.get_by_test_id("table-list").get_by_role("link", name="compare", exact=True).click()
        page.wait_for_url("**/tasks/compare")
        page.get_by_role("link", name="Details", exact=True).click()
        to_mlflow = page.get_by_role("link", name="Comparison in MLflow")
        expect(to_mlflow).to_be_visible()
        window.picture("task")

        with page.context.expect_page() as opened:
            to_mlflow.click()
        run = opened.value
        assert run.url.startswith(f"{stack.mlflow_url}/#/experiments/"), run.url
        expect(run.get_by_text("Model metrics")).to_be_visible()  # not the view for GenAI
        verdict = run.get_by_text(_verdict(stack, night))
        expect(verdict).to_be_visible()
        expect(run.get_by_role("link", name="challenger v").first).to_be_visible()
        window.picture("mlflow", run)
        assistant = run.get_by_role("button", name="Close", exact=True)  # it opens itself the first time
        assistant.click()
        expect(assistant).to_be_hidden()
        run.get_by_text("Show more").click()  # MLflow folds the description
        expect(run.get_by_text("Show less")).to_be_visible()
        run.get_by_text(NOTE).scroll_into_view_if_needed()
        expect(run.get_by_text(NOTE)).to_be_in_viewport()
        expect(verdict).to_be_in_viewport()
        window.picture("verdict", run)


def test_a_viewer_sees_the_dag_and_cannot_trigger_it(people: dict[str, Person], visit: Open) -> None:
    """Airflow shows the button to whoever may look; what it asks for is forbidden, and the form says so."""
    with visit("viewer", people["Viewer"]) as window:
        window.open_dag()
        window.log_in(people["Viewer"])
        window.page.get_by_test_id("trigger-dag-button").click()
        with window.page.expect_response(lambda answer: answer.url.endswith(f"/{RETRAINING}/dagRuns")) as answered:
            window.page.get_by_test_id("trigger-dag-submit").click()
        assert answered.value.status == httpx.codes.FORBIDDEN
        expect(window.page.get_by_role("dialog").get_by_text("403 Forbidden")).to_be_visible()
        window.picture("forbidden")


def test_somebody_without_a_name_is_led_to_the_login(visit: Open) -> None:
    """Nothing of the DAG is shown, only the form for name and password."""
    with visit("anonymous", None) as window:
        window.open_dag()
        window.page.wait_for_url("**/auth/login/**")
        expect(window.page.locator("input[name=password]")).to_be_visible()
        window.picture("login")
        assert RETRAINING not in window.page.inner_text("body")


def _verdict(stack: Stack, night: str) -> str:
    """What the task has decided, in the words of the description in MLflow."""
    kept = f"/api/v2/dags/{RETRAINING}/dagRuns/{night}/taskInstances/compare/xcomEntries/return_value?stringify=false"
    decision = stack.admin._call("GET", kept)["value"]
    return f"{decision['verdict'].upper()} ({decision['code']})"
