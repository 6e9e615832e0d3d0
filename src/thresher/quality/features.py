"""Features of a passage without any query: the input of fitted estimators.

Lexical measures against the collection, shares of kinds of characters, sentences, and signs of definitions and of page
furniture. All are cheap: about 8,000 passages of 60 words per second on one core.
"""

from __future__ import annotations

import re
from collections import Counter
from math import log, log1p
from typing import TYPE_CHECKING

import numpy as np

from thresher.quality.lexical import LEXICAL, lexical_columns, words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.quality.lexical import CollectionStatistics

_FUNCTION_WORDS = frozenset(
    "the of and a to in is that it for as was with on are be by this an or from at which not have has had but they you "
    "he she his her its were been their we can if will there when more so than then these those into also such other "
    "some may would about who what how most do does did".split()
)
_DEFINING = frozenset(("is", "are", "means", "refers", "defined", "called"))
_FURNITURE = frozenset(("copyright", "click", "login", "cookies", "subscribe", "download"))
_SENTENCE_END = re.compile(r"[.!?]+\s")
_DIGIT = re.compile(r"[0-9]")
_UPPER = re.compile(r"[A-Z]")
_MARK = re.compile(r"[^\w\s]")

_SURFACE = (
    "function_words", "digits", "capitals", "marks", "sentences", "sentence_length", "questions", "bars",
    "ends", "word_length", "defining", "furniture", "top_word", "rare_words", "numbers",
)  # fmt: skip
FEATURES: tuple[str, ...] = (*LEXICAL, *_SURFACE)


def feature_columns(texts: Sequence[str], statistics: CollectionStatistics) -> NDArray[np.float64]:
    """float64[n, len(FEATURES)], in the order of `FEATURES`.

    `kl`, `length`, `itn`, `unigram` as in `lexical`; shares of words: function words, the most frequent word, words
    that occur once in the collection, numbers; shares of characters: digits, capitals A-Z, marks; ln of sentences and
    of words per sentence; ln(1 + count) of question marks and of bars, bullets and ellipses; mean word length; 0 or 1:
    ends like a sentence, has a defining word, has a word of page furniture.
    """
    surface = np.array([_surface(text, statistics) for text in texts], np.float64).reshape(len(texts), len(_SURFACE))
    return np.concatenate([lexical_columns(texts, statistics), surface], axis=1)


def _surface(text: str, statistics: CollectionStatistics) -> list[float]:
    words = words_of(text)
    n, size = len(words) or 1, len(text) or 1
    found = Counter(words)
    sentences = len(_SENTENCE_END.findall(text)) + 1
    counts = statistics.counts
    return [
        sum(times for word, times in found.items() if word in _FUNCTION_WORDS) / n,
        len(_DIGIT.findall(text)) / size,
        len(_UPPER.findall(text)) / size,
        len(_MARK.findall(text)) / size,
        log(sentences),
        log1p(n / sentences),
        log1p(text.count("?")),
        log1p(text.count("|") + text.count("...") + text.count("…") + text.count("•")),
        float(text.rstrip()[-1:] in (".", "!", "?")),
        sum(map(len, words)) / n,
        float(not _DEFINING.isdisjoint(found)),
        float(not _FURNITURE.isdisjoint(found)),
        (max(found.values()) if found else 0) / n,
        sum(times for word, times in found.items() if counts.get(word, 0) <= 1) / n,
        sum(times for word, times in found.items() if word.isdigit()) / n,
    ]
