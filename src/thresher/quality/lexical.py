"""Lexical quality estimators: what word counts alone say about a passage, compared with the collection.

A word is a maximal run of letters and digits of any script, lower-cased. Nothing is stemmed or stopped, because
function words are part of what tells prose from a list of links.

With p(w) the share of word w in the passage and P(w) its share in the collection:

- `kl`       minus the Kullback-Leibler divergence of the passage from the collection, -sum_w p(w) ln(p(w) / P(w)): the
             collection-document distance of query-performance prediction, negated so that higher is better. Longer
             passages diverge less, so it also measures length.
- `length`   ln of the number of words.
- `itn`      information to noise: distinct words / words (Zhu and Gauch, SIGIR 2000).
- `unigram`  mean over the words of ln P(w): the log-perplexity under a unigram language model, negated.

`FEATURES` are the input of fitted estimators (`thresher.quality.fitted`): these measures, shares of kinds of
characters, sentences, and signs of definitions and of page furniture. All are cheap: about 8,000 passages of 60 words
per second on one core.

Words that are not in the collection (in a passage that arrives later) count as seen once. A passage without words gets
the lowest score, because no word query can find it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from math import log, log1p
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from thresher.arguments import checked_call
from thresher.durable import write_atomic
from thresher.errors import ConfigError, InputError
from thresher.quality.estimator import QualityEstimator, digest, no_argument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Measure = Literal["kl", "length", "itn", "unigram"]
LEXICAL: tuple[Measure, ...] = get_args(Measure)
_EMPTY = -100.0  # below ln(1 / tokens) of any collection that fits on a disk
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words of `text`, in order, lower-cased."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, slots=True)
class CollectionStatistics:
    """Unigram counts of a collection.

    Attributes:
        counts: word to its number of occurrences.
        tokens: sum of the counts.
        passages: number of passages counted.
    """

    counts: Mapping[str, int]
    tokens: int
    passages: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> CollectionStatistics:
        """Count the words of `texts` in one pass."""
        counts: Counter[str] = Counter()
        passages = 0
        for text in texts:
            counts.update(words_of(text))
            passages += 1
        return cls(counts, counts.total(), passages)

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the counts, whatever the order of the texts."""
        return digest("words", 1, self.passages, sorted(self.counts.items()))

    def save(self, file: Path) -> None:
        """Write the number of passages, then one `word TAB count` per line, in word order."""
        lines = [f"{self.passages}\n", *(f"{word}\t{count}\n" for word, count in sorted(self.counts.items()))]
        write_atomic(file, "".join(lines))

    @classmethod
    def load(cls, file: Path) -> CollectionStatistics:
        """Read what `save` wrote.

        Raises:
            InputError: a line is not `word TAB count`.
        """
        counts: dict[str, int] = {}
        with file.open(encoding="utf-8", newline="\n") as stream:
            try:
                passages = int(stream.readline())
            except ValueError as err:
                raise InputError("the first line must be the number of passages", str(file), 1) from err
            for number, line in enumerate(stream, start=2):
                word, tab, count = line.rstrip("\n").partition("\t")
                if not tab or not count.isdigit():
                    raise InputError(f"{line!r} is not a word, a tab and a count", str(file), number)
                counts[word] = int(count)
        return cls(counts, sum(counts.values()), passages)


@dataclass(frozen=True)
class LexicalEstimator(QualityEstimator):
    """One lexical measure as a quality estimator.

    Attributes:
        measure: one of `LEXICAL`.
        statistics: of the collection; only `kl` and `unigram` need it.
    """

    measure: Measure
    statistics: CollectionStatistics | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.measure not in LEXICAL:
            raise InputError(f"unknown lexical measure {self.measure!r}; choose one of {', '.join(LEXICAL)}")
        if self.statistics is None and self.measure in ("kl", "unigram"):
            raise InputError(f"the measure {self.measure!r} compares with a collection; give statistics=")
        if self.statistics is not None and self.statistics.tokens == 0:
            raise InputError("the collection has no words, so passages cannot be compared with it")

    @classmethod
    def fit(cls, measure: Measure, texts: Iterable[str]) -> LexicalEstimator:
        """The measure, with the statistics of `texts` if it needs them."""
        needed = measure in ("kl", "unigram")
        return cls(measure, CollectionStatistics.of(texts) if needed else None)

    @property
    def name(self) -> str:
        """The measure's name."""
        return self.measure

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the measure and the collection it compares with."""
        return digest("lexical", 1, self.measure, self.statistics.fingerprint if self.statistics else "")

    @property
    def can_save(self) -> bool:
        """True."""
        return True

    def document(self, directory: Path) -> dict[str, object]:
        """The measure; word counts go to `words.tsv`."""
        if self.statistics is not None:
            self.statistics.save(directory / "words.tsv")
        return {"type": "lexical", "measure": self.measure}

    @classmethod
    def read(cls, document: Mapping[str, Measure], directory: Path) -> LexicalEstimator:
        """Read what `save` wrote."""
        words = directory / "words.tsv"
        return cls(document["measure"], CollectionStatistics.load(words) if words.is_file() else None)

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n], higher is more worth indexing."""
        column = lexical_columns(texts, self.statistics)[:, LEXICAL.index(self.measure)]
        return column.astype(np.float32)


def lexical_columns(texts: Sequence[str], statistics: CollectionStatistics | None) -> NDArray[np.float64]:
    """All lexical measures of `texts`, float64[n, 4] in the order of `LEXICAL`.

    Without statistics `kl` and `unigram` are 0.

    About 25,000 passages of 60 words a second on one core.
    """
    out = np.zeros((len(texts), len(LEXICAL)), np.float64)
    counts = statistics.counts if statistics is not None else {}
    log_total = log(statistics.tokens) if statistics is not None else 0.0
    for row, text in enumerate(texts):
        found = Counter(words_of(text))
        length = found.total()
        if length == 0:
            out[row] = (_EMPTY, -1.0, 0.0, _EMPTY)
            continue
        expected = entropy = 0.0
        if statistics is not None:
            for word, times in found.items():
                expected += times * log(counts.get(word) or 1)
                entropy += times * log(times)
            expected = expected / length - log_total  # mean ln P(w)
            entropy = log(length) - entropy / length  # -sum p ln p
        out[row] = (entropy + expected, log(length), len(found) / length, expected)
    return out


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


def open_kl(argument: str = "", *, texts: Iterable[str] | None = None) -> LexicalEstimator:
    """What `QualityEstimator.from_name` calls for `kl`; reads `texts` once."""
    return _of_collection("kl", argument, texts)


def open_unigram(argument: str = "", *, texts: Iterable[str] | None = None) -> LexicalEstimator:
    """What `QualityEstimator.from_name` calls for `unigram`; reads `texts` once."""
    return _of_collection("unigram", argument, texts)


def open_length(argument: str = "") -> LexicalEstimator:
    """What `QualityEstimator.from_name` calls for `length`."""
    no_argument("length", argument)
    return LexicalEstimator("length")


def open_itn(argument: str = "") -> LexicalEstimator:
    """What `QualityEstimator.from_name` calls for `itn`."""
    no_argument("itn", argument)
    return LexicalEstimator("itn")


def _of_collection(measure: Measure, argument: str, texts: Iterable[str] | None) -> LexicalEstimator:
    no_argument(measure, argument)
    if texts is None:
        raise ConfigError(f"the estimator {measure!r} compares passages with their collection; give texts=")
    return LexicalEstimator.fit(measure, texts)
