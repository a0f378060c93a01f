"""The commands for production: its history, alerts, approval, the way back, and the registry held to the ledger."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from churn.cli.terminal import AsJson, console, explained, named_now, print_json, who
from churn.errors import NothingToDo
from churn.pipeline.workspace import Workspace
from churn.settings import Settings

Reason = Annotated[str, typer.Option(help="Why; kept in the ledger.")]


@explained
def history(
    at: Annotated[datetime | None, typer.Option(help="What was in production at this time (UTC).")] = None,
    as_json: AsJson = False,
) -> None:
    """Every change of production: which version, when, by whom, in which night, why."""
    workspace = Workspace.open()
    model = workspace.settings.model_name
    if at:
        moment = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        found = workspace.ledger.in_production(model, moment)
        rows = [found] if found else []
    else:
        rows = workspace.ledger.promotions(model)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        when = row.promoted_at.isoformat(sep=" ", timespec="seconds")
        what = f"version {row.version}" if row.version else "nothing"
        instead = f" instead of version {row.previous}" if row.previous else ""
        console.print(
            f"{when}  {what}{instead}: {row.kind} ({row.code}) by {row.actor} in night {row.night}", markup=False
        )
        console.print(f"    {row.reason}", style="dim", markup=False)
    if not rows:
        console.print("Nothing was in production.")


@explained
def alerts(
    limit: Annotated[int, typer.Option(min=1, help="So many, the latest first.")] = 20,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the file of CHURN_NOTIFICATIONS_FILE; sends nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What people are told, and what still waits to be sent; notes first what has happened since."""
    from churn.alerts.events import trial_alert
    from churn.alerts.notifications import read_notifications
    from churn.alerts.outbox import notice

    if check:
        settings = Settings.load()
        found = read_notifications(settings.notifications_file)
        for one in found:
            one.build(trial_alert(settings, datetime.now(UTC)))
            console.print(f"{one.name}: {', '.join(one.only) if one.only else 'everything'}", markup=False)
        if not found:
            console.print("CHURN_NOTIFICATIONS_FILE names no file: alerts are only listed.")
        return
    workspace = Workspace.open()
    notice(workspace.ledger, workspace.settings)
    rows = workspace.ledger.alerts(limit=limit)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        sent = f"sent {row.sent_at:%Y-%m-%d %H:%M}" if row.sent_at else "not sent"
        console.print(f"{row.noticed_at:%Y-%m-%d %H:%M}  {row.kind}: {row.subject} ({sent})", markup=False)
        console.print(f"    {row.text}\n{row.link}".replace("\n", "\n    "), style="dim", markup=False, soft_wrap=True)
    if not rows:
        console.print("There is nothing to tell.")


@explained
def report(
    html: Annotated[Path, typer.Option("--html", help="The folder that the pages go to; made if it is not there.")],
    nights: Annotated[
        int, typer.Option(min=1, max=1000, help="So many of the newest nights and batches have a page.")
    ] = 30,
) -> None:
    """Write the review as a folder of pages, and each page as JSON, for people without access to Airflow."""
    from churn.review.report import write_report

    workspace = Workspace.open()
    found = write_report(html, workspace.ledger, workspace.settings, datetime.now(UTC), nights)
    console.print(f"{len(found)} pages. Open {found[0]}", soft_wrap=True)


@explained
def approve(
    night: Annotated[str, typer.Argument(help="The night whose decision waits; `churn status` names it.")],
    reason: Reason,
    reject: Annotated[bool, typer.Option("--reject", help="Say no: the challenger is held.")] = False,
) -> None:
    """Agree to a promotion that waits for a person, or to one whose batch is disputed; or reject it."""
    from churn.pipeline import steps
    from churn.pipeline.shipping import ship

    workspace = Workspace.open()
    given = steps.answer(workspace, night, "rejected" if reject else "approved", who(), reason)
    console.print(f"Night {night}: {given.answer} by {given.by}: {given.reason}", markup=False)
    for rule in steps.decision_of(workspace, night).rules:
        if not rule["passed"]:
            console.print(f"Rule {rule['name']} fails: {rule['sentence']}", style="yellow", markup=False)
    try:
        version = steps.promote(workspace, night)
    except NothingToDo as held:
        console.print(str(held), markup=False)
        return
    now = workspace.ledger.in_production(workspace.settings.model_name)
    if now is None or now.version != version:
        console.print(f"Version {version} was in production since then; now it is version {now and now.version}.")
        return
    console.print(f"Version {version} is in production.")
    if workspace.ledger.image(workspace.settings.model_name, version) is None:
        ship(workspace, version)
        console.print("Its image is verified.")


@explained
def rollback(
    reason: Reason,
    to: Annotated[int | None, typer.Option(min=1, help="The version; by default the one before the present.")] = None,
) -> None:
    """Put an earlier version back into production; automatic promotion is off from then on."""
    from churn.pipeline import steps
    from churn.pipeline.shipping import ship

    workspace = Workspace.open()
    done = steps.roll_back(workspace, to, reason, who(), named_now("rollback"))
    instead = f"version {done.promotion.previous}" if done.promotion.previous else "nothing"
    console.print(f"Version {done.promotion.version} is in production again, instead of {instead}.")
    if done.image is None and done.promotion.version:
        console.print("Its image is gone: it is built again.")
        ship(workspace, done.promotion.version)
    console.print("Automatic promotion is off: `churn unfreeze --reason ...` turns it on again.")


@explained
def unfreeze(reason: Reason) -> None:
    """Turn automatic promotion on again after a rollback or a promotion that was taken back."""
    from churn.pipeline import steps

    thawed = steps.unfreeze(Workspace.open(), reason, who())
    console.print("Automatic promotion is on." if thawed else "Automatic promotion was not off.")


@explained
def reconcile() -> None:
    """Bring the MLflow registry to what the ledger says is in production; says what it found."""
    from churn.pipeline import steps

    workspace = Workspace.open()
    found = steps.reconcile(workspace)
    for line in found or ["Registry and ledger agree already."]:
        console.print(line, markup=False)


@explained
def maintain(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, the list is only shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what nobody needs any more: versions, MLflow runs, rows of snapshots and decisions, images; the settings say how much stays."""
    from churn.pipeline import maintenance

    workspace = Workspace.open()
    plan = maintenance.plan_upkeep(workspace)
    found = maintenance.clean(plan, workspace) if yes else plan
    try:
        images = [image.image_id for image in maintenance.clean_images(workspace, dry_run=not yes)]
    except NothingToDo:
        images = []
    if as_json:
        print_json({**asdict(found), "images": images, "deleted": yes})
        return
    for version, why in found.versions.protected.items():
        console.print(f"Version {version} stays: it {why}.")
    parts: dict[str, list[Any]] = {
        "versions": found.versions.expendable,
        "runs": found.runs,
        "files": found.files,
        "images": images,
    }
    for kind, names in parts.items():
        listed = ", ".join(map(str, names)) or "none"
        console.print(f"{'Deleted' if yes else 'Would go with --yes'}, {kind}: {listed}", markup=False, soft_wrap=True)


@explained
def prune(
    keep: Annotated[int, typer.Option(min=1, help="So many of the newest versions stay in any case.")] = 50,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, the list is only shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old versions that nobody can need: never champion, previous, anchor, or what an open decision needs."""
    from churn.release.retention import delete_versions, plan_retention

    workspace = Workspace.open()
    plan = plan_retention(keep, workspace.ledger, workspace.tracking)
    deleted = delete_versions(plan.expendable, workspace.ledger, workspace.tracking) if yes else []
    if as_json:
        print_json({**asdict(plan), "deleted": deleted})
        return
    for version, why in plan.protected.items():
        console.print(f"Version {version} stays: it {why}.")
    console.print(f"Of the others {len(plan.recent)} are among the newest {keep}.")
    console.print(f"Deleted: {deleted or 'none'}." if yes else f"Would go with --yes: {plan.expendable or 'none'}.")
