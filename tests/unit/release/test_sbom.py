"""The bill of materials names every library and package, and is the same for the same image."""

from __future__ import annotations

import json
from pathlib import Path

from churn.release.inventory import Inventory
from churn.release.sbom import FILE, write_materials

LABELS = {
    "org.opencontainers.image.title": "churn",
    "org.opencontainers.image.version": "2",
    "org.opencontainers.image.created": "2026-01-02T03:04:05+00:00",
}
INVENTORY = Inventory("3.11.9", {"numpy": "2.0.1"}, {"numpy": "BSD-3-Clause"}, [("libc6", "2.36", "amd64")])


def test_the_bill_is_complete_and_reproducible(tmp_path: Path) -> None:
    """Image, distribution, libraries with their licence, and packages; two writings are equal."""
    file = write_materials(tmp_path, "sha256:" + "ab" * 32, LABELS, INVENTORY, ("debian", "12"))
    bill = json.loads(file.read_text())
    assert file.name == FILE
    assert bill["specVersion"] == "1.6"
    assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert {component.get("purl", component["name"]) for component in bill["components"]} == {
        "debian",
        "pkg:pypi/numpy@2.0.1",
        "pkg:deb/debian/libc6@2.36?arch=amd64&distro=debian-12",
    }
    (numpy,) = [component for component in bill["components"] if component["name"] == "numpy"]
    assert numpy["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    (tmp_path / "again").mkdir()
    again = write_materials(tmp_path / "again", "sha256:" + "ab" * 32, LABELS, INVENTORY, ("debian", "12"))
    assert again.read_bytes() == file.read_bytes()
