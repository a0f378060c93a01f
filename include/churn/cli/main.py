"""`churn ...`: the command line. Each command is one call into the core, and prints its result."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from churn.checkout import HOME
from churn.cli.backtest import backtest
from churn.cli.contracts import contract_app
from churn.cli.data import audit, batches_app, quarantine_app, snapshot_app
from churn.cli.decisions import policy_app, replay, simulate
from churn.cli.images import image_app as image_commands
from churn.cli.outcomes import outcomes
from churn.cli.production import alerts, approve, history, maintain, prune, reconcile, report, rollback, unfreeze
from churn.cli.scores import score, scores_app
from churn.cli.terminal import AsJson, console, explained, named_now, print_json, who
from churn.errors import ChurnError, require_reason
from churn.foundation.links import comparison_page, night_page, version_page
from churn.foundation.wording import REVERSALS
from churn.pipeline.workspace import Request, Workspace
from churn.settings import VAR, Settings, environment_name, masked

if TYPE_CHECKING:
    from churn.foundation.records import DecisionRecord, ImageRecord, Promotion
    from churn.pipeline.summary import RunSummary

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Nightly churn retraining: validate, train, compare, promote, ship.",
)
local_app = typer.Typer(no_args_is_help=True, help="The local Airflow and MLflow of `make run`.")
app.add_typer(local_app, name="local")


def _embedded() -> None:
    """The name of `churn local` until 0.1."""
    typer.echo("`churn embedded` is now `churn local`; the old name works for one minor version.", err=True)


app.add_typer(local_app, name="embedded", hidden=True, callback=_embedded)
app.add_typer(batches_app, name="batches")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(snapshot_app, name="snapshot")
app.add_typer(contract_app, name="contract")
app.add_typer(policy_app, name="policy")
app.add_typer(image_commands, name="image")
app.add_typer(scores_app, name="scores")
for command in (
    audit,
    score,
    outcomes,
    backtest,
    history,
    alerts,
    report,
    replay,
    simulate,
    approve,
    rollback,
    unfreeze,
    reconcile,
    prune,
    maintain,
):
    app.command()(command)
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print everything, not just what matters first.")]
Nights = Annotated[
    int, typer.Option(min=1, max=365, help="Number of nightly files to cut the file into, in its own order.")
]


@app.command()
@explained
def sample(
    folder: Annotated[Path, typer.Option(help="Folder to write the sample to.")] = HOME / "data" / "sample",
    file: Annotated[Path | None, typer.Option(help="Write one file instead, as the options below say.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Number of rows.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same file.")] = 1,
    older_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of customers aged 45 and older, or of another group under another contract, to simulate drift.",
        ),
    ] = 0.2,
    faults: Annotated[int, typer.Option(min=0, help="Number of rows with a planted fault.")] = 0,
    invert_labels: Annotated[bool, typer.Option(help="Invert the labels, to simulate a disputed batch.")] = False,
    turned_round: Annotated[bool, typer.Option(hidden=True, help="The name of --invert-labels until 0.1.")] = False,
    panel: Annotated[
        int,
        typer.Option(
            min=0, max=120, help="Write a panel of this number of months instead: files of rows, and of those who left."
        ),
    ] = 0,
    labels: Annotated[bool, typer.Option("--labels", help="With --panel, files of labels instead of leavers.")] = False,
) -> None:
    """Write the sample: three nights of synthetic customers, always the same. With --file, one file of your choice."""
    from churn.sample.generator import Night, make_night, write_sample

    if turned_round:
        typer.echo("--turned-round is now --invert-labels; the old name works for one minor version.", err=True)
    contract = Settings.load().contract
    if panel:
        from churn.sample.panels import make_panel

        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for made in make_panel(contract, rows, panel, seed, labels):
            files.append(folder / made.name)
            files[-1].write_text(made.text)
    elif file is None:
        files = write_sample(contract, folder)
    else:
        night = Night(rows, 10_000_000 + seed * 1_000_000, seed, older_share, faults, invert_labels or turned_round)
        file.write_text(make_night(contract, night))
        files = [file]
    for written in files:
        console.print(f"{written} ({written.stat().st_size / 1024:.0f} KiB)", soft_wrap=True)


@app.command()
@explained
def land(
    file: Annotated[Path, typer.Argument(help="A file with the columns of the contract.")],
    nights: Nights = 1,
    night: Annotated[int, typer.Option(min=1, help="Which of the nightly files to land.")] = 1,
    population: Annotated[
        bool, typer.Option("--population", help="The file has current customers, to be scored and not trained on.")
    ] = False,
) -> None:
    """Put a file into the landing zone, complete or not at all. With --nights, only one nightly part of it."""
    from churn.intake.arrival import land_file
    from churn.sample.generator import cut_into_nights
    from churn.scoring.population import land_population

    if population:
        console.print(f"Landed {land_population(Workspace.open().storage, file)}", soft_wrap=True)
        return
    parts = cut_into_nights(file, nights, VAR / "nights") if nights > 1 else [file]
    if night > len(parts):
        raise ChurnError(
            f"There is no nightly file {night}: the file was cut into {len(parts)}. Use --night 1 to {len(parts)}."
        )
    console.print(f"Landed {land_file(Workspace.open().storage, parts[night - 1])}", soft_wrap=True)


@app.command()
@explained
def run(
    retrain: Annotated[bool, typer.Option(help="Train even if nothing arrived.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Decide, but change nothing in production.")] = False,
    note: Annotated[str | None, typer.Option(help="A note that is shown with the decision. No customer data.")] = None,
    night: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Id of the run. A run with the same id is completed and not repeated."),
    ] = None,
    approval: Annotated[bool, typer.Option(help="Require `churn approve` before a promotion.")] = False,
    force: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Promote even if the policy holds, for this reason. Integrity reasons cannot be overridden.",
        ),
    ] = None,
    plausible: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Confirm once, for this registered model, that a very high ROC AUC is plausible, like `churn policy confirm`.",
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Do a whole run in this process, without Airflow."""
    from churn.pipeline.steps import run_night, summarise

    workspace = Workspace.open()
    request = Request(
        night=night or named_now("cli"),
        retrain=retrain,
        dry_run=dry_run,
        note=note,
        approval=approval,
        force_reason=None if force is None else require_reason(force),
        plausible_reason=None if plausible is None else require_reason(plausible),
        requested_by=who(),
    )
    try:
        run_night(workspace, request)
    finally:
        if workspace.ledger.decision(request.night):
            _print_run(workspace, summarise(workspace, request.night), verbose)


@app.command()
@explained
def status(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show what is in production, the last verdict, and whether the MLflow registry, the ledger and the image agree."""
    from churn.foundation.tracking import TrackingUnreachable
    from churn.local.services import status as services
    from churn.pipeline.disagreements import find_disagreements
    from churn.pipeline.steps import has_work
    from churn.release.withdrawal import say_flags
    from churn.review.overview import load_facts
    from churn.review.tiles import find_run_without_verdict

    workspace = Workspace.open()
    model, ledger = workspace.settings.model_name, workspace.ledger
    promotion = ledger.in_production(model)
    image = ledger.image(model, promotion.version) if promotion and promotion.version else None
    last = next(iter(ledger.decisions(limit=1, model=model)), None)
    try:
        problems = find_disagreements(workspace)
    except TrackingUnreachable:
        problems = [
            f"MLflow at {workspace.tracking.ui} does not answer. `make run` starts the local one; otherwise check MLFLOW_TRACKING_URI."
        ]
    except ChurnError as error:
        problems = [str(error)]
    if promotion and promotion.version:
        problems += say_flags(promotion.version, ledger, model)
    if last and promotion and last.champion == promotion.version:
        problems += [f"Champion {last.champion}: {rule['sentence']}" for rule in last.watch if not rule["passed"]]
    freeze = ledger.freeze(model)
    now = datetime.now(UTC)
    run = find_run_without_verdict(load_facts(ledger, workspace.settings, now), workspace.settings, now)
    links = {}
    if last:
        links = {
            "Review": night_page(workspace.settings, last.night),
            "Comparison in MLflow": comparison_page(workspace.settings.mlflow_ui, last.run_id),
        }
    state = {
        "in_production": promotion and asdict(promotion),
        "image": image and asdict(image),
        "last_decision": last
        and {"night": last.night, "verdict": last.verdict, "code": last.code, "sentence": last.sentence},
        "frozen": freeze and f"version {freeze.previous} was {REVERSALS[freeze.kind]}: {freeze.reason}",
        "waits_for_approval": [decision.night for decision in ledger.open_decisions(model)],
        "undecided": has_work(workspace),
        "waiting_batches": len(ledger.batches(state="arrived")) + len(workspace.storage.landed()),
        "services": [asdict(service) for service in services()],
        "run_without_verdict": run and f"{run.answer}. {run.detail}",
        "links": links,
        "problems": problems,
    }
    if as_json:
        print_json(state)
    else:
        _print_status(workspace, state, promotion, image, last, verbose)
    if problems:
        raise typer.Exit(1)


@app.command()
@explained
def settings(as_json: AsJson = False) -> None:
    """List every setting with its value and its meaning. The salt is hidden."""
    values = Settings.load()
    rows = [
        {
            "name": environment_name(name),
            "value": masked(str(getattr(values, name))) if name != "contract" else values.contract.name,
            "meaning": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("setting", "value", "meaning", box=None)
    for row in rows:
        table.add_row(row["name"], row["value"], row["meaning"])
    console.print(table)


@app.command()
@explained
def serve(
    version: Annotated[int | None, typer.Option(min=1, help="By default the version in production.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")] = 8081,
) -> None:
    """Serve a version on this machine as its image would, with /ping and /invocations, until Ctrl-C."""
    import signal

    from churn.release.service import served_here

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server ends with this process
    workspace = Workspace.open()
    promotion = workspace.ledger.in_production(workspace.settings.model_name)
    number = version or (promotion.version if promotion else None)
    if number is None:
        raise ChurnError("Nothing is in production. Start a run first, or name a version with --version.")
    if workspace.ledger.version(workspace.settings.model_name, number) is None:
        raise ChurnError(
            f"Version {number} of {workspace.settings.model_name} does not exist. `churn history` lists the versions that have been in "
            f"production, and {version_page(workspace.settings.mlflow_ui, workspace.settings.model_name)} lists all."
        )
    with served_here(number, workspace, workspace.image_spec.lock, port) as url:
        console.print(f"Version {number} answers at {url}/ping and {url}/invocations. Ctrl-C ends it.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            console.print("Ended.")


@local_app.command("run")
@explained
def local_run(
    data: Annotated[Path | None, typer.Option(help="Your own file, instead of the sample.")] = None,
    nights: Nights = 3,
    verbose: Verbose = False,
) -> None:
    """Start the services, land the next nightly files, run them through Airflow, and print the results."""
    from churn.local.main_job import run_main_job

    if not run_main_job(console, data, nights, verbose):
        raise typer.Exit(1)


@local_app.command("start")
@explained
def local_start() -> None:
    """Start Airflow and MLflow, or reuse them if they are running."""
    from churn.local.main_job import start_services

    start_services(console)


@local_app.command("stop")
@explained
def local_stop() -> None:
    """Stop every process that was started."""
    from churn.local.services import stop

    console.print(f"Stopped {stop()} processes.")


def main() -> None:
    """Set up logging to standard error, then run the command."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads leave the cores to others
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("alembic", "httpx", "great_expectations", "mlflow", "botocore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(
        logging.ERROR
    )  # retries are warnings, and the last failure is an error of ours
    if sys.argv[1:] and "--help" not in sys.argv:
        from churn.local.preparation import prepare_checkout

        prepare_checkout()
    app()


def _print_run(workspace: Workspace, summary: RunSummary, verbose: bool) -> None:
    from churn.pipeline.summary import render_links, render_run

    console.print(render_run(summary, workspace.contract, verbose))
    console.print(render_links(summary.links), markup=False, soft_wrap=True)


def _print_status(
    workspace: Workspace,
    state: dict[str, Any],
    promotion: Promotion | None,
    image: ImageRecord | None,
    last: DecisionRecord | None,
    verbose: bool,
) -> None:
    from churn.pipeline.summary import image_line, metrics_table, production_line, render_links, rule_lines

    console.print(production_line(promotion), soft_wrap=True)
    console.print(image_line(image, verbose), soft_wrap=True)
    if last is None:
        console.print("Last verdict: none yet.")
        _print_run_without_verdict(state["run_without_verdict"])
    else:
        console.print(f"Last verdict: {last.verdict} ({last.code}) in run {last.night}.", markup=False, soft_wrap=True)
        console.print(f"  {last.sentence}", markup=False, soft_wrap=True)
        _print_run_without_verdict(state["run_without_verdict"])
        console.print(metrics_table(last, workspace.contract))
        console.print(rule_lines(last, verbose), soft_wrap=True)
        console.print(render_links(state["links"]), markup=False, soft_wrap=True)
    if state["frozen"]:
        console.print(
            f"Automatic promotion: off ({state['frozen']}). Next: `churn unfreeze --reason ...`", markup=False
        )
    for night in state["waits_for_approval"]:
        console.print(f'Waiting for a person: churn approve "{night}" --reason ...', markup=False)
    undecided = (
        " Some accepted rows have not been used in a decision; the next run uses them." if state["undecided"] else ""
    )
    waiting = state["waiting_batches"]
    console.print(f"Waiting: {waiting} {'file' if waiting == 1 else 'files'}.{undecided}")
    up = [service for service in state["services"] if service["healthy"]]
    down = [service["name"] for service in state["services"] if not service["healthy"]]
    for service in state["services"] if verbose else []:
        console.print(f"  {service['name']}: {'healthy' if service['healthy'] else 'down'} {service['url'] or ''}")
    healthy = f"{len(up)} healthy" if up else "not running"
    console.print(f"Local services: {healthy}" + (f", down: {', '.join(down)}" if down and up else ""))
    for problem in state["problems"]:
        console.print(f"Problem: {problem}", style="red", markup=False, soft_wrap=True)


def _print_run_without_verdict(text: str | None) -> None:
    if text:
        console.print(f"Last run: {text}", style="yellow", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
