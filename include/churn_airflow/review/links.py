"""Links from a task to the page that shows its result. The task stores the address (`churn_airflow.steps.store_link`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from churn_airflow.airflow_compat import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _ResultLink(BaseOperatorLink):
    """The page whose address the task has stored; no link if the task ended before it did."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 -- Airflow's signature
        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""


class NightLink(_ResultLink):
    """The review of the run. The class keeps its name, because the XCom key of a link is made from it."""

    name = "Review of the run"


class ComparisonLink(_ResultLink):
    """The comparison in MLflow."""

    name = "Comparison in MLflow"


class VersionLink(_ResultLink):
    """The version in the MLflow registry."""

    name = "Version in MLflow"


class SparkLink(BaseOperatorLink):
    """The pages of the Spark application that did the data work of the task, while it runs.

    Every task has this link, so Airflow calls it in its API server, where an XCom is read from the database.
    """

    name = "Spark"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that the task has stored; nothing if it used no Spark."""
        from churn_airflow.airflow_compat import XComOperatorLink  # loads Airflow's tables, which no task needs

        stored: str = XComOperatorLink(self.name, self.xcom_key).get_link(operator, ti_key=ti_key)  # type: ignore[arg-type]  # it is not used
        return stored


class DataDocsLink(_ResultLink):
    """The Data Docs of the batch, by Great Expectations."""

    name = "Data Docs"
