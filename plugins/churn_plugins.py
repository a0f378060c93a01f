"""Registers what Airflow must find in its plugins folder: the review and the preloading. The code is in `churn_airflow`."""

from __future__ import annotations

from churn_airflow.preload import ChurnPreload
from churn_airflow.review import ChurnReviewPlugin

__all__ = ["ChurnPreload", "ChurnReviewPlugin"]
