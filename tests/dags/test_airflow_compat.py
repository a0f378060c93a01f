"""What is not promised by Airflow's public SDK is imported in one module, which was checked against this Airflow."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import airflow
import pytest

from churn_airflow import airflow_compat
from support.basics import ROOT

PUBLIC = {"airflow.sdk", "airflow.sdk.exceptions", "airflow.sdk.types"}
PROVIDERS = r"airflow\.providers\.\w+(\.\w+)?\.(hooks|operators|sensors|triggers|fs|executors)\."
"""The parts of a provider that are made to be imported."""
ELSEWHERE = {
    "airflow.providers.fab.auth_manager.cli_commands.utils": "include/stack/users.py creates users; `airflow users create` would show "
    "a given password in the list of processes",
}
"""Internals that another module imports, and why."""
FILES = [
    file
    for folder in ("include/churn_airflow", "include/stack", "dags", "plugins")
    for file in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize("file", sorted(FILES), ids=lambda file: str(file.relative_to(ROOT)))
def test_internals_are_imported_in_one_module(file: Path) -> None:
    """Elsewhere only the public SDK and the providers."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(str(node.module))
    internal = {
        name
        for name in modules
        if name.split(".")[0] == "airflow" and name not in PUBLIC and not re.match(PROVIDERS, f"{name}.")
    }
    if file.parent == ROOT / "include/stack":
        internal -= ELSEWHERE.keys()
    assert internal == set() or file.name == "airflow_compat.py"


@pytest.mark.parametrize("name", airflow_compat.__all__)
def test_every_name_is_still_there(name: str) -> None:
    """Each is loaded on first use, so that a missing one would be noticed only in production."""
    assert getattr(airflow_compat, name) is not None


def test_it_was_checked_against_this_airflow() -> None:
    """After an upgrade, check the module and raise its version."""
    assert airflow.__version__.startswith(f"{airflow_compat.CHECKED_AGAINST}.")
