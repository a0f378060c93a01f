"""What `make run` prints about failures, and which files it runs."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from churn.contracts.bank import BANK_CHURN
from churn.local import main_job
from support.basics import ROOT
from support.coded_contract import CODED
from support.judged_files import judge_whole


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


def test_the_sample_follows_the_contract(tmp_path: Path) -> None:
    """The bank has the files that ship; another contract has files of its own, always the same ones."""
    shipped = main_job.sample_files(BANK_CHURN, tmp_path)
    assert [file.parent for file in shipped] == [ROOT / "data/sample"] * 3
    drawn = main_job.sample_files(CODED, tmp_path)
    texts = [file.read_bytes() for file in drawn]
    assert main_job.sample_files(CODED, tmp_path) == drawn
    assert [file.read_bytes() for file in drawn] == texts
    assert judge_whole(texts[2], CODED).counts.accepted > 1400
