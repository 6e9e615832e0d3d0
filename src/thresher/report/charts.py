"""Drawings in SVG: effectiveness against cost, differences by topic, a histogram. Texts in them can be selected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thresher.evaluate.front import front
from thresher.report.markup import Markup, joined, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.evaluate.front import Point

_WIDTH, _HEIGHT = 640, 360
_LEFT, _BOTTOM, _TOP, _RIGHT = 96, 66, 18, 24
_DECADES = 30.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""


def cost_chart(points: Sequence[Point], *, cost: str, effect: str) -> Markup:
    """Points by number, those that no other beats in both joined by a line; a table beside it says which is which."""
    costs, effects = [p.cost for p in points], [p.effect for p in points]
    logarithmic = min(costs) > 0 and max(costs) / min(costs) > _DECADES
    across = _Axis(costs, _LEFT, _WIDTH - _RIGHT, logarithmic=logarithmic)
    up = _Axis(effects, _HEIGHT - _BOTTOM, _TOP)
    best = front(points)
    line = " ".join(f"{across.at(p.cost):.1f},{up.at(p.effect):.1f}" for p in best)
    marks = [
        joined(
            (
                tag("circle", cx=f"{across.at(p.cost):.1f}", cy=f"{up.at(p.effect):.1f}", r=5, class_="point"),
                tag("text", number, x=f"{across.at(p.cost) + 8:.1f}", y=f"{up.at(p.effect) - 8:.1f}"),
            )
        )
        for number, p in enumerate(points, 1)
    ]
    middle = (_HEIGHT - _BOTTOM) / 2
    return tag(
        "svg",
        tag("title", f"{effect} against {cost}"),
        *(_tick_across(across, value) for value in across.ticks()),
        *(_tick_up(up, value) for value in up.ticks()),
        tag("polyline", points=line, class_="front"),
        *marks,
        tag("text", cost, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 8, text_anchor="middle"),
        tag("text", effect, x=18, y=middle, text_anchor="middle", transform=f"rotate(-90 18 {middle})"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        class_="chart",
        role="img",
        aria_label=f"{effect} against {cost}; the table has the values",
    )


def bars(values: Sequence[float], label: str) -> Markup:
    """One bar a value, upwards where it is above 0; `values` are sorted."""
    top = max((abs(one) for one in values), default=0.0) or 1.0
    drawn = []
    for at, value in enumerate(values):
        height = 50 * abs(value) / top
        kind = "gain" if value > 0 else "loss"
        if value:
            y = 50 - height if value > 0 else 50
            drawn.append(tag("rect", x=f"{at + 0.1:.1f}", y=f"{y:.2f}", width=0.8, height=f"{height:.2f}", class_=kind))
    return tag(
        "svg",
        tag("title", label),
        *drawn,
        tag("line", x1=0, y1=50, x2=max(len(values), 1), y2=50, class_="axis", vector_effect="non-scaling-stroke"),
        viewBox=f"0 0 {max(len(values), 1)} 100",
        preserveAspectRatio="none",
        class_="bars",
        role="img",
        aria_label=label,
    )


def histogram(counts: Sequence[int], label: str) -> Markup:
    """One bar a bin, in order."""
    top = max(counts, default=0) or 1
    drawn = [
        tag(
            "rect",
            x=at + 0.05,
            y=f"{100 - 100 * one / top:.2f}",
            width=0.9,
            height=f"{100 * one / top:.2f}",
            class_="gain",
        )
        for at, one in enumerate(counts)
    ]
    return tag(
        "svg", tag("title", label), *drawn, viewBox=f"0 0 {max(len(counts), 1)} 100", preserveAspectRatio="none",
        class_="bars", role="img", aria_label=label,
    )  # fmt: skip


class _Axis:
    """Values to positions, with a little room at both ends."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, logarithmic: bool = False) -> None:
        self.logarithmic, self.start, self.end = logarithmic, start, end
        scaled = [self._scaled(one) for one in values]
        low, high = min(scaled), max(scaled)
        room = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
        self.low, self.high = low - room, high + room

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        return self.start + (self._scaled(value) - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values on the axis."""
        if self.logarithmic:
            decades = range(math.ceil(self.low), math.floor(self.high) + 1)
            return [10.0**one for one in decades]
        step = 10.0 ** math.floor(math.log10(self.high - self.low))
        while (self.high - self.low) / step < 3:
            step /= 2
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        every = max(1, math.ceil((last - first + 1) / 6))
        return [one * step for one in range(first, last + 1, every)]


def _tick_across(axis: _Axis, value: float) -> Markup:
    x = f"{axis.at(value):.1f}"
    line = tag("line", x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="grid")
    return joined((line, tag("text", f"{value:g}", x=x, y=_HEIGHT - _BOTTOM + 22, text_anchor="middle")))


def _tick_up(axis: _Axis, value: float) -> Markup:
    y = f"{axis.at(value):.1f}"
    line = tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
    return joined((line, tag("text", f"{value:.4g}", x=_LEFT - 8, y=f"{axis.at(value) + 5:.1f}", text_anchor="end")))
