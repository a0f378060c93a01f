"""What `make run` prints about failures."""

from __future__ import annotations

import io

from rich.console import Console

from churn.local import main_job


def test_a_failure_is_printed_once() -> None:
    """A reason that the summary prints, or that an earlier task had, is not repeated."""
    console = Console(file=io.StringIO(), record=True, width=100)
    failures = {
        "validate": "Rejected: no header.",
        "train": "No memory.",
        "close": "Rejected: no header.\nNo memory.\nNo decision.",
    }
    main_job._print_failures(console, failures, {None, "Rejected: no header."})
    assert console.export_text().splitlines() == ["train: No memory.", "close: No decision."]
