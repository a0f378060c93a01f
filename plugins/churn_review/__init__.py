"""The Airflow UI's side of the pipeline: links to MLflow, and the Data Docs behind Airflow's login."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from churn_review.docs import app
from churn_review.links import ComparisonLink, DataDocsLink, VersionLink


class ChurnReviewPlugin(AirflowPlugin):
    """Registers the links and the pages."""

    name = "churn_review"
    operator_extra_links = [ComparisonLink(), DataDocsLink(), VersionLink()]  # noqa: RUF012 -- Airflow's shape
    fastapi_apps = [{"app": app, "url_prefix": "/churn-review", "name": "churn review"}]  # noqa: RUF012
