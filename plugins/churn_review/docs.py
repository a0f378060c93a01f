"""The Data Docs of a batch, from the data root, for people whom Airflow lets see the DAG."""

from __future__ import annotations

import mimetypes
import re

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import Response

from churn_wiring import open_filesystem

app = FastAPI(title="Churn review", docs_url=None, redoc_url=None, openapi_url=None)
GUARDED_BY = "churn_retraining"
"""Whoever may see this DAG may see the pages; not a DAG of the caller's choice."""
_BATCH = re.compile(r"[0-9a-f]{64}")


@app.get("/docs/{batch}/{page:path}", dependencies=[Depends(requires_access_dag("GET", param_dag_id=GUARDED_BY))])
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
    return Response(content, media_type=mimetypes.guess_type(name)[0] or "application/octet-stream")
