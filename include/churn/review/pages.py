"""The views as pages: the same for Airflow and for a folder of files, but for how their links go and who may act."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from churn.decision import formatting
from churn.foundation.digests import text_digest
from churn.foundation.links import night_path
from churn.review import charts, svg
from churn.review.data import BatchView, Data
from churn.review.images import Images
from churn.review.night_list import NightList
from churn.review.nights import Comparing, Night
from churn.review.overview import Overview
from churn.review.presentation import KIND_WORDS, Link, counted, span_words
from churn.review.undecided import Undecided

TEMPLATES = Path(__file__).parent / "templates"
STYLE = TEMPLATES / "style.css"
_LEAST_P = 0.001
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Links(Protocol):
    """Where the pages' links to each other go; None where the page is not there."""

    def page(self, name: str, before: object = None) -> str | None:
        """Overview, nights, data or images; `before` pages on."""

    def night(self, name: str) -> str | None:
        """A night."""

    def comparing(self, left: str, before: object = None) -> str | None:
        """The nights, to choose one of that a night is to be compared with; `before` pages on."""

    def comparison(self, left: str, right: str) -> str | None:
        """Two nights."""

    def batch(self, name: str) -> str | None:
        """A batch."""


@dataclass(frozen=True)
class AppLinks:
    """Links within the plugin: all pages stand side by side below `base`, and what has a free name is a query."""

    base: str = ""

    def page(self, name: str, before: object = None) -> str:
        """A page, or a further one of a list."""
        at = self.base + ("" if name == "overview" else name)
        return at if before is None else f"{at}?before={str(before).replace('+', '%2B')}"

    def night(self, name: str) -> str:
        """A night."""
        return self.base + night_path(name)

    def comparing(self, left: str, before: object = None) -> str:
        """The nights, to choose one of that a night is to be compared with."""
        at = self.page("nights", before)
        return f"{at}{'&' if '?' in at else '?'}left={quote(left, safe='')}"

    def comparison(self, left: str, right: str) -> str:
        """Two nights."""
        return f"{self.base}compare?left={quote(left, safe='')}&right={quote(right, safe='')}"

    def batch(self, name: str) -> str:
        """A batch."""
        return f"{self.base}batch?hash={name}"


@dataclass(frozen=True)
class FolderLinks:
    """Links between files of a folder; to a night or a batch only if it has a file."""

    nights: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()

    def page(self, name: str, before: object = None) -> str | None:
        """A page; a list has no further ones."""
        if before is not None:
            return None
        return "index.html" if name == "overview" else f"{name}.html"

    def night(self, name: str) -> str | None:
        """A night's file; its name is of the hash, since that of a night may be anything."""
        return f"{night_file(name)}.html" if name in self.nights else None

    def comparing(self, left: str, before: object = None) -> str | None:  # noqa: ARG002 -- a folder compares nothing
        """Not there."""
        return None

    def comparison(self, left: str, right: str) -> str | None:  # noqa: ARG002
        """Not there."""
        return None

    def batch(self, name: str) -> str | None:
        """A batch's file."""
        return f"{batch_file(name)}.html" if name in self.batches else None


def night_file(name: str) -> str:
    """The name of a night's file, without its ending."""
    return f"night-{text_digest(name)[:16]}"


def batch_file(name: str) -> str:
    """The name of a batch's file, without its ending."""
    return f"batch-{name[:16]}"


@dataclass(frozen=True)
class Site:
    """What a page must know of where it is shown.

    `assets` is where style and script are; `json` is where this page is as JSON; `airflow` is the address that its
    links to Airflow begin with and `root` what stands for it here; `away` are sentences about what does not answer.
    """

    links: Links
    read_at: datetime
    json: str
    assets: str = ""
    live: bool = False
    may_act: bool = False
    airflow: str = ""
    root: str = ""
    away: tuple[str, ...] = field(default=())

    def reach(self, url: str) -> str | None:
        """A link elsewhere, if it is one to the web: to this Airflow without its host, by which a person may know it otherwise."""
        if self.live and self.airflow and url.startswith(f"{self.airflow}/"):
            return f"{self.root}{url.removeprefix(self.airflow)}"
        return url if formatting.is_web(url) else None

    def within(self, url: str) -> bool:
        """Whether a link leads to a page of this Airflow's own."""
        return bool(self.airflow) and url.startswith(f"{self.airflow}/dags/")


def render_overview(view: Overview, site: Site) -> str:
    """The first page."""
    drawn = {
        "production": charts.draw_production(view.reigns, site.read_at) if view.reigns else None,
        "history": charts.draw_history(view.nights)
        if any(one.challenger_auc or one.champion_auc for one in view.nights)
        else None,
    }
    return _render("overview.html", "Overview", view, site, drawn=drawn)


def render_nights(view: NightList, site: Site) -> str:
    """The list of nights."""
    return _render("nights.html", "Nights", view, site)


def render_night(view: Night, site: Site) -> str:
    """One night."""
    return _render("night.html", f"Night {view.night[:80]}", view, site, drawn=_draw_night(view))


def render_undecided(view: Undecided, site: Site) -> str:
    """A night without a decision."""
    return _render("undecided.html", f"Night {view.night[:80]}", view, site)


def render_comparing(view: Comparing, site: Site) -> str:
    """Two nights."""
    return _render("compare.html", "Two nights", view, site)


def render_data(view: Data, site: Site) -> str:
    """The batches and their drift."""
    return _render("data.html", "Data", view, site, drift=charts.draw_drift(view.heat) if view.heat else None)


def render_batch(view: BatchView, site: Site) -> str:
    """One batch."""
    drawn = charts.draw_reasons(view.line) if view.line.reasons else None
    return _render("batch.html", f"Batch {view.line.batch[:12]}", view, site, reasons=drawn)


def render_images(view: Images, site: Site) -> str:
    """The images."""
    return _render("images.html", "Images", view, site)


def render_message(
    title: str, sentences: Iterable[str], site: Site, login: str | None = None, elsewhere: Iterable[Link] = ()
) -> str:
    """A page that says why there is nothing else; `login` is where a person says who they are."""
    return _render("message.html", title, list(sentences), site, login=login, elsewhere=list(elsewhere))


def _draw_night(view: Night) -> dict[str, Any]:
    larger = [one for one in view.metrics if one.delta and not one.smaller_is_better]
    smaller = [one for one in view.metrics if one.delta and one.smaller_is_better]
    return {
        "larger": charts.draw_differences("larger", "ROC AUC and PR AUC: right is better", larger) if larger else None,
        "smaller": charts.draw_differences("smaller", "Brier score and log loss: left is better", smaller)
        if smaller
        else None,
        "slices": charts.draw_slices(view.slices, view.harm) if view.slices else None,
        "budget": charts.draw_budget(view.budget) if view.budget else None,
        **charts.draw_night_curves(view),
    }


def _render(template: str, title: str, view: object, site: Site, **more: Any) -> str:
    return _environment().get_template(template).render(title=title, view=view, site=site, links=site.links, **more)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=formatting.harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "metric": lambda one: formatting.metric_value(one.value if one else None),
        "number": formatting.metric_value,
        "delta": lambda one, metric: formatting.difference(one.value if one else None, metric),
        "difference": formatting.difference,
        "interval": lambda one, metric: formatting.bounds(one.lower, one.upper, metric) if one else formatting.ABSENT,
        "share": formatting.share,
        "value": formatting.rule_value,
        "p_value": lambda p: f"{p:.3f}" if p >= _LEAST_P else f"< {_LEAST_P}",
        "count": lambda number: formatting.ABSENT if number is None else f"{number:,}",
        "counted": counted,
        "day": lambda moment: formatting.ABSENT if moment is None else f"{moment:%Y-%m-%d}",
        "moment": lambda moment: formatting.ABSENT if moment is None else f"{moment:%Y-%m-%d %H:%M}",
        "span": span_words,
        "size": _size,
        "tiny": lambda number: f"{number:.1e}" if number else "0",
        "ticks": _ticks,
        "kind": lambda kind: KIND_WORDS.get(kind, kind),
        "shape": svg.shape_of,
    }
    return found


def _ticks(text: str) -> Markup:
    """A sentence, its commands between backticks as code."""
    parts = formatting.clean(text).split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup().join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def _size(found: int | None) -> str:
    if found is None:
        return formatting.ABSENT
    unit, name = next(((unit, name) for unit, name in _UNITS if found >= unit), (1, "bytes"))
    return f"{found / unit:,.0f}\u00a0{name}"
