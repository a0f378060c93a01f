"""The contents of an image, seen from inside: libraries, and packages of its distribution."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from churn.release.service_checks import ImageFault

LIST_LIBRARIES = """
import json, platform
from importlib.metadata import distributions
print(json.dumps({
    "python": platform.python_version(),
    "libraries": {library.name: library.version for library in distributions()},
    "licenses": {library.name: library.metadata.get("License-Expression") for library in distributions()},
}))
"""
"""A program for the Python of an image."""
LIST_PACKAGES = ["dpkg-query", "--show", "--showformat", "${Package}\\t${Version}\\t${Architecture}\\n"]


@dataclass(frozen=True)
class Inventory:
    """Libraries by normalised name with versions and, where known, licences; packages as name, version, architecture."""

    python: str
    libraries: dict[str, str]
    licenses: dict[str, str]
    packages: list[tuple[str, str, str]]


def read_inventory(libraries: str, packages: str = "") -> Inventory:
    """Read the output of `LIST_LIBRARIES` and `LIST_PACKAGES`."""
    content = json.loads(libraries)
    return Inventory(
        python=content["python"],
        libraries={canonicalize_name(name): version for name, version in content["libraries"].items()},
        licenses={canonicalize_name(name): text for name, text in content["licenses"].items() if text},
        packages=[
            (name, version, kind) for name, version, kind in (line.split("\t") for line in packages.splitlines())
        ],
    )


def locked_versions(lock: Path, python: str) -> dict[str, str]:
    """The version of each library that a lock requires under a version of Python on Linux."""
    environment: dict[str, Any] = {
        **default_environment(),
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    text = re.sub(r"\\\n|--hash=\S+", " ", lock.read_text())
    wanted = [Requirement(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {
        canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
        for requirement in wanted
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


def require_libraries(inventory: Inventory, lock: Path, model: Path) -> None:
    """Check that the image holds exactly the libraries of the lock, and those that the model was trained with.

    Raises:
        ImageFault: a library or Python itself is of another version, is missing, or is not in the lock.
    """
    locked = locked_versions(lock, inventory.python)
    _require_equal("the lock", locked, inventory.libraries, inventory.libraries.keys() | locked.keys())
    made_with = yaml.safe_load((model / "python_env.yaml").read_text())["python"]
    if made_with.split(".")[:2] != inventory.python.split(".")[:2]:
        raise ImageFault(
            f"The image has Python {inventory.python}, but the model was trained with {made_with}. Choose another CHURN_BASE_IMAGE."
        )
    pins = [Requirement(line) for line in (model / "requirements.txt").read_text().splitlines() if line.strip()]
    made = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    _require_equal("the model's own requirements", made, inventory.libraries, made.keys())


def _require_equal(source: str, wanted: Mapping[Any, str], actual: Mapping[Any, str], names: Iterable[Any]) -> None:
    differing = [
        f"{name} {actual.get(name, 'missing')} instead of {wanted.get(name, 'none')}"
        for name in sorted(names)
        if actual.get(name) != wanted.get(name)
    ]
    if differing:
        raise ImageFault(
            f"The libraries of the image are not those of {source}: {', '.join(differing[:5])}"
            f"{f' and {len(differing) - 5} more' if len(differing) > 5 else ''}. It is not published. Build it again."  # noqa: PLR2004
        )
