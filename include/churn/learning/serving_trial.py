"""Tries a fitted model right after training, as it will be used: saved, loaded in a clean process, and asked for scores.

The process has the Python of this one, and only what the image will have: the service, the module of the candidates, and the
packages of the locks. All other packages are installed here, but cannot be imported there. Nothing is installed or
downloaded, so a trial takes two or three seconds.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
import yaml
from numpy.typing import NDArray
from packaging.utils import canonicalize_name

from churn.contract import Contract
from churn.foundation.local_server import bare_environment
from churn.foundation.serving_code import copy_serving_code
from churn.learning import trial_process
from churn.learning.candidate_checks import CandidateUnusable, explain_message
from churn.learning.candidate_module import PRODUCT
from churn.learning.example_answers import ROWS, Examples, example_requests, first_line
from churn.learning.needs import MODULE, ModelNeeds
from churn.serving import CONTRACT_FILE, MODEL_FOLDER
from churn.serving.model import TRUSTED_TYPES
from churn.serving.rows import Values

TOLERANCE = 1e-12
_TOGETHER = 1e-9
"""Largest difference between a row alone and among others; a matrix product rounds differently for one row."""
_TIMEOUT = 300  # seconds


def try_model(name: str, examples: Examples, contract: Contract, needs: ModelNeeds) -> list[str]:
    """Load a saved model in a clean process with only what will be in its image, and compare the answers.

    Args:
        name: what the model is called, for errors.
        examples: the saved model, and its answers.
        contract: the data contract.
        needs: what the model needs besides the product.

    Returns:
        The types in the saved model that are loaded because its candidates declare them or its module defines them.

    Raises:
        CandidateUnusable: it cannot be loaded, or answers differently; names what is missing, and the fix.
    """
    with tempfile.TemporaryDirectory(prefix="churn-trial-") as scratch:
        folder = Path(scratch)
        types = _lay_out(name, folder, examples, contract, needs)
        outcome = _outcome(name, folder, example_requests(contract), types, needs)
    if "scores" not in outcome:
        raise CandidateUnusable(name, _explained(outcome, contract, needs))
    answers = [np.asarray(scores, dtype=np.float64) for scores in outcome["scores"]]
    _require_same(name, examples.scores, answers)
    return types


def has_only_trusted_types(examples: Examples) -> bool:
    """Whether a saved model is made of nothing but what every image has."""
    return not set(skops.io.get_untrusted_types(data=examples.saved)) - {*TRUSTED_TYPES}


def _lay_out(name: str, folder: Path, examples: Examples, contract: Contract, needs: ModelNeeds) -> list[str]:
    copy_serving_code(folder)
    (folder / CONTRACT_FILE).write_text(contract.to_json())
    saved = folder / MODEL_FOLDER
    saved.mkdir()
    flavor = {"serialization_format": "skops", "pickled_model": "model.skops"}
    (saved / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": flavor}}))
    (saved / "model.skops").write_bytes(examples.saved)
    types = needs.types.types_of(saved)
    unknown = set(skops.io.get_untrusted_types(data=examples.saved)) - {*TRUSTED_TYPES, *types}
    if unknown:
        raise CandidateUnusable(name, _untrusted(sorted(unknown)))
    if module := needs.travelling(types):
        module.copy_to(folder / MODULE)
    return types


def _outcome(name: str, folder: Path, requests: list[Values], types: list[str], needs: ModelNeeds) -> dict[str, Any]:
    packages = list(dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib")))
    plan = {
        "path": [str(folder), str(folder / MODULE)],
        "packages": packages,
        "refused": sorted(_refused(frozenset(needs.packages))),
        "types": types,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "rows.pickle").write_bytes(pickle.dumps(requests))
    command = [sys.executable, "-I", "-S", str(Path(trial_process.__file__)), str(folder)]
    try:
        ended = subprocess.run(
            command,
            env=bare_environment() | {"OMP_NUM_THREADS": "1"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise CandidateUnusable(
            name, f"it does not answer {ROWS} rows within {_TIMEOUT} s in a process of its own."
        ) from error
    file = folder / "outcome.json"
    if not file.is_file():
        last = first_line("\n".join(reversed(ended.stderr.strip().splitlines())))
        raise CandidateUnusable(
            name, f"the process that tried it ended with status {ended.returncode}: {last or 'it wrote nothing'}."
        )
    outcome: dict[str, Any] = json.loads(file.read_text())
    return outcome


@cache
def _refused(packages: frozenset[str]) -> set[str]:
    """The top-level modules of installed packages that are not among these."""
    return {
        module
        for module, owners in packages_distributions().items()
        if not any(canonicalize_name(owner) in packages for owner in owners)
    } - {PRODUCT}


def _explained(outcome: dict[str, Any], contract: Contract, needs: ModelNeeds) -> str:
    """Why the clean process failed, and what to do."""
    missing = outcome["module"]
    if outcome["untrusted"]:
        return f"a type may not be loaded: {first_line(outcome['message'])} Review it, and list it in trusted_types."
    if missing and outcome["error"] == "ModuleNotFoundError":
        return _missing_module(missing, needs)
    what = "it cannot be loaded" if outcome["step"] == "load" else "it cannot score rows"
    said = explain_message(outcome["error"], outcome["message"], contract)
    hint = ""
    if outcome["error"] == "FileNotFoundError":
        hint = ". Only the Python files of its module travel with a model: read other files in fit, and keep their content in attributes."
    where = f" (raised at {outcome['line']})" if outcome["line"] else ""
    return f"{what} where only its image's files exist: {said}{where}{hint}"


def _missing_module(missing: str, needs: ModelNeeds) -> str:
    top = missing.partition(".")[0]
    owners = sorted(set(packages_distributions().get(top, [])))
    if top == PRODUCT:
        return (
            f"its module imports {missing}, a part of the product that is not in the image. Import it inside the function that returns "
            "the candidates. At the top of the module, only churn.candidate and churn.contract can be imported."
        )
    if owners:
        return (
            f"it needs the module {missing} of the package {owners[0]}, which is not in the image. Name {owners[0]} in its requirements, "
            f'and lock it: make lock EXTRA="{owners[0]}", then make run.'
        )
    if needs.module and top == needs.module.name:
        return f"the module {missing} does not exist in the copy of {needs.module.path}. Only its Python files travel with a model."
    return (
        f"it needs the module {missing}, which does not travel with it. Move it into the module of the candidates, or make a package "
        "of both."
    )


def _untrusted(types: list[str]) -> str:
    listed = ", ".join(f'"{each}"' for each in types)
    return (
        f"it contains types that may not be loaded: {', '.join(types)}. Review them: loading runs their code. Then list them in the "
        f"candidate: trusted_types=({listed}{',' if len(types) == 1 else ''})."
    )


def _require_same(name: str, expected: list[NDArray[np.float64]], answers: list[NDArray[np.float64]]) -> None:
    for wanted, answer in zip(expected, answers, strict=True):
        difference = float(np.abs(wanted - answer).max()) if wanted.shape == answer.shape else np.inf
        if not difference <= TOLERANCE:
            raise CandidateUnusable(
                name,
                f"its scores change when it is saved and loaded, by up to {difference:.2g}. Keep everything that predict_proba uses in "
                "attributes that fit sets, and use no random numbers in it.",
            )
    together, alone = answers[0][: len(answers) - 1], np.concatenate(answers[1:])
    difference = float(np.abs(together - alone).max())
    if difference > _TOGETHER:
        raise CandidateUnusable(
            name,
            f"the score of a row depends on the other rows of the request, by up to {difference:.2g}. Compute means, ranks and the "
            "like in fit, not in transform.",
        )
