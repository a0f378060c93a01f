"""Renders the views as HTML. Airflow and the report folder show the same pages; only links and actions differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from churn.contract import CHURNED, EventNames
from churn.decision import formatting
from churn.foundation import svg
from churn.foundation.digests import text_digest
from churn.foundation.links import night_path, scores_path
from churn.foundation.plain_text import clean
from churn.foundation.wording import KIND_WORDS
from churn.outcomes.states import REASONS
from churn.review import charts
from churn.review.changes import group_changes
from churn.review.data import EARLIER, BatchView, Data
from churn.review.images import Images
from churn.review.night_list import NightList
from churn.review.nights import ComparedRuns, Night
from churn.review.outcomes import Outcomes
from churn.review.overview import Overview
from churn.review.presentation import ROWS_SHOWN, Link, counted, describe_answer, span_words
from churn.review.scores import Scores
from churn.review.undecided import Undecided

T = TypeVar("T")
TEMPLATES = Path(__file__).parent / "templates"
STYLE = TEMPLATES / "style.css"
_LEAST_P = 0.001
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Links(Protocol):
    """The targets of the pages' links to each other; None if a page does not exist."""

    def page(self, name: str, before: object = None) -> str | None:
        """Link to overview, nights, data, images, scores or outcomes; `before` is the cursor of a further page."""

    def night(self, name: str) -> str | None:
        """Link to a run."""

    def compare_with(self, left: str, before: object = None) -> str | None:
        """Link to the list of runs, to choose one to compare with `left`; `before` is the cursor of a further page."""

    def comparison(self, left: str, right: str) -> str | None:
        """Link to two runs side by side."""

    def batch(self, name: str) -> str | None:
        """Link to a batch."""

    def scores(self, name: str) -> str | None:
        """Link to a list of scores."""


@dataclass(frozen=True)
class AppLinks:
    """Links within the plugin. All pages are directly below `base`; names that may hold any text are query parameters."""

    base: str = ""

    def page(self, name: str, before: object = None) -> str:
        """Link to a page, or to a further page of a list."""
        url = self.base + ("" if name == "overview" else name)
        return url if before is None else f"{url}?before={str(before).replace('+', '%2B')}"

    def night(self, name: str) -> str:
        """Link to a run."""
        return self.base + night_path(name)

    def compare_with(self, left: str, before: object = None) -> str:
        """Link to the list of runs, to choose one to compare with `left`."""
        url = self.page("nights", before)
        return f"{url}{'&' if '?' in url else '?'}left={quote(left, safe='')}"

    def comparison(self, left: str, right: str) -> str:
        """Link to two runs side by side."""
        return f"{self.base}compare?left={quote(left, safe='')}&right={quote(right, safe='')}"

    def batch(self, name: str) -> str:
        """Link to a batch."""
        return f"{self.base}batch?hash={name}"

    def scores(self, name: str) -> str:
        """Link to a list of scores."""
        return self.base + scores_path(name)


@dataclass(frozen=True)
class FolderLinks:
    """Links between the files of a report; runs and batches are linked only if they have a file."""

    nights: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()

    def page(self, name: str, before: object = None) -> str | None:
        """Link to a page; lists of a report have no further pages."""
        if before is not None:
            return None
        return "index.html" if name == "overview" else f"{name}.html"

    def night(self, name: str) -> str | None:
        """Link to the file of a run, which is named by a hash because the name of a run may hold any text."""
        return f"{night_file(name)}.html" if name in self.nights else None

    def compare_with(self, left: str, before: object = None) -> str | None:  # noqa: ARG002 -- a report compares no runs
        """Return None: a report compares no runs."""
        return None

    def comparison(self, left: str, right: str) -> str | None:  # noqa: ARG002
        """Return None: a report compares no runs."""
        return None

    def batch(self, name: str) -> str | None:
        """Link to the file of a batch."""
        return f"{batch_file(name)}.html" if name in self.batches else None

    def scores(self, name: str) -> str | None:  # noqa: ARG002 -- a report shows the newest list in full
        """Return None: a report shows one list in full."""
        return None


def night_file(name: str) -> str:
    """Name the file of a run, without its extension."""
    return f"night-{text_digest(name)[:16]}"


def batch_file(name: str) -> str:
    """Name the file of a batch, without its extension."""
    return f"batch-{name[:16]}"


@dataclass(frozen=True)
class Site:
    """Where and to whom a page is shown.

    `assets` is the address of style and script, `json` that of this page as JSON. Links that begin with `airflow` lead to
    Airflow, and `root` replaces that beginning here. `unavailable` are sentences about services that do not answer.
    `model` is the name of the registered model, and `names` is what people call the event and its opposite.
    """

    links: Links
    read_at: datetime
    json: str
    assets: str = ""
    live: bool = False
    may_act: bool = False
    airflow: str = ""
    root: str = ""
    unavailable: tuple[str, ...] = field(default=())
    model: str = ""
    names: EventNames = CHURNED

    def reach(self, url: str) -> str | None:
        """Make a link to another site usable here; None if it is not a web address.

        Links to this Airflow lose their host, because a person may reach Airflow under another name.
        """
        if self.live and self.airflow and url.startswith(f"{self.airflow}/"):
            return f"{self.root}{url.removeprefix(self.airflow)}"
        return url if formatting.is_web(url) else None

    def within(self, url: str) -> bool:
        """Whether a link leads to a page of this Airflow."""
        return bool(self.airflow) and url.startswith(f"{self.airflow}/dags/")


def render_overview(view: Overview, site: Site) -> str:
    """Render the first page."""
    is_measured = any(point.challenger_auc or point.champion_auc for point in view.nights)
    drawn = {
        "production": charts.draw_production(view.reigns, site.read_at) if view.reigns else None,
        "history": charts.draw_history(view.nights) if is_measured else None,
    }
    return _render("overview.html", "Overview", view, site, drawn=drawn)


def render_nights(view: NightList, site: Site) -> str:
    """Render the list of runs."""
    return _render("nights.html", "Nightly runs", view, site)


def render_night(view: Night, site: Site) -> str:
    """Render the page of a run."""
    return _render(
        "night.html",
        f"Run {view.night[:80]}",
        view,
        site,
        drawn=_draw_night(view, site.names),
        changes=group_changes(view.changes),
    )


def render_undecided(view: Undecided, site: Site) -> str:
    """Render the page of a run without a decision."""
    return _render("undecided.html", f"Run {view.night[:80]}", view, site)


def render_compared_runs(view: ComparedRuns, site: Site) -> str:
    """Render two runs side by side."""
    return _render("compare.html", "Two runs", view, site)


def render_data(view: Data, site: Site) -> str:
    """Render the batches and their drift."""
    heat = view.heat
    drift = _draw_parts("drift", charts.order_drift(heat), partial(charts.draw_drift, heat)) if heat else []
    return _render("data.html", "Data", view, site, drift=drift, earlier=EARLIER)


def render_batch(view: BatchView, site: Site) -> str:
    """Render the page of a batch."""
    most_rows = max((reason.rows for reason in view.line.reasons), default=0)
    reasons = _draw_parts("reasons", view.line.reasons, lambda part, name: charts.draw_reasons(part, most_rows, name))
    return _render("batch.html", f"Batch {view.line.batch[:12]}", view, site, reasons=reasons)


def render_images(view: Images, site: Site) -> str:
    """Render the images."""
    return _render("images.html", "Images", view, site)


def render_scores(view: Scores, site: Site) -> str:
    """Render the lists of scores."""
    shown = view.shown
    most = max((count for _, count in shown.reasons), default=0) if shown else 0
    reasons = (
        _draw_parts("reasons", shown.reasons, lambda part, name: charts.draw_first_reasons(part, most, name))
        if shown
        else []
    )
    distribution = charts.draw_distribution(shown.distribution) if shown and shown.distribution else None
    return _render("scores.html", "Scores", view, site, reasons=reasons, distribution=distribution)


def render_outcomes(view: Outcomes, site: Site) -> str:
    """Render what happened afterwards."""
    drawn = charts.draw_health(view.history) if any(point.roc_auc for point in view.history) else None
    return _render("outcomes.html", "Outcomes", view, site, drawn=drawn, reasons=REASONS)


def render_message(
    title: str, sentences: Iterable[str], site: Site, login: str | None = None, elsewhere: Iterable[Link] = ()
) -> str:
    """Render a page that only explains something, such as an error; `login` is the address of the login, if that helps."""
    return _render("message.html", title, list(sentences), site, login=login, elsewhere=list(elsewhere))


def _draw_night(view: Night, names: EventNames) -> dict[str, Any]:
    larger = [line for line in view.metrics if line.delta and not line.smaller_is_better]
    smaller = [line for line in view.metrics if line.delta and line.smaller_is_better]
    return {
        "larger": charts.draw_differences("larger", "ROC AUC and PR AUC: right is better", larger) if larger else None,
        "smaller": charts.draw_differences("smaller", "Brier score and log loss: left is better", smaller)
        if smaller
        else None,
        "slices": _draw_parts("slices", view.slices, lambda part, name: charts.draw_slices(part, view.harm, name)),
        "budget": charts.draw_budget(view.budget) if view.budget else None,
        **charts.draw_night_curves(view, names),
    }


def _draw_parts(name: str, rows: Sequence[T], draw: Callable[[Sequence[T], str], Markup]) -> list[Markup]:
    """Draw the rows that a page shows, and those that it folds as a chart of their own; empty without rows."""
    parts = [(rows[:ROWS_SHOWN], name), (rows[ROWS_SHOWN:], f"{name}-folded")]
    return [draw(part, part_name) for part, part_name in parts if part]


def _render(template: str, title: str, view: object, site: Site, **more: Any) -> str:
    return _environment().get_template(template).render(title=title, view=view, site=site, links=site.links, **more)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=formatting.harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": lambda rows: rows[:ROWS_SHOWN],
        "folded": lambda rows: rows[ROWS_SHOWN:],
        "metric": lambda estimate: formatting.metric_value(estimate.value if estimate else None),
        "number": formatting.metric_value,
        "delta": lambda delta, metric: formatting.difference(delta.value if delta else None, metric),
        "difference": formatting.difference,
        "interval": lambda delta, metric: (
            formatting.bounds(delta.lower, delta.upper, metric) if delta else formatting.ABSENT
        ),
        "share": formatting.share,
        "value": formatting.rule_value,
        "p_value": lambda p: f"{p:.3f}" if p >= _LEAST_P else f"< {_LEAST_P}",
        "count": lambda number: formatting.ABSENT if number is None else f"{number:,}",
        "counted": counted,
        "answer": describe_answer,
        "day": lambda moment: formatting.ABSENT if moment is None else f"{moment:%Y-%m-%d}",
        "moment": lambda moment: formatting.ABSENT if moment is None else f"{moment:%Y-%m-%d %H:%M}",
        "span": span_words,
        "size": _format_size,
        "tiny": lambda number: f"{number:.1e}" if number else "0",
        "ticks": _mark_commands,
        "kind": lambda kind: KIND_WORDS.get(kind, kind),
        "shape": svg.shape_of,
    }
    return environment


def _mark_commands(text: str) -> Markup:
    """Mark up the commands of a sentence, which are between backticks, as code."""
    parts = clean(text).split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup().join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def _format_size(size: int | None) -> str:
    if size is None:
        return formatting.ABSENT
    unit, name = next(((unit, name) for unit, name in _UNITS if size >= unit), (1, "bytes"))
    return f"{size / unit:,.0f}\u00a0{name}"
