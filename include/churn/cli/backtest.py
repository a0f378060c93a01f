"""The command that replays the bank's own history under a policy, and compares it with simpler ways of promoting."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from churn.cli.terminal import AsJson, console, explained, print_json
from churn.pipeline.workspace import Workspace
from churn.settings import VAR


@explained
def backtest(
    since: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day of arrival.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day of arrival.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Another promotion policy. By default the one in force.")] = None,
    candidates: Annotated[str | None, typer.Option(help="Other candidates, as `module:function`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the accepted batches through training, decision, promotion and confirmation, and compare ways of promoting.

    Nothing of the ledger, of MLflow or of the data root is changed. Started again, it goes on where it stopped.
    """
    from churn.pipeline.backtesting import BacktestSpec, as_plain, run_backtest

    workspace = Workspace.open()
    spec = BacktestSpec(since.date() if since else None, until.date() if until else None, policy, candidates)
    with Progress(console=console, transient=True, disable=as_json) as progress:
        task = progress.add_task("Replaying batches", total=None)

        def show(done: int, every: int) -> None:
            progress.update(task, completed=done, total=every)
            if not (console.is_terminal or as_json):
                console.print(
                    f"{done} of {every} batches replayed. If it is interrupted, the same command goes on from here."
                )

        found = run_backtest(workspace, spec, VAR / "backtest", show)
    if as_json:
        print_json(as_plain(found))
        return
    table = Table("way", "promotions", "refuted", "ROC AUC", "Brier score", "value at capacity", "regret", box=None)
    for way in found.ways:
        table.add_row(
            way.way,
            str(way.promotions),
            "" if way.refuted is None else str(way.refuted),
            "" if way.roc_auc is None else f"{way.roc_auc:.4f}",
            "" if way.brier is None else f"{way.brier:.4f}",
            f"{way.value:,.0f}",
            f"{way.regret:,.0f}",
        )
    console.print(table)
    console.print(f"{len(found.periods)} periods. Picture: {found.picture}", soft_wrap=True)
