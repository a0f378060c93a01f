"""The routes of the review: pages, and the same as JSON with `?format=json`. They only read.

People who may see the DAG churn_retraining may read the pages. People who may trigger a DAG also see the actions for it.
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

from churn.errors import shown
from churn.foundation.links import RETRAINING, REVIEW
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

GUARDED_BY = RETRAINING
"""The permission to see this DAG is the permission to see the pages. The caller cannot choose another DAG."""
STATIC = Path(__file__).parent / "static"
CANNOT_SHOW = "This page cannot be shown."
_HASH = r"^[0-9a-f]{64}$"
_LONGEST = 20_000

guard = [Depends(requires_access_dag("GET", param_dag_id=GUARDED_BY))]
router = APIRouter()
Format = Literal["html", "json"]
Before = Annotated[int | None, Query(ge=0, le=2**31 - 1)]
Name = Annotated[str, Query(max_length=_LONGEST)]


@router.get("/style.css")
def style() -> FileResponse:
    """Serve the style sheet. It needs no login, because it contains no data."""
    from churn.review.pages import STYLE

    return FileResponse(STYLE, media_type="text/css")


@router.get("/{name}.svg")
def icon(name: Literal["icon", "icon-dark"]) -> FileResponse:
    """Serve the icon for Airflow's navigation."""
    return FileResponse(STATIC / f"{name}.svg", media_type="image/svg+xml")


@router.get("/{name}.js")
def script(name: Literal["page", "form"]) -> FileResponse:
    """Serve the scripts. They need no login, because they contain no data."""
    return FileResponse(STATIC / f"{name}.js", media_type="text/javascript")


@router.get("/", dependencies=guard)
def overview(request: Request, user: GetUserDep, format: Format = "html") -> Response:  # noqa: A002 -- the query's name
    """Show what is in production, how the last run went, and what waits for a person."""
    from churn.review.overview import load_overview
    from churn.review.pages import render_overview

    view = _read(lambda ledger, settings: load_overview(ledger, settings, datetime.now(UTC)))
    actions = [action for action in view.actions if _may_trigger(user, action.dag)]
    may_answer = _may_trigger(user, GUARDED_BY)
    pending = view.pending if may_answer else [replace(decision, url="") for decision in view.pending]
    shown = replace(view, actions=actions, pending=pending)
    return _answer(request, shown, render_overview, format, may_answer or bool(actions))


@router.get("/nights", dependencies=guard)
def nights(
    request: Request,
    before: datetime | None = None,
    left: Annotated[str | None, Query(max_length=_LONGEST)] = None,
    format: Format = "html",  # noqa: A002
) -> Response:
    """List the runs, newest first; `before` is the cursor of a page, `left` a run for which another one is being chosen."""
    from churn.review.night_list import load_nights
    from churn.review.pages import render_nights

    since = before.replace(tzinfo=UTC) if before and before.tzinfo is None else before
    try:
        since = since and since.astimezone(UTC)
    except OverflowError as error:
        raise HTTPException(400, "The address is invalid: before is out of range.") from error
    view = _read(lambda ledger, settings: load_nights(ledger, settings, since, left=left))
    return _answer(request, view, render_nights, format)


@router.get("/night", dependencies=guard)
def night(request: Request, name: Name, user: GetUserDep, format: Format = "html") -> Response:  # noqa: A002
    """Show one run, by its name, which is the id of its run in Airflow."""
    from churn.foundation.links import RETRAINING, run_page
    from churn.review.nights import Night
    from churn.review.pages import render_night, render_undecided
    from churn.review.presentation import Link

    view = None
    if "\x00" not in name:
        view = _read(partial(_load_night, name=name))
    if view is None:
        if wants_json(request):
            raise HTTPException(404, _describe_unknown_run(name))
        run = Link("The run in Airflow", run_page(load_settings(), RETRAINING, name))
        return answer_message(request, 404, CANNOT_SHOW, [_describe_unknown_run(name)], elsewhere=[run])
    if not isinstance(view, Night):
        return _answer(request, view, render_undecided, format)
    may_answer = _may_trigger(user, GUARDED_BY)
    shown = view if may_answer else replace(view, approval_url=None)
    return _answer(request, shown, render_night, format, may_answer)


@router.get("/compare", dependencies=guard)
def compare(request: Request, left: Name, right: Name, format: Format = "html") -> Response:  # noqa: A002
    """Show two runs side by side, the earlier one on the left."""
    from churn.review.nights import ComparedRuns
    from churn.review.pages import render_compared_runs

    runs = sorted(_load_decided_runs(left, right), key=lambda run: run.decided_at)
    compared = ComparedRuns(*(replace(run, approval_url=None) for run in runs))
    return _answer(request, compared, render_compared_runs, format)


@router.get("/data", dependencies=guard)
def data(request: Request, before: Before = None, format: Format = "html") -> Response:  # noqa: A002
    """List the batches, newest first, and their drift; `before` is the cursor of a page."""
    from churn.review.data import load_data
    from churn.review.pages import render_data

    return _answer(request, _read(lambda ledger, _: load_data(ledger, before)), render_data, format)


@router.get("/batch", dependencies=guard)
def batch(request: Request, hash: Annotated[str, Query(pattern=_HASH)], format: Format = "html") -> Response:  # noqa: A002
    """Show one batch, by its full hash."""
    from churn.review.data import load_batch
    from churn.review.pages import render_batch

    view = _read(lambda ledger, settings: load_batch(ledger, settings, hash))
    if view is None:
        raise HTTPException(404, f"The ledger has no batch {hash[:12]}. `churn batches` lists those that it has.")
    return _answer(request, view, render_batch, format)


@router.get("/images", dependencies=guard)
def images(request: Request, before: Before = None, format: Format = "html") -> Response:  # noqa: A002
    """List the images, newest version first; `before` is the cursor of a page."""
    from churn.review.images import load_images
    from churn.review.pages import render_images

    return _answer(
        request, _read(lambda ledger, settings: load_images(ledger, settings, before)), render_images, format
    )


@router.get("/scores", dependencies=guard)
def scores(
    request: Request,
    list: Annotated[str | None, Query(pattern=_HASH)] = None,  # noqa: A002
    before: Before = None,
    format: Format = "html",  # noqa: A002
) -> Response:
    """Show a list of scores, by default the newest one, and all lists; `before` is the cursor of a page."""
    from churn.review.pages import render_scores
    from churn.review.scores import load_scores

    view = _read(lambda ledger, settings: load_scores(ledger, settings, datetime.now(UTC), list, before))
    if view is None:
        raise HTTPException(
            404, f"The ledger has no list {str(list)[:12]}. `churn scores list` shows those that it has."
        )
    return _answer(request, view, render_scores, format)


@router.get("/outcomes", dependencies=guard)
def outcomes(request: Request, before: Before = None, format: Format = "html") -> Response:  # noqa: A002
    """Show what happened afterwards: promotions, the champion's health, and lists; `before` is the cursor of a page."""
    from churn.review.outcomes import load_outcomes
    from churn.review.pages import render_outcomes

    view = _read(lambda ledger, settings: load_outcomes(ledger, settings, datetime.now(UTC), before))
    return _answer(request, view, render_outcomes, format)


def wants_json(request: Request) -> bool:
    """Whether a request asks for JSON: by its query, or by accepting JSON but not HTML."""
    accepted = request.headers.get("accept", "")
    return request.query_params.get("format") == "json" or ("json" in accepted and "html" not in accepted)


def path_of(request: Request) -> str:
    """The path of a request, relative to the review."""
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
    """Answer with a page that only explains something, such as an error.

    Args:
        request: the request.
        status: the HTTP status.
        title: the heading.
        sentences: the explanation.
        login: the address of the login, if that helps.
        elsewhere: pages outside the review that help.
    """
    from churn.review.pages import render_message

    site = replace(_site(request), airflow=load_settings().airflow_ui) if elsewhere else _site(request)
    return HTMLResponse(render_message(title, sentences, site, login, elsewhere), status)


def _load_decided_runs(*names: str) -> list[Night]:
    from churn.review.nights import load_night

    def load(ledger: Ledger, settings: Settings) -> list[Night | None]:
        return [None if "\x00" in name else load_night(ledger, settings, name) for name in names]

    runs: list[Night] = []
    for name, run in zip(names, _read(load), strict=True):
        if run is None:
            raise HTTPException(404, _describe_unknown_run(name))
        runs.append(run)
    return runs


def _describe_unknown_run(name: str) -> str:
    return (
        f"The ledger has no decision of run {shown(name, 200)}. The run may still be in progress, may have had nothing to decide, "
        "or may have failed. Its page in Airflow shows which."
    )


def _load_night(ledger: Ledger, settings: Settings, name: str) -> Night | Undecided | None:
    """Read the page of a run, whether it has decided or not; None if the ledger knows nothing about it."""
    from churn.review.nights import load_night
    from churn.review.undecided import load_undecided

    return load_night(ledger, settings, name) or load_undecided(ledger, settings, name)


def _read(call: Callable[[Ledger, Settings], Any]) -> Any:
    """Read from the ledger.

    Raises:
        HTTPException: 503 if the ledger is unavailable; the message also says what is not affected.
    """
    from churn.review import availability

    settings = load_settings()
    try:
        return availability.read(_ledger(settings.ledger_url), lambda ledger: call(ledger, settings))
    except availability.LedgerUnavailable as error:
        raise HTTPException(503, f"{error} {error.unaffected}") from error


def _answer(
    request: Request,
    view: Any,
    render: Callable[[Any, Site], str],
    format: Format,  # noqa: A002
    may_act: bool = False,
) -> Response:
    from churn.review.presentation import encode_for_json

    settings = load_settings()
    unavailable = _reach(settings).list_unavailable()
    if format == "json":
        content = asdict(view) | {"away": unavailable}
        return JSONResponse(json.loads(json.dumps(content, default=encode_for_json)))
    site = replace(
        _site(request),
        may_act=may_act,
        airflow=settings.airflow_ui,
        unavailable=unavailable,
        names=settings.contract.event_names,
    )
    return HTMLResponse(render(view, site))


def _site(request: Request) -> Site:
    """Describe where a page is shown; pages of errors need this too."""
    from churn.review.pages import AppLinks, Site

    try:
        model = load_settings().model_name
    except HTTPException:  # the page that reports an invalid setting has no model
        model = ""
    mounted = request.scope.get("root_path", "")
    query = f"{request.url.query}&" if request.url.query else ""
    return Site(
        links=AppLinks(f"{mounted}/"),
        read_at=datetime.now(UTC),
        json=f"?{query}format=json",
        assets=f"{mounted}/",
        live=True,
        root=mounted.removesuffix(REVIEW),
        model=model,
    )


def _may_trigger(user: BaseUser, dag: str) -> bool:
    """Whether a user may trigger this DAG. Each action belongs to one DAG, and needs the permission for that one."""
    details = DagDetails(id=dag, team_name=DagModel.get_team_name(dag))
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )


def load_settings() -> Settings:
    """Load the settings.

    Raises:
        HTTPException: 503 with the name of the setting, if one is invalid.
    """
    from churn.settings import Settings, SettingsError

    try:
        return Settings.load()
    except SettingsError as error:
        raise HTTPException(
            503, f"{error} Fix it in the environment of Airflow's API server, then restart it."
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
