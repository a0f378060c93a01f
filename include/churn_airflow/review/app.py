"""The plugin's application: its routes, the security headers of every answer, and readable errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException

from churn.foundation.faults import describe_fault
from churn.foundation.links import REVIEW
from churn_airflow.review import docs, pages
from churn_airflow.review.pages import answer_message, wants_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    401: ("Please log in.", "You are not logged in, or your session has expired."),
    403: (
        "You do not have access to this page.",
        "It is visible to people who may see the DAG churn_retraining. Ask an Airflow administrator for that permission.",
    ),
}

ANONYMOUS = {
    "Not Found": "There is no page at this address.",
    "Method Not Allowed": "This address can be read, but nothing can be sent to it.",
}
"""The sentences for errors that the framework raises with the name of the status alone."""


class Headers:
    """Adds the security headers to every answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the headers added."""

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
    """Show an error as a page, or as JSON if that was requested. A user who is not logged in gets a link to the login."""
    detail = ANONYMOUS.get(error.detail, error.detail)
    if wants_json(request):
        return JSONResponse({"detail": detail}, error.status_code, headers=error.headers)
    title, sentence = WORDS.get(error.status_code, (pages.CANNOT_SHOW, detail))
    login = _login_address(request) if error.status_code == 401 else None  # noqa: PLR2004 -- not logged in
    return answer_message(request, error.status_code, title, [sentence], login)


@app.exception_handler(RequestValidationError)
def refuse(request: Request, error: Any) -> Response:
    """Refuse a request with invalid parameters."""
    faults = "; ".join(f"{fault['loc'][-1]} {describe_fault(fault)}" for fault in error.errors())
    return explain(request, HTTPException(400, f"The address is invalid: {faults}."))


@app.exception_handler(Exception)
def report_defect(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- the server logs it
    """Report a defect of the review itself as a page too."""
    return explain(
        request,
        HTTPException(500, "The review has a defect. See the log of Airflow's API server. Nothing was changed."),
    )


def _login_address(request: Request) -> str:
    """Return the address of Airflow's login, which leads back to this page within Airflow."""
    root = request.scope.get("root_path", "").removesuffix(REVIEW)
    query = f"?{request.url.query}" if request.url.query else ""
    back = f"{root}/plugin/churn-review{REVIEW}/{pages.path_of(request)}{query}"
    return f"{root}/api/v2/auth/login?next={quote(back, safe='')}"
