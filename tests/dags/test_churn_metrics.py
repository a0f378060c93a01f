"""The pipeline's own metrics reach a server on loopback with Airflow's settings alone: StatsD or OpenTelemetry."""

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
metrics.measure_batch(None, "a ledger that is unavailable")
deltas = {"roc_auc": {"value": 0.0146}, "brier": {"value": -0.002}}
metrics.measure_decision(Row(verdict="promote", comparison={"evidence": {"deltas": deltas}}))
metrics.measure_decision(Row(verdict="hold", comparison={"unreadable": True}))
metrics.measure_image(Row(seconds=12.5))
metrics.measure_image(Row(seconds=None))
summary = {"expected_value": 61.5, "drift": {"scores": 0.25}}
metrics.measure_list(Row(arrived_rows=103, rows=100, quarantined_rows=3, contact=9, control=1, summary=summary))
sent = [Row(target="drop", state="failed", rows=None), Row(target="database", state="delivered", rows=100)]
for target in ("database", "drop", "nowhere"):
    metrics.measure_delivery(Row(deliveries=lambda list_id: sent), "a list", target)
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
    "churn.scores.arrived",
    "churn.scores.scored",
    "churn.scores.quarantined",
    "churn.scores.contact",
    "churn.scores.control",
    "churn.scores.expected_value",
    "churn.scores.drift",
    "churn.deliveries.database.delivered",
    "churn.deliveries.database.rows",
    "churn.deliveries.drop.failed",
    "churn.deliveries.drop.rows",
    "churn.duration.night",
}


def measure(folder: Path, **switches: str) -> None:
    """Measure in a separate process with Airflow's settings; it must succeed whether or not the metrics can be sent."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__METRICS__", "OTEL_"))
    }
    environment = inherited | {"AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__UNIT_TEST_MODE": "False"} | switches
    command = [sys.executable, "-c", MEASURE]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert "done" in ran.stdout, ran.stderr[-2000:]


def collect_statsd(folder: Path, **switches: str) -> list[str]:
    """Measure, and return the lines that a StatsD server on loopback receives."""
    received: list[str] = []
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
                received += server.recv(65_536).decode().splitlines()
            except BlockingIOError:
                return received


def test_statsd_receives_every_metric(tmp_path: Path) -> None:
    """With its value; a negative difference is sent as a value, not as a decrement."""
    sent = collect_statsd(tmp_path, AIRFLOW__METRICS__STATSD_ON="True")
    lines = [line.removeprefix("airflow.") for line in sent if line.startswith("airflow.churn.")]
    assert {line.split(":")[0] for line in lines} == NAMES
    assert {"churn.rows.arrived:200|g", "churn.rows.set_aside:10|g", "churn.rejected_share:0.05|g"} <= set(lines)
    assert {"churn.delta.roc_auc:0.0146|g", "churn.verdicts.promote:1|c"} <= set(lines)
    assert "churn.image.build_seconds:12.5|g" in lines
    assert {"churn.scores.contact:9|g", "churn.scores.drift:0.25|g", "churn.deliveries.drop.failed:1|c"} <= set(lines)
    assert [line for line in lines if "brier" in line] == ["churn.delta.brier:0|g", "churn.delta.brier:-0.002|g"]
    (night,) = [line for line in lines if line.startswith("churn.duration.night:")]
    assert night.startswith("churn.duration.night:90")
    assert night.endswith("|ms")


def test_opentelemetry_receives_every_metric(tmp_path: Path) -> None:
    """By OTLP over HTTP, at the latest when the process ends, because the process of a task is short-lived."""
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


def test_nothing_is_sent_when_metrics_are_off(tmp_path: Path) -> None:
    """Without the setting, a configured server receives nothing, and nothing fails."""
    assert collect_statsd(tmp_path) == []
