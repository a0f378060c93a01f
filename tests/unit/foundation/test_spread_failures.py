"""When work on a part fails, nothing of it goes on behind the caller's back."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from churn.foundation.spread import Here, by_threads


@by_threads
def _fail_or_write(folder: Path, part: int) -> int:
    if part == 0:
        raise ValueError("the first part")
    time.sleep(0.3)
    (folder / str(part)).write_text("written late")
    return part


def test_threads_finish_what_they_have_begun_before_an_error_is_raised(tmp_path: Path) -> None:
    """The folder of the caller is not written to after the error, and parts that had not begun never do."""
    with pytest.raises(ValueError, match="the first part"):
        list(Here(2, "1GB").each(partial(_fail_or_write, tmp_path), range(20)))
    written = set(tmp_path.iterdir())
    time.sleep(0.5)
    assert set(tmp_path.iterdir()) == written
    assert len(written) < 10


def test_results_are_in_the_order_of_the_parts(tmp_path: Path) -> None:
    """With threads too, and more parts than are begun at once."""
    (tmp_path / "x").mkdir()
    assert list(Here(2, "1GB").each(partial(_fail_or_write, tmp_path / "x"), range(1, 9))) == list(range(1, 9))
