"""A model of one's own, from its file to production and back, after the file was deleted; against a real MLflow server."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from textwrap import indent

import numpy as np
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.decision.scoring import Unscorable, open_scorer
from churn.foundation.artifacts import downloaded
from churn.foundation.examples import example_rows, model_input
from churn.learning import fitting_process
from churn.learning.fitting_process import FittingProcess
from churn.pipeline import shipping, steps
from churn.pipeline.workspace import Request, Workspace
from churn.settings import VAR
from support.basics import ROOT, clone_workspace, land_night, make_workspace, run_night
from support.images import needs_engine, remove_images, with_engine

EXAMPLE = ROOT / "docs/examples/ratios.py"
TYPES = ["collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"]


def lightgbm_lock(folder: Path) -> Path:
    """What `make lock EXTRA=lightgbm` would write, taken from the lock that is installed here."""
    lock, keep = [], False
    for line in (ROOT / "requirements-dev.lock").read_text().splitlines():
        keep = line.startswith("lightgbm==") or (keep and line.startswith(" "))
        lock += [line] if keep else []
    file = folder / "requirements-extra.lock"
    file.write_text("\n".join([*lock, ""]))
    return file


@pytest.fixture(scope="module")
def promoted(mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose version 1, made by the example, is in production; its module no longer exists. Tests clone it.

    It was fitted in a process of its own, as in production.
    """
    folder = tmp_path_factory.mktemp("own_model")
    modules = folder / "modules"
    modules.mkdir()
    shutil.copy(EXAMPLE, modules)
    workspace = make_workspace(folder, mlflow_url)
    land_night(workspace, 1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(fitting_process, "FittingProcess", FittingProcess)
        monkeypatch.setattr(steps, "EXTRA_LOCK", lightgbm_lock(folder))
        monkeypatch.setattr(sys, "path", [*sys.path, str(modules)])
        assert run_night(with_example(workspace), "night 1") == "promote NO_CHAMPION"
    shutil.rmtree(modules)
    sys.modules.pop("ratios", None)
    return workspace


def with_example(workspace: Workspace) -> Workspace:
    """The same workspace with the example as candidates."""
    settings = workspace.settings.model_copy(update={"candidates": "ratios:candidates"})
    return Workspace(settings, workspace.storage, workspace.ledger)


@pytest.fixture
def after(promoted: Workspace, tmp_path: Path) -> Workspace:
    return clone_workspace(promoted, tmp_path)


def test_the_page_shows_the_code_that_runs() -> None:
    """About 25 lines, and the same as in the example that these tests promote."""
    code = EXAMPLE.read_text().partition('data."""')[2].strip()
    page = (ROOT / "docs/pages/your-own-model.md").read_text()
    assert indent(code, "    ") in re.sub("^ +$", "", page, flags=re.MULTILINE)
    assert len([line for line in code.splitlines() if line]) <= 25


def test_everything_that_the_model_needs_is_kept(promoted: Workspace) -> None:
    """The module, its hash, both locks and the types: in the registered model, its run and the ledger."""
    record = promoted.ledger.version(promoted.settings.model_name, 1)
    assert record is not None
    assert record.trusted_types == [*TYPES, "ratios.Ratios"]
    run = promoted.tracking.client.get_run(record.run_id)
    assert run.data.tags["churn.candidates"] == "ratios:candidates"
    assert re.fullmatch("[0-9a-f]{64}", run.data.tags["churn.candidates.sha256"])
    kept = {file.path for file in promoted.tracking.client.list_artifacts(record.run_id, "environment")}
    assert kept == {"environment/requirements-serving.lock", "environment/requirements-extra.lock"}
    with downloaded(1, promoted.tracking) as files:
        assert (files / "code/ratios.py").read_bytes() == EXAMPLE.read_bytes()
        assert {path.name for path in (files / "code").iterdir()} == {"churn", "ratios.py"}
        assert re.search("^lightgbm==", (files / "requirements.txt").read_text(), re.MULTILINE)


def test_a_repeated_training_does_not_need_the_module(promoted: Workspace) -> None:
    """The version of the run is recorded already."""
    again = steps.train(with_example(promoted), Request("night 1", retrain=True))
    assert (again.version, again.kind) == (1, "ratios")


def test_a_later_challenger_is_compared_with_it(after: Workspace) -> None:
    """The standard candidates compete with a champion whose module is gone."""
    land_night(after, 2)
    assert run_night(after, "night 2") == "promote SUPERIOR"
    decision = after.ledger.decision("night 2")
    assert decision is not None
    assert (decision.champion, decision.challenger) == (1, 2)


def test_it_is_served_as_its_image_would_serve_it(after: Workspace) -> None:
    """In an environment made from both locks: the answers of the registered model."""
    record = shipping.ship(after, 1)
    assert (record.state, record.max_difference is not None) == ("not_built", True)
    assert record.max_difference is not None
    assert record.max_difference <= 1e-12


def test_years_later_it_is_scored_in_its_own_environment(after: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another LightGBM installed here, it is served from the locks and with the types that were kept."""
    from churn.decision import scoring

    rows = model_input(BANK_CHURN, example_rows(BANK_CHURN, 50))
    with open_scorer(1, after.ledger, after.tracking, VAR / "serving") as here:
        expected = here(rows)
    honest = scoring.installed
    monkeypatch.setattr(scoring, "installed", lambda name: "0.1" if name == "lightgbm" else honest(name))
    with open_scorer(1, after.ledger, after.tracking, VAR / "serving") as there:
        assert np.abs(there(rows) - expected).max() <= 1e-12


@needs_engine
@pytest.mark.engine
def test_its_image_has_layers_for_packages_and_module(after: Workspace) -> None:
    """Built, verified and published: LightGBM from its lock, the module, and the types."""
    workspace = with_engine(after)
    try:
        record = shipping.ship(workspace, 1)
        assert record.state == "published"
        assert record.max_difference is not None
        assert record.max_difference <= 1e-12
    finally:
        remove_images(workspace)


def test_types_come_from_the_ledger_and_never_from_the_model(after: Workspace) -> None:
    """Without its record in the ledger, a version cannot bring types that its own files name."""
    with after.ledger._transaction() as connection:
        connection.exec_driver_sql("UPDATE versions SET trusted_types = NULL")
    with (
        pytest.raises(Unscorable, match="UntrustedTypesFound"),
        open_scorer(1, after.ledger, after.tracking, VAR / "serving"),
    ):
        pass
