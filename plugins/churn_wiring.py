"""What Airflow adds to a step of the core: credentials, the request of the form, the meaning of errors.

DAG files import this; the core knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from churn.settings import Settings
    from churn.workbench import Request, Workbench

TASK_DEFAULTS: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}


@contextmanager
def core_step() -> Iterator[tuple[Workbench, Request]]:
    """The workbench and the request of this task's night; errors leave as Airflow's own.

    Nothing to do is a skip. An outage is retried. What a retry cannot mend fails at once.
    """
    from churn.errors import ChurnError, NothingToDo, Outage

    try:
        yield _open_workbench(), _request()
    except NothingToDo as nothing:
        raise AirflowSkipException(str(nothing)) from None
    except Outage:
        raise
    except ChurnError as error:
        raise AirflowFailException(str(error)) from error


def lead_to(link: BaseOperatorLink, url: str) -> None:
    """Remember the page that a link of this task opens.

    Airflow looks for a link under its XCom key; for a mapped task nobody else would put it there.
    """
    get_current_context()["ti"].xcom_push(link.xcom_key, url)


def open_filesystem(settings: Settings) -> AbstractFileSystem | None:
    """The data root's filesystem with the credentials of the Airflow connection that a setting names, if one does."""
    if settings.aws_conn_id is None:
        return None
    from airflow.providers.amazon.aws.fs.s3 import get_fs

    return get_fs(settings.aws_conn_id)


def _open_workbench() -> Workbench:
    from churn.settings import Settings
    from churn.workbench import Workbench

    settings = Settings.load()
    return Workbench.open(settings, open_filesystem(settings))


def _request() -> Request:
    from churn.settings import Settings
    from churn.workbench import Request

    context = get_current_context()
    run, params = context["dag_run"], context["params"]
    return Request(
        night=run.run_id,
        retrain=bool(params.get("retrain", False)),
        dry_run=bool(params.get("dry_run", False)),
        note=params.get("note"),
        approval=bool(params.get("approval", False)),
        force_reason=(params.get("force_reason") or "").strip() or None,
        requested_by=run.triggering_user_name,
        link=f"{Settings.load().airflow_ui}/dags/{run.dag_id}/runs/{run.run_id}",
    )
