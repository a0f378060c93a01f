"""All names that this product uses from Airflow beyond its public SDK and its providers.

Checked against Airflow 3.3. After an upgrade of Airflow, check this module first: none of these names is part of a
stable interface. Each is loaded on first use, so that a task that needs one of them does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
    from airflow.configuration import conf
    from airflow.listeners import hookimpl
    from airflow.models.dag import DagModel
    from airflow.plugins_manager import AirflowPlugin
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.sdk.observability.stats import Stats
    from airflow.serialization.definitions.operatorlink import XComOperatorLink

CHECKED_AGAINST = "3.3"
"""The minor version of Airflow that these imports were last checked against."""

__all__ = [
    "AirflowPlugin",
    "BaseUser",
    "DagAccessEntity",
    "DagDetails",
    "DagModel",
    "GetUserDep",
    "Stats",
    "XCom",
    "XComOperatorLink",
    "conf",
    "get_auth_manager",
    "hookimpl",
    "requires_access_dag",
]

_MODULES = {
    "AirflowPlugin": "airflow.plugins_manager",
    "BaseUser": "airflow.api_fastapi.auth.managers.models.base_user",
    "DagAccessEntity": "airflow.api_fastapi.auth.managers.models.resource_details",
    "DagDetails": "airflow.api_fastapi.auth.managers.models.resource_details",
    "DagModel": "airflow.models.dag",
    "GetUserDep": "airflow.api_fastapi.core_api.security",
    "Stats": "airflow.sdk.observability.stats",
    "XCom": "airflow.sdk.execution_time.xcom",
    "XComOperatorLink": "airflow.serialization.definitions.operatorlink",
    "conf": "airflow.configuration",
    "get_auth_manager": "airflow.api_fastapi.app",
    "hookimpl": "airflow.listeners",
    "requires_access_dag": "airflow.api_fastapi.core_api.security",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
