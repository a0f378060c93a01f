"""The pipeline's own numbers reach a server on loopback by Airflow's switches alone: StatsD or OpenTelemetry."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from support.basics import ROOT

MEASURE = """
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from airflow.sdk.observability.metrics import stats_utils
from airflow.sdk.observability.stats import initialize
from churn_airflow import metrics
initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)  # as every task's process does
batches = {
    "judged": Row(state="accepted", arrived_rows=200, accepted_rows=190, quarantined_rows=10),
    "waiting": Row(state="arrived", arrived_rows=None),
}
for name in ("judged", "waiting", "unknown"):
    metrics.measure_batch(Row(batch=batches.get), name)
metrics.measure_batch(None, "a ledger that is away")
deltas = {"roc_auc": {"value": 0.0146}, "brier": {"value": -0.002}}
metrics.measure_decision(Row(verdict="promote", comparison={"evidence": {"deltas": deltas}}))
metrics.measure_decision(Row(verdict="hold", comparison={"unreadable": True}))
metrics.measure_image(Row(seconds=12.5))
metrics.measure_image(Row(seconds=None))
metrics.measure_duration("night", datetime.now(UTC) - timedelta(seconds=90))
metrics.measure_duration("night", None)
print("done")
"""
NAMES = {
    "churn.batches.accepted",
    "churn.rows.arrived",
    "churn.rows.accepted",
    "churn.rows.set_aside",
    "churn.rejected_share",
    "churn.verdicts.promote",
    "churn.verdicts.hold",
    "churn.delta.roc_auc",
    "churn.delta.brier",
    "churn.image.build_seconds",
    "churn.duration.night",
}


def measure(folder: Path, **switches: str) -> None:
    """Measure in a process of its own, with Airflow's switches; whatever happens to the numbers, it goes on."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__METRICS__", "OTEL_"))}
    environment = mine | {"AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__UNIT_TEST_MODE": "False"} | switches
    command = [sys.executable, "-c", MEASURE]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert "done" in ran.stdout, ran.stderr[-2000:]


def heard(folder: Path, **switches: str) -> list[str]:
    """The lines that a StatsD server on loopback gets."""
    got: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        address = {
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(server.getsockname()[1]),
        }
        measure(folder, **address, **switches)
        while True:
            try:
                got += server.recv(65_536).decode().splitlines()
            except BlockingIOError:
                return got


def test_statsd_gets_every_number(tmp_path: Path) -> None:
    """With their values; a negative difference is a value, not a step down."""
    got = heard(tmp_path, AIRFLOW__METRICS__STATSD_ON="True")
    got = [line.removeprefix("airflow.") for line in got if line.startswith("airflow.churn.")]
    assert {line.split(":")[0] for line in got} == NAMES
    assert {"churn.rows.arrived:200|g", "churn.rows.set_aside:10|g", "churn.rejected_share:0.05|g"} <= set(got)
    assert {"churn.delta.roc_auc:0.0146|g", "churn.verdicts.promote:1|c", "churn.image.build_seconds:12.5|g"} <= set(
        got
    )
    assert [line for line in got if "brier" in line] == ["churn.delta.brier:0|g", "churn.delta.brier:-0.002|g"]
    (night,) = [line for line in got if line.startswith("churn.duration.night:")]
    assert night.startswith("churn.duration.night:90")
    assert night.endswith("|ms")


def test_opentelemetry_gets_every_number(tmp_path: Path) -> None:
    """By OTLP over HTTP, when the process ends at the latest: a task's process does not live long."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        measure(
            tmp_path,
            AIRFLOW__METRICS__OTEL_ON="True",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_address[1]}",
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_COMPRESSION="none",
        )
        server.shutdown()
    sent = b"".join(bodies)
    assert {name for name in NAMES if name.encode() in sent} == NAMES


def test_nothing_is_sent_when_it_is_off(tmp_path: Path) -> None:
    """Without the switch a server that is named hears nothing, and nothing fails."""
    assert heard(tmp_path) == []
