"""The review's pages and their JSON: who may see the DAG reads them, who may trigger it is shown how. Nothing is written.

Every page is JSON with `?format=json`, behind the same guard.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from churn_airflow.airflow_compat import (
    DagAccessEntity,
    DagDetails,
    DagModel,
    GetUserDep,
    get_auth_manager,
    requires_access_dag,
)
from churn_airflow.steps import open_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from churn.foundation.ledger import Ledger
    from churn.review.availability import Reach
    from churn.review.nights import Night
    from churn.review.pages import Site
    from churn.review.presentation import Link
    from churn.review.undecided import Undecided
    from churn.settings import Settings
    from churn_airflow.airflow_compat import BaseUser

GUARDED_BY = "churn_retraining"
"""Whoever may see this DAG may see the pages; not a DAG of the caller's choice."""
PREFIX = "/churn-review"
STATIC = Path(__file__).parent / "static"
_HASH = r"^[0-9a-f]{64}$"
_LONGEST = 20_000

guard = [Depends(requires_access_dag("GET", param_dag_id=GUARDED_BY))]
router = APIRouter()
Format = Literal["html", "json"]
Before = Annotated[int | None, Query(ge=0, le=2**31 - 1)]
Name = Annotated[str, Query(max_length=_LONGEST)]


@router.get("/style.css")
def style() -> FileResponse:
    """The style sheet; open to all, since it says nothing."""
    from churn.review.pages import STYLE

    return FileResponse(STYLE, media_type="text/css")


@router.get("/{name}.svg")
def icon(name: Literal["icon", "icon-dark"]) -> FileResponse:
    """The mark in Airflow's navigation."""
    return FileResponse(STATIC / f"{name}.svg", media_type="image/svg+xml")


@router.get("/{name}.js")
def script(name: Literal["page", "form"]) -> FileResponse:
    """The scripts; open to all, since they say nothing."""
    return FileResponse(STATIC / f"{name}.js", media_type="text/javascript")


@router.get("/", dependencies=guard)
def overview(request: Request, user: GetUserDep, format: Format = "html") -> Response:  # noqa: A002 -- the query's name
    """What is in production, how last night went, what waits for a person."""
    from churn.review.overview import load_overview
    from churn.review.pages import render_overview

    view = _read(lambda ledger, settings: load_overview(ledger, settings, datetime.now(UTC)))
    actions = [one for one in view.actions if _may_trigger(user, one.dag)]
    may_answer = _may_trigger(user, GUARDED_BY)
    pending = view.pending if may_answer else [replace(one, url="") for one in view.pending]
    shown = replace(view, actions=actions, pending=pending)
    return _answer(request, shown, render_overview, format, may_answer or bool(actions))


@router.get("/nights", dependencies=guard)
def nights(
    request: Request,
    before: datetime | None = None,
    left: Annotated[str | None, Query(max_length=_LONGEST)] = None,
    format: Format = "html",  # noqa: A002
) -> Response:
    """The nights, newest first; `before` pages on, `left` is one that another is to be chosen for."""
    from churn.review.night_list import load_nights
    from churn.review.pages import render_nights

    since = before.replace(tzinfo=UTC) if before and before.tzinfo is None else before
    try:
        since = since and since.astimezone(UTC)
    except OverflowError as error:
        raise HTTPException(400, "The address is not as it should be: before: no night has such a time.") from error
    view = _read(lambda ledger, settings: load_nights(ledger, settings, since, left=left))
    return _answer(request, view, render_nights, format)


@router.get("/night", dependencies=guard)
def night(request: Request, name: Name, user: GetUserDep, format: Format = "html") -> Response:  # noqa: A002
    """One night, by its name, which is the id of its run in Airflow."""
    from churn.foundation.links import RETRAINING, run_page
    from churn.review.nights import Night
    from churn.review.pages import render_night, render_undecided
    from churn.review.presentation import Link

    view = None
    if "\x00" not in name:
        view = _read(partial(_load_night, name=name))
    if view is None:
        if wants_json(request):
            raise HTTPException(404, _unknown(name))
        run = Link("Its run in Airflow", run_page(load_settings(), RETRAINING, name))
        return answer_message(request, 404, "This page cannot be shown.", [_unknown(name)], elsewhere=[run])
    if not isinstance(view, Night):
        return _answer(request, view, render_undecided, format)
    may = _may_trigger(user, GUARDED_BY)
    return _answer(request, view if may else replace(view, approval_url=None), render_night, format, may)


@router.get("/compare", dependencies=guard)
def compare(request: Request, left: Name, right: Name, format: Format = "html") -> Response:  # noqa: A002
    """Two nights, the earlier on the left."""
    from churn.review.nights import Comparing
    from churn.review.pages import render_comparing

    both = sorted(_nights(left, right), key=lambda one: one.decided_at)
    return _answer(request, Comparing(*(replace(one, approval_url=None) for one in both)), render_comparing, format)


@router.get("/data", dependencies=guard)
def data(request: Request, before: Before = None, format: Format = "html") -> Response:  # noqa: A002
    """The batches, newest first, and their drift; `before` pages on."""
    from churn.review.data import load_data
    from churn.review.pages import render_data

    return _answer(request, _read(lambda ledger, _: load_data(ledger, before)), render_data, format)


@router.get("/batch", dependencies=guard)
def batch(request: Request, hash: Annotated[str, Query(pattern=_HASH)], format: Format = "html") -> Response:  # noqa: A002
    """One batch, by its whole hash."""
    from churn.review.data import load_batch
    from churn.review.pages import render_batch

    view = _read(lambda ledger, settings: load_batch(ledger, settings, hash))
    if view is None:
        raise HTTPException(404, f"The ledger knows no batch {hash[:12]}.")
    return _answer(request, view, render_batch, format)


@router.get("/images", dependencies=guard)
def images(request: Request, before: Before = None, format: Format = "html") -> Response:  # noqa: A002
    """The images, the newest version first; `before` pages on."""
    from churn.review.images import load_images
    from churn.review.pages import render_images

    return _answer(
        request, _read(lambda ledger, settings: load_images(ledger, settings, before)), render_images, format
    )


def wants_json(request: Request) -> bool:
    """Whether whoever asks is a program: by the query, or by accepting JSON and no page."""
    accepted = request.headers.get("accept", "")
    return request.query_params.get("format") == "json" or ("json" in accepted and "html" not in accepted)


def path_of(request: Request) -> str:
    """The path below the review's own address."""
    path = request.scope["path"]
    return str(path.removeprefix(request.scope.get("root_path", "")).lstrip("/"))


def answer_message(
    request: Request,
    status: int,
    title: str,
    sentences: Sequence[str],
    login: str | None = None,
    elsewhere: Sequence[Link] = (),
) -> Response:
    """A page that says why there is nothing else."""
    from churn.review.pages import render_message

    site = replace(_site(request), airflow=load_settings().airflow_ui) if elsewhere else _site(request)
    return HTMLResponse(render_message(title, sentences, site, login, elsewhere), status)


def _nights(*names: str) -> list[Any]:
    from churn.review.nights import load_night

    def load(ledger: Ledger, settings: Settings) -> list[Any]:
        return [None if "\x00" in name else load_night(ledger, settings, name) for name in names]

    found = _read(load)
    for name, one in zip(names, found, strict=True):
        if one is None:
            raise HTTPException(404, _unknown(name))
    return list(found)


def _unknown(name: str) -> str:
    return (
        f"No decision is known of night {name[:200]}. It may still run, or have had nothing to decide, or have failed: "
        "its run in Airflow says which."
    )


def _load_night(ledger: Ledger, settings: Settings, name: str) -> Night | Undecided | None:
    """The page of a night, whether it has decided or not; None where the ledger does not know it."""
    from churn.review.nights import load_night
    from churn.review.undecided import load_undecided

    return load_night(ledger, settings, name) or load_undecided(ledger, settings, name)


def _read(call: Callable[[Ledger, Settings], Any]) -> Any:
    """What a call reads from the ledger; away, it is said as 503 with what holds all the same."""
    from churn.review import availability

    settings = load_settings()
    try:
        return availability.read(_ledger(settings.ledger_url), lambda ledger: call(ledger, settings))
    except availability.LedgerAway as away:
        raise HTTPException(503, f"{away} {away.holds}") from away


def _answer(
    request: Request,
    view: Any,
    render: Callable[[Any, Site], str],
    format: Format,  # noqa: A002
    may_act: bool = False,
) -> Response:
    from churn.review.presentation import plain

    settings = load_settings()
    away = _reach(settings).away()
    if format == "json":
        return JSONResponse(json.loads(json.dumps(asdict(view) | {"away": away}, default=plain)))
    site = replace(_site(request), may_act=may_act, airflow=settings.airflow_ui, away=away)
    return HTMLResponse(render(view, site))


def _site(request: Request) -> Site:
    """What every page knows of where it is shown, an error's too."""
    from churn.review.pages import AppLinks, Site

    mounted = request.scope.get("root_path", "")
    query = f"{request.url.query}&" if request.url.query else ""
    return Site(
        links=AppLinks(f"{mounted}/"),
        read_at=datetime.now(UTC),
        json=f"?{query}format=json",
        assets=f"{mounted}/",
        live=True,
        root=mounted.removesuffix(PREFIX),
    )


def _may_trigger(user: BaseUser, dag: str) -> bool:
    """Whether a person may run this DAG; each action is of one, and asks for the right to that."""
    details = DagDetails(id=dag, team_name=DagModel.get_team_name(dag))
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )


def load_settings() -> Settings:
    """The settings; one that is wrong is said by its name."""
    from churn.settings import Settings, SettingsError

    try:
        return Settings.load()
    except SettingsError as error:
        raise HTTPException(
            503, f"{error} Mend it where Airflow's API server is started, and start it again."
        ) from error


@cache
def _ledger(url: str) -> Ledger:
    from churn.foundation.ledger import read_ledger

    return read_ledger(url)


_reaches: dict[tuple[str, str], Reach] = {}


def _reach(settings: Settings) -> Reach:
    from churn.review.availability import Reach

    key = (settings.mlflow_tracking_uri, settings.data_root)
    return _reaches.setdefault(key, Reach(settings, open_filesystem))
