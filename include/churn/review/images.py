"""The images: what was built for each version, how it was verified, and when the version was in production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.links import version_page
from churn.foundation.records import ImageRecord
from churn.foundation.wording import as_sentence
from churn.review.presentation import IMAGE_STATES, LOOK, ROWS_SHOWN, UNMONITORED
from churn.settings import Settings

PAGE = ROWS_SHOWN
_RESULTS = {
    "published": "gives the same answers as the model",
    "verified, not built": "has not been built, but the same service has been verified",
    "differs from the model": "differs from the model",
    "not published": "has not been published",
    "build failed": "could not be built",
    "deleted here": "has been deleted from this machine",
    "pending": "is pending",
}
"""The end of the headline for each answer of an image."""


@dataclass(frozen=True)
class Time:
    """A period in production; `until` is None for the current one."""

    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class ImageLine:
    """A version's image, `size` in bytes. Values are None if there is no image, or no container engine was used."""

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
    """A page of images, newest version first; `older` is the cursor of the next page, None at the end."""

    headline: str
    detail: str
    lines: list[ImageLine]
    older: int | None
    first: bool


def load_images(ledger: Ledger, settings: Settings, before: int | None = None, limit: int = PAGE) -> Images:
    """Read a page of images.

    Args:
        ledger: the ledger.
        settings: which model, and where MLflow is.
        before: the cursor of the page; None for the newest one.
        limit: images on the page.
    """
    model = settings.model_name
    rows = ledger.images_page(model, limit + 1, before)
    promotion = ledger.in_production(model)
    current = promotion.version if promotion else None
    image = ledger.image(model, current) if current is not None else None
    versions = {row.version for row in rows} | ({current} if current is not None else set())
    periods = ledger.reigns_of(model, sorted(versions))
    return make_images(rows, current, image, periods, settings, before is None, limit)


def make_images(
    rows: Sequence[ImageRecord],
    current: int | None,
    image: ImageRecord | None,
    periods: Mapping[int, Sequence[tuple[datetime, datetime | None]]],
    settings: Settings,
    first: bool = True,
    limit: int = PAGE,
) -> Images:
    """Make a page from what the ledger says; pure. A version in production without an image is listed too.

    Args:
        rows: images, newest version first; one more than `limit` if there is another page.
        current: the version in production.
        image: its image, which may be on another page.
        periods: when each version on the page was in production.
        settings: where the MLflow registry is.
        first: whether this is the newest page.
        limit: images on the page.
    """
    lines = [_make_line(row, _list_times(periods, row.version), settings) for row in rows[:limit]]
    current_line = None
    if current is not None:
        times = _list_times(periods, current)
        current_line = _make_line(image, [], settings) if image else _make_missing_line(current, times, settings)
        if first and image is None:
            lines.insert(0, current_line)
    older = rows[limit - 1].version if len(rows) > limit else None
    headline, detail = _write_headline(current_line) if first else ("Earlier images", "")
    return Images(headline, detail, lines, older, first)


def _list_times(periods: Mapping[int, Sequence[tuple[datetime, datetime | None]]], version: int) -> list[Time]:
    return [Time(since, until) for since, until in periods.get(version, ())]


def _write_headline(line: ImageLine | None) -> tuple[str, str]:
    """The state of the image in production, and how it was verified."""
    if line is None:
        return "Nothing is in production, so no image is needed.", ""
    result = _RESULTS.get(line.answer, f"is in the state {line.answer}")
    probed = f"It was verified on {line.probes:,} rows." if line.probes else ""
    difference = f" The largest difference is {line.max_difference:.1g}." if line.max_difference is not None else ""
    return f"The image of version {line.version} {result}.", f"{probed}{difference}".strip()


def _make_line(row: ImageRecord, times: list[Time], settings: Settings) -> ImageLine:
    state, answer, words = IMAGE_STATES.get(row.state, (UNMONITORED, row.state, ""))
    return ImageLine(
        row.version,
        state,
        answer,
        as_sentence(row.detail or words),
        row.tag,
        row.digest,
        row.image_id,
        row.size,
        row.build_seconds,
        row.probes,
        row.max_difference,
        row.recorded_at,
        times,
        version_page(settings.mlflow_ui, row.model, row.version),
    )


def _make_missing_line(version: int, times: list[Time], settings: Settings) -> ImageLine:
    return ImageLine(
        version,
        LOOK,
        "pending",
        "It has not been built or verified yet.",
        None,
        None,
        None,
        None,
        None,
        0,
        None,
        None,
        times,
        version_page(settings.mlflow_ui, settings.model_name, version),
    )
