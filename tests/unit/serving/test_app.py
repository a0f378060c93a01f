"""The service without its image: MLflow's protocol, a message for every rejected request, answers to concurrent clients."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

import httpx
import numpy as np
import pandas as pd
import pytest

from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.release.probes import PLANTED, bad_requests, contract_rows, in_texts, rows_body
from churn.serving import app as service
from churn.serving.batching import MOST_ROWS, RequestBatcher
from churn.serving.log import SERVER_LOG
from churn.serving.rows import Values
from support.coded_contract import CODED
from support.fuzzing.requests import LoopbackServer
from support.fuzzing.targets import find_target

ROWS = contract_rows(BANK_CHURN).iloc[:5]


def by_age(values: Values) -> np.ndarray:
    """A model whose answer identifies the row."""
    return np.column_stack([1 - values["Age"] / 1000, values["Age"] / 1000])


def expected(rows: pd.DataFrame) -> list[list[float]]:
    return by_age({"Age": rows["Age"].to_numpy()}).tolist()


def send(
    body: bytes | str | dict[str, object],
    content_type: str | None = "application/json",
    predict: Callable[[Values], np.ndarray] = by_age,
    path: str = "/invocations",
    method: str = "POST",
    contract: Contract = BANK_CHURN,
) -> httpx.Response:
    """Send one request to the service, in process; its log is in the extensions of the response."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(service.make_service(contract, predict))
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
def test_every_form_of_the_protocol_is_accepted(form: str) -> None:
    """The service accepts the forms that MLflow's own server accepts, and answers like it."""
    body, content_type = FORMS[form]
    response = send(body, content_type)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"predictions": expected(ROWS)}


def test_an_ignored_column_may_have_any_name() -> None:
    """Half of a surrogate pair, which JSON can write, cannot be written in a header: a question mark stands for it."""
    rows = [row | {"\ud800 a": 1, "\u00fc\n": 2} for row in records()]
    response = send({"dataframe_records": rows})
    assert response.status_code == 200
    assert response.json()["predictions"] == expected(ROWS)
    assert response.headers["x-ignored-columns"] == "%3F a, %C3%BC%0A"


def test_columns_that_are_not_features_are_ignored() -> None:
    """A client that sends its whole row, in a different order, gets the same answer."""
    whole = ROWS.assign(Surname="Hargrave", CustomerId=None)[["Surname", *reversed(ROWS.columns), "CustomerId"]]
    assert send({"dataframe_split": rows_body(whole)}).json() == {"predictions": expected(ROWS)}


def test_one_row_can_be_sent_as_plain_values() -> None:
    """The form `inputs` accepts a single value instead of a list for each column."""
    assert send({"inputs": records()[0]}).json() == {"predictions": expected(ROWS.iloc[:1])}


@pytest.mark.parametrize("bad", bad_requests(BANK_CHURN), ids=lambda bad: bad.name)
def test_a_bad_request_gets_a_message(bad: object) -> None:
    """The answer is a 4xx without a stack trace; neither the answer nor the log repeats a value."""
    response = send(bad.body, bad.content_type)  # type: ignore[attr-defined]
    assert 400 <= response.status_code < 500
    assert set(response.json()) >= {"error_code", "message"}
    for text in (response.text, response.extensions["log"]):
        assert PLANTED not in text
        assert "Traceback" not in text
    assert json.loads(response.extensions["log"])["status"] == response.status_code


def by_paperless(values: Values) -> np.ndarray:
    share = np.where(values["Paperless"] == 1, 0.75, 0.25)
    return np.column_stack([1 - share, share])


@pytest.mark.parametrize("media", ["application/json", "text/csv"])
def test_texts_and_the_numbers_that_they_stand_for_get_the_same_answer(media: str) -> None:
    """A client may send what the file has, or what the model has."""
    rows = contract_rows(CODED).iloc[:40]
    texts = in_texts(rows, CODED)
    assert set(texts["Paperless"]) == {"No", "Yes"}
    answers = []
    for sent in (rows, texts):
        body = {"dataframe_split": rows_body(sent)} if media == "application/json" else sent.to_csv(index=False)
        answers.append(send(body, media, by_paperless, contract=CODED).json())  # type: ignore[arg-type]
    assert answers[0] == answers[1] == {"predictions": by_paperless({"Paperless": rows["Paperless"]}).tolist()}


@pytest.mark.parametrize("bad", bad_requests(CODED), ids=lambda bad: bad.name)
def test_a_bad_request_under_a_contract_with_texts_names_row_and_column(bad: object) -> None:
    """As the verification of an image demands it."""
    response = send(bad.body, bad.content_type, by_paperless, contract=CODED)  # type: ignore[attr-defined]
    assert 400 <= response.status_code < 500
    assert PLANTED not in response.text
    if bad.row is not None:  # type: ignore[attr-defined]
        assert response.json()["message"].startswith(f"Row {bad.row}: {bad.column} ")  # type: ignore[attr-defined]


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
def test_a_request_outside_the_protocol_is_rejected(body: str, content_type: str, status: int) -> None:
    """An ambiguous or unknown body is rejected, even if it could be interpreted."""
    assert send(body, content_type).status_code == status


def test_a_compressed_body_is_rejected_and_nothing_is_redirected() -> None:
    """A compressed body is a 415; a path with a trailing slash is not redirected with its query."""

    async def ask() -> tuple[int, httpx.Response]:
        transport = httpx.ASGITransport(service.make_service(BANK_CHURN, by_age))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"content-type": "application/json", "content-encoding": "gzip"}
            compressed = await client.post("/invocations", content=b"{}", headers=headers)
            return compressed.status_code, await client.get(f"/ping/?q={PLANTED}")

    status, trailing_slash = asyncio.run(ask())
    assert (status, trailing_slash.status_code) == (415, 404)
    assert PLANTED not in trailing_slash.text + str(trailing_slash.headers)


def test_a_name_that_appears_twice_is_rejected() -> None:
    """A row with two ages is rejected, although either of them would be valid."""
    row = json.dumps(records()[0])
    assert send(f'{{"dataframe_records": [{row}]}}').status_code == 200
    twice = row[:-1] + ', "Age": 42}'
    response = send(f'{{"dataframe_records": [{twice}]}}')
    assert response.status_code == 400
    assert "twice" in response.json()["message"]


def test_the_size_of_a_body_is_limited() -> None:
    """Good rows in too large a body are a 413, and the message states the limit."""
    body = json.dumps({"dataframe_split": rows_body(ROWS)})
    assert send(body + " " * (service.MOST_BYTES - len(body))).status_code == 200
    response = send(body + " " * service.MOST_BYTES)
    assert response.status_code == 413
    assert "4 MiB" in response.json()["message"]


def test_a_bad_row_is_named_in_fields_for_programs() -> None:
    """The answer has row, column and rule in fields of their own; the log has the rule, and neither has the value."""
    body = rows_body(ROWS)
    body["data"][3][body["columns"].index("Age")] = 17.25
    response = send({"dataframe_split": body})
    fields = response.json()
    message = fields.pop("message")
    assert fields == {
        "error_code": "BAD_REQUEST",
        "row": 3,
        "column": "Age",
        "rule": "Age.type",
        "bad_rows": 1,
        "faults": [{"row": 3, "column": "Age", "rule": "Age.type", "message": message}],
    }
    assert all(part in message for part in ("Row 3", "Age", "18", "100"))
    assert json.loads(response.extensions["log"])["refused"] == "Age.type"
    assert "17.25" not in response.text + response.extensions["log"]


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_the_service_answers_health_checks(path: str) -> None:
    """The answer is that of MLflow's server."""
    response = send(b"", path=path, method="GET")
    assert (response.status_code, response.text) == (200, "\n")


def test_the_version_is_that_of_mlflow() -> None:
    """The answer is that of MLflow's own server."""
    from importlib.metadata import version

    assert send(b"", path="/version", method="GET").text == version("mlflow-skinny")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/docs", "GET", 404), ("/openapi.json", "GET", 404), ("/Keller", "GET", 404), ("/invocations", "GET", 405)],
)
def test_no_other_path_is_served(path: str, method: str, status: int) -> None:
    """No page describes the service, and neither answer nor log repeats an unknown path."""
    response = send(b"", path=path, method=method)
    assert response.status_code == status
    assert "Keller" not in response.text + response.extensions["log"]
    if status == 405:
        assert response.headers["allow"] == "POST"


def test_a_model_that_fails_is_a_500_that_reveals_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the model is a 500 with a message; the log has the type of the error, not its text."""

    def broken(values: Values) -> np.ndarray:
        raise RuntimeError(f"cannot handle {values['Age'][0]} {PLANTED}")

    with caplog.at_level(logging.DEBUG):
        response = send({"dataframe_split": rows_body(ROWS)}, predict=broken)
    assert response.status_code == 500
    assert PLANTED not in response.text + response.extensions["log"] + caplog.text
    assert json.loads(response.extensions["log"])["failed"] == "RuntimeError"


def test_a_client_that_sends_too_slowly_gets_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time is a 408."""
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
    """A message of uvicorn is a line like the others; of an error it has the type, not the text."""
    try:
        int(PLANTED)
    except ValueError:
        record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 1, "Failed.", None, sys.exc_info())
    logging.config.dictConfig(SERVER_LOG)
    (handler,) = logging.getLogger("uvicorn").handlers
    line = handler.format(record)
    assert json.loads(line).items() >= {"level": "ERROR", "message": "Failed.", "failed": "ValueError"}.items()
    assert PLANTED not in line


def test_concurrent_clients_share_a_prediction_and_get_their_own_answers() -> None:
    """Sixty requests at once take far fewer predictions, none too large, and each gets its own answer."""
    sizes: list[int] = []

    def counted(values: Values) -> np.ndarray:
        sizes.append(len(values["Age"]))
        return by_age(values)

    async def ask() -> list[np.ndarray]:
        batcher = RequestBatcher(counted)
        return await asyncio.gather(
            *(batcher.score({"Age": np.arange(number, number + 30, dtype=float)}) for number in range(60))
        )

    answers = asyncio.run(ask())
    for number, answer in enumerate(answers):
        assert np.array_equal(answer, by_age({"Age": np.arange(number, number + 30, dtype=float)}))
    assert sum(sizes) == 60 * 30
    assert len(sizes) <= 4
    assert max(sizes) <= MOST_ROWS


def test_a_large_request_does_not_block_small_ones() -> None:
    """A large request is split into parts, so that a small request waits for one part only."""
    order: list[str] = []

    async def ask() -> None:
        batcher = RequestBatcher(by_age)

        async def score(name: str, rows: int) -> None:
            answer = await batcher.score({"Age": np.arange(rows, dtype=float)})
            assert len(answer) == rows
            order.append(name)

        await asyncio.gather(score("large", 20 * MOST_ROWS), score("small", 1))

    asyncio.run(ask())
    assert order == ["small", "large"]


def test_a_client_that_disconnects_does_not_affect_others() -> None:
    """Its rows may still be predicted; concurrent and later clients get their answers."""

    async def ask() -> np.ndarray:
        batcher = RequestBatcher(by_age)
        cancelled = asyncio.ensure_future(batcher.score({"Age": np.array([1.0])}))
        concurrent = asyncio.ensure_future(batcher.score({"Age": np.array([2.0])}))
        await asyncio.sleep(0)
        cancelled.cancel()
        await concurrent
        return await batcher.score({"Age": np.array([3.0])})

    assert np.array_equal(asyncio.run(ask()), by_age({"Age": np.array([3.0])}))


@pytest.mark.parametrize(
    ("request_line", "body", "status", "closed"),
    [
        ("POST /invocations HTTP/1.1\r\nContent-Type: application/json", b"{", 408, True),
        ("POST /invocations HTTP/1.1\r\nContent-Type: text/odd", b"{", 415, True),
        ("POST /elsewhere HTTP/1.1", b"{", 404, True),
        ("POST /invocations HTTP/1.1\r\nContent-Type: application/json", b"{" * 5000, 400, False),
    ],
    ids=["too slow", "media", "path", "complete"],
)
def test_a_connection_is_closed_if_the_body_was_not_read(
    monkeypatch: pytest.MonkeyPatch, request_line: str, body: bytes, status: int, closed: bool
) -> None:
    """On a real connection: a client that goes on sending byte by byte would otherwise keep it for hours."""
    monkeypatch.setattr(service, "_SECONDS_TO_SEND", 0.2)
    with find_target("http").open(), socket.create_connection(("127.0.0.1", LoopbackServer.port)) as client:
        client.settimeout(5)
        client.sendall(f"{request_line}\r\nHost: x\r\nContent-Length: 5000\r\n\r\n".encode() + body)
        answer = client.recv(4000)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert (b"connection: close" in answer.lower()) is closed
        if closed:
            while client.recv(4000):
                pass
        else:
            client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4000).startswith(b"HTTP/1.1 200 ")
