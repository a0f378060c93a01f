"""What Airflow adds to a step of the core: credentials, the request of the form, the meaning of errors.

DAG files import this; the core knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context
    from fsspec import AbstractFileSystem

    from churn.pipeline.workspace import Request, Workspace
    from churn.release.engine import Login
    from churn.settings import Settings

IMAGE_QUEUE = "image"
"""Tasks that talk to the container engine: of several workers only the one that may reach it takes them. LocalExecutor has no queues."""


def report_failure(context: Context) -> None:
    """After the last try of a task: people are told, once."""
    from churn_airflow.alerts import tell_of_task

    tell_of_task(_open_workspace(), context)


def report_failed_run(context: Context) -> None:
    """After a run that failed: where a task was killed, or the run's time was up, no task could say so, and this does."""
    from churn_airflow.alerts import tell_of_run

    tell_of_run(_open_workspace(), context)


TASK_DEFAULTS: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "on_failure_callback": report_failure,
}


@contextmanager
def core_step() -> Iterator[tuple[Workspace, Request]]:
    """The workbench and the request of this task's night; errors leave as Airflow's own.

    Nothing to do is a skip. An outage is retried. What a retry cannot mend fails at once.
    """
    from churn.errors import ChurnError, NothingToDo, Outage
    from churn_airflow.metrics import measure_duration

    begun = datetime.now(UTC)
    try:
        yield _open_workspace(), _request()
    except NothingToDo as nothing:
        raise AirflowSkipException(str(nothing)) from None
    except Outage:
        raise
    except ChurnError as error:
        raise AirflowFailException(str(error)) from error
    finally:
        measure_duration(get_current_context()["ti"].task_id, begun)


def lead_to(link: BaseOperatorLink, url: str) -> None:
    """Remember the page that a link of this task opens.

    Airflow looks for a link under its XCom key; for a mapped task nobody else would put it there.
    """
    get_current_context()["ti"].xcom_push(link.xcom_key, url)


def lead_to_night(workspace: Workspace, request: Request) -> None:
    """Remember the review of this task's night as the page that its link opens."""
    from churn.foundation.links import night_page
    from churn_airflow.review.links import NightLink

    lead_to(NightLink(), night_page(workspace.settings, request.night))


def open_filesystem(settings: Settings) -> AbstractFileSystem | None:
    """The data root's filesystem with the credentials of the Airflow connection that a setting names, if one does."""
    if settings.aws_conn_id is None:
        return None
    from airflow.providers.amazon.aws.fs.s3 import get_fs

    return get_fs(settings.aws_conn_id)


def registry_login(settings: Settings) -> Callable[[], Login] | None:
    """How the registry of images is entered: None leaves it to the container engine; ECR hands out a token for each push."""
    if settings.registry_login != "ecr":
        return None

    def login() -> Login:
        from airflow.providers.amazon.aws.hooks.ecr import EcrHook

        from churn.release.engine import EngineFailed, Login

        try:
            hook = EcrHook(aws_conn_id=settings.aws_conn_id)  # type: ignore[no-untyped-call]
            token = hook.get_temporary_credentials()[0]
        except Exception as error:
            raise EngineFailed(
                f"Amazon ECR gave no token ({type(error).__name__}). Check CHURN_AWS_CONN_ID and what it may do; the step is retried."
            ) from error
        return Login(token.username, token.password)

    return login


def log_folders() -> list[tuple[AbstractFileSystem, str]]:
    """Where this Airflow keeps its task logs: this worker's folder, and the remote one on S3 if there is one."""
    from fsspec.implementations.local import LocalFileSystem

    from churn_airflow.airflow_compat import conf

    folders: list[tuple[AbstractFileSystem, str]] = [(LocalFileSystem(), conf.get("logging", "base_log_folder"))]
    remote = conf.get("logging", "remote_base_log_folder", fallback="")
    if conf.getboolean("logging", "remote_logging", fallback=False) and remote.startswith("s3://"):
        from airflow.providers.amazon.aws.fs.s3 import get_fs

        connection = conf.get("logging", "remote_log_conn_id", fallback="") or None
        folders.append((get_fs(connection), remote.removeprefix("s3://").rstrip("/")))
    return folders


def keep_image_failure(context: Context) -> None:
    """After the last try of a task of the image, or a run that failed: its reason goes where people look, and people are told, once."""
    from churn.pipeline import shipping
    from churn_airflow.alerts import tell_of_image

    workspace = _open_workspace()
    version = int(context["params"]["version"])
    try:
        shipping.remember_failure(workspace, version, context.get("exception"))
    finally:
        tell_of_image(workspace, version, context)


def _open_workspace() -> Workspace:
    from churn.pipeline.workspace import Workspace
    from churn.settings import Settings

    settings = Settings.load()
    return Workspace.open(settings, open_filesystem(settings), registry_login(settings))


def _request() -> Request:
    from churn.pipeline.workspace import Request
    from churn.settings import Settings

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
