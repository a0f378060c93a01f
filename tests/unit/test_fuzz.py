"""Odd input ends in a result whose promises hold, or in a plain, typed error. Those of Airflow are in `tests/dags/test_fuzz_forms.py`."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from churn.contract import Contract
from churn.intake.batch_file import Piece
from churn.intake.csv_reading import CsvBatch
from support.basics import ROOT
from support.fuzzing import cases
from support.fuzzing.cases import (
    KEPT,
    Defect,
    Target,
    answer_to,
    assert_no_defect,
    make_case,
    run_cases,
    shrink,
)
from support.fuzzing.faulty import ENDS
from support.fuzzing.promises import CANARY, require_plain
from support.fuzzing.targets import NAMES, find_target

OF_AIRFLOW = {"review", "conf"}
CASES = {
    "csv": 100, "gzip": 120, "parquet": 100, "population": 25, "labels": 15, "policy": 400, "scoring": 300, "contract": 250, "service": 350, "http": 100,
}  # fmt: skip
"""With those of Airflow, 2,000."""


def test_every_target_is_run() -> None:
    """Here or with Airflow, and every kept case belongs to one."""
    assert CASES.keys() | OF_AIRFLOW == set(NAMES)
    assert {folder.name for folder in KEPT.iterdir()} <= set(NAMES)


@pytest.mark.parametrize("name", CASES)
def test_odd_input_ends_in_a_result_or_a_plain_error(name: str) -> None:
    """Cases of a fixed seed, and all that were kept because they once did not."""
    assert_no_defect(find_target(name), CASES[name])


def test_a_reader_that_raises_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the place of the error, and the case as a file that shows it again."""

    def fail(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(CsvBatch, "check", fail)
    tally = run_cases(find_target("csv"), 1, range(5))
    assert tally.outcomes["defect"] == len(tally.findings) > 0
    finding = tally.findings[0]
    assert (finding.target, finding.seed) == ("csv", 1)
    assert finding.kind.startswith("ValueError in ")
    file = finding.write(tmp_path)
    assert "planted" in file.with_suffix(".reason.txt").read_text()
    assert (answer_to(find_target("csv"), file.read_bytes())[1] or ("",))[0] == finding.kind


def test_a_reader_that_loses_a_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if its own counts add up."""
    read = CsvBatch.pieces

    def lose(file: CsvBatch, contract: Contract) -> Iterator[Piece]:
        for piece in read(file, contract):
            lost = piece.plain is not None and piece.plain.num_rows > 0
            yield dataclasses.replace(piece, arrived=piece.arrived - 1, plain=piece.plain.slice(1)) if lost else piece

    monkeypatch.setattr(CsvBatch, "pieces", lose)
    kinds = {finding.kind for finding in run_cases(find_target("csv"), 1, range(20)).findings}
    assert "Defect: The number of records differs" in kinds


def test_make_fuzz_goes_on_after_a_process_that_ended(tmp_path: Path) -> None:
    """It is a defect like any other: the case is written, the others are run, and the exit status is 1."""
    command = [
        sys.executable,
        str(ROOT / "benchmarks/fuzz.py"),
        "--cases",
        "30",
        "--folder",
        str(tmp_path),
        "--only",
        "faulty:ENDS",
    ]
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT / "tests")}, capture_output=True, text=True, check=False
    )
    numbers = {number: int(make_case(ENDS, 1, number)) for number in range(30)}
    faulty = {number for number, digit in numbers.items() if digit in (3, 7)}
    written = {file.name: file.read_text() for file in (tmp_path / "ends").iterdir()}
    assert ended.returncode == 1, ended.stderr
    assert {name for name in written if "reason" not in name} == {f"seed-1-case-{number}" for number in faulty}
    for number in faulty:
        kind = "A planted fault" if numbers[number] == 3 else "the process ended"
        assert kind in written[f"seed-1-case-{number}.reason.txt"]
    assert re.search(r"faulty:ENDS\s*│\s*30\s*│", ended.stdout)


def test_a_case_that_takes_too_long_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "SLOWEST", -1.0)
    _, fault = answer_to(Target("slow", lambda _: b"", lambda _: "done"), b"")
    assert fault is not None
    assert fault[0] == "hang"


def test_a_case_is_made_again_from_its_number() -> None:
    """The same target, seed and number give the same bytes; another number gives others."""
    target = find_target("parquet")
    assert make_case(target, 7, 3) == make_case(target, 7, 3)
    assert len({make_case(target, 7, number) for number in range(20)}) > 15
    assert make_case(target, 8, 3) != make_case(target, 7, 3)


def test_a_case_is_shrunk_to_what_fails() -> None:
    assert shrink(b"a" * 50 + b"bad" + b"c" * 70, lambda case: b"bad" in case) == b"bad"


@pytest.mark.parametrize(
    "message",
    [
        "",
        " ",
        "x" * 5000,
        "a\0b",
        "a\nb",
        "a\u2028b",
        "\ud800",
        "KeyError: 'a'",
        "Traceback (most recent call last)",
        f"Age must not be {CANARY}.",
    ],
)
def test_a_message_that_is_not_plain_is_a_defect(message: str) -> None:
    with pytest.raises(Defect):
        require_plain(message)
    require_plain("The file is empty. Ask the sender for a complete file.")
