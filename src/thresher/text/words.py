"""Words of a text by the word boundaries of Unicode Standard Annex #29, as Lucene's StandardTokenizer cuts them.

A token is what annex 29 keeps together (rules WB5 to WB13b) and that holds at least one letter or digit: `don't`,
`U.S.A`, `3.14`, `foo_bar`, a run of Hangul or Katakana. Beyond the annex, as Lucene does it: each Han and Hiragana
character is a token, so is a run of a script written without spaces (Thai, Lao, Khmer, Myanmar) and an emoji sequence.
Everything else (punctuation, symbols, spaces) separates tokens. No token is read further
than 255 characters from its start; what remains is read anew.

Text of Latin letters and common punctuation takes a shorter road: there the rules come down to one small expression.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TOKEN = 255
"""The most characters of a token."""

_LETTER = "A-Za-zªµºÀ-ÖØ-öø-\u024f"
_COMMON = re.compile("[\x00-\xa8\xaa-\xac\xaf-\u024f\u2010-\u2026\u2030-\u2038\u20a0-\u20b5]*")
"""Basic Latin to Latin Extended-B and the usual quotes, dashes and currency signs, without ©, ® and the soft hyphen."""
_LATIN = re.compile(
    f"[{_LETTER}0-9_]+(?:[:;,.'·\u2018\u2019\u2024]"
    f"(?:(?<=[{_LETTER}][:.'·\u2018\u2019\u2024])(?=[{_LETTER}])|(?<=[0-9][,;.'\u2018\u2019\u2024])(?=[0-9]))"
    f"[{_LETTER}0-9_]+)*"
)
_REACH = 4 * MAX_TOKEN  # how far a token's start is looked for at once: bounds the work on endless tokens
_SPACES = re.compile("[ \t\r\n]+")
_PICTOGRAPHS = (
    "\u2388\u2605\u2607-\u2612\u2616-\u2685\u2690-\u2701\u2703-\u2704\u270e\u2710\u2711\u2765-\u2767"
    "\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f\U0001f16c-\U0001f16f\U0001f1ad\U0001f260-\U0001f265"
    "\U0001f300-\U0001f3fa\U0001f400-\U0001f5ff\U0001f680-\U0001f6ff\U0001f7d5-\U0001f7ff\U0001fa00-\U0001fa6d"
)
"""Symbols that Unicode counted among the pictographs when Lucene's tables were made and has since taken out."""


def words(text: str) -> list[str]:
    """The tokens of `text` in order, as they stand there."""
    if text.isascii() or _COMMON.fullmatch(text):
        found = _tokens(text, _LATIN)
    else:  # no token reaches over these spaces, so each piece may take its own road
        found = []
        for piece in _SPACES.split(text):
            found += _tokens(piece, _LATIN if _COMMON.fullmatch(piece) else _unicode())
    if "_" in text:
        return [token for token in found if token.strip("_")]  # underscores join words, they are none
    return found


def _tokens(text: str, rules: Any) -> list[str]:
    found: list[str] = rules.findall(text)
    if len(text) > MAX_TOKEN and max(map(len, found), default=0) > MAX_TOKEN:
        return list(_in_windows(text, rules))
    return found


def _in_windows(text: str, rules: Any) -> Iterator[str]:
    """The tokens of `text`, none read further than MAX_TOKEN characters from its start."""
    at = 0
    while at < len(text):
        begun = rules.search(text, at, at + _REACH)
        found = rules.match(text, begun.start(), begun.start() + MAX_TOKEN) if begun else None
        if found:
            yield found[0]
            at = found.end()
        else:
            at += _REACH - 4  # an emoji sequence that the reach cut is found from there


@cache
def _unicode() -> Any:
    """The whole rule set; compiled when the first text beyond ASCII comes, since that takes a while."""
    import regex

    ignored = r"[\p{WB=Format}\p{WB=Extend}\p{WB=ZWJ}]*+"
    letter = rf"(?:[[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]--[\p{{LB=SA}}¸]]{ignored})"
    digit = rf"(?:\p{{WB=Numeric}}{ignored})"
    kana = rf"(?:\p{{WB=Katakana}}{ignored})"
    joiner = rf"(?:\p{{WB=ExtendNumLet}}{ignored})"
    in_word = rf"(?:[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{ignored})"
    in_number = rf"(?:[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{ignored})"
    double_quote = rf"(?<=\p{{WB=Hebrew_Letter}}{ignored[:-1]})\"{ignored}(?=\p{{WB=Hebrew_Letter}})"
    hebrew_quote = rf"(?<=\p{{WB=Hebrew_Letter}}{ignored[:-1]})\p{{WB=Single_Quote}}{ignored}"
    word = rf"{letter}(?:(?:{in_word}|{double_quote})?{letter})*(?:{hebrew_quote})?"
    number = rf"{digit}(?:{in_number}?{digit})*"
    run = rf"(?:(?:{word}|{number})+|{kana}+)"
    flag = rf"\p{{WB=Regional_Indicator}}{ignored}"
    pictograph = rf"[[\p{{ExtPict}}\p{{Emoji_Presentation}}{_PICTOGRAPHS}]--\p{{WB=Regional_Indicator}}]{ignored}"
    return regex.compile(
        rf"(?V1){joiner}*{run}(?:{joiner}+{run})*{joiner}*|\p{{LB=SA}}[\p{{LB=SA}}\p{{WB=Format}}\p{{WB=Extend}}]*"
        rf"|[\p{{Script=Han}}\p{{Script=Hiragana}}]{ignored}|(?:{flag}){{2}}"
        rf"|{pictograph}(?:(?<=\u200D){pictograph})*|[0-9#*]\uFE0F?\u20E3"
    )
