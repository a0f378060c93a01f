"""The service without its image: MLflow's protocol, a sentence for every refusal, answers for clients side by side."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

import httpx
import numpy as np
import pandas as pd
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.release.probes import PLANTED, bad_requests, contract_rows, rows_body
from churn.serving import app as service
from churn.serving.log import SERVER_LOG
from churn.serving.rows import Values
from churn.serving.scorer import MOST_ROWS, Scorer

ROWS = contract_rows(BANK_CHURN).iloc[:5]


def by_age(values: Values) -> np.ndarray:
    """A model whose answer tells whose it is."""
    return np.column_stack([1 - values["Age"] / 1000, values["Age"] / 1000])


def expected(rows: pd.DataFrame) -> list[list[float]]:
    return by_age({"Age": rows["Age"].to_numpy()}).tolist()


def send(
    body: bytes | str | dict[str, object],
    content_type: str | None = "application/json",
    predict: Callable[[Values], np.ndarray] = by_age,
    path: str = "/invocations",
    method: str = "POST",
) -> httpx.Response:
    """One request to the service, in process; its log is in the response's extensions."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(service.make_service(BANK_CHURN, predict))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            content = json.dumps(body) if isinstance(body, dict) else body
            return await client.request(
                method, path, content=content, headers={"content-type": content_type} if content_type else {}
            )

    log = io.StringIO()
    with redirect_stdout(log):
        response = asyncio.run(ask())
    response.extensions["log"] = log.getvalue()
    return response


def records() -> list[dict[str, object]]:
    return [dict(zip(ROWS.columns, row, strict=True)) for row in rows_body(ROWS)["data"]]


FORMS: dict[str, tuple[object, str]] = {
    "dataframe_split": ({"dataframe_split": rows_body(ROWS)}, "application/json"),
    "dataframe_split with an index": (
        {"dataframe_split": rows_body(ROWS) | {"index": [0, 1, 2, 3, 4]}},
        "application/json",
    ),
    "dataframe_records": ({"dataframe_records": records()}, "application/json; charset=utf-8"),
    "instances": ({"instances": records(), "params": {}}, "application/json"),
    "inputs as rows": ({"inputs": records()}, "application/json"),
    "inputs as columns": ({"inputs": {name: ROWS[name].tolist() for name in ROWS}}, "Application/JSON"),
    "csv": (ROWS.to_csv(index=False), "text/csv"),
    "csv with Windows line ends": (ROWS.to_csv(index=False, lineterminator="\r\n"), "text/csv; charset=UTF-8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_protocol_is_answered(form: str) -> None:
    """The forms that MLflow's own server takes, and its answer."""
    body, content_type = FORMS[form]
    response = send(body, content_type)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"predictions": expected(ROWS)}


def test_columns_that_are_no_features_are_left_alone() -> None:
    """A client that sends its whole row, in another order, gets the same answer."""
    whole = ROWS.assign(Surname="Hargrave", CustomerId=None)[["Surname", *reversed(ROWS.columns), "CustomerId"]]
    assert send({"dataframe_split": rows_body(whole)}).json() == {"predictions": expected(ROWS)}


def test_one_row_may_be_sent_as_plain_values() -> None:
    """The form `inputs` with a value instead of a list for each column."""
    assert send({"inputs": records()[0]}).json() == {"predictions": expected(ROWS.iloc[:1])}


@pytest.mark.parametrize("bad", bad_requests(BANK_CHURN), ids=lambda bad: bad.name)
def test_a_bad_request_gets_a_sentence(bad: object) -> None:
    """4xx, never a 500, a stack trace or what was sent; neither the answer nor the log has a value."""
    response = send(bad.body, bad.content_type)  # type: ignore[attr-defined]
    assert 400 <= response.status_code < 500
    assert set(response.json()) >= {"error_code", "message"}
    for text in (response.text, response.extensions["log"]):
        assert PLANTED not in text
        assert "Traceback" not in text
    assert json.loads(response.extensions["log"])["status"] == response.status_code


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ('{"dataframe_split": {"columns": ["Age"], "columns": [], "data": []}}', "application/json", 400),
        ('{"dataframe_records": [{"Age": NaN}]}', "application/json", 400),
        ('{"dataframe_records": [{"Age": 1}], "instances": []}', "application/json", 400),
        ('{"dataframe_records": [], "more": 1}', "application/json", 400),
        ('{"dataframe_records": []}', "application/json", 400),
        ('{"inputs": {"Age": [1], "Tenure": [1, 2]}}', "application/json", 400),
        ('{"instances": [[1, 2, 3]]}', "application/json", 400),
        ("null", "application/json", 400),
        ("", "text/csv", 400),
        ("Age\n1,2\n", "text/csv", 400),
        ("1,2\n3", "text/csv", 400),
        ("{}", "application/json; boundary=x", 415),
        ("{}", "application/x-parquet", 415),
        ("{}", "", 415),
    ],
)
def test_what_is_not_of_the_protocol_is_refused(body: str, content_type: str, status: int) -> None:
    """Ambiguous or unknown: refused, whatever could be made of it."""
    assert send(body, content_type).status_code == status


def test_a_compressed_body_is_refused_and_nothing_is_redirected() -> None:
    """What cannot be read is a 415; a path with a slash too many is not sent on with its query."""

    async def ask() -> tuple[int, httpx.Response]:
        transport = httpx.ASGITransport(service.make_service(BANK_CHURN, by_age))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"content-type": "application/json", "content-encoding": "gzip"}
            packed = await client.post("/invocations", content=b"{}", headers=headers)
            return packed.status_code, await client.get(f"/ping/?q={PLANTED}")

    status, slash = asyncio.run(ask())
    assert (status, slash.status_code) == (415, 404)
    assert PLANTED not in slash.text + str(slash.headers)


def test_a_name_that_stands_twice_is_no_choice() -> None:
    """A row with two ages is refused, although either would do."""
    row = json.dumps(records()[0])
    assert send(f'{{"dataframe_records": [{row}]}}').status_code == 200
    twice = row[:-1] + ', "Age": 42}'
    response = send(f'{{"dataframe_records": [{twice}]}}')
    assert (response.status_code, response.json()["message"]) == (400, "A name appears twice in one object.")


def test_a_body_ends_somewhere() -> None:
    """Rows that are good, but more than a body may hold: 413, and how much it may be."""
    body = json.dumps({"dataframe_split": rows_body(ROWS)})
    assert send(body + " " * (service.MOST_BYTES - len(body))).status_code == 200
    response = send(body + " " * service.MOST_BYTES)
    assert response.status_code == 413
    assert "4 MiB" in response.json()["message"]


def test_a_bad_row_is_named_for_programs_too() -> None:
    """Row, column and rule stand beside the sentence, and in the log, where the value is not."""
    body = rows_body(ROWS)
    body["data"][3][body["columns"].index("Age")] = 17.25
    response = send({"dataframe_split": body})
    assert response.json() == {
        "error_code": "BAD_REQUEST",
        "message": "Row 3: Age must be a whole number from 18 to 100.",
        "row": 3,
        "column": "Age",
        "rule": "Age.type",
    }
    assert json.loads(response.extensions["log"])["refused"] == "Age.type"


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_it_says_that_it_is_there(path: str) -> None:
    """As MLflow's server does."""
    response = send(b"", path=path, method="GET")
    assert (response.status_code, response.text) == (200, "\n")


def test_the_version_is_mlflows() -> None:
    """What MLflow's own server would say."""
    from importlib.metadata import version

    assert send(b"", path="/version", method="GET").text == version("mlflow-skinny")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/docs", "GET", 404), ("/openapi.json", "GET", 404), ("/Keller", "GET", 404), ("/invocations", "GET", 405)],
)
def test_nothing_else_is_open(path: str, method: str, status: int) -> None:
    """No page describes it, and a path that somebody made up is not repeated."""
    response = send(b"", path=path, method=method)
    assert response.status_code == status
    assert "Keller" not in response.text + response.extensions["log"]
    if status == 405:
        assert response.headers["allow"] == "POST"


def test_a_model_that_fails_ends_no_process_and_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the model is a 500 in one sentence; the log has the kind of error, not its words."""

    def broken(values: Values) -> np.ndarray:
        raise RuntimeError(f"cannot handle {values['Age'][0]} {PLANTED}")

    with caplog.at_level(logging.DEBUG):
        response = send({"dataframe_split": rows_body(ROWS)}, predict=broken)
    assert response.status_code == 500
    assert PLANTED not in response.text + response.extensions["log"] + caplog.text
    assert json.loads(response.extensions["log"])["failed"] == "RuntimeError"


def test_a_client_that_sends_too_slowly_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come in time is a 408."""
    monkeypatch.setattr(service, "_SECONDS_TO_SEND", 0.05)

    async def ask() -> int:
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            await asyncio.sleep(5)
            return {"type": "http.disconnect"}

        async def keep(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/invocations", "query_string": b"", "root_path": ""}
        scope |= {"headers": [(b"content-type", b"application/json")]}
        await service.make_service(BANK_CHURN, by_age)(scope, receive, keep)  # type: ignore[arg-type]
        return int(str(sent[0]["status"]))

    assert asyncio.run(ask()) == 408


def test_the_server_itself_logs_lines_of_json_without_traces() -> None:
    """What uvicorn has to say is a line like the others; of an error it has the kind, not the words."""
    try:
        int(PLANTED)
    except ValueError:
        record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 1, "Failed.", None, sys.exc_info())
    logging.config.dictConfig(SERVER_LOG)
    (handler,) = logging.getLogger("uvicorn").handlers
    line = handler.format(record)
    assert json.loads(line).items() >= {"level": "ERROR", "message": "Failed.", "failed": "ValueError"}.items()
    assert PLANTED not in line


def test_clients_side_by_side_share_a_prediction_and_get_their_own_answers() -> None:
    """Sixty requests at once: far fewer predictions, none larger than allowed, every answer in its place."""
    sizes: list[int] = []

    def counted(values: Values) -> np.ndarray:
        sizes.append(len(values["Age"]))
        return by_age(values)

    async def ask() -> list[np.ndarray]:
        scorer = Scorer(counted)
        return await asyncio.gather(
            *(scorer.score({"Age": np.arange(number, number + 30, dtype=float)}) for number in range(60))
        )

    found = asyncio.run(ask())
    for number, answer in enumerate(found):
        assert np.array_equal(answer, by_age({"Age": np.arange(number, number + 30, dtype=float)}))
    assert sum(sizes) == 60 * 30
    assert len(sizes) <= 4
    assert max(sizes) <= MOST_ROWS


def test_a_large_request_lets_small_ones_in_between() -> None:
    """It is cut into parts, so that a small request waits for one part and not for all of them."""
    order: list[str] = []

    async def ask() -> None:
        scorer = Scorer(by_age)

        async def one(name: str, rows: int) -> None:
            answer = await scorer.score({"Age": np.arange(rows, dtype=float)})
            assert len(answer) == rows
            order.append(name)

        await asyncio.gather(one("large", 20 * MOST_ROWS), one("small", 1))

    asyncio.run(ask())
    assert order == ["small", "large"]


def test_a_client_that_has_gone_disturbs_nobody() -> None:
    """Its rows may be predicted; the others get their answers, and the next ones theirs."""

    async def ask() -> np.ndarray:
        scorer = Scorer(by_age)
        gone = asyncio.ensure_future(scorer.score({"Age": np.array([1.0])}))
        other = asyncio.ensure_future(scorer.score({"Age": np.array([2.0])}))
        await asyncio.sleep(0)
        gone.cancel()
        await other
        return await scorer.score({"Age": np.array([3.0])})

    assert np.array_equal(asyncio.run(ask()), by_age({"Age": np.array([3.0])}))
