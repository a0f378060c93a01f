"""The commands for decisions: replay them, check a policy, simulate what a policy would do in a year."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track
from rich.table import Table

from churn.cli.terminal import AsJson, console, explained, print_json, who
from churn.errors import ChurnError, Outage
from churn.pipeline.workspace import Workspace
from churn.settings import VAR, Settings

if TYPE_CHECKING:
    from churn.decision.population import Measured
    from churn.decision.replay import Replay
    from churn.decision.simulation import Population, SimulatedYear
    from churn.foundation.records import DecisionRecord

policy_app = typer.Typer(no_args_is_help=True, help="The promotion policy.")
MOST_CUSTOMERS = 110
"""Unseen customers a night that are simulated unless an option asks for more, so that five years take about a minute."""
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Another policy file. By default the one in force.")]


@policy_app.command("check")
@explained
def check_policy(
    file: Annotated[Path | None, typer.Argument(help="By default the file that the settings name.")] = None,
) -> None:
    """Check a promotion policy and print it."""
    from churn.decision.policy_file import Policy, load_policy_text

    path = file or Settings.load().policy_file
    console.print_json(Policy.read(load_policy_text(path), path.name).model_dump_json())


@policy_app.command("draft")
@explained
def draft_policy(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The file to write, for example contracts/policy.yaml. By default it is printed."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Propose the thresholds that depend on the data, from the first snapshot of accepted rows, with the reasons as comments.

    Unseen customers are only counted: what a model can reach is measured across folds of training customers.
    """
    from churn.decision.policy_draft import (
        find_snapshot,
        measure_facts,
        present_values,
        propose_thresholds,
        write_policy,
    )
    from churn.decision.policy_file import load_policy_text

    if out is not None and out.exists():
        raise ChurnError(f"{out} exists. Nothing was written. Name another file, or delete it first.")
    workspace = Workspace.open()
    contract, settings = workspace.contract, workspace.settings
    template = load_policy_text(settings.policy_file)
    facts = measure_facts(
        find_snapshot(workspace.ledger, workspace.storage, contract),
        workspace.storage,
        contract,
        workspace.sampling,
        settings.seed,
    )
    proposals = propose_thresholds(facts)
    if as_json:
        present = present_values(template)
        print_json(
            {
                "facts": asdict(facts),
                "thresholds": [
                    asdict(proposal) | {"present": present[proposal.section].get(proposal.key)}
                    for proposal in proposals
                ],
            }
        )
        return
    text = write_policy(template, proposals, facts)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        console.print(f"{out}: review the values, then set CHURN_POLICY_FILE={out}", markup=False, soft_wrap=True)


@policy_app.command("confirm")
@explained
def confirm_policy(
    reason: Annotated[str, typer.Option(help="Why it is plausible. The reason is kept in the ledger.")],
) -> None:
    """Confirm, once for this registered model, that a ROC AUC above sanity.max_model_auc is plausible, and not a leak."""
    from churn.pipeline.answers import confirm_plausible

    workspace = Workspace.open()
    given = confirm_plausible(workspace, reason, who())
    console.print(
        f"Confirmed for {given.model} by {given.by} on {given.at:%Y-%m-%d}: {given.reason}",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        "The next run decides with it: `churn run --retrain`, or trigger churn_retraining with *Retrain even if nothing arrived*."
    )


@explained
def replay(
    night: Annotated[str | None, typer.Argument(metavar="RUN", help="The run whose decision to replay.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Replay every decision whose rows are kept.")] = False,
    policy: PolicyFile = None,
    as_json: AsJson = False,
) -> None:
    """Replay decisions from what was kept, and exit with 1 if a verdict, reason or number differs.

    With --policy: show what another policy would have decided on the same evidence.
    """
    from churn.decision import replay as replays
    from churn.decision.policy_file import Policy, load_policy_text
    from churn.review.presentation import counted

    workspace = Workspace.open()
    if every == bool(night):
        raise ChurnError("Name one run, or use --all. `churn status` shows the last run.")
    text = load_policy_text(policy) if policy else None
    if text and policy:
        Policy.read(text, policy.name)
    decisions = _kept(workspace) if every else filter(None, [workspace.ledger.decision(night or "")])
    records = [decision for decision in decisions if "case" in decision.digests]
    if not records:
        raise ChurnError(f"Run {night} has no decision that can be replayed." if night else "There is no decision yet.")
    began = time.monotonic()
    replayed, unreplayable = [], []
    for record in records:
        try:
            replayed.append(replays.replay(record, workspace.storage, text))
        except Outage:
            raise
        except ChurnError as error:
            unreplayable.append(str(error))
    if as_json:
        print_json(
            [
                {
                    "night": result.record.night,
                    **asdict(result.decision),
                    "faults": result.faults,
                    "today": {"verdict": result.today.verdict, "code": result.today.code},
                }
                for result in replayed
            ]
            + [{"faults": [message]} for message in unreplayable]
        )
    else:
        for result in replayed:
            _print_replay(result, bool(text))
        for message in unreplayable:
            console.print(message, style="red", markup=False)
        differing = len(unreplayable) + sum(_differs(result) if text else not result.same for result in replayed)
        seconds = f"{time.monotonic() - began:.1f} s"
        console.print(
            f"{counted(len(records), 'decision')} replayed in {seconds}, {_outcome(differing, len(records), bool(text))}."
        )
    if unreplayable or any(not result.same for result in replayed):
        raise typer.Exit(1)


@explained
def simulate(
    policy: PolicyFile = None,
    years: Annotated[int, typer.Option(min=1, max=1000, help="Number of simulated years per scenario.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")] = 1,
    picture: Annotated[Path, typer.Option(help="Where to write the page with the charts.")] = VAR / "simulation.html",
    churn_rate: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=0.999, help="Share of customers with the event. By default from the ledger, otherwise 0.2."
        ),
    ] = None,
    auc: Annotated[
        float | None,
        typer.Option(
            min=0.55, max=0.995, help="ROC AUC of the first champion. By default from the ledger, otherwise 0.86."
        ),
    ] = None,
    customers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=5000,
            help=f"Unseen customers a night. By default from the ledger, at most {MOST_CUSTOMERS}, otherwise 11.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate what a policy would do in a year: with no true change, worse challengers, slow decay, a real improvement, and below the floor.

    Share of events, ROC AUC and number of customers are those of the ledger, once it has a comparison.
    """
    from churn.decision.policy_file import Policy, load_policy_text
    from churn.decision.simulation import SCENARIOS, draw_years, scenarios, simulate_year

    settings = Settings.load()
    path = policy or settings.policy_file
    rules = Policy.read(load_policy_text(path), path.name)
    population, words = _population(settings, churn_rate, auc, customers)
    if not as_json:
        console.print(words, soft_wrap=True)
    results = {
        name: [
            simulate_year(rules, name, seed + year, population=population)
            for year in track(range(years), f"{name:6}", console=console, transient=True, disable=as_json)
        ]
        for name in SCENARIOS
    }
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(draw_years(results, scenarios(rules, population)))
    if as_json:
        print_json({name: [asdict(year) for year in done] for name, done in results.items()})
        return
    console.print(_years_table(results))
    known = _history_to_replay(settings)
    if known:
        console.print(f"The ledger has {known} accepted batches: `churn backtest` replays them under the same policy.")
    console.print(f"Charts: {picture}", soft_wrap=True)


def _population(
    settings: Settings, rate: float | None, auc: float | None, customers: int | None
) -> tuple[Population, str]:
    """Whose customers to simulate, and where each number comes from. What is given counts more than what is measured."""
    from churn.decision.simulation import BANK, describe_population

    measured = _measured(settings)
    most = min(measured.customers, MOST_CUSTOMERS) if measured else BANK.customers
    chosen = (
        (rate, measured.event_rate if measured else None, BANK.event_rate),
        (auc, measured.auc if measured else None, BANK.auc),
        (customers, most if measured else None, BANK.customers),
    )
    names = ("the options", "the ledger", "the public bank file")
    sources = {next(name for name, value in zip(names, values, strict=True) if value is not None) for values in chosen}
    event_rate, start, a_night = (next(value for value in values if value is not None) for values in chosen)
    population = describe_population(
        min(max(event_rate, 0.001), 0.999), round(min(max(start, 0.55), 0.995), 4), int(a_night)
    )
    words = (
        f"Simulated customers: {population.customers:,} unseen ones a night, {population.event_rate:.1%} with the event, "
        f"ROC AUC {population.auc:.3f} (from {' and '.join(name for name in names if name in sources)})."
    )
    if measured and customers is None and measured.customers > MOST_CUSTOMERS:
        words += f" The ledger has {measured.customers:,} a night; --customers {measured.customers} takes longer."
    return population, words


def _history_to_replay(settings: Settings) -> int:
    """The number of accepted batches, if they are enough for a backtest; 0 if they are not, or the ledger does not answer."""
    from churn.foundation.ledger import read_ledger

    try:
        accepted = len(read_ledger(settings.ledger_url).hashes(state="accepted"))
    except ChurnError:
        return 0
    return accepted if accepted >= 3 else 0  # noqa: PLR2004 -- one to begin with, and two to compare


def _measured(settings: Settings) -> Measured | None:
    """What the ledger knows, if there is one and it answers."""
    from churn.decision.population import measure_population
    from churn.foundation.ledger import read_ledger

    try:
        return measure_population(read_ledger(settings.ledger_url), settings.model_name)
    except ChurnError:
        return None


def _kept(workspace: Workspace) -> list[DecisionRecord]:
    """The decisions whose rows maintenance keeps."""
    from churn.pipeline.maintenance import needed_decisions

    settings = workspace.settings
    ledger, model = workspace.ledger, settings.model_name
    needed = needed_decisions(ledger.outlines(model), ledger, model, settings.keep_decisions)
    return [decision for outline in needed if (decision := ledger.decision(outline.night))]


def _differs(replayed: Replay) -> bool:
    """Whether the replayed decision has another verdict or reason than the recorded one."""
    return (replayed.decision.verdict, replayed.decision.code) != (replayed.record.verdict, replayed.record.code)


def _outcome(differing: int, replayed: int, other_policy: bool) -> str:
    result = "verdict or reason under this policy" if other_policy else "result"
    if differing:
        return f"{differing} with a different {result}"
    return f"{'all with ' if replayed > 1 else ''}the same {result}"


def _print_replay(replayed: Replay, other_policy: bool) -> None:
    record, decision, today = replayed.record, replayed.decision, replayed.today
    decided = f"{record.verdict} ({record.code})"
    if other_policy:
        console.print(
            f"{record.night}: {decision.verdict} ({decision.code}); the decision was {decided}. {decision.sentence}",
            markup=False,
        )
    else:
        state = "same result" if replayed.same else "different result"
        console.print(f"{record.night}: {decided}, {state}.", markup=False)
    for fault in replayed.faults:
        console.print(f"  {fault}", style="red", markup=False)
    if (today.verdict, today.code) != (decision.verdict, decision.code):
        console.print(f"  Today's rules would decide: {today.verdict} ({today.code}). {today.sentence}", markup=False)


def _years_table(results: dict[str, list[SimulatedYear]]) -> Table:
    from churn.decision.reasons import Reason

    table = Table("scenario", "years", box=None)
    for title in (
        "promotions a year",
        "by superiority",
        "change of true ROC AUC in production",
        "most frequent reasons to hold",
    ):
        table.add_column(title, justify="right")
    for name, done in results.items():
        promotions = [sum(year.promotions.values()) for year in done]
        superior = [year.promotions.get(Reason.SUPERIOR, 0) for year in done]
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
