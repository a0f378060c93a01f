"""The public Telco file, as it is published, through three nights on Airflow, under the contract that ships as YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from churn.contracts.loading import load_contract
from churn.decision.replay import replay
from churn.pipeline.disagreements import find_disagreements
from churn.sample.generator import cut_into_nights
from support.basics import ROOT, export, land_text, make_workspace
from support.dag_runs import run_dag

FILE = ROOT.parent / "shared/data/Telco-Customer-Churn.csv"
CONTRACT = "contracts/telco.yaml"


@pytest.mark.skipif(not FILE.exists(), reason=f"the public file {FILE.name} is not beside the project, in shared/data")
def test_the_raw_file_ends_in_a_verified_service(
    dag_bag: object, tmp_path: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Yes and No as labels, texts as keys, blanks for missing charges: every row is accepted, and a version is promoted."""
    workspace = make_workspace(tmp_path, mlflow_url, contract=load_contract(CONTRACT, ROOT))
    export(workspace.settings, monkeypatch)
    monkeypatch.setenv("CHURN_CONTRACT", CONTRACT)
    verdicts = []
    for number, night in enumerate(cut_into_nights(FILE, 3, tmp_path / "nights"), start=1):
        land_text(workspace, night.read_bytes(), f"telco-{number}.csv")
        run = run_dag(dag_bag, "churn_retraining")
        assert run.state == "success"
        decision = workspace.ledger.decision(run.run_id)
        assert decision is not None
        assert replay(decision, workspace.storage).faults == []
        verdicts.append(f"{decision.verdict} {decision.code}")
        promoted = run.get_task_instance("promote").xcom_pull(task_ids="promote")
        if promoted:
            assert run_dag(dag_bag, "churn_image_build", {"version": promoted}).state == "success"
    model = workspace.settings.model_name
    production = workspace.ledger.in_production(model)
    assert "promote NO_CHAMPION" in verdicts, verdicts
    assert production is not None
    image = workspace.ledger.image(model, production.version)
    assert (image.state, image.probes > 200, image.max_difference <= 1e-12) == ("not_built", True, True)
    assert find_disagreements(workspace) == []
    batches = workspace.ledger.batches()
    assert [(batch.state, batch.quarantined_rows) for batch in batches] == [("accepted", 0)] * 3
    assert sum(batch.accepted_rows for batch in batches) == 7043
    assert "left (Churn = Yes)" in workspace.tracking.client.get_registered_model(model).description
