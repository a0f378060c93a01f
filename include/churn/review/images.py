"""The images: of each version what was built, how it was verified, and when it was in production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.links import version_page
from churn.foundation.records import ImageRecord
from churn.review.presentation import IMAGE_STATES, LOOK, UNMONITORED
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
    model = settings.model_name
    rows = ledger.images_page(model, limit + 1, before)
    now = ledger.in_production(model)
    current = now.version if now else None
    image = ledger.image(model, current) if current is not None else None
    shown = {row.version for row in rows} | ({current} if current is not None else set())
    return make_images(rows, current, image, ledger.reigns_of(model, sorted(shown)), settings, before is None, limit)


def make_images(
    rows: Sequence[ImageRecord],
    current: int | None,
    image: ImageRecord | None,
    times: Mapping[int, Sequence[tuple[datetime, datetime | None]]],
    settings: Settings,
    first: bool = True,
    limit: int = PAGE,
) -> Images:
    """The page of what the ledger says; pure. A version that is in production and has no image is listed as such.

    Args:
        rows: images, the newest version first; one more than `limit` says that there is another page.
        current: the version in production.
        image: its image, which may be on another page.
        times: of each version on the page when it was in production.
        settings: where the registry is.
        first: whether this is the newest page.
        limit: images on the page.
    """
    lines = [_line(row, _times(times, row.version), settings) for row in rows[:limit]]
    mine = None
    if current is not None:
        mine = _line(image, [], settings) if image else _missing(current, _times(times, current), settings)
        if first and image is None:
            lines.insert(0, mine)
    older = rows[limit - 1].version if len(rows) > limit else None
    return Images(_headline(mine) if first else "Earlier images.", lines, older, first)


def _times(times: Mapping[int, Sequence[tuple[datetime, datetime | None]]], version: int) -> list[Time]:
    return [Time(since, until) for since, until in times.get(version, ())]


def _headline(line: ImageLine | None) -> str:
    if line is None:
        return "Nothing is in production, so no image is needed."
    said = " is the model" if line.answer == "published" else f": {line.answer}"
    asked = f" {line.probes:,} rows were asked." if line.probes else ""
    difference = f" The largest difference is {line.max_difference:.1g}." if line.max_difference is not None else ""
    return f"The image of version {line.version}{said}.{asked}{difference}"


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
