"""The texts that a model tells apart: the most frequent ones, and one level for all others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from churn.serving.levels import KnownLevels


def test_the_most_frequent_texts_are_kept_and_the_rest_is_one_level() -> None:
    """Of texts that occur equally often, the first in the alphabet; a missing text is a level like any other."""
    rows = pd.DataFrame({"city": ["b", "b", "b", "a", "a", None, None, "d", "c", "e"]}, dtype=object)
    known = KnownLevels(4).fit(rows)
    assert known.levels_ == ["", "a", "b", "c"]
    later = pd.DataFrame({"city": ["a", "d", "new", None, np.nan]}, dtype=object)
    assert known.transform(later)["city"].tolist() == ["a", "other", "other", "", ""]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_rows_does_not_matter(order: int) -> None:
    rows = pd.DataFrame({"city": ["b", "a", "d", "c"][::order]}, dtype=object)
    assert KnownLevels(2).fit(rows).levels_ == ["a", "b"]
