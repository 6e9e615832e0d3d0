"""Exact and near-duplicate passages, folded to one canonical passage each.

Exact: equal after lower-casing and keeping letters and digits. Near: the Jaccard similarity of the sets of runs of
`shingle` words is at least `similarity`. Candidates come from MinHash signatures (Broder 1997; the rensa package) cut
into bands, two passages being compared when a band agrees; every candidate is then checked by its exact Jaccard
similarity, so nothing is folded on an estimate. Passages of fewer than `shingle` words have one shingle, all of their
words.

Folding is greedy in order of preference (higher score first): a passage is folded into the most preferred canonical
passage it is similar enough to, or becomes canonical itself. So every folded passage is similar to the one that stands
for it, which chains of pairs would not promise.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import InputError, require
from thresher.quality.lexical import words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_LETTERS_AND_DIGITS = re.compile(r"[\W_]+")
_BANDS, _ROWS = 16, 4
"""A pair at Jaccard .8 agrees in a band with probability 1 - (1 - .8^4)^16 = .9998; at .5 with .64, at .3 with .12."""
_SEED = 20240501
_PAIRS_A_BUCKET = 200  # members of a larger bucket are compared with this many most preferred ones


@dataclass(frozen=True, slots=True)
class Folding:
    """Which passage stands for which.

    Attributes:
        canonical: int64[n]; the position of the passage that stands for each (its own where it stands for itself).
        exact: surplus passages that are exact duplicates.
        near: surplus passages folded for their similarity.
        compared: candidate pairs whose exact similarity was computed.
    """

    canonical: NDArray[np.int64]
    exact: int
    near: int
    compared: int

    @property
    def folded(self) -> NDArray[np.bool_]:
        """bool[n]: passages that another one stands for."""
        result: NDArray[np.bool_] = self.canonical != np.arange(len(self.canonical))
        return result


def fold_duplicates(
    texts: Sequence[str],
    preference: NDArray[np.integer] | None = None,
    *,
    similarity: float | None = 0.8,
    shingle: int = 5,
    work: Path | None = None,
) -> Folding:
    """Fold duplicates among `texts`.

    Args:
        texts: the passages.
        preference: int[n], positions from the most to the least preferred as canonical; corpus order by default.
        similarity: least Jaccard similarity of near-duplicates, in (0, 1]; None folds exact duplicates alone.
        shingle: words a shingle.
        work: an existing folder for temporary files; default: the system's.

    Raises:
        InputError: an argument is out of range.
        MissingExtraError: rensa is not installed and near-duplicates are asked for.
    """
    n = len(texts)
    order = np.arange(n) if preference is None else np.asarray(preference, np.int64)
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise InputError("the preference must list every passage once")
    if similarity is not None and not 0 < similarity <= 1:
        raise InputError(f"similarity {similarity} is not in (0, 1]")
    if shingle < 1:
        raise InputError(f"a shingle of {shingle} words is no shingle")
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    canonical = _fold_exact(texts, order)
    exact = int((canonical != np.arange(n)).sum())
    if similarity is None or n == 0:
        return Folding(canonical, exact, 0, 0)
    alone = np.flatnonzero(canonical == np.arange(n))
    hashes, offsets = shingle_sets([texts[i] for i in alone.tolist()], shingle)
    near, compared = _fold_near(hashes, offsets, place[alone], similarity)
    target = alone[near]
    canonical[alone] = target
    canonical = canonical[canonical]  # an exact duplicate of a folded passage follows it
    return Folding(canonical, exact, int((target != alone).sum()), compared)


def _fold_exact(texts: Sequence[str], order: NDArray[np.int64]) -> NDArray[np.int64]:
    first: dict[bytes, int] = {}
    canonical = np.arange(len(texts), dtype=np.int64)
    for i in order.tolist():
        bare = _LETTERS_AND_DIGITS.sub("", texts[i].lower())
        key = hashlib.blake2b(bare.encode("utf-8", "surrogatepass"), digest_size=16).digest() if bare else b"%d" % i
        canonical[i] = first.setdefault(key, i)
    return canonical


def shingle_sets(texts: Sequence[str], shingle: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashed shingle sets: sorted distinct uint64 of all texts one after the other, and int64[n + 1] offsets."""
    numbers: dict[str, int] = {}
    parts: list[NDArray[np.uint64]] = []
    offsets = np.zeros(len(texts) + 1, np.int64)
    for row, text in enumerate(texts):
        ids = np.array([numbers.setdefault(w, len(numbers)) for w in words_of(text)], np.uint64)
        ids = _mix(ids)
        width = max(min(shingle, len(ids)), 1)
        count = len(ids) - width + 1
        hashed = np.zeros(max(count, 0), np.uint64)
        for shift in range(width if count > 0 else 0):
            hashed = _mix(hashed ^ ids[shift : shift + count])
        hashed = np.unique(hashed)
        parts.append(hashed)
        offsets[row + 1] = offsets[row] + len(hashed)
    return (np.concatenate(parts) if parts else np.zeros(0, np.uint64)), offsets


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: neighbouring numbers come out unrelated. Wraps modulo 2**64 on purpose."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return result


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Jaccard similarity of two sorted sets; of two empty ones 0."""
    if not len(a) or not len(b):
        return 0.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def _fold_near(
    hashes: NDArray[np.uint64], offsets: NDArray[np.int64], place: NDArray[np.int64], similarity: float
) -> tuple[NDArray[np.int64], int]:
    """For each set the index of its canonical set, int64[n], and the number of pairs compared."""
    n = len(offsets) - 1
    candidates: dict[int, list[int]] = {}
    for early, late in _candidate_pairs(_signatures(hashes, offsets), np.diff(offsets), place, similarity):
        candidates.setdefault(late, []).append(early)
    canonical = np.arange(n, dtype=np.int64)
    compared = 0
    for late in sorted(candidates, key=place.__getitem__):
        own = hashes[offsets[late] : offsets[late + 1]]
        for early in sorted(set(candidates[late]), key=place.__getitem__):
            if canonical[early] != early:
                continue
            compared += 1
            if jaccard(own, hashes[offsets[early] : offsets[early + 1]]) >= similarity:
                canonical[late] = early
                break
    return canonical, compared


def _signatures(hashes: NDArray[np.uint64], offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    """MinHash signatures, uint32[n, bands * rows]."""
    rensa: Any = require("rensa", extra="dedup", purpose="folding near-duplicates")
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets.astype(np.uint64), _BANDS * _ROWS, _SEED
    )
    return np.array(matrix.to_rows(), np.uint32).reshape(len(offsets) - 1, _BANDS * _ROWS)


def _candidate_pairs(
    signatures: NDArray[np.uint32], sizes: NDArray[np.int64], place: NDArray[np.int64], similarity: float
) -> Iterator[tuple[int, int]]:
    """Pairs (more preferred, less preferred) that agree in a band and whose sizes allow the similarity."""
    seen: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        keys = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS]).view("V16").ravel()
        order = np.lexsort((place, *signatures[:, band * _ROWS : (band + 1) * _ROWS].T))
        order = order[sizes[order] > 0]
        ordered = keys[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else np.zeros(0, np.int64)
        ends = np.append(starts[1:], len(ordered))
        for first, last in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
            members = order[first:last].tolist()
            for position, late in enumerate(members[1:], start=1):
                for early in members[: min(position, _PAIRS_A_BUCKET)]:
                    low, high = sorted((int(sizes[early]), int(sizes[late])))
                    if low >= similarity * high and (early, late) not in seen:
                        seen.add((early, late))
                        yield early, late
