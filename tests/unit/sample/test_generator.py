"""What the shipped policy makes of the sample's nights, with the models alone: no server, one seed; more by `make bench WHAT=error-rates`."""

import gzip
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from churn.errors import ChurnError
from churn.sample.generator import cut_into_nights
from support.basics import small_file
from support.judged_files import judge_whole
from support.sampled_runs import decide_nights


def test_the_nights_of_the_sample_are_decided_as_they_should_be() -> None:
    """The first promotes, a new kind of customer promotes, more of the same holds, a night turned round is disputed."""
    first, second, third, turned = decide_nights(seed=1)
    assert (first.verdict, first.code) == ("promote", "NO_CHAMPION")
    assert (second.verdict, second.code) == ("promote", "SUPERIOR")
    assert third.verdict == "hold"
    assert (turned.verdict, turned.code) == ("hold", "BATCH_DISPUTED")


def test_a_file_of_each_format_is_cut_into_nights(tmp_path: Path) -> None:
    """Plain, gzipped and Parquet: the same rows in the same order, each part with its header."""
    text = small_file(100)
    plain, zipped, parquet = (tmp_path / name for name in ("a.csv", "b.csv.gz", "c.parquet"))
    plain.write_text(text)
    zipped.write_bytes(gzip.compress(text.encode(), mtime=0))
    pd.read_csv(plain).to_parquet(parquet)
    whole = judge_whole(text).good.drop_columns(["_line"])
    for file in (plain, zipped, parquet):
        parts = cut_into_nights(file, 3, tmp_path / "nights")
        rows = [judge_whole(part.read_bytes()).good for part in parts]
        assert [part.num_rows for part in rows] == [33, 33, 34]
        assert pa.concat_tables(rows).drop_columns(["_line"]) == whole
    assert cut_into_nights(zipped, 3, tmp_path / "nights")[0].name == "b-night-1.csv"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.csv.gz", gzip.compress(b"a\n" * 100, mtime=0)[:20], "is damaged or incomplete"),
        ("x.parquet", b"PAR1 no more", "is damaged or incomplete"),
        ("x.csv", b"a,b\n1,2\n", "has 1 rows, which are too few for 3 nights"),
    ],
)
def test_a_file_that_cannot_be_cut_is_one_error(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """With what to do."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ChurnError, match=words):
        cut_into_nights(tmp_path / name, 3, tmp_path / "nights")
