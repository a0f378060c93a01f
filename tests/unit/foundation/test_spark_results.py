"""A job of Spark that has ended without all of its results is an error, and never waited for."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from churn.foundation.spark.on_spark import require_results
from churn.foundation.spread import WorkerKilled


def ended(worked_on: list[int]) -> Future[list[int]]:
    future: Future[list[int]] = Future()
    future.set_result(worked_on)
    return future


def test_all_results_are_there() -> None:
    """Nothing is raised, in whatever order the parts ended."""
    assert require_results(ended([2, 0, 1]), {0, 1, 2}, 3) is None


@pytest.mark.parametrize(
    ("worked_on", "found"), [([0, 1, 2], {0, 2}), ([0, 2], {0, 1, 2}), ([0, 1, 1], {0, 1, 2}), ([], set())]
)
def test_a_part_or_a_result_that_is_missing_is_an_error(worked_on: list[int], found: set[int]) -> None:
    with pytest.raises(WorkerKilled, match=r"of 3 parts, and \d results came back\. Run the step again"):
        require_results(ended(worked_on), found, 3)


def test_what_made_spark_give_up_is_said_without_its_code() -> None:
    failed: Future[list[int]] = Future()
    failed.set_exception(
        RuntimeError(
            "An error occurred while calling o1.collectToPython.\n: org.apache.spark.SparkException: Job aborted: Traceback:\n"
            '  File "work.py", line 3\nOSError: [Errno 28] No space left on device\n\tat org.apache.spark.Task.run(Task.scala:1)'
        )
    )
    with pytest.raises(
        WorkerKilled, match=r"several attempts: OSError: \[Errno 28\] No space left on device\. Usually"
    ):
        require_results(failed, set(), 3)
