"""What people delete, rename or change in MLflow: every command says what is missing, nothing is lost, and the next step works.

All of it on a real MLflow server. The objects that copies of a workspace share are deleted on a server of their own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from churn.errors import Outage
from churn.foundation.records import Promotion
from churn.foundation.tracking import RegistryChanged, TrackingGone, TrackingRefused, TrackingUnreachable
from churn.learning.training import Challenger
from churn.pipeline import disagreements, steps
from churn.pipeline.workspace import Request, Workspace
from churn.release.mirror import read_registry
from churn.release.promotion import ChampionDisagreement, settle_champion
from churn.release.rollback import RollbackRefused
from churn.release.service import laid_out
from support.basics import clone_workspace, in_fresh_interpreter, land_night, make_workspace, mlflow_server, run_night

NIGHT = Request("night 3")


def train(workspace: Workspace) -> Challenger:
    """Train version 3 on the file of night 3, and decide nothing."""
    land_night(workspace, 3)
    for batch in steps.arrive(workspace, NIGHT).batches:
        steps.validate(workspace, NIGHT, batch.batch)
    return steps.train(workspace, NIGHT)


@pytest.fixture(scope="module")
def trained(second_champion: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Challenger]:
    """Champion 2, previous and baseline as the first two runs left them, and version 3, trained and not compared yet."""
    workspace = clone_workspace(second_champion, tmp_path_factory.mktemp("trained"))
    return workspace, train(workspace)


@pytest.fixture
def waiting(trained: tuple[Workspace, Challenger], tmp_path: Path) -> tuple[Workspace, Challenger]:
    return clone_workspace(trained[0], tmp_path), trained[1]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Path]]:
    """A workspace with champion 1 on an MLflow server of its own, and the folder of the server."""
    folder = tmp_path_factory.mktemp("own")
    server = folder / "server"
    server.mkdir()
    with mlflow_server(server, f"sqlite:///{server}/mlflow.db", str(server / "artifacts")) as url:
        workspace = make_workspace(folder, url)
        land_night(workspace, 1)
        assert run_night(workspace, "night 1") == "promote NO_CHAMPION"
        yield workspace, server


def delete_version(workspace: Workspace, version: int) -> None:
    workspace.tracking.client.delete_model_version(workspace.settings.model_name, str(version))


def problems_of(workspace: Workspace) -> list[str]:
    """What `churn status` reports, but for the images, which these tests do not build."""
    return [
        problem for problem in disagreements.find_disagreements(workspace) if not problem.startswith("The image of")
    ]


def in_production(workspace: Workspace) -> int | None:
    current = workspace.ledger.in_production(workspace.settings.model_name)
    return current.version if current else None


def test_a_deleted_previous_version_is_reported_and_skipped(waiting: tuple[Workspace, Challenger]) -> None:
    """Runs go on, `status` and `reconcile` say it, and a rollback names what is left."""
    workspace, challenger = waiting
    delete_version(workspace, 1)
    (problem,) = problems_of(workspace)
    assert problem.startswith("Version 1, which was in production before, was deleted in MLflow. There is no version")
    assert disagreements.reconcile(workspace) == [problem]
    with pytest.raises(
        RollbackRefused, match=r"no version before version 2 to return to\. Deleted in MLflow: version 1\."
    ):
        steps.roll_back(workspace, None, "a test", "Ann", "rollback 1")
    with pytest.raises(RollbackRefused, match=r"Version 1 cannot be restored.*deleted in MLflow\. No other version"):
        steps.roll_back(workspace, 1, "a test", "Ann", "rollback 2")
    assert steps.compare(workspace, NIGHT, challenger).code in ("INFERIOR", "TOO_FRESH", "SUPERIOR")
    assert in_production(workspace) == 2


def test_a_deleted_champion_is_a_state_of_its_own(waiting: tuple[Workspace, Challenger]) -> None:
    """It holds as CHAMPION_MISSING, never as "no champion"; the sentence leads to a forced run, and the challenger is measured."""
    workspace, challenger = waiting
    delete_version(workspace, 2)
    problem = problems_of(workspace)[0]
    assert problem.startswith("Version 2, which is in production, was deleted in MLflow. Its image keeps serving")
    assert "return to version 1 with `churn rollback" in problem
    assert problem in disagreements.reconcile(workspace)
    assert settle_champion(workspace.ledger, workspace.tracking, adopt=True) == 2
    decision = steps.compare(workspace, NIGHT, challenger)
    assert (decision.verdict, decision.code, decision.champion) == ("hold", "CHAMPION_MISSING", 2)
    assert decision.comparison["evidence"]["challenger"]["roc_auc"]
    with pytest.raises(steps.NothingToDo, match="CHAMPION_MISSING"):
        steps.promote(workspace, NIGHT.night)
    with (
        pytest.raises(TrackingGone, match="no longer exists"),
        laid_out(2, workspace.ledger, workspace.contract, workspace.tracking),
    ):
        pass
    assert in_production(workspace) == 2


def test_a_forced_run_leads_out_of_a_missing_champion(waiting: tuple[Workspace, Challenger]) -> None:
    """The challenger is promoted, MLflow follows, and nothing is reported any more but the versions before it."""
    workspace, challenger = waiting
    delete_version(workspace, 2)
    forced = Request(NIGHT.night, force_reason="the champion is gone", requested_by="Ann")
    assert steps.compare(workspace, forced, challenger).code == "FORCED"
    assert steps.promote(workspace, NIGHT.night) == 3
    assert read_registry(workspace.tracking).champion == 3
    (problem,) = problems_of(workspace)
    assert problem == (
        "Version 2, which was in production before, was deleted in MLflow. A rollback returns to version 1."
    )
    steps.roll_back(workspace, None, "a test", "Ann", "rollback")
    assert in_production(workspace) == read_registry(workspace.tracking).champion == 1


def test_a_rollback_leads_out_of_a_missing_champion(waiting: tuple[Workspace, Challenger]) -> None:
    """The version before it is in production again."""
    workspace, _ = waiting
    delete_version(workspace, 2)
    steps.roll_back(workspace, None, "the champion is gone", "Ann", "rollback")
    assert in_production(workspace) == read_registry(workspace.tracking).champion == 1
    assert problems_of(workspace) == []


def test_a_missing_champion_can_be_replaced_in_mlflow_if_the_setting_allows(
    waiting: tuple[Workspace, Challenger],
) -> None:
    """Somebody set the alias to version 1: refused, or adopted with CHURN_HAND_MADE_CHANGES=adopt."""
    workspace, _ = waiting
    delete_version(workspace, 2)
    workspace.tracking.client.set_registered_model_alias(workspace.settings.model_name, "champion", "1")
    with pytest.raises(ChampionDisagreement, match="is version 1, but in the ledger it is version 2"):
        settle_champion(workspace.ledger, workspace.tracking)
    assert settle_champion(workspace.ledger, workspace.tracking, adopt=True) == 1
    assert in_production(workspace) == 1


def test_a_deleted_baseline_holds_only_noninferiority(waiting: tuple[Workspace, Challenger]) -> None:
    """It is reported; the rule against slow decay fails with the reason, and the rules of superiority are measured."""
    workspace, challenger = waiting
    change = Promotion(
        workspace.settings.model_name, 0, 2, 2, "forced", "forced", "a test", datetime.now(UTC), anchor=1
    )
    workspace.ledger.promote(change, 2)  # so that champion and baseline differ
    disagreements.reconcile(workspace)
    delete_version(workspace, 1)
    problems = problems_of(workspace)
    assert any(problem.startswith("Baseline version 1 was deleted in MLflow") for problem in problems)
    decision = steps.compare(workspace, NIGHT, challenger)
    rules = {rule["name"]: rule for rule in decision.rules}
    assert decision.code not in ("CHAMPION_MISSING", "INPUT_MISMATCH")
    sentence = rules["no_worse_than_anchor"]["sentence"]
    assert sentence == "Baseline version 1 cannot be compared, because it was deleted in MLflow."
    assert not rules["no_worse_than_anchor"]["passed"]
    assert rules["superior_brier"]["value"] is not None


def test_a_renamed_model_is_named_and_can_be_renamed_back(waiting: tuple[Workspace, Challenger]) -> None:
    """Every command says the new name; nothing starts a second model under the old one."""
    workspace, challenger = waiting
    client, model = workspace.tracking.client, workspace.settings.model_name
    client.rename_registered_model(model, f"{model}-tidied")
    for command in (
        lambda: disagreements.find_disagreements(workspace),
        lambda: disagreements.reconcile(workspace),
        lambda: steps.compare(workspace, NIGHT, challenger),
        lambda: steps.roll_back(workspace, None, "a test", "Ann", "rollback"),
        lambda: settle_champion(workspace.ledger, workspace.tracking, adopt=True),
        lambda: steps.train(workspace, Request("night 4", retrain=True)),
    ):
        with pytest.raises(RegistryChanged, match=f"renamed to .*{re.escape(model)}-tidied.*Rename it back"):
            command()
    client.rename_registered_model(f"{model}-tidied", model)
    assert problems_of(workspace) == []


def test_a_deleted_model_is_never_begun_again_under_its_numbers(
    own_server: tuple[Workspace, Path], tmp_path: Path
) -> None:
    """Its versions would be numbered from 1 again: the run stops before it trains."""
    workspace, _ = own_server
    copy = clone_workspace(workspace, tmp_path)
    copy.tracking.client.delete_registered_model(copy.settings.model_name)
    for command in (
        lambda: disagreements.find_disagreements(copy),
        lambda: disagreements.reconcile(copy),
        lambda: run_night(copy, "night 2", retrain=True),
    ):
        with pytest.raises(RegistryChanged, match=r"does not exist in MLflow .* the ledger knows its versions"):
            command()
    assert not copy.tracking.client.search_registered_models(f"name = '{copy.settings.model_name}'")


def test_another_mlflow_behind_the_ledger_is_recognised(
    two_champions: Workspace, own_server: tuple[Workspace, Path]
) -> None:
    """A server without the model, and one whose versions come from other runs: both are named, and nothing is changed."""
    other, settings = own_server[0].settings, two_champions.settings
    empty = Workspace.open(settings.model_copy(update={"mlflow_tracking_uri": other.mlflow_tracking_uri}))
    for command in (lambda: disagreements.find_disagreements(empty), lambda: run_night(empty, "night 3", retrain=True)):
        with pytest.raises(RegistryChanged, match="It was deleted, or MLFLOW_TRACKING_URI names another server"):
            command()
    client, model = empty.tracking.client, settings.model_name
    client.create_registered_model(model)
    version = own_server[0].tracking.version(1)
    for _ in range(2):
        client.create_model_version(
            model, version.source, version.run_id, model_id=version.source.removeprefix("models:/")
        )
    with pytest.raises(RegistryChanged, match=r"comes from run .* not the MLflow that the ledger describes"):
        run_night(empty, "night 3", retrain=True)
    assert in_production(two_champions) == 2


def test_an_alias_that_is_moved_while_the_run_goes_on_stops_the_promotion(
    two_nights: Workspace,
) -> None:
    """Between comparison and promotion somebody removes the alias: the promotion stops, and `reconcile` puts it right."""
    request = Request("night 2")
    for batch in steps.arrive(two_nights, request).batches:
        steps.validate(two_nights, request, batch.batch)
    assert steps.compare(two_nights, request, steps.train(two_nights, request)).verdict == "promote"
    client, model = two_nights.tracking.client, two_nights.settings.model_name
    client.delete_registered_model_alias(model, "champion")
    with pytest.raises(ChampionDisagreement, match="is no version, but in the ledger it is version 1"):
        steps.promote(two_nights, "night 2")
    assert in_production(two_nights) == 1
    disagreements.reconcile(two_nights)
    assert steps.promote(two_nights, "night 2") == 2


def test_a_deleted_experiment_is_restored_by_the_command_that_the_error_names(
    own_server: tuple[Workspace, Path],
) -> None:
    """`status` and `reconcile` say it too. The run is repeated afterwards."""
    workspace = Workspace.open(own_server[0].settings)
    experiment = workspace.tracking.experiment_id
    workspace.tracking.client.delete_experiment(experiment)
    workspace = Workspace.open(own_server[0].settings)
    (problem,) = problems_of(workspace)
    assert disagreements.reconcile(workspace) == [problem]
    with pytest.raises(TrackingGone) as raised:
        run_night(workspace, "night 2", retrain=True)
    assert str(raised.value) == problem
    command = re.search(r"`mlflow (experiments restore [^`]+)`", problem)
    assert command
    subprocess.run(
        [sys.executable, "-m", "mlflow", *command[1].split()],
        env={"MLFLOW_TRACKING_URI": workspace.settings.mlflow_tracking_uri, "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
    workspace = Workspace.open(own_server[0].settings)
    assert problems_of(workspace) == []
    assert run_night(workspace, "night 2", retrain=True) == "hold HOLDOUT_TOO_SMALL"


@pytest.mark.parametrize("object_", ["run", "artifacts", "logged model"])
def test_what_a_champion_is_made_of_can_be_deleted(
    own_server: tuple[Workspace, Path], tmp_path: Path, object_: str
) -> None:
    """Without its run or logged model, which MLflow keeps in its trash, it is compared; without its files it is missing until they are back."""
    original, server = own_server
    workspace = clone_workspace(original, tmp_path)
    number = in_production(workspace)
    assert number is not None
    version = workspace.tracking.version(number)
    model_id = version.source.removeprefix("models:/")
    client = workspace.tracking.client
    kept = tmp_path / "kept"
    (folder,) = [path for path in (server / "artifacts").rglob(model_id) if path.is_dir()]
    if object_ == "run":
        client.delete_run(version.run_id)
    elif object_ == "logged model":
        client.delete_logged_model(model_id)
    else:
        shutil.move(folder, kept)
    try:
        verdict = run_night(workspace, "later", retrain=True)
        problems = problems_of(workspace)
    finally:
        if object_ == "run":
            client.restore_run(version.run_id)
        elif object_ == "artifacts":
            shutil.move(kept, folder)
    assert in_production(workspace) == number
    if object_ != "artifacts":
        assert (verdict, problems) == ("hold HOLDOUT_TOO_SMALL", [])
        return
    assert verdict == "hold CHAMPION_MISSING"
    (problem,) = problems
    assert "files of version 1" in problem
    assert "were deleted from the artifact store" in problem
    assert problems_of(workspace) == []


def test_permission_denied_is_not_an_outage(two_champions: Workspace) -> None:
    """What MLflow refuses is named as refused, and is not retried; what it does not find is gone; the rest is unreachable."""
    tracking = two_champions.tracking
    for raised, expected in (
        (MlflowException("You are not allowed", error_code=PERMISSION_DENIED), TrackingRefused),
        (MlflowException("try later", error_code=TEMPORARILY_UNAVAILABLE), TrackingUnreachable),
        (MlflowException("boom", error_code=INTERNAL_ERROR), TrackingUnreachable),
        # a page that is not found may come from any server; only MLflow itself can say that something is gone
        (MlflowException("not found", error_code=RESOURCE_DOES_NOT_EXIST), TrackingUnreachable),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "x"}), TrackingGone),
        (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "x"}), TrackingRefused),
        (RestException({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "x"}), TrackingUnreachable),
    ):
        with pytest.raises(expected), tracking.explained("do something"):
            raise raised
    assert tracking.find_version(99) is None
    assert issubclass(TrackingUnreachable, Outage)  # is retried
    assert not issubclass(TrackingRefused, Outage)
    assert not issubclass(TrackingGone, Outage)


def test_two_first_runs_may_create_a_sqlite_store_together(tmp_path: Path) -> None:
    """Both open the same new file at once, in the working directory of neither."""
    code = (
        "import sys; from multiprocessing import get_context; from churn.foundation.tracking import Tracking\n"
        f"uri = 'sqlite:///{tmp_path}/store/mlflow.db'\n"
        "def begin(name):\n"
        "    tracking = Tracking(uri, uri, 'together', 'model')\n"
        "    with tracking.explained('begin'):\n"
        "        return tracking.experiment_id and tracking.run(name, 'night', name).info.run_id\n"
        "if __name__ == '__main__':\n"
        "    with get_context('fork').Pool(4) as pool:\n"
        "        print(len(set(pool.map(begin, 'abcd'))))\n"
    )
    assert in_fresh_interpreter(code) == "4"
    assert not Path("mlruns").exists()
