"""What `make run` does: land the next nightly files, run them through the local Airflow, and print the results."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from churn.checkout import HOME
from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.links import IMAGE_BUILD, RETRAINING, SCORING, night_page, scores_page
from churn.intake.arrival import land_file
from churn.local import services
from churn.local.airflow_api import AirflowApi, TaskState
from churn.pipeline.disagreements import find_disagreements
from churn.pipeline.scoring_runs import current_list, describe_list, describe_place
from churn.pipeline.steps import has_work, summarise
from churn.pipeline.summary import render_links, render_run
from churn.pipeline.workspace import Workspace
from churn.sample.generator import cut_into_nights, write_sample
from churn.settings import VAR, Settings

SAMPLE = HOME / "data" / "sample"
FIRST_TIME = 2
NIGHT_TIMEOUT = 3600
COLOURS = {
    "success": "green",
    "failed": "red",
    "upstream_failed": "red",
    "skipped": "magenta",
    "running": "cyan",
    "up_for_retry": "yellow",
}
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")  # for the id of a run in Airflow
MARKS = {"success": "done", "upstream_failed": "not run", "up_for_retry": "failed, will be retried"}


def run_main_job(console: Console, data: Path | None, nights: int, verbose: bool = False) -> bool:
    """Do the next runs end to end.

    Args:
        console: prints progress and summaries.
        data: the user's own file, which is cut into nightly files; None for the sample.
        nights: number of nightly files to cut it into.
        verbose: print every rule, and not only those that failed.

    Returns:
        Whether each run recorded a verdict, customers were scored, and MLflow registry, ledger and image agree afterwards.

    Raises:
        ChurnError: the services do not start, or the file cannot be cut.
    """
    services.ensure_secrets()
    settings = Settings.load()
    local = {
        "mlflow_tracking_uri": f"http://{services.HOST}:{settings.mlflow_port}"
    }  # the only one that the services use
    workspace = Workspace.open(settings.model_copy(update=local))
    files = cut_into_nights(data, nights, VAR / "nights") if data else sample_files(workspace.contract, VAR / "sample")
    upcoming = _upcoming(console, workspace.ledger, files, data)
    start_services(console)
    api = services.airflow_api(workspace.settings)
    succeeded = True
    for run in api.active_runs(RETRAINING):  # such as one that was due while the services were stopped
        console.print(f"\nWaiting for the run {run}, which is already going on.", soft_wrap=True)
        _follow(console, api, RETRAINING, run)
    if has_work(workspace):
        console.print("\nAn earlier run ended without a verdict. This run uses its data first.")
        succeeded &= _run(console, workspace, api, None, verbose)
    for file in upcoming:
        succeeded &= _run(console, workspace, api, file, verbose)
    if not upcoming:
        succeeded &= not _print_rejected(console, workspace.ledger, files)
    succeeded &= _show_list(console, workspace, api)
    problems = find_disagreements(workspace)
    for problem in problems:
        console.print(f"Problem: {problem}", style="red", markup=False)
    _print_places(console, workspace.settings)
    return succeeded and not problems


def sample_files(contract: Contract, folder: Path) -> list[Path]:
    """The nightly files of the sample: those that ship, or under another contract some that are drawn from it."""
    if contract.fingerprint == BANK_CHURN.fingerprint:
        return sorted(SAMPLE.glob("*.csv"))
    return write_sample(contract, folder / contract.fingerprint)


def start_services(console: Console) -> None:
    """Start Airflow and MLflow, or reuse them if they are running, and wait until the DAGs are parsed."""
    services.ensure_secrets()
    settings = Settings.load()
    services.start(settings, console.print)
    services.wait_for_dags(settings, (RETRAINING, IMAGE_BUILD, SCORING))


def _upcoming(console: Console, ledger: Ledger, files: list[Path], data: Path | None) -> list[Path]:
    """The nightly files that have not been accepted yet: of the sample the first two, and then one per call."""
    waiting = [file for file in files if ledger.batch(_sha256(file)) is None]
    if not waiting:
        source = str(data) if data else "the sample"
        console.print(
            f"All {len(files)} nights of {source} have been run. Next: `make run DATA=file.csv NIGHTS=3` for your own file, or `make clean` to start over.",
            soft_wrap=True,
        )
    elif data and _has_other(ledger, files):
        console.print(
            "The data root already has other batches, and this file adds to them. Run `make clean` first to see it alone.",
            style="yellow",
        )
    if data:
        return waiting
    return waiting[: FIRST_TIME if len(waiting) == len(files) else 1]


def _print_rejected(console: Console, ledger: Ledger, files: list[Path]) -> bool:
    """Repeat why files of an earlier call were rejected; returns whether there are any."""
    batches = [ledger.batch(_sha256(file)) for file in files]
    reasons = [batch.reason for batch in batches if batch and batch.state == "rejected" and batch.reason]
    for reason in reasons:
        console.print(f"Problem: {reason}", style="red", markup=False, soft_wrap=True)
    return bool(reasons)


def _has_other(ledger: Ledger, files: list[Path]) -> bool:
    ours = {_sha256(file) for file in files}
    return any(batch.batch not in ours for batch in ledger.batches())


def _run(console: Console, workspace: Workspace, api: AirflowApi, file: Path | None, verbose: bool) -> bool:
    """Land a file if there is one, trigger, follow and summarise; False if no verdict was recorded or a run failed."""
    name = _UNFIT.sub("-", file.stem) if file else "earlier-data"
    run = f"{name}__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    if file:
        console.print(f"\nLanded {land_file(workspace.storage, file)}", soft_wrap=True)
    api.trigger(RETRAINING, run, {})
    began = time.monotonic()
    succeeded, failures = _follow(console, api, RETRAINING, run)
    decision = workspace.ledger.decision(run)
    if decision and decision.verdict == "promote" and succeeded:
        succeeded, failures = _follow(console, api, IMAGE_BUILD, f"image-of-version-{decision.challenger}")
    summary = summarise(workspace, run)
    _print_failures(console, failures, {batch.reason for batch in summary.batches})
    console.print(render_run(summary, workspace.contract, verbose))
    review = {"Review": night_page(workspace.settings, run)}
    links = {**review, **summary.links, "DAG run": f"{workspace.settings.airflow_ui}/dags/{RETRAINING}/runs/{run}"}
    console.print(render_links(links), markup=False, soft_wrap=True)
    console.print(f"The run took {time.monotonic() - began:.0f} s.")
    return succeeded and decision is not None


def _show_list(console: Console, workspace: Workspace, api: AirflowApi) -> bool:
    """Wait for the scoring runs that promotions have triggered, and print the current list; False if one of them failed."""
    succeeded = True
    while runs := api.active_runs(SCORING):
        console.print("\nThe version in production scores the customers.")
        done, failures = _follow(console, api, SCORING, runs[0])
        _print_failures(console, failures, ())
        succeeded &= done
    row = current_list(workspace)
    if row is None:
        console.print("\nNo list of customers to contact has been published yet.")
        return succeeded
    console.print("")
    for line in [*describe_list(row), *describe_place(workspace, row)]:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Review: {scores_page(workspace.settings)}", markup=False, soft_wrap=True)
    return succeeded


def _follow(console: Console, api: AirflowApi, dag: str, run: str) -> tuple[bool, dict[str, str]]:
    """Show each task with its state and time while the run is going on.

    Returns:
        Whether the run succeeded, and the last error of each task that failed.
    """
    last: list[TaskState] = []
    with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:

        def show(tasks: list[TaskState]) -> None:
            if not console.is_terminal:
                _print_changes(console, last, tasks)
            last[:] = tasks
            live.update(_task_table(dag, tasks))

        state = api.follow(dag, run, show, NIGHT_TIMEOUT)
    failures = {_named(task): api.why_failed(dag, run, task) for task in last if task.state == "failed"}
    return state == "success", failures


def _print_failures(console: Console, failures: dict[str, str], printed: Collection[str | None]) -> None:
    """Print why tasks failed, each message once, without those that the summary prints."""
    told = {line for message in printed if message for line in message.splitlines()}
    for task, message in failures.items():
        new = [line for line in message.splitlines() if line not in told]
        told.update(new)
        if new:
            console.print(f"{task}: {' '.join(new)}", style="red", markup=False, soft_wrap=True)


def _task_table(dag: str, tasks: list[TaskState]) -> Table:
    table = Table(dag, "state", box=None, pad_edge=False)
    table.add_column("seconds", justify="right")
    for task in tasks:
        seconds = "" if task.seconds is None else f"{task.seconds:.1f}"
        colour = COLOURS.get(task.state, "dim")
        table.add_row(_named(task), f"[{colour}]{MARKS.get(task.state, task.state)}[/]", seconds)
    return table


def _print_changes(console: Console, before: list[TaskState], now: list[TaskState]) -> None:
    """Where nothing can be redrawn: a line for each task that ended or will be retried."""
    printed = {(task.task, task.map_index, task.state, task.try_number) for task in before}
    for task in now:
        is_new = (task.task, task.map_index, task.state, task.try_number) not in printed
        if is_new and task.state in COLOURS and task.state != "running":
            seconds = f" after {task.seconds:.1f} s" if task.seconds else ""
            console.print(f"  {_named(task)}: {MARKS.get(task.state, task.state)}{seconds}", markup=False)


def _named(task: TaskState) -> str:
    return f"{task.task} {task.label}" if task.label else task.task


def _print_places(console: Console, settings: Settings) -> None:
    console.print(
        f"\nAirflow: {settings.airflow_ui}   user {services.USER}, password {services.airflow_password()}", markup=False
    )
    console.print(f"MLflow:  {settings.mlflow_ui}")
    console.print(
        "The services keep running so that you can look around. `make status` shows their state, `make stop` stops them."
    )


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ChurnError(f"Cannot read {file}: {error.strerror}.") from error
