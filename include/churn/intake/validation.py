"""Lets Great Expectations judge the accepted rows and the batch as a whole. Its verdict is the gate.

The columnar engine has already quarantined bad rows. Here the same contract is checked again by an independent engine at zero
tolerance. An expectation that raised counts as failed whatever its severity, and a result that does not cover every rule is an
error: a missing verdict is never a good one.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from churn.contract import Column, Contract
from churn.errors import ChurnError
from churn.foundation.parts import WrittenPart
from churn.foundation.progress import report_progress
from churn.foundation.spread import Spread, by_threads
from churn.intake.expectations import RULES, UNIQUE, batch_expectations, find_indivisible, row_expectations
from churn.intake.frames import Frame, as_pandas, column_schema, cut_frames, read_frame, spread_by_value
from churn.intake.suites import DataDocs, Suite, has_raised, merge_results, run_suite
from churn.intake.table_rules import TableRule

ROWS = "rows"
FACTS = "batch"
RESULT = "validation.json"


class ValidationCrashed(ChurnError):  # noqa: N818 -- it says what happened
    """The suite could not reach a verdict. The batch waits, and nothing of it is accepted."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one expectation: the rules that it covers, whether they hold, and whether a failure rejects the batch."""

    rules: tuple[str, ...]
    description: str
    holds: bool
    critical: bool


@dataclass(frozen=True)
class Judgement:
    """The verdict of Great Expectations by expectation. It contains no value of a row."""

    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> list[Outcome]:
        """The outcomes that reject the batch."""
        return [outcome for outcome in self.outcomes if outcome.critical and not outcome.holds]

    @property
    def warnings(self) -> list[Outcome]:
        """The outcomes that only warn."""
        return [outcome for outcome in self.outcomes if not outcome.critical and not outcome.holds]

    @property
    def passed(self) -> bool:
        """Whether the batch is accepted."""
        return not self.failures


@dataclass(frozen=True)
class _Checked:
    """The result of a suite for some rows, and how many they were."""

    rows: int
    result: Any


def judge_batch(
    batch: str, parts: Sequence[WrittenPart], rules: Sequence[TableRule], contract: Contract, docs: Path, spread: Spread
) -> Judgement:
    """Let Great Expectations judge accepted rows, frame by frame, and the numbers of their batch; build the Data Docs.

    Args:
        batch: hash of the batch, which names the run.
        parts: Parquet files of its accepted rows, in order. If they have no row, only the rules for the batch are judged: of no
            row at all, every expectation would hold.
        rules: the rules for the batch as a whole.
        contract: the data contract, whose rules the result must cover if there are rows.
        docs: the folder to write the Data Docs and the results as JSON to.
        spread: where the work on frames runs.

    Returns:
        The verdict. Neither it nor the Data Docs contain a value of a row (BOOLEAN_ONLY).

    Raises:
        ValidationCrashed: GX raised, a suite is empty or cannot be judged by frames, or the result does not cover every rule and
            expectation.
    """
    expectations = {FACTS: batch_expectations(rules)}
    required = {rule.name for rule in rules}
    try:
        frames = cut_frames(parts)
        if frames:
            expectations = {ROWS: row_expectations(contract), **expectations}
            required |= set(contract.rules)
        _require_expectations(batch, expectations)
        pages = DataDocs(docs)
        suites = {name: pages.add_suite(name, some) for name, some in expectations.items()}
        merged = [_judge_rows(suites[ROWS], frames, contract, spread)] if frames else []
        merged.append(run_suite(suites[FACTS], _facts(rules)))
        pages.publish(merged, batch)
    except (OSError, ChurnError):  # a fault of the disk, or one that has been explained
        raise
    except Exception as error:
        raise ValidationCrashed(
            f"Batch {batch[:12]}: the validation suite crashed ({type(error).__name__}). "
            "Nothing of the batch is accepted. See the task's log for the cause, fix it, and clear the task."
        ) from error
    results = [result for of_suite in merged for result in of_suite.results]
    verdict = Judgement(tuple(_outcome(result) for result in results))
    _require_all(batch, verdict, sum(map(len, expectations.values())), required)
    (docs / RESULT).write_text(json.dumps([result.to_json_dict() for result in results], indent=1))
    return verdict


def _require_expectations(batch: str, expectations: dict[str, list[Any]]) -> None:
    if not all(expectations.values()):
        raise ValidationCrashed(
            f"Batch {batch[:12]}: a suite has no expectations. The contract must define at least one."
        )
    indivisible = find_indivisible(expectations.get(ROWS, []))
    if indivisible:
        raise ValidationCrashed(
            f"Batch {batch[:12]}: {', '.join(indivisible)} cannot be judged frame by frame. "
            "Nothing of the batch is accepted. Make it a rule for the batch as a whole, and clear the task."
        )


def _require_all(batch: str, verdict: Judgement, expected: int, required: set[str]) -> None:
    uncovered = required - {rule for outcome in verdict.outcomes for rule in outcome.rules}
    if len(verdict.outcomes) != expected or uncovered:
        uncovered_rules = f" No expectation covers {', '.join(sorted(uncovered))}." if uncovered else ""
        raise ValidationCrashed(
            f"Batch {batch[:12]}: the validation covers {len(verdict.outcomes)} of {expected} expectations.{uncovered_rules} "
            "Nothing of the batch is accepted. Check the suite, and clear the task."
        )


def _facts(rules: Sequence[TableRule]) -> pd.DataFrame:
    """The numbers of a batch as a table with one row."""
    return pd.DataFrame({rule.name: [float(rule.value)] for rule in rules})


def _judge_rows(suite: Suite, frames: Sequence[Frame], contract: Contract, spread: Spread) -> Any:
    """The result of the suite for all rows. With several frames, uniqueness is judged again with equal values in one frame.

    Raises:
        ValidationCrashed: not every row has been checked.
    """
    total, check = sum(frame.rows for frame in frames), by_threads(partial(_check_frame, suite, contract))
    if len(frames) == 1:
        return merge_results(suite, _require_rows(total, map(check, frames)), {})
    regrouped: dict[str, list[Any]] = {}
    with _quick_collection():
        checking = spread.each(by_threads(partial(_free_after, check)), frames)
        checked = _require_rows(
            total,
            report_progress(checking, "Checking accepted rows again", len(frames), "frames", lambda some: some.rows),
        )
        for unique in [only for kind in UNIQUE for only in suite.of_type(kind)]:
            given = unique.configurations[0].kwargs
            columns = [contract[name] for name in given.get("column_list") or [given["column"]]]
            make = by_threads(partial(spread_by_value, columns, len(frames)))
            keep = by_threads(partial(_free_after, partial(_check_regrouped, unique, columns)))
            values = spread.exchange(make, frames, column_schema(contract, columns), len(frames), keep)
            regrouped[unique.configurations[0].id] = _require_rows(total, values)
    return merge_results(suite, checked, regrouped)


@contextmanager
def _quick_collection() -> Iterator[None]:
    """Let a garbage collection look only at what has been made since, which takes milliseconds."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _free_after(work: Callable[..., _Checked], *arguments: Any) -> _Checked:
    """Free a frame once it has been checked. Great Expectations keeps it in cycles of references, hundreds of megabytes each."""
    checked = work(*arguments)
    gc.collect()
    return checked


def _require_rows(total: int, checked: Iterator[_Checked]) -> list[Any]:
    """The results for some rows each, if they are for all rows."""
    every = list(checked)
    rows = sum(some.rows for some in every)
    if rows != total:
        raise ValidationCrashed(
            f"The validation covers {rows:,} of {total:,} accepted rows. Nothing of the batch is accepted. "
            "This is a defect of the pipeline and not of the file. Please report it."
        )
    return [some.result for some in every if some.rows]


def _check_frame(suite: Suite, contract: Contract, frame: Frame) -> _Checked:
    rows = read_frame(frame, contract.columns)
    return _Checked(len(rows), run_suite(suite, rows))


def _check_regrouped(suite: Suite, columns: Sequence[Column], _: int, batches: Iterator[pa.RecordBatch]) -> _Checked:
    """Check the values of columns that one receiver got; it may have got none."""
    pieces = list(batches)
    if not pieces:
        return _Checked(0, None)
    values = {
        column.name: as_pandas(pa.chunked_array([piece[column.name] for piece in pieces]), column) for column in columns
    }
    rows = sum(piece.num_rows for piece in pieces)
    return _Checked(rows, run_suite(suite, pd.DataFrame(values, copy=False)))


def _outcome(result: Any) -> Outcome:
    """The outcome of a result. An expectation that raised does not hold, and rejects the batch whatever its severity."""
    raised, config = has_raised(result), result.expectation_config
    return Outcome(
        rules=tuple((config.meta or {}).get(RULES, ())),
        description=_described(result),
        holds=bool(result.success) and not raised,
        critical=raised or config.severity != "warning",
    )


def _described(result: Any) -> str:
    config = result.expectation_config
    column = config.kwargs.get("column") or config.kwargs.get("column_A")
    description = config.type.removeprefix("expect_").replace("_", " ")
    return f"{column}: {description}" if column else description
