"""What Airflow gives to the product: addresses of the review, and the conf of the trigger forms. Needs Airflow, but no running one."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import quote, quote_plus

import pytest

from support.basics import ROOT

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="churn-airflow-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__DAGS_FOLDER", str(ROOT / "dags"))

from airflow.exceptions import ParamValidationError
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.serialization.definitions.param import SerializedParam, SerializedParamsDict

from churn.errors import Outage
from churn.foundation.clients import Clients
from churn.pipeline.workspace import Request, Workspace
from churn.settings import Settings
from churn_airflow import steps as airflow_steps
from churn_airflow.review import pages
from churn_airflow.review.app import app
from support.fuzzing.cases import Defect, Target
from support.fuzzing.mutations import ODD_CELLS, ODD_NAMES
from support.fuzzing.promises import require_plain
from support.fuzzing.trees import ODD_VALUES, change_tree
from support.review_ledger import NOW, batch_hash, fill_ledger

HOSTILE = "<zq onload='x'>\""
"""Text that must never appear in a page as it is."""


@contextmanager
def _environment(nights: int) -> Iterator[Path]:
    """A ledger with some nights, as the environment names it."""
    with tempfile.TemporaryDirectory(prefix="churn-fuzz-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        (folder / "data").mkdir()
        fill_ledger(f"sqlite:///{folder}/ledger.db", nights)
        patch.setenv("CHURN_LEDGER_URL", f"sqlite:///{folder}/ledger.db")
        patch.setenv("CHURN_DATA_ROOT", str(folder / "data"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield folder


# --- The review

_PAGES = (
    "",
    "nights",
    "night",
    "compare",
    "data",
    "batch",
    "images",
    "scores",
    "outcomes",
    "style.css",
    "page.js",
    "icon.svg",
    "docs",
    "docs/x/index.html",
)
_NIGHT = f"scheduled__{NOW.replace(hour=2).isoformat()}"
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "format": ("html", "json", "xml", "HTML", "", "json "),
    "before": (
        "3", "0", "-1", "2147483647", "2147483648", "9" * 30, "1e3", "1.0", "NaN", "Infinity", "0x10", "2026-05-30T02:00:00Z", "2026-05-30T02:00:00", "2026-05-30", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01", "9999-12-31T23:59:59.999999",
        "2026-13-01", "1e300", "-1e300", "253402300800", "-62135596801", "yesterday",
    ),
    "name": (_NIGHT, _NIGHT[:-3], "manual__1", "a/b", "../x", "x" * 19_999, "x" * 20_001, "'; DROP TABLE x; --", "%", "_", "{}", "a\0b"),
    "left": (_NIGHT, "", "x", "a\0b", "x" * 20_001), "right": (_NIGHT, "", "x", "a\0b"),
    "hash": (batch_hash(3), batch_hash(3)[:12], "0" * 64, "x", batch_hash(3).upper(), batch_hash(3) + "\n"),
    "list": ("0" * 64, "x", batch_hash(2), ""),
}  # fmt: skip
_FITTING = {
    "night": ("name",),
    "compare": ("left", "right"),
    "batch": ("hash",),
    "nights": ("before", "left"),
    "scores": ("list", "before"),
    "data": ("before",),
    "images": ("before",),
    "outcomes": ("before",),
}


def make_address(draw: random.Random) -> bytes:
    """An address of the review with its headers, as JSON; the query is as it is sent."""
    page = (
        draw.choice(_PAGES[:9])
        if draw.random() < 0.9
        else draw.choice(
            (
                *_PAGES[9:],
                "/",
                "nights/",
                "night/..",
                "%2e%2e",
                "x" * 3000,
                "nights;x=1",
                "\ud7ff",
                "icon-dark.svg",
                "form.js",
                "x.js",
                "churn-review/",
            )
        )
    )
    names = [name for name in _FITTING.get(page, ()) if draw.random() < 0.9]
    names += draw.sample(list(_PARAMETERS), draw.choice((0, 0, 0, 1, 2)))
    pairs = []
    for name in names:
        value = draw.choice(_PARAMETERS[name]) if draw.random() < 0.7 else draw.choice((HOSTILE, *map(str, ODD_CELLS)))
        spell = draw.choice(
            (
                quote_plus,
                quote_plus,
                quote,
                lambda text: text.replace("&", "%26").replace("#", "%23"),
                lambda text: "%" + text[:1] + text,
            )
        )
        pairs.append(f"{name}{draw.choice(('=', '=', '=', '=', '[]=', '', '=='))}{spell(value)}")
    if draw.random() < 0.4:
        pairs.append("format=json")
    if draw.random() < 0.1:
        pairs.append(
            draw.choice(
                (
                    "%ed%a0%80=1",
                    "name=%ff",
                    "name=%00",
                    "before=%",
                    "=x",
                    "&&&",
                    ";",
                    f"{quote(HOSTILE)}=1",
                    "a=" + "b" * 5000,
                    "name=a&name=b",
                    "before=1&before=2",
                    "hash=%0a",
                    "format=json&format=html",
                )
            )
        )
    return json.dumps({
        "page": page, "query": draw.choice(("&", "&", "&", ";")).join(pairs), "method": draw.choice(("GET",) * 20 + ("HEAD", "POST", "DELETE")),
        "accept": draw.choice(("text/html", "application/json", "*/*", "", "text/html, application/json", "\xff")), "may": draw.random() < 0.5,
    }).encode()  # fmt: skip


class _Site:
    loop: asyncio.AbstractEventLoop
    may = False


@contextmanager
def _review() -> Iterator[None]:
    """The review's own application, for a person who may see it; whether that person may trigger a DAG is part of the case."""
    with _environment(8), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "_may_trigger", lambda *_: _Site.may)
        patch.setattr(pages, "_reach", lambda _: SimpleNamespace(list_unavailable=tuple))
        from airflow.api_fastapi.core_api.security import get_user

        overrides = {get_user: lambda: None, **{guard.dependency: lambda: None for guard in pages.guard}}
        patch.setattr(app, "dependency_overrides", overrides)
        _Site.loop = asyncio.new_event_loop()
        try:
            yield
        finally:
            _Site.loop.close()
            pages._ledger.cache_clear()


def check_address(case: bytes) -> str:
    """An address shows a page, or a plain page that says what is wrong with it; nothing of it is repeated as markup."""
    try:
        asked = json.loads(case)
        path, query, may = f"/{asked['page']}", asked["query"], asked["may"]
    except (ValueError, KeyError):  # a shrunk case
        return "no case"
    _Site.may = may
    sent: list[dict[str, Any]] = []
    asking = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return asking.pop() if asking else await asyncio.Future()  # the client stays

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": asked["method"], "path": path, "raw_path": path.encode(errors="replace"), "root_path": "", "scheme": "http", "server": ("airflow.example", 80), "client": ("127.0.0.1", 1),
        "query_string": query.encode(errors="surrogatepass"), "headers": [(b"host", b"airflow.example"), (b"accept", asked["accept"].encode("latin-1"))],
    }  # fmt: skip
    _Site.loop.run_until_complete(app(scope, receive, send))  # an exception of a page passes through its error page
    start, *bodies = sent
    status, body = start["status"], b"".join(message.get("body", b"") for message in bodies)
    headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    _require_page(status, headers, body.decode(), asked["method"])
    return str(status)


def _require_page(status: int, headers: dict[str, str], body: str, method: str) -> None:
    if status not in {200, 400, 404, *([405] if method != "GET" else []), 307}:
        raise Defect(f"A status is not documented: {status} {body[:300]}")
    if "content-security-policy" not in headers:
        raise Defect("An answer lacks the headers of security: Content-Security-Policy")
    kind = headers.get("content-type", "")
    if method == "HEAD" or status == 307:
        return
    if kind.startswith("application/json"):
        content = json.loads(body)
        if status != 200:
            require_plain(content["detail"].replace("\u2028", " "), secret=False)
    elif kind.startswith("text/html"):
        if "<zq" in body:
            raise Defect("A page repeats text as markup: <zq")
        if "</html>" not in body:
            raise Defect(f"A page is not whole: {body[-200:]}")


# --- The trigger forms

_DAGS = ("churn_retraining", "churn_scoring", "churn_rollback", "churn_image_build", "churn_maintenance")
_USUAL: dict[str, tuple[Any, ...]] = {
    "retrain": (True, False), "dry_run": (True, False), "approval": (True, False), "force_reason": (None, "because", " ", ""), "plausible_reason": (None, "it is"), "note": (None, "a note"),
    "file": (None, "", "customers.csv", "ab12", " ", "../x"), "version": (None, 1, 2, 3, 2.0), "campaign": (None, "spring"), "capacity": (None, 0, 100, 5.0), "reason": ("It is worse.", "abc", "   "),
}  # fmt: skip
_TEXTS = (
    "a\0b",
    "\ud800",
    "abc\udfff",
    " \0 ",
    "\x85\x85\x85",
    "\u2028\u2028\u2028",
    "x" * 1000,
    "x" * 1001,
    "<b>x</b>",
    "\U0001f9e8" * 500,
    "a\nb\nc",
    "{{ 1 }}",
    "%(x)s",
    *ODD_CELLS,
)
_NUMBERS = (0, -1, 2**31, 2**63 - 1, 2**63, 10**30, 1e308, 1e18, 2.5, float("nan"), float("inf"), "1", True, 1.0)


def make_conf(draw: random.Random) -> bytes:
    """The conf of a run of one of the DAGs, as JSON."""
    name = draw.choice(_DAGS)
    schema = _params(name)
    conf: Any = {key: draw.choice(_USUAL[key]) for key in schema if draw.random() < 0.8}
    for _ in range(draw.choice((0, 1, 1, 2))):
        key = draw.choice(list(schema))
        conf[key] = draw.choice(draw.choice((_TEXTS, _NUMBERS, _TEXTS, _NUMBERS, ODD_VALUES)))
    if draw.random() < 0.15:
        conf = change_tree(draw, conf)
    if isinstance(conf, dict) and draw.random() < 0.1:
        conf[draw.choice(ODD_NAMES)] = copy.deepcopy(draw.choice(ODD_VALUES))
    return json.dumps({"dag": name, "conf": conf}, default=str).encode()


def _params(name: str) -> dict[str, dict[str, Any]]:
    """The JSON schema of each field of a DAG's form, with its default."""
    if name not in _Form.schemas:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CHURN_BUCKET_SALT", "a salt of sixteen bytes or more")
            params = vars(import_module(name))[name]().params
        _Form.schemas[name] = {
            key: {"default": params.get_param(key).value, **params.get_param(key).schema} for key in params
        }
    return _Form.schemas[name]


class _Unreachable:
    """An MLflow that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise Outage("MLflow does not answer. The step is retried.")


class _Form:
    schemas: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {}
    context: dict[str, Any]
    workspace: Workspace


@contextmanager
def _forms() -> Iterator[None]:
    with _environment(3), pytest.MonkeyPatch.context() as patch:
        settings = Settings.load()
        _Form.workspace = Workspace.open(settings)
        _Form.workspace.ledger.add_population("ab12" * 16, "customers.csv", 10, datetime.now(UTC))
        patch.setattr(Clients, "tracking", _Unreachable())
        patch.setattr(airflow_steps, "get_current_context", lambda: _Form.context)
        patch.setattr(airflow_steps, "_open_workspace", lambda: _Form.workspace)
        import churn_airflow.metrics

        patch.setattr(churn_airflow.metrics, "measure_duration", lambda *_: None)
        yield


def check_conf(case: bytes) -> str:
    """The form refuses a conf, or the steps of the DAG can use it: they work, skip, or fail with a plain error."""
    try:
        asked = json.loads(case)
        name, conf = asked["dag"], asked["conf"]
        schemas = _params(name)
    except (ValueError, KeyError, TypeError, ImportError):  # a shrunk case
        return "no case"
    if not isinstance(conf, dict | None):
        return "refused by Airflow"
    form = SerializedParamsDict({key: SerializedParam(**schema) for key, schema in schemas.items()})
    try:
        merged = form.deep_merge(conf)
        merged.validate()
    except ParamValidationError:
        return "refused by the form"
    run = SimpleNamespace(run_id="manual__1", dag_id=name, triggering_user_name="vera", start_date=NOW, conf=conf)
    task = SimpleNamespace(task_id="arrive", dag_id=name, run_id="manual__1", xcom_push=lambda *_: None)
    _Form.context = {"dag_run": run, "params": {key: merged[key] for key in merged}, "ti": task}
    try:
        with airflow_steps.core_step() as (workspace, request):
            _require_storable(request)
            _first_step(name, workspace, request)
    except (AirflowFailException, AirflowSkipException, Outage) as error:
        require_plain(str(error), secret=False)
        return type(error).__name__
    return "done"


def _first_step(name: str, workspace: Workspace, request: Request) -> None:
    """Do what the first task of a DAG does, as far as it goes without MLflow."""
    from churn.pipeline import scoring_runs, shipping, steps

    if name == "churn_retraining":
        steps.arrive(workspace, request)
    elif name == "churn_scoring":
        asked = airflow_steps.scoring_request()
        _require_storable(asked)
        customers = scoring_runs.collect_customers(workspace, asked)
        scoring_runs.make_lists(workspace, asked, customers)
    elif name == "churn_rollback":
        steps.roll_back(
            workspace, airflow_steps.read_number("version"), _Form.context["params"]["reason"], "vera", request.night
        )
    elif name == "churn_image_build":
        shipping.build(workspace, int(_Form.context["params"]["version"]))


def _require_storable(request: Any) -> None:
    """Check that a database can keep what a request says."""
    for name, value in vars(request).items():
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
            raise Defect(f"A request has a text that no database keeps: {name}")
        if name in ("version", "capacity") and value is not None and type(value) is not int:
            raise Defect(f"A request has a number of another type: {name} is {value!r}")


REVIEW = Target("review", make_address, check_address, _review)
CONF = Target("conf", make_conf, check_conf, _forms)
