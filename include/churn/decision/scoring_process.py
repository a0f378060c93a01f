"""Scores rows with a registered model in another process, which has nothing of this one but the files of the model."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import churn
from churn.errors import ChurnError, Outage
from churn.serving.model import load_estimator

_MAIN = "from churn.decision.scoring_process import main; main()"
_SECONDS = 300.0
"""How long the process may take to load the model, and to score rows."""


class ScoringEnded(ChurnError):  # noqa: N818 -- names the state
    """The process ended: the model cannot be loaded, or failed."""


class ScoringSilent(Outage):
    """The process did not answer in time."""


@contextmanager
def scoring_process(
    folder: Path, types: list[str], environment: dict[str, str]
) -> Iterator[Callable[[pd.DataFrame], NDArray[np.float64]]]:
    """Start a process with the model of a folder; it is ended on leaving.

    Args:
        folder: of the MLflow model.
        types: types that it may contain in addition to those that are trusted anyway.
        environment: of the process.

    Yields:
        A function from the columns of the model, in its types, to probabilities of class 1, shape (rows,).

    Raises:
        ScoringEnded: the model cannot be loaded, or failed.
        ScoringSilent: the process does not answer in time.
    """
    ours, theirs = Pipe()
    with ours, tempfile.TemporaryFile("w+") as log:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment | {"PYTHONPATH": str(Path(churn.__file__).parents[1])},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def ask(message: Any) -> Any:
            try:
                ours.send(message)
                if ours.poll(_SECONDS):
                    return ours.recv()
            except (EOFError, OSError) as error:
                # The type of an error alone: its text may quote the value of a customer.
                what = _last_line(log).partition(":")[0]
                raise ScoringEnded(
                    f"The process that scores again ended with status {process.wait()}: {what}"
                ) from error
            raise ScoringSilent(f"The process that scores again has not answered within {_SECONDS:.0f} s. Retry.")

        try:
            ask((folder, types))
            yield ask
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Load a model, and score the rows that come through the pipe until it is closed."""
    pipe = Connection(int(sys.argv[1]))
    try:
        model = load_estimator(*pipe.recv())
        pipe.send(None)
        while True:
            pipe.send(np.asarray(model.predict_proba(pipe.recv()), np.float64)[:, 1])
    except EOFError:
        return


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    return (log.read().strip().splitlines() or ["it wrote nothing"])[-1][:200]
