"""`churn contract draft` and `churn contract check`: from a file to a contract, without ledger or landing zone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from churn.cli.contracts import contract_app
from churn.contracts.bank import BANK_CHURN
from churn.contracts.yaml_file import read_contract
from churn.sample.fault_injection import cell_faults, plant_faults
from churn.sample.generator import Night, make_night
from support.basics import small_file
from support.coded_contract import CODED

Invoke = Callable[..., Result]


@pytest.fixture
def churn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call `churn contract` in an empty folder; a ledger or a data root would be created there."""
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("CHURN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(contract_app, [str(argument) for argument in arguments])


@pytest.fixture
def customers(tmp_path: Path) -> Path:
    file = tmp_path / "Phone customers.csv"
    file.write_text(make_night(CODED, Night(rows=500, first_customer=1, seed=1)))
    return file


def test_a_draft_is_printed_written_and_checked(churn: Invoke, customers: Path) -> None:
    """The three steps of somebody with a file: draft, check, and nothing else is written."""
    printed = churn("draft", customers)
    assert printed.exit_code == 0, printed.output
    assert read_contract(printed.stdout, "draft").name == "phone_customers"
    written = churn("draft", customers, "--out", "mine.yaml", "--name", "Mine")
    assert "churn contract check" in written.stdout
    before = sorted(os.listdir())  # noqa: PTH208
    checked = churn("check", customers, "--contract", "mine.yaml")
    assert checked.exit_code == 0, checked.output
    assert "Under the contract mine, the file would be accepted." in checked.stdout
    assert "500 rows: 500 would be accepted, 0 quarantined." in checked.stdout
    assert sorted(os.listdir()) == before == ["Phone customers.csv", "mine.yaml"]  # noqa: PTH208


def test_a_draft_in_python_is_a_module(churn: Invoke, customers: Path) -> None:
    """It can be named as a file."""
    Path("mine.py").write_text(churn("draft", customers, "--python", "--name", "mine").stdout)
    assert churn("check", customers, "--contract", "mine.py:MINE").exit_code == 0
    assert churn("check", customers, "--contract", "mine.py").exit_code == 0


def test_a_draft_can_be_read_by_a_program(churn: Invoke, customers: Path) -> None:
    """As JSON: the columns with their fields and notes, and the questions."""
    document = json.loads(churn("draft", customers, "--json").stdout)
    assert document["columns"][0] | {"notes": []} == {
        "name": "customerID",
        "fields": {"kind": "text", "role": "key"},
        "notes": [],
    }
    assert document["questions"]
    assert churn("draft", customers, "--json", "--python").exit_code == 1


def test_a_file_that_would_be_rejected_has_an_exit_status_and_json(churn: Invoke, tmp_path: Path) -> None:
    """The rules with their rows, lines and meaning; no value of the file."""
    file = tmp_path / "bad.csv"
    data, expected = plant_faults(small_file(100), BANK_CHURN, cell_faults(BANK_CHURN)[:20], range(0, 100, 5))
    file.write_bytes(data)
    result = churn("check", file, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["rejected"], document["quarantined"]) == (1, True, 20)
    assert sum(rule["rows"] for rule in document["rules"]) == len(expected)
    shown = churn("check", file)
    assert shown.exit_code == 1
    assert "would be rejected: 20 of 100 rows broke a rule" in shown.stdout
    assert "RowNumber.type" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("draft", "no-such-file.csv"), "no-such-file.csv: No such file or directory"),
        (("check", "no-such-file.csv"), "no-such-file.csv: No such file or directory"),
        (("draft", "empty.csv"), "No contract can be proposed from empty.csv: The file is empty."),
        (("draft", "Phone customers.csv", "--out", "empty.csv"), "empty.csv exists. Nothing was written."),
        (("check", "Phone customers.csv", "--contract", "nothing.yaml"), "there is no such file in the project folder"),
        (("check", "Phone customers.csv", "--contract", "empty.yaml"), "empty.yaml: The file is empty."),
    ],
)
def test_bad_input_is_one_error(churn: Invoke, customers: Path, arguments: tuple[str, ...], words: str) -> None:
    """On standard error, with the next step, and without a traceback."""
    Path("empty.csv").write_text("")
    Path("empty.yaml").write_text("")
    result = churn(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert "Traceback" not in result.output
