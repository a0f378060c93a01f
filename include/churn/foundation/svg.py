"""Charts as inline SVG: small, without scripts or styles of their own. Colours come from the page's style sheet, by class.

Horizontal positions are percentages, or lie in a stretched box. A chart therefore fills the width of its page, while its
text keeps the size of the surrounding text. Every chart has a title and a description, and the page also shows its numbers
as a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from textwrap import wrap
from xml.etree import ElementTree as ET

from markupsafe import Markup

from churn.foundation.plain_text import clean

WIDE = 1000
"""Width of a stretched box, in units of its own."""
_LINE, _LETTER = 16, 6.4
"""Height of a line of text, and the width of a letter on average."""
_ROW, _TOP, _AXIS = 46, 6, 24
_ROUND_STEPS = (1, 2, 2.5, 5, 10)
_Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A value with its interval, on a line of its own. `margin` is the worst value allowed.

    `look` is better, worse, unsure or untested. If `value` is None, the line shows only `label` and `words`.
    """

    label: str
    words: str
    look: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Series:
    """A model over the runs: value, lower and upper bound for each run, None if there is none. `look` is its CSS class.

    A `label` is written at the last point.
    """

    look: str
    points: Sequence[tuple[float, float, float] | None]
    label: str = ""


@dataclass(frozen=True)
class Curve:
    """A line of points, x and y from 0 to 1; `reach` is half the interval at each point."""

    look: str
    points: Sequence[_Point]
    reach: Sequence[float] = ()


@dataclass(frozen=True)
class Span:
    """A labelled period, from 0 to 1 of the whole time; `mark` is the kind of change that began it."""

    begin: float
    end: float
    label: str
    mark: str


def draw_intervals(name: str, title: str, description: str, marks: Sequence[Mark]) -> Markup:
    """Draw intervals against a line at 0, one below the other; a margin is a dashed tick."""
    ends = [end for mark in marks for end in (mark.lower, mark.upper, mark.value, mark.margin) if end is not None]
    low, high = _padded(min([0.0, *ends]), max([0.0, *ends]))

    def at(value: float) -> str:
        return f"{2 + 96 * (value - low) / (high - low):.2f}%"

    bottom = _TOP + _ROW * len(marks)
    root = _root(name, title, description, bottom + _AXIS)
    for place, mark in enumerate(marks):
        top = _TOP + _ROW * place
        _text(root, mark.label, "0", top + 14, "label")
        _text(root, mark.words, "100%", top + 14, "words end")
        line = top + 31
        _add(root, "line", "zero", x1=at(0), x2=at(0), y1=line - 11, y2=line + 11)
        if mark.margin is not None:
            _add(root, "line", "margin", x1=at(mark.margin), x2=at(mark.margin), y1=line - 9, y2=line + 9)
        if mark.lower is not None and mark.upper is not None:
            _add(root, "line", f"reach {mark.look}", x1=at(mark.lower), x2=at(mark.upper), y1=line, y2=line)
        if mark.value is not None:
            _add(root, "circle", f"dot {mark.look}", cx=at(mark.value), cy=line, r=5)
    for tick in _ticks(low, high, 5):
        _text(root, f"{tick:+g}" if tick else "0", at(tick), bottom + 18, "tick middle")
    return _serialise(root)


def draw_series(name: str, title: str, description: str, series: Sequence[Series], labels: Sequence[str]) -> Markup:
    """Draw values over the runs with their intervals; `labels` are written above the runs; most are empty."""
    ends = [end for model in series for point in model.points if point for end in point]
    low, high = _padded(min(ends, default=0.0), max(ends, default=1.0))
    top, bottom = 22, 202

    def across(place: int) -> float:
        return WIDE * (0.07 + 0.92 * (place + 0.5) / len(labels))

    def down(value: float) -> float:
        return round(bottom - (bottom - top) * (value - low) / (high - low), 1)

    root = _root(name, title, description, bottom + 8)
    for tick in _ticks(low, high, 4):
        _add(root, "line", "grid", x1="0", x2="100%", y1=down(tick), y2=down(tick))
        _text(root, f"{tick:g}", "0", down(tick) - 4, "tick")
    box = _box(root, bottom)
    for place in (place for place, label in enumerate(labels) if label):
        _path(box, "margin", f"M{across(place):.0f} {top}V{bottom}")
    labelled = []
    for model in series:
        places = [(across(place), point) for place, point in enumerate(model.points) if point]
        _path(box, f"reach {model.look}", "".join(f"M{x:.0f} {down(p[1])}V{down(p[2])}" for x, p in places))
        _path(box, f"line {model.look}", "M" + "L".join(f"{x:.0f} {down(p[0])}" for x, p in places))
        _path(box, f"dots {model.look}", "".join(f"M{x:.0f} {down(p[0])}h0" for x, p in places))
        if model.label and places:
            x, last = places[-1]
            labelled.append((down(last[0]) - 6, x, model.label))
    lowest = float("-inf")
    for y, x, label in sorted(labelled):
        lowest = max(y, lowest + _LINE)  # lines that end side by side have their names below one another
        _text(root, label, f"{x / WIDE * 100 - 1:.1f}%", lowest, "tick end")
    for place, label in enumerate(labels):
        if label:
            _text(root, label, f"{across(place) / WIDE * 100:.1f}%", 14, "tick middle")
    return _serialise(root)


def draw_curves(
    name: str,
    title: str,
    description: str,
    curves: Sequence[Curve],
    axes: tuple[str, str],
    guide: tuple[_Point, _Point] = ((0, 0), (1, 1)),
) -> Markup:
    """Draw lines in a unit square with a guide, by default the diagonal."""
    side, left = 260, 30
    root = _root(name, title, description, side + 44, width=side + left + 12)

    def at(point: _Point) -> str:
        return f"{left + side * point[0]:.1f} {4 + side * (1 - point[1]):.1f}"

    _path(root, "frame", f"M{left} 4V{side + 4}H{left + side}")
    _path(root, "guide", f"M{at(guide[0])}L{at(guide[1])}")
    for curve in curves:
        ends = [(x, max(y - r, 0), min(y + r, 1)) for (x, y), r in zip(curve.points, curve.reach, strict=False)]
        _path(root, f"reach {curve.look}", "".join(f"M{at((x, low))}L{at((x, high))}" for x, low, high in ends))
        _path(root, f"line {curve.look}", "M" + "L".join(at(point) for point in curve.points))
        if curve.reach:
            _path(root, f"dots {curve.look}", "".join(f"M{at(point)}h0" for point in curve.points))
    for tick in (0, 0.5, 1):
        _text(root, f"{tick:g}", str(left + side * tick), side + 20, "tick middle")
        _text(root, f"{tick:g}", "0", 4 + side * (1 - tick) + 4, "tick")
    _text(root, axes[0], str(left + side / 2), side + 38, "tick middle")
    _text(root, axes[1], str(left + 6), 16, "tick")
    return _serialise(root)


def draw_histograms(
    name: str, title: str, description: str, panels: Sequence[tuple[str, Sequence[Curve]]], axis: str
) -> Markup:
    """Draw outlines of histograms, one panel below the other; x and y of the curves range from 0 to 1."""
    height, top = 118, 24
    root = _root(name, title, description, len(panels) * height + 30)
    box = _box(root, len(panels) * height)
    for place, (label, curves) in enumerate(panels):
        begin = place * height + top
        _text(root, label, "0", begin - 8, "label")
        _path(box, "frame", f"M0 {begin + 86}H{WIDE}")
        for curve in curves:
            points = (f"{WIDE * x:.0f} {begin + 86 * (1 - y):.1f}" for x, y in curve.points)
            _path(box, f"line {curve.look}", "M" + "L".join(points))
    for tick in (0, 0.25, 0.5, 0.75, 1):
        anchor = " end" if tick == 1 else " middle" if tick else ""
        _text(root, f"{tick:g}", f"{100 * tick:g}%", len(panels) * height + 8, f"tick{anchor}")
    _text(root, axis, "50%", len(panels) * height + 26, "tick middle")
    return _serialise(root)


def standalone(chart: Markup, width: int = 720) -> str:
    """Return a chart as a standalone file with its title and description above it, in the colours of the light theme.

    Args:
        chart: a chart of this module.
        width: width in pixels of a chart that would otherwise fill its page.
    """
    drawn = ET.fromstring(chart)  # noqa: S314 -- our own chart
    across = width if drawn.get("width") == "100%" else float(drawn.get("width", width))
    title, description = (drawn.findtext(tag) or "" for tag in ("title", "desc"))
    lines = wrap(description, int(across / _LETTER))
    above = _LINE * (len(lines) + 1) + 12
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "width": f"{across:g}"})
    root.set("height", f"{float(drawn.get('height', 0)) + above:g}")
    ET.SubElement(root, "style").text = _STANDALONE
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
    _text(root, title, "0", _LINE, "title")
    for place, line in enumerate(lines, start=2):
        _text(root, line, "0", _LINE * place, "tick")
    drawn.set("y", f"{above:g}")
    root.append(drawn)
    return ET.tostring(root, encoding="unicode")


_STANDALONE = """svg { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #1b1f23; overflow: visible }
text.title { font-weight: 600 } text.end { text-anchor: end } text.middle { text-anchor: middle } .tick { fill: #57606a; font-size: 12px }
text { paint-order: stroke; stroke: #fff; stroke-width: 4px; stroke-linejoin: round }
path, line { fill: none; stroke: #8a9299; vector-effect: non-scaling-stroke }
.zero { stroke: #1b1f23 } .grid, .frame { stroke: #d0d7de } .margin, .guide { stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 4 3 }
.reach { stroke-width: 2 } .line { stroke-width: 2; stroke-linejoin: round } .dots { stroke-width: 8; stroke-linecap: round }
.challenger, .better { stroke: #0072b2 } .champion, .worse { stroke: #c04f00 } .unsure { stroke: #8a9299 }
path.line.champion { stroke-dasharray: 6 4 } path.dots.champion { stroke-width: 6; stroke-linecap: square }
.reach.challenger, .reach.champion { stroke-width: 1; opacity: .75 } text.challenger, text.champion { stroke: none }
circle.better { fill: #0072b2 } circle.worse { fill: #c04f00 } circle.unsure { fill: #8a9299 }"""
"""The rules of the review's style sheet that charts need, with the colours of its light theme."""


def draw_spans(name: str, title: str, description: str, spans: Sequence[Span], ends: tuple[str, str]) -> Markup:
    """Draw periods side by side, each with the mark of the change that began it."""
    root = _root(name, title, description, 78)
    box = _box(root, 78)
    for look in ("even", "odd"):
        alternate = [span for place, span in enumerate(spans) if (place % 2 == 0) == (look == "even") and span.label]
        boxes = (f"M{WIDE * span.begin:.1f} 20H{WIDE * span.end:.1f}V52H{WIDE * span.begin:.1f}z" for span in alternate)
        _path(box, f"span {look}", "".join(boxes))
    for span in spans:
        _text(root, _SHAPES.get(span.mark, _SHAPES["promotion"]), f"{100 * span.begin:.2f}%", 14, f"shape {span.mark}")
        if span.end - span.begin > _ROOM:
            _text(root, span.label, f"{50 * (span.begin + span.end):.2f}%", 41, "inside middle")
    _text(root, ends[0], "0", 71, "tick")
    _text(root, ends[1], "100%", 71, "tick end")
    return _serialise(root)


def draw_heat(
    name: str, title: str, description: str, rows: Sequence[str], cells: Sequence[Sequence[str]], ends: tuple[str, str]
) -> Markup:
    """Draw a grid of cells: a row for each name, a column for each time. Drifted cells have a dot as well as a colour."""
    height = 22 * len(rows)
    root = _root(name, title, description, height + 26)
    for place, row in enumerate(rows):
        _text(root, row, "0", 22 * place + 15, "label")
    filled = max(map(len, cells), default=0)
    columns = max(filled, _FEWEST)
    box = ET.SubElement(
        root,
        "svg",
        {
            "x": "34%",
            "width": "66%",
            "height": str(height),
            "viewBox": f"0 0 {columns} {len(rows) or 1}",
            "preserveAspectRatio": "none",
        },
    )
    places: dict[str, list[_Point]] = {}
    for down, looks in enumerate(cells):
        for across, look in enumerate(looks):
            places.setdefault(look, []).append((across, down))
    for look, points in sorted(places.items()):
        _path(box, f"cell {look}", "".join(f"M{x + 0.04:g} {y + 0.05:g}h.92v.9h-.92z" for x, y in points))
    _path(box, "dots drifted", "".join(f"M{x + 0.5:g} {y + 0.5:g}h0" for x, y in places.get("drifted", ())))
    _text(root, ends[0], "34%", height + 18, "tick")
    if ends[1]:
        _text(root, ends[1], f"{34 + 66 * filled / columns:.1f}%", height + 18, "tick end")
    return _serialise(root)


def draw_bars(
    name: str, title: str, description: str, bars: Sequence[tuple[str, str, float, str]], longest: float | None = None
) -> Markup:
    """Draw bars one below the other.

    Args:
        name: prefix of the ids of the chart.
        title: the title of the chart.
        description: how to read the chart.
        bars: label, words, length and look of each bar.
        longest: the length that fills the width; by default the longest bar.
    """
    longest = longest or max((length for _, _, length, _ in bars), default=0) or 1
    root = _root(name, title, description, 38 * len(bars) or 1)
    for place, (label, words, length, look) in enumerate(bars):
        _text(root, label, "0", 38 * place + 14, "label")
        _text(root, words, "100%", 38 * place + 14, "words end")
        _add(root, "rect", "track", x="0", y=38 * place + 21, width="100%", height=8, rx=4)
        share = max(100 * length / longest, 0.6) if length else 0
        _add(root, "rect", f"bar {look}", x="0", y=38 * place + 21, width=f"{share:.2f}%", height=8, rx=4)
    return _serialise(root)


_SHAPES = {"promotion": "▲", "forced": "⚑", "rollback": "◀", "take_back": "✕", "adopted": "◇"}
_FEWEST = 12
"""A heat map with fewer columns leaves room for this many."""
_ROOM = 0.08
"""The smallest share of the whole width in which the label of a period fits."""


def shape_of(kind: str) -> str:
    """Return the mark of a kind of production change; charts and lists use the same marks."""
    return _SHAPES.get(kind, "•")


def _root(name: str, title: str, description: str, height: float, width: float | None = None) -> ET.Element:
    root = ET.Element(
        "svg",
        {
            "class": "chart",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
            "width": "100%" if width is None else f"{width:g}",
            "height": f"{height:g}",
        },
    )
    if width is not None:
        root.set("viewBox", f"0 0 {width:g} {height:g}")
    for tag, text in (("title", title), ("desc", description)):
        ET.SubElement(root, tag, {"id": f"{name}-{tag}"}).text = clean(text)
    return root


def _box(root: ET.Element, height: float) -> ET.Element:
    """Add a box for lines and areas, stretched from `WIDE` units to the width of the chart."""
    attributes = {"width": "100%", "height": f"{height:g}", "viewBox": f"0 0 {WIDE} {height:g}"}
    return ET.SubElement(root, "svg", {**attributes, "preserveAspectRatio": "none"})


def _add(parent: ET.Element, tag: str, look: str, **attributes: float | str) -> None:
    ET.SubElement(parent, tag, {"class": look, **{name: str(value) for name, value in attributes.items()}})


def _path(parent: ET.Element, look: str, commands: str) -> None:
    if len(commands) > 1:
        ET.SubElement(parent, "path", {"class": look, "d": commands})


def _text(parent: ET.Element, text: str, x: str, y: float, look: str) -> None:
    ET.SubElement(parent, "text", {"class": look, "x": x, "y": f"{y:g}"}).text = clean(text)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or abs(high) * 0.05 or 0.01
    return low - room, high + room


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Choose at most `most` round numbers between two bounds."""
    rough = (high - low) / most
    unit = 10.0 ** floor(log10(rough))
    step = next(unit * factor for factor in _ROUND_STEPS if unit * factor >= rough)
    first = floor(low / step) + 1
    return [round(step * place, 12) for place in range(first, floor(high / step) + 1)]


def _serialise(root: ET.Element) -> Markup:
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 -- the serialiser has escaped the texts
