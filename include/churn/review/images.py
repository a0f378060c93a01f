"""The images: of each version what was built, how it was verified, and when it was in production."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from churn.foundation.addresses import version_page
from churn.foundation.ledger import Ledger
from churn.foundation.records import ImageRecord, Promotion
from churn.review.views import GOOD, IMAGE_STATES, LINEAGE, LOOK, UNMONITORED, reigns
from churn.settings import Settings

PAGE = 25


@dataclass(frozen=True)
class Time:
    """A time in production; `until` is None for the present one."""

    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class ImageLine:
    """A version's image; values are None where there is no image, or where it was made without an engine. `size` is in bytes."""

    version: int
    state: str
    answer: str
    detail: str
    tag: str | None
    digest: str | None
    image_id: str | None
    size: int | None
    build_seconds: float | None
    probes: int
    max_difference: float | None
    recorded_at: datetime | None
    in_production: list[Time]
    url: str


@dataclass(frozen=True)
class Images:
    """A page of images, the newest version first; `older` is where the next page begins, None at the end."""

    headline: str
    lines: list[ImageLine]
    older: int | None
    first: bool


def load_images(ledger: Ledger, settings: Settings, before: int | None = None, limit: int = PAGE) -> Images:
    """Read a page of images."""
    rows = ledger.images_page(settings.model_name, limit + 1, before)
    return make_images(rows, ledger.promotions(settings.model_name, limit=LINEAGE), settings, before is None, limit)


def make_images(
    rows: Sequence[ImageRecord], changes: Sequence[Promotion], settings: Settings, first: bool = True, limit: int = PAGE
) -> Images:
    """The page of what the ledger says; pure. A version that is in production and has no image is listed as such.

    Args:
        rows: images, the newest version first; one more than `limit` says that there is another page.
        changes: of production, newest first.
        settings: where the registry is.
        first: whether this is the newest page.
        limit: images on the page.
    """
    times: dict[int, list[Time]] = {}
    for one in reigns(changes):
        if one.version is not None:
            times.setdefault(one.version, []).append(Time(one.since, one.until))
    current = changes[0].version if changes else None
    lines = [_line(row, times.get(row.version, []), settings) for row in rows[:limit]]
    if first and current is not None and all(row.version != current for row in rows):
        lines.insert(0, _missing(current, times[current], settings))
    return Images(
        _headline(lines, current, first), lines, rows[limit - 1].version if len(rows) > limit else None, first
    )


def _headline(lines: Sequence[ImageLine], current: int | None, first: bool) -> str:
    if not first:
        return "Earlier images."
    if current is None:
        return "Nothing is in production, so no image is needed."
    line = next((one for one in lines if one.version == current), None)
    if line is None:
        return f"Version {current} is in production; its image is on a later page."
    said = "is the model" if line.state == GOOD else line.answer
    asked = f" {line.probes:,} rows were asked." if line.probes else ""
    difference = f" The largest difference is {line.max_difference:.1g}." if line.max_difference is not None else ""
    return f"The image of version {current}: {said}.{asked}{difference}"


def _line(row: ImageRecord, times: list[Time], settings: Settings) -> ImageLine:
    state, answer, words = IMAGE_STATES.get(row.state, (UNMONITORED, row.state, ""))
    return ImageLine(
        row.version,
        state,
        answer,
        row.detail or words,
        row.tag,
        row.digest,
        row.image_id,
        row.size,
        row.build_seconds,
        row.probes,
        row.max_difference,
        row.recorded_at,
        times,
        version_page(settings, row.model, row.version),
    )


def _missing(version: int, times: list[Time], settings: Settings) -> ImageLine:
    return ImageLine(
        version,
        LOOK,
        "no state yet",
        "It is not built or verified yet.",
        None,
        None,
        None,
        None,
        None,
        0,
        None,
        None,
        times,
        version_page(settings, settings.model_name, version),
    )
