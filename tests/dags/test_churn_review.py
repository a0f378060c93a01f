"""The review's routes under Airflow's own permissions: who sees what, what a browser is told, what is said when things are away."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from churn.foundation.ledger import open_ledger
from churn.foundation.records import BatchVerdict
from churn.foundation.schema import HEAD
from support.basics import free_port
from support.review_ledger import NOW, batch_hash, fill_ledger

PAGES = ["", "nights", "data", "images"]
ROLES = ["VIEWER", "USER", "OP", "ADMIN"]
Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def client(airflow_database: None) -> Iterator[TestClient]:
    """Airflow's own application with our plugin in it."""
    from airflow.api_fastapi.app import create_app

    with TestClient(create_app(apps="core"), base_url="http://airflow.example") as found:
        yield found


@pytest.fixture(scope="module")
def ledger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of sixteen nights, with a rollback and, in the last one, a forced promotion."""
    file = tmp_path_factory.mktemp("review") / "ledger.db"
    fill_ledger(f"sqlite:///{file}", 16)
    return file


@pytest.fixture
def ask(client: TestClient, ledger_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ask for a page in a role, by a bearer or by the cookie of a browser; without a role as nobody."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{ledger_file}")
    monkeypatch.setenv("CHURN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def get(page: str, role: str | None = "VIEWER", cookie: bool = False, **headers: str) -> httpx.Response:
        client.cookies.clear()
        headers.setdefault("accept", "text/html")
        if role is not None:
            token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=role, role=role or None))
            if cookie:
                client.cookies.set("_token", token)
            else:
                headers["Authorization"] = f"Bearer {token}"
        return client.get(f"/churn-review/{page}", headers=headers, follow_redirects=False)

    return get


NIGHT = quote(f"scheduled__{NOW.replace(hour=2).isoformat()}", safe="")
ALL = [*PAGES, f"night?name={NIGHT}", f"batch?hash={batch_hash(9)}", f"compare?left={NIGHT}&right={NIGHT}"]


@pytest.mark.parametrize("page", ALL)
def test_nobody_without_a_name_sees_anything(ask: Ask, page: str) -> None:
    """401, as a page that leads to the login and back, or as JSON; nothing of the ledger in either."""
    for headers in ({}, {"accept": "*/*"}):
        answer = ask(page, None, **headers)
        assert answer.status_code == 401
        assert "text/html" in answer.headers["content-type"]
        (login,) = re.findall(r'href="([^"]*auth/login[^"]*)"', answer.text)
        assert "/plugin/churn-review/churn-review/" in httpx.URL(login.replace("&amp;", "&")).params["next"]
        assert "Version 11" not in answer.text
    answer = ask(f"{page}{'&' if '?' in page else '?'}format=json", None)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Not authenticated"}


@pytest.mark.parametrize("page", ALL)
def test_who_has_no_right_is_told_so(ask: Ask, page: str) -> None:
    """403, readable; without any role nothing is shown."""
    answer = ask(page, "")
    assert answer.status_code == 403
    assert "may see the DAG churn_retraining" in answer.text
    assert ask(page, "", accept="application/json").json() == {"detail": "Forbidden"}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("page", ALL)
def test_every_role_reads_every_page(ask: Ask, page: str, role: str) -> None:
    """By bearer and by cookie: the page, and the same view as JSON."""
    for cookie in (False, True):
        answer = ask(page, role, cookie=cookie)
        assert answer.status_code == 200, answer.text
        assert answer.text.count("<h1") == 1
    as_json = ask(f"{page}{'&' if '?' in page else '?'}format=json", role)
    assert isinstance(as_json.json(), dict)


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_trigger_sees_how(ask: Ask, role: str) -> None:
    """A viewer reads; the others are shown the forms of a night and of the way back, filled in."""
    page, found = ask("", role).text, ask("?format=json", role).json()
    forms = [json.loads(one.replace("&#34;", '"')) for one in re.findall(r'data-form="([^"]*)"', page)]
    assert (forms != []) is (found["actions"] != []) is (role != "VIEWER")
    if forms:
        assert forms == [{}, {"version": found["actions"][1]["values"]["version"]}]
        assert [action["dag"] for action in found["actions"]] == ["churn_retraining", "churn_rollback"]


@pytest.mark.parametrize("dag", ["churn_retraining", "churn_rollback"])
def test_an_action_asks_for_the_right_to_its_own_dag(ask: Ask, monkeypatch: pytest.MonkeyPatch, dag: str) -> None:
    """Who may run only one of the two DAGs is shown how for that one."""
    from airflow.api_fastapi.app import get_auth_manager

    manager = get_auth_manager()
    allowed = manager.is_authorized_dag

    def only_one(**asked: Any) -> bool:
        return bool(allowed(**asked)) and (asked["method"] == "GET" or asked["details"].id == dag)

    monkeypatch.setattr(manager, "is_authorized_dag", only_one)
    assert [action["dag"] for action in ask("?format=json", "ADMIN").json()["actions"]] == [dag]
    assert ask("", "ADMIN").text.count("data-form=") == 1


def test_a_night_without_a_decision_is_shown_or_its_run_is(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a night that only rejected there is a page, as JSON too; of one that nobody knows there is the link to its run."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/rejected.db")
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/rejected.db")
    ledger.add_batch(batch_hash(1), "a.csv", 1, NOW)
    ledger.judge_batch(batch_hash(1), "night 1", BatchVerdict("rejected", 9, 0, 9, reason="Faulty."))
    assert "the file of this night is rejected" in ask("night?name=night%201").text
    assert ask("night?name=night%201&format=json").json()["batches"][0]["state"] == "rejected"
    unknown = ask("night?name=night%202")
    assert unknown.status_code == 404
    assert 'href="/dags/churn_retraining/runs/night%202" class="within"' in unknown.text
    assert ask("night?name=night%202&format=json").json()["detail"].startswith("No decision is known of night night 2")


def test_a_browser_is_told_to_trust_nothing(ask: Ask) -> None:
    """Pages, errors and styles: no script but our own, no frame but Airflow's, nothing kept, nothing sniffed."""
    for answer in (ask(""), ask("", None), ask("night?name=none"), ask("style.css", None), ask("page.js", None)):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
    page = ask("").text
    assert re.findall(r"<script(?! src=\"/churn-review/page.js\">)|\son\w+=|\sstyle=|<style", page) == []


def test_the_pages_of_great_expectations_are_nobodys(ask: Ask, tmp_path: Path) -> None:
    """Whatever lies in the data root runs without Airflow's cookie, or not at all."""
    folder = tmp_path / "data/docs" / batch_hash(1)
    folder.mkdir(parents=True)
    for name in ("index.html", "rows.html", "drift.svg"):
        (folder / name).write_text("<script>document.cookie</script>")
        answer = ask(f"docs/{batch_hash(1)}/{name}")
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        if name == "rows.html":
            assert policy.startswith("sandbox ")
            assert "allow-same-origin" not in policy
        else:
            assert "script-src 'none'" in policy
    assert ask(f"docs/{batch_hash(1)}/index.html", None).status_code == 401


@pytest.mark.parametrize(
    "page", ["night?name=none", "night?name=a%00b", f"batch?hash={'0' * 64}", f"docs/{'0' * 64}/index.html", "nothing"]
)
def test_what_is_not_there_is_said(ask: Ask, page: str) -> None:
    """404 as a page."""
    answer = ask(page)
    assert answer.status_code == 404
    assert "cannot be shown" in answer.text


@pytest.mark.parametrize(
    "page",
    [
        "batch?hash=x",
        "nights?before=yesterday",
        "nights?before=0001-01-01T00:00:00%2B14:00",
        "data?before=-1",
        "night",
        "?format=xml",
    ],
)
def test_what_makes_no_sense_is_refused(ask: Ask, page: str) -> None:
    """400 as a page that names the part of the address."""
    answer = ask(page)
    assert answer.status_code == 400
    assert "not as it should be" in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(ask: Ask, client: TestClient, ledger_file: Path, method: str) -> None:
    """There is no route that writes, and reading leaves the ledger as it was, byte for byte."""
    before = ledger_file.read_bytes()
    for page in ALL:
        assert ask(page, "ADMIN").status_code == 200
    assert client.request(method, "/churn-review/").status_code == 405
    assert ledger_file.read_bytes() == before


def test_pages_lead_on_to_older_ones(ask: Ask) -> None:
    """The cursor of the JSON is the link of the page, and gives the rows after it."""
    newest = ask("nights?format=json").json()
    assert len(newest["lines"]) == newest["total"] == 16
    older = ask(f"nights?format=json&before={quote(newest['lines'][3]['decided_at'])}").json()
    assert [one["night"] for one in older["lines"]] == [one["night"] for one in newest["lines"][4:]]
    assert [one["name"] for one in ask("data?format=json&before=3").json()["lines"]] == ["night-2.csv", "night-1.csv"]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes calls and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.mark.parametrize(("how", "page"), [*(("gone", page) for page in ALL), ("silent", ""), ("silent", ALL[-1])])
def test_a_ledger_that_is_away_is_said_in_time(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, silent_port: int, page: str, how: str
) -> None:
    """503 within two seconds: what is away, and what holds all the same; as JSON too."""
    port = silent_port if how == "silent" else free_port()
    monkeypatch.setenv("CHURN_LEDGER_URL", f"postgresql+psycopg2://churn:secret@127.0.0.1:{port}/churn")
    began = time.monotonic()
    answer = ask(page)
    assert time.monotonic() - began < 2
    assert answer.status_code == 503
    assert "The ledger" in answer.text
    assert "stays there" in answer.text
    assert "secret" not in answer.text
    assert "tile" not in answer.text
    assert "The ledger" in ask(page, accept="application/json").json()["detail"]


def test_a_ledger_that_is_not_there_or_of_another_time_is_no_empty_one(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is said what to do, and no file is made."""
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/none.db")
    answer = ask("")
    assert answer.status_code == 503
    assert "The ledger is not there yet" in answer.text
    assert not (tmp_path / "none.db").exists()
    for found, cure in (("0001", "brings it there"), ("9999", "restart Airflow")):
        url = f"sqlite:///{tmp_path}/{found}.db"
        open_ledger(url)
        with sa.create_engine(url).begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :found"), {"found": found})
        monkeypatch.setenv("CHURN_LEDGER_URL", url)
        assert re.search(rf"at {found}.*{HEAD}.*{cure}", ask("").text)


def test_a_setting_that_is_wrong_is_said(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, as a page, instead of an error without words."""
    monkeypatch.setenv("CHURN_LEDGER_URL", "oracle://elsewhere")
    answer = ask("")
    assert answer.status_code == 503
    assert "CHURN_LEDGER_URL" in answer.text


def test_an_empty_ledger_says_what_to_do_first(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is good that was not looked at."""
    open_ledger(f"sqlite:///{tmp_path}/empty.db")
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/empty.db")
    found = ask("?format=json").json()
    assert found["first_steps"]
    assert {tile["state"] for tile in found["tiles"][:5]} == {"not monitored"}
    for page in PAGES:
        assert ask(page).status_code == 200
    assert "What to do first" in ask("").text


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_mlflow_and_storage_away_are_said_and_the_rest_holds(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, silent_port: int, how: str
) -> None:
    """Within two seconds, on every page; what the ledger says is shown."""
    port = silent_port if how == "silent" else free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("CHURN_DATA_ROOT", "s3://nowhere/at-all")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    started = time.monotonic()
    while "The data root" not in ask("images").text:  # its libraries are loaded beside the first pages after a start
        assert time.monotonic() - started < 30

    for page in ALL:
        began = time.monotonic()
        answer = ask(page)
        assert time.monotonic() - began < 2
        assert answer.status_code == 200
        assert "MLflow (http://127.0.0.1" in answer.text
        assert "The data root (s3://nowhere/at-all) does not answer" in answer.text
    assert "is in production since" in ask("").text
    assert len(ask("?format=json").json()["away"]) == 2
    began = time.monotonic()
    docs = ask(f"docs/{'0' * 64}/index.html")
    assert time.monotonic() - began < 2
    assert docs.status_code == 503
    assert "This page cannot be shown" in docs.text


def test_a_fault_of_our_own_is_a_page_too(client: TestClient, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """With words instead of a bare error; what it was is in the server's log."""

    def failing(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("churn.review.pages.render_images", failing)
    monkeypatch.setattr(client._transport, "raise_server_exceptions", False)
    answer = ask("images")
    assert answer.status_code == 500
    assert "<h1>This page cannot be shown.</h1>" in answer.text
    assert "ZeroDivisionError" not in answer.text


def test_the_review_is_in_the_navigation(client: TestClient, ask: Ask) -> None:
    """Airflow knows the page, its mark and where it is."""
    from airflow import plugins_manager

    found: list[dict[str, Any]] = plugins_manager.get_plugin_info()
    (view,) = [one for plugin in found for one in plugin["external_views"] if one["url_route"] == "churn-review"]
    assert (view["name"], view["href"], view["destination"]) == ("Churn", "churn-review/", "nav")
    assert client.get(view["icon"]).headers["content-type"].startswith("image/svg")
