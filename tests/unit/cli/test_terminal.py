"""Errors that a person can act on become one message and an exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from churn.cli.terminal import explained, named_now
from churn.errors import ChurnError, NothingToDo
from churn.foundation import progress


def raising(error: Exception) -> Callable[[], None]:
    @explained
    def command() -> None:
        raise error

    return command


def test_an_error_is_one_message_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1; square brackets are text."""
    with pytest.raises(typer.Exit) as ended:
        raising(ChurnError("The file [red]x[/red] is empty."))()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "Error: The file [red]x[/red] is empty.\n"


def test_a_file_that_a_person_named_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name and the reason of the system."""

    @explained
    def command() -> None:
        (tmp_path / "missing.csv").read_text()

    with pytest.raises(typer.Exit):
        command()
    assert capsys.readouterr().err == f"Error: {tmp_path}/missing.csv: No such file or directory\n"


def test_nothing_to_do_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    """The message is shown, and the exit status is 0."""
    raising(NothingToDo("Nothing new arrived."))()
    assert "Nothing new arrived." in capsys.readouterr().out


@pytest.mark.parametrize("defect", [ValueError("a defect"), OSError("without a file")])
def test_a_defect_is_not_hidden(defect: Exception) -> None:
    """Anything else is raised as it is."""
    with pytest.raises(type(defect)):
        raising(defect)()


def test_names_do_not_repeat() -> None:
    """Two calls at once have two names."""
    assert named_now("manual") != named_now("manual")
    assert named_now("manual").startswith("manual__")


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """A command shows bars only where standard error is a terminal; elsewhere long steps are in the log."""
    shown = []

    @explained
    def command() -> None:
        shown.append(progress._bars.get() is not None)

    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    command()
    assert shown == [terminal]
    assert progress._bars.get() is None
