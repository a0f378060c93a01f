"""The code that a served or registered model needs: the contract, the interface of candidates and the package of the service."""

from __future__ import annotations

import shutil
from pathlib import Path

import churn.contract
import churn.serving

PACKAGE = Path(churn.contract.__file__).parent


def copy_serving_code(folder: Path) -> Path:
    """Copy the code into a folder, as a package `churn` that imports nothing else of the product; returns the package."""
    code = folder / "churn"
    shutil.copytree(
        Path(churn.serving.__file__).parent,
        code / "serving",
        ignore=shutil.ignore_patterns("__pycache__", "Dockerfile"),
    )
    for module in ("__init__.py", "contract.py", "candidate.py"):
        shutil.copy(PACKAGE / module, code / module)
    return code
