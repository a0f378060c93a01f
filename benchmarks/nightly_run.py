"""`make bench`: how long the night, the DAG files and the start take. Prints figures and ratios; asserts nothing.

A night through the local Airflow is compared with the same core calls in one plain process, each of them in a data
root, ledger and registry of its own, the image apart on both sides. Everything is made in a temporary folder and on
free ports, so what `make run` started is left alone; all that is started here is ended, Ctrl-C included.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from churn.contracts.bank import BANK_CHURN
from churn.intake.arrival import land_file
from churn.local import services
from churn.local.airflow_api import FINAL, AirflowApi
from churn.local.main_job import IMAGE_BUILD, RETRAINING
from churn.local.services import Place
from churn.pipeline.workspace import Workspace
from churn.sample.generator import Night
from churn.settings import Settings
from reporting import Figure, console, say
from support.basics import ROOT, free_port, make_night, mlflow_server  # the caller's settings are kept out

ROUNDS = 3
ROWS = 10_000
NIGHT_TIMEOUT = 180
NIGHTS = {
    "first night": Night(rows=ROWS, first_customer=1, seed=1),
    "night with a champion": Night(rows=ROWS, first_customer=100_001, seed=2, older_share=0.5),
}
PLAIN_RUN = """
import sys
from churn.errors import NothingToDo
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace

workspace, request = Workspace.open(), Request(sys.argv[1])
for batch in steps.arrive(workspace, request).batches:
    steps.validate(workspace, request, batch.batch)
steps.compare(workspace, request, steps.train(workspace, request))
try:
    steps.promote(workspace, request.night)
except NothingToDo:
    pass
steps.close(workspace, request)
"""
"""What the DAG does, image apart, as one process."""
PARSE = """
import sys, time
sys.path[:0] = ["dags"]
exec(sys.argv[2])
began = time.perf_counter()
__import__(sys.argv[1])
print(time.perf_counter() - began)
"""

Timed = dict[str, list[float]]


def main() -> None:
    """Measure, print, and leave nothing behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        home = Path(folder)
        os.environ["AIRFLOW_HOME"] = str(home / "airflow")  # of the parsing; the services get one of their own
        files = _write_nights(home)
        say("DAG files")
        parsed = {file.stem: median([_parse(file) for _ in range(ROUNDS)]) for file in sorted(ROOT.glob("dags/*.py"))}
        plain = _time_plain(home / "plain", files)
        starts, through = _time_airflow(home / "airflow-side", files)
    show(parsed, plain, through, starts)


def median(seconds: list[float]) -> float:
    return statistics.median(seconds)


def show(parsed: dict[str, float], plain: Timed, through: Timed, starts: list[float]) -> None:
    table = Table("what", "goal", "figure", title=f"median of {ROUNDS}; {ROWS:,} rows a night; {os.cpu_count()} cores")
    for figure in [
        *(_night_figure(name, plain[name], through[name]) for name in NIGHTS),
        *(
            Figure(f"parse dags/{name}.py, Airflow's import apart", "< 0.5 s", f"{s:.2f} s")
            for name, s in parsed.items()
        ),
        Figure("start to healthy, new / again", "", " / ".join(f"{seconds:.1f} s" for seconds in starts)),
    ]:
        table.add_row(figure.what, figure.goal, figure.figure)
    console.print(table)


def _night_figure(name: str, plain: list[float], through: list[float]) -> Figure:
    ratio = median(through) / median(plain)
    return Figure(
        f"{name}: Airflow / plain",
        "<= 3",
        f"{ratio:.2f} ({median(through):.1f} s / {median(plain):.1f} s; "
        f"{min(through):.1f}-{max(through):.1f} / {min(plain):.1f}-{max(plain):.1f})",
    )


def _write_nights(home: Path) -> dict[str, Path]:
    files = {}
    for name, night in NIGHTS.items():
        files[name] = home / f"{name.replace(' ', '-')}.csv"
        files[name].write_text(make_night(BANK_CHURN, night))
    return files


# DAG files ----------------------------------------------------------------------------------------


def _parse(file: Path) -> float:
    """Seconds of one DAG file in a fresh interpreter that has Airflow loaded."""
    command = [sys.executable, "-c", PARSE, file.stem, _airflow_imports(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _airflow_imports(file: Path) -> str:
    """The imports of Airflow that the DAG file and our plugins make when they load."""
    sources = [file, *sorted(ROOT.glob("include/churn_airflow/**/*.py"))]
    nodes = [node for source in sources for node in ast.parse(source.read_text()).body]
    imports = [
        node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("airflow.")
    ]
    return "\n".join(map(ast.unparse, imports))


# Nights -------------------------------------------------------------------------------------------


def _time_plain(home: Path, files: dict[str, Path]) -> Timed:
    """Each night as one process, from its start to its end, with an MLflow server at its side."""
    home.mkdir()
    with mlflow_server(home, f"sqlite:///{home}/mlflow.db", str(home / "artifacts")) as url:
        os.environ["MLFLOW_TRACKING_URI"] = url

        def run(night: str, _: Workspace) -> None:
            subprocess.run([sys.executable, "-W", "ignore", "-c", PLAIN_RUN, night], check=True, capture_output=True)

        return _time_nights("plain", home, files, run)


def _time_airflow(home: Path, files: dict[str, Path]) -> tuple[list[float], Timed]:
    """Seconds of two starts, and of each night from its trigger to its final state."""
    place = Place(var=home / "var")
    home.mkdir()
    os.environ |= {"CHURN_AIRFLOW_PORT": str(free_port()), "CHURN_MLFLOW_PORT": str(free_port())}
    os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{os.environ['CHURN_MLFLOW_PORT']}"
    _use(home)
    try:
        starts = []
        for _ in range(2):
            say("start of the services")
            services.stop(place)
            began = time.monotonic()
            services.start(Settings.load(), lambda _: None, place)
            starts.append(time.monotonic() - began)
        settings = Settings.load()
        services.wait_for_dags(settings, (RETRAINING, IMAGE_BUILD), place=place)
        api = services.airflow_api(settings, place)
        # The image apart: its runs are triggered, and wait.
        api._call("PATCH", f"/api/v2/dags/{IMAGE_BUILD}", json={"is_paused": True})
        return starts, _time_nights("Airflow", home, files, lambda night, _: _run_dag(api, night))
    finally:
        services.stop(place)


def _time_nights(side: str, home: Path, files: dict[str, Path], run: Callable[[str, Workspace], None]) -> Timed:
    """The nights in turn, each round from nothing: no data, no ledger, no registered model."""
    _use(home)
    seconds: Timed = {name: [] for name in files}
    for number in range(ROUNDS):
        workspace = _begin_anew(home)
        for name, file in files.items():
            say(f"{side}, round {number + 1} of {ROUNDS}: {name}")
            land_file(workspace.storage, file)
            night = f"{number}-{file.stem}__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
            began = time.monotonic()
            run(night, workspace)
            seconds[name].append(time.monotonic() - began)
            _check(workspace, night, name)
    return seconds


def _use(home: Path) -> None:
    """The settings of one side, in the environment, where its processes read them."""
    os.environ |= {"CHURN_DATA_ROOT": str(home / "data"), "CHURN_LEDGER_URL": f"sqlite:///{home}/ledger.db"}


def _begin_anew(home: Path) -> Workspace:
    import mlflow
    from mlflow.exceptions import MlflowException

    shutil.rmtree(home / "data", ignore_errors=True)
    for file in home.glob("ledger.db*"):
        file.unlink()
    workspace = Workspace.open(Settings.load())
    try:
        mlflow.MlflowClient(workspace.settings.mlflow_tracking_uri).delete_registered_model(
            workspace.settings.model_name
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return workspace


def _check(workspace: Workspace, night: str, name: str) -> None:
    """A figure of a night that did something else would mislead."""
    decision = workspace.ledger.decision(night)
    if decision is None or (decision.champion is None) != (name == "first night"):
        sys.exit(f"bench: night {night} did not end as a {name}: {decision}")


def _run_dag(api: AirflowApi, night: str) -> None:
    """Trigger, and ask often: the state is final when the figure ends."""
    api.trigger(RETRAINING, night, {})
    deadline = time.monotonic() + NIGHT_TIMEOUT
    while (state := api.run_state(RETRAINING, night)) not in FINAL:
        if time.monotonic() > deadline:
            sys.exit(f"bench: night {night} is {state} after {NIGHT_TIMEOUT} s")
        time.sleep(0.2)
    if state != "success":
        sys.exit(f"bench: night {night} failed")


if __name__ == "__main__":
    main()
