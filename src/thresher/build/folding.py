"""Duplicates of new passages among those that an index holds already.

Exact ones, equal in letters and digits, are found by a 64-bit key that every tier keeps of its passages (`exact`).
Near ones are looked for by searching the index: a passage at Jaccard .8 shares nearly all words with its duplicate, so
the heaviest terms of a new passage bring a duplicate to the top. What is found is checked by the exact similarity of
the texts (`thresher.quality.duplicates`), so nothing is folded on an estimate; a duplicate may be missed where more
than `CANDIDATES` passages share the heaviest terms of the new one, as forms filled in from one template do.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from thresher.index.arrays import map_array
from thresher.quality.duplicates import SHINGLE, exact_key, jaccard, shingle_sets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.build.known import Known
    from thresher.corpus.spool import Spool
    from thresher.prune.plan import PruneStep
    from thresher.records import Passage

    Search = Callable[[Sequence[str]], Iterator[list[Passage]]]

EXACT = "exact"
"""File of the keys in the folder of a tier: uint64[passages]."""
CANDIDATES = 32
"""Passages of the index that are compared with each new one."""
TERMS = 16
"""Terms of a new passage that the index is searched for."""
_CHUNK = 1024


class ExactWriter:
    """Appends the keys of passages to the file of a tier."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / EXACT).open("wb")

    def extend(self, passages: Sequence[Passage]) -> None:
        """Append the key of each passage."""
        self.copy(exact_keys([passage.contents for passage in passages]))

    def copy(self, keys: NDArray[np.uint64]) -> None:
        """Append keys that were made before, uint64[n]."""
        np.ascontiguousarray(keys, "<u8").tofile(self._file)

    def close(self) -> None:
        """Write the file."""
        self._file.close()


def exact_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """A key of the letters and digits of each text, uint64[n]; 0 where it has none."""
    keys = (exact_key(text) for text in texts)
    return np.fromiter((0 if key is None else key[0] for key in keys), np.uint64, len(texts))


def open_exact(directory: Path, count: int) -> NDArray[np.uint64]:
    """The keys of a tier, uint64[count], mapped.

    Raises:
        DamagedArtifactError: the file is missing or of the wrong size.
    """
    keys: NDArray[np.uint64] = map_array(directory / EXACT, np.uint64, (count,))
    return keys


class LiveDuplicates:
    """Finds passages of an index that new ones are duplicates of.

    Args:
        path: the index.
        known: what of it is not given up.
        step: what counts as a duplicate.
    """

    def __init__(self, path: Path, known: Known, step: PruneStep) -> None:
        self._path, self._known, self._step = path, known, step

    def find(self, spool: Spool, rows: NDArray[np.int64], progress: bool = False) -> dict[int, str]:
        """Which of the passages with these numbers, int64[n], have a duplicate; its docno, the oldest one's.

        Args:
            spool: the new passages.
            rows: int64[n], numbers of those to look at.
            progress: show a progress bar.
        """
        found: dict[int, str] = {}
        bar = tqdm(desc="folding", total=len(rows), unit=" passages", disable=not progress, mininterval=0.5, delay=1)
        with self._searching() as candidates, bar:
            for first in range(0, len(rows), _CHUNK):
                numbers = rows[first : first + _CHUNK]
                passages = spool.read(numbers)
                exact = self._exact(passages)
                if candidates is not None:
                    others = [place for place in range(len(passages)) if place not in exact]
                    near = self._near([passages[place] for place in others], candidates)
                    exact.update({others[place]: docno for place, docno in near.items()})
                found.update({int(numbers[place]): docno for place, docno in exact.items()})
                bar.update(len(numbers))
        return found

    @contextmanager
    def _searching(self) -> Iterator[Search | None]:
        """What finds the passages that share the heaviest terms of each of some; None where near ones do not count."""
        if self._step.similarity is None:
            yield None
            return
        from thresher import Effort, Index  # the package's own door: building comes before searching

        with Index.open(self._path) as index:

            def search(texts: Sequence[str]) -> Iterator[list[Passage]]:
                run = index.search_batch(texts, CANDIDATES, tiers="both", effort=Effort(terms=TERMS))
                for number in range(len(texts)):
                    ranking = run[str(number)]
                    pairs = sorted(zip(ranking.numbers.tolist(), ranking.docnos, strict=True))
                    docnos = [docno for _, docno in pairs]
                    known = zip(docnos, self._known.find(docnos).tolist(), strict=True)
                    yield index.passages([docno for docno, record in known if record >= 0])

            yield search

    def _exact(self, passages: Sequence[Passage]) -> dict[int, str]:
        """Places of passages with an exact duplicate, and its docno."""
        keys = exact_keys([passage.contents for passage in passages])
        order = np.argsort(keys, kind="stable")
        wanted = keys[order]
        found: dict[int, str] = {}
        for segment in self._known.segments:
            for part, bound in zip(segment.parts, segment.bounds, strict=False):
                stored = open_exact(part.layout.path, part.size)
                gone = self._known.gone[segment.start + bound : segment.start + bound + part.size]
                low, high = (np.searchsorted(wanted, stored, side) for side in ("left", "right"))
                for number in np.flatnonzero((high > low) & ~gone & (stored != 0)).tolist():
                    other = part.layout.passage(number)
                    for place in order[low[number] : high[number]].tolist():
                        if place not in found and self._is_exact(passages[place], other):
                            found[place] = other.docno
        return found

    def _is_exact(self, passage: Passage, other: Passage) -> bool:
        return self._in_one_group(passage, other) and exact_key(passage.contents) == exact_key(other.contents)

    def _in_one_group(self, passage: Passage, other: Passage) -> bool:
        field = self._step.fold_field
        return not field or str(passage.metadata.get(field)) == str(other.metadata.get(field))

    def _near(self, passages: Sequence[Passage], search: Search) -> dict[int, str]:
        """Places of passages with a near-duplicate, and its docno: the oldest one's."""
        found: dict[int, str] = {}
        if not passages:
            return found
        for place, others in enumerate(search([passage.contents for passage in passages])):
            for other in others:
                if self._in_one_group(passages[place], other) and self._is_near(passages[place], other):
                    found[place] = other.docno
                    break
        return found

    def _is_near(self, passage: Passage, other: Passage) -> bool:
        hashes, offsets = shingle_sets([passage.contents, other.contents], SHINGLE)
        one, two = hashes[: offsets[1]], hashes[offsets[1] : offsets[2]]
        similarity = self._step.similarity
        return similarity is not None and jaccard(one, two) >= similarity
