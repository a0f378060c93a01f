"""However many frames the accepted rows are in, the verdict of Great Expectations is that on the whole."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from churn.contract import CONFLICT, DUPLICATE, UNLABELLED
from churn.foundation.parts import WrittenPart
from churn.foundation.spread import Here
from churn.intake import frames, validation
from churn.intake.expectations import UNIQUE
from churn.intake.table_rules import TableRule
from churn.intake.validation import Judgement, ValidationCrashed, judge_batch
from support.small_tables import SMALL, small_rows, write_parts

BATCH = "ab" * 32
RULES = [
    TableRule("batch.rejected_share", True, 0.01, 0, 0.05),
    TableRule("batch.event_rate", False, 0.2, 0.3, 0.4),
]
UNIQUENESS = (DUPLICATE, CONFLICT)
ROWS = 12


def judge(folder: Path, rows: list[dict[str, Any]], sizes: list[int] | None = None, cores: int = 2) -> Judgement:
    docs = folder / "docs"
    docs.mkdir(parents=True)
    parts = [WrittenPart.of(file) for file in write_parts(folder / "rows", rows, sizes or [len(rows)])]
    return judge_batch(BATCH, parts, RULES, SMALL, docs, Here(cores, "500MB"))


def failed(verdict: Judgement) -> set[tuple[str, ...]]:
    return {outcome.rules for outcome in verdict.failures}


def pages(folder: Path) -> dict[str, str]:
    """Every page and result, without times, ids and hashes."""
    found = {}
    for file in (folder / "docs").rglob("*"):
        if file.suffix in (".html", ".json") and file.name != "index.html":
            found[_timeless(str(file.relative_to(folder)))] = _timeless(file.read_text())
    return found


def _timeless(text: str) -> str:
    text = re.sub(r"20\d{6}T\d{6}[.\d]*Z?|20\d\d-\d\d-\d\d[T ][\d:.+]*Z?", "TIME", text)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\b[0-9a-f]{32}([0-9a-f]{32})?\b", "ID", text)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("faulty", [False, True])
def test_many_frames_give_the_results_and_pages_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, faulty: bool
) -> None:
    """The same suite, order, verdicts, JSON and Data Docs, whether all expectations hold or some do not."""
    rows = small_rows(ROWS)
    if faulty:
        rows[2]["age"], rows[7]["country"], rows[11]["client"] = 17, "Atlantis", rows[0]["client"]
    whole = judge(tmp_path / "whole", rows, cores=1)
    monkeypatch.setattr(frames, "FRAME_ROWS", 3)
    many = judge(tmp_path / "many", rows, [1, 2, 5, 4], cores)
    assert len(frames.cut_frames([WrittenPart.of(file) for file in sorted((tmp_path / "many/rows").iterdir())])) == 5
    assert many == whole
    assert many.passed is not faulty
    assert len(pages(tmp_path / "whole")) == 5
    assert pages(tmp_path / "many") == pages(tmp_path / "whole")


@pytest.mark.parametrize("row", [0, 5, ROWS - 1])
def test_a_bad_row_is_found_in_whichever_frame_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    """Each rule of the contract that is broken fails, and no other; the results show no value."""
    monkeypatch.setattr(frames, "FRAME_ROWS", 3)
    rows = small_rows(ROWS)
    rows[row] |= {"age": 101, "years": 102, "balance": -1.25, "country": "Atlantis", "gone": None}
    verdict = judge(tmp_path, rows)
    assert failed(verdict) == {
        ("age.range",),
        ("years.above_age",),
        ("balance.range",),
        ("country.category",),
        (UNLABELLED,),
        ("gone.type",),
    }
    text = "".join(file.read_text() for file in (tmp_path / "docs").rglob("*.*") if file.suffix in (".html", ".json"))
    assert "Atlantis" not in text
    assert "-1.25" not in text


@pytest.mark.parametrize(("first", "second"), [(0, 11), (0, 1), (4, 8)])
def test_a_key_in_two_frames_is_not_unique(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, second: int
) -> None:
    """Equal keys meet in one frame, wherever they are."""
    monkeypatch.setattr(frames, "FRAME_ROWS", 3)
    rows = small_rows(ROWS)
    rows[second]["client"] = rows[first]["client"]
    assert failed(judge(tmp_path, rows)) == {UNIQUENESS}


def test_a_missing_value_breaks_no_relation(tmp_path: Path) -> None:
    """As in the rules for rows: a nullable column that must not exceed another one may be missing."""
    rows = small_rows(3)
    assert rows[1]["years"] is None
    assert judge(tmp_path / "missing", rows).passed
    rows[0]["years"] = rows[0]["age"] + 1
    assert failed(judge(tmp_path / "above", rows)) == {("years.above_age",)}


def change_result(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None], only: Callable[[Any, Any], bool]
) -> None:
    """Change the result of the suite for some frames."""
    honest = validation.run_suite

    def changed(suite: Any, frame: Any) -> Any:
        result = honest(suite, frame)
        if only(suite, frame):
            change(result)
        return result

    monkeypatch.setattr(validation, "run_suite", changed)


def raise_first(result: Any) -> None:
    result.results[0].exception_info = {
        "raised_exception": True,
        "exception_message": "boom",
        "exception_traceback": "Traceback",
    }


def drop_first(result: Any) -> None:
    result.results = result.results[1:]


def in_second_frame(suite: Any, frame: Any) -> bool:
    return len(frame.columns) == len(SMALL.columns) and frame["client"].iloc[0] == "C0003"


def regrouped(suite: Any, frame: Any) -> bool:
    return list(frame.columns) == ["client"]


@pytest.mark.parametrize(("where", "rules"), [(in_second_frame, ()), (regrouped, UNIQUENESS)])
def test_an_expectation_that_raised_in_one_frame_fails_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Callable[[Any, Any], bool], rules: tuple[str, ...]
) -> None:
    """It counts as failed, although it holds everywhere else."""
    monkeypatch.setattr(frames, "FRAME_ROWS", 3)
    change_result(monkeypatch, raise_first, where)
    assert failed(judge(tmp_path, small_rows(ROWS))) == {rules}


@pytest.mark.parametrize("where", [in_second_frame, regrouped])
def test_a_result_that_is_missing_in_one_frame_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Callable[[Any, Any], bool]
) -> None:
    """A verdict on some of the rows is no verdict."""
    monkeypatch.setattr(frames, "FRAME_ROWS", 3)
    change_result(monkeypatch, drop_first, where)
    with pytest.raises(ValidationCrashed, match=r"covers \d+ of \d+ expectations"):
        judge(tmp_path, small_rows(ROWS))
    assert not (tmp_path / "docs" / validation.RESULT).exists()


def test_a_row_that_is_lost_between_frames_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniqueness is judged on every row, or not at all."""
    honest = validation.spread_by_value
    monkeypatch.setattr(frames, "FRAME_ROWS", 3)
    monkeypatch.setattr(validation, "spread_by_value", lambda *more: (batch.slice(1) for batch in honest(*more)))
    with pytest.raises(ValidationCrashed, match="covers 8 of 12 accepted rows"):
        judge(tmp_path, small_rows(ROWS))


def test_a_frame_that_crashes_names_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that reaches no result leaves the batch without a verdict."""

    def crash(suite: Any, frame: Any) -> Any:
        raise RuntimeError("boom")

    monkeypatch.setattr(frames, "FRAME_ROWS", 3)
    monkeypatch.setattr(validation, "run_suite", crash)
    with pytest.raises(ValidationCrashed, match="RuntimeError"):
        judge(tmp_path, small_rows(ROWS))


@pytest.mark.parametrize("sizes", [[], [0]])
def test_without_an_accepted_row_only_the_rules_for_the_batch_are_judged(tmp_path: Path, sizes: list[int]) -> None:
    """Of no row at all, every expectation would hold."""
    verdict = judge(tmp_path, [], sizes or None) if sizes else judge_nothing(tmp_path)
    assert [outcome.rules for outcome in verdict.outcomes] == [(rule.name,) for rule in RULES]
    assert [outcome.holds for outcome in verdict.outcomes] == [True, False]
    assert len(json.loads((tmp_path / "docs" / validation.RESULT).read_text())) == len(RULES)


def judge_nothing(folder: Path) -> Judgement:
    (folder / "docs").mkdir()
    return judge_batch(BATCH, [], RULES, SMALL, folder / "docs", Here(1, "500MB"))


def test_an_expectation_that_frames_cannot_judge_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over frames is not the mean of the whole, even if today there is one frame."""
    import great_expectations.expectations as gxe

    honest = validation.row_expectations
    mean = gxe.ExpectColumnMeanToBeBetween(column="age", min_value=0)
    monkeypatch.setattr(validation, "row_expectations", lambda contract: [*honest(contract), mean])
    with pytest.raises(ValidationCrashed, match="expect_column_mean_to_be_between cannot be judged frame by frame"):
        judge(tmp_path, small_rows(ROWS))


def test_uniqueness_is_judged_by_the_expectation_of_the_suite(tmp_path: Path) -> None:
    """The name by which the suite is searched for it is the one that Great Expectations uses."""
    judge(tmp_path, small_rows(ROWS))
    kinds = [result["expectation_config"] for result in json.loads((tmp_path / "docs/validation.json").read_text())]
    assert [config["kwargs"]["column"] for config in kinds if config["type"] in UNIQUE] == ["client"]
