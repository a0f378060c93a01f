"""A column that gives the label away is named before a model is trained on it."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from churn.intake.draft_text import as_yaml
from churn.intake.drafting import draft_contract
from churn.intake.file_columns import read_columns
from churn.intake.telling_columns import telling_columns

ROWS = 400
RNG = np.random.default_rng(3)
LEFT = RNG.random(ROWS) < 0.3
COLUMNS = {
    "Customer": [f"7590-{at}" for at in RNG.permutation(ROWS)],
    "Noise": RNG.normal(size=ROWS).round(3),
    "Closed": np.where(LEFT, "yes, by phone", "open"),
    "DaysToEnd": np.where(LEFT, RNG.integers(0, 9, ROWS), RNG.integers(8, 60, ROWS)),
    "Street": [f"street {at}" for at in range(ROWS)],
    "Churn": np.where(LEFT, " Yes", "No"),
}


def test_columns_that_tell_the_label_are_found() -> None:
    """A text and a number, in either direction; noise and a text that everybody has alone are not."""
    cells = pa.table({name: pa.array(map(str, values)) for name, values in COLUMNS.items()})
    telling = telling_columns(cells, "Churn", {"no": 0, "yes": 1}, ["Noise", "Closed", "DaysToEnd", "Street"])
    assert telling == {
        "Closed": 1.0,
        "DaysToEnd": pytest.approx(1 - roc_auc_score(LEFT, COLUMNS["DaysToEnd"])),
    }
    assert telling_columns(cells, "Churn", {"no": 0, "yes": 0}, ["Closed"]) == {}


def test_the_draft_asks_about_them() -> None:
    """Beside the column."""
    text = pd.DataFrame(COLUMNS).to_csv(index=False)
    drafted = as_yaml(draft_contract(read_columns(io.BytesIO(text.encode())), "mine"))
    assert drafted.count("It tells the label almost alone") == 2
    assert "(ROC AUC 1.00). If it is written after the event, delete it here" in drafted
