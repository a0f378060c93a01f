"""The code that travels with a model is complete without the rest of the product."""

import ast
from pathlib import Path

from churn.foundation.serving_code import copy_own_code, copy_serving_code


def test_the_copied_package_imports_nothing_that_is_not_copied(tmp_path: Path) -> None:
    """Every module of the product that it imports is in the copy, and nothing that a build leaves behind."""
    package = copy_serving_code(tmp_path)
    files = {path.relative_to(tmp_path) for path in package.rglob("*") if path.is_file()}
    assert {file.suffix for file in files} == {".py"}
    modules = {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}
    assert {"churn.contract", "churn.serving.checks", "churn.serving.rows"} <= modules
    for file in files:
        for node in ast.walk(ast.parse((tmp_path / file).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "churn":
                assert node.module in modules, file


def test_modules_of_the_project_are_copied_without_the_service(tmp_path: Path) -> None:
    """What lies beside the package of the service in a registered model; nothing for most models."""
    code = tmp_path / "model/code"
    (code / "mine/__pycache__").mkdir(parents=True)
    (code / "churn").mkdir()
    for name in ("mine/__init__.py", "mine/__pycache__/x.pyc", "ratios.py", "churn/__init__.py"):
        (code / name).write_text("")
    copy = copy_own_code(tmp_path / "model", tmp_path / "copy")
    copied = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert copied == {"mine/__init__.py", "ratios.py"}
    assert list(copy_own_code(tmp_path / "none", tmp_path / "empty").iterdir()) == []
