"""Loads the heavy libraries once, in the scheduler, before LocalExecutor forks the task processes.

Every task is a fork of the scheduler. Without preloading, each of them imports MLflow and Great Expectations
again: six tasks that do nothing else take 36 s, and 3 s with preloading (2 cores). Only local mode uses it, with
`PRELOAD_CORE=1` in the environment of the scheduler. Celery workers do not descend from the scheduler and gain
nothing. The variable is not a `CHURN_` setting, because only two files of this project use it.

The modules of `churn` are not preloaded. They load quickly once the libraries are there, and an edit of the core
takes effect from the next task on, without a restart.
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
    """Preloads when the scheduler starts. Tasks call the same hook, but have nothing left to load."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Import the libraries; a missing one is reported by the task that needs it."""
        if type(component).__name__ != "Job":
            return
        started_at = time.monotonic()
        for name in LIBRARIES:
            try:
                importlib.import_module(name)
            except ImportError as error:
                log.warning("Could not preload %s: %s", name, error)
        log.info("Preloaded %d libraries in %.1f s", len(LIBRARIES), time.monotonic() - started_at)


class ChurnPreload(AirflowPlugin):
    """Registers the listener if the environment asks for it."""

    name = "churn_preload"
    listeners = [PreloadListener()] if os.environ.get("PRELOAD_CORE") == "1" else []
