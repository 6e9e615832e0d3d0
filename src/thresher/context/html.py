"""What was kept, for eyes: bright and dim in a terminal, and a page of HTML.

Text from passages is data: the terminal view drops control characters and interprets no markup, the HTML escapes
everything and holds no script.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from thresher.checks import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.text import Text

    from thresher.context.pruned import PrunedPassage

_STYLE = (
    "body{font:16px/1.55 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#1a1a1a;background:#fff}"
    "article{margin:1.2rem 0;padding:.8rem 1rem;border-left:3px solid #b8860b;background:#faf8f3}"
    "header{font-size:.85rem;color:#666}p{margin:.5rem 0 0;white-space:pre-wrap;overflow-wrap:anywhere}"
    "mark{background:#ffeeba;color:inherit}del{color:#9a9a9a;text-decoration:none}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}article{background:#1f1d18}"
    "mark{background:#5a4a12}del{color:#777}header{color:#999}}"
)


def _pieces(passage: PrunedPassage) -> Iterator[tuple[str, float | None]]:
    """(text, score of the sentence kept or dropped there; None between sentences), covering the original in order."""
    here = 0
    for span, score in zip(passage.sentences, passage.scores, strict=True):
        yield passage.original[here : span.start], None
        yield passage.original[span.start : span.end], score
        here = span.end
    yield passage.original[here:], None


def terminal_text(passage: PrunedPassage) -> Text:
    """The passage with kept sentences bright and dropped ones dim, under a line with what was saved."""
    from rich.text import Text

    out = Text()
    head = (
        f"{passage.docno}  relevance {passage.relevance:.2f}  kept {sum(passage.keep)} of {len(passage.keep)} sentences"
    )
    out.append(printable(f"{head}, saved {passage.saved_characters:.0%}\n"), style="cyan")
    if passage.title:
        out.append(printable(passage.title) + "\n", style="bold")
    kept = iter(passage.keep)
    for text, score in _pieces(passage):
        bright = score is not None and next(kept)
        out.append(printable(text), style="bold" if bright else "dim")
    return out


def html_page(query: str, passages: Sequence[PrunedPassage]) -> str:
    """One page: the query, and each passage with kept sentences marked and the score of each on hover."""
    parts = [
        f'<!doctype html><html><head><meta charset="utf-8"><title>{_safe(query)}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
        f"<h1>{_safe(query)}</h1>",
    ]
    for passage in passages:
        kept = iter(passage.keep)
        parts.append(
            f"<article><header>{_safe(passage.docno)} · relevance {passage.relevance:.2f} · saved "
            f"{passage.saved_characters:.0%} of characters</header>"
        )
        if passage.title:
            parts.append(f"<strong>{_safe(passage.title)}</strong>")
        parts.append('<p dir="auto">')
        for text, score in _pieces(passage):
            if score is None:
                parts.append(_safe(text))
            else:
                tag = "mark" if next(kept) else "del"
                parts.append(f'<{tag} title="score {score:.3f}">{_safe(text)}</{tag}>')
        parts.append("</p></article>")
    parts.append("</body></html>\n")
    return "".join(parts)


def _safe(text: str) -> str:
    return html.escape(text.replace("\x00", "\ufffd"), quote=True)
