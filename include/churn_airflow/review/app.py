"""The plugin's application: its routes, what every answer says to the browser, and errors that a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException

from churn_airflow.review import docs, pages
from churn_airflow.review.pages import answer_message, wants_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/churn-review"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
WORDS = {
    401: ("Please log in.", "Nobody is logged in here, or the session has ended."),
    403: (
        "This is not for you.",
        "Whoever may see the DAG churn_retraining may see this page. Ask an admin of Airflow for that right.",
    ),
}


class Headers:
    """Puts the headers on every answer that has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


app = FastAPI(title="Churn review", docs_url=None, redoc_url=None, openapi_url=None)
app.add_middleware(Headers)
app.include_router(pages.router)
app.include_router(docs.router)


@app.exception_handler(HTTPException)
def explain(request: Request, error: HTTPException) -> Response:
    """An error as a page, or as JSON where that was asked for; who is not logged in is led there."""
    if wants_json(request):
        return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
    title, words = WORDS.get(error.status_code, ("This page cannot be shown.", str(error.detail)))
    login = _login(request) if error.status_code == 401 else None  # noqa: PLR2004 -- nobody is logged in
    return answer_message(request, error.status_code, title, [words], login)


@app.exception_handler(RequestValidationError)
def refuse(request: Request, error: Any) -> Response:
    """What was asked for is not of the form that it has."""
    words = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    return explain(request, HTTPException(400, f"The address is not as it should be: {words}."))


@app.exception_handler(Exception)
def confess(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- the server logs it
    """A fault of our own, said as a page too."""
    return explain(
        request,
        HTTPException(500, "A fault in this page: the log of Airflow's API server has it. Nothing was changed."),
    )


def _login(request: Request) -> str:
    """Airflow's login, which leads back to this page within Airflow's own."""
    root = request.scope.get("root_path", "").removesuffix(PREFIX)
    query = f"?{request.url.query}" if request.url.query else ""
    back = f"{root}/plugin/churn-review{PREFIX}/{pages.path_of(request)}{query}"
    return f"{root}/api/v2/auth/login?next={quote(back, safe='')}"
