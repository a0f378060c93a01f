"""Lets Great Expectations judge the accepted rows and the batch as a whole. Its verdict is the gate.

The columnar engine has already quarantined bad rows. Here the same contract is checked again by an independent engine at zero
tolerance. An expectation that raised counts as failed whatever its severity, and a result that does not cover every rule is an
error: a missing verdict is never a good one.
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
from churn.intake.rule_words import BrokenRule, example_lines, in_words
from churn.intake.table_rules import TableRule

ROWS = "rows"
FACTS = "batch"
_PAGES = {
    ROWS: "Great Expectations: the accepted rows, checked again",
    FACTS: "Great Expectations: the batch as a whole",
}
INDEX, RESULT, PICTURE = "index.html", "validation.json", "drift.svg"
_RULES = "rules"  # key in the notes of an expectation for the rules that it covers

Suites = dict[str, tuple[pd.DataFrame, list[Any]]]


class ValidationCrashed(ChurnError):  # noqa: N818 -- it says what happened
    """The suite could not reach a verdict. The batch waits, and nothing of it is accepted."""


OF_ARRIVED_ROWS = frozenset({"batch.rejected_share", "batch.accepted_rows", "batch.size"})
"""The rules for a batch that need no accepted row."""


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


def row_expectations(contract: Contract) -> list[Any]:
    """The expectations for accepted rows and their table, derived from the contract."""
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
    """The expectations for the numbers of a batch."""
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
    """Read accepted rows in the form that Great Expectations processes fastest: numpy numbers, texts as categories.

    They are read column by column, so that nothing is in memory twice.
    """
    texts = [column.name for column in contract.columns if column.kind is Kind.TEXT]
    rows = pq.ParquetFile(file, read_dictionary=texts)
    columns = {}
    for column in contract.columns:
        values = rows.read(columns=[column.name]).column(0).to_pandas(date_as_object=False)
        # An integer column with missing values would become a float column in pandas.
        columns[column.name] = values.astype("Int64") if column.nullable and column.kind is Kind.INTEGER else values
    return pd.DataFrame(columns, copy=False)


def facts_frame(rules: Sequence[TableRule]) -> pd.DataFrame:
    """The numbers of a batch as a table with one row."""
    return pd.DataFrame({rule.name: [float(rule.value)] for rule in rules})


def judge(batch: str, suites: Suites, required: Sequence[str], docs: Path) -> Judgement:
    """Run the suites through checkpoints and build the Data Docs of the batch.

    Args:
        batch: hash of the batch, which names the run.
        suites: for each asset (`ROWS`, `FACTS`) its frame and its expectations.
        required: the rules that the result must cover.
        docs: the folder to write the Data Docs to.

    Returns:
        The verdict. Neither it nor the Data Docs contain a value of a row (BOOLEAN_ONLY).

    Raises:
        ValidationCrashed: GX raised, a suite is empty, or the result does not cover every rule and expectation.
    """
    expected = sum(len(expectations) for _, expectations in suites.values())
    if not all(expectations for _, expectations in suites.values()):
        raise ValidationCrashed(
            f"Batch {batch[:12]}: a suite has no expectations. The contract must define at least one."
        )
    try:
        results = _run_checkpoints(_context(docs), batch, suites)
    except OSError:  # a fault of the disk, not of the suite
        raise
    except Exception as error:
        raise ValidationCrashed(
            f"Batch {batch[:12]}: the validation suite crashed ({type(error).__name__}). "
            "Nothing of the batch is accepted. See the task's log for the cause, fix it, and clear the task."
        ) from error
    verdict = Judgement(tuple(_outcome(result) for result in results))
    uncovered = set(required) - {rule for outcome in verdict.outcomes for rule in outcome.rules}
    if len(results) != expected or uncovered:
        uncovered_rules = f" No expectation covers {', '.join(sorted(uncovered))}." if uncovered else ""
        raise ValidationCrashed(
            f"Batch {batch[:12]}: the validation covers {len(results)} of {expected} expectations.{uncovered_rules} "
            "Nothing of the batch is accepted. Check the suite, and clear the task."
        )
    (docs / RESULT).write_text(json.dumps([result.to_json_dict() for result in results], indent=1))
    return verdict


def write_index(
    batch: str,
    verdict: Judgement | None,
    sentences: Sequence[str],
    docs: Path,
    contract: Contract,
    broken: Sequence[BrokenRule],
    run_page: str | None = None,
) -> None:
    """Write the first page of a batch, which needs no script. The one of Great Expectations loads scripts from a content network.

    Args:
        batch: hash of the batch.
        verdict: the verdict; None if the file could not be read and there was nothing to judge.
        sentences: what to say about the batch.
        docs: the folder of the Data Docs.
        contract: the data contract.
        broken: the rules that rows of the batch broke.
        run_page: the page of the run that judged it.
    """
    back = f'<p><a href="{escape(run_page)}" target="_top">The run that judged it</a></p>' if run_page else ""
    head, results = _results(verdict, docs, contract, broken) if verdict else ("the file cannot be read", "")
    (docs / INDEX).write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Batch {batch[:12]}</title>'
        "<style>body{font:15px sans-serif;margin:2em;max-width:70em}td,th{padding:.1em 1em .1em 0;text-align:left}</style>"
        f"<h1>Batch {batch[:12]}: {head}</h1><ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"
        f"{_broken_rules(broken, contract)}{back}{results}</html>"
    )


def _broken_rules(broken: Sequence[BrokenRule], contract: Contract) -> str:
    """The rules that rows broke, with their number and the first lines."""
    if not broken:
        return ""
    rows = "".join(
        f"<tr><td>{escape(rule)}</td><td>{escape(in_words(rule, contract))}</td><td>{count:,}</td>"
        f"<td>{escape(example_lines(count, lines))}</td></tr>"
        for rule, count, lines in broken
    )
    head = "<tr><th>Rule</th><th>Meaning</th><th>Rows</th><th>Examples</th></tr>"
    return f"<h2>Rules that rows broke</h2><table>{head}{rows}</table>"


def _results(verdict: Judgement, docs: Path, contract: Contract, broken: Sequence[BrokenRule]) -> tuple[str, str]:
    """The verdict in a few words, and the links, the picture and the table of rules."""
    pages = sorted(page.relative_to(docs).as_posix() for page in docs.glob("validations/**/*.html"))
    links = "".join(f'<li><a href="{quote(page)}">{_PAGES[page.split("/")[1]]}</a></li>' for page in pages)
    links += f'<li><a href="{RESULT}">Results as JSON</a></li>'
    failed = len(verdict.failures)
    head = (
        f"rejected, {failed} of {len(verdict.outcomes)} expectations failed"
        if failed
        else "all critical expectations are met"
    )
    quarantined = {rule: count for rule, count, _ in broken}
    judged = bool({rule for outcome in verdict.outcomes for rule in outcome.rules} & set(contract.rules))
    ranked = sorted(
        verdict.outcomes,
        key=lambda outcome: (outcome.holds, not outcome.critical, not quarantined.keys() & set(outcome.rules)),
    )
    rows = "".join(
        f"<tr><td>{_state(outcome, quarantined, judged)}</td>"
        f"<td>{escape(', '.join(outcome.rules) or 'the table')}</td><td>{escape(outcome.description)}</td></tr>"
        for outcome in ranked
    )
    covered = {rule for outcome in verdict.outcomes for rule in outcome.rules}
    rows += "".join(
        f"<tr><td>{'broken' if rule in quarantined else 'not judged'}</td><td>{escape(rule)}</td><td>no row was accepted</td></tr>"
        for rule in contract.rules
        if rule not in covered
    )
    picture = f'<h2>Drift</h2><img src="{PICTURE}" alt="Drift of each column, compared with the accepted history">'
    return head, (
        f"<h2>Validation results</h2><ul>{links}</ul>{picture if (docs / PICTURE).exists() else ''}"
        f"<h2>Rules</h2><table>{rows}</table>"
    )


def _state(outcome: Outcome, quarantined: dict[str, int], judged: bool) -> str:
    """The state of an expectation; of one about accepted rows, if none was judged, that it was not judged either."""
    if not outcome.holds:
        return "FAILED" if outcome.critical else "warning"
    if not judged and not set(outcome.rules) <= OF_ARRIVED_ROWS:
        return "not judged"
    rows = sum(quarantined.get(rule, 0) for rule in outcome.rules)
    return f"{rows:,} row{'' if rows == 1 else 's'} quarantined" if rows else "holds"


def _column_expectations(column: Column) -> list[Any]:
    import great_expectations.expectations as gxe

    makers: dict[str, Any] = {
        UNLABELLED: gxe.ExpectColumnValuesToNotBeNull,
        f"{column.name}.missing": gxe.ExpectColumnValuesToNotBeNull,
        f"{column.name}.type": lambda **options: gxe.ExpectColumnValuesToBeInTypeList(
            type_list=_TYPES[column.kind], **options
        ),
        f"{column.name}.range": lambda **options: gxe.ExpectColumnValuesToBeBetween(
            min_value=column.minimum, max_value=column.maximum, **options
        ),
        f"{column.name}.category": lambda **options: gxe.ExpectColumnValuesToBeInSet(
            value_set=list(column.categories or column.texts), **options
        ),
    }
    return [makers[rule](column=column.name, meta={_RULES: [rule]}) for rule in column.rules]


_TYPES = {
    Kind.INTEGER: ["int64", "Int64Dtype"],
    Kind.NUMBER: ["float64"],
    Kind.DATE: ["datetime64[ms]", "datetime64[s]", "datetime64[ns]"],
}


def _context(docs: Path) -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when GX is imported, so that nothing is reported
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
    """The outcome of a result. An expectation that raised does not hold, and rejects the batch whatever its severity."""
    raised, config = _raised(result), result.expectation_config
    return Outcome(
        rules=tuple((config.meta or {}).get(_RULES, ())),
        description=_described(result),
        holds=bool(result.success) and not raised,
        critical=raised or config.severity != "warning",
    )


def _raised(result: Any) -> bool:
    """Whether an expectation raised. Great Expectations keeps an exception either flat or per metric."""
    info = result.exception_info or {}
    return bool(info.get("raised_exception")) or any(
        isinstance(part, dict) and part.get("raised_exception") for part in info.values()
    )


def _described(result: Any) -> str:
    config = result.expectation_config
    column = config.kwargs.get("column") or config.kwargs.get("column_A")
    description = config.type.removeprefix("expect_").replace("_", " ")
    return f"{column}: {description}" if column else description
