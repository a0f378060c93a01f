"""The bill of materials (SBOM) of an image in CycloneDX: every library, and every package of the distribution."""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from churn.release.inventory import Inventory

FILE = "sbom.cdx.json"


def write_materials(
    folder: Path, image_id: str, labels: dict[str, str], inventory: Inventory, distribution: tuple[str, str]
) -> Path:
    """Write the bill of materials of an image; the same image gives the same file.

    Args:
        folder: the folder to write `sbom.cdx.json` to.
        image_id: `sha256:...`.
        labels: the labels of the image.
        inventory: the contents of the image.
        distribution: name and version of its Linux distribution, such as `debian` and `12`.
    """
    digest = image_id.removeprefix("sha256:")
    image = Component(
        name=labels["org.opencontainers.image.title"],
        version=labels["org.opencontainers.image.version"],
        type=ComponentType.CONTAINER,
        bom_ref=image_id,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        properties=[Property(name=name, value=value) for name, value in sorted(labels.items())],
    )
    system = Component(
        name=distribution[0], version=distribution[1], type=ComponentType.OPERATING_SYSTEM, bom_ref="system"
    )
    bom = Bom(
        components=[system, *_libraries(inventory), *_packages(inventory, distribution)],
        serial_number=uuid.UUID(digest[:32]),
    )
    bom.metadata.component = image
    bom.metadata.timestamp = datetime.fromisoformat(labels["org.opencontainers.image.created"])
    bom.register_dependency(image, bom.components)
    file = folder / FILE
    file.write_text(JsonV1Dot6(bom).output_as_string(indent=1))
    return file


def _libraries(inventory: Inventory) -> list[Component]:
    licenses = LicenseFactory()
    return [
        Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", None, name, version),
            bom_ref=f"pypi/{name}",
            licenses=[licenses.make_from_string(inventory.licenses[name])] if name in inventory.licenses else [],
        )
        for name, version in sorted(inventory.libraries.items())
    ]


def _packages(inventory: Inventory, distribution: tuple[str, str]) -> list[Component]:
    return [
        Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=PackageURL(
                "deb", distribution[0], name, version, {"arch": architecture, "distro": "-".join(distribution)}
            ),
            bom_ref=f"deb/{name}/{architecture}",
        )
        for name, version, architecture in inventory.packages
    ]
