"""Loads a model where nothing exists but what will be in its image, and asks it. A program: `learning.serving_trial` starts it.

It runs without site packages of its own (`python -I -S`), and imports nothing of the product before the import system is
restricted. It writes what happened to a file, because the model may print.
"""

import json
import pickle
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Finder:
    """The only finder of the import system: the modules of packages that will not be in the image do not exist here."""

    def __init__(self, refused: Iterable[str], finders: Iterable[Any]) -> None:
        self._refused, self._finders = frozenset(refused), list(finders)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Find a module that may be imported; None for any other, as if it were not installed."""
        if name.partition(".")[0] in self._refused:
            return None
        found = (finder.find_spec(name, path, target) for finder in self._finders)
        return next((spec for spec in found if spec is not None), None)

    def invalidate_caches(self) -> None:
        """Pass this on, as importlib asks of a finder."""
        for finder in self._finders:
            getattr(finder, "invalidate_caches", lambda: None)()


def run(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """Return what happened, as plain JSON: the scores of several requests, or the error with everything that explains it."""
    sys.dont_write_bytecode = True
    sys.path[:] = [*plan["path"], *(path for path in sys.path if path), *plan["packages"]]
    sys.meta_path[:] = [Finder(plan["refused"], sys.meta_path)]
    step = "load"
    try:
        from churn.contract import Contract
        from churn.serving.model import load_model

        contract = Contract.from_json((folder / "contract.json").read_text())
        predict = load_model(folder / "model", contract, plan["types"])
        step = "ask"
        # The parent has written this file: it contains the rows as arrays.
        requests = pickle.loads((folder / "rows.pickle").read_bytes())  # noqa: S301
        return {"scores": [predict(rows).tolist() for rows in requests]}
    except BaseException as error:  # a model may raise anything, SystemExit included
        return {
            "step": step,
            "error": type(error).__name__,
            "message": str(error),
            "module": getattr(error, "name", None) if isinstance(error, ImportError) else None,
            "untrusted": type(error).__name__ == "UntrustedTypesFoundException",  # skops itself may not be there
            "line": _line_in(folder / "candidates", error),
        }


def _line_in(modules: Path, error: BaseException) -> str:
    """The last line of the own module that led to an error, as `file:line`; empty if there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(f"{modules}/")]
    return f"{Path(frames[-1].filename).relative_to(modules)}:{frames[-1].lineno}" if frames else ""


if __name__ == "__main__":
    place = Path(sys.argv[1])
    outcome = run(place, json.loads((place / "plan.json").read_text()))
    (place / "outcome.json").write_text(json.dumps(outcome))
