"""`churn policy draft`: from the first snapshot to a policy, as a file or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from churn.cli.decisions import policy_app
from churn.decision.policy_file import Policy
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from churn.pipeline.workspace import Workspace
from support.basics import export, land_night, make_workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    opened = make_workspace(tmp_path, "http://127.0.0.1:1")
    export(opened.settings, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return opened


def test_a_policy_is_drafted_from_the_first_snapshot(workspace: Workspace) -> None:
    """It is valid, written only where nothing is, and as JSON it has each reason and the present value."""
    runner = CliRunner()
    nothing = runner.invoke(policy_app, ["draft"])
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert "no snapshot of accepted rows" in nothing.stderr
    land_night(workspace, 2, rows=2000)
    for batch in collect_arrivals(workspace.storage, workspace.ledger).batches:
        limits = IntakeLimits.of(workspace.settings)
        accept_batch(batch.batch, "night", workspace.storage, workspace.ledger, workspace.contract, limits)
    take_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling)
    assert Policy.read(runner.invoke(policy_app, ["draft"]).stdout, "draft")
    written = runner.invoke(policy_app, ["draft", "--out", "policy.yaml"])
    assert "set CHURN_POLICY_FILE=policy.yaml" in written.stdout
    assert Policy.read(Path("policy.yaml").read_text(), "policy.yaml")
    assert "policy.yaml exists" in runner.invoke(policy_app, ["draft", "--out", "policy.yaml"]).stderr
    document = json.loads(runner.invoke(policy_app, ["draft", "--json"]).stdout)
    assert document["facts"]["customers"] == 2000
    assert {threshold["key"]: threshold["present"] for threshold in document["thresholds"]}["roc_auc"] == 0.7
    assert all(threshold["why"] for threshold in document["thresholds"])
