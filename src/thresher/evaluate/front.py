"""Configurations measured in cost and effect: those worth having, and a chart of them.

`front` gives, of configurations measured in cost and effect, those that no other dominates: another dominates a point
if it costs no more and is no less effective, and is better in one of the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import InputError, require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thresher.evaluate.results import Chart


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration, measured.

    Attributes:
        name: what was measured.
        cost: less is better: milliseconds, calls, tokens, bytes, share of passages kept.
        effect: more is better: the mean of a measure.
        series: which curve it belongs to, where several are compared.
        details: anything else worth keeping in a result row.
    """

    name: str
    cost: float
    effect: float
    series: str = ""
    details: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost) and math.isfinite(self.effect)):
            raise InputError(f"point {self.name!r} has cost {self.cost} and effect {self.effect}; both must be finite")


@checked_call
def front(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points that no other point dominates, cheapest first; of equal points the first given."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.effect)):
        if not kept or point.effect > kept[-1].effect:
            kept.append(point)
    return tuple(kept)


@checked_call
def cheapest(points: Iterable[Point], *, at_least: float) -> Point | None:
    """The cheapest point whose effect is `at_least` or more, the better of two at one price; None where none is."""
    enough = [point for point in points if point.effect >= at_least]
    return min(enough, key=lambda point: (point.cost, -point.effect), default=None)


@checked_call
def plot(points: Sequence[Point], *, cost: str, effect: str, log_cost: bool = False, title: str = "") -> Chart:
    """An altair chart of the points, one colour a series, with the front as a line.

    Args:
        points: what to draw.
        cost: label of the cost axis, with its unit.
        effect: label of the effect axis.
        log_cost: draw cost on a logarithmic axis.
        title: heading.

    Raises:
        MissingExtraError: altair is not installed.
    """
    alt = require("altair", extra="eval", purpose="plotting a curve")
    best = set(map(id, front(points)))
    values = [
        {"name": p.name, "cost": p.cost, "effect": p.effect, "series": p.series, "front": id(p) in best} for p in points
    ]
    x = alt.X("cost:Q", title=cost, scale=alt.Scale(type="log" if log_cost else "linear", zero=False))
    y = alt.Y("effect:Q", title=effect, scale=alt.Scale(zero=False))
    base = alt.Chart(alt.Data(values=values), title=title).encode(x=x, y=y)
    line = base.transform_filter("datum.front").mark_line(color="grey", strokeDash=[4, 3])
    colour = {"color": alt.Color("series:N", title=None)} if any(p.series for p in points) else {}
    marks = base.mark_point(filled=True, size=60).encode(tooltip=["name:N", "cost:Q", "effect:Q"], **colour)
    labels = base.mark_text(align="left", dx=6, dy=-6, fontSize=9).encode(text="name:N")
    made: Chart = (line + marks + labels).properties(width=480, height=320)
    return made
