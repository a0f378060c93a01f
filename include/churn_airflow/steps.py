"""What Airflow adds to a step of the core: credentials, the request from the trigger form, and the handling of errors.

DAG files import this module; the core does not know it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context
    from fsspec import AbstractFileSystem

    from churn.pipeline.scoring_runs import ScoringRequest
    from churn.pipeline.workspace import Request, Workspace
    from churn.release.engine import Login
    from churn.settings import Settings

SPARK_APPLICATION = "spark_application"
"""Key of the XCom with the id of the Spark application that did the data work of a task."""
MOST_VERSIONS = 2**31 - 1
"""The highest number of a version that the ledger can hold."""
MOST_TASKS = 50
"""At most this number of tasks judge the batches of a run: each is a process that takes seconds to start, and Airflow lists 100 at a time."""
IMAGE_QUEUE = "image"
"""Queue of the tasks that use the container engine: only the worker that may reach it takes them. LocalExecutor has no queues."""


def report_failure(context: Context) -> None:
    """Alert once, after the last attempt of a task has failed."""
    from churn_airflow.alerts import alert_failed_task

    alert_failed_task(_open_workspace(), context)


def report_failed_run(context: Context) -> None:
    """Alert after a run has failed: if a task was killed or the run timed out, no task could send an alert itself."""
    from churn_airflow.alerts import alert_failed_run

    alert_failed_run(_open_workspace(), context)


def report_failed_scoring(context: Context) -> None:
    """Alert once, after the last attempt of a task of a scoring run or the run itself has failed: the current list stays."""
    from churn_airflow.alerts import alert_failed_scoring

    alert_failed_scoring(_open_workspace(), context)


TASK_DEFAULTS: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "on_failure_callback": report_failure,
}


@contextmanager
def core_step() -> Iterator[tuple[Workspace, Request]]:
    """Open the workspace and the request of this task's run, and translate errors for Airflow.

    `NothingToDo` becomes a skip. An outage is retried. Any other error of the core fails at once, because a retry would not help.
    """
    from churn.errors import ChurnError, NothingToDo, Outage
    from churn_airflow.metrics import measure_duration

    started_at = datetime.now(UTC)
    try:
        with _spark_shown():
            yield _open_workspace(), _request()
    except NothingToDo as nothing:
        raise AirflowSkipException(str(nothing)) from None
    except Outage:
        raise
    except ChurnError as error:
        raise AirflowFailException(str(error)) from error
    finally:
        measure_duration(get_current_context()["ti"].task_id, started_at)


@contextmanager
def _spark_shown() -> Iterator[None]:
    """Link to the Spark application that the task opens, give its id as XCom, and close it with the task, whatever ends that."""
    from churn.foundation.spark.session import OpenedSession, close_sessions, listening
    from churn_airflow.review.links import SparkLink

    def show(opened: OpenedSession) -> None:
        get_current_context()["ti"].xcom_push(SPARK_APPLICATION, opened.application)
        if opened.ui:
            store_link(SparkLink(), opened.ui)

    try:
        with listening(show):
            yield
    finally:
        close_sessions()


def divide_among_tasks(batches: Sequence[str]) -> list[list[str]]:
    """Divide batches, in order, among tasks: one each, as long as they are not too many."""
    size = -(-len(batches) // MOST_TASKS) or 1
    return [list(batches[first : first + size]) for first in range(0, len(batches), size)]


def batches_of_task(given: list[str] | str) -> list[str]:
    """The batches that a task judges: one hash, if the run began with a release in which each batch had a task."""
    return [given] if isinstance(given, str) else given


def has_run(task: str) -> bool:
    """Whether a task of this run has done its work: it was skipped, or it succeeded and has a result.

    A task that a person marked as success before it ran has no result.
    """
    ti = get_current_context()["ti"]
    state = ti.get_task_states(ti.dag_id, task_ids=[task], run_ids=[ti.run_id])[ti.run_id][task]
    return state == "skipped" or (state == "success" and ti.xcom_pull(task_ids=task) is not None)


def store_link(link: BaseOperatorLink, url: str) -> None:
    """Store the address that a link of this task opens.

    Airflow looks it up under the link's XCom key. For a mapped task, Airflow does not store it there itself.
    """
    get_current_context()["ti"].xcom_push(link.xcom_key, url)


def store_run_link(workspace: Workspace, request: Request) -> None:
    """Store the address of the review of this task's run."""
    from churn.foundation.links import night_page
    from churn_airflow.review.links import NightLink

    store_link(NightLink(), night_page(workspace.settings, request.night))


def open_filesystem(settings: Settings) -> AbstractFileSystem | None:
    """Open the data root's filesystem with the credentials of an Airflow connection; None if the settings name no connection."""
    if settings.aws_conn_id is None:
        return None
    from airflow.providers.amazon.aws.fs.s3 import get_fs

    return get_fs(settings.aws_conn_id)


def registry_login(settings: Settings) -> Callable[[], Login] | None:
    """Choose the login for the image registry: None leaves it to the container engine; ECR issues a token for each push."""
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
                f"Amazon ECR returned no token ({type(error).__name__}). The step is retried. If that does not help, check the "
                "connection in CHURN_AWS_CONN_ID and its permissions."
            ) from error
        return Login(token.username, token.password)

    return login


def log_folders() -> list[tuple[AbstractFileSystem, str]]:
    """List where this Airflow keeps task logs: the folder of this worker, and the remote one on S3 if there is one."""
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
    """Record why an image task or its run has failed, where people look for it, and alert once."""
    from churn.pipeline import shipping
    from churn_airflow.alerts import alert_failed_image

    workspace = _open_workspace()
    version = int(context["params"]["version"])
    try:
        shipping.remember_failure(workspace, version, context.get("exception"))
    finally:
        alert_failed_image(workspace, version, context)


def read_number(name: str) -> int | None:
    """Return a whole number of the trigger form, None if it is empty. JSON does not tell 2 from 2.0, and neither does the schema of a form."""
    number = get_current_context()["params"].get(name)
    return None if number is None else int(number)


def scoring_request() -> ScoringRequest:
    """The request of this task's scoring run, from the trigger form."""
    from churn.pipeline.scoring_runs import ScoringRequest

    context = get_current_context()
    run, params = context["dag_run"], context["params"]
    return ScoringRequest(
        run=run.run_id,
        file=(params.get("file") or "").strip() or None,
        version=read_number("version"),
        campaign=(params.get("campaign") or "").strip() or None,
        capacity=read_number("capacity"),
        dry_run=bool(params.get("dry_run", False)),
        requested_by=run.triggering_user_name,
    )


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
        plausible_reason=(params.get("plausible_reason") or "").strip() or None,
        requested_by=run.triggering_user_name,
        link=f"{Settings.load().airflow_ui}/dags/{run.dag_id}/runs/{run.run_id}",
    )
