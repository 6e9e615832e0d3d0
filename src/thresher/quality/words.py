"""Words of a passage and how often the collection uses them: the ground of every lexical estimator.

A word is a maximal run of letters and digits of any script, lower-cased; nothing is stemmed or stopped, since function
words are part of what tells prose from a list of links.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.files import write_atomic
from thresher.quality.estimator import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

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
        """Sha256 of the counts, whatever the order they were met in."""
        return digest("words", 1, self.passages, sorted(self.counts.items()))

    def save(self, file: Path) -> None:
        """Write `passages` and then one `word TAB count` a line, in word order."""
        lines = [f"{self.passages}\n", *(f"{word}\t{count}\n" for word, count in sorted(self.counts.items()))]
        write_atomic(file, "".join(lines))

    @classmethod
    def load(cls, file: Path) -> CollectionStatistics:
        """Read what `save` wrote.

        Raises:
            InputError: a line that is not `word TAB count`.
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
