"""`churn ...`: the command line. Each command is one call into the core, and a way to read its result."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from churn.cli.data import audit, batches_app, quarantine_app, snapshot_app
from churn.cli.decisions import policy_app, replay, simulate
from churn.cli.images import image_app as image_commands
from churn.cli.production import alerts, approve, history, maintain, prune, reconcile, report, rollback, unfreeze
from churn.cli.terminal import AsJson, console, explained, named_now, print_json, who
from churn.errors import ChurnError, stated
from churn.pipeline.workspace import Request, Workspace
from churn.settings import HOME, VAR, Settings, environment_name, masked

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Nightly churn retraining: validate, train, compare, promote, ship.",
)
embedded_app = typer.Typer(no_args_is_help=True, help="The local Airflow and MLflow of `make run`.")
app.add_typer(embedded_app, name="embedded")
app.add_typer(batches_app, name="batches")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(snapshot_app, name="snapshot")
app.add_typer(policy_app, name="policy")
app.add_typer(image_commands, name="image")
for command in (
    audit,
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
Nights = Annotated[int, typer.Option(min=1, max=365, help="Cut the file into so many nightly files, in its own order.")]


@app.command()
@explained
def sample(
    folder: Annotated[Path, typer.Option(help="Where the files of the sample go.")] = HOME / "data" / "sample",
    file: Annotated[Path | None, typer.Option(help="Make this one file instead, as the options below say.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the file.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same file.")] = 1,
    older_share: Annotated[float, typer.Option(min=0, max=1, help="Drift: share of customers of 45 and older.")] = 0.2,
    faults: Annotated[int, typer.Option(min=0, help="Rows with a planted fault.")] = 0,
    turned_round: Annotated[bool, typer.Option(help="Those leave who elsewhere stay: a file to be disputed.")] = False,
) -> None:
    """Make the sample: three nights of synthetic customers, always the same; or one file of your choice."""
    from churn.local.services import ensure_secrets
    from churn.sample.generator import Night, make_night, write_sample

    ensure_secrets()  # the settings ask for the salt, which the sample does not need
    contract = Settings.load().contract
    if file is None:
        made = write_sample(contract, folder)
    else:
        night = Night(rows, 10_000_000 + seed * 1_000_000, seed, older_share, faults, turned_round)
        file.write_text(make_night(contract, night))
        made = [file]
    for one in made:
        console.print(f"{one} ({one.stat().st_size / 1024:.0f} KiB)", soft_wrap=True)


@app.command()
@explained
def land(
    file: Annotated[Path, typer.Argument(help="A CSV file of the contract's columns.")],
    nights: Nights = 1,
    night: Annotated[int, typer.Option(min=1, help="Which of the nightly files to land.")] = 1,
) -> None:
    """Put a file into landing, complete or not at all; with --nights, one nightly part of it."""
    from churn.intake.arrival import land_file
    from churn.sample.generator import cut_into_nights

    parts = cut_into_nights(file, nights, VAR / "nights") if nights > 1 else [file]
    if night > len(parts):
        raise ChurnError(f"--night {night}: there are {len(parts)} nights. Give one from 1 to {len(parts)}.")
    console.print(f"Landed {land_file(Workspace.open().storage, parts[night - 1])}", soft_wrap=True)


@app.command()
@explained
def run(
    retrain: Annotated[bool, typer.Option(help="Train although nothing arrived.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Decide, and change nothing in production.")] = False,
    note: Annotated[str | None, typer.Option(help="Shown with the decision; no customer data.")] = None,
    night: Annotated[str | None, typer.Option(help="Name of the night; the same name again repeats nothing.")] = None,
    approval: Annotated[bool, typer.Option(help="Wait for `churn approve` before a promotion.")] = False,
    force: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Promote whatever the policy says, for this reason; integrity excepted."),
    ] = None,
) -> None:
    """Run the whole night in this process, without Airflow."""
    from churn.pipeline.steps import run_night, summarise

    workspace = Workspace.open()
    request = Request(
        night=night or named_now("cli"),
        retrain=retrain,
        dry_run=dry_run,
        note=note,
        approval=approval,
        force_reason=None if force is None else stated(force),
        requested_by=who(),
    )
    try:
        run_night(workspace, request)
    finally:
        if workspace.ledger.decision(request.night):
            _print_night(workspace, summarise(workspace, request.night))


@app.command()
@explained
def status(as_json: AsJson = False) -> None:
    """What is in production, the last verdict, and whether registry, ledger and image agree."""
    from churn.local.services import status as services
    from churn.pipeline.steps import find_disagreements, has_work
    from churn.release.withdrawal import say_flags

    workspace = Workspace.open()
    promotion = workspace.ledger.in_production(workspace.settings.model_name)
    image = (
        workspace.ledger.image(workspace.settings.model_name, promotion.version)
        if promotion and promotion.version
        else None
    )
    last = next(iter(workspace.ledger.decisions(limit=1)), None)
    try:
        problems = find_disagreements(workspace)
    except ChurnError as error:
        problems = [str(error)]
    if promotion and promotion.version:
        problems += say_flags(promotion.version, workspace.ledger, workspace.settings.model_name)
    if last and promotion and last.champion == promotion.version:
        problems += [f"Champion {last.champion}: {rule['sentence']}" for rule in last.watch if not rule["passed"]]
    freeze = workspace.ledger.freeze(workspace.settings.model_name)
    found = {
        "in_production": promotion and asdict(promotion),
        "image": image and asdict(image),
        "last_decision": last
        and {"night": last.night, "verdict": last.verdict, "code": last.code, "sentence": last.sentence},
        "frozen": freeze and f"{freeze.kind} of version {freeze.previous}: {freeze.reason}",
        "waits_for_approval": [one.night for one in workspace.ledger.open_decisions(workspace.settings.model_name)],
        "undecided": has_work(workspace.ledger),
        "waiting_batches": len(workspace.ledger.batches(state="arrived")) + len(workspace.storage.landed()),
        "services": [asdict(service) for service in services()],
        "problems": problems,
    }
    if as_json:
        print_json(found)
    else:
        _print_status(found)
    if problems:
        raise typer.Exit(1)


@app.command()
@explained
def settings(as_json: AsJson = False) -> None:
    """Every setting, its value now, and what it means; the salt is hidden."""
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
    version: Annotated[int | None, typer.Option(min=1, help="By default the one in production.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")] = 8081,
) -> None:
    """Serve a version on this machine as its image would: /ping and /invocations, until Ctrl-C."""
    import signal

    from churn.release.service import served_here

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended either way, the server ends too
    workspace = Workspace.open()
    promotion = workspace.ledger.in_production(workspace.settings.model_name)
    number = version or (promotion.version if promotion else None)
    if number is None:
        raise ChurnError("Nothing is in production. Run a night first, or name a version with --version.")
    with served_here(number, workspace, workspace.image_spec.lock, port) as url:
        console.print(f"Version {number} answers at {url}/ping and {url}/invocations. Ctrl-C ends it.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            console.print("Ended.")


@embedded_app.command("run")
@explained
def embedded_run(
    data: Annotated[Path | None, typer.Option(help="A CSV file of your own, instead of the sample.")] = None,
    nights: Nights = 3,
) -> None:
    """Start the services, land the next nights, run them through Airflow, and say what came out."""
    from churn.local.main_job import run_main_job

    if not run_main_job(console, data, nights):
        raise typer.Exit(1)


@embedded_app.command("start")
@explained
def embedded_start() -> None:
    """Start Airflow and MLflow, or reuse those that run."""
    from churn.local.main_job import start_services

    start_services(console)


@embedded_app.command("stop")
@explained
def embedded_stop() -> None:
    """End every process that start made."""
    from churn.local.services import stop

    console.print(f"Ended {stop()} processes.")


def main() -> None:
    """Entry point: logging to standard error, then the command."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to others
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("alembic", "httpx", "great_expectations", "mlflow", "botocore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    app()


def _print_night(workspace: Workspace, summary: Any) -> None:
    from churn.pipeline.summary import render_links, render_night

    console.print(render_night(summary, workspace.contract))
    console.print(render_links(summary.links), markup=False, soft_wrap=True)


def _print_status(found: dict[str, Any]) -> None:
    now, image, last = found["in_production"], found["image"], found["last_decision"]
    console.print(
        f"In production: version {now['version']} since {now['promoted_at']}"
        if now and now["version"]
        else "In production: nothing"
    )
    console.print(
        f"Its image: {image['detail'] if image['state'] == 'not_built' else image['state'] + ' - ' + image['detail']}"
        if image
        else "Its image: no state"
    )
    console.print(
        f"Last verdict: {last['verdict']} ({last['code']}) in night {last['night']}: {last['sentence']}"
        if last
        else "Last verdict: none yet"
    )
    if found["frozen"]:
        console.print(f"Automatic promotion: off ({found['frozen']}). `churn unfreeze --reason ...`", markup=False)
    for night in found["waits_for_approval"]:
        console.print(f'Waits for a person: churn approve "{night}" --reason ...', markup=False)
    undecided = "; rows that no decision has seen: the next night takes them" if found["undecided"] else ""
    console.print(f"Waiting: {found['waiting_batches']} file(s){undecided}")
    for service in found["services"]:
        console.print(f"{service['name']}: {'healthy' if service['healthy'] else 'down'} {service['url'] or ''}")
    for problem in found["problems"]:
        console.print(f"Problem: {problem}", style="red", markup=False)


if __name__ == "__main__":
    main()
