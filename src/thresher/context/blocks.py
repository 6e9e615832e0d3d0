"""The blocks of a text: headings, items of lists, code, tables, definitions, directives, paragraphs, lines of marks.

A block is a run of sentences on lines that belong to each other, with its kind, its indentation and, for a heading, its
level. `thresher.context.structure` finds what ties them to each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import regex

from thresher.text.sentences import (
    has_columns,
    is_code,
    is_entry,
    is_item,
    is_row,
    is_shouted,
    is_underline,
    looks_like_code,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.records import Span

PLAIN = 9
"""The level of a heading that nothing marks: a short line alone."""

CLOSED = regex.compile(r"[.!?…:;,。！？।۔؟][\"'”’)\]*_`]*$")
"""The end of a sentence that has a stop."""
QUESTION = regex.compile(r"[?？؟][\"'”’)\]*_`]*$")
"""The end of a question."""
_ATX = regex.compile(r"(#{1,6}|={1,6})\s")
_DIRECTIVE = regex.compile(r"\.\. [\w:.-]+::")
_TERM = regex.compile(r"[^\n]*\S\n([^\S\n]+)\S")
_PROMPT = regex.compile(r"(?:[$%>#]|>>>|C:\\>)\s+\S")
_WIDE = regex.compile(r"\S[^\S\n]{3,}\S")

Kind = Literal["heading", "item", "code", "table", "term", "directive", "prose", "rule"]


@dataclass(slots=True)
class Block:
    """Sentences without a border between them, `first` to `last`.

    Attributes:
        kind: what it is.
        indent: of its least indented line, in columns.
        level: of a heading, 1 is the highest.
    """

    kind: Kind
    first: int
    last: int
    indent: int
    level: int = 0


def find_blocks(text: str, sentences: Sequence[Span]) -> list[Block]:
    """The blocks of a text, in order."""
    out: list[Block] = []
    levels: dict[str, int] = {}
    line = end = 0
    least = 1 << 30  # the least indentation since the last heading
    for number, span in enumerate(sentences):
        gap = text[end : span.start]
        breaks = gap.count("\n")
        if breaks:
            line = end + gap.rfind("\n") + 1
        elif number:
            inner = text.rfind("\n", sentences[number - 1].start, end)
            line = inner + 1 if inner >= 0 else line
        body = text[span.start : span.end]
        at_line = number == 0 or breaks > 0
        indent = len(text[line : span.start].expandtabs(8)) if at_line else 0
        end = span.end
        after = text[end : sentences[number + 1].start] if number + 1 < len(sentences) else "\n\n"
        if at_line:
            alone = (number == 0 or breaks > 1) and after.count("\n") > 1
            before = out[-1] if out and breaks == 1 else None
            kind, level = _kind(body, alone and indent <= least, levels, indent)
            if kind == "prose" and before is not None and before.kind == "table" and has_columns(body):
                kind = "table"
            if kind == "prose" and _heads(body, indent, text, sentences, number):
                kind, level = "heading", PLAIN - 1
            least = indent + 1 if kind == "heading" else min(least, indent)
            block = Block(kind, number, number, min(indent, _inner_indent(body, indent)), level)
            if before is None or not _continues(before, block, indent):
                out.append(block)
                continue
        out[-1].last = number
    return out


def _heads(body: str, indent: int, text: str, sentences: Sequence[Span], number: int) -> bool:
    """Whether a line in capitals stands over lines that are indented, as in manual pages."""
    if "\n" in body or number + 1 == len(sentences) or not is_shouted(body):
        return False
    gap = text[sentences[number].end : sentences[number + 1].start]
    return "\n" in gap and len(gap.rpartition("\n")[2].expandtabs(8)) > indent


def _continues(before: Block, block: Block, indent: int) -> bool:
    """Whether a block on the line after another is more of it: rows, lines of a paragraph, lines of an item."""
    if block.kind == "table":
        return before.kind == "table"
    if block.kind != "prose":
        return False
    if before.kind in ("item", "term"):
        return indent > before.indent
    return before.kind == "prose" and indent <= before.indent + 1


def _inner_indent(body: str, indent: int) -> int:
    """The least indentation of the lines after the first; large where there are none."""
    lines = body.split("\n", 8)[1:8]
    return min((len(x) - len(x.lstrip()) for x in (y.expandtabs(8) for y in lines) if x.strip()), default=indent)


def _kind(body: str, alone: bool, levels: dict[str, int], indent: int) -> tuple[Kind, int]:
    """What a block that begins with the sentence `body` is, and the level of a heading."""
    first, _, rest = body.partition("\n")
    if not any(map(str.isalnum, body)) and not (rest and is_code(body)):
        return "rule", 0
    if is_underline(first) and rest.rstrip().endswith(first.strip()):
        return "heading", levels.setdefault(2 * first.strip()[0], len(levels) + 1)
    if found := _ATX.match(body):
        return "heading", len(found[1])
    if rest and "\n" not in rest.rstrip() and is_underline(rest) and not is_item(body):
        return "heading", levels.setdefault(rest.strip()[0], len(levels) + 1)
    kinds: dict[Kind, bool] = {
        "directive": _DIRECTIVE.match(body) is not None,
        "code": is_code(body) or _PROMPT.match(body) is not None,
        "table": is_row(first) or _WIDE.search(first) is not None,
        "item": is_item(body),
        "term": (_TERM.match(body) is not None and len(first) <= 80 and not CLOSED.search(first))
        or ((indent > 0 or body.startswith(":")) and is_entry(body)),
    }
    kinds |= {} if any(kinds.values()) else {"code": looks_like_code(body)}
    kind = next((kind for kind, fits in kinds.items() if fits), None)
    if kind is None and alone and not rest and _is_plain_heading(first):
        return "heading", PLAIN
    return kind or "prose", 0


def _is_plain_heading(line: str) -> bool:
    """Whether a line that stands alone is a heading: short, without a stop, and not the rest of a sentence."""
    words = len(line.split())
    if len(line) > 80 or words > 12 or not any(map(str.isalpha, line)):
        return False
    unclosed = CLOSED.search(line) is None or QUESTION.search(line) is not None
    return unclosed and (words <= 4 or not line[0].islower())
