"""A contract is found where people put it, and an error says where was looked or which line is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.contracts.loading import load_contract
from churn.contracts.yaml_file import InvalidContract
from churn.settings import Settings, SettingsError
from support.basics import ROOT
from support.other_contract import OTHER

YAML = """
name: {name}
columns:
  id: {{kind: text, role: key}}
  months: {{kind: integer}}
  left: {{kind: integer, role: target, minimum: 0, maximum: 1}}
"""
PYTHON = """
from dataclasses import replace
from churn.contracts import bank

MINE = replace(bank.BANK_CHURN, name="mine")
"""


@pytest.mark.parametrize("place", ["plans.yaml", "contracts/plans.yaml", "contracts/deep/plans.yml"])
def test_a_file_is_found_in_the_project(tmp_path: Path, place: str) -> None:
    """Beside the project's files, in its folder for contracts, and below."""
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(YAML.format(name="plans"))
    assert load_contract(place, tmp_path).name == "plans"
    assert load_contract(place.removeprefix("contracts/"), tmp_path).name == "plans"
    assert load_contract(str(file), Path("/nowhere")).name == "plans"


def test_the_contracts_that_ship_are_found_and_yield_to_those_of_the_project(tmp_path: Path) -> None:
    """By their file, with or without the folder."""
    for name in ("telco.yaml", "contracts/telco.yaml"):
        assert load_contract(name, tmp_path).name == "telco"
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/telco.yaml").write_text(YAML.format(name="ours"))
    assert load_contract("contracts/telco.yaml", tmp_path).name == load_contract("telco.yaml", tmp_path).name == "ours"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("mine_in_root.py", "mine_in_root:MINE"),
        ("contracts/mine_a.py", "mine_a:MINE"),
        ("contracts/mine_b.py", "contracts.mine_b:MINE"),
        ("contracts/mine_c.py", "contracts/mine_c.py:MINE"),
        ("contracts/mine_d.py", "mine_d.py"),
    ],
)
def test_a_python_file_is_found_by_its_path_or_as_a_module(tmp_path: Path, place: str, name: str) -> None:
    """Without a name, the only contract in it is meant."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / place).write_text(PYTHON)
    assert load_contract(name, tmp_path).name == "mine"


def test_a_module_of_the_python_path_is_found(tmp_path: Path) -> None:
    """As before."""
    assert load_contract("support.other_contract:OTHER", tmp_path) is OTHER
    assert load_contract("churn.contracts.bank:BANK_CHURN", tmp_path) is BANK_CHURN


def test_a_file_that_changed_is_read_again_and_one_that_did_not_is_not(tmp_path: Path) -> None:
    """The same object while the file is the same: pages load the settings for every answer."""
    file = tmp_path / "plans.yaml"
    file.write_text(YAML.format(name="plans"))
    first = load_contract("plans.yaml", tmp_path)
    assert load_contract("plans.yaml", tmp_path) is first
    file.write_text(YAML.format(name="others"))
    os.utime(file, (1, 1))
    assert load_contract("plans.yaml", tmp_path).name == "others"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "plans.yaml",
            r"no such file in the project folder .*, in its folder contracts, among the contracts that ship, or",
        ),
        ("plans.yaml", r"Existing contracts: churn\.contracts\.bank:BANK_CHURN, telco\.yaml"),
        ("no_such_module:NAME", r"no module no_such_module in the project folder .* or on the Python path"),
        ("no.such.module:NAME", r"no module no\.such\.module"),
        ("telco", r"must name a file that ends with \.yaml"),
        ("churn.contract:Kind", r"must name a churn\.contract\.Contract, not a "),
        ("churn.contracts.bank:BANK", r"bank\.py has no BANK\. It has BANK_CHURN\."),
    ],
)
def test_what_is_not_found_says_where_was_looked(tmp_path: Path, name: str, words: str) -> None:
    """And which contracts there are."""
    with pytest.raises(InvalidContract, match=words):
        load_contract(name, tmp_path)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("A = (1,\nB = 2", r"^contracts/bad\.py, line 1, column 5: "),
        ("import churn\n\nA = 1 / 0", r"^contracts/bad\.py, line 3: ZeroDivisionError: division by zero$"),
        ("import no_such_package", r"^contracts/bad\.py, line 1: ModuleNotFoundError: No module named"),
        (
            PYTHON + "\nfrom churn.contract import Column, Kind, Role\nColumn('x', Kind.TEXT, Role.FEATURE)",
            r"^contracts/bad\.py, line 8: Column x: a text that is a feature needs categories",
        ),
        ("x = 1", r"^contracts/bad\.py has no MINE\. It has no contract\.$"),
    ],
)
def test_an_error_in_a_python_file_names_the_line(tmp_path: Path, code: str, words: str) -> None:
    """A syntax error its column too; nobody has to read a traceback."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/bad.py").write_text(code)
    with pytest.raises(InvalidContract, match=words):
        load_contract("bad:MINE", tmp_path)


def test_two_contracts_in_a_file_must_be_told_apart(tmp_path: Path) -> None:
    """Nothing is guessed."""
    (tmp_path / "two.py").write_text(PYTHON + "\nYOURS = MINE\n")
    with pytest.raises(InvalidContract, match=r"name one of them as two\.py:NAME\. It has MINE, YOURS"):
        load_contract("two.py", tmp_path)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / "latin.yaml").write_bytes("name: Zürich".encode("latin-1"))
    with pytest.raises(InvalidContract, match=r"latin\.yaml: The file is not in UTF-8 .* Save it in UTF-8"):
        load_contract("latin.yaml", tmp_path)


def test_the_setting_reports_the_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With its name and its value, in one line."""
    file = tmp_path / "bad.yaml"
    file.write_text("name: x\ncolumn: {}\n")
    monkeypatch.setenv("CHURN_CONTRACT", str(file))
    with pytest.raises(SettingsError) as error:
        Settings.load()
    assert str(error.value).startswith(f"CHURN_CONTRACT='{file}': {file}, line 2, column 1: column is not a key")
    monkeypatch.setenv("CHURN_CONTRACT", "contracts/telco.yaml")
    assert isinstance(Settings.load().contract, Contract)


def test_the_telco_contract_ships(tmp_path: Path) -> None:
    """It is in the wheel with the package, and in the image of the stack with the folder for others."""
    telco = load_contract("telco.yaml", ROOT)
    assert (telco.target.name, telco.key.name, len(telco.columns)) == ("Churn", "customerID", 21)
    assert telco["Churn"].numbers == {"No": 0, "Yes": 1}
    assert {column.name for column in telco.features if column.protected} == {"gender", "SeniorCitizen"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert "churn/contracts/telco.yaml" in zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert "COPY contracts contracts" in (ROOT / "include/stack/Dockerfile").read_text()
    assert "!contracts" in (ROOT / ".dockerignore").read_text()
