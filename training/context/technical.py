"""Technical documentation with queries and the spans that answer them, made by rule.

    python -m training.context.technical --out DIR            # DIR/{train,calibrate,measured}.jsonl

Structure says what answers what: an entry of a list of parameters or options describes the parameter; what stands
under a heading that asks is the answer; the items after a sentence that ends with a colon are what it announces; the
code under a heading shows how; a row of a table is about its first cell; an entry of a changelog names the change. A
query is written from templates over these names, as people ask: whole questions and a few words. One kind asks for a
sentence by its rarer words. A passage is a run of whole paragraphs around the answer, cut nowhere else.

Families (packages, modules, pages) are drawn by hash into training (only where the licence is permissive),
calibration, and measuring.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.text.analyzer import STOP_WORDS
from training.context.documents import Document, documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Found = tuple[str, str, int, int]
"""Kind, query, and where in the document the answer stands."""

MEASURED, CALIBRATED = 0.2, 0.35
"""Upper ends of the hash ranges of families."""
EACH = {"docstring": 3, "topic": 12, "manual": 8, "file": 4}
"""Pieces taken of one document, at most."""
OF_FAMILY = 24
"""Pieces of one kind taken of a family, at most."""
LABELS = ("args", "arguments", "raises", "returns", "attributes", "yields")
RARE = ("faq", "table", "option", "raises")
"""Kinds that are taken first."""
WORDS = (40, 230)
"""Words of a passage, if the document has as many."""
PART = 12_000
"""Of a longer document a part of at most this many characters is looked at."""
LONGEST = 900
"""An answer of more characters is not asked for."""
_UNDER = re.compile(r"([=\-~^\"*+#])\1{2,}\s*")
_ITEM = re.compile(r"(?:[-*+•‣◦▪●·–—]|\(?\d{1,3}[.)])\s+\S")
_SENTENCE = re.compile(r"(?:(?<=[.!?]\s)|(?<=\n\n))[A-Z][^.!?\n]{0,300}(?:\n[^.!?\n]{1,120}){0,4}[.!?](?=\s)")
_WORD = re.compile(r"[A-Za-z][\w'-]*")
_NAME = re.compile(r"[A-Za-z_*-][\w.*\[\]-]*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A query, a passage of a document, and the spans of it that answer, each enough."""

    kind: str
    query: str
    passage: str
    answers: tuple[tuple[int, int], ...]
    family: str
    source: str
    licence: str
    part: str
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    text: str
    bare: str
    indent: int


def _lines(text: str) -> list[_Line]:
    out, at = [], 0
    for line in text.splitlines(keepends=True):
        text = line.rstrip()
        bare = text.lstrip()
        out.append(_Line(at, at + len(line), text, bare, len(text) - len(bare)))
        at += len(line)
    return out


def _body_end(lines: list[_Line], first: int, indent: int) -> int:
    """The line after the last of those from `first` on that are empty or indented by more than `indent`."""
    stop = first
    for number in range(first, len(lines)):
        if lines[number].bare and lines[number].indent <= indent:
            break
        if lines[number].bare:
            stop = number + 1
    return stop


def _span(lines: list[_Line], first: int, stop: int) -> tuple[int, int]:
    """From the first visible character of line `first` to the last of line `stop - 1`."""
    start = lines[first].start + lines[first].indent
    return start, lines[stop - 1].start + len(lines[stop - 1].text)


class Asker:
    """Queries about a document, drawn by its text."""

    def __init__(self, document: Document) -> None:
        self.document, self.text, self.lines = document, document.text, _lines(document.text)
        self.name = document.name.replace("_", " ") if document.source == "manual" else document.name
        self.chooser = random.Random(sha256(document.text.encode()).digest())  # noqa: S311
        self.titles = list(self._headings())

    def short(self) -> str:
        """The document's name as people would write it."""
        if self.document.source != "docstring":
            return self.name
        parts = self.name.split(".")
        return self.chooser.choice([self.name, ".".join(parts[-2:]), parts[-1]])

    def one_of(self, *templates: str, **values: str) -> str:
        """One of the templates, filled in, at times in lower case or without its question mark."""
        text = self.chooser.choice(templates).format(name=self.short(), **values)
        text = " ".join(text.split())
        return text.rstrip("?") if self.chooser.random() < 0.3 else text

    def found(self) -> Iterator[Found]:
        """Everything that can be asked of the document."""
        yield from self.parameters()
        yield from self.fields()
        yield from self.definitions()
        yield from self.headings()
        yield from self.questions()
        yield from self.lists()
        yield from self.tables()
        yield from self.changes()
        yield from self.examples()
        yield from self.sentences()

    def parameters(self) -> Iterator[Found]:
        """Entries under `Parameters` with an underline, or under `Args:`."""
        section, base = "", -1
        for number, line in enumerate(self.lines[:-1]):
            following = self.lines[number + 1]
            title = line.bare.rstrip(":").lower()
            if _UNDER.fullmatch(following.bare) and line.bare and line.indent == following.indent:
                section, base = title, line.indent
            elif line.bare.endswith(":") and title in (
                "args",
                "arguments",
                "raises",
                "returns",
                "attributes",
                "yields",
            ):
                section, base = title, -2
                google = following.indent if following.indent > line.indent else -1
            elif section and base >= 0 and line.indent == base and following.indent > base and line.bare:
                stop = _body_end(self.lines, number + 1, base)
                if stop > number + 1 and _NAME.match(line.bare):
                    yield from self._entry(section, line.bare.split(" : ")[0].split(":")[0], number + 1, stop)
            elif section and base == -2 and line.indent == google and line.bare and google > 0:
                stop = _body_end(self.lines, number + 1, google)
                head, colon, rest = line.bare.partition(":")
                if colon and rest.strip() and len(head) < 60 and _NAME.match(head):
                    start = line.start + line.text.index(":") + 2
                    _, end = _span(self.lines, number, max(stop, number + 1))
                    yield from self._asked(section, head.split("(")[0].strip(), start, end)
            elif section and base == -2 and line.bare and line.indent < google:
                section = ""

    def _entry(self, section: str, name: str, first: int, stop: int) -> Iterator[Found]:
        if self.lines[first].bare:
            yield from self._asked(section, name.strip(" `*"), *_span(self.lines, first, stop))

    def _asked(self, section: str, entry: str, start: int, end: int) -> Iterator[Found]:
        templates: tuple[str, ...]
        if section in ("parameters", "args", "arguments", "other parameters", "attributes", "keyword arguments"):
            kind = "attribute" if section == "attributes" else "parameter"
            templates = (
                f"what does the {kind} {{entry}} of {{name}} do?", "{name} {entry}", f"{{name}} {{entry}} {kind}",
                "meaning of {entry} in {name}", "what is {entry} in {name} for?",
            )  # fmt: skip
            yield kind, self.one_of(*templates, entry=entry), start, end
        elif section in ("returns", "yields"):
            yield (
                "returns",
                self.one_of("what does {name} return?", "return value of {name}", "{name} returns"),
                start,
                end,
            )
        elif section in ("raises", "warns"):
            templates = ("when does {name} raise {entry}?", "{name} {entry}", "why do I get {entry} from {name}?")
            yield "raises", self.one_of(*templates, entry=entry), start, end

    def fields(self) -> Iterator[Found]:
        """Fields as `:param name: what it is`."""
        for number, line in enumerate(self.lines):
            if found := re.match(r"\s*:(param|raises?|returns?)\s*(?:[\w\[\], ]*?(\w+))?:\s+\S", line.text):
                stop = _body_end(self.lines, number + 1, line.indent)
                start = line.start + found.end() - 1
                _, end = _span(self.lines, number, max(stop, number + 1))
                section = {"p": "parameters", "r": "raises"}[found[1][0]]
                section = "returns" if found[1].startswith("return") else section
                if found[2] or section == "returns":
                    yield from self._asked(section, found[2] or "", start, end)

    def definitions(self) -> Iterator[Found]:
        """A term on a line, and what is indented under it: options of manual pages, definition lists."""
        for number, line in enumerate(self.lines[:-1]):
            following = self.lines[number + 1]
            bare = line.bare
            if not bare or len(bare) > 70 or following.indent <= line.indent or not following.bare:
                continue
            option = re.match(r"-{1,2}[\w?][\w-]*", bare.strip("`*"))
            term = re.fullmatch(r"``?[^`]+``?|[A-Z][A-Z_]{3,}\S*|[\w.-]+\([^)]*\)", bare)
            if not (option or term) or (number and self.lines[number - 1].text.endswith("\\")):
                continue
            if not following.bare[0].isalpha() or following.bare.count(" ") < 2:
                continue
            stop = _body_end(self.lines, number + 1, line.indent)
            start, end = _span(self.lines, number + 1, stop)
            if option:
                names = [one for one in re.findall(r"(?<![\w-])-{1,2}[\w?][\w-]*", bare) if one]
                said = " ".join(_content(self.text[start:end].partition(".")[0])[:8])
                templates = ("what does {entry} do in {name}?", "{name} {entry}", "{name} option {entry}")
                entry = max(names, key=len) if self.chooser.random() < 0.7 else names[0]
                if self.chooser.random() < 0.35 and said.count(" ") > 2:
                    yield "option", self.one_of("{name} option to {said}", "{name} {said}", said=said), start, end
                else:
                    yield "option", self.one_of(*templates, entry=entry), start, end
            else:
                entry = bare.strip("`*")
                asked = ("what is {entry} in {name}?", "{name} {entry}", "{entry} meaning", "define {entry}")
                yield "term", self.one_of(*asked, entry=entry), start, end

    def _headings(self) -> Iterator[tuple[int, str, int]]:
        """(line, title, first line under it); not of comments in fenced code."""
        fenced = False
        for number, line in enumerate(self.lines[:-1]):
            fenced ^= line.bare.startswith("```")
            if not line.bare or fenced:
                continue
            under = _UNDER.fullmatch(self.lines[number + 1].bare) and len(line.bare) > 2 and line.bare[0].isalnum()
            shouted = self.document.source == "manual" and line.indent == 0 and line.bare.isupper()
            bold = re.fullmatch(r"\*\*[^*]+\*\*", line.bare)
            title = ""
            if under or re.match(r"#{1,6}\s", line.text) or shouted or bold:
                title = re.sub(r"^#{1,6}\s+|^\*\*|\*\*$|[`:]", "", line.bare).strip()
            if title:
                first = number + (2 if under else 1)
                while first < len(self.lines) and not self.lines[first].bare:
                    first += 1
                if first < len(self.lines):
                    yield number, title, first

    def headings(self) -> Iterator[Found]:
        """What stands first under a heading; the code, where code stands there."""
        for _, title, first in self.titles:
            words = title.split()
            if not 2 <= len(words) <= 14 or title.lower() in ("see also", "reporting bugs", "table of contents"):
                continue
            stop = self._paragraph_end(first)
            start, end = _span(self.lines, first, stop)
            code = self._code_after(stop)
            low = title[0].lower() + title[1:]
            if code and self.text[start:end].rstrip().endswith(":"):
                templates = (
                    "how {title}" if low.startswith("to ") else "how to {title}",
                    "{name} {title}",
                    "command {title}",
                )
                yield "code", self.one_of(*templates, title=low.removeprefix("to ")), *code
            elif not title.endswith("?") and not self.text[start:end].rstrip().endswith(":"):
                query = self.one_of("{name} {title}", "{title}", "{title} in {name}?", title=low)
                yield "section", query, start, end

    def _paragraph_end(self, first: int) -> int:
        stop = first
        while stop < len(self.lines) and self.lines[stop].bare:
            stop += 1
        return stop

    def _code_after(self, stop: int) -> tuple[int, int] | None:
        """The indented or fenced block after line `stop`."""
        while stop < len(self.lines) and not self.lines[stop].bare:
            stop += 1
        if stop == len(self.lines):
            return None
        if self.lines[stop].bare.startswith("```"):
            close = stop + 1
            while close < len(self.lines) and not self.lines[close].bare.startswith("```"):
                close += 1
            return _span(self.lines, stop, min(close + 1, len(self.lines)))
        if self.lines[stop].indent >= 2:
            return _span(self.lines, stop, self._paragraph_end(stop))
        return None

    def questions(self) -> Iterator[Found]:
        """Entries that ask: under a heading, or after `Q:`."""
        for number, title, first in self.titles:
            if title.endswith("?") and number:
                yield "faq", self._rephrased(title), *_span(self.lines, first, self._paragraph_end(first))
        for number, line in enumerate(self.lines):
            found = re.match(r"\s*(?:\d+[.):]\s*)?Q(?:uestion)?\s*\d*\s*[:.)]\s*(.*)", line.text)
            stop = self._paragraph_end(number) if found else len(self.lines)
            if stop < len(self.lines):
                first = stop
                while first < len(self.lines) and not self.lines[first].bare:
                    first += 1
                asked = " ".join(self.text[line.start : self.lines[stop - 1].end].split())
                if first < len(self.lines) and re.match(r"A(?:nswer)?\s*\d*[:.)]", self.lines[first].bare):
                    asked = re.sub(r"^.*?Q(?:uestion)?\s*\d*\s*[:.)]\s*", "", asked)
                    yield "faq", self._rephrased(asked), *_span(self.lines, first, self._paragraph_end(first))

    def _rephrased(self, asked: str) -> str:
        """A question as it stands or by its content words."""
        words = _content(asked)
        return asked if self.chooser.random() < 0.5 or len(words) < 3 else f"{self.short()} {' '.join(words)}"

    def lists(self) -> Iterator[Found]:
        """The items that a sentence announces, all of them or one."""
        for number, line in enumerate(self.lines):
            if not line.bare.endswith(":") or line.bare.endswith("::"):
                continue
            first = number + 1
            while first < len(self.lines) and not self.lines[first].bare:
                first += 1
            if first == len(self.lines) or not _ITEM.match(self.lines[first].bare):
                continue
            items = self._items(first)
            lead = number
            while lead and self.lines[lead - 1].bare and self.lines[lead - 1].indent == line.indent:
                lead -= 1
            words = _content(self.text[self.lines[lead].start : line.end].rpartition(". ")[2])
            if len(items) < 2 or not 2 <= len(words) <= 14:
                continue
            whole = items[0][0], items[-1][1]
            if whole[1] - whole[0] <= LONGEST and self.chooser.random() < 0.6:
                yield (
                    "list",
                    self.one_of("{name} {said}", "what are the {said}?", "{said}", said=" ".join(words)),
                    *whole,
                )
            start, end = self.chooser.choice(items)
            own = _content(self.text[start:end])[:7]
            if len(own) > 2:
                yield "item", self.one_of("{name} {said}", "{said}", said=" ".join(own)), start, end

    def _items(self, first: int) -> list[tuple[int, int]]:
        indent, out, number = self.lines[first].indent, [], first
        while number < len(self.lines):
            line = self.lines[number]
            if line.bare and (line.indent != indent or not _ITEM.match(line.bare)):
                break
            if line.bare:
                stop = _body_end(self.lines, number + 1, indent)
                out.append(_span(self.lines, number, max(stop, number + 1)))
                number = max(stop, number + 1)
            else:
                number += 1
        return out

    def tables(self) -> Iterator[Found]:
        """Rows of Markdown, grid and simple tables."""
        for number, line in enumerate(self.lines[1:-1], 1):
            ruler = re.fullmatch(r"\|?[\s:|-]*-{2,}[\s:|-]*", line.bare) and "|" in line.bare
            grid = re.fullmatch(r"\+[=+]+", line.bare)
            if not ruler and not grid:
                continue
            header = [cell.strip() for cell in self.lines[number - 1].bare.strip("|").split("|")]
            for row in range(number + 1, min(number + 40, len(self.lines))):
                bare = self.lines[row].bare
                if not bare.startswith("|") and "|" not in bare:
                    if bare.startswith("+"):
                        continue
                    break
                cells = [cell.strip(" `*") for cell in bare.strip("|").split("|")]
                named = len(cells) >= 2 and re.search(r"[A-Za-z]{2}", cells[0]) and re.search(r"[A-Za-z]{3}", cells[-1])
                if named and len(bare) > 20 and self.chooser.random() < 0.3:
                    about = header[-1] if len(header) > 1 else "meaning"
                    templates = ("{name} {entry} {about}", "what is the {about} of {entry}?", "{entry} {about}")
                    query = self.one_of(*templates, entry=cells[0], about=about.lower() or "meaning")
                    yield "table", query, *_span(self.lines, row, row + 1)

    def changes(self) -> Iterator[Found]:
        """Entries of changelogs."""
        if not re.search(r"change|news|release|history", self.document.name, re.IGNORECASE):
            return
        for number, line in enumerate(self.lines):
            if _ITEM.match(line.bare) and self.chooser.random() < 0.1:
                stop = max(_body_end(self.lines, number + 1, line.indent), number + 1)
                start, end = _span(self.lines, number, stop)
                words = _content(self.text[start:end])[:9]
                if len(words) > 4:
                    said = " ".join(words)
                    templates = ("{name} {said}", "when was this changed: {said}?", "release notes {said}", "{said}")
                    yield "change", self.one_of(*templates, said=said), start, end

    def examples(self) -> Iterator[Found]:
        """Interpreter sessions, each with its output."""
        for number, line in enumerate(self.lines):
            if line.bare.startswith(">>> ") and (not number or not self.lines[number - 1].bare):
                yield (
                    "example", self.one_of("{name} example", "example of {name}", "how do I use {name}?"),
                    *_span(self.lines, number, self._paragraph_end(number)),
                )  # fmt: skip

    def sentences(self) -> Iterator[Found]:
        """Sentences of paragraphs, by their rarer words."""
        for found in re.finditer(
            r"(?:(?<=[.!?]\s)|(?<=\n\n))[A-Z][^.!?\n]{0,300}(?:\n[^.!?\n]{1,120}){0,4}[.!?](?=\s)", self.text
        ):
            words = _content(found[0])
            if 6 <= len(words) <= 25 and len(found[0]) < 320 and self.chooser.random() < 0.2:
                some = sorted(words, key=len, reverse=True)[: self.chooser.randint(4, 6)]
                said = " ".join(word for word in words if word in some)
                yield "sentence", self.one_of("{said}", "{name} {said}", said=said), found.start(), found.end()


def _content(text: str) -> list[str]:
    """The words of a text that are not function words, each once."""
    words = dict.fromkeys(word.strip("'-") for word in _WORD.findall(text))
    return [word for word in words if word.lower() not in STOP_WORDS and len(word) > 1]


def passage_around(text: str, start: int, end: int, chooser: random.Random) -> tuple[int, int]:
    """A run of whole paragraphs with the answer in it, of a length drawn from `WORDS`, at a place drawn in it."""
    cuts = [0, *(found.end() for found in re.finditer(r"\n[^\S\n]*\n+(?=[^\S\n]*\S)", text)), len(text)]
    first = max(n for n, at in enumerate(cuts[:-1]) if at <= start)
    last = next(n for n, at in enumerate(cuts) if at >= end)
    wanted = chooser.randint(*WORDS)
    while len(text[cuts[first] : cuts[last]].split()) < wanted and (first or last + 1 < len(cuts)):
        if first and (last + 1 == len(cuts) or chooser.random() < 0.5):
            first -= 1
        else:
            last += 1
    return cuts[first], cuts[last]


def part_of(document: Document) -> str:
    """Where a family goes; what may not be trained on calibrates instead."""
    value = int.from_bytes(sha256(f"technical:{document.family}".encode()).digest()[:8], "big") / 2**64
    part = "measured" if value < MEASURED else "calibrate" if value < CALIBRATED else "train"
    return part if document.may_train or part == "measured" else "calibrate"


def _part_of_text(document: Document) -> Document:
    """A short document, or a run of paragraphs of a long one, drawn by its text."""
    text = document.text
    if len(text) <= PART:
        return document
    at = int.from_bytes(sha256(text.encode()).digest()[:8], "big") % (len(text) - PART)
    first = text.find("\n\n", at) + 2
    last = text.find("\n\n", first + PART)
    return replace(document, text=text[first : last if last > 0 else first + PART] if first > 1 else text[:PART])


def pieces(given: Iterable[Document]) -> Iterator[Piece]:
    """Pieces of documents, few of each document and of each family, kinds by turns."""
    taken: Counter[str] = Counter()
    seen: set[str] = set()
    for document in map(_part_of_text, given):
        asker = Asker(document)
        by_kind: dict[str, list[Found]] = defaultdict(list)
        for one in asker.found():
            if 20 <= one[3] - one[2] <= LONGEST and 2 <= len(one[1].split()) and len(one[1]) <= 200:
                by_kind[one[0]].append(one)
        kinds = sorted(by_kind, key=lambda kind: (kind not in RARE, sha256(f"{kind}{document.name}".encode()).digest()))
        for kind in kinds[: EACH[document.source]]:
            _, query, start, end = asker.chooser.choice(by_kind[kind])
            first, last = passage_around(document.text, start, end, asker.chooser)
            passage = document.text[first:last].rstrip()
            long = not WORDS[0] / 2 <= len(passage.split()) <= 2 * WORDS[1] or len(passage) > 4000
            if long or end > first + len(passage) or passage in seen or taken[document.family, kind] >= OF_FAMILY:  # type: ignore[index]
                continue
            taken[document.family, kind] += 1  # type: ignore[index]
            seen.add(passage)
            yield Piece(
                kind, query, passage, ((start - first, end - first),), document.family, document.source,
                document.licence, part_of(document),
            )  # fmt: skip


def drawn(rows: Iterable[Piece], part: str, count: int) -> list[Piece]:
    """At most `count` pieces of a part, kinds and sources alike as far as they go, each by hash."""
    groups: dict[tuple[str, str], list[Piece]] = defaultdict(list)
    for row in rows:
        if row.part == part:
            groups[row.kind, row.source].append(row)
    for mine in groups.values():
        mine.sort(key=lambda row: sha256((row.query + row.passage).encode()).digest())
    out: list[Piece] = []
    for turn in range(max(map(len, groups.values()), default=0)):
        out += [groups[key][turn] for key in sorted(groups) if turn < len(groups[key])]
    return out[:count]


def with_negatives(rows: list[Piece], each: int = 1) -> list[Piece]:
    """Each with the passages of other rows that share most of the query's rarer words and hold no answer."""
    holders: dict[str, set[int]] = defaultdict(set)
    for number, row in enumerate(rows):
        for word in {word.lower() for word in _content(row.passage)}:
            holders[word].add(number)
    out = []
    for number, row in enumerate(rows):
        score: Counter[int] = Counter()
        for word in {word.lower() for word in _content(row.query)}:
            for other in holders.get(word, ()):
                score[other] += math.log(len(rows) / len(holders[word]))  # type: ignore[assignment]
        answers = [row.passage[a:b] for a, b in row.answers]
        best = sorted(score, key=lambda other: (-score[other], other))
        others = [rows[n].passage for n in best[:40] if n != number and not _shares(rows[n].passage, row, answers)]
        out.append(replace(row, negatives=tuple(others[:each])))
    return out


def _shares(text: str, row: Piece, answers: list[str]) -> bool:
    """Whether a text overlaps with the passage or holds an answer: twins of other versions and of base classes too."""
    if any(answer in text for answer in answers):
        return True
    lines = {line.strip() for line in row.passage.splitlines() if len(line.strip()) > 30}
    return sum(line.strip() in lines for line in text.splitlines()) > 2


def main() -> int:
    """Make the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--manuals", type=int, default=400)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    everything = list(pieces(documents(given.manuals)))
    for part, count in (("train", given.train), ("calibrate", 400), ("measured", 200)):
        rows = with_negatives(drawn(everything, part, count))
        print(part, len(rows), dict(Counter(row.kind for row in rows)), dict(Counter(row.source for row in rows)))
        lines = (
            json.dumps(
                {
                    "query": row.query, "passage": row.passage, "answers": row.answers, "negatives": row.negatives,
                    "kind": row.kind, "family": row.family, "source": row.source, "licence": row.licence,
                },
                ensure_ascii=False,
            )
            for row in rows
        )  # fmt: skip
        (given.out / f"technical-{part}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
