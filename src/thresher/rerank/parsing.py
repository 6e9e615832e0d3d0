r"""Read a model's answer: an order, a choice, or nothing.

Parsers have versioned names, because the definition of an id decides the ranking: reading the digits of prose as ids
moves nDCG@10 by five points on recorded answers.

`brackets-v1` (default)
    The grammar below.
`digits-v1`
    Every maximal run of ASCII digits is an id. The recorded runs were made under this rule.

The grammar, from the outside in:

1. *Reasoning* does not count: what stands in a thinking tag of any wrapping (`<think>`, `[THINK]`,
   `<seed:think>`, `<|begin_of_thought|>`), before a closing one without an opening, after an opening one without a
   closing, in other harmony channels than the final one, in a fence labelled so, or under a heading such as
   "Reasoning:". Nothing after the model's own end of turn counts.
2. *Wrappers* are taken off: `<answer>` and its like (the last one), `\boxed{}`, fences, tool calls, HTML and control
   tokens. Digits, brackets and signs of other scripts become ASCII.
3. An answer that is JSON or a Python literal, or prose around it, is read as such: the only list of ids in it, or an
   object that maps every label to its place, or places ("rank_1") to labels. Lists and objects under keys such as
   "scores" or "excluded" are not ids, and a list of objects counts only where the numbers beside the ids, ranks or
   scores, agree with its order.
4. Everything else is text. `thresher.rerank.normal_forms` rewrites tables, places given to labels, ranges and sentences
   as lists and chains, `thresher.rerank.statements` says what a ranking is, and `thresher.rerank.final_order` which of
   several counts.

A *choice* is the label that the answer consists of, begins or ends with, the one it announces ("the answer is B"), or
the only one that it names with praise, unless the sentence denies it, another is named, or the answer refuses or takes
it back. "A" and "I" in a sentence are words, not labels, and "Passage B is about wheat" chooses nothing.

Repair is the same for all orders: repeated and unknown ids are dropped, and ids that were not named are appended in the
order shown; ids that tie stand in the order shown too. An answer that cannot be read is not repaired: it is None, no
information, since a wrong order is worse.
Repairs are counted by kind: `duplicate`, `missing`, `unknown`, `format` (anything around the ids except ` > `).

Reading takes time linear in the length of the answer. An answer beyond a million characters, or beyond a hundred
thousand without its reasoning, is not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.rerank.answer_tokens import NOUN
from thresher.rerank.final_order import stated_order
from thresher.rerank.json_answers import choice_in_json, documents, order_in_json, parsed
from thresher.rerank.plans.plan import Answer
from thresher.rerank.statements import MOST
from thresher.rerank.unwrapping import answer_of, plain_text, strip_reasoning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.rerank.labelled_text import LabelTiers

LONGEST = 1_000_000  # characters of an answer, reasoning included
LONGEST_RANKING = 100_000  # characters of what is left without reasoning
_CHAIN = re.compile(r"\[\d+\](?: > \[\d+\])*")
_QUOTES, _QUOTES_END = r"[\"'`*_(\[]{0,3}", r"[\"'`*_)\]]{0,3}"
_ANNOUNCED = (
    r"\b(?:answer|response|choice|pick|choose|chose|select(?:ion)?|winner|verdict|prefer%s)"
    r"(?: is| would be| goes to)?|\b(?:best|pick|choice|choose|relevant|useful)(?: passage| option| one)?"
    r"(?: (?:is|would be)|(?=\s?[*_]{0,3}:))"
)
_GRADES_ANNOUNCED = "|score|rating|grade"
_BETTER = (
    r"(?:is |seems |looks )?(?:clearly |much |slightly |far )?"
    r"(?:better|more relevant|stronger|preferable|more useful|more helpful)"
)
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|none|nothing|cannot|wrong|incorrect|irrelevant|unrelated|off[- ]topic|worse|worst|"
    r"less|least|weaker|loser|unlike|fail(?:s|ed)?|lack(?:s|ing)?|except|(?:any|every)thing but|eliminat\w+|reject\w*|"
    r"discard\w*|exclud\w+|rule[sd]? out)\b|n['\u2019]t\b|\bwould be\b[^.\n]{0,80}\bif\b",
    re.IGNORECASE,
)
_AFFIRMED = re.compile(
    r"\b(?:best|better|most|more|stronger|wins?|winner|choose|pick|select|prefer|only|directly|definitely|clearly|answers?|"
    r"go with|relevant|useful|helpful|fits?)\b",
    re.IGNORECASE,
)
_REASON = re.compile(r"\b(?:because|since|whereas|unlike|as it)\b")
_REFUSED = re.compile(
    r"\bI(?:['\u2019]m| am) (?:unable|not able|sorry)\b|\bI (?:cannot|can['\u2019]t) (?!be\b)", re.IGNORECASE
)
_RETRACTED = re.compile(
    r"(?:[.!?;,\u2026]\s|\n)\s?(?:(?:no|but|hmm|oh)[, ]{1,2})?"
    r"(?:wait|actually|hmm|correction|on second thought|scratch that)\b",
    re.IGNORECASE,
)
_IRRELEVANT = re.compile(
    r"(?:\bnot|n['\u2019]t)\b[^.\n]{0,40}\b(?:relevant|answer|contain|mention|address)|\birrelevant\b|\bunrelated\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Parser:
    """A named rule that finds labels in a text, given the labels shown."""

    name: str
    read: Callable[[str, Sequence[str]], LabelTiers]


def read_order(text: str, shown: tuple[int, ...], parser: Parser, labels: Sequence[str] = ()) -> Answer | None:
    """Parse the answer to an `Order`.

    Args:
        text: the model's answer.
        shown: the positions in the order they were shown.
        parser: finds the ids.
        labels: the label of each position shown; "1", "2", ... by default.

    Returns:
        the answer with its repairs, or None if it cannot be read.
    """
    labels = labels or [str(i + 1) for i in range(len(shown))]
    position = dict(zip(labels, shown, strict=True))
    repairs: set[str] = set()
    seen: set[str] = set()
    tiers: list[tuple[int, ...]] = []
    for tier in parser.read(text, labels) if labels and len(text) <= LONGEST else ():
        kept = []
        for label in tier:
            if label not in position:
                repairs.add("unknown")
            elif label in seen:
                repairs.add("duplicate")
            else:
                seen.add(label)
                kept.append(position[label])
        if kept:
            tiers.append(tuple(sorted(kept, key=shown.index)))
    if not seen:
        return None
    missing = [position[label] for label in labels if label not in seen]
    if missing:
        repairs.add("missing")
    if not _CHAIN.fullmatch(text.strip()) and not _well_formed_otherwise(text, labels):
        repairs.add("format")
    return Answer((*tiers, *((item,) for item in missing)), named=len(seen), repairs=tuple(sorted(repairs)))


def read_choice(text: str, labels: Sequence[str]) -> str | None:
    """The label that the answer to a `Best`, `Prefer` or written `Rate` chooses, None if it names none or several.

    Args:
        text: the model's answer.
        labels: capital letters, grades, or words such as "yes" and "no".
    """
    text = plain_text(answer_of(text)).strip() if len(text) <= LONGEST else ""
    if not text or len(text) > LONGEST_RANKING:
        return None
    known = {label.casefold(): label for label in labels}
    if text.startswith(("{", "[", '"')) and (document := parsed(text)) is not None:
        return choice_in_json(document, known)
    letters = all(len(label) == 1 and label.isalpha() for label in labels)
    one = "|".join(re.escape(label) for label in labels)
    written = one if letters else f"(?i:{one})"  # in a sentence "a" is a word
    scale = rf"(?:\s?(?:/|out of)\s?{re.escape(labels[-1])}(?!\d))?" if labels[-1].isdigit() else ""
    label = rf"{_QUOTES}(?:(?i:{NOUN})\s?)?{_QUOTES}(?P<label>{written}){scale}{_QUOTES_END}"
    if (whole := re.fullmatch(rf"(?i:(?:the )?{label})\s?[.!]?", text)) is not None:
        return known[whole["label"].casefold()]
    return _label_in_text(text, known, label, written)


def _label_in_text(text: str, known: dict[str, str], label: str, written: str) -> str | None:
    """The label that sentences announce, begin with, or praise.

    Args:
        text: an answer that is more than a label.
        known: the labels by their spelling in lower case.
        label: the pattern of a label with quotes and a noun around it.
        written: the pattern of a label.
    """
    letters = not written.startswith("(")
    another = rf"\s?[,;/&+]\s?(?i:(?:and|or|maybe|possibly)\s){{0,2}}{_QUOTES}(?:{written}){_QUOTES_END}(?!\w)"
    ends = rf"(?=\s?(?:[.,;:!)\n]|\Z|[-\u2013\u2014]\s|because|since|as\b))(?![.,]\w|\.\s[a-z\d]|{another})"
    announced = _ANNOUNCED % ("" if letters else _GRADES_ANNOUNCED)
    said = re.compile(
        rf"(?i:{announced})[*_]{{0,3}}\s?[:=]?[*_]{{0,3}}\s?(?i:(?:the |would be |is ){{0,2}}){label}{ends}"
    )
    last = re.finditer(rf"(?:(?<=\w\w\w)[\"')*\]]{{0,3}}[.!?]\s|\n)\s?{label}\s?[.!]?\Z", text)
    sayings = [found for found in (*said.finditer(text), *last) if not _denied(text, found)]
    chosen = {known[found["label"].casefold()] for found in sayings}
    first = re.match(rf"{label}(?=\s?[.,;:!)\n]|\s[-\u2013\u2014]\s)(?![.,]\w|\.\s\d|{another})", text)
    if not chosen and first is None:
        return _only_named(text, known) if letters else None
    if _REFUSED.search(text) or _RETRACTED.search(text):
        return None
    if chosen:
        if first is not None and re.match(r"[,!\n]|\.\n", text[first.end() :].lstrip(" ")):
            chosen.add(known[first["label"].casefold()])
        return chosen.pop() if len(chosen) == 1 else None
    return None if first is None else _first_named(text, first, known, written, letters=letters)


def _first_named(text: str, first: re.Match[str], known: dict[str, str], written: str, *, letters: bool) -> str | None:
    """The label that an answer begins with, unless what follows names another, or says the opposite."""
    chosen, rest = known[first["label"].casefold()], text[first.end() :]
    if re.match(r"\W*(?:because|since)\b", rest) and not letters:
        return chosen
    named = {known[raw.casefold()] for raw in re.findall(rf"(?<!\w){written}(?!\w)", rest)}
    if named - {chosen, "A", "I"} and not re.match(r"\W*(?:because|since)\b", rest):
        return None
    if chosen.casefold() == "yes" and _IRRELEVANT.search(rest):
        return None
    described = first[0].strip("\"'`*_([")[:1] != first["label"] and rest.startswith(":")  # "Passage A: about wheat"
    if letters and (_denied(text, first) or (described and not _AFFIRMED.search(rest.split("\n")[0]))):
        return None
    return chosen


def label_letters(count: int) -> list[str]:
    """The labels A, B, C ... for at most 26 passages.

    Raises:
        InputError: count is above 26.
    """
    if count > 26:
        raise InputError(f"{count} passages cannot be labelled with single letters; show at most 26, or use numbers")
    return [chr(ord("A") + i) for i in range(count)]


def get_parser(name: str) -> Parser:
    """The parser with that name.

    Raises:
        InputError: there is none.
    """
    try:
        return PARSERS[name]
    except (KeyError, TypeError):
        raise InputError(f"unknown parser {name!r}; choose one of {', '.join(PARSERS)}") from None


def _read_grammar(text: str, labels: Sequence[str]) -> LabelTiers:
    text = plain_text(answer_of(text)).strip()
    if len(text) > LONGEST_RANKING:
        return ()
    body = text.strip("` \n")
    if body.startswith(("{", "[")) and (document := parsed(body)) is not None:
        return order_in_json(document, labels)
    found, prose = documents(text)
    if not found:
        return stated_order(text, labels)
    orders = {order_in_json(document, labels) for document in found}
    around = stated_order(prose, labels)
    order = orders.pop()
    return order if not orders and around in ((), order) else ()


def _only_named(text: str, known: dict[str, str]) -> str | None:
    """The only letter that the text names as a passage; None if it denies it, or names several without comparing."""
    one = "".join(sorted(known.values()))
    goes_on = r"(?=\s(?:is|was|contains|answers|provides|has|directly|wins)\b|\s(?:and|or|nor|over|than|versus|vs)\b)"
    mentions = re.compile(
        rf"\[\s?(?:(?i:{NOUN})\s)?([{one}{one.lower()}])\s?\]|(?<![\w'\u2019])(?i:{NOUN})\s{_QUOTES}([{one}])"
        rf"(?![\w'\u2019])|[\"'`*]{{1,3}}([{one}])[\"'`*]{{1,3}}|(?<![\w'\u2019])([{one}]){goes_on}"
        rf"|(?:(?<=\band\s)|(?<=\bnor\s)|(?<=\bthan\s))([{one}])(?![\w'\u2019])|(?<=\bor\s)([{one}])(?![\w'\u2019])"
    )
    found = [one for one in islice(mentions.finditer(text), MOST) if not _pronoun(text, one)]
    named = {known[one[one.lastindex or 0].casefold()] for one in found}
    if len(named) == 2:
        return _better(text, "".join(sorted(known.values())))
    if len(named) != 1 or len(found) == MOST or _REFUSED.search(text) or any(_denied(text, one) for one in found):
        return None
    others = set(re.findall(rf"(?<![\w'\u2019])[{one}](?=[.,;:!?)]|\s\w+s\b|\s?\Z)", text)) - named
    return named.pop() if not others and all(_AFFIRMED.search(_sentence(text, one)) for one in found) else None


def _pronoun(text: str, found: re.Match[str]) -> bool:
    """Whether "I" or "A" begins a clause: "the passage I would pick"."""
    clause = re.match(r"\s(?!is\b|was\b|and\b|or\b|over\b|than\b)\w", text[found.end() : found.end() + 9])
    return found[found.lastindex or 0] in ("A", "I") and found.lastindex not in (1, 3) and clause is not None


def _better(text: str, letters: str) -> str | None:
    """The winner of the only comparison in the text, "B is better than A"."""
    one = rf"(?:(?i:{NOUN})\s)?{_QUOTES}([{letters}]){_QUOTES_END}"
    found = re.findall(rf"(?<!\w){one}\s{_BETTER}(?: to [^.\n]{{0,60}}?)? than (?:the )?{one}(?!\w)", text)
    others = re.findall(rf"(?<![\w'\u2019])[{letters}](?![\w'\u2019])", text)
    return found[0][0] if len(found) == 1 and len(others) == 2 and not _DENIED.search(text) else None


def _denied(text: str, found: re.Match[str]) -> bool:
    """Whether the sentence around a label denies it."""
    before = re.split(r"[.!?\n]\s|\n", text[max(0, found.start() - 300) : found.start()])[-1]
    after = re.split(r"[.!?](?:\s|\Z)|\n", text[found.end() : found.end() + 300])[0]
    return _DENIED.search(f"{before} {found[0]} {_REASON.split(after, maxsplit=1)[0]}") is not None


def _sentence(text: str, found: re.Match[str]) -> str:
    """The sentence around a label; empty if it ends in `?`."""
    before = re.split(r"[.!?\n]\s|\n", text[max(0, found.start() - 300) : found.start()])[-1]
    after = re.match(r"(?s)(.*?)([.!?](?=\s|\Z)|\n|\Z)", text[found.end() : found.end() + 300])
    return "" if after is None or after[2] == "?" else f"{before} {after[1]}"


def _read_digits(text: str, labels: Sequence[str]) -> LabelTiers:
    return tuple((raw.lstrip("0") or "0",) for raw in re.findall(r"[0-9]+", text))


def _well_formed_otherwise(text: str, labels: Sequence[str]) -> bool:
    """Whether the text is another accepted form: a chain with ties, a chain of letters, a JSON list or object."""
    text = strip_reasoning(text)
    label = r"\[\s?\d+\s?\]" if labels[0].isdigit() else r"\[\s?[A-Z]\s?\]"
    if re.fullmatch(rf"{label}(?:\s?[>=]\s?{label})*", text):
        return True
    body = re.sub(r"\A```\w*\n|\n?```\Z", "", text)
    return body.startswith(("{", "[")) and bool(order_in_json(parsed(body), labels))


PARSERS = {parser.name: parser for parser in (Parser("brackets-v1", _read_grammar), Parser("digits-v1", _read_digits))}
