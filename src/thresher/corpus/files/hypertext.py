"""HTML to blocks, by the standard library's parser.

The text is what a reader of the page sees: runs of white space are one space, rows of tables `a | b`, items of lists
`- a`, `<pre>` as it is. `Document.origin` has the place in the file of each of its characters. What is left out:
scripts and styles; `nav`, `footer`, `form`, and `header` and `aside` outside the main text; elements that say by their
role, class or id that they are navigation, a table of contents, a cookie notice or hidden; lists of links into the
page, long ones of links to elsewhere, and tables of links; a line or two above the first heading; and,
where a page has a `<main>`, `role=main` or `<article>` with text, everything outside it.
"""

from __future__ import annotations

import html
import re
from array import array
from dataclasses import dataclass, field, replace
from functools import lru_cache
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

from thresher.corpus.files.blocks import Block, Document, UnreadableError
from thresher.records import Span

if TYPE_CHECKING:
    from thresher.corpus.files.blocks import Kind

_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_DROPPED = frozenset(
    "script style template svg math noscript nav footer form button select option textarea iframe object canvas audio "
    "video head dialog menu map".split()
)
_OUTSIDE = frozenset({"header", "aside"})
"""Left out unless they are inside the main text."""
_MAIN = frozenset({"main", "article"})
_BLOCK = frozenset(
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure h1 h2 h3 h4 "
    "h5 h6 header hgroup hr html legend li main ol p pre section summary table tbody td tfoot th thead tr ul".split()
)
_CLOSED_BY = {
    "p": _BLOCK - {"td", "th", "tr", "tbody", "thead", "tfoot", "caption"},
    "li": frozenset({"li"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
    "tr": frozenset({"tr", "tbody", "thead", "tfoot"}),
    "td": frozenset({"td", "th", "tr", "tbody", "thead", "tfoot"}),
    "th": frozenset({"td", "th", "tr", "tbody", "thead", "tfoot"}),
}
_SCOPES = frozenset(
    {"table", "ul", "ol", "dl", "div", "section", "article", "body", "td", "th", "li", "blockquote", "dd"}
)
_ROLES = frozenset(
    "navigation banner contentinfo search menu menubar toolbar dialog alertdialog tablist doc-toc".split()
)
_NAMES = re.compile(
    r"(?:.*[-_])?(?:nav|navbar|navigation|navheader|navfooter|sidebar|sphinxsidebar|toc|toccollapsible|tableofcontents|breadcrumbs?"
    r"|footer|masthead|cookies?|consent|gdpr|headerlink|permalink|anchorlink|pagination|pager|searchbox|skip-?link"
    r"|skip-to-content|skiptocontent|prev-next|edit-(?:this-)?page|visually-hidden|sr-only|copybutton|linenos|linenodiv|lineno)(?:[-_](?:list|menu|bar|banner"
    r"|notice|wrapper|container|links?|tree|left|right|top|bottom|primary|secondary|modal|popup|overlay|item|box"
    r"|desktop|mobile))*"
    r"|table-of-contents|toctree-wrapper|site-header|page-header|global-header|related|menu|anchor-link|hash-link|shortcuts",
    re.IGNORECASE,
)
_HASH = re.compile(r"_(?=\w*[A-Z\d])[\w+]{4,6}$")
"""What bundlers add to the names of classes."""
_LEADING = {"li": "- ", "dt": "", "dd": ""}
_CELL = frozenset({"td", "th"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_SPACES = re.compile(r"[ \t\n\r\f\v]{2,}")
_BLANKS = {ord(char): " " for char in "\t\n\r\f\v"}
_LINKS = 0.9
"""An item with this share of its characters in links is a link."""
_CONTENTS, _MENU = 3, 8
"""Items in a row that are a table of contents (links into the page), or a menu (links to anywhere)."""
_PERMALINK = re.compile(r"\s*[#¶§🔗]\s*$")
_MASTHEAD = 120
"""Characters above the title of a page that are taken for the name of the site."""
_NEAR = 400
"""Open elements among which one is looked for, so that hostile nesting costs no more than its length."""
_DEEP = 12
"""Lists of definitions within each other that are levels of headings."""
_SHORT = 100
"""Characters of names that are remembered."""
_OPEN = 2000
"""Tags without an end that a page may have."""
_ENOUGH = 200
"""Characters of a main text that stands for the page."""


def read_html(text: str) -> Document:
    """The blocks of an HTML page.

    Raises:
        UnreadableError: thousands of its tags have no end; the parser would look for each to the end of the file.
    """
    if text.count("<") > text.count(">") + _OPEN:
        raise UnreadableError("damaged-file", "thousands of its tags are not closed")
    parser = _Page(text)
    parser.feed(text)
    parser.close()
    parser.finish()
    return parser.document()


@dataclass(slots=True)
class _Open:
    """An element that is open."""

    tag: str
    dropped: bool = False
    main: bool = False
    anchor: str = ""
    pre: bool = False


@dataclass(slots=True)
class _Piece:
    """A block being made: its characters and where each comes from."""

    kind: Kind = "prose"
    level: int = 0
    anchor: str = ""
    shown: bool = False
    main: bool = False
    lead: bool = False
    paragraph: bool = False
    text: list[str] = field(default_factory=list)
    places: array[int] = field(default_factory=lambda: array("q"))
    rows: list[int] = field(default_factory=list)  # characters at which the rows of a table begin
    inner: int = 0  # characters inside links to this page
    linked: int = 0  # characters inside links
    around: str = ""  # the anchor of the section that a heading is in
    visible: int = 0


class _Page(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=False)
        self._source = source
        self._read = self._at = 0  # characters that the parser is done with, and its place behind them
        self._stack: list[_Open] = []
        self._pieces: list[_Piece] = []
        self._piece = _Piece()
        self._title: list[str] = []
        self._in_title = False
        self._fields: dict[str, object] = {}
        self._link = ""
        self._tables: list[bool] = []  # whether each open table is laid out as rows
        self._anchor = ""
        self._pending = ""  # what comes before the next text: the mark of a list item, of a cell

    def _place(self) -> int:
        return self._read + self._at

    def goahead(self, end: bool) -> None:
        """Parse what was fed; counts what the parser is done with."""
        self._at, before = 0, len(self.rawdata)
        super().goahead(end)
        self._read += before - len(self.rawdata)
        self._at = 0

    def updatepos(self, i: int, j: int) -> int:
        """Note the place of the parser, which counts lines in place of characters."""
        self._at = max(i, j)
        return j

    # What the parser calls.

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "meta":
            self._meta(values)
        if tag == "title" and not any(one.tag == "svg" for one in self._stack[-_NEAR:]):
            self._in_title = True
        if tag == "body" or (tag in _BLOCK and self._stack and self._stack[-1].tag == "head"):
            self._close_head()
        self._close_implied(tag)
        if tag == "br" and not self._is_dropped():
            self._add("\n", self._place())
        dropped = self._is_dropped() or self._drops(tag, values)
        main = self._in_main() or tag in _MAIN or values.get("role") == "main"
        if not dropped and tag in _BLOCK:
            self._begin(tag, values, main=main)
        if tag == "a" and not dropped:
            self._link = values.get("href", "")
            self._mark(values.get("id") or values.get("name") or "")
        if tag not in _VOID:
            pre = tag == "pre" or bool(self._stack and self._stack[-1].pre)
            self._stack.append(_Open(tag, dropped, main, values.get("id", "") if _is_section(tag, values) else "", pre))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID and tag not in _BLOCK:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if tag == "a":
            self._link = ""
        near = range(len(self._stack) - 1, max(-1, len(self._stack) - _NEAR), -1)
        at = next((n for n in near if self._stack[n].tag == tag), -1)
        if at < 0:
            return
        for one in reversed(self._stack[at:]):
            if not one.dropped and one.tag in _BLOCK:
                self._end(one.tag)
        del self._stack[at:]

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._title.append(data)
        elif not self._is_dropped():
            self._text(data, self._place())

    def handle_entityref(self, name: str) -> None:
        self._reference(f"&{name}", ";")

    def handle_charref(self, name: str) -> None:
        self._reference(f"&#{name}", ";")

    def _reference(self, written: str, end: str) -> None:
        place = self._place()
        has_end = self._source.startswith(written + end, place)
        value = html.unescape(written + (end if has_end else ""))
        if self._in_title:
            self._title.append(value)
        elif not self._is_dropped():
            if value.isspace() and value in " \t\n\r\f":
                self._text(value, place)
            else:
                for char in value:
                    self._add(char, place)

    # Elements.

    def _is_dropped(self) -> bool:
        return bool(self._stack) and self._stack[-1].dropped

    def _in_main(self) -> bool:
        return bool(self._stack) and self._stack[-1].main

    def _close_head(self) -> None:
        if any(one.tag == "head" for one in self._stack[:_NEAR]):
            while self._stack.pop().tag != "head":
                pass

    def _close_implied(self, tag: str) -> None:
        """Close the elements whose end tag may be left out where this one begins."""
        for at in range(len(self._stack) - 1, max(-1, len(self._stack) - _NEAR), -1):
            one = self._stack[at].tag
            if tag in _CLOSED_BY.get(one, ()):
                self.handle_endtag(one)
                if one == "p" or tag in ("li", "dt", "dd", "td", "th"):
                    return
            elif one in _SCOPES:
                return

    def _drops(self, tag: str, values: dict[str, str]) -> bool:
        if tag in _DROPPED or "hidden" in values or values.get("aria-hidden") == "true":
            return True
        if values.get("role", "").lower() in _ROLES or "display:none" in values.get("style", "").replace(" ", ""):
            return True
        if tag in ("html", "body", "main") or values.get("role") == "main":
            return False
        if tag in _OUTSIDE and not self._in_main():
            return True
        names = values.get("class", "").split()
        if tag not in _HEADINGS and not _is_section(tag, values):  # whose id is made of the words of a heading
            names.append(values.get("id", ""))
        return any(_is_furniture(name) for name in names)

    def _meta(self, values: dict[str, str]) -> None:
        name, content = values.get("name", "").lower(), values.get("content", "").strip()
        if content and name in ("description", "author", "keywords", "date"):
            self._fields.setdefault(name, content)

    # Blocks.

    def _begin(self, tag: str, values: dict[str, str], *, main: bool) -> None:
        """Begin the block of an element."""
        if tag == "table":
            self._flush(main=main)
            outer = bool(self._tables)
            if outer:
                self._unlay()
            self._tables.append(not outer)
            self._piece.kind = "table" if not outer else "prose"
        elif self._tables and self._tables[-1]:
            self._in_table(tag, values, main=main)
        elif tag in _CELL and self._piece.text:
            self._flush(main=main)
        elif tag == "pre":
            self._flush(main=main)
            self._piece.kind = "code"
        elif tag in _HEADINGS:
            self._flush(main=main)
            self._piece.kind, self._piece.level = "heading", int(tag[1])
            self._piece.anchor = values.get("id", "") or self._anchor
            self._piece.around = self._section_anchor()
        elif tag == "dt" and values.get("id"):
            self._flush(main=main)
            self._piece.kind, self._piece.level = "heading", 10 + self._depth("dl")
            self._piece.anchor, self._piece.shown = values["id"], True
        else:
            self._flush(main=main)
            self._piece.paragraph = tag == "p"
            if tag in _LEADING:
                self._piece.kind = "list"
                self._pending = _LEADING[tag]
                self._piece.lead = tag == "dt"

    def _in_table(self, tag: str, values: dict[str, str], *, main: bool) -> None:
        """Begin an element of a table that is laid out as rows; a heading in it says that it is not one."""
        if tag in _HEADINGS:
            self._unlay()
            self._begin(tag, values, main=main)
        elif tag == "tr":
            self._row()
        elif tag in _CELL:
            self._pending = " | " if self._piece.text and not self._at_row_start() else ""
        elif self._piece.text and not self._at_row_start():
            self._pending = self._pending or " "

    def _depth(self, tag: str) -> int:
        """How many elements of a kind are open, up to a limit that sections are nested by."""
        return min(sum(one.tag == tag for one in self._stack[:_NEAR]), _DEEP)

    def _mark(self, name: str) -> None:
        """Note the anchor that a link within or right before a heading sets."""
        if name and self._piece.kind == "heading" and not self._piece.anchor:
            self._piece.anchor = name
        elif name:
            self._anchor = name

    def _section_anchor(self) -> str:
        return next((one.anchor for one in self._stack[:-_NEAR:-1] if one.anchor), "")

    def _end(self, tag: str) -> None:
        """End the block of an element."""
        if tag == "table":
            if self._tables:
                self._tables.pop()
            self._flush(main=self._in_main())
        elif self._tables and self._tables[-1]:
            if tag in ("p", "div", "li") and self._piece.text and not self._at_row_start():
                self._pending = " "
        else:
            lead = self._piece.kind == "list" and tag in ("p", "div") and not self._piece.text
            pending, kind = self._pending, self._piece.kind
            self._flush(main=self._in_main())
            if lead:
                self._pending, self._piece.kind = pending, kind

    def _at_row_start(self) -> bool:
        rows = self._piece.rows
        return bool(rows) and rows[-1] == len(self._piece.places)

    def _row(self) -> None:
        """Begin a row of the table."""
        piece = self._piece
        if piece.text and not self._at_row_start():
            self._pending = ""
            self._add("\n", self._place())
        if not self._at_row_start():
            piece.rows.append(len(piece.places))
        self._pending = ""

    def _unlay(self) -> None:
        """Take the table that is open as layout: its cells are blocks like others."""
        if self._tables:
            self._tables[-1] = False
        self._piece.kind = "prose"
        self._flush(main=self._in_main())

    def _flush(self, *, main: bool) -> None:
        """End the block being made and begin another."""
        piece = self._piece
        made = "".join(piece.text)
        if made.strip():
            piece.text = [made]
            self._pieces.append(piece)
            self._anchor = ""
            self._pending = ""
            self._piece = _Piece(main=main)
        else:
            kept = piece.kind if piece.kind == "list" and self._pending else "prose"
            self._piece = _Piece(kept, main=main, lead=piece.lead and kept == "list")

    # Characters.

    def _text(self, data: str, place: int) -> None:
        if self._stack and self._stack[-1].pre:
            space = len(data) - len(data.lstrip())
            self._append(data[:space], place)
            if space < len(data):
                self._lead(place + space)
                self._append(data[space:], place + space)
                self._count(sum(map(len, data.split())))
            return
        here = 0
        for found in _SPACES.finditer(data):
            self._words(data[here : found.start()], place + here)
            self._space(place + found.start())
            here = found.end()
        self._words(data[here:], place + here)

    def _words(self, data: str, place: int) -> None:
        """Add text in which no white space follows another."""
        data = data.translate(_BLANKS)
        if data.startswith(" "):
            self._space(place)
            data, place = data[1:], place + 1
        if data:
            self._lead(place)
            self._append(data, place)
            self._count(len(data) - data.count(" "))

    def _space(self, place: int) -> None:
        """Add a space, unless it would be the first character, or follow another."""
        if self._piece.text and not self._pending and not self._piece.text[-1].endswith((" ", "\n")):
            self._append(" ", place)

    def _append(self, data: str, place: int) -> None:
        if data:
            self._piece.text.append(data)
            self._piece.places.extend(range(place, place + len(data)))

    def _add(self, char: str, place: int) -> None:
        if not char.isspace():
            self._lead(place)
            self._count(1)
        self._piece.text.append(char)
        self._piece.places.append(place)

    def _lead(self, place: int) -> None:
        if self._pending:
            pending, self._pending = self._pending, ""
            self._piece.text.append(pending)
            self._piece.places.extend([place] * len(pending))

    def _count(self, characters: int) -> None:
        self._piece.visible += characters
        self._piece.linked += characters if self._link else 0
        self._piece.inner += characters if self._link.startswith("#") and len(self._link) > 1 else 0

    # The whole.

    def finish(self) -> None:
        """End what is open at the end of the file."""
        self._tables.clear()
        self._flush(main=False)

    def document(self) -> Document:
        """The text and blocks of the page."""
        pieces = self._pieces
        inside = sum(piece.visible for piece in pieces if piece.main and piece.kind != "heading")
        if inside >= _ENOUGH:
            pieces = _without_contents([piece for piece in pieces if piece.main])
        else:
            pieces = _without_masthead(_without_contents(pieces))
        places = array("q")
        texts: list[str] = []
        blocks: list[Block] = []
        size = 0
        for piece in pieces:
            made = piece.text[0]
            start, end = len(made) - len(made.lstrip("\n ")), len(made.rstrip())
            end = len(_PERMALINK.sub("", made[:end])) if piece.kind == "heading" else end
            start = start if piece.kind != "code" else len(made) - len(made.lstrip("\n"))
            if texts:
                close = piece.kind == "list" and blocks[-1].kind == "list"
                gap = "\n" if close else "\n\n"
                texts.append(gap)
                places.extend([piece.places[start]] * len(gap))
                size += len(gap)
            texts.append(made[start:end])
            places.extend(piece.places[start:end])
            parts = tuple(_rows(piece.rows, start, end, size)) if piece.kind == "table" else ()
            heading = made[start:end] if piece.kind == "heading" else ""
            heading = heading.partition("(")[0].strip() or heading if piece.shown else heading
            anchor = piece.anchor or piece.around
            blocks.append(Block(size, size + end - start, piece.kind, piece.level, heading, anchor, piece.shown, parts))
            size += end - start
        title = " ".join("".join(self._title).split())
        places.append(places[-1] + 1 if places else 0)
        return Document("".join(texts), _lists(blocks), title, self._fields, places)


def _is_furniture(name: str) -> bool:
    """Whether a class or id says that an element is navigation, or not shown."""
    return _matches(name) if len(name) < _SHORT else _matches.__wrapped__(name)


@lru_cache(4096)
def _matches(name: str) -> bool:
    return _NAMES.fullmatch(_HASH.sub("", name)) is not None


def _is_section(tag: str, values: dict[str, str]) -> bool:
    """Whether an element is a section of the text, as generators of documentation write them."""
    return tag == "section" or (tag == "div" and "sect" in values.get("class", ""))


def _rows(rows: list[int], start: int, end: int, size: int) -> list[Span]:
    """The rows of a table as spans of the whole text."""
    cuts = sorted({min(max(row, start), end) for row in rows} | {start, end})
    return [Span(size + a - start, size + b - start) for a, b in pairwise(cuts)]


def _without_contents(pieces: list[_Piece]) -> list[_Piece]:
    """The pieces without lists and tables that only lead elsewhere: of links into the page, or long ones of links."""
    out: list[_Piece] = []
    run: list[_Piece] = []
    for piece in [*pieces, _Piece()]:
        links = piece.visible and piece.linked >= _LINKS * piece.visible
        if links and piece.kind == "list":
            run.append(piece)
            continue
        if links and piece.kind == "table":
            continue
        inside = sum(one.inner >= _LINKS * one.visible for one in run)
        out += run if len(run) < _MENU and (inside < len(run) or inside < _CONTENTS) else []
        run = []
        out.append(piece)
    return out[:-1]


def _without_masthead(pieces: list[_Piece]) -> list[_Piece]:
    """The pieces without the little that is above the first heading, as the name of the site is."""
    first = next((at for at, piece in enumerate(pieces) if piece.level and not piece.shown), 0)
    above = pieces[:first]
    if sum(piece.visible for piece in above) <= _MASTHEAD and all(p.kind == "prose" and not p.paragraph for p in above):
        return pieces[len(above) :]
    return pieces


def _lists(blocks: list[Block]) -> list[Block]:
    """Blocks with the items of a list taken together as its parts."""
    out: list[Block] = []
    for block in blocks:
        if block.kind == "list" and out and out[-1].kind == "list":
            out[-1] = replace(out[-1], end=block.end, parts=(*out[-1].parts, Span(block.start, block.end)))
        elif block.kind == "list":
            out.append(replace(block, parts=(Span(block.start, block.end),)))
        else:
            out.append(block)
    return out
