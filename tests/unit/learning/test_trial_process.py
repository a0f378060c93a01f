"""In the clean process, a package that will not be in the image does not exist."""

from __future__ import annotations

import sys

from churn.learning.trial_process import Finder


def test_a_refused_package_is_as_if_it_were_not_installed() -> None:
    """No error: libraries look for optional packages, and go on without them."""
    finder = Finder(["lightgbm"], sys.meta_path)
    assert finder.find_spec("lightgbm") is None
    assert finder.find_spec("lightgbm.sklearn") is None
    assert finder.find_spec("sklearn") is not None
    finder.invalidate_caches()
