"""Analyzers: a text becomes the terms that lexical weights are counted over.

`english` does what Lucene's EnglishAnalyzer does, in its order: words by Unicode Annex #29 (`text/words.py`), the
possessive `'s` taken off, lower case, Lucene's 33 stop words dropped, Porter's stemmer (1980) by PyStemmer. What
Porter's own code and Lucene have beyond the paper is added here, since the Snowball `porter` of PyStemmer keeps to the
paper: words of one or two letters stay as they are, every doubled consonant but ll, ss and zz becomes single after -ed
and -ing (trekked), and step 2 has the rules `bli -> ble` and `logi -> log`.

`unicode` cuts and lower-cases only; `whitespace` cuts at white space only and changes nothing (text analyzed already).

What a word becomes does not depend on its neighbours, so each analyzer remembers it, for at most `REMEMBERED` words.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from thresher.errors import ConfigError
from thresher.text.words import words

if TYPE_CHECKING:
    from collections.abc import Callable

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
