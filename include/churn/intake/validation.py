"""Great Expectations judges the accepted rows and the batch as a whole, and its verdict is the gate.

The columnar engine has set bad rows aside before; here the same contract is checked again by an
independent engine at zero tolerance. An expectation that raised counts as failed, whatever its
severity, and a result that does not cover every rule is an error: a verdict that is missing is never a
good one.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow.parquet as pq

from churn.contract import CONFLICT, DUPLICATE, UNLABELLED, Column, Contract, Kind
from churn.errors import ChurnError
from churn.intake.table_rules import TableRule

ROWS = "rows"
FACTS = "batch"
INDEX, RESULT, PICTURE = "index.html", "validation.json", "drift.png"
_RULES = "rules"  # the key, in an expectation's notes, of the rules that it covers

Suites = dict[str, tuple[pd.DataFrame, list[Any]]]


class ValidationCrashed(ChurnError):  # noqa: N818 -- it says what happened
    """The suite could not come to a verdict; the batch waits, and nothing of it is accepted."""


@dataclass(frozen=True)
class Outcome:
    """What one expectation came to: the rules that it covers, whether they hold, whether that stops the batch."""

    rules: tuple[str, ...]
    said: str
    holds: bool
    critical: bool


@dataclass(frozen=True)
class Judgement:
    """GX's verdict, expectation by expectation. No value of a row is in it."""

    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> list[Outcome]:
        """What stops the batch."""
        return [outcome for outcome in self.outcomes if outcome.critical and not outcome.holds]

    @property
    def warnings(self) -> list[Outcome]:
        """What is only said."""
        return [outcome for outcome in self.outcomes if not outcome.critical and not outcome.holds]

    @property
    def passed(self) -> bool:
        """Whether nothing stops the batch."""
        return not self.failures


def row_expectations(contract: Contract) -> list[Any]:
    """What every accepted row must satisfy, and the table that they make; derived from the contract."""
    import great_expectations.expectations as gxe

    expectations: list[Any] = [
        gxe.ExpectTableColumnsToMatchSet(column_set=list(contract.names), exact_match=True),
        gxe.ExpectColumnValuesToBeUnique(column=contract.key.name, meta={_RULES: [DUPLICATE, CONFLICT]}),
    ]
    for column in contract.columns:
        expectations += _column_expectations(column)
    for relation in contract.relations:
        expectations.append(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A=relation.greater, column_B=relation.lesser, or_equal=True, meta={_RULES: [relation.rule]}
            )
        )
    return expectations


def batch_expectations(rules: Sequence[TableRule]) -> list[Any]:
    """What the numbers of a batch must satisfy."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column=rule.name,
            min_value=rule.minimum if isfinite(rule.minimum) else None,
            max_value=rule.maximum if isfinite(rule.maximum) else None,
            severity=FailureSeverity.CRITICAL if rule.critical else FailureSeverity.WARNING,
            meta={_RULES: [rule.name]},
        )
        for rule in rules
    ]


def accepted_frame(file: Path, contract: Contract) -> pd.DataFrame:
    """Good rows as GX takes them fastest: numbers as numpy has them, texts as categories.

    They are read a column at a time, so that nothing is in memory twice.
    """
    texts = [column.name for column in contract.columns if column.kind is Kind.TEXT]
    rows = pq.ParquetFile(file, read_dictionary=texts)
    columns = {}
    for column in contract.columns:
        values = rows.read(columns=[column.name]).column(0).to_pandas(date_as_object=False)
        # An integer column with absent values would become a float column in pandas.
        columns[column.name] = values.astype("Int64") if column.nullable and column.kind is Kind.INTEGER else values
    return pd.DataFrame(columns, copy=False)


def facts_frame(rules: Sequence[TableRule]) -> pd.DataFrame:
    """The numbers of a batch as a table of one row."""
    return pd.DataFrame({rule.name: [float(rule.value)] for rule in rules})


def judge(batch: str, suites: Suites, required: Sequence[str], docs: Path) -> Judgement:
    """Run the suites through GX checkpoints and build the batch's Data Docs.

    Args:
        batch: hash of the batch, which names the run.
        suites: for each asset (`ROWS`, `FACTS`) its frame and its expectations.
        required: the rules that the result must cover.
        docs: folder that the Data Docs are written to.

    Returns:
        The verdict. No value of a row is in it, nor in the Data Docs (BOOLEAN_ONLY).

    Raises:
        ValidationCrashed: GX raised, a suite is empty, or the result does not cover every rule and expectation.
    """
    expected = sum(len(expectations) for _, expectations in suites.values())
    if not all(expectations for _, expectations in suites.values()):
        raise ValidationCrashed(
            f"Batch {batch[:12]}: a suite has no expectations. The contract must give at least one."
        )
    try:
        results = _run_checkpoints(_context(docs), batch, suites)
    except OSError:  # the disk's fault, not the suite's
        raise
    except Exception as error:
        raise ValidationCrashed(
            f"Batch {batch[:12]}: the validation suite crashed ({type(error).__name__}). "
            "Nothing of the batch is accepted; the cause is in the task's log. Mend it and run the night again."
        ) from error
    verdict = Judgement(tuple(_outcome(result) for result in results))
    uncovered = set(required) - {rule for outcome in verdict.outcomes for rule in outcome.rules}
    if len(results) != expected or uncovered:
        named = f" No expectation covers {', '.join(sorted(uncovered))}." if uncovered else ""
        raise ValidationCrashed(
            f"Batch {batch[:12]}: the validation covers {len(results)} of {expected} expectations.{named} "
            "Nothing of the batch is accepted; check the suite and run the night again."
        )
    (docs / RESULT).write_text(json.dumps([result.to_json_dict() for result in results], indent=1))
    return verdict


def write_index(
    batch: str, verdict: Judgement | None, said: Sequence[str], docs: Path, night: str | None = None
) -> None:
    """The first page of a batch; it needs no script. GX's own lists its pages only with scripts from a content network.

    Args:
        batch: hash of the batch.
        verdict: GX's verdict; None where the file could not be read, and there was nothing to judge.
        said: the sentences about it.
        docs: folder of the Data Docs.
        night: the page of the run that judged it, which leads on to the comparison.
    """
    back = f'<p><a href="{escape(night)}" target="_top">The night that judged it</a></p>' if night else ""
    head, results = _results(verdict, docs) if verdict else ("it cannot be taken", "")
    (docs / INDEX).write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Batch {batch[:12]}</title>'
        "<style>body{font:15px sans-serif;margin:2em;max-width:60em}td{padding:.1em 1em .1em 0}</style>"
        f"<h1>Batch {batch[:12]}: {head}</h1><ul>{''.join(f'<li>{escape(one)}</li>' for one in said)}</ul>"
        f"{back}{results}</html>"
    )


def _results(verdict: Judgement, docs: Path) -> tuple[str, str]:
    """What the verdict comes to, and the links, the picture and the table of rules."""
    pages = sorted(page.relative_to(docs).as_posix() for page in docs.glob("validations/**/*.html"))
    links = "".join(f'<li><a href="{quote(page)}">{escape(page.split("/")[1])}</a></li>' for page in pages)
    links += f'<li><a href="{RESULT}">the results as JSON</a></li>'
    failed = len(verdict.failures)
    head = f"{failed} of {len(verdict.outcomes)} expectations stop it" if failed else "nothing stops it"
    ranked = sorted(verdict.outcomes, key=lambda one: (one.holds, not one.critical))
    rows = "".join(
        f"<tr><td>{'holds' if one.holds else 'FAILS' if one.critical else 'warning'}</td>"
        f"<td>{escape(', '.join(one.rules) or 'the table')}</td><td>{escape(one.said)}</td></tr>"
        for one in ranked
    )
    picture = f'<h2>Drift</h2><img src="{PICTURE}" alt="Drift of each column against the accepted history">'
    return head, (
        f"<h2>Validation results</h2><ul>{links}</ul>{picture if (docs / PICTURE).exists() else ''}"
        f"<h2>Rules</h2><table>{rows}</table>"
    )


def _column_expectations(column: Column) -> list[Any]:
    import great_expectations.expectations as gxe

    makers: dict[str, Any] = {
        UNLABELLED: gxe.ExpectColumnValuesToNotBeNull,
        f"{column.name}.missing": gxe.ExpectColumnValuesToNotBeNull,
        f"{column.name}.type": lambda **told: gxe.ExpectColumnValuesToBeInTypeList(
            type_list=_TYPES[column.kind], **told
        ),
        f"{column.name}.range": lambda **told: gxe.ExpectColumnValuesToBeBetween(
            min_value=column.minimum, max_value=column.maximum, **told
        ),
        f"{column.name}.category": lambda **told: gxe.ExpectColumnValuesToBeInSet(
            value_set=list(column.categories), **told
        ),
    }
    return [makers[rule](column=column.name, meta={_RULES: [rule]}) for rule in column.rules]


_TYPES = {
    Kind.INTEGER: ["int64", "Int64Dtype"],
    Kind.NUMBER: ["float64"],
    Kind.DATE: ["datetime64[ms]", "datetime64[s]", "datetime64[ns]"],
}


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


def _run_checkpoints(context: Any, batch: str, suites: Suites) -> list[Any]:
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction

    source = context.data_sources.add_pandas("intake")
    results = []
    for asset, (frame, expectations) in suites.items():
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


def _outcome(result: Any) -> Outcome:
    """An expectation that raised does not hold, and stops the batch whatever its severity."""
    raised, config = _raised(result), result.expectation_config
    return Outcome(
        rules=tuple((config.meta or {}).get(_RULES, ())),
        said=_named(result),
        holds=bool(result.success) and not raised,
        critical=raised or config.severity != "warning",
    )


def _raised(result: Any) -> bool:
    """GX keeps an exception either flat or per metric."""
    info = result.exception_info or {}
    return bool(info.get("raised_exception")) or any(
        isinstance(one, dict) and one.get("raised_exception") for one in info.values()
    )


def _named(result: Any) -> str:
    config = result.expectation_config
    column = config.kwargs.get("column") or config.kwargs.get("column_A")
    said = config.type.removeprefix("expect_").replace("_", " ")
    return f"{column}: {said}" if column else said
