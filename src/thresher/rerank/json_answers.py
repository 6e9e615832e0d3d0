"""Read an order or a choice from an answer that is JSON.

An order is the only list of ids in it, or an object that maps every label to its place. Lists and objects under keys
such as "scores" or "excluded" are not ids, and a list of objects counts only where the numbers beside the ids, ranks or
scores, agree with its order.
"""

from __future__ import annotations

import ast
import json
import re
from itertools import islice
from typing import TYPE_CHECKING

from thresher.rerank.answer_tokens import NOUN, ORDINAL_WORDS
from thresher.rerank.final_order import stated_order
from thresher.rerank.wording import WORST_FIRST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thresher.rerank.labelled_text import LabelTiers


_NOT_IDS = re.compile(
    r"score|rating|grade|relevance(?!.*(?:rank|order))|probab|confiden|places|positions|\branks\b|_(?:each|every)_|\bper_|"
    r"not_|irrelevan|exclud|reject|input|original|initial|query|error|example|fact",
    re.IGNORECASE,
)

_IDS = re.compile(
    r"\A\Z|rank|order|sort|answer|result|permut|passage|document|\bids?\b|_ids?\b|identifier|list|sequence|output|response|"
    r"top|best|relevant|item|data",
    re.IGNORECASE,
)

_DOCUMENT = re.compile(r"\{|\[(?=\s{0,20}[{\"'])")

_STRUCTURE = re.compile(r"[\[\]{}]|\"(?:[^\"\\\n]|\\.)*\"|(?<=[\[{,:\s])'(?:[^'\\\n]|\\.)*'(?=\s{0,20}[\]},:])")

_LONGEST_LITERAL, _MOST_BRACKETS, _MOST_DOCUMENTS = 20_000, 400, 16

_PLACE_KEY = re.compile(
    rf"(?P<word>(?:rank|place|position|top|no|number|choice)\W?_?)?(?P<number>\d{{1,3}})(?P<end>st|nd|rd|th)?|"
    rf"(?P<name>{'|'.join(ORDINAL_WORDS)})",
    re.IGNORECASE,
)

_PLACES = re.compile(r"rank|place|position|order|answer|result|output|response", re.IGNORECASE)

_SCORED = re.compile(r"score|rating|grade|relevance(?!.*rank)|probab|confiden|points", re.IGNORECASE)

_RANKED = re.compile(r"rank|order|sort|answer|result|output|permutation|best_(?:to|first)", re.IGNORECASE)

_ID_KEYS = (
    "id",
    "identifier",
    "passage",
    "passage_id",
    "document",
    "document_id",
    "doc",
    "doc_id",
    "docid",
    "label",
    "index",
)

_RANK_KEY = re.compile(r"rank|place|position|order", re.IGNORECASE)

_SCORE_KEY = re.compile(r"score|relevan|rating|grade|confiden|probab|label_value", re.IGNORECASE)

_AGAINST = re.compile(
    r"worst|reject|less|least|loser|not_|irrelevan|unrelated|eliminat|exclud|discard|wrong", re.IGNORECASE
)

_FOR = re.compile(r"relevan|answer|useful|helpful|match|verdict|judg|decision|label|result|output", re.IGNORECASE)


def parsed(text: str) -> object:
    """The decoded text, also with single quotes and a comma too many as in Python; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > _LONGEST_LITERAL or text.count("[") + text.count("{") > _MOST_BRACKETS:
        return None
    try:
        found: object = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, list | dict) else None


def documents(text: str) -> tuple[list[object], str]:
    """The JSON documents in a text that are more than a list of numbers, and the text without them."""
    found: list[object] = []
    kept: list[str] = []
    start = 0
    for opening in islice(_DOCUMENT.finditer(text), _MOST_DOCUMENTS):
        if opening.start() < start:
            continue
        end = _closing(text, opening.start())
        document = parsed(text[opening.start() : end]) if end else None
        if document is not None:
            kept.append(text[start : opening.start()])
            found.append(document)
            start = end
    return found, "\n".join([*kept, text[start:]])


def _closing(text: str, start: int) -> int:
    """The end of the object or list that opens there, 0 if it has none."""
    depth = 0
    for sign in _STRUCTURE.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(sign[0], 0)
        if depth == 0:
            return sign.end()
    return 0


def order_in_json(document: object, labels: Sequence[str]) -> LabelTiers:
    """The order in a JSON answer: the only list of ids in it, a place for every label, or one text."""
    lists: list[tuple[str, LabelTiers]] = []
    texts: list[tuple[str, str]] = []
    measured = False
    for key, value in _walk(document):
        if value is None and _RANKED.search(key):
            return ()  # there should be a ranking, and is none
        if WORST_FIRST.search(key.replace("_", " ")) or (isinstance(value, str) and WORST_FIRST.search(value)):
            return ()
        if isinstance(value, dict) and {_label(name, labels) for name in value} == set(labels):
            places = {_label(name, labels): place for name, place in value.items()}
            if _SCORED.search(key) or (key and (not _PLACES.search(key) or _turns_round(value, places))):
                return ()
            lists.append((key, _from_places(places, labels)))
        elif isinstance(value, dict) and (tiers := _from_place_keys(value, labels)):
            lists.append((key or "rank", tiers))
        elif isinstance(value, list) and _NOT_IDS.search(key):
            measured = True
        elif isinstance(value, list) and _IDS.search(key) and (tiers := _from_list(value, labels, key)):
            lists.append((key, tiers))
        elif isinstance(value, str) and _RANKED.search(key):
            texts.append((key, value))
    if len(lists) > 1 or measured:  # "passages" beside "ranks" may be in the order shown
        lists = [one for one in lists if _RANKED.search(one[0])]
    if len(lists) == 1:
        tiers = lists[0][1]
        zero = any("0" in tier for tier in tiers) and "0" not in labels
        flat = [label for tier in tiers for label in tier]
        named = lists[0][0] and not _RANKED.search(lists[0][0]) and flat == [one for one in labels if one in flat]
        return () if zero or named or len(flat) < 2 else tiers
    return stated_order(texts[0][1], labels) if not lists and len(texts) == 1 else ()


def _walk(document: object) -> Iterator[tuple[str, object]]:
    """Every list, object and text of a JSON document with its key, also in JSON inside a text; lists not entered."""
    waiting: list[tuple[str, object]] = [("", document)]
    decoded = 0
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str) and value.lstrip().startswith(("{", "[")) and decoded < 4:
            decoded += 1
            inner = parsed(value)
            value = inner if isinstance(inner, dict) or (isinstance(inner, list) and len(inner) > 1) else value
        yield key, value
        if isinstance(value, dict):
            waiting.extend((str(name), inner) for name, inner in value.items())
        elif isinstance(value, list) and not key and len(value) == 1:
            waiting.append(("", value[0]))


def _from_list(listed: list[object], labels: Sequence[str], key: str) -> LabelTiers:
    """The ids of a JSON list of ids, of tied ids, or of objects with an id; empty if it is something else."""
    if listed and all(isinstance(item, dict) for item in listed):
        listed = _from_objects(listed, key)  # type: ignore[arg-type]  # checked
    groups = [item if isinstance(item, list) else [item] for item in listed]
    tiers = [tuple(_label(item, labels) for item in group) for group in groups]
    flat = [label for tier in tiers for label in tier]
    nested = any(isinstance(item, list) for item in listed)
    if "" in flat or () in tiers or (nested and len(set(flat)) < len(flat)):
        return ()
    return tuple(tiers)


def _from_objects(listed: list[dict[str, object]], key: str) -> list[object]:
    """The ids of objects in the order of their ranks or as listed; empty if ranks or scores contradict that."""
    keys = {str(one).casefold(): one for one in listed[0]}
    name = next((keys[one] for one in _ID_KEYS if one in keys), None)
    if name is None or not all(name in item for item in listed):
        return []
    others = {str(one): [item.get(one) for item in listed] for one in listed[0] if one != name}
    score = next(
        (values for one, values in others.items() if _SCORE_KEY.search(one) and not _RANK_KEY.search(one)), None
    )
    ranks = next((values for one, values in others.items() if _RANK_KEY.search(one)), None)
    if ranks is not None:
        if sorted(ranks, key=str) != sorted(range(1, len(ranks) + 1), key=str):
            return []
        rank = dict(zip(map(id, listed), ranks, strict=True))
        listed = sorted(listed, key=lambda item: rank[id(item)])  # type: ignore[arg-type,return-value]  # integers
    elif score is not None:
        if not all(type(one) in (int, float) for one in score) or score != sorted(score, reverse=True):  # type: ignore[type-var]
            return []
    elif others and (shown := [str(item[name]) for item in listed]) == sorted(shown, key=lambda one: (len(one), one)):
        return []  # an account of the passages as shown
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


def _from_place_keys(document: dict[str, object], labels: Sequence[str]) -> LabelTiers:
    """The order of an object from places to labels ("rank_1", "1st", "first"); empty for other keys."""
    found: dict[int, str] = {}
    for key, value in document.items():
        place = _PLACE_KEY.fullmatch(str(key))
        plain = place is not None and not (place["word"] or place["end"] or place["name"])
        label = _label(value, labels)
        if place is None or not label or (plain and labels[0].isdigit()):
            return ()
        found[int(place["number"] or ORDINAL_WORDS.index(place["name"].lower()) + 1)] = label
    ordered = sorted(found) == list(range(1, len(found) + 1)) and len(set(found.values())) == len(document)
    return tuple((found[place],) for place in sorted(found)) if ordered else ()


def _turns_round(written: dict[str, object], places: dict[str, object]) -> bool:
    """Whether an object under a key could as well map each place to a passage, and say another order then."""
    return all(str(name).isdigit() for name in written) and any(
        type(place) is int and places.get(str(place)) != int(label)
        for label, place in places.items()
        if label.isdigit()
    )


def _from_places(places: dict[str, object], labels: Sequence[str]) -> LabelTiers:
    """The order of an object that maps every label to its place from 1, equal places tied; empty for other numbers."""
    numbers = {place for place in places.values() if type(place) is int and 1 <= place <= len(labels)}
    if 1 not in numbers or not numbers.issuperset(places.values()):
        return ()
    tiers: dict[int, list[str]] = {}
    for label in labels:
        tiers.setdefault(places[label], []).append(label)  # type: ignore[arg-type]  # checked
    return tuple(tuple(tiers[place]) for place in sorted(tiers))


def choice_in_json(document: object, known: dict[str, str]) -> str | None:
    """The only value of a JSON answer that is a label; true and false are yes and no."""
    pairs = list(document.items()) if isinstance(document, dict) else [("answer", document)]
    if isinstance(document, list):
        pairs = [("answer", item) for item in document]
    pairs = [(key, value) for key, value in pairs if not _AGAINST.search(str(key))]
    said = {str(value).strip(" []").casefold() for key, value in pairs if not isinstance(value, bool)}
    said.update("yes" if value else "no" for key, value in pairs if isinstance(value, bool) and _FOR.search(str(key)))
    found = {known[one] for one in said if one in known}
    return found.pop() if len(found) == 1 else None
