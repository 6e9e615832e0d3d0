"""Analyzers: texts to the terms of lexical weights.

`english` follows Lucene's EnglishAnalyzer, in its order: words by Unicode Annex #29 (`words`), possessive `'s`
removed, lower case, Lucene's 33 stop words dropped, Porter's stemmer (1980) by PyStemmer. The Snowball `porter` of
PyStemmer is the paper's, so the departures of Porter's own code and Lucene are added here: words of one or two letters
stay unchanged, every doubled consonant but ll, ss and zz becomes single after -ed and -ing (trekked), and step 2 has
the rules `bli -> ble` and `logi -> log`.

`unicode` only tokenises and lower-cases. `whitespace` only splits at white space, for text that is already analyzed.

The term of a word does not depend on its neighbours, so each analyzer caches it, for at most `CACHED` words.

Word boundaries are those of Lucene's StandardTokenizer. A token is a sequence without a word boundary of annex 29
(rules WB5 to WB13b) that has at least one letter or digit: `don't`, `U.S.A`, `3.14`, `foo_bar`, a run of Hangul or
Katakana. Like Lucene, beyond the annex, each Han and Hiragana character is a token, and so is a run of a script written
without spaces (Thai, Lao, Khmer, Myanmar) and an emoji sequence. Everything else (punctuation, symbols, spaces)
separates tokens. A token ends after 255 characters at the latest; the rest starts a new one. Text of Latin letters and
common punctuation is matched by a smaller expression with the same result.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import regex

    Pattern: TypeAlias = re.Pattern[str] | regex.Pattern[str]

MAX_TOKEN = 255
"""The longest token, in characters."""

_LETTER = "A-Za-zªµºÀ-ÖØ-öø-\u024f"
_COMMON = re.compile("[\x00-\xa8\xaa-\xac\xaf-\u024f\u2010-\u2026\u2030-\u2038\u20a0-\u20b5]*")
"""Basic Latin to Latin Extended-B and the usual quotes, dashes and currency signs, without ©, ® and the soft hyphen."""
_LATIN = re.compile(
    f"[{_LETTER}0-9_]+(?:[:;,.'·\u2018\u2019\u2024]"
    f"(?:(?<=[{_LETTER}][:.'·\u2018\u2019\u2024])(?=[{_LETTER}])|(?<=[0-9][,;.'\u2018\u2019\u2024])(?=[0-9]))"
    f"[{_LETTER}0-9_]+)*"
)
_REACH = 4 * MAX_TOKEN  # characters searched for the next token at once: bounds the work on endless tokens
_SPACES = re.compile("[ \t\r\n]+")
_PICTOGRAPHS = (
    "\u2388\u2605\u2607-\u2612\u2616-\u2685\u2690-\u2701\u2703-\u2704\u270e\u2710\u2711\u2765-\u2767"
    "\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f\U0001f16c-\U0001f16f\U0001f1ad\U0001f260-\U0001f265"
    "\U0001f300-\U0001f3fa\U0001f400-\U0001f5ff\U0001f680-\U0001f6ff\U0001f7d5-\U0001f7ff\U0001fa00-\U0001fa6d"
)
"""Symbols that were pictographs in the Unicode version of Lucene's tables and no longer are."""


def words(text: str) -> list[str]:
    """The tokens of `text`, in order, unchanged."""
    if text.isascii() or _COMMON.fullmatch(text):
        found = _tokens(text, _LATIN)
    else:  # no token spans these spaces, so each piece is matched by itself
        found = []
        for piece in _SPACES.split(text):
            found += _tokens(piece, _LATIN if _COMMON.fullmatch(piece) else _unicode())
    if "_" in text:
        return [token for token in found if token.strip("_")]  # underscores join words but are not words
    return found


def _tokens(text: str, rules: Pattern) -> list[str]:
    found: list[str] = rules.findall(text)
    if len(text) > MAX_TOKEN and max(map(len, found), default=0) > MAX_TOKEN:
        return list(_in_windows(text, rules))
    return found


def _in_windows(text: str, rules: Pattern) -> Iterator[str]:
    """The tokens of `text`, each at most MAX_TOKEN characters long."""
    at = 0
    while at < len(text):
        begun = rules.search(text, at, at + _REACH)
        found = rules.match(text, begun.start(), begun.start() + MAX_TOKEN) if begun else None
        if found:
            yield found[0]
            at = found.end()
        else:
            at += _REACH - 4  # far enough back to find an emoji sequence that this cut


@cache
def _unicode() -> Pattern:
    """All rules; compiled for the first text that needs them, because that is slow."""
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

CACHED = 1_000_000
"""The most distinct words in an analyzer's cache before it is cleared: about 150 MB."""

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such "
    "that the their then there these they this to was will with".split()
)
"""The stop words of Lucene's EnglishAnalyzer."""

_VOWELS = "aeiou"
_RARE_DOUBLES = frozenset(letter * 2 for letter in "chjkqvwx")  # doubles that are not in Snowball's list
_REVISION = 1  # raised when an analyzer's output changes, so that indexes record which one made them


class Analyzer(Protocol):
    """Cuts texts into terms."""

    @property
    def name(self) -> str:
        """Its name, for `analyzer`."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the terms of some text change."""

    def __call__(self, text: str) -> list[str]:
        """The terms of `text`, in order, with repetitions."""


def analyzer(name: str) -> Analyzer:
    """The analyzer of that name: `english`, `unicode` or `whitespace`.

    Raises:
        ConfigError: the name is unknown.
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
    """Unicode words, each mapped to a term or dropped by one function."""

    def __init__(self, name: str, term: Callable[[str], str]) -> None:
        self.name = name
        self.fingerprint = f"{name}/{_REVISION}"
        self._terms = _Cached(term)

    def __call__(self, text: str) -> list[str]:
        return [term for term in map(self._terms.__getitem__, words(text)) if term]

    def __reduce__(self) -> tuple[Callable[[str], Analyzer], tuple[str]]:
        return analyzer, (self.name,)


class _Cached(dict[str, str]):
    """A cache of a function, for at most CACHED words."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, word: str) -> str:
        if len(self) >= CACHED:
            self.clear()
        answer = self[word] = self._function(word)
        return answer


def _lower(word: str) -> str:
    """Lower case of each character by itself: no final sigma, no combining dot after a Turkish I."""
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
    """Porter's stem as in his own code: short words stay unchanged, and step 2 has two more rules than the paper."""
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
