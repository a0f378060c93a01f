"""Loads the heavy libraries once, in the scheduler, before LocalExecutor forks the processes of tasks.

Every task is a fork of the scheduler. Without this each of them imports MLflow and Great Expectations
again: 36 s for six tasks that do nothing else, 3 s with it (2 cores). Only the embedded mode asks for
it, by `PRELOAD_CORE=1` in the environment of its scheduler; Celery workers live apart from the
scheduler and gain nothing. The variable is no `CHURN_` setting: it is between two of our own files.

The modules of `churn` are left out on purpose: they load in no time once the libraries are there,
and so an edit of the core counts from the next task on, without a restart.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from typing import Any

from churn_airflow.airflow_compat import AirflowPlugin, hookimpl

LIBRARIES = (
    "mlflow.sklearn",
    "great_expectations",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "duckdb",
    "pyarrow.parquet",
    "skops.io",
    "sqlalchemy.orm",
    "alembic.command",
)

log = logging.getLogger(__name__)


class PreloadListener:
    """Hears when a job starts; tasks call the same hook and have nothing left to load."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Import the libraries; a missing one is left to the task that needs it."""
        if type(component).__name__ != "Job":
            return
        began = time.monotonic()
        for name in LIBRARIES:
            try:
                importlib.import_module(name)
            except ImportError as error:
                log.warning("%s is not preloaded: %s", name, error)
        log.info("preloaded %d libraries in %.1f s", len(LIBRARIES), time.monotonic() - began)


class ChurnPreload(AirflowPlugin):
    """Registers the listener where the environment asks for it."""

    name = "churn_preload"
    listeners = [PreloadListener()] if os.environ.get("PRELOAD_CORE") == "1" else []
