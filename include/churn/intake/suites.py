"""Runs suites of Great Expectations frame by frame, combines the results, and builds the Data Docs from them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from churn.foundation.digests import json_digest

if TYPE_CHECKING:
    import pandas as pd

# Great Expectations imports Spark Connect if Spark is installed, and where a process has no main file, that import ends the process.
sys.modules.setdefault("pyspark.sql.connect", None)  # type: ignore[arg-type]  # Python's way to say that there is no such module

_SITE = "batch"
_FORMAT: Literal["BOOLEAN_ONLY", "BASIC"] = "BOOLEAN_ONLY"
"""Results have no value of a row."""


@dataclass(frozen=True)
class Suite:
    """A suite: its name, and the configuration of each expectation with an id. It can be pickled."""

    name: str
    configurations: tuple[Any, ...]

    def of_type(self, kind: str) -> list[Suite]:
        """A suite for each of its expectations of a type."""
        return [Suite(self.name, (only,)) for only in self.configurations if only.type == kind]


class DataDocs:
    """The Data Docs of a batch while they are built.

    Args:
        folder: where the pages are written.
    """

    def __init__(self, folder: Path) -> None:
        self._context = _context()
        self._context.add_data_docs_site(
            site_name=_SITE,
            site_config={
                "class_name": "SiteBuilder",
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            },
        )

    def add_suite(self, name: str, expectations: Sequence[Any]) -> Suite:
        """Make a suite of expectations. Each gets an id."""
        import great_expectations as gx

        suite = self._context.suites.add(gx.ExpectationSuite(name=name, expectations=list(expectations)))
        return Suite(name, tuple(suite.expectation_configurations))

    def publish(self, results: Sequence[Any], batch: str) -> None:
        """Write the pages of the results of suites, and those of the suites.

        Args:
            results: the result of each suite.
            batch: hash of the batch, which names the run.
        """
        import great_expectations as gx
        from great_expectations.data_context.types.resource_identifiers import (
            ExpectationSuiteIdentifier,
            ValidationResultIdentifier,
        )

        pages: list[Any] = []
        for result in results:
            run = gx.RunIdentifier(run_name=f"{result.suite_name} {batch[:12]}")
            suite = ExpectationSuiteIdentifier(name=result.suite_name)
            page = ValidationResultIdentifier(
                batch_identifier=result.batch_id, expectation_suite_identifier=suite, run_id=run
            )
            result.meta |= {"run_id": run, "validation_time": run.run_time}
            self._context.validation_results_store.store_validation_results(result, page)
            pages += [page, suite]
        self._context.build_data_docs(site_names=[_SITE], resource_identifiers=pages)


def run_suite(suite: Suite, frame: pd.DataFrame) -> Any:
    """Let Great Expectations judge a frame.

    Returns:
        Its result for the suite, which has no value of a row.
    """
    import great_expectations as gx
    from great_expectations.validator.v1_validator import Validator

    # A context of its own: otherwise the frames of a batch would stay in memory until the last one has been judged.
    asset = _context().data_sources.add_pandas("intake").add_dataframe_asset(suite.name)
    validator = Validator(  # what checkpoints use; a batch that validates itself reads and hashes its frame twice
        batch_definition=asset.add_batch_definition_whole_dataframe("whole"),
        batch_parameters={"dataframe": frame},
        result_format=_FORMAT,
    )
    result = validator.validate_expectation_suite(
        gx.ExpectationSuite(name=suite.name, expectations=suite.configurations)
    )
    result.meta["batch_parameters"] = {"dataframe": "<DATAFRAME>"}
    return result


def merge_results(suite: Suite, frames: Sequence[Any], regrouped: Mapping[str, Sequence[Any]]) -> Any:
    """Combine the results of a suite for several frames into the one for all their rows.

    Args:
        suite: the suite.
        frames: the result of the suite for each frame; at least one.
        regrouped: for the id of each expectation that was judged again with equal values in one frame, the results of that.
            They replace those by frame.

    Returns:
        One result, in the order of the first. An expectation holds if it holds everywhere, and has raised if it raised
        anywhere. It is missing if it is missing anywhere. Counts are added up.
    """
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
    from great_expectations.validator.validator import calc_validation_statistics

    first, by_frame = frames[0], [_by_id(result) for result in frames]
    merged = []
    for name in _by_id(first):
        judged = [_by_id(result) for result in regrouped[name]] if name in regrouped else by_frame
        if judged and all(name in results for results in judged):
            merged.append(_merge([results[name] for results in judged]))
    statistics = calc_validation_statistics(merged)
    meta = dict(first.meta)
    if len(frames) > 1:
        prints = [result.meta["batch_markers"]["pandas_data_fingerprint"] for result in frames]
        meta["batch_markers"] = {**first.meta["batch_markers"], "pandas_data_fingerprint": json_digest(prints)}
    return ExpectationSuiteValidationResult(
        results=merged,
        success=statistics.success,
        suite_name=suite.name,
        statistics={
            "evaluated_expectations": statistics.evaluated_expectations,
            "successful_expectations": statistics.successful_expectations,
            "unsuccessful_expectations": statistics.unsuccessful_expectations,
            "success_percent": statistics.success_percent,
        },
        meta=meta,
        batch_id=first.batch_id,
    )


def has_raised(result: Any) -> bool:
    """Whether an expectation raised. Great Expectations keeps an exception either flat or per metric."""
    info = result.exception_info or {}
    return bool(info.get("raised_exception")) or any(
        isinstance(part, dict) and part.get("raised_exception") for part in info.values()
    )


def _by_id(result: Any) -> dict[str, Any]:
    """The result of each expectation of a suite, by its id."""
    return {judged.expectation_config.id: judged for judged in result.results}


def _merge(results: list[Any]) -> Any:
    """Combine the results of one expectation: the first that raised, else the first that failed, with the counts of all."""
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

    if len(results) == 1:
        return results[0]
    raised, failed = [of for of in results if has_raised(of)], [of for of in results if not of.success]
    shown = [*raised, *failed, results[0]][0]
    counts = {name for of in results for name in of.result if name.endswith("_count")}
    return ExpectationValidationResult(
        success=not raised and not failed,
        expectation_config=shown.expectation_config,
        result={name: sum(of.result.get(name, 0) for of in results) for name in sorted(counts)},
        meta=shown.meta,
        exception_info=shown.exception_info,
    )


def _context() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when GX is imported, so that nothing is reported
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    for noisy in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context
