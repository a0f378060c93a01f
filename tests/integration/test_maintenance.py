"""Retention: what production, the way back, open questions and the newest decisions need stays, the rest goes once."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import mlflow
import pytest
from mlflow.entities import ViewType
from typer.testing import CliRunner

from churn.cli import main
from churn.decision.replay import replay
from churn.errors import ChurnError, NothingToDo
from churn.foundation.parts import has_table, remove_table
from churn.foundation.paths import decision_rows, snapshot_rows
from churn.foundation.tracking import TrackingUnreachable
from churn.learning import snapshot
from churn.learning.snapshot import rebuild_snapshot
from churn.learning.snapshot_parts import compute_parts
from churn.pipeline import disagreements, maintenance, steps
from churn.pipeline.maintenance import SnapshotDiffers, check_snapshot, clean, clean_task_logs, plan_maintenance
from churn.pipeline.workspace import Request, Workspace
from support.basics import S3, free_port, land_night, land_text, make_workspace, run_night, small_file, stages
from support.stored_parts import change_part


def keeping(workspace: Workspace, versions: int = 1, decisions: int = 1) -> Workspace:
    changes = {"keep_versions": versions, "keep_decisions": decisions}
    return replace(workspace, settings=workspace.settings.model_copy(update=changes))


def nights_in_mlflow(workspace: Workspace) -> set[str]:
    training_runs = workspace.tracking.client.search_runs(
        [workspace.tracking.experiment_id], run_view_type=ViewType.ACTIVE_ONLY
    )
    return {run.data.tags["churn.night"] for run in training_runs}


@pytest.fixture
def long_lived(two_champions: Workspace) -> Workspace:
    """Two champions, then three nights that were held, each on rows of its own; little is to be kept."""
    workspace = keeping(two_champions)
    for number in (3, 4, 5):
        land_night(workspace, 3, f"night-{number}.csv", first_customer=number * 1_000_000, seed=number, rows=1500)
        assert run_night(workspace, f"night {number}").startswith("hold")
    return workspace


def test_what_somebody_needs_stays_and_the_rest_goes_once(long_lived: Workspace) -> None:
    """The champion scores, the way back is open, kept decisions are made again, all agree; a second time changes nothing."""
    workspace, ledger = long_lived, long_lived.ledger
    plan = plan_maintenance(workspace)
    went = clean(plan, workspace)
    assert went.versions.expendable == plan.versions.expendable == [4, 3]
    assert set(stages(workspace)) == {1, 2, 5}
    decisions = {entry.night: entry for entry in ledger.decisions()}
    assert nights_in_mlflow(workspace) & set(decisions) == {
        "night 5"
    }  # the first two ran in the benches that were cloned
    for name, there in {"night 1": True, "night 2": True, "night 3": False, "night 4": False, "night 5": True}.items():
        decision = decisions[name]
        assert has_table(workspace.storage, snapshot_rows(decision.snapshot)) is there
        if "evidence" in decision.digests:
            assert has_table(workspace.storage, decision_rows(decision.digests["evidence"])) is there
        if there:
            assert replay(decision, workspace.storage).same
        else:
            with pytest.raises(ChurnError, match="are missing"):
                replay(decision, workspace.storage)
    again = plan_maintenance(workspace)
    assert (again.versions.expendable, again.runs, again.files) == ([], [], [])
    assert mlflow.pyfunc.load_model(workspace.tracking.model_uri(2))
    assert [problem for problem in disagreements.find_disagreements(workspace) if "image" not in problem] == []
    assert run_night(workspace, "night 6", retrain=True).startswith("hold")
    assert steps.roll_back(workspace, None, "customers complain", "Ann", "back").promotion.version == 1
    assert mlflow.pyfunc.load_model(workspace.tracking.model_uri(1))


def test_a_snapshot_that_nothing_used_goes_once_it_is_old(
    two_champions: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken between many files, or by a run that failed. It stays while a run may be in progress, and as a base for the next."""
    workspace = two_champions
    for number in range(3):
        land_text(workspace, small_file(50, seed=number, first_customer=5_000_000 + 50 * number), f"more-{number}.csv")
    request = Request("many files")
    monkeypatch.setattr(steps, "MOST_FRESH", 1)
    steps.validate_all(workspace, request, [batch.batch for batch in steps.arrive(workspace, request).batches])
    between = workspace.ledger.snapshots(limit=2)
    places = sorted(snapshot_rows(snapshot.snapshot) for snapshot in between)
    assert not set(plan_maintenance(workspace).files) & set(places)
    monkeypatch.setattr(maintenance, "_LONGEST_RUN", timedelta(0))
    assert not set(plan_maintenance(workspace).files) & set(places)
    monkeypatch.setattr(snapshot, "BASES", 1)
    assert plan_maintenance(workspace).files == [snapshot_rows(between[1].snapshot)]
    clean(plan_maintenance(workspace), workspace)
    assert [has_table(workspace.storage, snapshot_rows(one.snapshot)) for one in between] == [True, False]


def test_a_snapshot_that_went_can_be_made_again(long_lived: Workspace) -> None:
    """The ledger's row stays, and from it come the same rows."""
    workspace = long_lived
    clean(plan_maintenance(workspace), workspace)
    gone = workspace.ledger.snapshot(workspace.ledger.decision("night 3").snapshot)  # type: ignore[union-attr]
    assert gone is not None
    assert not has_table(workspace.storage, snapshot_rows(gone.snapshot))
    rebuild_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling, gone)
    assert has_table(workspace.storage, snapshot_rows(gone.snapshot))


def test_the_weekly_check_is_an_alert_if_the_newest_snapshot_differs(two_champions: Workspace) -> None:
    """A sound snapshot is confirmed. One changed part is one alert, however often it is found, and names the part."""
    workspace = two_champions
    newest = workspace.ledger.snapshots()[0]
    assert check_snapshot(workspace) == newest.snapshot
    assert [alert for alert in workspace.ledger.alerts() if alert.kind == "snapshot_differs"] == []
    change_part(workspace.storage, snapshot_rows(newest.snapshot), lambda rows: rows.slice(1), 7)
    for _ in range(2):
        with pytest.raises(SnapshotDiffers, match=rf"(?s)part-0007.*churn snapshot rebuild {newest.snapshot[:12]}"):
            check_snapshot(workspace)
    (alert,) = [alert for alert in workspace.ledger.alerts() if alert.kind == "snapshot_differs"]
    assert f"{snapshot_rows(newest.snapshot)}/part-0007.parquet" in alert.text
    rebuild_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling, newest)
    assert check_snapshot(workspace) == newest.snapshot
    for known in workspace.ledger.snapshots():
        remove_table(workspace.storage, snapshot_rows(known.snapshot))
    with pytest.raises(NothingToDo):
        check_snapshot(workspace)


def test_the_last_snapshot_is_kept_for_the_next_night(long_lived: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """After maintenance, the next night still starts from an earlier snapshot."""
    workspace = long_lived
    clean(plan_maintenance(workspace), workspace)
    land_night(workspace, 3, "night-6.csv", first_customer=6_000_000, seed=6, rows=1500)
    bases: list[Any] = []

    def recorded(*arguments: Any) -> Any:
        bases.append(arguments[5])
        return compute_parts(*arguments)

    monkeypatch.setattr(snapshot, "compute_parts", recorded)
    assert run_night(workspace, "night 6").startswith("hold")
    assert [base is not None for base in bases] == [True]


def test_an_open_question_and_a_night_that_runs_lose_nothing(two_champions: Workspace) -> None:
    """The decision that waits for a person is kept; so are rows and scores that no decision has yet."""
    workspace = keeping(two_champions)
    assert run_night(workspace, "night 3", retrain=True, approval=True, force_reason="a test") == "promote FORCED"
    land_night(workspace, 3, "night-4.csv")
    batches = steps.arrive(workspace, night_request := Request("night 4")).batches
    for batch in batches:
        steps.validate(workspace, night_request, batch.batch)
    challenger = steps.train(workspace, night_request)
    undecided = f"{decision_rows('ab' * 32)}/part-0000.parquet"
    with workspace.storage.writing(undecided) as stream:
        stream.write(b"of a night that has not decided yet")
    clean(plan_maintenance(workspace), workspace)
    assert set(stages(workspace)) == {1, 2, 3, 4}
    assert workspace.storage.exists(undecided)
    assert steps.compare(workspace, night_request, challenger).challenger == 4
    assert replay(workspace.ledger.decision("night 3"), workspace.storage).same  # type: ignore[arg-type]


def test_the_command_lists_and_deletes_when_told(two_champions: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """`churn maintain` changes nothing; with --yes the same goes; and what is kept is made again by `churn replay --all`."""
    workspace = two_champions
    for number in (3, 4):
        run_night(workspace, f"night {number}", retrain=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.settings.mlflow_tracking_uri)
    for name in ("data_root", "ledger_url", "model_name", "experiment"):
        monkeypatch.setenv(f"CHURN_{name.upper()}", getattr(workspace.settings, name))
    monkeypatch.setenv("CHURN_KEEP_VERSIONS", "1")
    monkeypatch.setenv("CHURN_KEEP_DECISIONS", "1")

    def churn(*arguments: str) -> Any:
        ran = CliRunner().invoke(main.app, [*arguments, "--json"])
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    listed = churn("maintain")
    assert (listed["versions"]["expendable"], listed["deleted"]) == ([3], False)
    assert set(stages(workspace)) == {1, 2, 3, 4}
    assert churn("maintain", "--yes") == listed | {"deleted": True}
    assert set(stages(workspace)) == {1, 2, 4}
    replayed = {entry["night"]: entry["faults"] for entry in churn("replay", "--all")}
    assert replayed == {"night 1": [], "night 2": [], "night 4": []}


def test_nothing_goes_while_the_registry_is_away(tmp_path: Path) -> None:
    """No plan is made on a guess."""
    workspace = keeping(make_workspace(tmp_path, f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(TrackingUnreachable):
        plan_maintenance(workspace)


def test_old_logs_go_and_young_ones_stay(tmp_path: Path, s3: S3) -> None:
    """By the time of the last write, on a folder and on S3; counted only, where asked; no folder is no fault."""
    local = fsspec.filesystem("file")
    old, young = tmp_path / "logs/dag_id=a/old.log", tmp_path / "logs/dag_id=a/young.log"
    old.parent.mkdir(parents=True)
    for file in (old, young):
        file.write_text("x")
    os.utime(old, (time.time() - 11 * 86400,) * 2)
    assert clean_task_logs(local, str(tmp_path / "logs"), 10, dry_run=True) == 1
    assert old.exists()
    assert clean_task_logs(local, str(tmp_path / "logs"), 10) == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert clean_task_logs(local, str(tmp_path / "nowhere"), 10) == 0
    remote = fsspec.filesystem("s3", key=s3.key, secret=s3.secret, endpoint_url=s3.endpoint)
    for name in ("dag_id=a/run_id=b/attempt=1.log", "originals/of a data root"):
        remote.pipe(f"{s3.bucket}/logs/{name}", b"x")
    assert clean_task_logs(remote, f"{s3.bucket}/logs", 10) == 0
    assert clean_task_logs(remote, f"{s3.bucket}/logs", -1) == 1
    remote.invalidate_cache()
    assert remote.find(f"{s3.bucket}/logs") == [f"{s3.bucket}/logs/originals/of a data root"]
