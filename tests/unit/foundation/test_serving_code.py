"""The code that travels with a model is complete without the rest of the product."""

import ast
from pathlib import Path

from churn.foundation.serving_code import copy_serving_code


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
