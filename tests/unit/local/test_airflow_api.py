"""The client of Airflow's REST API against scripted answers; tests/e2e speaks to a real Airflow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from churn.local import airflow_api
from churn.local.airflow_api import AirflowApi, AirflowUnreachable

Answer = Callable[[httpx.Request], httpx.Response]


def _api(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> AirflowApi:
    """A client whose requests go to `answer`; whoever asks for a token gets one."""
    client = httpx.Client

    def route(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "a-token"})
        return answer(request)

    def scripted(**options: Any) -> httpx.Client:
        return client(**options, transport=httpx.MockTransport(route))

    monkeypatch.setattr(airflow_api.httpx, "Client", scripted)
    return AirflowApi("http://127.0.0.1:1", "admin", "secret")


def _task(task: str, start: str | None, **other: Any) -> dict[str, Any]:
    blank = {"map_index": -1, "rendered_map_index": None, "state": None, "duration": None, "try_number": 1}
    return {"task_id": task, "start_date": start, **blank, **other}


def test_a_run_is_asked_for_without_logical_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key `logical_date` is sent and null: Airflow refuses a body without it."""
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(200, json={})

    _api(monkeypatch, answer).trigger("toy", "once", {"a": 1})
    assert b'"logical_date":null' in sent[0]


def test_a_run_that_exists_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triggering the same run again is allowed; the question is asked once."""
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return httpx.Response(409, json={"detail": "there"})

    _api(monkeypatch, answer).trigger("toy", "once", {})
    assert sent == ["POST"]


@pytest.mark.parametrize(("busy", "asked"), [(2, 3), (9, 5)])
def test_an_airflow_whose_database_is_locked_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, busy: int, asked: int
) -> None:
    """A few times; then it is an error."""
    monkeypatch.setattr(airflow_api._WHILE_BUSY, "sleep", lambda _: None)
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return httpx.Response(500 if len(sent) <= busy else 200, json={"detail": "Database error"})

    api = _api(monkeypatch, answer)
    if busy < asked:
        api.trigger("toy", "once", {})
    else:
        with pytest.raises(AirflowUnreachable, match="Airflow answers 500 to POST"):
            api.trigger("toy", "once", {})
    assert len(sent) == asked


def test_runs_that_are_going_on_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queued and running ones, oldest first, so that `make run` waits for them before it lands a file."""
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json={"dag_runs": [{"dag_run_id": "due at two"}, {"dag_run_id": "manual"}]})

    assert _api(monkeypatch, answer).active_runs("toy") == ["due at two", "manual"]
    assert asked[0].params.get_list("state") == ["queued", "running"]
    assert asked[0].params["order_by"] == "run_after"


def test_an_old_token_is_renewed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 401 leads to a new token and the same question again."""
    codes = iter([401, 200])
    api = _api(monkeypatch, lambda _: httpx.Response(next(codes), json={"state": "running"}))
    assert api.run_state("toy", "once") == "running"


def test_a_token_refused_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client does not ask for ever."""
    with pytest.raises(AirflowUnreachable, match="401"):
        _api(monkeypatch, lambda _: httpx.Response(401, json={})).run_state("toy", "once")


def test_an_airflow_that_is_down_is_told_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is our error, with the address and what to do, not one of the HTTP library."""

    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(AirflowUnreachable, match=r"127\.0\.0\.1:1.*make status"):
        _api(monkeypatch, refuse).run_state("toy", "once")


def test_tasks_come_in_the_order_in_which_they_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that have not begun come last, and a mapped one carries its label."""
    rows = [
        _task("later", None),
        _task("second", "2026-01-01T00:00:02Z", map_index=1, rendered_map_index="boosting", duration=1.5),
        _task("first", "2026-01-01T00:00:01Z", state="success", duration=2.0),
    ]
    tasks = _api(monkeypatch, lambda _: httpx.Response(200, json={"task_instances": rows})).task_states("toy", "once")
    assert [(task.task, task.label, task.state) for task in tasks] == [
        ("first", None, "success"),
        ("second", "boosting", "waiting"),
        ("later", None, "waiting"),
    ]


def test_following_ends_with_the_final_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is followed until it is final, and its tasks are shown on the way."""
    states = iter(["queued", "running", "failed"])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("taskInstances"):
            return httpx.Response(200, json={"task_instances": [_task("first", None)]})
        return httpx.Response(200, json={"state": next(states)})

    monkeypatch.setattr(airflow_api.time, "sleep", lambda _: None)
    shown: list[list[str]] = []
    api = _api(monkeypatch, answer)
    assert api.follow("toy", "once", lambda tasks: shown.append([task.task for task in tasks]), 60) == "failed"
    assert ["first"] in shown


def test_a_run_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following has an end, and says where to look."""
    api = _api(monkeypatch, lambda _: httpx.Response(200, json={"state": "running", "task_instances": []}))
    monkeypatch.setattr(airflow_api.time, "sleep", lambda _: None)
    with pytest.raises(
        AirflowUnreachable, match=r"once of toy has not finished .*http://127\.0\.0\.1:1/dags/toy/runs/once"
    ):
        api.follow("toy", "once", lambda _: None, 0.05)


def test_what_airflow_read_before_its_start_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """DAGs and import errors of an earlier start are still in the database, and are left out with `since`."""
    old, start = "2026-01-01T00:00:00Z", datetime(2026, 1, 2, tzinfo=UTC)
    body = {
        "dags": [{"dag_id": "toy", "last_parsed_time": old}],
        "import_errors": [{"filename": "broken.py", "stack_trace": "Trace\nValueError: no", "timestamp": old}],
    }
    api = _api(monkeypatch, lambda _: httpx.Response(200, json=body))
    assert api.has_dags({"toy"})
    assert not api.has_dags({"toy"}, start)
    assert api.import_errors() == ["broken.py: ValueError: no"]
    assert api.import_errors(start) == []
