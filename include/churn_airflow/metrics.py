"""The pipeline's own numbers, through Airflow's metrics client: StatsD or OpenTelemetry as Airflow's switches say, else nothing.

Names are whole, without tags, since plain StatsD has none. A number that cannot be sent fails no task.
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
    from churn.foundation.records import DecisionRecord
    from churn.release.image import BuiltImage

P = ParamSpec("P")
log = logging.getLogger(__name__)


def _harmless(measure: Callable[P, None]) -> Callable[P, None]:
    @wraps(measure)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            measure(*args, **kwargs)
        except Exception as error:  # whatever a metrics client may raise
            log.warning("%s: no metrics: %s", measure.__name__, error)

    return wrapper


@_harmless
def measure_batch(ledger: Ledger, name: str) -> None:
    """Rows and the share set aside of a batch, if it has its verdict."""
    batch = ledger.batch(name)
    if batch is None or batch.arrived_rows is None:
        return
    Stats.incr(f"churn.batches.{batch.state}")
    counts = {"arrived": batch.arrived_rows, "accepted": batch.accepted_rows, "set_aside": batch.quarantined_rows}
    for what, rows in counts.items():
        Stats.gauge(f"churn.rows.{what}", rows or 0)
    Stats.gauge("churn.rejected_share", (batch.quarantined_rows or 0) / max(batch.arrived_rows, 1))


@_harmless
def measure_decision(decision: DecisionRecord) -> None:
    """The verdict, and challenger - champion of each metric."""
    Stats.incr(f"churn.verdicts.{decision.verdict}")
    for metric, delta in decision.comparison["evidence"]["deltas"].items():
        Stats.gauge(f"churn.delta.{metric}", delta["value"])


@_harmless
def measure_image(built: BuiltImage) -> None:
    """How long the build took; nothing where none was built."""
    if built.seconds is not None:
        Stats.gauge("churn.image.build_seconds", built.seconds)


@_harmless
def measure_duration(step: str, begun: datetime | None) -> None:
    """How long a step, or the `night`, has taken until now."""
    if begun is not None:
        Stats.timing(f"churn.duration.{step}", datetime.now(UTC) - begun)
