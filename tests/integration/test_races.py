"""The act under pressure: twenty promoters at once with a reader, and a SIGKILL after every outside effect."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from churn.foundation.ledger import open_ledger
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace
from support.basics import clone_workspace, run_script


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_twenty_promoters_one_wins_and_a_reader_always_finds_a_champion(
    kind: str, first_champion: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One promotion, nineteen typed conflicts; at every moment one champion whose artifacts load."""
    workspace = clone_workspace(first_champion, tmp_path)
    url = workspace.settings.ledger_url
    if kind == "postgresql":
        database: Callable[[str], str] = request.getfixturevalue("postgres")
        url = database("promoters")
        copy_ledger(workspace, url)
    outcome = run_script("race_promotions.py", tmp_path, workspace.settings.mlflow_tracking_uri, url)
    assert Counter(outcome["ends"]) == {0: 1, 2: 19}
    winner = outcome["ends"].index(0) + 2
    assert (outcome["ledger"], outcome["promotions"], outcome["stage"]) == (winner, 2, [winner])
    assert outcome["aliases"] == {"champion": winner, "previous": 1, "anchor": winner}
    assert outcome["reading"] == 0
    assert set(outcome["seen"]) <= {"1 loads", f"{winner} loads"}
    assert sum(outcome["seen"].values()) >= 10


def copy_ledger(workspace: Workspace, url: str) -> None:
    """What the race needs of a ledger, in another database."""
    model, ledger = workspace.settings.model_name, open_ledger(url)
    for snapshot in workspace.ledger.snapshots():
        ledger.add_snapshot(snapshot)
    known = workspace.ledger.version(model, 1)
    assert known is not None
    ledger.add_version(known)
    ledger.add_decision(workspace.ledger.decisions()[0])
    first = workspace.ledger.promotions(model)[0]
    ledger.promote(first, None)
    ledger.mark_mirrored(first)


def test_killed_after_any_effect_the_next_run_comes_to_the_same(first_champion: Workspace, tmp_path: Path) -> None:
    """SIGKILL after each write to data root, ledger and MLflow: one decision, one look, one transition, one review."""
    source = tmp_path / "source"
    source.mkdir()
    workspace = clone_workspace(first_champion, source)
    request = Request("night 2")
    for batch in steps.arrive(workspace, request).batches:
        steps.validate(workspace, request, batch.batch)
    challenger = steps.train(workspace, request)
    folder = tmp_path / "runs"
    folder.mkdir()
    outcome = run_script(
        "crash_decision.py", folder, workspace.settings.mlflow_tracking_uri, source, json.dumps(asdict(challenger))
    )
    calm = outcome["calm"]
    assert calm["decision"] == ["promote", "SUPERIOR"]
    assert (calm["replays"], calm["looks"], calm["evidence"]) == (True, [0], 2)
    assert calm["promotions"] == [[2, "promotion", True], [1, "promotion", True]]
    assert calm["aliases"] == {"champion": 2, "previous": 1, "anchor": 2}
    assert calm["roles"] == ["challenger", "champion", "night"]
    effects = " ".join(outcome["effects"])
    for part in ("move_in", "take_look", "add_decision", "promote", "mark_mirrored", "alias", "transition-stage"):
        assert part in effects, outcome["effects"]
    assert len(outcome["killed"]) >= 5
    for run in outcome["killed"]:
        assert (run["killed"], run["again"]) == (-9, 0), run["after"]
        assert run["state"] == calm, run["after"]
