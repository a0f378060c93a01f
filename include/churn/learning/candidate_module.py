"""The module that returns the candidates: found, imported, checked, and copied to wherever a model of it goes.

`CHURN_CANDIDATES=module:function` names it. A module of the project travels with its models. A module of the product, or of
an installed package, does not: the one is not needed to load a model, and the other is installed from a lock.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from churn.candidate import Candidate, Context
from churn.checkout import HOME
from churn.contract import Contract
from churn.errors import ChurnError
from churn.learning.candidate_checks import CandidateUnusable
from churn.serving.recalibration import ISOTONIC, SIGMOID

STANDARD = "churn.learning.candidates:standard"
"""The function that is called unless a setting names another."""
FOLDER = "candidates"
"""Folder of the project for modules with own candidates."""
RESERVED = frozenset({"average"})
"""Names that the product gives to candidates that it makes of others."""
_ENDINGS = (f"_{SIGMOID}", f"_{ISOTONIC}")
"""What the product appends to the name of a candidate whose probabilities it corrects."""
PRODUCT = "churn"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


class CandidateModuleError(ChurnError):
    """`CHURN_CANDIDATES` does not give candidates; names the module, the function, the reason and the fix."""


@dataclass(frozen=True)
class OwnModule:
    """A module or package of the project: its name, its file or folder, and the sha256 of its source."""

    name: str
    path: Path
    sha256: str

    def copy_to(self, folder: Path) -> Path:
        """Copy the Python source, and nothing else, into a folder; returns the copy."""
        folder.mkdir(parents=True, exist_ok=True)
        for file, name in _sources(self.path):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        return folder / self.path.name


@dataclass(frozen=True)
class Candidates:
    """What a function returned: the candidates that can be used, in its order, and why others are left out, by name."""

    usable: dict[str, Candidate]
    left_out: dict[str, str]


def load_candidates(reference: str, contract: Contract, context: Context, home: Path = HOME) -> dict[str, Candidate]:
    """Call the function that a reference names, and return its candidates by name, the simplest first.

    Raises:
        CandidateModuleError: module or function cannot be used.
        CandidateUnusable: one of the candidates cannot be used. See `read_candidates` to go on without it.
    """
    candidates = read_candidates(reference, contract, context, home)
    for name, reason in candidates.left_out.items():
        raise CandidateUnusable(name, reason)
    return candidates.usable


def read_candidates(reference: str, contract: Contract, context: Context, home: Path = HOME) -> Candidates:
    """Call the function that a reference names, and check what it returns as far as this is possible without data.

    Args:
        reference: `module:function`.
        contract: passed to the function.
        context: passed to the function.
        home: the project folder.

    Raises:
        CandidateModuleError: module or function cannot be used, or no candidate is left; names both, and the line of the reason.
    """
    module, function = _import(reference, home), reference.partition(":")[2]
    make = getattr(module, function, None)
    if not callable(make):
        functions = sorted(name for name, value in vars(module).items() if _is_function_of(value, module))
        raise CandidateModuleError(
            f"CHURN_CANDIDATES={reference}: module {module.__name__} has no function {function}. "
            f"It has {', '.join(functions) or 'no public function'} ({module.__file__})."
        )
    try:
        returned = make(contract, context)
    except (Exception, SystemExit) as error:
        raise CandidateModuleError(_raised(reference, error, f"{function} failed", module)) from error
    if not isinstance(returned, Mapping) or not returned:
        kind = "nothing" if returned is None else f"an empty {type(returned).__name__}" if returned == {} else ""
        raise CandidateModuleError(
            f"CHURN_CANDIDATES={reference}: {function} returns {kind or type(returned).__name__} instead of candidates by "
            'name. Return a dict, such as {"boosting": Candidate(estimator)}.'
        )
    usable, left_out = {}, {}
    for name, value in returned.items():
        try:
            usable[name] = _checked(name, value)
        except CandidateUnusable as fault:
            left_out[fault.candidate] = fault.reason
    if not usable:
        reasons = " ".join(str(CandidateUnusable(name, reason)) for name, reason in left_out.items())
        raise CandidateModuleError(f"CHURN_CANDIDATES={reference}: no candidate can be used. {reasons}")
    return Candidates(usable, left_out)


def own_module(reference: str, home: Path = HOME) -> OwnModule | None:
    """The module or top-level package of a reference; None if it belongs to the product or to an installed package.

    Raises:
        CandidateModuleError: there is no such module.
    """
    top = reference.partition(":")[0].partition(".")[0]
    path = None if top == PRODUCT else _find(reference, home)
    if path is None:
        return None
    digest = hashlib.sha256()
    for file, name in _sources(path):
        digest.update(f"{name}\x1f{hashlib.sha256(file.read_bytes()).hexdigest()}\x1e".encode())
    return OwnModule(top, path, digest.hexdigest())


def line_of(error: BaseException, reference: str) -> str:
    """Where in an own module an error was raised, as ` at file:line`; empty if it was raised elsewhere."""
    own = own_module(reference)
    return _place(error, own.path) if own else ""


def _import(reference: str, home: Path) -> ModuleType:
    name = reference.partition(":")[0]
    own = own_module(reference, home)
    try:
        if own is None:
            return importlib.import_module(name)
        folder = str(own.path.parent)
        if folder not in sys.path:
            sys.path.append(folder)
        _forget_other(own)
        sys.path.insert(0, folder)  # a contract may be a module of the same name in another folder
        try:
            module = importlib.import_module(name)
        finally:
            sys.path.remove(folder)
        sys.modules[own.name].__dict__["__churn_sha256__"] = own.sha256
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if own is not None and error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise CandidateModuleError(f"CHURN_CANDIDATES={reference}: {own.path} has no module {name}.") from error
        package = _distribution_of(missing)
        raise CandidateModuleError(
            f"{_raised(reference, error, 'the module does not import', own and own.path)} If {missing} is a package, lock and "
            f'install it: make lock EXTRA="{package}", then make run. If it is a module of yours, move it into {name}.'
        ) from error
    except (Exception, SystemExit) as error:
        raise CandidateModuleError(_raised(reference, error, "the module does not import", own and own.path)) from error
    return module


def _find(reference: str, home: Path) -> Path | None:
    """The file or folder of the top-level module; None if it is part of an installed package."""
    top = reference.partition(":")[0].partition(".")[0]
    for folder in (home / FOLDER, home):
        for path in (folder / top / "__init__.py", folder / f"{top}.py"):
            if path.is_file():
                if top in sys.stdlib_module_names or _installed_elsewhere(top, path):
                    raise CandidateModuleError(
                        f"CHURN_CANDIDATES={reference}: {path} has the name of another package, {top}. Rename it."
                    )
                return path.parent if path.name == "__init__.py" else path
    importlib.invalidate_caches()
    spec = None if top in sys.stdlib_module_names else find_spec(top)
    origin = Path(spec.origin) if spec and spec.origin and spec.has_location else None
    if origin is None:
        searched = ", ".join(str(folder) for folder in (home / FOLDER, home))
        raise CandidateModuleError(
            f"CHURN_CANDIDATES={reference}: there is no module {top}. Searched: {searched}, and the Python path "
            f"({', '.join(path for path in sys.path if path)}). Put {top}.py into {home / FOLDER}."
        )
    if any(origin.is_relative_to(folder) for folder in _site_folders()):
        return None
    return origin.parent if origin.name == "__init__.py" else origin


def _installed_elsewhere(top: str, path: Path) -> bool:
    return top in _packages() and not any(path.is_relative_to(folder) for folder in _site_folders())


def _site_folders() -> set[Path]:
    return {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}


@cache
def _packages() -> Mapping[str, list[str]]:
    return packages_distributions()


def _distribution_of(module: str) -> str:
    """The package of a module: of an installed one by its metadata, of another by its name."""
    return (_packages().get(module) or [module])[0]


def _forget_other(own: OwnModule) -> None:
    """Forget a module of the same name that was imported from other source, so that the present source is used."""
    loaded = sys.modules.get(own.name)
    if loaded is None or loaded.__dict__.get("__churn_sha256__") == own.sha256:
        return
    if "__churn_sha256__" not in loaded.__dict__ and _is_from(loaded, own.path):
        return  # imported by someone else, from the same place
    for name in [name for name in sys.modules if name == own.name or name.startswith(f"{own.name}.")]:
        del sys.modules[name]
    for file, _ in _sources(own.path):
        # Bytecode of an earlier source of the same size and second would pass for that of this one.
        Path(cache_from_source(str(file))).unlink(missing_ok=True)
    importlib.invalidate_caches()


def _is_from(module: ModuleType, path: Path) -> bool:
    file = Path(getattr(module, "__file__", None) or "")
    return path in {file, file.parent}


def _sources(path: Path) -> Iterator[tuple[Path, str]]:
    """The Python files of a module or package, each with its path below the folder that contains the module."""
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    for file in files:
        yield file, file.relative_to(path.parent).as_posix()


def _is_function_of(value: Any, module: ModuleType) -> bool:
    named = getattr(value, "__name__", "_")
    return callable(value) and not isinstance(value, type) and value.__module__ == module.__name__ and named[0] != "_"


def _raised(reference: str, error: BaseException, what: str, of: Any) -> str:
    """What was raised, with the line of the module that it came from."""
    return f"CHURN_CANDIDATES={reference}: {what}{_place(error, of)}: {type(error).__name__}: {_first_line(error)}."


def _place(error: BaseException, of: Any) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    file = Path(getattr(of, "__file__", None) or of or "")
    folder = file.parent if file.name == "__init__.py" else file
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)
    ]
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if of and frames else ""


def _first_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return (text.strip().splitlines() or ["no message"])[0][:300].removesuffix(".")


def _checked(name: Any, value: Any) -> Candidate:
    """The candidate of an entry, after checking everything that can be checked without data."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED or name.endswith(_ENDINGS):
        raise CandidateUnusable(
            str(name),
            f"{name!r} is not a name for a candidate. Use up to 50 lower-case letters, digits and underscores, such as my_model; "
            f"{', '.join(sorted(RESERVED))} and endings such as {_ENDINGS[0]} are reserved.",
        )
    candidate = value if isinstance(value, Candidate) else Candidate(value)
    _require_estimator(name, candidate.estimator)
    _require_parameters(name, candidate)
    _require_texts(name, "requirements", candidate.requirements, "('lightgbm',)")
    _require_texts(name, "trusted_types", candidate.trusted_types, "('package.module.Type',)")
    for text in candidate.requirements:
        _require_installed(name, text)
    return candidate


def _require_texts(name: str, field: str, value: Any, example: str) -> None:
    if (
        not isinstance(value, Sequence | Set)
        or isinstance(value, str)
        or not all(isinstance(each, str) for each in value)
    ):
        raise CandidateUnusable(name, f"{field} must be a tuple of texts, such as {example}.")


def _require_estimator(name: str, estimator: Any) -> None:
    if isinstance(estimator, type):
        raise CandidateUnusable(
            name, f"it is the class {estimator.__name__}. Return an instance, {estimator.__name__}()."
        )
    missing = [method for method in ("fit", "predict_proba") if not _has(estimator, method)]
    if missing:
        hint = (
            " For a support vector classifier, set probability=True." if hasattr(estimator, "decision_function") else ""
        )
        raise CandidateUnusable(
            name, f"its {type(estimator).__name__} has no method {' and no method '.join(missing)}.{hint}"
        )
    try:
        clone(estimator)
    except Exception as error:
        raise CandidateUnusable(
            name,
            f"its {type(estimator).__name__} cannot be cloned ({type(error).__name__}: {_first_line(error)}). Derive own "
            "classes from sklearn.base.BaseEstimator, and keep the arguments of __init__ unchanged as attributes.",
        ) from error


def _has(estimator: Any, method: str) -> bool:
    try:
        return callable(getattr(estimator, method, None))
    except Exception:  # a delegating estimator may raise anything before it is fitted
        return False


def _require_parameters(name: str, candidate: Candidate) -> None:
    capacities = candidate.capacities
    if (
        not isinstance(capacities, Sequence)
        or isinstance(capacities, str)
        or not capacities
        or not all(isinstance(each, Mapping) for each in capacities)
    ):
        raise CandidateUnusable(name, "capacities must be a list of dicts with at least one entry; {} changes nothing.")
    if candidate.max_rows is not None and (type(candidate.max_rows) is not int or candidate.max_rows < 1):
        raise CandidateUnusable(name, "max_rows must be a whole number of rows, or None.")
    if candidate.iterations and not _ends_with_boosting(candidate.estimator):
        raise CandidateUnusable(
            name,
            "iterations is only for a pipeline that ends with a HistGradientBoostingClassifier, because the product stops that one early "
            "itself. Leave it out, and name numbers of iterations in capacities.",
        )
    for capacity in [*capacities, *([{candidate.iterations: 1}] if candidate.iterations else [])]:
        try:
            clone(candidate.estimator).set_params(**capacity)
        except (ValueError, TypeError, AttributeError) as error:
            known = clone(candidate.estimator).get_params()
            unknown = [parameter for parameter in capacity if parameter not in known] or list(capacity)
            raise CandidateUnusable(
                name,
                f"{type(candidate.estimator).__name__} has no parameter {', '.join(map(str, unknown))}, which its search space "
                "names. In a pipeline, a parameter is step__parameter.",
            ) from error


def _ends_with_boosting(estimator: Any) -> bool:
    return isinstance(estimator, Pipeline) and isinstance(estimator[-1], HistGradientBoostingClassifier)


def _require_installed(name: str, text: Any) -> None:
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, TypeError) as error:
        raise CandidateUnusable(name, f"{text!r} in its requirements is not the name of a package.") from error
    try:
        version = distribution(requirement.name).version
    except PackageNotFoundError as error:
        raise CandidateUnusable(
            name,
            f'it needs the package {requirement.name}, which is not installed: make lock EXTRA="{requirement.name}", then make run.',
        ) from error
    if not requirement.specifier.contains(version, prereleases=True):
        raise CandidateUnusable(
            name, f'it needs {requirement}, and {version} is installed: make lock EXTRA="{requirement}", then make run.'
        )
