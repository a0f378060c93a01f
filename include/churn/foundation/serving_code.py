"""The code that a served or registered model needs: the contract, the interface of candidates and the package of the service."""

from __future__ import annotations

import shutil
from pathlib import Path

import churn.contract
import churn.serving

CODE = "code"
"""Folder of a registered model with the code that it needs."""
PACKAGE = Path(churn.contract.__file__).parent


def copy_serving_code(folder: Path) -> Path:
    """Copy the code into a folder, as a package `churn` that imports nothing else of the product; returns the package."""
    code = folder / "churn"
    shutil.copytree(
        Path(churn.serving.__file__).parent,
        code / "serving",
        ignore=shutil.ignore_patterns("__pycache__", "Dockerfile"),
    )
    for module in ("__init__.py", "contract.py", "candidate.py", "errors.py"):
        shutil.copy(PACKAGE / module, code / module)
    return code


def own_code(model: Path) -> list[Path]:
    """The modules of the project in the folder of a registered model: files and packages beside the package of the service."""
    folder = model / CODE
    return sorted(path for path in folder.iterdir() if path.name != "churn") if folder.is_dir() else []


def copy_own_code(model: Path, folder: Path) -> Path:
    """Copy the modules of the project in the folder of a registered model into a folder, which may remain empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in own_code(model):
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            shutil.copy(path, folder / path.name)
    return folder
