"""Sends what the core has noticed through Airflow's notifiers, and says what a failed task has no other message for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from churn.alerts.outbox import Channel
    from churn.pipeline.workspace import Workspace

CLOSING = "close"
"""The task that fails because something else has failed before."""

log = logging.getLogger(__name__)


def tell(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """Notice and send. What cannot be sent fails nobody here: it waits, and the DAG churn_watch is red for it."""
    try:
        notice_and_send(workspace, context)
    except Exception:
        log.exception("Messages wait in the ledger; the DAG churn_watch tries them again")


def notice_and_send(workspace: Workspace, context: Mapping[str, Any]) -> int:
    """Write down what the ledger says now, and send what waits.

    Returns:
        How many alerts were sent.

    Raises:
        AlertsUnsent: some could not be sent.
        NotificationsInvalid: the file that says who is told is wrong.
    """
    from churn.alerts.outbox import notice, send_unsent

    for alert in notice(workspace.ledger, workspace.settings):
        log.info("Noticed: %s", alert.subject)
    return send_unsent(workspace.ledger, _channels(workspace, context))


def tell_of_task(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """A task has failed at its last try: say so, unless what it failed of has a message of its own."""
    from churn.alerts.events import task_failed

    ti, error = context["ti"], context.get("exception")
    if not _is_told(workspace, ti, error):
        now = datetime.now(UTC)
        alert = task_failed(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, error, workspace.settings, now)
        workspace.ledger.add_alert(alert)
    tell(workspace, context)


def tell_of_run(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """A run has failed: say so, unless something of it was told already."""
    from churn.alerts.events import TASK, run_failed

    dag, run = context["dag"].dag_id, context["run_id"]
    rejected = workspace.ledger.batches(state="rejected", night=run)
    if not rejected and not workspace.ledger.has_alert(f"{TASK}:{dag}:{run}:"):
        alert = run_failed(dag, run, str(context.get("reason")), workspace.settings, datetime.now(UTC))
        workspace.ledger.add_alert(alert)
    tell(workspace, context)


def tell_of_image(workspace: Workspace, version: int, context: Mapping[str, Any]) -> None:
    """A task of the image has failed, or its run: the image's state says why; where it has none of failure, task or run do."""
    from churn.alerts.events import FAILED_IMAGES

    image = workspace.ledger.image(workspace.settings.model_name, version)
    if image and image.state in FAILED_IMAGES:
        tell(workspace, context)
    elif "exception" in context:
        tell_of_task(workspace, context)
    else:
        tell_of_run(workspace, context)


def send_trial(workspace: Workspace, context: Mapping[str, Any]) -> None:
    """Send a message that says nothing to everybody, whatever they want to be told of.

    Raises:
        ChurnError: nobody is named, or somebody could not be reached.
    """
    from churn.alerts.events import trial_alert
    from churn.errors import ChurnError

    channels = _channels(workspace, context)
    if not channels:
        raise ChurnError("CHURN_NOTIFICATIONS_FILE names no file: there is nobody to send a test message to.")
    failed = []
    for channel in channels:
        try:
            channel.send(trial_alert(workspace.settings, datetime.now(UTC)))
        except Exception as error:
            log.exception("The test message did not reach %s", channel.name)
            failed.append(f"{channel.name} ({type(error).__name__})")
    if failed:
        raise ChurnError(
            f"The test message did not reach {', '.join(failed)}; the log says why. {len(channels) - len(failed)} others have it."
        )


def _channels(workspace: Workspace, context: Mapping[str, Any]) -> list[Channel]:
    from churn.alerts.notifications import open_channels, read_notifications

    return open_channels(read_notifications(workspace.settings.notifications_file), context)


def _is_told(workspace: Workspace, ti: Any, error: object) -> bool:
    from churn.alerts.events import TASK
    from churn.errors import ChurnError
    from churn.intake.acceptance import BatchRejected

    cause = getattr(error, "__cause__", None)
    if ti.task_id == CLOSING and isinstance(cause, ChurnError):
        rejected = workspace.ledger.batches(state="rejected", night=ti.run_id)
        return bool(rejected) or workspace.ledger.has_alert(f"{TASK}:{ti.dag_id}:{ti.run_id}:")
    return isinstance(cause, BatchRejected)
