"""Measure the review over ten years of nights, behind Airflow's own guard, against an empty route of the same application.

Each page is asked for so often that its slowest tenth can be said; the ledger is SQLite, the readers are this process.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

HOME = tempfile.mkdtemp(prefix="churn-bench-review-")
os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(Path(__file__).parents[1] / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    "AIRFLOW__API_AUTH__JWT_SECRET": "s" * 64,
}

from urllib.parse import quote  # noqa: E402

from fastapi import FastAPI  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from support.review_ledger import NOW, batch_hash, fill_ledger  # noqa: E402 -- after the environment is set

NIGHTS, TIMES = 3650, 40
MOST_MS, MOST_BYTES = 300, 100_000
Sample = tuple[float, float, int]


def main() -> int:
    """Print the table; the exit status says whether every page is within its limits."""
    console = Console()
    folder = Path(HOME)
    (folder / "data").mkdir()
    os.environ |= {
        "CHURN_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
        "CHURN_DATA_ROOT": str(folder / "data"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    began = time.perf_counter()
    fill_ledger(os.environ["CHURN_LEDGER_URL"], NIGHTS)
    console.print(
        f"A ledger of {NIGHTS:,} nights, {(folder / 'ledger.db').stat().st_size / 1e6:.0f} MB, made in {time.perf_counter() - began:.0f} s."
    )
    client, headers = _airflow()
    night = quote(f"scheduled__{NOW.replace(hour=2).isoformat()}", safe="")
    old = quote(NOW.replace(year=2018).isoformat(), safe="")
    pages = {
        "an empty route": "/empty/",
        "overview": "/churn-review/",
        "nights": "/churn-review/nights",
        "nights, eight years back": f"/churn-review/nights?before={old}",
        "night": f"/churn-review/night?name={night}",
        "two nights": f"/churn-review/compare?left={night}&right={night}",
        "data": "/churn-review/data",
        "batch": f"/churn-review/batch?hash={batch_hash(NIGHTS // 2)}",
        "images": "/churn-review/images",
    }
    measured = {name: _measure(client, path, headers) for name, path in pages.items()}
    empty = measured["an empty route"][0]
    table = Table("page", "median, ms", "slowest tenth, ms", "to an empty route", "kB", box=None)
    for name, (median, slow, size) in measured.items():
        table.add_row(name, f"{median:.1f}", f"{slow:.1f}", f"{median / empty:.1f}", f"{size / 1000:.1f}")
    console.print(table)
    late = [name for name, (_, slow, size) in measured.items() if slow > MOST_MS or size > MOST_BYTES]
    console.print(
        f"Limits: {MOST_MS} ms, {MOST_BYTES / 1000:.0f} kB. " + (f"Beyond them: {late}" if late else "All within.")
    )
    return bool(late)


def _airflow() -> tuple[TestClient, dict[str, str]]:
    """Airflow's application with our plugin and an empty route beside it, and a viewer's token."""
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.utils.db import initdb

    initdb()
    app, empty = create_app(apps="core"), FastAPI()
    empty.get("/")(_nothing)
    app.mount("/empty", empty)
    app.router.routes.insert(0, app.router.routes.pop())  # before Airflow's own, which answers to everything
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="vera", role="VIEWER"))
    return TestClient(app), {"Authorization": f"Bearer {token}", "accept": "text/html"}


def _nothing() -> dict[str, str]:
    return {}


def _measure(client: TestClient, path: str, headers: dict[str, str]) -> Sample:
    """Median and ninth decile of the seconds, in ms, and the bytes of an answer."""
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        answer = client.get(path, headers=headers)
        took.append((time.perf_counter() - began) * 1000)
        answer.raise_for_status()
    return statistics.median(took[1:]), statistics.quantiles(took[1:], n=10)[-1], len(answer.content)


if __name__ == "__main__":
    sys.exit(main())
