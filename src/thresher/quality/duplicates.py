"""Exact and near-duplicate passages, folded into one canonical passage each, in bounded memory.

Exact: equal after lower-casing and keeping letters and digits. Near: the Jaccard similarity of the sets of runs of
`shingle` words is at least `similarity`. Candidates come from MinHash signatures (Broder 1997; the rensa package) cut
into bands: two passages are compared when a band agrees. Every candidate is then checked by its exact Jaccard
similarity, so nothing is folded on an estimate. A passage of fewer than `shingle` words has one shingle, all of its
words.

Folding is greedy in order of preference (higher score first): a passage is folded into the most preferred canonical
passage it is similar enough to, or becomes canonical itself. So every folded passage is similar to its canonical
passage, which chains of pairs would not guarantee. Where groups are given (a source, a tenant), each is folded by
itself.

Texts are read a chunk at a time, and again where a candidate is checked. Keys of bands are files; each band is sorted
separately, and only passages that share a band with another one enter the table of buckets, which is mapped from disk.
About 60 bytes a passage are held.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from thresher._lazy import njit
from thresher.arguments import checked_call
from thresher.errors import InputError, require
from thresher.mapping import reserve
from thresher.quality.lexical import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_LETTERS_AND_DIGITS = re.compile(r"[\W_]+")
_BANDS, _ROWS = 16, 4
"""A pair at Jaccard .8 agrees in a band with probability 1 - (1 - .8^4)^16 = .9998; at .5 with .64, at .3 with .12."""
_SEED = 20240501
_BUCKET = 200
"""A passage is compared with at most this many canonical passages of a bucket, the most preferred ones."""
_CHUNK = 4096
SHINGLE = 5
"""Words of a shingle."""
_KEPT_SETS = 8192


class _MinHash(Protocol):
    """What is used of `rensa.RMinHash`."""

    @staticmethod
    def digest_matrix_from_flat_token_hashes(
        hashes: NDArray[np.uint64], offsets: NDArray[np.uint64], permutations: int, seed: int
    ) -> _Matrix: ...


class _Matrix(Protocol):
    def to_rows(self) -> list[list[int]]: ...


@dataclass(frozen=True, slots=True)
class Folding:
    """Which passage represents which.

    Attributes:
        canonical: int64[n]; the position of the passage that represents each (its own if it is canonical).
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
        """bool[n]: passages that another one represents."""
        result: NDArray[np.bool_] = self.canonical != np.arange(len(self.canonical))
        return result


@checked_call
def fold_duplicates(
    texts: Sequence[str],
    preference: NDArray[np.integer] | None = None,
    *,
    similarity: float | None = 0.8,
    shingle: int = SHINGLE,
    groups: NDArray[np.integer] | None = None,
    work: Path | None = None,
    signatures: Sequence[Path] = (),
) -> Folding:
    """Fold duplicates among `texts`.

    Args:
        texts: the passages; may be read from disk. They are read once in order, and candidates again by position.
        preference: int[n], positions from the most to the least preferred as canonical; corpus order by default.
        similarity: minimum Jaccard similarity of near-duplicates, in (0, 1]; None folds exact duplicates only.
        shingle: words a shingle.
        groups: int[n], the number of each passage's group; a passage is folded only into one of its own group. By
            default all are one group.
        work: an existing folder for temporary files; default: the system's.
        signatures: folders that `write_signatures` filled, with the same shingles, for parts of the texts in order;
            only candidates are then read.

    Raises:
        InputError: an argument is out of range.
        MissingExtraError: rensa is not installed and near-duplicates are asked for.
    """
    n = len(texts)
    order = np.arange(n) if preference is None else np.asarray(preference, np.int64)
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise InputError("the preference must list every passage once")
    if similarity is not None and not 0 < similarity <= 1:
        raise InputError(f"similarity must be in (0, 1], got {similarity}")
    if shingle < 1:
        raise InputError(f"shingle must be at least 1, got {shingle}")
    group = np.zeros(n, np.int64) if groups is None else np.asarray(groups)
    if group.shape != (n,):
        raise InputError(f"groups must be {n} whole numbers, one a passage; got an array of shape {group.shape}")
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    with tempfile.TemporaryDirectory(prefix="duplicates-", dir=work) as name:
        folder = Path(name)
        width = None if similarity is None else shingle
        if not signatures:
            write_signatures(texts, folder, width)
        keys, sizes = _join(signatures or [folder], folder, width)
        canonical = _fold_exact(keys, group, place)
        exact = int((canonical != np.arange(n)).sum())
        if similarity is None:
            return Folding(canonical, exact, 0, 0)
        alone = np.flatnonzero((canonical == np.arange(n)) & (sizes > 0))
        ranked = alone[np.argsort(place[alone])]
        buckets = _Buckets(folder, ranked, group[ranked])
        near, compared = _fold_near(buckets, texts, ranked, sizes, shingle, similarity)
        buckets.close()
    canonical[list(near)] = list(near.values())
    return Folding(
        canonical[canonical], exact, len(near), compared
    )  # an exact duplicate of a folded passage follows it


def write_signatures(texts: Iterable[str], folder: Path, shingle: int | None = SHINGLE) -> None:
    """What folding compares of texts, in files of `folder`, which exists.

    keys        uint64[n, 2], of exact equality; 0 for a text without letters and digits
    sizes       int32[n], of shingle sets; 0 without `shingle`
    band-NUMBER uint64[n], a hash of each band of the signatures; none without `shingle`
    """
    remaining = iter(texts)
    with ExitStack() as opened:
        names = ["keys", "sizes"] if shingle is None else ["keys", "sizes", *(f"band-{band}" for band in range(_BANDS))]
        files = [opened.enter_context((folder / name).open("wb")) for name in names]
        while chunk := list(islice(remaining, _CHUNK)):
            np.array([exact_key(text) or (0, 0) for text in chunk], np.uint64).tofile(files[0])
            if shingle is None:
                np.zeros(len(chunk), np.int32).tofile(files[1])
                continue
            hashes, offsets = shingle_sets(chunk, shingle)
            np.diff(offsets).astype(np.int32).tofile(files[1])
            for file, values in zip(files[2:], _band_keys(hashes, offsets).T, strict=True):
                np.ascontiguousarray(values).tofile(file)


def _join(folders: Sequence[Path], folder: Path, shingle: int | None) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The keys and the sizes of signatures, uint64[n, 2] and int32[n]; their bands are put together in `folder`."""
    keys = np.concatenate([np.fromfile(one / "keys", np.uint64).reshape(-1, 2) for one in folders])
    for row in np.flatnonzero(~keys.any(axis=1)).tolist():  # without letters and digits each is like itself alone
        keys[row] = _halves(b"%d" % row, b"row")
    sizes = np.concatenate([np.fromfile(one / "sizes", np.int32) for one in folders])
    for band in range(0 if shingle is None or list(folders) == [folder] else _BANDS):
        with (folder / f"band-{band}").open("wb") as joined:
            for one in folders:
                with (one / f"band-{band}").open("rb") as stream:
                    shutil.copyfileobj(stream, joined)
    return keys, sizes


def exact_key(text: str) -> tuple[int, int] | None:
    """A 128-bit hash of the letters and digits of a text; None where it has none."""
    bare = _LETTERS_AND_DIGITS.sub("", text.lower())
    return _halves(bare.encode("utf-8", "surrogatepass"), b"text") if bare else None


def _halves(raw: bytes, person: bytes) -> tuple[int, int]:
    key = hashlib.blake2b(raw, digest_size=16, person=person).digest()
    return int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")


def _fold_exact(keys: NDArray[np.uint64], groups: NDArray[np.integer], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each passage the most preferred one of its group with the same key, int64[n]."""
    order = np.lexsort((place, keys[:, 1], keys[:, 0], groups))
    ordered, grouped = keys[order], groups[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1) | (grouped[1:] != grouped[:-1])
    canonical = np.empty(len(keys), np.int64)
    canonical[order] = order[begins][np.cumsum(begins) - 1] if len(keys) else order
    return canonical


def shingle_sets(texts: Sequence[str], shingle: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashed shingle sets: sorted distinct uint64 of all texts one after another, and int64[n + 1] offsets."""
    words = [words_of(text) for text in texts]
    joined = " ".join(" ".join(row) for row in words if row).encode("utf-8", "surrogatepass") + b" "
    counts = np.fromiter(map(len, words), np.int64, len(words))
    offsets = np.zeros(len(texts) + 1, np.int64)
    hashes = np.empty(int(counts.sum()), np.uint64)
    with np.errstate(over="ignore"):  # hashes wrap; only without compilation does numpy notice
        used = _shingle(np.frombuffer(joined, np.uint8), counts, shingle, hashes, offsets)
    return hashes[:used], offsets


@njit(cache=True)
def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: neighbouring numbers come out unrelated. For a uint64 or an array; wraps."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return result


@njit(cache=True)
def _shingle(
    joined: NDArray[np.uint8],
    counts: NDArray[np.int64],
    shingle: int,
    hashes: NDArray[np.uint64],
    offsets: NDArray[np.int64],
) -> int:
    """Hash the words of texts (FNV-1a), then runs of them; sort and deduplicate each text's.

    Args:
        joined: uint8[bytes], the words of all texts, each followed by a space.
        counts: int64[n], words of each text.
        shingle: words a shingle.
        hashes: uint64[words], filled with the sets.
        offsets: int64[n + 1], filled with where each set begins.

    Returns:
        how many hashes were written.
    """
    at = used = 0
    for row in range(len(counts)):
        count = counts[row]
        words = np.empty(count, np.uint64)
        for i in range(count):
            value = np.uint64(0xCBF29CE484222325)
            while joined[at] != 32:
                value = (value ^ np.uint64(joined[at])) * np.uint64(0x100000001B3)
                at += 1
            at += 1
            words[i] = _mix(value)
        width = min(shingle, count)
        found = np.zeros(count - width + 1 if count else 0, np.uint64)
        for i in range(len(found)):
            value = np.uint64(0)
            for j in range(width):
                value = _mix(value ^ words[i + j])
            found[i] = value
        found.sort()
        for i in range(len(found)):
            if i == 0 or found[i] != found[i - 1]:
                hashes[used] = found[i]
                used += 1
        offsets[row + 1] = used
    return used


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Jaccard similarity of two sorted sets; of two empty ones 0."""
    if not len(a) or not len(b):
        return 0.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def _band_keys(hashes: NDArray[np.uint64], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash of each band of the MinHash signatures, uint64[n, bands]."""
    rensa = require("rensa", extra="dedup", purpose="folding near-duplicates")
    library = cast("type[_MinHash]", rensa.RMinHash)
    matrix = library.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), _BANDS * _ROWS, _SEED)
    signatures = np.array(matrix.to_rows(), np.uint64).reshape(len(offsets) - 1, _BANDS, _ROWS)
    keys: NDArray[np.uint64] = np.zeros(signatures.shape[:2], np.uint64)
    for row in range(_ROWS):
        keys = _mix(keys ^ signatures[:, :, row])
    return keys


def _mapped(file: Path, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """A file of zeros, mapped for writing; the disk has room for it."""
    reserve(file, math.prod(shape) * 4)
    return np.memmap(file, np.int32, "r+", shape=shape)


class _Buckets:
    """Passages of one group that agree in a band, with the canonical ones found so far; in mapped files.

    Passages are numbered by preference. Only buckets of two and more exist.

    Args:
        folder: holds the keys of the bands, and the files made here.
        ranked: int64[m], positions of the passages, most preferred first.
        groups: int[m], their groups.
    """

    def __init__(self, folder: Path, ranked: NDArray[np.int64], groups: NDArray[np.integer]) -> None:
        m = len(ranked)
        self._of = _mapped(folder / "buckets", (max(m, 1), _BANDS))
        starts = [np.zeros(1, np.int64)]
        shared = np.zeros(m, bool)
        buckets = members = 0
        for band in range(_BANDS):
            file = folder / f"band-{band}"
            keys = np.fromfile(file, np.uint64)[ranked] if m else np.zeros(0, np.uint64)
            order = np.lexsort((keys, groups))
            keys, grouped = keys[order], groups[order]
            differs = (keys[1:] != keys[:-1]) | (grouped[1:] != grouped[:-1])
            begins = np.flatnonzero(np.append(True, differs)) if m else np.zeros(0, np.int64)
            sizes = np.diff(np.append(begins, m))
            several = sizes > 1
            numbers = np.where(several, np.cumsum(several) - 1 + buckets, -1)
            self._of[order, band] = np.repeat(numbers, sizes)
            shared[order] |= np.repeat(several, sizes)
            room = np.minimum(sizes[several], _BUCKET)
            starts.append(members + np.cumsum(room))
            buckets, members = buckets + len(room), members + int(room.sum())
            file.unlink(missing_ok=True)
        self._starts = np.concatenate(starts)
        self._filled = np.zeros(buckets, np.int16)
        self._slots = _mapped(folder / "slots", (max(members, 1),))
        self.shared: list[int] = np.flatnonzero(shared).tolist()

    def candidates(self, number: int) -> set[int]:
        """Numbers of canonical passages of its group that agree with `number` in a band."""
        found: set[int] = set()
        for bucket in self._of[number].tolist():
            if bucket >= 0 and (filled := int(self._filled[bucket])):
                start = int(self._starts[bucket])
                found.update(self._slots[start : start + filled].tolist())
        return found

    def add(self, number: int) -> None:
        """Make `number` canonical: later passages are compared with it."""
        for bucket in self._of[number].tolist():
            if bucket >= 0:
                at = int(self._starts[bucket]) + int(self._filled[bucket])
                if at < self._starts[bucket + 1]:
                    self._slots[at] = number
                    self._filled[bucket] += 1

    def close(self) -> None:
        """Release the mapped files."""
        del self._of, self._slots


def _fold_near(
    buckets: _Buckets,
    texts: Sequence[str],
    ranked: NDArray[np.int64],
    sizes: NDArray[np.int32],
    shingle: int,
    similarity: float,
) -> tuple[dict[int, int], int]:
    """Positions of near-duplicates to those of their canonical passages, and the number of pairs compared."""

    @lru_cache(maxsize=_KEPT_SETS)
    def shingles(number: int) -> NDArray[np.uint64]:
        return shingle_sets([texts[int(ranked[number])]], shingle)[0]

    canonical: dict[int, int] = {}
    compared = 0
    for number in buckets.shared:
        size = int(sizes[ranked[number]])
        for earlier in sorted(buckets.candidates(number)):
            other = int(sizes[ranked[earlier]])
            if min(size, other) < similarity * max(size, other):
                continue
            compared += 1
            if jaccard(shingles(number), shingles(earlier)) >= similarity:
                canonical[int(ranked[number])] = int(ranked[earlier])
                break
        else:
            buckets.add(number)
    return canonical, compared
