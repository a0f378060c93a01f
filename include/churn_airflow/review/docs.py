"""The Data Docs of a batch, from the data root, for people whom Airflow lets see the DAG."""

from __future__ import annotations

import mimetypes
import re

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from churn_airflow.review.pages import guard, load_settings
from churn_airflow.steps import open_filesystem

router = APIRouter()
OURS = "script-src 'none'; form-action 'none'; frame-ancestors 'self'; base-uri 'none'"
"""Our own page, and whatever is no page: no script runs."""
THEIRS = "sandbox allow-scripts allow-popups; frame-ancestors 'self'; base-uri 'none'"
"""Great Expectations' pages fold and sort by script. It runs as nobody's: without Airflow's cookie, whatever lies in the data root."""
SECONDS = 1.8
"""So long a page is waited for."""
_BATCH = re.compile(r"[0-9a-f]{64}")


@router.get("/docs/{batch}/{page:path}", dependencies=guard)
def data_docs(batch: str, page: str) -> Response:
    """One file of a batch's Data Docs."""
    from churn.foundation.paths import DOCS
    from churn.foundation.storage import Storage, StorageError
    from churn.review.availability import begin

    if not _BATCH.fullmatch(batch) or ".." in page.split("/"):
        raise HTTPException(404, "There is no such batch.")
    settings = load_settings()
    name = f"{DOCS}/{batch}/{page or 'index.html'}"

    def read() -> bytes | None:
        storage = Storage.open(settings.data_root, open_filesystem(settings))
        if not storage.exists(name):
            return None
        with storage.reading(name) as stream:
            return stream.read()

    try:
        content = begin(read).result(SECONDS)
    except TimeoutError as error:
        raise HTTPException(503, "The data root does not answer: try again when it does. Nothing is lost.") from error
    except StorageError as error:
        raise HTTPException(503, str(error)) from error
    if content is None:
        raise HTTPException(
            404, "There are no Data Docs of this batch: its file could not be read as the contract says."
        )
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    theirs = media_type == "text/html" and page not in ("", "index.html")
    return Response(content, media_type=media_type, headers={"Content-Security-Policy": THEIRS if theirs else OURS})
