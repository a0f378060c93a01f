"""How the tests divide the files that arrive, and where they work: `TEST_DIVISION`, by default two cores and whole files.

`make test-divisions` runs the corpus with each of them. Tiny parts hold at most three records, which `assert_tiny` checks.
"""

from __future__ import annotations

import importlib
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise

import duckdb
from pydantic import SecretStr

from churn.foundation import columnar
from churn.foundation.spark.on_spark import OnSpark
from churn.foundation.spread import Here, Spread
from churn.intake.division import PART_SIZE, Division
from churn.intake.table_rules import IntakeLimits

columnar_engine = importlib.import_module("churn.foundation.columnar.engine")
TINY_PART = 150
"""Bytes of a part of two records of the bank contract; one more fits if they are short."""
MOST_RECORDS = 3


@dataclass(frozen=True)
class TestDivision:
    """Cores, and bytes of a part."""

    __test__ = False

    cores: int
    part_size: int
    on_spark: bool = False
    apart: bool = False


class Apart(Here):
    """The cores of this machine in the place of other machines: work goes where it would go there."""

    def goes_apart(self, parts: int) -> bool:
        return parts >= 1


DIVISIONS = {
    "whole-1": TestDivision(1, PART_SIZE),
    "whole-2": TestDivision(2, PART_SIZE),
    "tiny-1": TestDivision(1, TINY_PART),
    "tiny-2": TestDivision(2, TINY_PART),
    "apart": TestDivision(2, PART_SIZE, apart=True),
    "spark": TestDivision(2, 20_000, on_spark=True),
}
CHOSEN = DIVISIONS[os.environ.get("TEST_DIVISION", "whole-2")]
SALT = b"a salt of sixteen bytes or more"
HERE: Spread = Apart(CHOSEN.cores, "500MB") if CHOSEN.apart else Here(CHOSEN.cores, "500MB")
SETTINGS: dict[str, object] = {"cores": CHOSEN.cores, "part_size": CHOSEN.part_size}
"""What workspaces are given; a part may be smaller than a setting allows."""
if CHOSEN.on_spark:
    from support.spark_cluster import shared_cluster

    _place = shared_cluster().place()
    HERE = OnSpark(_place, Here(CHOSEN.cores, "500MB"), least=1)
    SETTINGS |= {
        "spread": "spark",
        "spark_master": _place.master,
        "spark_conf": _place.conf_file,
        "spark_secret": SecretStr(str(_place.secret)),
        "spark_parts": 1,
    }
BYTES = CHOSEN.part_size


def limits(max_rejected_share: float = 0.05) -> IntakeLimits:
    """The limits of intake, with the chosen division."""
    return IntakeLimits(max_rejected_share=max_rejected_share, spread=HERE, part_size=BYTES, salt=SALT)


def assert_tiny(division: Division | None) -> None:
    """A file of many records has at least twenty parts of at most three records each."""
    assert division is not None
    assert len(division.parts) >= 20
    firsts = [part.first for part in division.parts]
    assert max(after - before for before, after in pairwise(firsts)) <= MOST_RECORDS


_idle: defaultdict[str, list[tuple[ExitStack, duckdb.DuckDBPyConnection]]] = defaultdict(list)


@contextmanager
def reused_engine(memory_limit: str, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the engine of a part, or use one again that is idle: to open one for each of thousands of tiny parts takes half of a run."""
    if threads != 1:
        with columnar_engine.engine(memory_limit, threads) as connection:
            yield connection
        return
    try:
        opened, connection = _idle[memory_limit].pop()
    except IndexError:
        opened = ExitStack()
        connection = opened.enter_context(columnar_engine.engine(memory_limit, threads))
    try:
        yield connection
    except BaseException:
        opened.close()
        raise
    _idle[memory_limit].append((opened, connection))


if CHOSEN.part_size == TINY_PART:
    columnar.engine = reused_engine
