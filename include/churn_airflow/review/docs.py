"""Serves the Data Docs of a batch from the data root, to people who may see the DAG."""

from __future__ import annotations

import mimetypes
import re

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from churn_airflow.review.pages import guard, load_settings
from churn_airflow.steps import open_filesystem

router = APIRouter()
OWN_POLICY = "script-src 'none'; form-action 'none'; frame-ancestors 'self'; base-uri 'none'"
"""For our own page and for everything that is not HTML: no script runs."""
SANDBOX_POLICY = "sandbox allow-scripts allow-popups; frame-ancestors 'self'; base-uri 'none'"
"""For Great Expectations' pages, which need scripts to fold and sort. The sandbox keeps Airflow's cookie from them, whatever they contain."""
SECONDS = 1.8
"""How long to wait for the data root."""
_BATCH = re.compile(r"[0-9a-f]{64}")


@router.get("/docs/{batch}/{page:path}", dependencies=guard)
def data_docs(batch: str, page: str) -> Response:
    """Serve one file of a batch's Data Docs."""
    from churn.foundation.paths import DOCS
    from churn.foundation.storage import Storage, StorageError
    from churn.review.availability import start

    if not _BATCH.fullmatch(batch) or ".." in page.split("/"):
        raise HTTPException(404, "The address does not name a batch.")
    settings = load_settings()
    name = f"{DOCS}/{batch}/{page or 'index.html'}"

    def read() -> bytes | None:
        storage = Storage.open(settings.data_root, open_filesystem(settings))
        if not storage.exists(name):
            return None
        with storage.reading(name) as stream:
            return stream.read()

    try:
        content = start(read).result(SECONDS)
    except TimeoutError as error:
        raise HTTPException(
            503, f"The data root has not answered within {SECONDS:g} s. Nothing is lost; try again later."
        ) from error
    except StorageError as error:
        raise HTTPException(503, str(error)) from error
    if content is None:
        raise HTTPException(
            404, "This batch has no Data Docs, because its file could not be read as the data contract requires."
        )
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    needs_scripts = media_type == "text/html" and page not in ("", "index.html")
    policy = SANDBOX_POLICY if needs_scripts else OWN_POLICY
    return Response(content, media_type=media_type, headers={"Content-Security-Policy": policy})
