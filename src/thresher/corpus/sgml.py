"""TREC text, a corpus format: documents in SGML, of which a grammar says what is markup.

A file is `<DOC>` elements, any number on a line. A document has one `<DOCNO>`, a title (the first of
`<TITLE>`, `<HEADLINE>`, `<HEAD>`, `<HL>`, `<TTL>`) and running text: what `<TEXT>`, `<LP>` and `<LEADPARA>` hold, or
without a `<TEXT>` everything but docno and title. The other elements of a document with a `<TEXT>` become metadata.
Within text, only this is markup, and removed: comments, declarations, and tags (a name, then attributes with values)
that are closed in the same document, that HTML leaves open (`<P>`, `<BR>`), or that have attributes and an HTML name or
one in capitals (`<F P=102>`). Everything else stays: `x<y and a>b`, `<bob@x.org>`, `List<String>`. Character references
are resolved.
"""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

from thresher.corpus.formats import utf8_problem
from thresher.corpus.stream import Problem, Row
from thresher.errors import InputError
from thresher.files import line_limit, read_lines, too_long

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_BORDER = re.compile(rb"<(/?)DOC(?:\s[^<>]*)?>", re.IGNORECASE)
_FIRST = re.compile(rb"\s*(?:<DOCNO\b|$)", re.IGNORECASE)
_OUTSIDE = re.compile(
    rb"(?:\s|<!--[^<>]*-->|<[!?][^<>]*>|</?(?!DOC[>\s])[A-Za-z][\w.-]*(?:\s[^<>]*)?>)*+", re.IGNORECASE
)
_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>[A-Za-z][\w:.-]*+)"
    r"(?P<attributes>(?:\s++[A-Za-z_:][\w:.-]*+(?:\s*+=\s*+(?:\"[^\"<>]*+\"|'[^'<>]*+'|[^\s\"'<>]++))?)*+)\s*+/?>"
)
_VALUED = re.compile(r"[A-Za-z_:][\w:.-]*+\s*+=\s*+(?:\"[^\"<>]*+\"|'[^'<>]*+'|[^\s\"'<>]++)")
_SWITCHES = frozenset("checked compact defer disabled ismap multiple noshade nowrap readonly selected".split())
_DECLARATION = re.compile(r"<![A-Za-z][^<>]*+>|<\?[A-Za-z][^<>]*+>|<!\[CDATA\[|\]\]>")
_TITLES = ("title", "headline", "head", "hl", "ttl")
_TEXTS = ("text", "lp", "leadpara")
_LEFT_OPEN = frozenset(
    "html head body p br hr img li dt dd tr td th thead tbody tfoot colgroup col option input meta link "
    "base area param frame wbr embed source track".split()
)
"""Elements whose tags may come without their counterparts."""
_HTML = _LEFT_OPEN | frozenset(
    "a abbr acronym address applet b big blockquote button caption center cite code dd del dfn dir div dl em fieldset "
    "font form frameset h1 h2 h3 h4 h5 h6 i iframe ins kbd label legend map menu nobr noframes noscript object ol "
    "optgroup pre q s samp script select small span strike strong style sub sup table textarea title tt u ul var "
    "article aside audio canvas figure figcaption footer header main mark nav section svg time video".split()
)


def read_trec(path: Path) -> Iterator[Row | Problem]:
    """The `<DOC>` elements of `path`, wherever on a line they begin and end."""
    source = str(path)
    parts: list[bytes] = []  # of the open document: its piece of each line
    first = size = 0
    for number, line in read_lines(path):
        at = 0
        for border in _BORDER.finditer(line):
            before = line[at : border.start()]
            if border[1] and first:
                parts.append(before)
                yield _document(source, first, parts)
                first = 0
            elif first and before.strip() and not _FIRST.match(line, border.end()):
                continue  # the text mentions the tag
            else:
                if first:
                    yield Problem(source, first, "malformed", "a <DOC> that no </DOC> closes before the next one")
                elif border[1] or not _OUTSIDE.fullmatch(before):
                    yield Problem(source, number, "malformed", f"text outside <DOC>: {line[at:][:60]!r}")
                parts, first, size = [], 0 if border[1] else number, 0
            at = border.end()
        rest = line[at:]
        if first:
            parts.append(rest)
            size += len(rest)
            if size > line_limit():
                raise InputError(too_long("the document"), source, first)
        elif not _OUTSIDE.fullmatch(rest):
            yield Problem(source, number, "malformed", f"text outside <DOC>: {rest[:60]!r}")
    if first:
        yield Problem(source, first, "malformed", "a <DOC> that the file ends without closing")


def _document(source: str, first: int, parts: list[bytes]) -> Row | Problem:
    decoded = []
    for number, line in enumerate(parts, first):
        try:
            decoded.append(line.decode())
        except UnicodeDecodeError as err:
            return utf8_problem(source, number, err)
    document = "\n".join(decoded)
    tags = [(tag, tag["name"].lower()) for tag in _TAG.finditer(document)]
    docnos = _elements(document, tags, "docno")
    if not docnos:
        return Problem(source, first, "missing-field", "the document has no <DOCNO>")
    if len(docnos) > 1:
        names = " and ".join(repr(document[one.start : one.end].strip()) for one in docnos[:2])
        return Problem(source, first, "malformed", f"the document has more than one <DOCNO>: {names}; is one unclosed?")
    title = next((found[0] for name in _TITLES if (found := _elements(document, tags, name))), None)
    texts = _elements(document, tags, *_TEXTS) if any(name == "text" for _, name in tags) else []
    rest = _outside(document, [docnos[0], *([title] if title else []), *texts])
    fields: dict[str, str] = {}
    if texts:
        others = _elements(rest, [(tag, tag["name"].lower()) for tag in _TAG.finditer(rest)])
        for one in others:
            name = f"other_{one.name}" if one.name in ("docno", "title", "text") else one.name
            value = " ".join(_plain(rest[one.start : one.end]).split())
            fields[name] = f"{fields[name]} {value}" if name in fields else value
        rest = _outside(rest, others)
    written = [_plain(document[one.start : one.end]) for one in texts] + [_plain(rest)]
    fields["docno"] = document[docnos[0].start : docnos[0].end].strip()
    fields["title"] = " ".join(_plain(document[title.start : title.end]).split()) if title else ""
    fields["text"] = "\n".join(text for text in written if text.strip()).strip()
    return Row(source, first, fields)


class _Element(NamedTuple):
    """An element: its name in lower case, where its content starts and ends, and where its tags do."""

    name: str
    start: int
    end: int
    opened: int
    closed: int


def _elements(document: str, tags: list[tuple[re.Match[str], str]], *names: str) -> list[_Element]:
    """The elements with one of these names, or of any name, that are in no other such element.

    A `<TEXT>` that nothing closes runs to the end of the document; any other open tag begins none.
    """
    last = {name: tag.start() for tag, name in tags if tag["end"]}
    if "text" in names:
        last.setdefault("text", len(document))
    found: list[_Element] = []
    opened: tuple[re.Match[str], str] | None = None
    for tag, name in tags:
        if opened is None:
            if not tag["end"] and last.get(name, -1) > tag.start() and (name in names or not names):
                opened = tag, name
        elif tag["end"] and name == opened[1]:
            found.append(_Element(name, opened[0].end(), tag.start(), opened[0].start(), tag.end()))
            opened = None
    if opened is not None:
        end = len(document)
        found.append(_Element(opened[1], opened[0].end(), end, opened[0].start(), end))
    return found


def _outside(document: str, elements: Iterable[_Element]) -> str:
    """What is left of a document without these elements."""
    left, at = [], 0
    for one in sorted(elements, key=lambda element: element.opened):
        if one.opened >= at:
            left.append(document[at : one.opened])
            at = one.closed
    return " ".join([*left, document[at:]])


def _plain(markup: str) -> str:
    """Text without its markup, as the module's description defines it."""
    if "<" in markup:
        markup = _DECLARATION.sub(" ", _without_comments(markup))
        tags = list(_TAG.finditer(markup))
        opened: dict[str, int] = {}
        closed: dict[str, int] = {}
        for tag in tags:
            name = tag["name"].lower()
            if tag["end"]:
                closed[name] = tag.start()
            else:
                opened.setdefault(name, tag.start())
        left, at = [], 0
        for tag in tags:
            name = tag["name"].lower()
            paired = opened.get(name, len(markup)) < tag.start() if tag["end"] else closed.get(name, -1) > tag.start()
            if _is_markup(tag, paired):
                left.append(markup[at : tag.start()])
                at = tag.end()
        markup = " ".join([*left, markup[at:]])
    return unescape(markup)


def _is_markup(tag: re.Match[str], paired: bool) -> bool:
    name, attributes = tag["name"], tag["attributes"]
    if attributes and not _SWITCHES.issuperset(_VALUED.sub("", attributes).lower().split()):
        return False  # `<y and a>`
    if paired or (name.lower() in _LEFT_OPEN and (name.islower() or name.isupper())):
        return True
    known = name.isupper() or (name.islower() and name in _HTML)
    return known and bool(tag["end"] or attributes)


def _without_comments(markup: str) -> str:
    left, at = [], 0
    while (start := markup.find("<!--", at)) >= 0 and (end := markup.find("-->", start + 4)) >= 0:
        left.append(markup[at:start])
        at = end + 3
    return " ".join([*left, markup[at:]])
