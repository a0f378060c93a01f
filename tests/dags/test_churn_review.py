"""The review's routes under Airflow's own permissions: access, security headers, and outages."""

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
from churn.review.availability import LEDGER_SECONDS, PROBE_SECONDS
from churn_airflow.review.pages import CANNOT_SHOW
from support.basics import free_port
from support.review_ledger import NOW, batch_hash, fill_ledger

PAGES = ["", "nights", "data", "images", "scores", "outcomes"]
HANGING = 10
"""Seconds: far above the time-outs of the pages, far below those of the clients, so that a busy machine fails no test."""
ROLES = ["VIEWER", "USER", "OP", "ADMIN"]
Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def client(airflow_database: None) -> Iterator[TestClient]:
    """Airflow's own application with our plugin in it."""
    from airflow.api_fastapi.app import create_app

    with TestClient(create_app(apps="core"), base_url="http://airflow.example") as client:
        yield client


@pytest.fixture(scope="module")
def ledger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of sixteen runs, with a rollback and, in the last one, a forced promotion."""
    file = tmp_path_factory.mktemp("review") / "ledger.db"
    fill_ledger(f"sqlite:///{file}", 16)
    return file


@pytest.fixture
def ask(client: TestClient, ledger_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Request a page in a role, with a bearer token or with the cookie of a browser; without a role anonymously."""
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
def test_an_anonymous_user_sees_no_data(ask: Ask, page: str) -> None:
    """401, as a page with a link to the login and back, or as JSON; neither contains data of the ledger."""
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
def test_a_user_without_permission_is_told_which_one_is_missing(ask: Ask, page: str) -> None:
    """403, as a page that names the DAG, or as JSON."""
    answer = ask(page, "")
    assert answer.status_code == 403
    assert "churn_retraining" in answer.text
    assert "Version 11" not in answer.text
    assert ask(page, "", accept="application/json").json() == {"detail": "Forbidden"}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("page", ALL)
def test_every_role_reads_every_page(ask: Ask, page: str, role: str) -> None:
    """With a token and with a cookie: the page, and the same view as JSON."""
    for cookie in (False, True):
        answer = ask(page, role, cookie=cookie)
        assert answer.status_code == 200, answer.text
        assert answer.text.count("<h1") == 1
    as_json = ask(f"{page}{'&' if '?' in page else '?'}format=json", role)
    assert isinstance(as_json.json(), dict)


@pytest.mark.parametrize("role", ROLES)
def test_only_users_who_may_trigger_see_the_actions(ask: Ask, role: str) -> None:
    """A viewer only reads; the other roles see the actions for a run and for a rollback, with the form's values."""
    page, view = ask("", role).text, ask("?format=json", role).json()
    forms = [json.loads(form.replace("&#34;", '"')) for form in re.findall(r'data-form="([^"]*)"', page)]
    assert (forms != []) is (view["actions"] != []) is (role != "VIEWER")
    if forms:
        assert forms == [{}, {"version": view["actions"][1]["values"]["version"]}]
        assert [action["dag"] for action in view["actions"]] == ["churn_retraining", "churn_rollback"]


@pytest.mark.parametrize("dag", ["churn_retraining", "churn_rollback"])
def test_an_action_needs_the_permission_for_its_own_dag(ask: Ask, monkeypatch: pytest.MonkeyPatch, dag: str) -> None:
    """A user who may trigger only one of the two DAGs sees only that action."""
    from airflow.api_fastapi.app import get_auth_manager

    manager = get_auth_manager()
    allowed = manager.is_authorized_dag

    def only_one(**asked: Any) -> bool:
        return bool(allowed(**asked)) and (asked["method"] == "GET" or asked["details"].id == dag)

    monkeypatch.setattr(manager, "is_authorized_dag", only_one)
    assert [action["dag"] for action in ask("?format=json", "ADMIN").json()["actions"]] == [dag]
    assert ask("", "ADMIN").text.count("data-form=") == 1


def test_a_run_without_a_decision_has_a_page_or_a_link_to_airflow(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that only rejected files has a page, as JSON too; for an unknown run there is a link to its page in Airflow."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/rejected.db")
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/rejected.db")
    ledger.add_batch(batch_hash(1), "a.csv", 1, NOW)
    ledger.judge_batch(batch_hash(1), "night 1", BatchVerdict("rejected", 9, 0, 9, reason="Faulty."))
    assert "rejected" in ask("night?name=night%201").text
    assert ask("night?name=night%201&format=json").json()["batches"][0]["state"] == "rejected"
    unknown = ask("night?name=night%202")
    assert unknown.status_code == 404
    assert 'href="/dags/churn_retraining/runs/night%202" class="within"' in unknown.text
    assert "run night 2" in ask("night?name=night%202&format=json").json()["detail"]


def test_every_answer_has_strict_security_headers(ask: Ask) -> None:
    """For pages, errors and styles: no scripts but our own, no frames but Airflow's, no caching, no sniffing."""
    for answer in (ask(""), ask("", None), ask("night?name=none"), ask("style.css", None), ask("page.js", None)):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
    page = ask("").text
    assert re.findall(r"<script(?! src=\"/churn-review/page.js\">)|\son\w+=|\sstyle=|<style", page) == []


def test_pages_of_great_expectations_are_sandboxed(ask: Ask, tmp_path: Path) -> None:
    """Scripts in the data root run without access to Airflow's cookie, or not at all."""
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
def test_a_missing_page_is_a_readable_404(ask: Ask, page: str) -> None:
    """It has a heading of its own."""
    answer = ask(page)
    assert answer.status_code == 404
    assert f"<h1>{CANNOT_SHOW}</h1>" in answer.text


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
def test_an_invalid_address_is_refused(ask: Ask, page: str) -> None:
    """400 as a page that names the invalid parameter."""
    answer = ask(page)
    assert answer.status_code == 400
    parameter = re.search(r"(hash|before|format)=", page)
    assert f"The address is invalid: {parameter[1] if parameter else 'name'} " in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_review_changes_nothing(ask: Ask, client: TestClient, ledger_file: Path, method: str) -> None:
    """There is no route that writes, and reading leaves the ledger unchanged, byte for byte."""
    before = ledger_file.read_bytes()
    for page in ALL:
        assert ask(page, "ADMIN").status_code == 200
    assert client.request(method, "/churn-review/").status_code == 405
    assert ledger_file.read_bytes() == before


def test_lists_continue_on_older_pages(ask: Ask) -> None:
    """The cursor in the JSON leads to the rows that follow."""
    newest = ask("nights?format=json").json()
    assert len(newest["lines"]) == newest["total"] == 16
    older = ask(f"nights?format=json&before={quote(newest['lines'][3]['decided_at'])}").json()
    assert [line["night"] for line in older["lines"]] == [line["night"] for line in newest["lines"][4:]]
    assert [line["name"] for line in ask("data?format=json&before=3").json()["lines"]] == ["night-2.csv", "night-1.csv"]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.mark.parametrize(("how", "page"), [*(("gone", page) for page in ALL), ("silent", ""), ("silent", ALL[-1])])
def test_an_unavailable_ledger_is_reported_in_time(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, silent_port: int, page: str, how: str
) -> None:
    """503 after the time-out, with the reason and what is not affected; as JSON too."""
    port = silent_port if how == "silent" else free_port()
    monkeypatch.setenv("CHURN_LEDGER_URL", f"postgresql+psycopg2://churn:secret@127.0.0.1:{port}/churn")
    began = time.monotonic()
    answer = ask(page)
    assert time.monotonic() - began < HANGING
    assert answer.status_code == 503
    assert "The ledger" in answer.text
    assert "Production is not affected" in answer.text
    assert "secret" not in answer.text
    assert "tile" not in answer.text
    assert "The ledger" in ask(page, accept="application/json").json()["detail"]


def test_a_missing_ledger_or_one_with_another_schema_is_not_shown_as_empty(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page names the next step, and no file is created."""
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/none.db")
    answer = ask("")
    assert answer.status_code == 503
    assert "churn land" in answer.text
    assert "CHURN_LEDGER_URL" in answer.text
    assert not (tmp_path / "none.db").exists()
    for schema, next_step in (("0001", "churn status"), ("9999", "Restart Airflow")):
        url = f"sqlite:///{tmp_path}/{schema}.db"
        open_ledger(url)
        with sa.create_engine(url).begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :schema"), {"schema": schema})
        monkeypatch.setenv("CHURN_LEDGER_URL", url)
        assert re.search(rf"{schema}.*{HEAD}.*{next_step}", ask("").text)


def test_an_invalid_setting_is_named(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a page, instead of an error without an explanation."""
    monkeypatch.setenv("CHURN_LEDGER_URL", "oracle://elsewhere")
    answer = ask("")
    assert answer.status_code == 503
    assert "CHURN_LEDGER_URL" in answer.text


def test_an_empty_ledger_shows_the_first_steps(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing that was not checked is shown as good."""
    open_ledger(f"sqlite:///{tmp_path}/empty.db")
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/empty.db")
    view = ask("?format=json").json()
    assert view["first_steps"]
    assert {tile["state"] for tile in view["tiles"][:5]} == {"not monitored"}
    for page in PAGES:
        assert ask(page).status_code == 200
    assert "churn land FILE" in ask("").text


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_unavailable_mlflow_and_storage_are_reported_and_the_ledger_is_shown(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, silent_port: int, how: str
) -> None:
    """On every page, and none of them hangs: the time-outs add up to less than two seconds."""
    assert LEDGER_SECONDS + PROBE_SECONDS < 2
    port = silent_port if how == "silent" else free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("CHURN_DATA_ROOT", "s3://nowhere/at-all")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    started = time.monotonic()
    while "The data root" not in ask("images").text:  # its libraries are loaded in the background after a start
        assert time.monotonic() - started < 30

    for page in ALL:
        began = time.monotonic()
        answer = ask(page)
        assert time.monotonic() - began < HANGING
        assert answer.status_code == 200
        assert "MLflow (http://127.0.0.1" in answer.text
        assert "The data root (s3://nowhere/at-all)" in answer.text
    assert "in production since" in ask("").text
    assert len(ask("?format=json").json()["away"]) == 2
    began = time.monotonic()
    docs = ask(f"docs/{'0' * 64}/index.html")
    assert time.monotonic() - began < HANGING
    assert docs.status_code == 503
    assert CANNOT_SHOW in docs.text


def test_a_defect_of_the_review_is_a_page_too(client: TestClient, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is explained without details, which are in the server's log."""

    def failing(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("churn.review.pages.render_images", failing)
    monkeypatch.setattr(client._transport, "raise_server_exceptions", False)
    answer = ask("images")
    assert answer.status_code == 500
    assert f"<h1>{CANNOT_SHOW}</h1>" in answer.text
    assert "ZeroDivisionError" not in answer.text


def test_the_review_is_in_the_navigation(client: TestClient, ask: Ask) -> None:
    """Airflow knows the page, its icon and its address."""
    from airflow import plugins_manager

    plugins: list[dict[str, Any]] = plugins_manager.get_plugin_info()
    (view,) = [
        entry for plugin in plugins for entry in plugin["external_views"] if entry["url_route"] == "churn-review"
    ]
    assert (view["name"], view["href"], view["destination"]) == ("Churn", "churn-review/", "nav")
    assert client.get(view["icon"]).headers["content-type"].startswith("image/svg")
