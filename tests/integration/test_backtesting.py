"""A backtest replays the accepted batches, and changes nothing of what it reads."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from churn.cli import main
from churn.cli.backtest import backtest
from churn.errors import ChurnError
from churn.outcomes.backtest import ALWAYS, NEVER, OURS, WAYS
from churn.pipeline import backtesting, steps
from churn.pipeline.backtesting import BacktestSpec, as_plain, run_backtest
from churn.pipeline.workspace import Request, Workspace
from support.basics import QUICK_CANDIDATES, land_night, make_workspace


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, mlflow_url: str) -> Workspace:
    """Four accepted batches, and nothing trained on them."""
    workspace = make_workspace(tmp_path_factory.mktemp("backtest") / "bench", mlflow_url, candidates=QUICK_CANDIDATES)
    for number in range(1, 5):
        land_night(
            workspace, 1 + number % 3, f"night-{number}.csv", first_customer=number * 100_000, seed=number, rows=3000
        )
        for batch in steps.arrive(workspace, Request(f"night {number}")).batches:
            steps.validate(workspace, Request(f"night {number}"), batch.batch)
    return workspace


def test_batches_are_replayed_and_ways_of_promoting_compared(
    bench: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted, it goes on where it stopped, with the same result; the ledger and the data root are as before."""
    before = bench.ledger.decisions(limit=None), bench.storage.names("")
    seen: list[tuple[int, int]] = []

    def stop(done: int, every: int) -> None:
        seen.append((done, every))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_backtest(bench, BacktestSpec(), tmp_path, stop)
    trained: list[str] = []
    train = steps.train

    def counted(workspace: Workspace, request: Request) -> object:
        trained.append(request.night)
        return train(workspace, request)

    monkeypatch.setattr(backtesting.steps, "train", counted)
    found = run_backtest(bench, BacktestSpec(), tmp_path)
    assert seen == [(1, 4), (2, 4)]
    assert trained == ["batch 00003", "batch 00004"]
    assert run_backtest(bench, BacktestSpec(), tmp_path).ways == found.ways
    assert trained == ["batch 00003", "batch 00004"]
    assert {way.way for way in found.ways} == set(WAYS)
    ways = {way.way: way for way in found.ways}
    assert min(way.regret for way in found.ways) == 0
    assert (ways[NEVER].promotions, ways[OURS].promotions >= 1, ways[ALWAYS].promotions >= ways[OURS].promotions) == (
        1,
        True,
        True,
    )
    assert len(found.periods) >= 2
    assert all(period.versions[NEVER] == found.periods[0].versions[NEVER] for period in found.periods)
    assert found.picture.read_text().startswith("<svg")
    assert json.loads(json.dumps(as_plain(found)))["ways"][0]["way"] == OURS
    assert (bench.ledger.decisions(limit=None), bench.storage.names("")) == before


def test_too_few_batches_are_one_clear_error(bench: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ChurnError, match="At least three are needed"):
        run_backtest(bench, BacktestSpec(until=date(2000, 1, 1)), tmp_path)
    other = replace(bench, settings=bench.settings.model_copy(update={"data_root": str(tmp_path)}))
    monkeypatch.setattr(Workspace, "open", lambda: other)
    shown = CliRunner().invoke(main.app, ["backtest", "--to", "2000-01-01"])
    assert shown.exit_code == 1
    assert backtest.__doc__
