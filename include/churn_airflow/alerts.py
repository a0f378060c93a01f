"""Sends the core's alerts through Airflow's notifiers, and alerts about failed tasks that no other alert explains."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from churn.errors import ChurnError

if TYPE_CHECKING:
    from churn.alerts.outbox import Channel
    from churn.pipeline.workspace import Workspace

CLOSING = "close"
"""The task that fails only because another one has failed before."""

DELIVERING = "deliver_"
"""How the names of tasks begin that deliver a list; the rest is the target."""

log = logging.getLogger(__name__)


def send_alerts(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """Record and send alerts. A failed delivery does not fail the task: the DAG churn_watch retries it, and is red meanwhile."""
    try:
        record_and_send(workspace, context)
    except Exception:
        log.exception("Alerts could not be sent. They wait in the ledger, and the DAG churn_watch retries them")


def record_and_send(workspace: Workspace, context: Mapping[str, Any]) -> int:
    """Record new alerts in the ledger, and send all that wait.

    Returns:
        The number of alerts sent.

    Raises:
        AlertsUnsent: some could not be sent.
        NotificationsInvalid: the file of notification channels is invalid.
    """
    from churn.alerts.outbox import record_alerts, send_unsent

    for alert in record_alerts(workspace.ledger, workspace.settings):
        log.info("New alert: %s", alert.subject)
    return send_unsent(workspace.ledger, _open_channels(workspace, context))


def alert_failed_task(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """Alert about a task whose last attempt failed, unless another alert explains it."""
    from churn.alerts.events import task_failed

    ti, error = context["ti"], context.get("exception")
    if not _has_other_alert(workspace, ti, error):
        now = datetime.now(UTC)
        alert = task_failed(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, error, workspace.settings, now)
        workspace.ledger.add_alert(alert)
    send_alerts(workspace, context)


def alert_failed_run(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """Alert about a run that failed, unless another alert explains it."""
    from churn.alerts.events import TASK, run_failed

    dag, run = context["dag"].dag_id, context["run_id"]
    rejected = workspace.ledger.batches(state="rejected", night=run)
    if not rejected and not workspace.ledger.has_alert(f"{TASK}:{dag}:{run}:"):
        alert = run_failed(dag, run, str(context.get("reason")), workspace.settings, datetime.now(UTC))
        workspace.ledger.add_alert(alert)
    send_alerts(workspace, context)


def alert_failed_scoring(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """Alert about a list that was not made or not delivered; about a run only if none of its tasks has alerted."""
    from churn.alerts.events import DELIVERY, LIST, delivery_failed, list_failed
    from churn.pipeline.scoring_runs import current_list

    ledger, settings, run, now = workspace.ledger, workspace.settings, context["run_id"], datetime.now(UTC)
    if "exception" not in context:
        if not any(ledger.has_alert(f"{kind}:{run}") for kind in (LIST, DELIVERY)):
            alert_failed_run(workspace, context)
        return
    task, error = context["ti"].task_id, context["exception"]
    try:
        current = current_list(workspace, context["params"].get("campaign"))
    except ChurnError:  # the scoring policy cannot be read, which is why the task failed
        current = None
    if task.startswith(DELIVERING) and current:
        alert = delivery_failed(run, current, task.removeprefix(DELIVERING), error, settings, now)
    else:
        alert = list_failed(run, current, error, settings, now)
    ledger.add_alert(alert)
    send_alerts(workspace, context)


def alert_failed_image(workspace: Workspace, version: int, context: Mapping[str, Any]) -> None:
    """Alert about an image whose task or run failed: by the image's state if that is a failed one, otherwise by task or run."""
    from churn.alerts.events import FAILED_IMAGES

    image = workspace.ledger.image(workspace.settings.model_name, version)
    if image and image.state in FAILED_IMAGES:
        send_alerts(workspace, context)
    elif "exception" in context:
        alert_failed_task(workspace, context)
    else:
        alert_failed_run(workspace, context)


def send_test_alert(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """Send a test alert through every notification channel, whatever kinds of alerts it is limited to.

    Raises:
        ChurnError: there is no channel, or some of them failed.
    """
    from churn.alerts.events import make_test_alert
    from churn.errors import ChurnError

    channels = _open_channels(workspace, context)
    if not channels:
        raise ChurnError(
            "There is no notification channel to send a test alert to: CHURN_NOTIFICATIONS_FILE is not set. "
            "Copy include/notifications.example.yaml, edit it, and set CHURN_NOTIFICATIONS_FILE to its path."
        )
    failed = []
    for channel in channels:
        try:
            channel.send(make_test_alert(workspace.settings, datetime.now(UTC)))
        except Exception as error:
            log.exception("The test alert could not be sent through %s", channel.name)
            failed.append(f"{channel.name} ({type(error).__name__})")
    if failed:
        raise ChurnError(
            f"The test alert could not be sent through {len(failed)} of {len(channels)} channels: {', '.join(failed)}. "
            "See the task's log for the errors, then check CHURN_NOTIFICATIONS_FILE and its Airflow connections."
        )


def _open_channels(workspace: Workspace, context: Mapping[str, Any]) -> list[Channel]:
    from churn.alerts.notifications import open_channels, read_notifications

    return open_channels(read_notifications(workspace.settings.notifications_file), context)


def _has_other_alert(workspace: Workspace, ti: Any, error: object) -> bool:
    """Whether another alert explains this failure: of a rejected batch, a snapshot that differs, or a task that failed before."""
    from churn.alerts.events import TASK
    from churn.errors import ChurnError
    from churn.intake.acceptance import BatchRejected
    from churn.pipeline.maintenance import SnapshotDiffers

    cause = getattr(error, "__cause__", None)
    if ti.task_id == CLOSING and isinstance(cause, ChurnError):
        rejected = workspace.ledger.batches(state="rejected", night=ti.run_id)
        return bool(rejected) or workspace.ledger.has_alert(f"{TASK}:{ti.dag_id}:{ti.run_id}:")
    return isinstance(cause, BatchRejected | SnapshotDiffers)
