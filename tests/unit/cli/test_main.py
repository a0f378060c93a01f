"""The command line: complete help, JSON that parses, files that land whole, errors of one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner, Result

from churn.cli import main
from churn.contracts.bank import BANK_CHURN
from churn.foundation.ledger import open_ledger
from churn.foundation.records import BatchVerdict, Promotion
from churn.sample.fault_injection import cell_faults, plant_faults
from churn.settings import Settings, environment_name
from support.basics import ROOT, free_port, small_file
from support.review_ledger import fill_ledger

Invoke = Callable[..., Result]


def commands(group: TyperGroup, path: str = "churn") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, TyperGroup) and not command.hidden:
            yield from commands(command, f"{path} {name}")


COMMANDS = dict(commands(typer.main.get_command(main.app)))


def test_the_earlier_name_of_the_local_commands_still_works(churn: Invoke) -> None:
    """`churn embedded` is hidden and deprecated, and does the same."""
    result = churn("embedded", "--help")
    assert result.exit_code == 0
    assert "stop" in result.stdout
    assert "embedded" not in churn("--help").stdout
    assert "`churn embedded` is now `churn local`" in churn("embedded", "stop", "--help").stderr


@pytest.fixture
def churn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call `churn`, with a data root and a ledger of the test's own and an MLflow that is away."""
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("CHURN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(main, "VAR", tmp_path / "var")
    return lambda *arguments: CliRunner().invoke(main.app, [str(argument) for argument in arguments])


@pytest.fixture
def customers(tmp_path: Path) -> Path:
    file = tmp_path / "customers.csv"
    file.write_text(small_file(30))
    return file


def landed(tmp_path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (tmp_path / "data/landing").iterdir()}


def is_one_line(result: Result) -> bool:
    """Exit status 1, one line on standard error, nothing else and no traceback."""
    return (
        result.exit_code == 1
        and result.stdout == ""
        and result.stderr.count("\n") == 1
        and "Traceback" not in result.output
        and isinstance(result.exception, SystemExit)
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    """Nobody has to read the code to know what a command, an option or an argument means."""
    command = COMMANDS[name]
    assert command.help
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not isinstance(command, TyperGroup)])
def test_every_command_is_in_the_reference(name: str) -> None:
    """A command that exists is documented."""
    assert re.search(rf"{name}(?![\w-])", (ROOT / "docs/pages/reference/cli.md").read_text())


@pytest.mark.parametrize("name", ["batches", "history", "settings"])
def test_a_listing_is_json_on_request(churn: Invoke, name: str) -> None:
    """`--json` prints JSON and nothing else, also when there is nothing to list."""
    result = churn(name, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    expected = [environment_name(field) for field in Settings.model_fields] if name == "settings" else []
    assert [row["name"] for row in rows] == expected


def test_what_arrived_and_what_was_promoted_is_listed(
    churn: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long values and times survive as JSON, and the tables say the same."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.add_batch("ab" * 32, "a [name] with brackets.csv", 123, datetime(2026, 1, 2, 3, tzinfo=UTC))
    reason = "a reason that is " + "long " * 60
    now = datetime.now(UTC)
    ledger.promote(Promotion("churn", 0, 1, None, "promotion", "night 1", reason, now, anchor=1), None)
    (batch,) = json.loads(churn("batches", "--json").stdout)
    assert (batch["batch"], batch["name"], batch["state"]) == ("ab" * 32, "a [name] with brackets.csv", "arrived")
    (promotion,) = json.loads(churn("history", "--json").stdout)
    assert (promotion["version"], promotion["reason"].count("long")) == (1, 60)
    assert datetime.fromisoformat(promotion["promoted_at"]).tzinfo
    assert json.loads(churn("batches", "--state", "accepted", "--json").stdout) == []
    assert json.loads(churn("history", "--at", "2020-01-01", "--json").stdout) == []
    assert churn("batches").exit_code == churn("history").exit_code == 0
    assert "night 1" in churn("history").stdout


@pytest.mark.parametrize("command", [("batches",), ("batches", "--files"), ("history",)])
def test_a_table_has_the_newest_rows_and_says_how_many_there_are(
    churn: Invoke, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """After years of runs, a command answers as fast as in the first month; JSON has everything."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    for day in range(1, 4):
        at = datetime(2026, 1, day, tzinfo=UTC)
        ledger.add_batch(f"{day}" * 64, f"file-{day}.csv", 123, at)
        change = Promotion("churn", 0, day, day - 1 or None, "promotion", f"file-{day}.csv", "better", at, anchor=1)
        ledger.promote(change, day - 1 or None)
    shown = churn(*command, "--limit", "2").stdout
    assert "The newest 2 of 3; `--limit 3` shows all." in shown
    assert [name in shown for name in ("file-1.csv", "file-2.csv", "file-3.csv")] == [False, True, True]
    assert "newest" not in churn(*command, "--limit", "3").stdout
    assert len(json.loads(churn(*command, "--limit", "1", "--json").stdout)) == 3


def test_status_says_that_mlflow_is_away(churn: Invoke) -> None:
    """Whether registry and ledger agree cannot be known then: a problem, in JSON, and exit status 1."""
    result = churn("status", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["in_production"] is None
    assert len(document["problems"]) == 1
    assert "MLflow" in document["problems"][0]


def test_status_answers_on_one_screen(churn: Invoke, tmp_path: Path) -> None:
    """Production, verdict and why, metrics, the count of the rules and links, in about 21 lines; an MLflow that is stopped is one sentence."""
    fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 6, until=datetime.now(UTC))
    shown = churn("status").stdout
    for part in (
        "In production:",
        "Last verdict:",
        "ROC AUC",
        "passed",
        "Review: http",
        "does not answer. `make run` starts",
    ):
        assert part in shown
    assert len(shown.splitlines()) <= 24


def test_status_reports_a_run_that_ended_without_a_verdict(churn: Invoke, tmp_path: Path) -> None:
    """A rejected file after the last verdict is named beside that verdict."""
    ledger = fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 6, until=datetime.now(UTC) - timedelta(days=1))
    now = datetime.now(UTC)
    ledger.add_batch("ab" * 32, "broken.csv", 12, now)
    ledger.judge_batch("ab" * 32, "red run", BatchVerdict("rejected", 0, 0, 0, reason="No header."))
    shown = churn("status").stdout
    assert "Last run: no verdict. Run red run ended without a decision: broken.csv is rejected." in shown


def test_a_version_that_never_existed_is_not_served(churn: Invoke) -> None:
    """The error says so before MLflow is asked, and how to list versions."""
    result = churn("serve", "--version", "99")
    assert is_one_line(result)
    assert "Version 99 of churn does not exist. `churn history` lists" in result.stderr


def test_the_salt_is_never_printed(churn: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """`churn settings` hides it, as a table and as JSON."""
    salt = "a salt that must not be seen"
    monkeypatch.setenv("CHURN_BUCKET_SALT", salt)
    assert salt not in churn("settings").output + churn("settings", "--json").output


def test_a_file_lands_complete(churn: Invoke, customers: Path, tmp_path: Path) -> None:
    """The same bytes under the same name, and no unfinished file beside it."""
    result = churn("land", customers)
    assert result.exit_code == 0, result.output
    assert landed(tmp_path) == {"customers.csv": customers.read_text()}
    assert f"{tmp_path}/data/landing/customers.csv" in result.stdout


def test_one_night_of_a_file_lands_with_the_header(churn: Invoke, customers: Path, tmp_path: Path) -> None:
    """Night 2 of 3 is the middle third, in the file's own order."""
    assert churn("land", customers, "--nights", 3, "--night", 2).exit_code == 0
    (text,) = landed(tmp_path).values()
    header, *rows = customers.read_text().splitlines()
    assert text.splitlines() == [header, *rows[10:20]]


def test_a_night_that_there_is_not_is_an_error(churn: Invoke, customers: Path, tmp_path: Path) -> None:
    """The error says how many there are, and nothing lands."""
    result = churn("land", customers, "--nights", 3, "--night", 4)
    assert is_one_line(result), result.output
    assert "no nightly file 4" in result.stderr
    assert not (tmp_path / "data/landing").exists()


def test_a_file_that_there_is_not_is_an_error(churn: Invoke, tmp_path: Path) -> None:
    """The error names the file and what to do."""
    result = churn("land", tmp_path / "missing.csv")
    assert is_one_line(result), result.output
    assert "missing.csv: No such file or directory" in result.stderr


@pytest.mark.parametrize("name", [".hidden.csv", "cells.csv.part"])
def test_a_file_that_would_never_be_taken_in_is_not_landed(churn: Invoke, tmp_path: Path, name: str) -> None:
    """Names of unfinished files are refused with the reason."""
    (tmp_path / name).write_text(small_file(30))
    result = churn("land", tmp_path / name)
    assert is_one_line(result), result.output
    assert "Rename it" in result.stderr


def test_a_place_that_cannot_be_written_is_one_line(churn: Invoke, tmp_path: Path) -> None:
    """A folder that is not there is no traceback."""
    result = churn("sample", "--file", tmp_path / "nowhere/x.csv", "--rows", 5)
    assert is_one_line(result), result.output
    assert "nowhere/x.csv: No such file or directory" in result.stderr


def test_batches_are_looked_at_withdrawn_and_repaired(churn: Invoke, tmp_path: Path) -> None:
    """Show, quarantine, export, release, rejudge, audit, snapshot: by the beginning of a hash, as text and as JSON."""
    data, _ = plant_faults(small_file(60), BANK_CHURN, cell_faults(BANK_CHURN)[:2], [5, 50])
    for name, content in (("good.csv", data), ("bad.csv", b"no,churn\n1,2\n")):
        (tmp_path / name).write_bytes(content)
        assert churn("land", tmp_path / name).exit_code == 0
    assert churn("run").exit_code == 1
    good, bad = sorted(json.loads(churn("batches", "--json").stdout), key=lambda entry: entry["state"])
    beginning = good["batch"][:8]
    shown = json.loads(churn("batches", "show", beginning, "--json").stdout)
    assert (shown["batch"]["accepted_rows"], shown["batch"]["quarantined_rows"]) == (58, 2)
    assert [entry["name"] for entry in shown["sightings"]] == ["good.csv"]
    seen = {entry["name"]: entry["state"] for entry in json.loads(churn("batches", "--files", "--json").stdout)}
    assert seen == {"good.csv": "accepted", "bad.csv": "rejected"}
    assert "good.csv" in churn("batches", "--files").stdout
    assert "RowNumber.missing" in churn("batches", "show", beginning).stdout
    assert [entry["rows"] for entry in json.loads(churn("quarantine", "show", beginning, "--json").stdout)] == [1, 1]
    raw = [row["_raw"] for row in json.loads(churn("quarantine", "show", beginning, "--raw", "--json").stdout)]
    assert raw == [data.decode().splitlines()[line] for line in (6, 51)]
    out = tmp_path / "rows.csv"
    assert "release" in churn("quarantine", "export", beginning, "-o", out).stdout
    assert churn("quarantine", "release", beginning, out).exit_code == 0
    assert churn("batches", "rejudge", bad["batch"]).exit_code == 0
    assert is_one_line(churn("batches", "rejudge", beginning))
    assert is_one_line(churn("batches", "show", "ffff0000"))
    assert {entry["state"] for entry in json.loads(churn("batches", "--json").stdout)} == {"accepted", "arrived"}
    assert json.loads(churn("audit", "--hashes", "--json").stdout) == {"batches": 3, "populations": 0, "losses": []}
    (tmp_path / "data/accepted/stranger.parquet").write_text("x")
    audited = churn("audit")
    assert audited.exit_code == 1
    assert "restore what is missing" in audited.stdout
    (snapshot,) = json.loads(churn("snapshot", "list", "--json").stdout)
    assert snapshot["batches"] == [good["batch"]]
    assert "The same 58 rows" in churn("snapshot", "rebuild", snapshot["snapshot"][:10]).stdout
    assert is_one_line(churn("snapshot", "rebuild", "abc"))


def test_the_shipped_policy_is_accepted(churn: Invoke) -> None:
    """`churn policy check` prints what the policy says, as JSON."""
    result = churn("policy", "check")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["superiority"] == {"error_budget": 0.1, "nights": 90, "first_look": 0.9}
    assert {"evidence", "floor", "slices", "dispute", "freshness"} <= set(document)


def test_a_very_high_roc_auc_is_confirmed_once_and_shown_in_the_history(churn: Invoke) -> None:
    """The first reason counts; an empty one is refused."""
    assert is_one_line(churn("policy", "confirm", "--reason", " "))
    assert "a small, clean data set" in churn("policy", "confirm", "--reason", "a small, clean data set").stdout
    assert "a small, clean data set" in churn("policy", "confirm", "--reason", "another").stdout
    assert "a very high ROC AUC is plausible: confirmed by" in churn("history").stdout
    (row,) = json.loads(churn("history", "--json").stdout)
    assert (row["kind"], row["model"], row["reason"]) == ("confirmation", "churn", "a small, clean data set")
    assert json.loads(churn("history", "--at", "2020-01-01", "--json").stdout) == []


def test_a_ledger_of_another_contract_or_model_is_refused_before_anything_is_read(
    churn: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that names both, and the settings; with the right names again, everything works."""
    assert churn("history").exit_code == 0
    for name, value in (("CHURN_MODEL_NAME", "another"), ("CHURN_CONTRACT", "support.other_contract:OTHER")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            result = churn("batches")
        assert is_one_line(result), result.output
        assert "belongs to contract bank_churn and model churn" in result.stderr
        assert name in result.stderr
    assert churn("batches").exit_code == 0


def test_a_broken_policy_is_named(churn: Invoke, tmp_path: Path) -> None:
    """A misspelt key is an error with its full name, and so is the one that it leaves missing."""
    broken = tmp_path / "policy.yaml"
    broken.write_text((ROOT / "include/churn/promotion_policy.yaml").read_text().replace("nights:", "nihgts:"))
    result = churn("policy", "check", broken)
    assert is_one_line(result), result.output
    for word in ("policy.yaml", "superiority.nihgts", "superiority.nights"):
        assert word in result.stderr


@pytest.mark.parametrize("command", ["batches", "run", "status", "settings"])
def test_a_bad_setting_is_one_line(churn: Invoke, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Name, value and what is allowed; no traceback."""
    monkeypatch.setenv("CHURN_AIRFLOW_PORT", "abc")
    result = churn(command)
    assert is_one_line(result), result.output
    assert "CHURN_AIRFLOW_PORT='abc'" in result.stderr
    assert "valid integer" in result.stderr


def test_nothing_to_do_is_no_error(churn: Invoke) -> None:
    """`churn run` on an empty landing zone says so and ends with 0."""
    result = churn("run")
    assert result.exit_code == 0, result.output
    assert "Nothing new arrived" in result.stdout


def test_alerts_are_listed_with_those_that_wait(churn: Invoke, tmp_path: Path) -> None:
    """What the ledger says is noticed, once, before it is listed: as text and as JSON."""
    assert "no alerts" in churn("alerts").stdout
    (tmp_path / "bad.csv").write_text("no,churn\n1,2\n")
    assert churn("land", tmp_path / "bad.csv").exit_code == 0
    assert churn("run").exit_code == 1
    (alert,) = json.loads(churn("alerts", "--json").stdout)
    assert (alert["kind"], alert["sent_at"], alert["sent_to"]) == ("batch_rejected", None, [])
    listed = churn("alerts").stdout
    assert "bad.csv) was rejected (not sent)" in listed
    assert "Next: " in listed


def test_the_file_of_notifications_is_checked(churn: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`churn alerts --check` names the entries, or what is wrong with one."""
    assert "CHURN_NOTIFICATIONS_FILE is not set" in churn("alerts", "--check").stdout
    monkeypatch.setenv("CHURN_NOTIFICATIONS_FILE", "include/notifications.example.yaml")
    checked = churn("alerts", "--check")
    assert checked.exit_code == 0, checked.output
    assert re.search(r"SmtpNotifier \w+: everything\nSnsNotifier \w+: image_failed,", checked.stdout)
    file = tmp_path / "n.yaml"
    file.write_text("- {notifier: airflow.providers.smtp.notifications.smtp.SmtpNotifier, too: x}")
    monkeypatch.setenv("CHURN_NOTIFICATIONS_FILE", str(file))
    result = churn("alerts", "--check")
    assert is_one_line(result), result.output
    assert "SmtpNotifier does not accept" in result.stderr
