"""A link leads to a page; where there is none, the thing is named instead."""

import pytest

from churn.foundation.links import comparison_page, version_page


def test_an_mlflow_server_has_pages() -> None:
    """Runs, with columns if the experiment is known, models and versions."""
    ui = "http://127.0.0.1:5005"
    assert comparison_page(ui, "abc") == f"{ui}/#/runs/abc"
    assert comparison_page(ui, "abc", "1").startswith(f"{ui}/#/experiments/1/runs/abc")
    assert version_page(ui, "churn") == f"{ui}/#/models/churn"
    assert version_page(ui, "churn", 4) == f"{ui}/#/models/churn/versions/4"


@pytest.mark.parametrize("ui", ["sqlite:////var/mlflow.db", "/var/mlruns", ""])
def test_a_database_or_a_folder_has_none(ui: str) -> None:
    """No address that cannot be opened is printed, sent or stored."""
    assert comparison_page(ui, "abc", "1") == "run abc in MLflow"
    assert version_page(ui, "churn", 4) == "version 4 of model churn in MLflow"
    assert version_page(ui, "churn") == "model churn in MLflow"
