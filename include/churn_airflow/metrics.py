"""The pipeline's own metrics, sent through Airflow's metrics client: StatsD, OpenTelemetry or nothing, as Airflow is configured.

Metric names have no tags, because plain StatsD does not support them. A metric that cannot be sent does not fail a task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

from churn_airflow.airflow_compat import Stats

if TYPE_CHECKING:
    from churn.foundation.ledger import Ledger
    from churn.foundation.records import DecisionRecord, ScoreList
    from churn.release.image import BuiltImage

P = ParamSpec("P")
log = logging.getLogger(__name__)


def _harmless(measure: Callable[P, None]) -> Callable[P, None]:
    @wraps(measure)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            measure(*args, **kwargs)
        except Exception as error:  # a metrics client may raise anything
            log.warning("%s: metrics were not sent: %s", measure.__name__, error)

    return wrapper


@_harmless
def measure_batch(ledger: Ledger, name: str) -> None:
    """Send the numbers of rows of a batch, and the share that was quarantined; nothing for a batch not validated yet."""
    batch = ledger.batch(name)
    if batch is None or batch.arrived_rows is None:
        return
    Stats.incr(f"churn.batches.{batch.state}")
    counts = {"arrived": batch.arrived_rows, "accepted": batch.accepted_rows, "set_aside": batch.quarantined_rows}
    for outcome, rows in counts.items():
        Stats.gauge(f"churn.rows.{outcome}", rows or 0)
    Stats.gauge("churn.rejected_share", (batch.quarantined_rows or 0) / max(batch.arrived_rows, 1))


@_harmless
def measure_decision(decision: DecisionRecord) -> None:
    """Send the verdict, and the difference of each metric (challenger - champion)."""
    Stats.incr(f"churn.verdicts.{decision.verdict}")
    for metric, delta in decision.comparison["evidence"]["deltas"].items():
        Stats.gauge(f"churn.delta.{metric}", delta["value"])


@_harmless
def measure_image(built: BuiltImage) -> None:
    """Send how long the build took; nothing if no image was built."""
    if built.seconds is not None:
        Stats.gauge("churn.image.build_seconds", built.seconds)


@_harmless
def measure_list(row: ScoreList) -> None:
    """Send the counts of a published list, its expected value, and the drift of its scores."""
    counts = {
        "arrived": row.arrived_rows,
        "scored": row.rows,
        "quarantined": row.quarantined_rows,
        "contact": row.contact,
        "control": row.control,
    }
    for outcome, customers in counts.items():
        Stats.gauge(f"churn.scores.{outcome}", customers)
    Stats.gauge("churn.scores.expected_value", row.summary["expected_value"])
    Stats.gauge("churn.scores.drift", row.summary["drift"]["scores"] or 0.0)


@_harmless
def measure_delivery(ledger: Ledger, list_id: str, target: str) -> None:
    """Send the state of the delivery of a list to a target, and the number of its rows; nothing if there is none."""
    latest = next((row for row in ledger.deliveries(list_id) if row.target == target), None)
    if latest:
        Stats.incr(f"churn.deliveries.{target}.{latest.state}")
        Stats.gauge(f"churn.deliveries.{target}.rows", latest.rows or 0)


@_harmless
def measure_duration(step: str, started_at: datetime | None) -> None:
    """Send how long a step, or the whole run (`night`), has taken so far."""
    if started_at is not None:
        Stats.timing(f"churn.duration.{step}", datetime.now(UTC) - started_at)
