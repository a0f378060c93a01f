"""The commands for production: history, alerts, approval, rollback, reconciliation, maintenance."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from churn.cli.terminal import USUAL_LIMIT, AsJson, Limit, console, explained, named_now, newest, print_json, who
from churn.errors import NothingToDo
from churn.foundation.wording import KIND_WORDS
from churn.pipeline.workspace import Workspace
from churn.settings import Settings

Reason = Annotated[str, typer.Option(help="The reason, which is kept in the ledger.")]


@explained
def history(
    at: Annotated[datetime | None, typer.Option(help="Show what was in production at this time (UTC).")] = None,
    limit: Limit = USUAL_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List the changes of production, newest first: which version, when, by whom, in which run, and why; and who confirmed a very high ROC AUC."""
    workspace = Workspace.open()
    model = workspace.settings.model_name
    if at:
        moment = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        current = workspace.ledger.in_production(model, moment)
        rows, confirmation = [current] if current else [], None
    else:
        rows, confirmation = workspace.ledger.promotions(model), workspace.ledger.confirmation(model)
    if as_json:
        print_json(
            [asdict(row) for row in rows] + ([asdict(confirmation) | {"kind": "confirmation"}] if confirmation else [])
        )
        return
    if confirmation:
        when = confirmation.at.isoformat(sep=" ", timespec="seconds")
        console.print(f"{when}  a very high ROC AUC is plausible: confirmed by {confirmation.by}", markup=False)
        console.print(f"    {confirmation.reason}", style="dim", markup=False)
    for row in newest(rows, limit):
        when = row.promoted_at.isoformat(sep=" ", timespec="seconds")
        what = f"version {row.version}" if row.version else "nothing"
        instead = f" instead of version {row.previous}" if row.previous else ""
        console.print(
            f"{when}  {what}{instead}: {KIND_WORDS.get(row.kind, row.kind)} ({row.code}) by {row.actor} in run {row.night}",
            markup=False,
        )
        console.print(f"    {row.reason}", style="dim", markup=False)
    if not rows:
        console.print("Nothing was in production.")


@explained
def alerts(
    limit: Annotated[int, typer.Option(min=1, help="Number of alerts, newest first.")] = 20,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only check the file that CHURN_NOTIFICATIONS_FILE names, without sending anything."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Record new events, and list alerts: what was sent, and what is waiting to be sent."""
    from churn.alerts.events import make_test_alert
    from churn.alerts.notifications import read_notifications
    from churn.alerts.outbox import record_alerts

    if check:
        settings = Settings.load()
        channels = read_notifications(settings.notifications_file)
        for channel in channels:
            channel.build(make_test_alert(settings, datetime.now(UTC)))
            console.print(f"{channel.name}: {', '.join(channel.only) if channel.only else 'everything'}", markup=False)
        if not channels:
            console.print("CHURN_NOTIFICATIONS_FILE is not set, so alerts are only listed.")
        return
    workspace = Workspace.open()
    record_alerts(workspace.ledger, workspace.settings)
    rows = workspace.ledger.alerts(limit=limit)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        sent = f"sent {row.sent_at:%Y-%m-%d %H:%M}" if row.sent_at else "not sent"
        console.print(f"{row.noticed_at:%Y-%m-%d %H:%M}  {row.kind}: {row.subject} ({sent})", markup=False)
        console.print(f"    {row.text}\n{row.link}".replace("\n", "\n    "), style="dim", markup=False, soft_wrap=True)
    if not rows:
        console.print("There are no alerts.")


@explained
def report(
    html: Annotated[Path, typer.Option("--html", help="The folder to write the pages to. It is created if needed.")],
    nights: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of newest runs and batches that get a page.")
    ] = 30,
) -> None:
    """Write the review as a folder of pages and JSON, for people without access to Airflow."""
    from churn.review.report import write_report

    workspace = Workspace.open()
    pages = write_report(html, workspace.ledger, workspace.settings, datetime.now(UTC), nights)
    console.print(f"{len(pages)} pages. Open {pages[0]}", soft_wrap=True)


@explained
def approve(
    night: Annotated[
        str, typer.Argument(metavar="RUN", help="The run whose decision is waiting. `churn status` names it.")
    ],
    reason: Reason,
    reject: Annotated[bool, typer.Option("--reject", help="Reject it: the challenger is held.")] = False,
) -> None:
    """Approve or reject a promotion that is waiting for a person, or whose batch is disputed."""
    from churn.pipeline import answers, recorded, steps
    from churn.pipeline.shipping import ship

    workspace = Workspace.open()
    given = answers.answer(workspace, night, "rejected" if reject else "approved", who(), reason)
    console.print(f"Run {night}: {given.answer} by {given.by}: {given.reason}", markup=False)
    for rule in recorded.decision_of(workspace, night).rules:
        if not rule["passed"]:
            console.print(f"Rule {rule['name']} failed: {rule['sentence']}", style="yellow", markup=False)
    try:
        version = steps.promote(workspace, night)
    except NothingToDo as held:
        console.print(str(held), markup=False)
        return
    now = workspace.ledger.in_production(workspace.settings.model_name)
    if now is None or now.version != version:
        console.print(f"Version {version} was promoted, but version {now and now.version} is in production now.")
        return
    console.print(f"Version {version} is in production.")
    if workspace.ledger.image(workspace.settings.model_name, version) is None:
        ship(workspace, version)
        console.print("Its image has been verified.")


@explained
def rollback(
    reason: Reason,
    to: Annotated[
        int | None, typer.Option(min=1, help="The version to return to. By default the previous one.")
    ] = None,
) -> None:
    """Return to an earlier version. Automatic promotion is off from then on."""
    from churn.pipeline import steps
    from churn.pipeline.shipping import ship

    workspace = Workspace.open()
    done = steps.roll_back(workspace, to, reason, who(), named_now("rollback"))
    instead = f"version {done.promotion.previous}" if done.promotion.previous else "nothing"
    console.print(f"Version {done.promotion.version} is in production again, instead of {instead}.")
    if done.image is None and done.promotion.version:
        console.print("Its image no longer exists, so it is built again.")
        ship(workspace, done.promotion.version)
    console.print("Automatic promotion is off. `churn unfreeze --reason ...` turns it on again.")


@explained
def unfreeze(reason: Reason) -> None:
    """Turn automatic promotion on again, after a rollback, also after an automatic one."""
    from churn.pipeline import answers

    thawed = answers.unfreeze(Workspace.open(), reason, who())
    console.print("Automatic promotion is on." if thawed else "Automatic promotion is already on.")


@explained
def reconcile() -> None:
    """Bring the MLflow registry into line with the ledger, and report what differed."""
    from churn.pipeline import disagreements

    workspace = Workspace.open()
    differences = disagreements.reconcile(workspace)
    for line in differences or ["The MLflow registry and the ledger agree."]:
        console.print(line, markup=False)


@explained
def maintain(
    yes: Annotated[bool, typer.Option("--yes", help="Delete them. Without it, only list them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what is no longer needed: versions, MLflow runs, rows of snapshots and decisions, images. Settings say how much is kept."""
    from churn.pipeline import maintenance

    workspace = Workspace.open()
    plan = maintenance.plan_maintenance(workspace)
    deleted = maintenance.clean(plan, workspace) if yes else plan
    try:
        images = [image.image_id for image in maintenance.clean_images(workspace, dry_run=not yes)]
    except NothingToDo:
        images = []
    if as_json:
        print_json({**asdict(deleted), "images": images, "deleted": yes})
        return
    for version, why in deleted.versions.protected.items():
        console.print(f"Version {version} is kept: it {why}.")
    parts: dict[str, list[Any]] = {
        "versions": deleted.versions.expendable,
        "runs": deleted.runs,
        "files": deleted.files,
        "deliveries": maintenance.describe_deliveries(deleted),
        "images": images,
    }
    for kind, names in parts.items():
        listed = ", ".join(map(str, names)) or "none"
        console.print(
            f"{'Deleted' if yes else 'Would be deleted with --yes'}, {kind}: {listed}", markup=False, soft_wrap=True
        )


@explained
def prune(
    keep: Annotated[int, typer.Option(min=1, help="Number of newest versions that are always kept.")] = 50,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them. Without it, only list them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old versions. Champion, previous and baseline version, and those of open decisions, are kept."""
    from churn.release.retention import delete_versions, plan_retention
    from churn.review.presentation import counted

    workspace = Workspace.open()
    plan = plan_retention(keep, workspace.ledger, workspace.tracking)
    deleted = delete_versions(plan.expendable, workspace.ledger, workspace.tracking) if yes else []
    if as_json:
        print_json({**asdict(plan), "deleted": deleted})
        return
    for version, why in plan.protected.items():
        console.print(f"Version {version} is kept: it {why}.")
    if plan.recent:
        verb = "is" if len(plan.recent) == 1 else "are"
        console.print(f"{counted(len(plan.recent), 'other version')} {verb} kept, as the newest (--keep {keep}).")
    listed = ", ".join(map(str, deleted if yes else plan.expendable)) or "none"
    console.print(f"{'Deleted' if yes else 'Would be deleted with --yes'}: {listed}.")
