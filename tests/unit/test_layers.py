"""The core stands by itself: no Airflow, and nobody imports upwards."""

import subprocess
import sys
from pathlib import Path

from support.basics import ROOT, in_fresh_interpreter

CORE = [
    ".".join(path.relative_to(ROOT / "include").with_suffix("").parts)
    for path in sorted((ROOT / "include/churn").rglob("*.py"))
    if "migrations" not in path.parts and path.name != "__init__.py"
]


def test_the_core_imports_no_airflow() -> None:
    """Every module of the core, imported in a fresh interpreter, leaves Airflow alone."""
    code = f"import importlib, sys\nfor name in {CORE!r}: importlib.import_module(name)\n"
    code += "print([name for name in sys.modules if name == 'airflow' or name.startswith('airflow.')])"
    assert in_fresh_interpreter(code) == "[]"


def test_nobody_imports_upwards() -> None:
    """The layers of pyproject.toml hold."""
    found = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
    assert "2 kept, 0 broken" in found.stdout
