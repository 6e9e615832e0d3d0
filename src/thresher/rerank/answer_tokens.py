"""The tokens of a model's answer: labels as they are written, signs of order, ends of lines, words."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

NOUN = (
    r"(?:passage|document|doc|text|snippet|candidate|item|option|identifier|id|result|entry|paragraph|article|absatz|"
    r"dokument|pasaje|passaggio|passagem|пассаж|документ|段落|文档|文書|문서|(?-i:[PD](?=\d)))"
)
NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
ORDINAL_WORDS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
).split()

_GT = r"(?:-{1,2}|=)?>{1,3}=?|[≻≥→»⇒➔➜⟩]|\\(?:succ|gt)\b"

_LT = r"<{1,3}[=-]{0,2}|[≺≤←]|\\(?:prec|lt)\b"


class Token(NamedTuple):
    """A token: its kind, the label it is (or its text), and where it is in the answer."""

    kind: str
    label: str
    start: int
    end: int


def canonical(raw: str) -> str:
    """A label as it is shown: numbers without leading zeros, letters as capitals."""
    return (raw.lstrip("0") or "0") if raw.isdigit() else raw.upper() if len(raw) == 1 else raw


def label_of(found: re.Match[str]) -> str:
    """The label in a token, or its text."""
    inner = (found[name] for name in ("l1", "l2", "l3", "l4", "l5") if found[name] is not None)
    return canonical(next(inner, found[0]))


@lru_cache(maxsize=2)
def token_pattern(letters: bool, /) -> re.Pattern[str]:
    """The pattern of a token. Every part of it is of bounded length, so reading takes linear time."""
    any_case = "[A-Za-z]" if letters else r"\d{1,18}"
    after_noun = "[A-Z]" if letters else r"\d{1,18}"
    named = rf"(?:(?i:{NOUN})[ _#:.-]{{0,3}})?{any_case}"
    quoted = rf"(?:[\"'`]\[?{named}\]?[\"'`]|{named})"
    bare = (
        r"(?<![\w'’.$€£%/+-])[A-Za-z](?![\w'’/-])"
        if letters
        else r"(?<![\w.$€£%/+-])\d{1,18}(?![\w%/]|\.\d|,\d{3}(?!\d))"
    )
    noun = rf"(?<!\w)(?i:{NOUN})(?:[ _]?(?i:id|number|no)\b\.?)?[ _#:.*-]{{0,4}}[\[(]?#?"
    ranked = r"(?i:rank|place|position|platz|top|no\.|nr\.|№)[ #]{0,2}"
    parts = {
        "array": rf"\[\s{{0,2}}{quoted}(?:\s{{0,2}},\s{{0,2}}{quoted})+,?\s{{0,2}}\]",
        "bracket": rf"\[\s?(?:(?i:{NOUN})[ _#:.-]{{0,3}})?#?(?P<l1>{any_case})\s?\]|(?<![\w.,$-])(?P<l2>{any_case})\]",
        "noun": rf"{noun}(?P<l3>{after_noun})[\])]?(?![\w%]|\.\d)",
        "ordinal": rf"(?<![\w.])(?:{ranked}(?P<l4>\d{{1,3}})|(?P<l5>\d{{1,3}})(?:st|nd|rd|th)(?: place)?)(?!\w)",
        "bare": bare,
        **({"number": r"(?<![\w.])\d{1,3}(?![\w%]|\.\d)"} if letters else {}),
        "gt": _GT,
        "lt": _LT,
        "eq": r"={1,3}",
        "nl": r"\n",
        "comma": r"[,;、]",
        "stop": r"[.:!?。]",
        "word": r"\w+(?:['’-]\w+)*",
        "other": r"\S",
    }
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in parts.items()))
