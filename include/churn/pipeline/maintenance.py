"""Deletes what is no longer needed: versions, MLflow runs, snapshots, evidence, score lists, outcomes, unfinished files, old logs.

Kept is everything that production, a rollback, an open decision or the newest decisions depend on. No row of the ledger is
ever deleted, so that the state of production at any time can be looked up.
"""

from __future__ import annotations

import logging
import posixpath
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from churn.alerts.events import snapshot_differs
from churn.errors import ChurnError, NothingToDo
from churn.foundation.ledger import Ledger
from churn.foundation.parts import remove_table
from churn.foundation.paths import DECISIONS, SNAPSHOTS, decision_rows, snapshot_rows
from churn.foundation.records import DecisionOutline, DecisionRecord, Delivery, ScoreList, VersionRecord
from churn.foundation.tracking import NIGHT
from churn.outcomes.retention import expendable_outcomes
from churn.pipeline.workspace import Workspace
from churn.release.lineage import lineage
from churn.release.retention import Retention, delete_versions, plan_retention
from churn.scoring.delivery import find_delivered, remove_delivered
from churn.scoring.retention import expendable_lists, expendable_places
from churn.scoring.score_list import read_policy

if TYPE_CHECKING:
    from churn.release.image_retention import StoredImage

log = logging.getLogger(__name__)
_DAY = 24 * 3600
_LONGEST_RUN = timedelta(days=2)
"""A snapshot that nothing was trained on for so long belongs to no run in progress: it was taken between files, or its run failed."""
_LOGS = "dag_id="
_Row = DecisionOutline | VersionRecord


@dataclass(frozen=True)
class MaintenancePlan:
    """What would be deleted: versions, MLflow runs by id, rows and files by their place in the data root, and delivered lists.

    `versions` also says which versions are kept, and why. A place is a folder of parts, or a file. Lists of scores and populations are
    among the places.
    """

    versions: Retention
    runs: list[str]
    files: list[str]
    deliveries: list[Delivery]


def plan_maintenance(workspace: Workspace) -> MaintenancePlan:
    """Find what is no longer needed, without changing anything.

    Raises:
        TrackingUnreachable: the MLflow registry does not answer, so nothing may be deleted.
    """
    from churn.learning.snapshot import BASES

    settings, ledger, model = workspace.settings, workspace.ledger, workspace.settings.model_name
    versions = plan_retention(settings.keep_versions, ledger, workspace.tracking)
    everything = ledger.outlines()
    decisions = [decision for decision in everything if decision.model == model]
    needed = needed_decisions(decisions, ledger, model, settings.keep_decisions)
    kept = _records([*versions.recent, *versions.protected], workspace)
    past: list[_Row] = [*decisions, *_records(versions.expendable, workspace)]
    standing: list[_Row] = [*needed, *kept]
    nights = {record.night for record in past} - {record.night for record in standing}
    # Another model may share the data root. The last decision tells what is new to the next run.
    last = _night_of(ledger.last_decision())
    others = [decision for decision in everything if decision.model != model or decision.night == last]
    trained_on: list[_Row] = [*kept, *others]
    unused = ledger.unused_snapshots(before=datetime.now(UTC) - _LONGEST_RUN)
    snapshots = {record.snapshot for record in past} - {record.snapshot for record in trained_on}
    snapshots |= set(unused) - {snapshot.snapshot for snapshot in ledger.snapshots(limit=BASES)}
    evidence = _evidence(decisions) - _evidence([*needed, *others])
    lists = _expendable_lists(workspace)
    return MaintenancePlan(
        versions,
        _runs_of(nights, workspace),
        _there(SNAPSHOTS, {snapshot_rows(name) for name in snapshots}, workspace)
        + _there(DECISIONS, {decision_rows(name) for name in evidence}, workspace)
        + _scored(workspace, lists)
        + expendable_outcomes(workspace.storage, ledger, model, settings.keep_outcomes),
        find_delivered(workspace, lists),
    )


def clean(plan: MaintenancePlan, workspace: Workspace) -> MaintenancePlan:
    """Delete what a plan lists, and what killed processes left unfinished. Repeating this changes nothing.

    Returns:
        What was deleted. A version that has become needed since is kept.
    """
    workspace.storage.sweep()
    deleted = delete_versions(plan.versions.expendable, workspace.ledger, workspace.tracking)
    for run in plan.runs:
        with workspace.tracking.explained(f"delete run {run}"):
            workspace.tracking.client.delete_run(run)
    for name in plan.files:
        remove_table(workspace.storage, name)
    remove_delivered(workspace, plan.deliveries)
    return replace(plan, versions=Retention(deleted, plan.versions.recent, plan.versions.protected))


def log_counts(plan: MaintenancePlan, dry_run: bool) -> dict[str, int]:
    """Log what is deleted, or would be; returns how many of each kind."""
    kinds: dict[str, list[Any]] = {
        "versions": plan.versions.expendable,
        "runs": plan.runs,
        "files": plan.files,
        "deliveries": describe_deliveries(plan),
    }
    for kind, names in kinds.items():
        log.info("%s %d %s: %s", "Would delete" if dry_run else "Deleted", len(names), kind, names or "none")
    return {kind: len(names) for kind, names in kinds.items()}


def describe_deliveries(plan: MaintenancePlan) -> list[str]:
    """The delivered lists of a plan, each by its id and its place."""
    return [f"{delivery.list_id[:12]} at {delivery.place}" for delivery in plan.deliveries]


class SnapshotDiffers(ChurnError):  # noqa: N818 -- it says what is wrong
    """The newest snapshot is not what a full computation gives. An alert has been recorded."""


def check_snapshot(workspace: Workspace) -> str:
    """Compare the newest snapshot, which was computed from an earlier one, with a full computation.

    Returns:
        The hash of the snapshot.

    Raises:
        NothingToDo: there is no snapshot in parts of today's contract and salt.
        SnapshotDiffers: it differs, or its parts are missing or have been changed.
        PartFault: accepted rows are missing or have been changed.
    """
    from churn.learning.snapshot import find_snapshot_differences

    found = find_snapshot_differences(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling)
    if found is None:
        raise NothingToDo("There is no snapshot of today's contract and salt with its rows, so there is none to check.")
    snapshot, differences = found
    if not differences:
        log.info("Snapshot %s equals a full computation: %d rows", snapshot.snapshot[:12], snapshot.rows)
        return snapshot.snapshot
    alert = snapshot_differs(snapshot, differences, workspace.settings, datetime.now(UTC))
    workspace.ledger.add_alert(alert)
    raise SnapshotDiffers(alert.text)


def clean_images(workspace: Workspace, dry_run: bool = False) -> list[StoredImage]:
    """Remove images on this machine that are no longer needed.

    Returns:
        The images that were removed, or would be.

    Raises:
        NothingToDo: there is no container engine here.
        EngineFailed: it is unavailable.
    """
    from churn.release.engine import Engine
    from churn.release.image_retention import list_stored, remove_images

    model = workspace.settings.model_name
    engine = Engine.find(workspace.image_spec.engine)
    if engine is None:
        raise NothingToDo("There is no container engine here, so there is no image to remove.")
    stored = list_stored(workspace.settings.keep_images, workspace.ledger, model, engine)
    expendable = [image for image in stored if image.reason is None]
    removed = expendable if dry_run else remove_images(expendable, workspace.ledger, model, engine)
    for name in [] if dry_run else engine.remove_strays():
        log.info("Removed container %s, which was left by a verification that was killed.", name)
    log.info(
        "%s %d images: %s",
        "Would remove" if dry_run else "Removed",
        len(removed),
        [image.image_id for image in removed] or "none",
    )
    return removed


def needed_decisions(decisions: list[DecisionOutline], ledger: Ledger, model: str, keep: int) -> list[DecisionOutline]:
    """The decisions that must remain replayable: the newest, those that wait for a person, and those behind production and a rollback.

    Args:
        decisions: all decisions of the model, newest first.
        ledger: knows what is in production, and which decisions are open.
        model: the registered model.
        keep: number of newest decisions that are always kept.
    """
    rows = ledger.promotions(model)
    made = {*lineage(rows), *(row.anchor for row in rows[:1] if row.anchor)}
    nights = {row.night for row in rows if row.version in made} | {
        decision.night for decision in ledger.open_decisions(model)
    }
    last = _night_of(ledger.last_decision(model))
    return [
        decision
        for position, decision in enumerate(decisions)
        if position < keep or decision.night in nights or decision.challenger in made or decision.night == last
    ]


def clean_task_logs(fs: Any, root: str, days: int, dry_run: bool = False) -> int:
    """Delete task logs that have not been written to for a number of days.

    Only files below `dag_id=...`, where Airflow puts its logs; the rest of a bucket is left alone.

    Args:
        fs: an fsspec filesystem.
        root: the folder of the logs, as the filesystem names it.
        days: younger files are kept.
        dry_run: only count.

    Returns:
        The number of files.
    """
    before = time.time() - days * _DAY
    folders = [
        entry
        for entry in (fs.ls(root, detail=False) if fs.exists(root) else [])
        if posixpath.basename(entry.rstrip("/")).startswith(_LOGS)
    ]
    files = [file for folder in folders for file in fs.find(folder, detail=True).items()]
    old = [path for path, entry in files if _written_at(entry) < before]
    for path in () if dry_run else old:
        with suppress(FileNotFoundError):  # another worker deletes too
            fs.rm_file(path)
    return len(old)


def _runs_of(nights: set[str], workspace: Workspace) -> list[str]:
    """The MLflow runs of these runs, parents and children."""
    run_ids, token = [], None
    with workspace.tracking.explained("list the runs"):
        while True:
            page = workspace.tracking.client.search_runs([workspace.tracking.experiment_id], page_token=token)
            run_ids += [run.info.run_id for run in page if run.data.tags.get(NIGHT) in nights]
            token = page.token
            if not token:
                return sorted(run_ids)


def _records(versions: list[int], workspace: Workspace) -> list[VersionRecord]:
    records = (workspace.ledger.version(workspace.settings.model_name, number) for number in versions)
    return [record for record in records if record]


def _night_of(decision: DecisionRecord | None) -> str | None:
    return decision.night if decision else None


def _evidence(decisions: list[DecisionOutline]) -> set[str]:
    return {decision.digests["evidence"] for decision in decisions if "evidence" in decision.digests}


def _there(zone: str, tables: set[str], workspace: Workspace) -> list[str]:
    """Those of the tables that exist."""
    if not tables:
        return []
    places = {"/".join(name.split("/")[:2]).removesuffix(".parquet") for name in workspace.storage.names(zone)}
    return sorted(places & tables)


def _expendable_lists(workspace: Workspace) -> list[ScoreList]:
    settings, ledger = workspace.settings, workspace.ledger
    lists = ledger.score_lists(settings.model_name)
    if not lists:
        return []
    days = read_policy(workspace).exclusion.days
    return expendable_lists(lists, ledger.deliveries(), settings.keep_lists, days, datetime.now(UTC))


def _scored(workspace: Workspace, expendable: list[ScoreList]) -> list[str]:
    settings, ledger = workspace.settings, workspace.ledger
    lists, populations = ledger.score_lists(settings.model_name), ledger.populations()
    return expendable_places(workspace.storage, lists, expendable, populations, settings.keep_populations)


def _written_at(entry: dict[str, Any]) -> float:
    at = entry.get("mtime", entry.get("LastModified", float("inf")))  # of unknown age: kept
    return float(at if isinstance(at, int | float) else at.timestamp())
