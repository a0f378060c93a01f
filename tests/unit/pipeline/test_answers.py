"""What people answer is recorded once, with their name and a reason."""

from pathlib import Path

import pytest

from churn.errors import ChurnError
from churn.pipeline.answers import confirm_plausible
from support.basics import make_workspace


def test_a_confirmation_needs_a_reason_and_counts_once(tmp_path: Path) -> None:
    """An empty reason is refused; a second confirmation returns the first."""
    lonely = make_workspace(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(ChurnError, match="reason is empty"):
        confirm_plausible(lonely, "  ", "Ann")
    assert lonely.ledger.confirmation(lonely.settings.model_name) is None
    assert confirm_plausible(lonely, " a small, clean data set ", "Ann").reason == "a small, clean data set"
    assert confirm_plausible(lonely, "another", "Bob").by == "Ann"
