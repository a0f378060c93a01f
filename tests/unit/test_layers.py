"""The core stands by itself: no Airflow, and nobody imports upwards."""

import ast
import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

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
    outcome = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout
    assert "2 kept, 0 broken" in outcome.stdout


UNIT_TESTS_ELSEWHERE = {
    "churn.cli.data": "its commands run in cli/test_main.py and tests/e2e",
    "churn.cli.images": "its commands run in integration/test_image_publishing.py",
    "churn.cli.scores": "its commands run in integration/test_score_list.py",
    "churn.decision.comparative_rules": "each rule decides a case of decision/test_policy.py",
    "churn.decision.eligibility": "needs versions in MLflow: integration/test_evidence.py",
}
"""Modules that no test imports, and where they are tested; at most ten."""


def test_every_module_of_the_core_has_a_test() -> None:
    """A test imports the module, or a name that it defines."""
    files = [file for file in (ROOT / "tests").rglob("*.py") if "fixtures" not in file.parts]
    imported = set().union(*map(_modules_of, files))
    untested = {name for name in CORE if not name.endswith("__main__")} - imported
    assert untested == set(UNIT_TESTS_ELSEWHERE)
    assert len(UNIT_TESTS_ELSEWHERE) <= 10


def _modules_of(file: Path) -> set[str]:
    """The modules of the core that a test imports, those behind a package's names included."""
    names = set()
    tree = ast.parse(file.read_text())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "churn":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):  # a module of a package that nobody has imported yet
                    importlib.import_module(f"{node.module}.{alias.name}")
                value = getattr(module, alias.name)
                names |= {node.module, f"{node.module}.{alias.name}", getattr(value, "__module__", None)}
                if isinstance(value, type):
                    names |= {base.__module__ for base in value.__mro__}
                if isinstance(value, ModuleType):  # a package whose names are used as attributes
                    used = (getattr(value, name, None) for name in attributes)
                    names |= {getattr(outcome, "__module__", None) for outcome in used}
    return {str(name) for name in names}


def test_no_two_test_files_have_the_same_name() -> None:
    """The folders of the tests are no packages, so pytest cannot tell two such files apart."""
    names = Counter(
        file.name for file in (ROOT / "tests").rglob("*.py") if file.name not in ("conftest.py", "__init__.py")
    )
    assert [name for name, count in names.items() if count > 1] == []
