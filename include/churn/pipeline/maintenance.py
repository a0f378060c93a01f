"""What nobody can need any more goes: versions, runs, snapshots, evidence, unfinished files, old logs.

What stays is what production, the way back, an open question or the newest decisions stand on. The ledger's
rows all stay: what was in production at a time, and why, can always be said.
"""

from __future__ import annotations

import logging
import posixpath
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from churn.errors import NothingToDo
from churn.foundation.ledger import Ledger
from churn.foundation.paths import DECISIONS, SNAPSHOTS, decision_rows, snapshot_rows
from churn.foundation.records import DecisionRecord, VersionRecord
from churn.foundation.tracking import NIGHT
from churn.pipeline.workspace import Workspace
from churn.release.lineage import lineage
from churn.release.retention import Retention, delete_versions, plan_retention

if TYPE_CHECKING:
    from churn.release.image_retention import StoredImage

log = logging.getLogger(__name__)
_DAY = 24 * 3600
_LOGS = "dag_id="
_Row = DecisionRecord | VersionRecord


@dataclass(frozen=True)
class Upkeep:
    """What would go: versions, MLflow runs by id, and files of the data root; `versions` says of each version why it stays."""

    versions: Retention
    runs: list[str]
    files: list[str]


def plan_upkeep(workspace: Workspace) -> Upkeep:
    """Find what nobody needs any more; changes nothing.

    Raises:
        TrackingUnreachable: the registry does not answer; nothing is deleted on a guess.
    """
    settings, ledger, model = workspace.settings, workspace.ledger, workspace.settings.model_name
    versions = plan_retention(settings.keep_versions, ledger, workspace.tracking)
    everything = ledger.decisions(limit=None)
    decisions = [one for one in everything if one.model == model]
    needed = needed_decisions(decisions, ledger, model, settings.keep_decisions)
    kept = _records([*versions.recent, *versions.protected], workspace)
    past: list[_Row] = [*decisions, *_records(versions.expendable, workspace)]
    standing: list[_Row] = [*needed, *kept]
    nights = {one.night for one in past} - {one.night for one in standing}
    # Of one data root another model may live too; and the last decision says what the next night has to be new against.
    others = [one for one in everything if one.model != model or one == ledger.last_decision()]
    trained_on: list[_Row] = [*kept, *others]
    snapshots = {one.snapshot for one in past} - {one.snapshot for one in trained_on}
    evidence = _evidence(decisions) - _evidence([*needed, *others])
    return Upkeep(
        versions,
        _runs_of(nights, workspace),
        _there(SNAPSHOTS, {snapshot_rows(one) for one in snapshots}, workspace)
        + _there(DECISIONS, {decision_rows(one) for one in evidence}, workspace),
    )


def clean(plan: Upkeep, workspace: Workspace) -> Upkeep:
    """Delete what a plan says, and what killed processes left unfinished; repeated, it changes nothing.

    Returns:
        What went: a version that somebody came to need since stays.
    """
    workspace.storage.sweep()
    gone = delete_versions(plan.versions.expendable, workspace.ledger, workspace.tracking)
    for run in plan.runs:
        with workspace.tracking.explained(f"delete run {run}"):
            workspace.tracking.client.delete_run(run)
    for name in plan.files:
        workspace.storage.remove(name)
    return Upkeep(Retention(gone, plan.versions.recent, plan.versions.protected), plan.runs, plan.files)


def counted(found: Upkeep, dry_run: bool) -> dict[str, int]:
    """How much goes, with the list in the log."""
    for kind, names in (("versions", found.versions.expendable), ("runs", found.runs), ("files", found.files)):
        log.info("%s %d %s: %s", "Would delete" if dry_run else "Deleted", len(names), kind, names or "none")
    return {"versions": len(found.versions.expendable), "runs": len(found.runs), "files": len(found.files)}


def clean_images(workspace: Workspace, dry_run: bool = False) -> list[StoredImage]:
    """Remove the images on this machine that nobody needs; those that went, or would go.

    Raises:
        NothingToDo: there is no container engine here.
        EngineFailed: it is away.
    """
    from churn.release.engine import Engine
    from churn.release.image_retention import list_stored, remove_images

    model = workspace.settings.model_name
    engine = Engine.find(workspace.image_spec.engine)
    if engine is None:
        raise NothingToDo("No container engine answers here, so there is no image to remove.")
    stored = list_stored(workspace.settings.keep_images, workspace.ledger, model, engine)
    expendable = [image for image in stored if image.reason is None]
    gone = expendable if dry_run else remove_images(expendable, workspace.ledger, model, engine)
    for name in [] if dry_run else engine.remove_strays():
        log.info("Container %s, left by a verification that was killed, is removed.", name)
    log.info(
        "%s %d images: %s",
        "Would remove" if dry_run else "Removed",
        len(gone),
        [one.image_id for one in gone] or "none",
    )
    return gone


def needed_decisions(decisions: list[DecisionRecord], ledger: Ledger, model: str, keep: int) -> list[DecisionRecord]:
    """The decisions that can be made again: the newest, those that wait for a person, and those that made what is or may be in production.

    Args:
        decisions: all of the model, the newest first.
        ledger: knows what is in production, and which decisions are open.
        model: the registered model.
        keep: so many of the newest stay in any case.
    """
    rows = ledger.promotions(model)
    made = {*lineage(rows), *(row.anchor for row in rows[:1] if row.anchor)}
    nights = {row.night for row in rows if row.version in made} | {one.night for one in ledger.open_decisions(model)}
    last = ledger.last_decision()
    return [
        one
        for position, one in enumerate(decisions)
        if position < keep or one.night in nights or one.challenger in made or one == last
    ]


def clean_task_logs(fs: Any, root: str, days: int, dry_run: bool = False) -> int:
    """Delete the logs of tasks that nobody has written to for so many days; how many there were.

    Only what lies below `dag_id=...`, as Airflow lays its logs out: the rest of a bucket is no log.

    Args:
        fs: an fsspec filesystem.
        root: where to look, as the filesystem names it.
        days: younger files stay.
        dry_run: only count.
    """
    before = time.time() - days * _DAY
    folders = [
        entry
        for entry in (fs.ls(root, detail=False) if fs.exists(root) else [])
        if posixpath.basename(entry.rstrip("/")).startswith(_LOGS)
    ]
    found = [one for folder in folders for one in fs.find(folder, detail=True).items()]
    old = [path for path, entry in found if _written_at(entry) < before]
    for path in () if dry_run else old:
        with suppress(FileNotFoundError):  # another worker cleans too
            fs.rm_file(path)
    return len(old)


def _runs_of(nights: set[str], workspace: Workspace) -> list[str]:
    """The runs of these nights, parents and children."""
    found, token = [], None
    with workspace.tracking.explained("list the runs"):
        while True:
            page = workspace.tracking.client.search_runs([workspace.tracking.experiment_id], page_token=token)
            found += [run.info.run_id for run in page if run.data.tags.get(NIGHT) in nights]
            token = page.token
            if not token:
                return sorted(found)


def _records(versions: list[int], workspace: Workspace) -> list[VersionRecord]:
    found = (workspace.ledger.version(workspace.settings.model_name, number) for number in versions)
    return [record for record in found if record]


def _evidence(decisions: list[DecisionRecord]) -> set[str]:
    return {one.digests["evidence"] for one in decisions if "evidence" in one.digests}


def _there(zone: str, names: set[str], workspace: Workspace) -> list[str]:
    """Those of the files that are there; one that no decision or version names may be of a night that runs, and is none of them."""
    return [name for name in workspace.storage.names(zone) if name in names] if names else []


def _written_at(entry: dict[str, Any]) -> float:
    at = entry.get("mtime", entry.get("LastModified", float("inf")))  # of unknown age: stays
    return float(at if isinstance(at, int | float) else at.timestamp())
