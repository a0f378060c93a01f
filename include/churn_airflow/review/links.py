"""Links from a task to the page that shows its result; the task says where (`churn_airflow.steps.lead_to`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from churn_airflow.airflow_compat import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _ResultLink(BaseOperatorLink):
    """The page that the task remembered; none if it ended before it knew one."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 -- Airflow's signature
        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""


class NightLink(_ResultLink):
    """The review of the night."""

    name = "Review of the night"


class ComparisonLink(_ResultLink):
    """The comparison in MLflow."""

    name = "Comparison in MLflow"


class VersionLink(_ResultLink):
    """The version in the registry."""

    name = "Version in MLflow"


class DataDocsLink(_ResultLink):
    """Great Expectations' page of the batch."""

    name = "Data Docs"
