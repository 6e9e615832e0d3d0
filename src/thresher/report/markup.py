"""HTML and SVG, escaped wherever they are made of data."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from thresher.checks import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_VOID = frozenset(("meta", "br", "rect", "circle", "line", "path"))


class Markup(str):
    """Text that is HTML already; every other string is escaped."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. Attributes that are None or False are left out; `class_` and `data_x` lose their underscores."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>" if name in ("meta", "br") else f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(children: Iterable[object]) -> Markup:
    """The children one after the other."""
    return Markup("".join(text(one) for one in children if one is not None))


def text(value: object) -> str:
    """`value` escaped for element content and quoted attributes, without controls that could reorder the page."""
    return value if isinstance(value, Markup) else escape(printable(str(value)))


def data(value: str) -> Markup:
    """A text of any direction that does not reach beyond itself."""
    return tag("bdi", value)


def table(
    columns: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str, words: Sequence[int] = (0,)
) -> Markup:
    """A table that scrolls where the page is narrow.

    Args:
        columns: heads.
        rows: cells; floats have four decimals, None is empty.
        caption: says what it is.
        words: numbers of the columns that are aligned to the start; the first is the head of its row.
    """

    def cell(at: int, value: object) -> Markup:
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if type(value) is int else value
        kind = None if at in words else "number"
        if at == 0:
            return tag("th", "" if shown is None else shown, scope="row", class_=kind)
        return tag("td", "" if shown is None else shown, class_=kind)

    head = tag(
        "tr", *(tag("th", one, scope="col", class_=None if at in words else "number") for at, one in enumerate(columns))
    )
    body = [tag("tr", *(cell(at, value) for at, value in enumerate(row))) for row in rows]
    made = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption)


def folded(summary: str, *children: object) -> Markup:
    """Content that is shown on a click, and in print."""
    return tag("details", tag("summary", summary), *children)


def section(heading: str, *children: object) -> Markup:
    """A part of the page."""
    return tag("section", tag("h2", heading), *children)
