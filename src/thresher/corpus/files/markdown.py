"""Markdown to blocks, by markdown-it-py: CommonMark and tables, each block with its lines.

What is left out: front matter, tables of contents, badges, comments, and directives that only place other pages.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from thresher.corpus.files.blocks import Block, Document, Lines, slug
from thresher.corpus.files.front_matter import front_matter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markdown_it import MarkdownIt
    from markdown_it.token import Token

    from thresher.records import Span

_TAGS = re.compile(r"<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)", re.DOTALL)
"""Comments and tags, also without an end: were these no match, it would be looked for again from each."""
_MARKER = re.compile(r"\[\[?_?TOC_?\]?\]|\{:[^}]*\}|\{%.*%\}", re.IGNORECASE | re.DOTALL)
_LEFT_OUT = re.compile(r"\{(?:toctree|contents|eval-rst|tableofcontents|image|figure)\}")
"""MyST directives that hold no text of their own."""
_IMPORTS = re.compile(r"(?:import|export)\s.*(?:from\s|[{=])", re.DOTALL)
_ID = re.compile(r"\{#([\w.:-]+)[^}]*\}\s*$")
"""The anchor that a heading states, as Pandoc, MkDocs and Hugo read it."""
_PARAGRAPHS = frozenset({"paragraph_open", "blockquote_open"})


def read_markdown(text: str) -> Document:
    """The blocks of Markdown."""
    fields, start = front_matter(text)
    document = Document(text, fields=fields, title=str(fields.pop("title", "") or ""))
    lines = Lines(text)
    first = lines.starts.index(start) if start in lines.starts else 0
    body = text[start:]
    tokens = _parser().parse(body)
    seen: dict[str, int] = {}
    for number, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0:
            continue
        span = lines.span(first + token.map[0], first + token.map[1])
        if span.start == span.end:
            continue
        if token.type == "heading_open":
            heading = _words(tokens[number + 1])
            stated = _ID.search(tokens[number + 1].content)
            name = stated[1] if stated else slug(heading)
            seen[name] = seen.get(name, -1) + 1
            anchor = name if not seen[name] else f"{name}-{seen[name]}"
            document.blocks.append(
                Block(span.start, span.end, "heading", int(token.tag[1]), heading=heading, anchor=anchor)
            )
        else:
            _take(document, tokens, number, span, lines, first)
    return document


def _take(document: Document, tokens: list[Token], number: int, span: Span, lines: Lines, first: int) -> None:
    """Add the block that begins with a token of the outermost level."""
    token = tokens[number]
    text = document.text[span.start : span.end]
    inside = tokens[number : _closing(tokens, number) + 1]
    if token.type == "hr" or (token.type == "fence" and _LEFT_OUT.match(token.info.strip())):
        document.leave_out(span.start, span.end)
    elif token.type in ("fence", "code_block"):
        document.blocks.append(Block(span.start, span.end, "code"))
    elif token.type == "html_block":
        if _TAGS.sub("", text).strip():
            document.blocks.append(Block(span.start, span.end, "prose"))
        else:
            document.leave_out(span.start, span.end)
    elif token.type in ("bullet_list_open", "ordered_list_open"):
        if _is_contents(inside):
            document.blocks.append(Block(span.start, span.end, "gap"))
            return
        parts = tuple(_parts(inside, "list_item_open", token.level + 1, lines, first))
        document.blocks.append(Block(span.start, span.end, "list", parts=parts))
    elif token.type == "table_open":
        parts = tuple(_rows(inside, lines, first))
        document.blocks.append(Block(span.start, span.end, "table", parts=parts))
    elif token.type in _PARAGRAPHS:
        if _MARKER.fullmatch(text) or _IMPORTS.match(text) or not _has_words(inside):
            document.leave_out(span.start, span.end)
        else:
            document.blocks.append(Block(span.start, span.end, "prose"))


def _closing(tokens: list[Token], number: int) -> int:
    """The token that closes the one at `number`; itself where it opens nothing."""
    opened = tokens[number]
    if opened.nesting != 1:
        return number
    return next(
        at for at in range(number + 1, len(tokens)) if tokens[at].nesting == -1 and tokens[at].level == opened.level
    )


def _parts(tokens: Iterable[Token], kind: str, level: int, lines: Lines, first: int) -> Iterable[Span]:
    for token in tokens:
        if token.type == kind and token.level == level and token.map is not None:
            span = lines.span(first + token.map[0], first + token.map[1])
            if span.start < span.end:
                yield span


def _rows(tokens: list[Token], lines: Lines, first: int) -> Iterable[Span]:
    """The head of a table with its ruler, then its rows."""
    table = tokens[0].map or [0, 0]
    starts = [token.map[0] for token in tokens if token.type == "tr_open" and token.map is not None]
    cuts = [table[0], *starts[1:], table[1]]
    for here, after in pairwise(cuts):
        span = lines.span(first + here, first + after)
        if span.start < span.end:
            yield span


def _inline(tokens: Iterable[Token]) -> Iterable[Token]:
    for token in tokens:
        yield from token.children or ()


def _words(token: Token) -> str:
    """The words of a heading without markup."""
    made = "".join(
        " " if one.type in ("softbreak", "hardbreak") else one.content
        for one in token.children or ()
        if one.type in ("text", "code_inline", "softbreak", "hardbreak", "text_special")
    )
    return re.sub(r"\s*\{#[^}]*\}\s*$", "", made).strip()


def _has_words(tokens: list[Token]) -> bool:
    """Whether there is text or code apart from images (badges, screenshots)."""
    if any(token.type in ("fence", "code_block", "html_block", "table_open") for token in tokens):
        return True
    return any(one.type in ("text", "code_inline", "text_special") and one.content.strip() for one in _inline(tokens))


def _is_contents(tokens: list[Token]) -> bool:
    """Whether a list is a table of contents: every line of it a link into this page."""
    links = inside = 0
    for one in _inline(tokens):
        if one.type == "link_open":
            if not str(one.attrs.get("href", "")).startswith("#"):
                return False
            inside += 1
            links += 1
        elif one.type == "link_close":
            inside -= 1
        elif not inside and one.type in ("text", "code_inline") and one.content.strip(" .:-–—\t"):
            return False
    return links >= 3


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")
