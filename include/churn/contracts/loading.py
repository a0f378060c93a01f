"""Finds and loads the contract that a setting names: a YAML file, a Python file, or a name in a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from churn.contract import Contract
from churn.contracts.yaml_file import InvalidContract, read_contract

FOLDER = "contracts"
"""The folder of the project for contracts of its own."""
_SHIPPED = Path(__file__).parent
_YAML = (".yaml", ".yml")


def load_contract(name: str, home: Path) -> Contract:
    """Load a contract.

    A file is searched in the project folder, in its folder `contracts`, among the contracts that ship and on the Python path; a
    module in the first two and on the Python path.

    Args:
        name: `file.yaml`, `file.py`, `file.py:NAME` or `module:NAME`.
        home: the project folder.

    Raises:
        InvalidContract: there is no such contract, or it is not valid. The message says where was looked, or which line is wrong.
    """
    place, _, attribute = (
        name.rpartition(":") if name.count(":") and not name.endswith((*_YAML, ".py")) else (name, "", "")
    )
    if name.endswith(_YAML):
        return _from_yaml(_find(name, home), home)
    if place.endswith(".py"):
        return _from_python(_find(place, home), place.removesuffix(".py").replace("/", "."), attribute, home)
    if not place or not attribute:
        raise InvalidContract(
            f"must name a file that ends with .yaml, .yml or .py, or a contract in a module as module:NAME{_existing(home)}"
        )
    as_file = Path(*place.split(".")).with_suffix(".py")
    for folder in (home, home / FOLDER):
        if (folder / as_file).is_file():
            return _from_python(folder / as_file, place, attribute, home)
    return _from_module(place, attribute, home)


def _find(name: str, home: Path) -> Path:
    for folder in (home, home / FOLDER, _SHIPPED.parent, _SHIPPED, *map(Path, filter(None, sys.path))):
        if (folder / name).is_file():
            return folder / name
    raise InvalidContract(
        f"there is no such file in the project folder ({home}), in its folder {FOLDER}, among the contracts that ship, or on the "
        f"Python path{_existing(home)}"
    )


def _existing(home: Path) -> str:
    """The contracts that there are, as a further sentence."""
    files = [
        file.name for folder in (home / FOLDER, _SHIPPED) for file in sorted(folder.glob("*")) if file.suffix in _YAML
    ]
    return f". Existing contracts: {', '.join(['churn.contracts.bank:BANK_CHURN', *files])}"


def _from_yaml(file: Path, home: Path) -> Contract:
    return _read_yaml(file, _shown(file, home), *_stamp(file))


@lru_cache(maxsize=16)
def _read_yaml(file: Path, shown: str, changed: int, size: int) -> Contract:  # noqa: ARG001 -- a file that changed is read again
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidContract(f"{shown}: The file is not in UTF-8 (byte {error.start}). Save it in UTF-8.") from None
    return read_contract(text, shown)


def _from_python(file: Path, module: str, attribute: str, home: Path) -> Contract:
    loaded = _run(file, module, _shown(file, home), *_stamp(file))
    return _attribute(loaded, attribute, _shown(file, home))


@lru_cache(maxsize=16)
def _run(file: Path, module: str, shown: str, changed: int, size: int) -> ModuleType:  # noqa: ARG001
    """Run a Python file as a module. Its folder is put at the end of the Python path, for what it imports from beside it."""
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise InvalidContract(f"{shown} is not a Python file.")
    loaded = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules.setdefault(module, loaded)
    try:
        spec.loader.exec_module(loaded)
    except Exception as error:
        if sys.modules.get(module) is loaded:
            del sys.modules[module]
        raise InvalidContract(_explain(error, file, shown)) from None
    return loaded


def _from_module(module: str, attribute: str, home: Path) -> Contract:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        found = None
    except Exception as error:  # a package above it fails
        raise InvalidContract(f"{module}: {_summary(error)}") from None
    if found is None:
        raise InvalidContract(
            f"there is no module {module} in the project folder ({home}), in its folder {FOLDER}, or on the Python path{_existing(home)}"
        )
    shown = _shown(Path(found.origin), home) if found.origin else module
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise InvalidContract(_explain(error, Path(found.origin or module), shown)) from None
    return _attribute(loaded, attribute, shown)


def _attribute(module: ModuleType, name: str, shown: str) -> Contract:
    contracts = {key: value for key, value in vars(module).items() if isinstance(value, Contract)}
    if not name and len(contracts) == 1:
        return next(iter(contracts.values()))
    listed = f" It has {', '.join(contracts)}." if contracts else " It has no contract."
    if not name:
        raise InvalidContract(f"{shown} must have one contract, or name one of them as {shown}:NAME.{listed}")
    if not hasattr(module, name):
        raise InvalidContract(f"{shown} has no {name}.{listed}")
    value = getattr(module, name)
    if not isinstance(value, Contract):
        raise InvalidContract(f"must name a churn.contract.Contract, not a {type(value).__name__}.{listed}")
    return value


def _explain(error: Exception, file: Path, shown: str) -> str:
    """The last line of a file that led to an error, and the error."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{shown}, line {error.lineno}, column {error.offset}: {error.msg}."
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    where = f", line {lines[-1]}" if lines else ""
    return f"{shown}{where}: {_summary(error)}"


def _summary(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _shown(file: Path, home: Path) -> str:
    """A path as people name it: relative to the project folder, if it is in it."""
    return str(file.relative_to(home)) if file.is_relative_to(home) else str(file)


def _stamp(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_mtime_ns, state.st_size
