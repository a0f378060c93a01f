"""What the pipeline adds to Airflow's UI: the review, links to it and to MLflow, and the Data Docs behind Airflow's login."""

from __future__ import annotations

from airflow.sdk import BaseOperatorLink

from churn.foundation.links import REVIEW
from churn.settings import Settings, SettingsError
from churn_airflow.airflow_compat import AirflowPlugin
from churn_airflow.review.app import app
from churn_airflow.review.links import ComparisonLink, DataDocsLink, NightLink, SparkLink, VersionLink


def _links_of_all_tasks() -> list[BaseOperatorLink]:
    """With Spark, any task may have spread its work over it."""
    try:
        return [SparkLink()] if Settings.load().spread == "spark" else []
    except SettingsError:  # which every task reports
        return []


class ChurnReviewPlugin(AirflowPlugin):
    """Registers the links and the pages."""

    name = "churn_review"
    operator_extra_links = [NightLink(), ComparisonLink(), DataDocsLink(), VersionLink()]  # noqa: RUF012 -- Airflow's shape
    global_operator_extra_links = _links_of_all_tasks()
    fastapi_apps = [{"app": app, "url_prefix": REVIEW, "name": "churn review"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "Churn",  # short, because the navigation is narrow
            "href": f"{REVIEW.lstrip('/')}/",
            "destination": "nav",
            "url_route": "churn-review",
            "icon": f"{REVIEW}/icon.svg",
            "icon_dark_mode": f"{REVIEW}/icon-dark.svg",
        }
    ]
