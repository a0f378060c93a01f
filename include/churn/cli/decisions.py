"""The commands for decisions: make one again, check a policy, see what a policy would do in a year."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import track
from rich.table import Table

from churn.cli.terminal import AsJson, console, explained, print_json
from churn.errors import ChurnError, Outage
from churn.pipeline.workspace import Workspace
from churn.settings import VAR, Settings

if TYPE_CHECKING:
    from churn.decision.simulation import SimulatedYear
    from churn.foundation.records import DecisionRecord

policy_app = typer.Typer(no_args_is_help=True, help="The rules of promotion.")
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Another policy file; by default the one in force.")]


@policy_app.command("check")
@explained
def check_policy(
    file: Annotated[Path | None, typer.Argument(help="By default the one that the settings name.")] = None,
) -> None:
    """Check a promotion policy, and print what it says."""
    from churn.decision.policy_file import Policy, load_policy_text

    path = file or Settings.load().policy_file
    console.print_json(Policy.read(load_policy_text(path), path.name).model_dump_json())


@explained
def replay(
    night: Annotated[str | None, typer.Argument(help="The decision: the name of its night.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every decision whose rows are kept.")] = False,
    policy: PolicyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make decisions again from what was kept: the same verdict, reasons and numbers; exit 1 if not.

    With --policy: what another policy would have said of the same evidence.
    """
    from churn.decision.policy_file import Policy, load_policy_text
    from churn.decision.replay import replay as make_again

    workspace = Workspace.open()
    if every == bool(night):
        raise ChurnError("Name one night, or give --all. `churn status` names the last one.")
    text = load_policy_text(policy) if policy else None
    if text and policy:
        Policy.read(text, policy.name)
    known = _kept(workspace) if every else filter(None, [workspace.ledger.decision(night or "")])
    records = [one for one in known if "case" in one.digests]
    if not records:
        raise ChurnError(
            f"There is no decision of night {night} that can be replayed." if night else "There is no decision yet."
        )
    began = time.monotonic()
    found, lost = [], []
    for record in records:
        try:
            found.append(make_again(record, workspace.storage, text))
        except Outage:
            raise
        except ChurnError as error:
            lost.append(str(error))
    if as_json:
        print_json(
            [{"night": one.record.night, **asdict(one.decision), "faults": one.faults} for one in found]
            + [{"faults": [said]} for said in lost]
        )
    else:
        for one in found:
            _print_replay(one, bool(text))
        for said in lost:
            console.print(said, style="red", markup=False)
        changed = sum(not one.same for one in found) + len(lost)
        verdict = f"{changed} not as they were" if changed else "all as they were"
        console.print(f"{len(records)} decisions in {time.monotonic() - began:.1f} s: {verdict}.")
    if lost or any(not one.same for one in found):
        raise typer.Exit(1)


@explained
def simulate(
    policy: PolicyFile = None,
    years: Annotated[int, typer.Option(min=1, max=1000, help="Simulated years of each scenario.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same years.")] = 1,
    picture: Annotated[Path, typer.Option(help="Where the picture goes.")] = VAR / "simulation.png",
    as_json: AsJson = False,
) -> None:
    """What a policy would do in a year: with no true change, with slow decay, and with a real improvement."""
    from churn.decision.policy_file import Policy, load_policy_text
    from churn.decision.simulation import SCENARIOS, draw_years, simulate_year

    path = policy or Settings.load().policy_file
    rules = Policy.read(load_policy_text(path), path.name)
    found = {
        name: [
            simulate_year(rules, name, seed + year)
            for year in track(range(years), f"{name:6}", console=console, transient=True, disable=as_json)
        ]
        for name in SCENARIOS
    }
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_years(found).savefig(picture, dpi=110)
    if as_json:
        print_json({name: [asdict(year) for year in done] for name, done in found.items()})
        return
    console.print(_years_table(found))
    console.print(f"Picture: {picture}", soft_wrap=True)


def _kept(workspace: Workspace) -> list[DecisionRecord]:
    """The decisions whose rows the maintenance keeps."""
    from churn.pipeline.maintenance import needed_decisions

    settings = workspace.settings
    decisions = workspace.ledger.decisions(limit=None)
    return needed_decisions(decisions, workspace.ledger, settings.model_name, settings.keep_decisions)


def _print_replay(found: Any, other_policy: bool) -> None:
    then = f"{found.record.verdict} ({found.record.code})"
    now = f"{found.decision.verdict.value} ({found.decision.code})"
    if other_policy:
        console.print(f"{found.record.night}: {now}; decided was {then}. {found.decision.sentence}", markup=False)
    else:
        state = "the same again" if found.same else "NOT AS IT WAS"
        console.print(f"{found.record.night}: {then}, {state}.", markup=False)
    for fault in found.faults:
        console.print(f"  {fault}", style="red", markup=False)


def _years_table(found: dict[str, list[SimulatedYear]]) -> Table:
    table = Table("scenario", "years", box=None)
    for title in (
        "promotions a year",
        "of them superior",
        "ROC AUC of production, end - start",
        "held for, most often",
    ):
        table.add_column(title, justify="right")
    for name, done in found.items():
        promotions = [sum(year.promotions.values()) for year in done]
        superior = [year.promotions.get("SUPERIOR", 0) for year in done]
        held = sum((Counter(year.reasons) - Counter(year.promotions) for year in done), Counter())
        table.add_row(
            name,
            str(len(done)),
            f"{mean(promotions):.2f}",
            f"{mean(superior):.2f}",
            f"{mean(year.gained for year in done):+.4f}",
            ", ".join(code for code, _ in held.most_common(2)),
        )
    return table
