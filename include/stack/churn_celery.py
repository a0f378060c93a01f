"""Celery's configuration in the stack: the provider's defaults, plus heavy libraries loaded once in each worker.

Every task is a fork of the worker; without this, each imports MLflow and Great Expectations again. Set by
`AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS`.
"""

from __future__ import annotations

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

from churn_airflow.preload import LIBRARIES

CONFIG = {**DEFAULT_CELERY_CONFIG, "imports": LIBRARIES}
