"""The page around the sections: style, policy, heading."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from thresher._version import __version__
from thresher.report.markup import Markup, data, tag

if TYPE_CHECKING:
    from collections.abc import Sequence


@cache
def _style() -> str:
    return files("thresher.report").joinpath("style.css").read_text(encoding="utf-8")


def page(title: str, lead: str, sections: Sequence[Markup]) -> str:
    """The whole document, which loads nothing: only its own style is allowed, by its checksum.

    Args:
        title: heading and title.
        lead: one sentence below it.
        sections: in order.
    """
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = tag(
        "body",
        tag(
            "header", tag("p", "thresher report", class_="brand"), tag("h1", data(title)), tag("p", lead, class_="lead")
        ),
        tag("main", *sections),
        tag("footer", tag("p", f"Made by thresher {__version__}, {made}.")),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
