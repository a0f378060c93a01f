"""`make bench WHAT=registered-model`: what the checks of the contract cost. Prints ratios; asserts nothing.

The floor is `predict_proba` of the bare estimator on the frame that it was trained with. Against it stands the registered
model on the rows as pandas reads them from a file, with whole numbers and every column. Both run in turn, in one process.
"""

from __future__ import annotations

import argparse
import io
import sys

import numpy as np
import pandas as pd
from rich.table import Table

from churn.candidate import Context
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.learning.candidates import standard
from churn.serving.checks import add_checks
from reporting import console, say, seconds

TRAINING_ROWS = 10_000
GOAL = 1.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to score")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is run; the fastest counts")
    asked = parser.parse_args()
    training = example_rows(BANK_CHURN, TRAINING_ROWS, seed=1)
    say(f"{asked.rows:,} rows")
    rows = as_read(example_rows(BANK_CHURN, asked.rows, seed=2))
    frame = model_input(BANK_CHURN, rows)
    table = Table("candidate", "bare, s", "with the checks, s", "ratio", "goal", title=f"{asked.rows:,} rows")
    for kind, candidate in standard(BANK_CHURN, Context(TRAINING_ROWS, seed=0)).items():
        say(kind)
        model = candidate.estimator
        model.fit(model_input(BANK_CHURN, training), training[BANK_CHURN.target.name].to_numpy())
        checked = add_checks(model, BANK_CHURN)
        np.testing.assert_array_equal(checked.predict_proba(rows), model.predict_proba(frame))
        pairs = [
            (seconds(lambda: model.predict_proba(frame)), seconds(lambda: checked.predict_proba(rows)))  # noqa: B023
            for _ in range(asked.rounds)
        ]
        bare, with_checks = (min(times) for times in zip(*pairs, strict=True))
        table.add_row(kind, f"{bare:.2f}", f"{with_checks:.2f}", f"{with_checks / bare:.2f}", f"<= {GOAL}")
    console.print(table)
    return 0


def as_read(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as `pandas.read_csv` returns them."""
    return pd.read_csv(io.StringIO(rows.to_csv(index=False)))


if __name__ == "__main__":
    sys.exit(main())
