"""Many files in one run: the history of each stays short, one bad file leaves the others alone, and tasks stay few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from churn.errors import NothingToDo, Outage
from churn.intake.acceptance import BatchRejected
from churn.intake.history import count_fresh
from churn.intake.validation import ValidationCrashed
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace
from churn_airflow.steps import batches_of_task, divide_among_tasks
from support.basics import land_text, make_workspace, small_file

NO_MLFLOW = "http://127.0.0.1:9"


def landed(folder: Path, files: int) -> tuple[Workspace, Request, list[str]]:
    folder.mkdir()
    workspace, request = make_workspace(folder, NO_MLFLOW), Request("night")
    for number in range(files):
        land_text(workspace, small_file(60, seed=number, first_customer=1 + number * 60), f"{number}.csv")
    return workspace, request, [batch.batch for batch in steps.arrive(workspace, request).batches]


def test_snapshots_between_files_change_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is compared with at most so many batches one by one, and the answer is the same as with all of them."""
    verdicts = []
    for name, most in (("short", 3), ("long", 1000)):
        monkeypatch.setattr(steps, "MOST_FRESH", most)
        workspace, request, batches = landed(tmp_path / name, 8)
        fresh = []
        for batch in batches:
            steps.validate(workspace, request, batch)
            fresh.append(count_fresh(workspace.storage, workspace.ledger, workspace.contract))
        judged = [replace(batch, arrived_at=None, judged_at=None) for batch in workspace.ledger.batches()]
        verdicts.append((judged, [workspace.ledger.drift(batch) for batch in batches]))
        taken = sorted(len(snapshot.batches) for snapshot in workspace.ledger.snapshots())
        assert (taken, fresh) == {
            "short": ([3, 6], [1, 2, 3, 1, 2, 3, 1, 2]),
            "long": ([], [1, 2, 3, 4, 5, 6, 7, 8]),
        }[name]
    assert verdicts[0] == verdicts[1]
    assert all(verdicts[0][1][1:])


@pytest.mark.parametrize(("error", "goes_on"), [(NothingToDo("All rows wait."), True), (Outage("No answer."), False)])
def test_what_keeps_a_snapshot_from_being_taken_holds_up_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, goes_on: bool
) -> None:
    """A batch gets its verdict even if no snapshot can be taken; an outage is for the next attempt."""
    monkeypatch.setattr(steps, "MOST_FRESH", 1)
    workspace, request, batches = landed(tmp_path / "home", 2)
    steps.validate(workspace, request, batches[0])
    monkeypatch.setattr("churn.learning.snapshot.take_snapshot", Mock(side_effect=error))
    if goes_on:
        assert steps.validate(workspace, request, batches[1]).state == "accepted"
        assert f"No snapshot was taken of 1 batches: {error}" in caplog.text
    else:
        with pytest.raises(Outage, match="No answer"):
            steps.validate(workspace, request, batches[1])
        assert workspace.ledger.hashes(state="arrived") == [batches[1]]


def test_a_bad_file_leaves_the_others_their_verdict(tmp_path: Path) -> None:
    """Rejections are raised together, after the last file; files that have their verdict are left as they are."""
    workspace, request, _ = landed(tmp_path / "home", 2)
    for name in ("bad", "worse"):
        land_text(workspace, f"{name},file\n1,2\n", f"{name}.csv")
    batches = [batch.batch for batch in steps.arrive(workspace, request).batches]
    for _ in range(2):
        with pytest.raises(BatchRejected, match=r"(?s)bad\.csv.*\n.*worse\.csv"):
            steps.validate_all(workspace, request, batches)
        assert sorted(batch.state for batch in workspace.ledger.batches()) == ["accepted"] * 2 + ["rejected"] * 2


def test_a_crash_is_raised_after_the_other_files_and_an_outage_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without a verdict fails the task although another one is rejected, and nothing is tried against a service that is down."""
    asked: list[str] = []
    faults = {"first": ValidationCrashed("It crashed."), "second": BatchRejected("It is bad."), "third": None}

    def judge(_: object, __: object, batch: str) -> str:
        asked.append(batch)
        if error := faults[batch]:
            raise error
        return batch

    monkeypatch.setattr(steps, "validate", judge)
    with pytest.raises(ValidationCrashed):
        steps.validate_all(Mock(), Request("night"), list(faults))
    assert asked == ["first", "second", "third"]
    faults["second"] = Outage("No answer.")
    asked.clear()
    with pytest.raises(Outage):
        steps.validate_all(Mock(), Request("night"), list(faults))
    assert asked == ["first", "second"]


@pytest.mark.parametrize(
    ("files", "sizes"), [(0, []), (1, [1]), (50, [1] * 50), (51, [2] * 25 + [1]), (2001, [41] * 48 + [33])]
)
def test_tasks_stay_few(files: int, sizes: list[int]) -> None:
    """Each file has a task of its own up to 50; Airflow refuses to expand a task over more than 1,024."""
    batches = [str(number) for number in range(files)]
    divided = divide_among_tasks(batches)
    assert [len(some) for some in divided] == sizes
    assert [batch for some in divided for batch in some] == batches


def test_a_run_that_began_before_an_upgrade_goes_on() -> None:
    """Its list of batches has one hash for each task."""
    assert batches_of_task("ab12") == ["ab12"]
    assert batches_of_task(["ab12", "cd34"]) == ["ab12", "cd34"]
