"""Settings are typed and read once; a bad one says its name, its value and what is allowed."""

from pathlib import Path

import pytest

from churn import settings
from churn.checkout import HOME
from churn.contracts.bank import BANK_CHURN
from churn.settings import Settings, SettingsError
from support.basics import ROOT, SALT, in_fresh_interpreter


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CHURN_AIRFLOW_PORT", "abc", "valid integer"),
        ("CHURN_MAX_REJECTED_SHARE", "1.5", "less than or equal to 1"),
        ("CHURN_TIMEZONE", "Mars/Olympus", "IANA time zone"),
        ("CHURN_LEDGER_URL", "postgresql://host/db", "postgresql+psycopg2://"),
        ("CHURN_CONTRACT", "churn.contract:Kind", "must name a churn.contract.Contract"),
        ("CHURN_SCHEDULE", "every day", "cron expression"),
        ("CHURN_CONTAINER_ENGINE", "podman", "'auto', 'required' or 'none'"),
        ("CHURN_DATA_ROOT", "", "at least 1 character"),
        ("MLFLOW_TRACKING_URI", "", "at least 1 character"),
        ("CHURN_WATCH_LANDING", "true", "only a data root on S3 can be watched"),
        ("CHURN_SETTLE_SECONDS", "-1", "greater than or equal to 0"),
    ],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    """The error names the variable, its value and what is allowed."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        Settings.load()
    assert name in str(error.value)
    assert value in str(error.value)
    assert words in str(error.value)


def test_a_misspelt_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that begins like ours and is none of ours is not passed over."""
    monkeypatch.setenv("CHURN_SHEDULE", "0 3 * * *")
    with pytest.raises(SettingsError, match="CHURN_SHEDULE"):
        Settings.load()


def test_a_misspelt_setting_in_the_env_file_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is read like the environment: what it sets counts, what nobody knows is refused."""
    (tmp_path / ".env").write_text("CHURN_SEED=7\n")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    assert Settings.load().seed == 7
    (tmp_path / ".env").write_text("CHURN_SEDE=7\n")
    with pytest.raises(SettingsError, match="CHURN_SEDE"):
        Settings.load()


def test_the_salt_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a bad salt nor a good one appears in an error or a print."""
    monkeypatch.setenv("CHURN_BUCKET_SALT", "tooshort")
    with pytest.raises(SettingsError) as error:
        Settings.load()
    assert "CHURN_BUCKET_SALT=(hidden)" in str(error.value)
    assert "tooshort" not in str(error.value)
    monkeypatch.setenv("CHURN_BUCKET_SALT", SALT)
    assert SALT not in repr(Settings.load())


def test_a_password_in_an_address_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an error nor a link holds the user and password of a URL."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:hunter2@mlflow:5005")
    assert Settings.load().mlflow_ui == "http://mlflow:5005"
    monkeypatch.setenv("CHURN_LEDGER_URL", "postgresql://bob:hunter2@host/db")
    with pytest.raises(SettingsError) as error:
        Settings.load()
    assert "hunter2" not in str(error.value)


def test_an_empty_schedule_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty value switches the schedule off instead of being a bad cron expression."""
    monkeypatch.setenv("CHURN_SCHEDULE", "")
    assert Settings.load().schedule is None


def test_the_project_is_found_without_the_settings() -> None:
    """The process of each candidate needs to know where the project is, and would load databases and validation with the settings."""
    assert HOME == ROOT
    loaded = in_fresh_interpreter("import sys, churn.learning.fitting; print('churn.settings' in sys.modules)")
    assert loaded == "False"


def test_every_setting_has_a_section_and_a_description() -> None:
    """The reference and `.env.example` are written from these; `docs/reference.py --check` compares them."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert field.json_schema_extra, name


def test_the_contract_may_be_named_as_before(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The name of the bank contract before it moved works for one minor version, with one warning of one line."""
    settings._warn_of_renamed_contract.cache_clear()
    monkeypatch.setenv("CHURN_CONTRACT", "churn.contract:BANK_CHURN")
    assert Settings.load().contract is Settings.load().contract is BANK_CHURN
    assert [record.getMessage() for record in caplog.records] == [
        "CHURN_CONTRACT=churn.contract:BANK_CHURN is now churn.contracts.bank:BANK_CHURN; the old name works for one minor version."
    ]
