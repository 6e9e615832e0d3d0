"""Other ways to state a ranking, rewritten as a chain or a numbered list before an answer is read.

*Tables* with a column of places and one of labels, in either order, and *places* given to every label ("Passage 1: rank
3", "[2] is 1st") become a numbered list. *Ranges* that end a chain ("[4]-[7]") become ties. *Sentences* ("[3] is the
most relevant, followed by [1]. Next is [2].") become a list with commas. Numbers in words become digits.

What a rewriting does not cover whole, every label once and the places 1 to n, stays as it is. Every pattern is of
bounded length, so all this takes linear time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thresher.rerank.answer_tokens import NOUN, NUMBER_WORDS, ORDINAL_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

_HAN = "\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341"
_OPEN, _CLOSE = r"[*_\"'`(\[]{0,4}(?:(?<=\[) )?", r"(?: (?=\]))?[\])\"'`*_]{0,4}"
_LABEL = rf"{_OPEN}(?:(?i:{NOUN})[ _#:.-]{{0,3}}[\[(*]{{0,3}})?#?(?P<label>\d{{1,3}}|[A-Z]){_CLOSE}"
_ANY_LABEL = _LABEL.replace("?P<label>", "?:")
_PLACE_HEAD = re.compile(r"(?:(?:relevance|final) )?(?:rank|place|position|order|no\.?|#)", re.IGNORECASE)
_LABEL_HEAD = re.compile(rf"(?:{NOUN}|\bids?\b)", re.IGNORECASE)
_ORDINAL = rf"\d{{1,3}}(?:st|nd|rd|th)|(?i:{'|'.join(ORDINAL_WORDS)})"
_NAMED_PLACE = r"(?i:rank(?:ed|s)?|place[ds]?|position)"
_PLACE_OF = re.compile(
    rf"(?:(?i:rank|place|position) (?i:of|for) {_LABEL}\s?(?:[:=-]|is)\s?#?(?P<after>\d{{1,3}}))(?![\w.%/]*\d)"
    rf"|{_LABEL.replace('<label>', '<labelled>')} ?[-:\u2013\u2014=,(|]{{0,2}} ?"
    r"(?:(?i:is|comes|comes in|goes|takes|in|at|the|has|gets|was) ){0,3}"
    rf"(?:{_NAMED_PLACE}[ :#]{{1,3}}(?P<number>\d{{1,3}})(?!\w)"
    rf"|(?:{_NAMED_PLACE} )?(?P<ordinal>{_ORDINAL})(?!\w)(?: (?i:place|position))?)\)?"
)
_BETWEEN = re.compile(r"[\s,;.|*>)-]{0,8}(?:and )?[\s*>-]{0,4}")
_RANGE = re.compile(
    r"(?<=> )\[(\d{1,3})\]?\s?(?:-|\u2013|\u2014|to|through|\.\.\.?)\s?\[?(\d{1,3})\](?!\s?[>=])",
)
_JOINT = (
    r"(?<!\A\d[.)])(?<!\n\d[.)])(?<!\n\d\d[.)])(?:(?<!\A\d)(?<!\n\d)(?<!\n\d\d)\s?[.,;]|\n)?\s"
    r"(?:(?i:and|the) ){0,2}(?i:then|next|followed by|after (?:that|it)|afterwards)"
    r"(?: (?i:is|comes|best|one|most relevant|passage|by)){0,4}[:,]?\s"
)
_JOINED = re.compile(rf"{_JOINT}(?={_ANY_LABEL}(?!\w))")
_FIRST_OF = re.compile(
    rf"(?:(?i:the) )?(?i:most relevant|best|top)(?: (?i:{NOUN}|one))?(?: (?i:is)|:)\s(?={_ANY_LABEL}{_JOINT})"
)
_PRAISED = re.compile(
    rf"({_ANY_LABEL}) (?i:is|was) (?:(?i:clearly|by far|the) ){{0,2}}(?i:most relevant|best)(?: (?i:{NOUN}|one))?"
    rf"(?={_JOINT})"
)
_LINE_OF_LIST = rf"{_ANY_LABEL} ?[,>]?\n[ >*-]{{0,3}}{_ANY_LABEL}[ ,>]{{0,3}}(?:\n|\Z)"
_LIST_BEGINS = re.compile(rf":[*_ ]{{0,4}}(?=(?:(?:->|[-*+>\u2022\u2013\u00b7]) )?{_LINE_OF_LIST})")
_IN_WORDS = re.compile(rf"\b((?i:{NOUN}) )((?i:{'|'.join(NUMBER_WORDS)}))\b")
_IN_HAN = re.compile(rf"(?<!\w)[{_HAN}]{{1,3}}(?!\w)")
_HAN_PLACE = re.compile(rf"\u7b2c([{_HAN}]{{1,3}}|\d{{1,2}})\s?[\u540d\u4f4d]?(?=\s?[:\uff1a])")


def normal_form(text: str, labels: Sequence[str]) -> str:
    """The text with tables, places, ranges and sentences as chains and lists.

    Args:
        text: an answer without reasoning and wrappers, in ASCII digits and signs.
        labels: the labels shown.
    """
    text = _IN_WORDS.sub(lambda found: found[1] + str(NUMBER_WORDS.index(found[2].lower()) + 1), text)
    text = _HAN_PLACE.sub(lambda found: f"{_number(found[1])}. ", text)
    text = _IN_HAN.sub(lambda found: str(_number(found[0])), text)
    text = _LIST_BEGINS.sub(":\n", _RANGE.sub(_tied, text))
    text = _without_places(_without_tables(text), labels)
    if _JOINED.search(text) is None:
        return text
    return _JOINED.sub(", ", _PRAISED.sub(r"\1", _FIRST_OF.sub("Ranking: ", text)))


def _number(written: str) -> int:
    """A number below 100 in digits or in Chinese numerals; 0 for another text."""
    if written.isdigit():
        return int(written)
    tens, ten, ones = written.rpartition(_HAN[9])
    if len(tens) > 1 or len(ones) > 1:
        return 0
    return ((_HAN.index(tens) + 1 if tens else 1) * 10 if ten else 0) + (_HAN.index(ones) + 1 if ones else 0)


def _tied(found: re.Match[str]) -> str:
    first, last = int(found[1]), int(found[2])
    return " = ".join(f"[{i}]" for i in range(first, last + 1)) if first < last < first + 100 else found[0]


def _without_tables(text: str) -> str:
    """The text with every table of places and labels as a numbered list."""
    kept: list[str] = []
    table: list[str] = []
    for line in [*text.split("\n"), ""]:
        if re.match(r"[^\w|]{0,4}\|", line):
            table.append(line)
            continue
        kept += (_listed(table) or table) if table else []
        table = []
        kept.append(line)
    return "\n".join(kept[:-1])


def _listed(table: Sequence[str]) -> list[str]:
    """The rows of a table as a numbered list; empty if it has no column of places and labels, or odd ones."""
    rows = [[cell.strip() for cell in line[line.index("|") :].strip().strip("|").split("|")] for line in table]
    rows = [row for row in rows if not all(re.fullmatch(r":?-{2,}:?", cell) for cell in row)]
    place = next((at for at, cell in enumerate(rows[0]) if _PLACE_HEAD.fullmatch(cell.strip("* "))), None)
    label = next((at for at, cell in enumerate(rows[0]) if at != place and _LABEL_HEAD.search(cell)), None)
    if place is None or label is None:
        return []
    found: dict[int, str] = {}
    for row in rows[1:]:
        known = re.fullmatch(_LABEL, row[label]) if max(place, label) < len(row) else None
        number = row[place].strip("*. #") if known is not None else ""
        if known is None or not number.isdigit() or int(number) in found:
            return []
        found[int(number)] = known["label"]
    return _numbered(found) if sorted(found) == list(range(1, len(found) + 1)) else []


def _without_places(text: str, labels: Sequence[str]) -> str:
    """The text with places that are given to every label as a numbered list."""
    runs: list[list[re.Match[str]]] = []
    for found in _PLACE_OF.finditer(text):
        if not runs or not _BETWEEN.fullmatch(text, runs[-1][-1].end(), found.start()):
            runs.append([])
        runs[-1].append(found)
    for run in runs:
        places = {_place(one): one["label"] or one["labelled"] for one in run} if len(run) == len(labels) else {}
        if sorted(places) == list(range(1, len(labels) + 1)) and set(places.values()) == set(labels):
            listed = "\n".join(_numbered(places))
            return f"{text[: run[0].start()]}\n{listed}\n{text[run[-1].end() :]}"
    return text


def _place(found: re.Match[str]) -> int:
    if found["ordinal"] is None:
        return int(found["after"] or found["number"])
    digits = re.match(r"\d+", found["ordinal"])
    return int(digits[0]) if digits is not None else ORDINAL_WORDS.index(found["ordinal"].lower()) + 1


def _numbered(places: dict[int, str]) -> list[str]:
    return [f"{place}. [{places[place]}]" for place in sorted(places)]
