"""Where data work runs, as the settings say."""

from __future__ import annotations

from churn.foundation.spread import Here, Spread
from churn.settings import Settings


def choose_spread(settings: Settings) -> Spread:
    """The cores of this machine, or the executors of a cluster."""
    here = Here.of(settings.cores, settings.duckdb_memory_limit)
    if settings.spread == "here":
        return here
    from churn.foundation.spark.on_spark import OnSpark
    from churn.foundation.spark.session import SparkPlace

    secret = settings.spark_secret.get_secret_value() if settings.spark_secret else None
    return OnSpark(SparkPlace(settings.spark_master, settings.spark_conf, secret), here, settings.spark_parts)
