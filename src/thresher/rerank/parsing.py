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
3. An answer that is JSON, or prose around one JSON object, is read as JSON: the only list of ids in it, or an object
   that maps every label to its place. Lists under keys such as "scores" are not ids.
4. Everything else is text: `thresher.rerank.statements` says what a ranking is in it, and which of several counts.

A *choice* is the label that the answer consists of, begins or ends with, the one it announces ("the answer is B"), or
the only one that it names, unless the sentence denies it. "A" and "I" in a sentence are words, not labels.

Repair is the same for all orders: repeated and unknown ids are dropped, and ids that were not named are appended in the
order shown. An answer that cannot be read is not repaired: it is None, no information, since a wrong order is worse.
Repairs are counted by kind: `duplicate`, `missing`, `unknown`, `format` (anything around the ids except ` > `).

Reading takes time linear in the length of the answer. An answer beyond a million characters, or beyond a hundred
thousand without its reasoning, is not read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.rerank.plans.plan import Answer
from thresher.rerank.statements import NOUN, LabelTiers, stated_order
from thresher.rerank.unwrapping import answer_of, plain_text, strip_reasoning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LONGEST = 1_000_000  # characters of an answer, reasoning included
LONGEST_RANKING = 100_000  # characters of what is left without reasoning
_CHAIN = re.compile(r"\[\d+\](?: > \[\d+\])*")
_NOT_IDS = re.compile(r"score|rating|grade|relevance|probab|confiden|places|positions|\branks\b", re.IGNORECASE)
_RANKED = re.compile(r"rank|order|sort|answer|result|permutation", re.IGNORECASE)
_ID_KEYS = ("id", "identifier", "passage", "passage_id", "document", "document_id", "doc", "doc_id", "docid", "label")
_RANK_KEYS = ("rank", "place", "position")
_SCORE_KEYS = ("score", "relevance", "relevance_score", "rating", "confidence")
_QUOTES, _QUOTES_END = r"[\"'`*_(\[]{0,3}", r"[\"'`*_)\]]{0,3}"
_ANNOUNCED = (
    r"\b(?:answer|response|choice|pick|choose|chose|select(?:ion)?|winner|verdict|prefer|score|rating|grade)"
    r"(?: is| would be| goes to)?|\b(?:best|pick|choice|choose|relevant|useful)(?: passage| option)? (?:is|would be)"
)
_BETTER = (
    r"(?:is |seems |looks )?(?:clearly |much |slightly |far )?"
    r"(?:better|more relevant|stronger|preferable|more useful|more helpful)"
)
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|cannot|wrong|incorrect|irrelevant|worse|worst|less|least|unlike)\b|n['\u2019]t\b",
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
            tiers.append(tuple(kept))
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
    if text.startswith(("{", "[", '"')) and (document := _json(text)) is not None:
        return _chosen_in_json(document, known)
    letters = all(len(label) == 1 and label.isalpha() for label in labels)
    one = "|".join(re.escape(label) for label in labels)
    written = one if letters else f"(?i:{one})"  # in a sentence "a" is a word
    scale = r"(?:\s?/\s?\d+|\s?out of \d+)?"
    label = rf"{_QUOTES}(?:(?i:{NOUN})\s?)?{_QUOTES}(?P<label>{written}){scale}{_QUOTES_END}"
    if (whole := re.fullmatch(rf"(?i:(?:the )?{label})\s?[.!]?", text)) is not None:
        return known[whole["label"].casefold()]
    ends = r"(?=\s?(?:[.,;:!)\n]|\Z|[-\u2013\u2014]\s|because|since|as\b))(?![.,]\d)"
    said = re.compile(rf"(?i:{_ANNOUNCED})\s?[:=]?\s?(?i:(?:the |would be |is ){{0,2}}){label}{ends}")
    sayings = [*said.finditer(text), *re.finditer(rf"(?:[.!?]\s|\n)\s?{label}\s?[.!]?\Z", text)]
    announced = {known[found["label"].casefold()] for found in sayings if not _denied(text, found)}
    if announced:
        return announced.pop() if len(announced) == 1 else None
    if (first := re.match(rf"{label}(?=\s?[.,;:!)\n]|\s[-\u2013\u2014]\s)(?![.,]\d)", text)) is not None:
        chosen = known[first["label"].casefold()]
        named = {known[raw.casefold()] for raw in re.findall(rf"(?<!\w){written}(?!\w)", text[first.end() :])}
        return chosen if not named - {chosen, "A", "I"} and not (letters and _denied(text, first)) else None
    return _only_named(text, known) if letters else None


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
    if body.startswith(("{", "[")) and (document := _json(body)) is not None:
        return _from_json(document, labels)
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end and (document := _json(text[start : end + 1])) is not None:
        around = stated_order(f"{text[:start]}\n{text[end + 1 :]}", labels)
        found = _from_json(document, labels)
        return found if around in ((), found) else ()
    return stated_order(text, labels)


def _json(text: str) -> object:
    """The decoded text, None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_json(document: object, labels: Sequence[str]) -> LabelTiers:
    """The order in a JSON answer: the only list of ids in it, a place for every label, or one text."""
    lists: list[tuple[str, LabelTiers]] = []
    texts: list[tuple[str, str]] = []
    for key, value in _walk(document):
        if isinstance(value, dict) and {_label(name, labels) for name in value} == set(labels):
            lists.append((key, _from_places({_label(name, labels): place for name, place in value.items()}, labels)))
        elif isinstance(value, list) and not _NOT_IDS.search(key) and (tiers := _from_list(value, labels)):
            lists.append((key, tiers))
        elif isinstance(value, str) and _RANKED.search(key):
            texts.append((key, value))
    if len(lists) > 1:
        lists = [one for one in lists if _RANKED.search(one[0])]
    if len(lists) == 1:
        tiers = lists[0][1]
        zero = any("0" in tier for tier in tiers) and "0" not in labels
        return () if zero or sum(map(len, tiers)) < 2 else tiers
    return stated_order(texts[0][1], labels) if not lists and len(texts) == 1 else ()


def _walk(document: object) -> Iterator[tuple[str, object]]:
    """Every list, object and text of a JSON document with its key, also in JSON inside a text; lists not entered."""
    waiting: list[tuple[str, object]] = [("", document)]
    decoded = 0
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str) and value.lstrip().startswith(("{", "[")) and decoded < 4:
            decoded += 1
            inner = _json(value)
            value = value if inner is None else inner
        yield key, value
        if isinstance(value, dict):
            waiting.extend((str(name), inner) for name, inner in value.items())
        elif isinstance(value, list) and not key and len(value) == 1:
            waiting.append(("", value[0]))


def _from_list(listed: list[object], labels: Sequence[str]) -> LabelTiers:
    """The ids of a JSON list of ids, of tied ids, or of objects with an id; empty if it is something else."""
    if listed and all(isinstance(item, dict) for item in listed):
        listed = _from_objects(listed)  # type: ignore[arg-type]  # checked
    groups = [item if isinstance(item, list) else [item] for item in listed]
    tiers = [tuple(_label(item, labels) for item in group) for group in groups]
    flat = [label for tier in tiers for label in tier]
    nested = any(isinstance(item, list) for item in listed)
    if "" in flat or () in tiers or (nested and len(set(flat)) < len(flat)):
        return ()
    return tuple(tiers)


def _from_objects(listed: list[dict[str, object]]) -> list[object]:
    """The ids of objects in the order of their ranks or as listed; empty if ranks or scores contradict that."""
    keys = {key.casefold(): key for key in listed[0]}
    name = next((keys[key] for key in _ID_KEYS if key in keys), None)
    rank = next((keys[key] for key in _RANK_KEYS if key in keys), None)
    score = next((keys[key] for key in _SCORE_KEYS if key in keys), None)
    if name is None or not all(name in item for item in listed):
        return []
    if rank is not None:
        ranks = [item.get(rank) for item in listed]
        if sorted(ranks, key=str) != sorted(range(1, len(ranks) + 1), key=str):
            return []
        listed = sorted(listed, key=lambda item: item[rank])  # type: ignore[arg-type,return-value]  # integers
    elif score is not None:
        scores = [item.get(score) for item in listed]
        if not all(type(one) in (int, float) for one in scores) or scores != sorted(scores, reverse=True):  # type: ignore[type-var]
            return []
    return [item[name] for item in listed]


def _label(item: object, labels: Sequence[str]) -> str:
    """The label that a JSON value spells (2, "2", "[2]", "Passage 2"), "" if it is none."""
    if isinstance(item, bool) or not isinstance(item, int | str):
        return ""
    one = r"\d{1,18}" if labels[0].isdigit() else "[A-Za-z]"
    found = re.fullmatch(rf"\s?\[?(?:(?i:{NOUN})[ _#:.-]{{0,3}})?\[?#?({one})\]?\s?", str(item)[:40])
    if found is None:
        return ""
    return (found[1].lstrip("0") or "0") if found[1].isdigit() else found[1].upper()


def _from_places(places: dict[str, object], labels: Sequence[str]) -> LabelTiers:
    """The order of an object that maps every label to its place from 1, equal places tied; empty for other numbers."""
    numbers = {place for place in places.values() if type(place) is int and 1 <= place <= len(labels)}
    if 1 not in numbers or not numbers.issuperset(places.values()):
        return ()
    tiers: dict[int, list[str]] = {}
    for label in labels:
        tiers.setdefault(places[label], []).append(label)  # type: ignore[arg-type]  # checked
    return tuple(tuple(tiers[place]) for place in sorted(tiers))


def _chosen_in_json(document: object, known: dict[str, str]) -> str | None:
    """The only value of a JSON answer that is a label; true and false are yes and no."""
    values = (
        list(document.values())
        if isinstance(document, dict)
        else document
        if isinstance(document, list)
        else [document]
    )
    spelt = {True: "yes", False: "no"}
    said = {(spelt[one] if isinstance(one, bool) else str(one)).strip(" []").casefold() for one in values}
    found = {known[one] for one in said if one in known}
    return found.pop() if len(found) == 1 else None


def _only_named(text: str, known: dict[str, str]) -> str | None:
    """The only letter that the text names as a passage; None if it denies it, or names several without comparing."""
    one = "".join(sorted(known.values()))
    goes_on = r"(?=\s(?:is|was|contains|answers|provides|has|directly|wins)\b|\s(?:and|or|nor|over|than|versus|vs)\b)"
    mentions = re.compile(
        rf"\[\s?(?:(?i:{NOUN})\s)?([{one}{one.lower()}])\s?\]|(?<![\w'\u2019])(?i:{NOUN})\s{_QUOTES}([{one}])"
        rf"(?![\w'\u2019])|[\"'`*]{{1,3}}([{one}])[\"'`*]{{1,3}}|(?<![\w'\u2019])([{one}]){goes_on}"
        rf"|(?<=\b(?:and|nor|han)\s)([{one}])(?![\w'\u2019])|(?<=\bor\s)([{one}])(?![\w'\u2019])"
    )
    found = [one for one in mentions.finditer(text) if not _pronoun(text, one)]
    named = {known[one[one.lastindex or 0].casefold()] for one in found}
    if len(named) == 2:
        return _better(text, "".join(sorted(known.values())))
    return named.pop() if len(named) == 1 and not any(_denied(text, one) for one in found) else None


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
    return _DENIED.search(f"{before} {found[0]} {after}") is not None


def _read_digits(text: str, labels: Sequence[str]) -> LabelTiers:
    return tuple((raw.lstrip("0") or "0",) for raw in re.findall(r"[0-9]+", text))


def _well_formed_otherwise(text: str, labels: Sequence[str]) -> bool:
    """Whether the text is another accepted form: a chain with ties, a chain of letters, a JSON list or object."""
    text = strip_reasoning(text)
    label = r"\[\s?\d+\s?\]" if labels[0].isdigit() else r"\[\s?[A-Z]\s?\]"
    if re.fullmatch(rf"{label}(?:\s?[>=]\s?{label})*", text):
        return True
    body = re.sub(r"\A```\w*\n|\n?```\Z", "", text)
    return body.startswith(("{", "[")) and bool(_from_json(_json(body), labels))


PARSERS = {parser.name: parser for parser in (Parser("brackets-v1", _read_grammar), Parser("digits-v1", _read_digits))}
