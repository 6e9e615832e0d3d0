"""Analyzers: a text becomes the terms that lexical weights are counted over.

`english` does what Lucene's EnglishAnalyzer does, in its order: words by Unicode Annex #29 (`words`), the
possessive `'s` taken off, lower case, Lucene's 33 stop words dropped, Porter's stemmer (1980) by PyStemmer. What
Porter's own code and Lucene have beyond the paper is added here, since the Snowball `porter` of PyStemmer keeps to the
paper: words of one or two letters stay as they are, every doubled consonant but ll, ss and zz becomes single after -ed
and -ing (trekked), and step 2 has the rules `bli -> ble` and `logi -> log`.

`unicode` cuts and lower-cases only; `whitespace` cuts at white space only and changes nothing (text analyzed already).

What a word becomes does not depend on its neighbours, so each analyzer remembers it, for at most `REMEMBERED` words.

Word boundaries are those of Lucene's StandardTokenizer. A token is what annex 29 keeps together (rules WB5 to WB13b)
and that holds at least one letter or digit: `don't`, `U.S.A`, `3.14`, `foo_bar`, a run of Hangul or Katakana. Beyond
the annex, as Lucene does it: each Han and Hiragana character is a token, so is a run of a script written without spaces
(Thai, Lao, Khmer, Myanmar) and an emoji sequence. Everything else (punctuation, symbols, spaces) separates tokens. A
token ends after 255 characters; the rest is the next token. Text of Latin letters and common punctuation is cut by one
small expression, which finds the same words.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


AnalyzerName = Literal["english", "unicode", "whitespace"]
ANALYZERS: tuple[AnalyzerName, ...] = get_args(AnalyzerName)

REMEMBERED = 1_000_000
"""How many distinct words an analyzer remembers before it starts afresh: about 150 MB at the most."""

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such "
    "that the their then there these they this to was will with".split()
)
"""The stop words of Lucene's EnglishAnalyzer."""

_VOWELS = "aeiou"
_RARE_DOUBLES = frozenset(letter * 2 for letter in "chjkqvwx")  # doubles that Snowball's list does not hold
_REVISION = 1  # raised when an analyzer's output changes, so that an index says which one made it


class Analyzer(Protocol):
    """Cuts texts into terms."""

    @property
    def name(self) -> str:
        """What `analyzer` knows it by."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever some text would become other terms."""

    def __call__(self, text: str) -> list[str]:
        """The terms of `text`, in order, with repetitions."""


def analyzer(name: str) -> Analyzer:
    """The analyzer of that name: `english`, `unicode` or `whitespace`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name == "english":
        return _WordAnalyzer(name, _english())
    if name == "unicode":
        return _WordAnalyzer(name, _lower)
    if name == "whitespace":
        return _Whitespace()
    raise ConfigError(f"unknown analyzer {name!r}; known are: {', '.join(ANALYZERS)}")


class _Whitespace:
    name = "whitespace"
    fingerprint = f"whitespace/{_REVISION}"

    def __call__(self, text: str) -> list[str]:
        return text.split()


class _WordAnalyzer:
    """Unicode words, each turned into a term or dropped by one function."""

    def __init__(self, name: str, term: Callable[[str], str]) -> None:
        self.name = name
        self.fingerprint = f"{name}/{_REVISION}"
        self._terms = _Remembered(term)

    def __call__(self, text: str) -> list[str]:
        return [term for term in map(self._terms.__getitem__, words(text)) if term]

    def __reduce__(self) -> Any:
        return analyzer, (self.name,)


class _Remembered(dict[str, str]):
    """A function's answers by argument, at most REMEMBERED of them."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, word: str) -> str:
        if len(self) >= REMEMBERED:
            self.clear()
        answer = self[word] = self._function(word)
        return answer


def _lower(word: str) -> str:
    """Lower case of each character by itself: no final sigma, and no combining dot after a Turkish I."""
    return word.lower() if word.isascii() else word.replace("İ", "i").replace("Σ", "σ").lower()


@cache
def _english() -> Callable[[str], str]:
    """The function from a word to its English term; empty for a stop word."""
    import Stemmer

    stem: Callable[[str], str] = Stemmer.Stemmer("porter", 0).stemWord

    def term(word: str) -> str:
        if len(word) > 1 and word[-1] in "sS" and word[-2] in "'\u2019\uff07":
            word = word[:-2]
        word = _lower(word)
        return "" if word in STOP_WORDS else _porter(word, stem)

    return term


def _porter(word: str, stem: Callable[[str], str]) -> str:
    """Porter's stem as his own code has it: short words stay, and step 2 has two rules that the paper lacks."""
    if len(word) < 3:
        return word
    stemmed = stem(word)
    if word[-1] in "yi" or word.endswith("ies"):
        if stemmed.endswith("bli") and _has_measure(stemmed[:-3]):
            return stem(stemmed[:-1] + "e")
        if stemmed.endswith("logi") and _has_measure(stemmed[:-4]):
            return stemmed[:-1]
    elif stemmed[-2:] in _RARE_DOUBLES and word[len(stemmed) :] in ("ed", "ing", "eds", "ings"):
        return stemmed[:-1]
    return stemmed


def _has_measure(stem: str) -> bool:
    """Whether a consonant follows a vowel somewhere in `stem`: Porter's m > 0."""
    vowel_seen = False
    for at, letter in enumerate(stem):
        vowel = letter in _VOWELS or (letter == "y" and at > 0 and not vowel_seen)
        if vowel_seen and not vowel:
            return True
        vowel_seen = vowel
    return False
