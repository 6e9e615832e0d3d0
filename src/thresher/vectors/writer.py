"""Writing a vector store: batches spooled to a file, put in order, coalesced, encoded a chunk at a time.

Memory holds a chunk of vectors, however many there are. Where documents have several vectors, near ones can be
joined: sequential coalescing (Leonhardt, Rudra, Khosla, Anand, Anand, WWW 2022, arXiv 2110.06051, algorithm 1). A
document's passages are read in order; a passage whose cosine distance to the mean of the current group is at least
`delta` opens a new group, any other joins it. A group is stored as the mean of its vectors. The mean of unit vectors is
scaled back to unit length, so that dot products stay cosines; the paper leaves it as is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import numpy as np

from thresher.checks import shown, strings
from thresher.errors import InputError
from thresher.mapping import map_file
from thresher.vectors.codecs import open_vectors, write_sketch, write_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray


class Spool:
    """Vectors appended to a temporary file and read back by number; used in a `with` block, which removes the file.

    Args:
        file: where to put them. Vectors are kept as they come: float16, or else float32.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream = file.open("wb")
        self._count = 0
        self._dtype: np.dtype[np.floating] = np.dtype(np.float32)
        self._order: NDArray[np.int64] | None = None
        self.dimensions = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._file.unlink(missing_ok=True)

    def __len__(self) -> int:
        return self._count

    def append(self, vectors: NDArray[np.floating]) -> None:
        """Add float[n, dimensions].

        Raises:
            InputError: the shape differs from that of earlier vectors, or a value is not finite.
        """
        if vectors.ndim != 2 or (self._count and vectors.shape[1] != self.dimensions):
            raise InputError(
                f"a batch of vectors has the shape {vectors.shape}; expected (n, {self.dimensions or 'd'})"
            )
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            number = self._count + int(np.argmin(finite))
            raise InputError(f"vector {number} holds a value that is not finite; encode it again")
        if not self._count:
            self.dimensions = int(vectors.shape[1])
            self._dtype = vectors.dtype if vectors.dtype == np.float16 else np.dtype(np.float32)
        self._stream.write(np.ascontiguousarray(vectors, dtype=self._dtype).tobytes())
        self._count += len(vectors)

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Let row i be what was appended as number `order[i]`."""
        self._order = order

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.floating]:
        """The vectors of these rows, float[len(numbers), dimensions]."""
        if not self._count or not len(numbers):
            return np.zeros((len(numbers), self.dimensions), self._dtype)
        self._stream.flush()
        held = np.frombuffer(map_file(self._file), self._dtype).reshape(self._count, self.dimensions)
        return held[numbers if self._order is None else self._order[numbers]]


def as_batches(batches: Iterable[ArrayLike]) -> Iterator[NDArray[np.floating]]:
    """Batches as arrays of numbers.

    Raises:
        InputError: one is something else.
    """
    if not isinstance(batches, Iterable):
        raise InputError(f"vectors come in batches, float[n, dimensions] each; got {shown(batches)}")
    for number, batch in enumerate(batches):
        try:
            array = np.asarray(batch)
            if array.dtype.kind not in "biuf":
                raise TypeError(f"it holds {array.dtype}")
        except (TypeError, ValueError) as err:
            raise InputError(f"batch {number} of vectors is not float[n, dimensions] ({err})") from err
        yield array


def write_store(
    directory: Path,
    vectors: Spool,
    firsts: NDArray[np.int64] | None,
    storage: str,
    sketch: int,
    *,
    seed: int = 0,
    codebook: NDArray[np.float32] | None = None,
    rotation: NDArray[np.float32] | None = None,
) -> dict[str, object]:
    """Write vectors, sketch, and where each document's vectors start if one has several; the manifest's fields.

    Args:
        directory: where the files go.
        vectors: the vectors, in the order of the rows.
        firsts: int64[documents + 1], where each document's vectors start; None where each has one.
        storage: how they are stored.
        sketch: coordinates that the sketch keeps; 0 for none.
        seed: for product quantisation and the sketch's sample.
        codebook: that of another store to use, in place of one trained on these vectors.
        rotation: the axes of another store's sketch, in place of those of these vectors.
    """
    n, documents, width = len(vectors), len(vectors), min(sketch, vectors.dimensions)
    if firsts is not None and len(firsts) != n + 1:
        documents = len(firsts) - 1
        np.save(directory / "firsts.npy", firsts, allow_pickle=False)
    write_vectors(directory, vectors, storage, seed=seed, codebook=codebook)
    if width:
        stored = open_vectors(directory, storage, n, vectors.dimensions)
        write_sketch(directory, stored, width, seed=seed, rotation=rotation)
    return {
        "documents": documents,
        "vectors": n,
        "dimensions": vectors.dimensions,
        "storage": storage,
        "sketch": width,
    }


def sorted_names(
    docnos: Iterable[str], document_of: Callable[[str], str] | None, spool: Spool
) -> tuple[list[str], NDArray[np.int64]]:
    """Documents ascending by bytes and where their rows start; the spool takes that order.

    Raises:
        InputError: docnos and vectors differ in number, or a docno comes twice.
    """
    given = strings("docnos", docnos)
    if len(given) != len(spool):
        raise InputError(f"{len(given)} docnos for {len(spool)} vectors; give one a vector")
    names, firsts, order = group_by_document(given, document_of)
    spool.reorder(order)
    return names, firsts


def group_by_document(
    docnos: Sequence[str], document_of: Callable[[str], str] | None
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Documents ascending by bytes, where the rows of each start, and which vector each row is.

    The vectors of a document keep their order.

    Returns:
        Documents; int64[documents + 1]; int64[vectors].

    Raises:
        InputError: a docno comes twice.
    """
    documents = list(docnos) if document_of is None else [document_of(docno) for docno in docnos]
    if document_of is None and len(set(docnos)) != len(docnos):
        twice = next(docno for docno, count in Counter(docnos).items() if count > 1)
        raise InputError(f"docno {twice!r} comes twice; make docnos unique, or give document_of")
    keys = [name.encode("utf-8", "surrogatepass") for name in documents]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    ordered = [documents[i] for i in order.tolist()]
    starts = [i for i in range(len(ordered)) if i == 0 or ordered[i] != ordered[i - 1]]
    return [ordered[i] for i in starts], np.array([*starts, len(ordered)], dtype=np.int64), order


def coalesce(vectors: Spool, firsts: NDArray[np.int64], delta: float, joined: Spool) -> NDArray[np.int64]:
    """Join neighbouring vectors within each document.

    Args:
        vectors: the vectors of a document together and in order.
        firsts: int64[documents + 1], where each document's rows start.
        delta: cosine distance from which a passage opens a new group; 0 joins nothing, 2 gives one vector a document.
        joined: takes the groups' vectors.

    Returns:
        int64[documents + 1]: where each document's rows start in `joined`.

    Raises:
        InputError: `delta` is not a cosine distance.
    """
    if not 0 <= delta <= 2:
        raise InputError(f"delta is {delta}; a cosine distance lies between 0 and 2")
    starts = [0]
    for low, high in pairwise(firsts.tolist()):
        for group in _groups(vectors.rows(np.arange(low, high)).astype(np.float32), delta):
            joined.append(_centre(group)[None])
        starts.append(len(joined))
    return np.array(starts, dtype=np.int64)


def _groups(rows: NDArray[np.float32], delta: float) -> Iterator[NDArray[np.float32]]:
    begin, total = 0, np.zeros(rows.shape[1], dtype=np.float32)
    for i, row in enumerate(rows):
        if i > begin and _distance(total, row) >= delta:
            yield rows[begin:i]
            begin, total = i, np.zeros_like(total)
        total = total + row
    if len(rows):
        yield rows[begin:]


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 1.0 - float(a @ b) / length if length else 0.0


def _centre(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = rows.mean(axis=0)
    lengths = np.linalg.norm(rows, axis=1)
    length = float(np.linalg.norm(mean))
    unit = bool(np.allclose(lengths, 1.0, atol=1e-2)) and length > 0
    return (mean / np.float32(length)).astype(np.float32) if unit and len(rows) > 1 else mean
