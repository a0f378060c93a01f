"""Whole nights in one process, against a real MLflow server."""

import re
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.decision import report
from churn.decision.replay import replay
from churn.errors import ChurnError, NothingToDo
from churn.foundation.examples import example_rows, model_input
from churn.foundation.ledger import Ledger
from churn.foundation.parts import has_table, remove_table
from churn.foundation.paths import accepted, snapshot_rows
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Here
from churn.foundation.tracking import TrackingUnreachable
from churn.intake.acceptance import BatchRejected
from churn.learning import training
from churn.learning.snapshot import rebuild_snapshot
from churn.learning.training import NotEnoughRows
from churn.pipeline import deciding, steps
from churn.pipeline.answers import confirm_plausible
from churn.pipeline.workspace import Request, Workspace
from churn.release import promotion
from churn.release.withdrawal import restore_batch, withdraw_batch
from support.basics import land_night, land_text, make_workspace, mlflow_server, run_night, small_file, stages
from support.stored_parts import part_file


def test_two_nights_promote_twice_and_more_of_the_same_is_held(two_nights: Workspace) -> None:
    """First champion, then a real gain on the same customers, then a hold; stages and aliases follow."""
    workspace = two_nights
    assert run_night(workspace, "night 2") == "promote SUPERIOR"
    land_night(workspace, 3, rows=500)
    assert run_night(workspace, "night 3").startswith("hold")
    assert stages(workspace) == {1: "Archived", 2: "Production", 3: "None"}
    aliases = workspace.tracking.client.get_registered_model(workspace.settings.model_name).aliases
    assert aliases == {"champion": "2", "previous": "1", "anchor": "2"}
    assert [row.version for row in workspace.ledger.promotions(workspace.settings.model_name)] == [2, 1]


def test_a_reviewer_finds_the_comparison_in_mlflow(two_nights: Workspace) -> None:
    """One run a night with the verdict first, differences with bounds, overlays, two children alike."""
    workspace = two_nights
    run_night(workspace, "night 2", note="please look", link="http://airflow/run")
    client, decision = workspace.tracking.client, workspace.ledger.decision("night 2")
    assert decision is not None
    parent = client.get_run(decision.run_id)
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("**PROMOTE** (SUPERIOR)")
    assert "please look" in note
    assert "http://airflow/run" in note
    assert {
        f"delta_{metric}{end}"
        for metric in ("roc_auc", "pr_auc", "brier", "log_loss")
        for end in ("", "_lower", "_upper")
    } <= set(parent.data.metrics)
    assert {"roc.svg", "precision_recall.svg", "calibration.svg"} <= {
        file.path for file in client.list_artifacts(decision.run_id)
    }
    query = f"tags.`mlflow.parentRunId` = '{decision.run_id}'"
    children = {
        run.info.run_name: set(run.data.metrics)
        for run in client.search_runs([workspace.tracking.experiment_id], query)
    }
    assert set(children) == {"challenger v2", "champion v1"}
    assert children["champion v1"] <= children["challenger v2"]
    assert {"roc_auc", "roc_auc_lower", "brier"} <= children["champion v1"]


def test_a_version_says_where_it_came_from(two_nights: Workspace) -> None:
    """Description and tags name night, snapshot, kind and contract; the salt only by its fingerprint."""
    workspace = two_nights
    run_night(workspace, "night 2")
    version = workspace.tracking.version(2)
    training = workspace.tracking.client.get_run(version.run_id)
    assert "night 2" in version.description
    assert "In production since" in version.description
    assert version.tags["churn.salt_fingerprint"] == workspace.sampling.fingerprint
    assert training.data.tags["churn.contract"] == workspace.contract.fingerprint
    assert training.inputs.dataset_inputs[0].dataset.digest == version.tags["churn.snapshot"][:32]
    assert workspace.settings.bucket_salt.get_secret_value() not in str([version, training])


def test_every_step_run_again_changes_nothing(two_nights: Workspace) -> None:
    """One run, one version, one decision, one promotion, however often the steps are repeated."""
    workspace, request = two_nights, Request("night 2")
    steps.arrive(workspace, request)
    for _ in range(2):
        for batch in workspace.ledger.batches():
            steps.validate(workspace, request, batch.batch)
        challenger = steps.train(workspace, request)
        decision = steps.compare(workspace, request, challenger)
        assert steps.promote(workspace, "night 2") == 2
    assert stages(workspace) == {1: "Archived", 2: "Production"}
    assert workspace.ledger.decision("night 2") == decision
    assert len(workspace.ledger.promotions(workspace.settings.model_name)) == 2
    query = "tags.`churn.night` = 'night 2'"
    assert len(workspace.tracking.client.search_runs([workspace.tracking.experiment_id], query)) == 3


def test_killed_between_model_and_registration_one_version_comes_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry finds the same run and registers one version."""
    land_night(workspace, 1)
    request = Request("night 1")
    for batch in steps.arrive(workspace, request).batches:
        steps.validate(workspace, request, batch.batch)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(training, "_register", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        steps.train(workspace, request)
    challenger = steps.train(workspace, request)
    assert steps.train(workspace, request) == challenger
    assert stages(workspace) == {1: "None"}
    runs = workspace.tracking.client.search_runs([workspace.tracking.experiment_id], "tags.`churn.role` = 'challenger'")
    assert [run.info.run_id for run in runs] == [challenger.run_id]


def test_training_twice_gives_the_same_model(workspace: Workspace) -> None:
    """The same snapshot and settings, in another night: equal predictions to the last bit."""
    land_night(workspace, 1)
    run_night(workspace, "night 1")
    challenger = steps.train(workspace, Request("night 2", retrain=True))
    rows = model_input(workspace.contract, example_rows(workspace.contract, 300))
    first, second = (
        mlflow.pyfunc.load_model(workspace.tracking.model_uri(version)).predict(rows)
        for version in (1, challenger.version)
    )
    assert challenger.version == 2
    assert np.array_equal(first, second)


def test_an_equal_challenger_is_held(workspace: Workspace) -> None:
    """Retrained on the same rows, the challenger is the champion again, and is held."""
    land_night(workspace, 1)
    run_night(workspace, "night 1")
    assert run_night(workspace, "night 2", retrain=True) == "hold HOLDOUT_TOO_SMALL"
    land_night(workspace, 2)
    run_night(workspace, "night 3")
    assert run_night(workspace, "night 4", retrain=True) == "hold IDENTICAL_SCORES"


def test_nothing_new_is_nothing_to_do(workspace: Workspace) -> None:
    """An empty landing, or a file that was accepted before, trains nothing and says so."""
    with pytest.raises(NothingToDo, match="Nothing new arrived"):
        run_night(workspace, "night 0")
    land_night(workspace, 1)
    run_night(workspace, "night 1")
    land_night(workspace, 1, "same-bytes.csv")
    with pytest.raises(NothingToDo, match="accepted before"):
        run_night(workspace, "night 2")


def test_the_same_rows_in_another_file_are_trained_on_once(workspace: Workspace) -> None:
    """Other bytes, the same rows: one more night, and then there is nothing new again."""
    text = small_file(rows=5000)
    land_text(workspace, text)
    run_night(workspace, "night 1")
    land_text(workspace, text.replace("\n", "\r\n"))
    run_night(workspace, "night 2")
    with pytest.raises(NothingToDo):
        run_night(workspace, "night 3")


def test_a_dry_run_changes_nothing_and_does_not_use_up_the_batch(workspace: Workspace) -> None:
    """The decision is shown; the next night trains on the same batch and promotes."""
    land_night(workspace, 1)
    assert run_night(workspace, "trial", dry_run=True) == "promote NO_CHAMPION"
    assert workspace.ledger.in_production(workspace.settings.model_name) is None
    assert run_night(workspace, "night 1") == "promote NO_CHAMPION"


def test_rows_accepted_by_a_night_that_crashed_are_trained_on_by_the_next(workspace: Workspace) -> None:
    """Nothing that was accepted is forgotten because its night died."""
    land_night(workspace, 1)
    request = Request("night 1")
    for batch in steps.arrive(workspace, request).batches:
        steps.validate(workspace, request, batch.batch)
    assert run_night(workspace, "night 2") == "promote NO_CHAMPION"


def test_a_night_that_ends_without_a_decision_is_shown_as_failed(two_nights: Workspace) -> None:
    """Trained and then killed: its run in MLflow does not stay at running; decided after all, it is finished."""
    request = Request("night 2")
    for batch in steps.arrive(two_nights, request).batches:
        steps.validate(two_nights, request, batch.batch)
    trained = steps.train(two_nights, request)

    def status() -> str:
        run = two_nights.tracking.find_run("night 2", "night")
        assert run is not None
        return str(run.info.status)

    assert status() == "RUNNING"
    with pytest.raises(ChurnError, match="night 2 has no decision"):
        steps.close(two_nights, request)
    assert status() == "FAILED"
    steps.compare(two_nights, request, trained)
    steps.close(two_nights, request)
    assert status() == "FINISHED"


def test_a_rejected_batch_trains_nothing_and_the_others_go_on(workspace: Workspace) -> None:
    """The bad file is an error at the end; the good one has its verdict."""
    land_text(workspace, "not,a,churn,file\n1,2,3,4\n", "bad.csv")
    with pytest.raises(BatchRejected):
        steps.run_night(workspace, Request("night 0"))
    assert workspace.ledger.decisions() == []
    land_night(workspace, 1)
    land_text(workspace, "neither,is,this\n1,2,3\n", "worse.csv")
    with pytest.raises(BatchRejected, match=r"worse\.csv"):
        steps.run_night(workspace, Request("night 1"))
    assert workspace.ledger.in_production(workspace.settings.model_name).version == 1  # type: ignore[union-attr]
    with pytest.raises(ChurnError, match=r"worse\.csv"):
        steps.close(workspace, Request("night 1"))


def test_too_few_rows_train_nothing(workspace: Workspace) -> None:
    """Fewer training rows than the minimum is an error with the numbers and the setting."""
    land_text(workspace, small_file(rows=100))
    with pytest.raises(NotEnoughRows, match="CHURN_MIN_TRAINING_ROWS"):
        run_night(workspace, "night 1")


def test_mlflow_away_promotes_nothing(tmp_path: Path) -> None:
    """A registry that does not answer is an outage, never "no champion"."""
    workspace = make_workspace(tmp_path, "http://127.0.0.1:9")
    land_night(workspace, 1)
    with pytest.raises(TrackingUnreachable, match="MLFLOW_TRACKING_URI"):
        run_night(workspace, "night 1")
    with pytest.raises(TrackingUnreachable):
        promotion.settle_champion(workspace.ledger, workspace.tracking)
    assert workspace.ledger.promotions(workspace.settings.model_name) == []


def test_a_lost_artifact_promotes_nothing(tmp_path: Path) -> None:
    """A champion that lacks a file holds with its own reason, and stays champion."""
    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")) as url:
        workspace = make_workspace(tmp_path, url)
        land_night(workspace, 1)
        run_night(workspace, "night 1")
        for file in (folder / "artifacts").rglob("*.skops"):
            file.unlink()
        land_night(workspace, 2)
        assert run_night(workspace, "night 2") == "hold ARTIFACT_CHANGED"
        assert "Restore them" in workspace.ledger.decision("night 2").sentence  # type: ignore[union-attr]
        assert workspace.ledger.in_production(workspace.settings.model_name).version == 1  # type: ignore[union-attr]


def test_a_version_of_another_salt_is_no_evidence(two_nights: Workspace) -> None:
    """Under another salt the champion may have seen the holdout: held, with the reason."""
    moved = replace(two_nights)
    object.__setattr__(moved, "sampling", Sampling(b"another salt, also long enough", Here(2, "500MB")))
    assert run_night(moved, "night 2") == "hold INPUT_MISMATCH"
    assert "salt_fingerprint" in two_nights.ledger.decision("night 2").sentence  # type: ignore[union-attr]


def test_a_bad_policy_promotes_nothing(two_nights: Workspace, tmp_path: Path) -> None:
    """A policy file with a wrong key holds the night; once it is mended the next night judges the same batch."""
    (tmp_path / "policy.yaml").write_text("superiority: {error_budget: 0.1}")
    broken = Workspace(
        two_nights.settings.model_copy(update={"policy_file": tmp_path / "policy.yaml"}),
        two_nights.storage,
        two_nights.ledger,
    )
    assert run_night(broken, "night 2") == "hold POLICY_INVALID"
    assert "superiority.nights" in two_nights.ledger.decision("night 2").sentence  # type: ignore[union-attr]
    assert run_night(two_nights, "night 3") == "promote SUPERIOR"


def test_a_high_roc_auc_is_held_until_it_is_confirmed_and_the_hold_still_replays(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The confirmation belongs to the decisions after it: the hold before it replays as a hold."""
    strict = tmp_path / "strict.yaml"
    strict.write_text(workspace.settings.policy_file.read_text().replace("max_model_auc: 0.90", "max_model_auc: 0.60"))
    suspicious = replace(workspace, settings=workspace.settings.model_copy(update={"policy_file": strict}))
    land_night(suspicious, 1)
    assert run_night(suspicious, "night 1") == "hold LEAK_SUSPECTED"
    confirm_plausible(suspicious, "the data allows it", "Ann")
    assert run_night(suspicious, "night 2", retrain=True) == "promote NO_CHAMPION"
    records = [workspace.ledger.decision(f"night {number}") for number in (1, 2)]
    assert [replay(record, workspace.storage).faults for record in records if record] == [[], []]
    assert [record.code for record in records if record] == ["LEAK_SUSPECTED", "NO_CHAMPION"]


CREDIT = Contract(
    "credit_default",
    (
        Column("account", Kind.TEXT, Role.KEY),
        Column("income", Kind.NUMBER, Role.FEATURE, 0, 500_000),
        Column("months", Kind.INTEGER, Role.FEATURE, 0, 480, nullable=True),
        Column("rating", Kind.TEXT, Role.FEATURE, categories=("a", "b", "c"), nullable=True),
        Column("defaulted", Kind.INTEGER, Role.TARGET, 0, 1),
    ),
)


def test_a_whole_night_under_another_contract(tmp_path: Path, mlflow_url: str) -> None:
    """A text key, another target and other, nullable columns: the same code takes it to production."""
    workspace = make_workspace(tmp_path, mlflow_url, contract=CREDIT)
    land_night(workspace, 1, rows=4000)
    assert run_night(workspace, "night 1") == "promote NO_CHAMPION"
    (batch,) = workspace.ledger.batches()
    assert batch.accepted_rows == 4000
    assert workspace.tracking.version(1).tags["churn.key"] == "account"


def test_ledger_rows_outlive_the_process(workspace: Workspace, tmp_path: Path) -> None:
    """A second process with the same settings sees the same champion."""
    land_night(workspace, 1)
    run_night(workspace, "night 1")
    again = Workspace.open(workspace.settings)
    assert isinstance(again.ledger, Ledger)
    assert promotion.settle_champion(again.ledger, again.tracking) == 1


def test_a_withdrawn_batch_leaves_training_and_flags_what_it_trained(
    two_nights: Workspace,
) -> None:
    """Versions trained on it are flagged in ledger and registry, the champion loudly; the next night trains without it."""
    workspace = two_nights
    run_night(workspace, "night 2")
    second = workspace.ledger.batches()[-1]
    done = withdraw_batch(second, "a wrong month", workspace.ledger, workspace.tracking)
    assert (done.versions, done.champion) == ([2], 2)
    assert withdraw_batch(second, "a wrong month", workspace.ledger, workspace.tracking) == done
    assert workspace.tracking.version(2).tags["churn.withdrawn_batches"] == second.batch[:12]
    assert "churn.withdrawn_batches" not in workspace.tracking.version(1).tags
    (said,) = steps.summarise(workspace, "night 2").flags
    assert "a wrong month" in said
    assert run_night(workspace, "night 3").startswith("hold")
    trained = workspace.ledger.snapshot(workspace.ledger.decision("night 3").snapshot)  # type: ignore[union-attr]
    assert second.batch not in trained.batches  # type: ignore[union-attr]
    with pytest.raises(NothingToDo):
        run_night(workspace, "night 4")
    restore_batch(second, "it was right", workspace.ledger, workspace.tracking)
    assert workspace.ledger.flags(workspace.settings.model_name) == []
    assert workspace.tracking.version(2).tags["churn.withdrawn_batches"] == ""
    assert steps.summarise(workspace, "night 2").flags == []


def test_a_snapshot_is_rebuilt_from_the_ledger(two_nights: Workspace) -> None:
    """Its file lost, the same rows come out under the same hash; of a changed accepted file they do not."""
    workspace = two_nights
    run_night(workspace, "night 2")
    snapshot = workspace.ledger.snapshots()[0]
    remove_table(workspace.storage, snapshot_rows(snapshot.snapshot))
    rebuild_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling, snapshot)
    assert has_table(workspace.storage, snapshot_rows(snapshot.snapshot))
    with pytest.raises(ChurnError, match="with the salt"):
        rebuild_snapshot(
            workspace.storage,
            workspace.ledger,
            workspace.contract,
            Sampling(b"another salt, also long enough", Here(2, "1GB")),
            snapshot,
        )
    first, second = workspace.ledger.batches()
    source = part_file(workspace.storage, accepted(first.batch))
    workspace.storage.put(source, f"{accepted(second.batch)}/{source.name}")
    with pytest.raises(ChurnError, match=f"accepted/{second.batch}/part-0000.parquet has been changed.*audit --hashes"):
        rebuild_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling, snapshot)


def test_drift_and_warnings_stand_in_the_comparison(two_nights: Workspace) -> None:
    """The night with a new kind of customer says so: in the note, as metrics, and in a picture."""
    workspace = two_nights
    run_night(workspace, "night 2")
    decision = workspace.ledger.decision("night 2")
    found = workspace.tracking.client.get_run(decision.run_id)  # type: ignore[union-attr]
    assert found.data.metrics["drift_psi_Age"] > 0.5
    assert "Age has drifted" in found.data.tags["mlflow.note.content"]
    batch = workspace.ledger.batches(night="night 2")[0].batch
    files = {file.path for file in workspace.tracking.client.list_artifacts(decision.run_id)}  # type: ignore[union-attr]
    assert f"drift_{batch[:12]}.svg" in files
    assert workspace.storage.exists(f"docs/{batch}/drift.svg")


def test_a_night_of_many_files_is_described_in_short(two_nights: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow cuts a description off after 8,000 characters: only some batches are linked, warned of and drawn, and their number is given."""
    workspace = two_nights
    monkeypatch.setattr(deciding, "MOST_SHOWN", 1)
    monkeypatch.setattr(report, "MOST_DRAWN", 1)
    land_text(workspace, small_file(300, seed=8, first_customer=7_000_000), "second.csv")
    run_night(workspace, "night 2")
    decision = workspace.ledger.decision("night 2")
    note = workspace.tracking.client.get_run(decision.run_id).data.tags["mlflow.note.content"]  # type: ignore[union-attr]
    first, second = workspace.ledger.batches(night="night 2")
    assert "Batches: 2, of which the first 1 are linked here. The review has all." in note
    assert (f"[Data Docs of {first.name}]" in note, f"[Data Docs of {second.name}]" in note) == (True, False)
    assert re.search(r"Warnings: \S+: [^.]+\..* And \d+ more: see the review\.", note)
    files = {file.path for file in workspace.tracking.client.list_artifacts(decision.run_id)}  # type: ignore[union-attr]
    most = max((first, second), key=lambda batch: max(one.psi for one in workspace.ledger.drift(batch.batch)))
    assert {name for name in files if name.startswith("drift_")} == {f"drift_{most.batch[:12]}.svg"}
