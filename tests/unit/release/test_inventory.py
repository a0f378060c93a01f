"""An image must have exactly the libraries of its lock, and those that the model was trained with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from churn.release.inventory import Inventory, locked_versions, read_inventory, require_libraries
from churn.release.service_checks import ImageFault

LOCK = """# made by a tool
numpy==2.0.1 \\
    --hash=sha256:aa --hash=sha256:bb
Typing_Extensions==4.1 ; python_version < "3.12" --hash=sha256:cc
pywin32==1.0 ; sys_platform == "win32" --hash=sha256:dd
"""
INVENTORY = Inventory("3.11.9", {"numpy": "2.0.1", "typing-extensions": "4.1"}, {}, [])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "serving.lock").write_text(LOCK)
    (tmp_path / "python_env.yaml").write_text("python: 3.11.2\n")
    (tmp_path / "requirements.txt").write_text("numpy==2.0.1\n\n")
    return tmp_path


def test_the_lock_is_read_for_the_python_of_the_image(model: Path) -> None:
    """Names are normalised, hashes are dropped, and markers are evaluated for Linux."""
    lock = model / "serving.lock"
    assert locked_versions(lock, "3.11.9") == {"numpy": "2.0.1", "typing-extensions": "4.1"}
    assert locked_versions(lock, "3.13.0") == {"numpy": "2.0.1"}


def test_the_output_of_the_image_is_read() -> None:
    """Libraries by normalised name, licences where known, packages of the distribution."""
    libraries = {"python": "3.11.9", "libraries": {"Typing_Extensions": "4.1"}, "licenses": {"Typing_Extensions": None}}
    packages = "libc6\t2.36\tamd64\nzlib1g\t1.2\tamd64\n"
    assert read_inventory(json.dumps(libraries), packages) == Inventory(
        "3.11.9", {"typing-extensions": "4.1"}, {}, [("libc6", "2.36", "amd64"), ("zlib1g", "1.2", "amd64")]
    )


def test_equal_libraries_pass(model: Path) -> None:
    """The patch version of Python may differ."""
    patched = replace(INVENTORY, python="3.11.0")
    assert patched.python != INVENTORY.python
    assert [require_libraries(given, model / "serving.lock", model) for given in (INVENTORY, patched)] == [None, None]


@pytest.mark.parametrize(
    ("libraries", "python", "reason"),
    [
        ({"numpy": "2.0.1", "typing-extensions": "4.2"}, "3.11.9", "typing-extensions 4.2 instead of 4.1"),
        ({"numpy": "2.0.1"}, "3.11.9", "typing-extensions missing instead of 4.1"),
        ({"numpy": "2.0.1", "typing-extensions": "4.1", "more": "1"}, "3.11.9", "more 1 instead of none"),
        ({"numpy": "2.0.1"}, "3.13.0", "Python 3.13.0"),
    ],
)
def test_every_difference_is_a_fault(model: Path, libraries: dict[str, str], python: str, reason: str) -> None:
    """Another version, a missing library, an additional library, another Python."""
    with pytest.raises(ImageFault, match=reason):
        require_libraries(replace(INVENTORY, libraries=libraries, python=python), model / "serving.lock", model)


def test_the_requirements_of_the_model_count_too(model: Path) -> None:
    """A lock that differs from what the model was trained with is a fault."""
    (model / "requirements.txt").write_text("numpy==1.26\n")
    with pytest.raises(ImageFault, match=r"numpy 2\.0\.1 instead of 1\.26"):
        require_libraries(INVENTORY, model / "serving.lock", model)
