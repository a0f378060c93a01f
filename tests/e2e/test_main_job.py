"""`make run` for real: the sample's nights through a running Airflow, over REST, in a copy of the checkout."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import quote, urljoin

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Locator, expect
from playwright.sync_api import TimeoutError as NotThere

from support.basics import small_file
from support.browsers import CHROMIUM, LOOPBACK_ONLY, NARROW, QUIET, WIDE, Visit, logged_in
from support.checkouts import Checkout, make_checkout

AFTER_SCORES = """
from airflow.sdk import Asset, dag, task

@dag(schedule=[Asset(name="churn_scores")], catchup=False)
def after_scores():
    @task
    def read(triggering_asset_events=None):
        return [event.extra for events in triggering_asset_events.values() for event in events][-1]

    read()

after_scores()
"""
"""A DAG of another team, which starts when a list has been published and delivered."""
LOOKED_INTO = (("light", WIDE), ("dark", NARROW))
"""Every colour and every shape of a page is looked into once."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = make_checkout(tmp_path_factory.mktemp("checkout"))
    (made.folder / "dags" / "after_scores.py").write_text(AFTER_SCORES)
    yield made
    made.churn("local", "stop")


@pytest.fixture(scope="module")
def first_run(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    return checkout.churn("local", "run")


def named_user(first_run: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The user and the password that the summary names."""
    user, password = re.findall(r"user (\S+), password (\S+)", first_run.stdout)[0]
    return user, password


def log_in(checkout: Checkout, first_run: subprocess.CompletedProcess[str]) -> dict[str, str]:
    user, password = named_user(first_run)
    answer = httpx.post(f"{checkout.airflow}/auth/token", json={"username": user, "password": password})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def test_the_first_call_runs_two_nights_and_promotes_twice(first_run: subprocess.CompletedProcess[str]) -> None:
    """Exit 0; each task with its time; both verdicts with their numbers; production, image, links, password."""
    output = first_run.stdout
    assert first_run.returncode == 0, output + first_run.stderr
    assert re.findall(r"(?:PROMOTE|HOLD) [A-Z_]+", output) == ["PROMOTE NO_CHAMPION", "PROMOTE SUPERIOR"], output
    assert re.search(r"train: done after \d+\.\d s", output)
    assert re.search(r"ROC AUC .* \+0\.\d{4} to \+0\.\d{4}", output)
    assert "quarantined" in output
    assert "In production: version 2" in output
    assert "Image: not built, because there is no container engine" in output
    assert re.search(r"/#/experiments/\d+/runs/[0-9a-f]{32}\?workflowType=machine_learning", output)
    assert re.search(r"user admin, password \S{12,}", output)


def test_the_run_ends_with_a_list_that_starts_another_dag(
    checkout: Checkout, first_run: subprocess.CompletedProcess[str]
) -> None:
    """Counts, the place of the list and the command that shows its first rows; the event has its id, its place and its counts."""
    output = first_run.stdout
    (name,) = re.findall(r"List ([0-9a-f]{12}): campaign retention, version 2, accepted", output)
    arrived, scored, quarantined = (
        int(count.replace(",", ""))
        for count in re.findall(r"([\d,]+) customers arrived: ([\d,]+) scored, ([\d,]+) quarantined", output)[-1]
    )
    assert arrived == scored + quarantined > 1000
    assert f"/data/scores/{name}" in output
    assert f"First rows: churn scores export {name} --first 10" in output
    shown = checkout.churn("scores", "export", name, "--first", "10").stdout.splitlines()
    assert len(shown) == 11
    assert shown[0].startswith('"CustomerId","probability","rank"')
    bearer, deadline = log_in(checkout, first_run), time.monotonic() + 120
    runs = f"{checkout.airflow}/api/v2/dags/after_scores/dagRuns"
    while True:
        started = httpx.get(runs, headers=bearer).json()["dag_runs"]
        if started and all(run["state"] == "success" for run in started):
            break
        assert time.monotonic() < deadline, started
        time.sleep(1)
    last = max(started, key=lambda run: run["run_after"])["dag_run_id"]
    entry = f"{runs}/{quote(last, safe='')}/taskInstances/read/xcomEntries/return_value"
    event = httpx.get(entry, headers=bearer).json()["value"]
    event = json.loads(event) if isinstance(event, str) else event
    assert event["list"].startswith(name)
    assert (event["version"], event["rows"]) == (2, scored)


def test_the_next_call_reuses_the_services_and_holds_more_of_the_same(
    checkout: Checkout, first_run: subprocess.CompletedProcess[str]
) -> None:
    """A hold is a success; after the third night the sample has no more, and that is said."""
    third = checkout.churn("local", "run")
    assert third.returncode == 0, third.stdout + third.stderr
    assert "HOLD TOO_FRESH" in third.stdout
    assert "running" in third.stdout.splitlines()[0]
    fourth = checkout.churn("local", "run")
    assert fourth.returncode == 0
    assert "All 3 nights of the sample have been run" in fourth.stdout


def test_a_rejected_file_of_any_name_is_told_again(
    checkout: Checkout, first_run: subprocess.CompletedProcess[str]
) -> None:
    """Blanks, brackets and umlauts are no obstacle; a night without a verdict is no success, the second time either."""
    file = checkout.folder / "kündigungen (copy).csv"
    file.write_text("no,churn\n1,2\n")
    for _ in range(2):
        done = checkout.churn("local", "run", "--data", str(file), "--nights", "1")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Columns are missing: " in done.stdout


def test_a_night_that_died_is_made_up_for(checkout: Checkout, first_run: subprocess.CompletedProcess[str]) -> None:
    """Rows that were accepted, and that no decision has seen, are the first thing that the next call takes."""
    more = checkout.folder / "more.csv"
    more.write_text(small_file(600, first_customer=40_000_000))
    assert checkout.churn("land", str(more)).returncode == 0
    died = (
        "from churn.pipeline import steps; from churn.pipeline.workspace import Request, Workspace; w = Workspace.open(); "
        + ("[steps.validate(w, Request('died'), batch.batch) for batch in steps.arrive(w, Request('died')).batches]")
    )
    subprocess.run([sys.executable, "-c", died], cwd=checkout.folder, env=checkout.environment, check=True, timeout=120)
    assert "not been used in a decision" in checkout.churn("status").stdout
    done = checkout.churn("local", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "uses its data first" in done.stdout
    assert "HOLD" in done.stdout


def test_status_and_history_agree(checkout: Checkout, first_run: subprocess.CompletedProcess[str]) -> None:
    """Registry, ledger and image agree, and every service is healthy."""
    status = json.loads(checkout.churn("status", "--json").stdout)
    assert status["problems"] == []
    assert status["in_production"]["version"] == 2
    assert all(service["healthy"] for service in status["services"])
    history = json.loads(checkout.churn("history", "--json").stdout)
    assert [row["version"] for row in history] == [2, 1]


def test_data_docs_are_behind_the_login(checkout: Checkout, first_run: subprocess.CompletedProcess[str]) -> None:
    """Anonymous 401; with a token the batch's page; an unknown batch 404; nothing outside the docs."""
    batch = json.loads(checkout.churn("batches", "--json").stdout)[0]["batch"]
    bearer = log_in(checkout, first_run)
    run = re.findall(r"/runs/(night-1__\S+)", first_run.stdout)[0]
    path = f"{checkout.airflow}/api/v2/dags/churn_retraining/dagRuns/{run}/taskInstances/validate/links?map_index=0"
    page = httpx.get(path, headers=bearer).json()["extra_links"]["Data Docs"]
    assert batch in page
    assert httpx.get(page).status_code == 401
    answer = httpx.get(page, headers=bearer)
    assert answer.status_code == 200
    assert "text/html" in answer.headers["content-type"]
    assert httpx.get(page.replace(batch, "0" * 64), headers=bearer).status_code == 404
    assert httpx.get(page.replace("index.html", "..%2f..%2fledger.db"), headers=bearer).status_code == 404


def test_the_comparison_links_to_the_run(checkout: Checkout, first_run: subprocess.CompletedProcess[str]) -> None:
    """The task's link in Airflow is the comparison that the summary names."""
    bearer = log_in(checkout, first_run)
    run = re.findall(r"/runs/(night-2__\S+)", first_run.stdout)[0]
    path = f"{checkout.airflow}/api/v2/dags/churn_retraining/dagRuns/{run}/taskInstances/compare/links"
    links = httpx.get(path, headers=bearer).json()["extra_links"]
    assert links["Comparison in MLflow"] in first_run.stdout


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
def test_the_links_open_the_right_pages(checkout: Checkout, first_run: subprocess.CompletedProcess[str]) -> None:
    """In a browser: MLflow shows the decision first, in the mode with metrics; Airflow shows the night after the login."""
    from playwright.sync_api import sync_playwright

    comparison = re.findall(r"Comparison in MLflow: (\S+)", first_run.stdout)[-1]
    night = re.findall(r"DAG run: (\S+)", first_run.stdout)[-1]
    user, password = named_user(first_run)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *LOOPBACK_ONLY])
        page = browser.new_page()
        page.goto(comparison)
        page.get_by_text("Version 2 is better than champion 1").first.wait_for()
        page.get_by_text("Model metrics").first.wait_for()
        assert page.get_by_text("champion v1").count()
        page.goto(night)
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", password)
        page.keyboard.press("Enter")
        page.get_by_text("churn_retraining").first.wait_for()
        page.goto(f"{night}/tasks/compare/details")
        page.get_by_text("Comparison in MLflow").first.wait_for()
        browser.close()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
def test_the_review_is_read_in_both_themes_and_on_a_telephone(
    checkout: Checkout, first_run: subprocess.CompletedProcess[str]
) -> None:
    """Every page within Airflow and by itself: whole, not wider than the window, in Airflow's theme, and without barriers."""
    user, password = named_user(first_run)
    batch = json.loads(checkout.churn("batches", "--json").stdout)[0]["batch"]
    nights = [quote(name, safe="") for name in re.findall(r"/runs/(night-\d__\S+)", first_run.stdout)[:2]]
    pages = [
        "",
        "nights",
        *(f"night?name={name}" for name in nights),
        "data",
        f"batch?hash={batch}",
        "images",
        "scores",
    ]
    pages.append(f"compare?left={nights[0]}&right={nights[1]}")
    with logged_in(checkout.airflow, user, password) as visit:
        for theme, size in LOOKED_INTO:
            visit.choose(theme, size)
            for page in pages:
                visit.open_alone(page)
                root = visit.page.locator("html")
                assert root.get_attribute("data-theme") == theme
                assert root.evaluate("root => root.scrollWidth") <= size[0], page
                assert visit.accessibility_violations() == [], f"{page} in {theme} at {size}"
            visit.open_review()
            assert visit.frame.locator("html").get_attribute("data-theme") == theme
        # Nothing can be unfolded on paper, so tables are printed unfolded; parameters of one version alone are not.
        visit.open_alone(f"night?name={nights[1]}")
        folded = visit.page.locator("details:not(.one-sided) table").all()
        assert len(folded) > 3
        assert not any(element.is_visible() for element in folded)
        visit.page.emulate_media(media="print")
        assert all(element.is_visible() for element in folded)
        assert not any(table.is_visible() for table in visit.page.locator("details.one-sided table").all())
        assert visit.errors == []
        assert visit.external_requests() == []


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
def test_every_link_of_the_review_leads_somewhere(
    checkout: Checkout, first_run: subprocess.CompletedProcess[str]
) -> None:
    """Pages, JSON, Data Docs, DAG runs and MLflow: from the first page on, each address that a page names answers."""
    user, password = named_user(first_run)
    with logged_in(checkout.airflow, user, password) as visit:
        seen, waiting = set[str](), [f"{checkout.airflow}/churn-review/"]
        while waiting:
            address = waiting.pop()
            if address in seen:
                continue
            seen.add(address)
            answer = visit.get(address)
            assert answer.ok, f"{address}: {answer.status}"
            if "/churn-review/" in address and "/docs/" not in address and "json" not in address:
                named = re.findall(r'<a[^>]* href="([^"#][^"]*)"', answer.text())
                waiting += [urljoin(address, html.unescape(element)).partition("#")[0] for element in named]
        kinds = (
            "/churn-review/night?",
            "/churn-review/batch?",
            "/docs/",
            "format=json",
            "/dags/churn_retraining/runs/",
        )
        assert [kind for kind in kinds if not any(kind in address for address in seen)] == []
        assert any(f":{checkout.environment['CHURN_MLFLOW_PORT']}" in address for address in seen)
        # With clicks as well: the sandbox of the frame restricts what its links may do.
        visit.open_review()
        visit.frame.get_by_role("link", name="Nightly runs", exact=True).click()
        visit.frame.get_by_role("button", name="Compare").click()
        visit.frame.get_by_role("heading", name="Two runs").wait_for()
        visit.frame.get_by_role("link", name="Nightly runs", exact=True).click()
        visit.frame.get_by_role("button", name="Compare").wait_for()  # "Two runs" has a table with links too
        visit.frame.locator("tbody a").first.click()
        visit.frame.locator(".verdict").wait_for()
        visit.page.reload()
        visit.frame.locator(".verdict").wait_for()
        # The newest night may have been made up for, and have no file of its own.
        second = re.findall(r"/runs/(night-2__\S+)", first_run.stdout)[0]
        visit.open_review(f"night?name={quote(second, safe='')}")
        for title in ("Comparison in MLflow", "Data Docs of"):
            with visit.page.context.expect_page() as opened:
                visit.frame.get_by_role("link", name=title).first.click()
            opened.value.wait_for_load_state("domcontentloaded")
            assert opened.value.url.startswith("http://127.0.0.1")
            opened.value.close()
        visit.frame.get_by_role("link", name="DAG run").click()
        visit.page.wait_for_url("**/dags/churn_retraining/runs/**")
        # A session that has ended is told within the frame, and leads back to the page that was asked for.
        visit.open_review()
        visit.page.context.clear_cookies()
        visit.frame.get_by_role("link", name="Images", exact=True).click()
        visit.frame.get_by_role("link", name="Log in").click()
        visit.page.wait_for_url(re.compile("/auth/login"))
        visit.page.fill("input[name=username]", user)
        visit.page.fill("input[name=password]", password)
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**/plugin/churn-review/churn-review/images")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
def test_a_night_is_asked_for_and_approved_from_the_review(
    checkout: Checkout, first_run: subprocess.CompletedProcess[str]
) -> None:
    """The form opens, the night waits for a person, the review leads to the question, and then says what has changed; the way back is filled in."""
    user, password = named_user(first_run)
    with logged_in(checkout.airflow, user, password) as visit:
        before = visit.frame.locator("h1").inner_text()
        visit.frame.get_by_role("link", name="Trigger a run").click()
        form = visit.page.get_by_role("dialog")
        form.get_by_role("button", name="What to do").click()
        for name in ("retrain", "approval"):
            form.locator(f"label:has([name=element_{name}])").click()
        form.locator("[name=element_force_reason]").fill("The board has asked for it.")
        form.get_by_test_id("trigger-dag-submit").click()
        visit.page.wait_for_url("**/dags/churn_retraining/runs/*")
        _reload_until(visit, lambda: visit.frame.get_by_role("link", name="Approve or reject").count() > 0)
        assert visit.frame.locator("h1").inner_text() == before
        visit.frame.get_by_role("link", name="Approve or reject").click()
        visit.page.wait_for_url("**/tasks/promote/required_actions")
        _approve(visit)
        _reload_until(visit, lambda: visit.frame.locator("h1").inner_text() != before)
        assert visit.frame.get_by_text("by admin (FORCED)").count() == 1
        visit.frame.get_by_role("link", name="Roll back to version").click()
        form.get_by_role("spinbutton").wait_for()
        visit.page.wait_for_function("document.querySelector('[name=element_version]').value !== ''")
        form.get_by_role("button", name="Advanced Options").click()
        expect(form).to_contain_text(re.compile(r'"version":\s*2'))
        assert visit.errors == []
        assert visit.external_requests() == []


def _approve(visit: Visit) -> None:
    """Click until Airflow has taken the answer: a click while the page is drawn is lost, and so is one while the task is asking again."""
    for _ in range(10):
        button = _reload_until_there(visit, visit.page.get_by_role("button", name="Approve").first)
        with suppress(NotThere):
            with visit.page.expect_response(lambda answer: answer.request.method == "PATCH", timeout=15_000) as sent:
                button.click()
            if sent.value.ok:
                return
        visit.page.reload()
    raise AssertionError("Airflow has not sent the answer.")


def _reload_until_there(visit: Visit, button: Locator) -> Locator:
    """Airflow's page shows a question only if it was asked before the page was opened."""
    for _ in range(10):
        with suppress(NotThere):
            button.wait_for(timeout=10_000)
            return button
        visit.page.reload()
    raise AssertionError("Airflow shows no question.")


def _reload_until(visit: Visit, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 900  # a training takes minutes beside other tests
    while True:
        visit.open_review()
        if done():
            return
        assert time.monotonic() < deadline, visit.frame.locator("main").inner_text()
        visit.page.goto("about:blank")  # Airflow's page takes a third of a core while it is open
        time.sleep(4)


def test_no_secret_and_no_customer_leaves_the_data_root(
    checkout: Checkout, first_run: subprocess.CompletedProcess[str]
) -> None:
    """Logs, Airflow's and MLflow's databases and artifacts hold neither the salt nor a row's value."""
    salt = (checkout.folder / "var/secrets/churn_bucket_salt").read_text()
    accepted = (checkout.folder / "data/sample/night-1.csv").read_text().splitlines()[1]
    quarantined = [
        row
        for file in (checkout.folder / "data/quarantine").rglob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]
    assert len(quarantined) >= 20
    # The numbers of a row that no other text has: customer, balance, salary.
    cells = {
        cell for raw in [accepted, *(row["_raw"] for row in quarantined)] for cell in raw.split(",") if len(cell) >= 7
    }
    customers = {cell for cell in cells if cell.replace(".", "").isdigit()}
    assert len(customers) > 40
    places = ("var/log", "var/airflow", "var/mlflow")  # logs, XCom, metadata, artifacts
    files = [file for place in places for file in (checkout.folder / place).rglob("*") if file.is_file()]
    assert len(files) > 50
    for file in files:
        content = file.read_bytes()
        for secret in (salt, *customers, "Atlantis"):
            assert secret.encode() not in content, f"{file} holds a value that must not leave the data root"


def test_stop_leaves_no_process(checkout: Checkout, first_run: subprocess.CompletedProcess[str]) -> None:
    """After `make stop` nothing of this checkout runs."""
    assert checkout.churn("local", "stop").returncode == 0
    left = [process for process in psutil.process_iter(["cmdline", "cwd"]) if str(checkout.folder) in str(process.info)]
    assert left == []
