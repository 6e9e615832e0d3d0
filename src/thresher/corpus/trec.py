"""Records of TREC text: `<DOC>` elements in SGML with a `<DOCNO>`, a title and running text.

The text is what stands in `<TEXT>`; where a document has none, everything but docno and title. The title is the first
of `<TITLE>`, `<HEADLINE>` and `<HEAD>`. Tags inside are taken out, character references are resolved.
"""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

from thresher.corpus.rows import Problem, Row
from thresher.corpus.text_formats import utf8_problem
from thresher.files import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DOC = re.compile(rb"\s*<DOC(?:\s[^>]*)?>", re.IGNORECASE)
_END = re.compile(rb"\s*</DOC>", re.IGNORECASE)
_DOCNO = re.compile(r"<DOCNO>(.*?)</DOCNO>", re.IGNORECASE | re.DOTALL)
_TEXT = re.compile(r"<TEXT(?:\s[^>]*)?>(.*?)</TEXT>", re.IGNORECASE | re.DOTALL)
_TITLES = tuple(
    re.compile(rf"<{tag}(?:\s[^>]*)?>(.*?)</{tag}>", re.IGNORECASE | re.DOTALL) for tag in ("TITLE", "HEADLINE", "HEAD")
)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")


def read_trec(path: Path) -> Iterator[Row | Problem]:
    """The `<DOC>` elements of `path`; each begins on a line of its own and ends on one."""
    source = str(path)
    lines: list[bytes] = []
    first = 0
    for number, line in read_lines(path):
        if _DOC.match(line):
            if first:
                yield Problem(source, first, "malformed", "a <DOC> that no </DOC> closes before the next one")
            lines, first = [line], number
        elif first:
            lines.append(line)
        elif line.strip():
            yield Problem(source, number, "malformed", f"text outside <DOC>: {line[:60]!r}")
        if first and _END.match(line[line.rfind(b"<") :] if b"</" in line else line):
            yield _document(source, first, lines)
            first = 0
    if first:
        yield Problem(source, first, "malformed", "a <DOC> that the file ends without closing")


def _document(source: str, first: int, lines: list[bytes]) -> Row | Problem:
    decoded = []
    for number, line in enumerate(lines, first):
        try:
            decoded.append(line.decode())
        except UnicodeDecodeError as err:
            return utf8_problem(source, number, err)
    document = "\n".join(decoded)
    docno = _DOCNO.search(document)
    if docno is None:
        return Problem(source, first, "missing-field", "the document has no <DOCNO>")
    title = next((found for tag in _TITLES if (found := tag.search(document))), None)
    texts = _TEXT.findall(document)
    if not texts:
        rest = document.replace(docno[0], " ")
        texts = [rest.replace(title[0], " ") if title else rest]
    fields = {
        "docno": docno[1].strip(),
        "title": " ".join(_plain(title[1]).split()) if title else "",
        "text": "\n".join(_plain(text) for text in texts).strip(),
    }
    return Row(source, first, fields)


def _plain(markup: str) -> str:
    return unescape(_TAG.sub(" ", markup))
