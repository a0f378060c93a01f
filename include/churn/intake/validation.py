"""Great Expectations judges the accepted rows and the batch as a whole, and its verdict is the gate.

The columnar engine has set bad rows aside before; here the same contract is checked again by an
independent engine at zero tolerance. An expectation that raised counts as failed, and a result that
does not cover every expectation is an error: a verdict that is missing is never a good one.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from churn.contract import Contract, Kind
from churn.errors import ChurnError

ROWS = "rows"
FACTS = "batch"


class ValidationCrashed(ChurnError):  # noqa: N818 -- it says what happened
    """The suite could not come to a verdict; the batch waits, and nothing of it is accepted."""


@dataclass(frozen=True)
class Judgement:
    """GX's verdict: the expectations that failed, by name, and how many there were."""

    failures: list[str]
    expectations: int

    @property
    def passed(self) -> bool:
        """Whether every expectation holds."""
        return not self.failures


def row_expectations(contract: Contract) -> list[Any]:
    """What every accepted row must satisfy, and the table that they make; derived from the contract."""
    import great_expectations.expectations as gxe

    expectations: list[Any] = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectTableColumnsToMatchSet(column_set=list(contract.names), exact_match=True),
        gxe.ExpectColumnDistinctValuesToContainSet(column=contract.target.name, value_set=[0, 1]),
    ]
    for column in contract.columns:
        if not column.nullable:
            expectations.append(gxe.ExpectColumnValuesToNotBeNull(column=column.name))
        if column.kind is Kind.INTEGER:
            expectations.append(
                gxe.ExpectColumnValuesToBeInTypeList(column=column.name, type_list=["int64", "Int64Dtype"])
            )
        if column.kind is Kind.NUMBER:
            expectations.append(gxe.ExpectColumnValuesToBeOfType(column=column.name, type_="float64"))
        if column.minimum is not None or column.maximum is not None:
            expectations.append(
                gxe.ExpectColumnValuesToBeBetween(
                    column=column.name, min_value=column.minimum, max_value=column.maximum
                )
            )
        if column.categories:
            expectations.append(gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=list(column.categories)))
    return expectations


def batch_expectations(max_rejected_share: float) -> list[Any]:
    """What the counts of a batch must satisfy."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="arrived_rows", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="rejected_share", max_value=max_rejected_share),
    ]


def judge(batch: str, frames: dict[str, tuple[pd.DataFrame, list[Any]]], docs: Path) -> Judgement:
    """Run the suites through GX checkpoints and build the batch's Data Docs.

    Args:
        batch: hash of the batch, which names the run.
        frames: for each asset (`ROWS`, `FACTS`) its frame and its expectations.
        docs: folder that the Data Docs are written to.

    Returns:
        The verdict. No value of a row is in it, nor in the Data Docs (BOOLEAN_ONLY).

    Raises:
        ValidationCrashed: GX raised, a suite is empty, or the result does not cover every expectation.
    """
    expected = sum(len(expectations) for _, expectations in frames.values())
    if not all(expectations for _, expectations in frames.values()):
        raise ValidationCrashed(
            f"Batch {batch[:12]}: a suite has no expectations. The contract must give at least one."
        )
    try:
        results = _run_checkpoints(_context(docs), batch, frames)
    except Exception as error:
        raise ValidationCrashed(
            f"Batch {batch[:12]}: the validation suite crashed ({type(error).__name__}). "
            "Nothing of the batch is accepted; the cause is in the task's log. Mend it and run the night again."
        ) from error
    if len(results) != expected:
        raise ValidationCrashed(
            f"Batch {batch[:12]}: the validation covers {len(results)} of {expected} expectations. "
            "Nothing of the batch is accepted; check the suite and run the night again."
        )
    verdict = Judgement([_named(result) for result in results if not result.success or _raised(result)], expected)
    _write_index(batch, verdict, docs)
    return verdict


def _context(docs: Path) -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when GX is imported: nothing is reported to anyone
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    for noisy in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.add_data_docs_site(
        site_name="batch",
        site_config={
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    return context


def _run_checkpoints(context: Any, batch: str, frames: dict[str, tuple[pd.DataFrame, list[Any]]]) -> list[Any]:
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction

    source = context.data_sources.add_pandas("intake")
    results = []
    for asset, (frame, expectations) in frames.items():
        definition = source.add_dataframe_asset(asset).add_batch_definition_whole_dataframe("whole")
        suite = context.suites.add(gx.ExpectationSuite(name=asset, expectations=expectations))
        validation = context.validation_definitions.add(
            gx.ValidationDefinition(name=asset, data=definition, suite=suite)
        )
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=asset,
                validation_definitions=[validation],
                actions=[UpdateDataDocsAction(name="data docs", site_names=["batch"])],
                result_format="BOOLEAN_ONLY",
            )
        )
        outcome = checkpoint.run(
            batch_parameters={"dataframe": frame}, run_id=gx.RunIdentifier(run_name=f"{asset} {batch[:12]}")
        )
        for run in outcome.run_results.values():
            results.extend(run.results)
    return results


def _write_index(batch: str, verdict: Judgement, docs: Path) -> None:
    """A first page that needs no script: GX's own lists its pages only with scripts from a content network."""
    pages = sorted(page.relative_to(docs).as_posix() for page in docs.glob("validations/**/*.html"))
    items = "".join(f'<li><a href="{quote(page)}">{escape(page.split("/")[1])}</a></li>' for page in pages)
    failed = "".join(f"<li>{escape(name)}</li>" for name in verdict.failures)
    said = (
        f"{len(verdict.failures)} of {verdict.expectations} expectations failed"
        if failed
        else f"all {verdict.expectations} expectations hold"
    )
    (docs / "index.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Batch {batch[:12]}</title>'
        f"<h1>Batch {batch[:12]}: {said}</h1><ul>{failed}</ul><p>Validation results:</p><ul>{items}</ul></html>"
    )


def _raised(result: Any) -> bool:
    """GX keeps an exception either flat or per metric."""
    info = result.exception_info or {}
    return bool(info.get("raised_exception")) or any(
        isinstance(one, dict) and one.get("raised_exception") for one in info.values()
    )


def _named(result: Any) -> str:
    config = result.expectation_config
    column = config.kwargs.get("column")
    said = config.type.removeprefix("expect_").replace("_", " ")
    return f"{column}: {said}" if column else said
