"""The texts of a column that a model tells apart; every other text is treated as one level."""

from __future__ import annotations

from collections import Counter
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin

OTHER = "other"
MISSING = ""


class KnownLevels(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Keeps the most frequent texts of one column, and replaces every other text by `other`.

    A missing text counts as a level of its own. Texts that occur equally often are ordered alphabetically.

    Args:
        max_levels: the number of texts to keep.
    """

    def __init__(self, max_levels: int) -> None:
        self.max_levels = max_levels

    def fit(self, rows: pd.DataFrame, target: Any = None) -> Self:  # noqa: ARG002 -- scikit-learn's interface
        """Learn the levels from a frame of one column."""
        self.feature_names_in_ = np.array(rows.columns, dtype=object)
        self.n_features_in_ = 1
        counts = Counter(_texts(rows))
        most = sorted(counts, key=lambda text: (-counts[text], text))[: self.max_levels]
        self.levels_ = sorted(most)
        return self

    def transform(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the texts, shape (rows, 1)."""
        texts = _texts(rows)
        return texts.where(texts.isin(self.levels_), OTHER).to_frame()


def _texts(rows: pd.DataFrame) -> pd.Series:
    texts = rows.iloc[:, 0].astype(object)
    return texts.where(texts.notna(), MISSING)
