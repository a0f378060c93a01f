"""The Data Docs of a batch, from the data root, for people whom Airflow lets see the DAG."""

from __future__ import annotations

import mimetypes
import re

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from churn_review.pages import guard
from churn_wiring import open_filesystem

router = APIRouter()
OURS = "script-src 'none'; form-action 'none'; frame-ancestors 'self'; base-uri 'none'"
"""Our own page, and whatever is no page: no script runs."""
THEIRS = "sandbox allow-scripts allow-popups; frame-ancestors 'self'; base-uri 'none'"
"""Great Expectations' pages fold and sort by script. It runs as nobody's: without Airflow's cookie, whatever lies in the data root."""
_BATCH = re.compile(r"[0-9a-f]{64}")


@router.get("/docs/{batch}/{page:path}", dependencies=guard)
def data_docs(batch: str, page: str) -> Response:
    """One file of a batch's Data Docs."""
    from churn.foundation.storage import Storage, StorageError
    from churn.foundation.zones import DOCS
    from churn.settings import Settings

    if not _BATCH.fullmatch(batch) or ".." in page.split("/"):
        raise HTTPException(404, "There is no such batch.")
    settings = Settings.load()
    storage = Storage.open(settings.data_root, open_filesystem(settings))
    name = f"{DOCS}/{batch}/{page or 'index.html'}"
    try:
        if not storage.exists(name):
            raise HTTPException(
                404, "There are no Data Docs of this batch: its file could not be read as the contract says."
            )
        with storage.reading(name) as stream:
            content = stream.read()
    except StorageError as error:
        raise HTTPException(503, str(error)) from error
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    theirs = media_type == "text/html" and page not in ("", "index.html")
    return Response(content, media_type=media_type, headers={"Content-Security-Policy": THEIRS if theirs else OURS})
