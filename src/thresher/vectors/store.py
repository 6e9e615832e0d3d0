"""The forward index: dense vectors by docno, memory-mapped, for scoring the documents of a ranking.

Fast-Forward indexes (Leonhardt et al., WWW 2022, arXiv 2110.06051): instead of a nearest-neighbour search, the vectors
of the documents that a sparse ranking holds are looked up and scored. A document may have several vectors (one a
passage); its dense score is the largest of their dot products with the query's (maxP).

On disk: `docnos.txt` (one a line, ascending by bytes), `firsts.npy` (where each document's rows start), the stored
vectors (`thresher.vectors.codecs`), and `sketch_*.npy` (`thresher.vectors.sketch`) where one was asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.artifact import Manifest, read_manifest, writing
from thresher.errors import DamagedArtifactError, InputError
from thresher.vectors.coalesce import coalesce
from thresher.vectors.codecs import Stored, encode_vectors, load_array, open_vectors
from thresher.vectors.sketch import Sketch, draw_sketch, open_sketch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

_KIND, _FORMAT = "forward-index", 1


class ForwardIndex:
    """Dense vectors by docno. Open one with `ForwardIndex.open`, make one with `ForwardIndex.build`.

    Attributes:
        manifest: what the artifact says of itself.
        docnos: ascending by bytes.
        firsts: int64[len(docnos) + 1]: document i has the rows `firsts[i]` to `firsts[i + 1]`.
        stored: the vectors.
        sketch: bounds on dot products, None where none were drawn.
    """

    def __init__(
        self,
        manifest: Manifest,
        docnos: Sequence[str],
        firsts: NDArray[np.int64],
        stored: Stored,
        sketch: Sketch | None,
    ) -> None:
        self.manifest = manifest
        self.docnos = docnos
        self.firsts = firsts
        self.stored = stored
        self.sketch = sketch
        self._keys = [docno.encode() for docno in docnos]

    def __len__(self) -> int:
        return len(self.docnos)

    @property
    def dimensions(self) -> int:
        """Dimensions of a vector."""
        return self.stored.dimensions

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(int(entry["bytes"]) for entry in self.manifest.files.values())

    @cached_property
    def largest_length(self) -> float:
        """Length of the longest stored vector, rounded up: times a query's length, no dense score exceeds it."""
        longest = 0.0
        for low in range(0, self.stored.codes.shape[0], 65_536):
            rows = np.arange(low, min(low + 65_536, self.stored.codes.shape[0]))
            longest = max(longest, float(np.linalg.norm(self.stored.decode(rows).astype(np.float64), axis=1).max()))
        return longest * (1 + 1e-6)

    @classmethod
    def build(
        cls,
        target: str | Path,
        batches: Iterable[tuple[Sequence[str], NDArray[Any]]],
        *,
        storage: str = "float16",
        sketch: int = 0,
        document_of: Callable[[str], str] | None = None,
        delta: float = 0.0,
        encoder: str = "",
        encoder_name: str = "",
        seed: int = 0,
        overwrite: bool = False,
    ) -> ForwardIndex:
        """Write a forward index, and open it.

        Args:
            target: the directory to make.
            batches: docnos and their vectors float[n, dimensions], as `thresher.encode.shards.dense_shards` gives.
            storage: `float16`, `int8` or `pq<bytes>`.
            sketch: coordinates of the early-stopping bound to keep (48 is a good number); 0 for none.
            document_of: from a passage's docno to its document's; by default each is its own.
            delta: coalesce neighbouring passages of a document nearer than this cosine distance; 0 for not at all.
            encoder: fingerprint of the encoder, which must match the queries' (kept in the manifest).
            encoder_name: what `thresher.models.resolve` finds it by.
            seed: of product quantisation and the sketch's sample.
            overwrite: replace a forward index that stands there.

        Raises:
            InputError: a docno comes twice, or vectors do not fit together.
        """
        docnos, firsts, vectors = _gather(batches, document_of)
        passages = len(vectors)
        if delta:
            vectors, firsts = coalesce(vectors, firsts, delta)
        stored = encode_vectors(vectors, storage, seed=seed)
        with writing(target, kind=_KIND, format=_FORMAT, overwrite=overwrite) as draft:
            stored.save(draft.path)
            np.save(draft.path / "firsts.npy", firsts, allow_pickle=False)
            (draft.path / "docnos.txt").write_bytes(b"".join(docno.encode() + b"\n" for docno in docnos))
            if sketch:
                decoded = stored.decode(np.arange(len(vectors)))
                draw_sketch(decoded, sketch, seed=seed).save(draft.path)
            draft.fields |= {
                "documents": len(docnos),
                "passages": passages,
                "vectors": len(vectors),
                "dimensions": int(vectors.shape[1]),
                "storage": storage,
                "sketch": min(sketch, int(vectors.shape[1])),
                "delta": delta,
                "encoder": encoder,
                "encoder_name": encoder_name,
            }
        return cls.open(target)

    @classmethod
    def open(cls, path: str | Path) -> ForwardIndex:
        """Open the forward index at `path`; vectors stay on disk until they are looked up.

        Raises:
            ArtifactError: there is none, or a newer release wrote it.
            DamagedArtifactError: a file is missing or inconsistent.
        """
        path = Path(path)
        manifest = read_manifest(path, kind=_KIND, format=_FORMAT)
        try:
            fields = manifest.fields
            documents, n, dimensions = (int(fields[name]) for name in ("documents", "vectors", "dimensions"))
            storage, width = str(fields["storage"]), int(fields["sketch"])
        except (KeyError, TypeError, ValueError) as err:
            raise DamagedArtifactError(str(path / "manifest.json"), f"lacks {err}; rebuild the forward index") from err
        try:
            docnos = (path / "docnos.txt").read_text(encoding="utf-8").split("\n")[:-1]
        except UnicodeDecodeError as err:
            raise DamagedArtifactError(str(path / "docnos.txt"), f"is not UTF-8 ({err}); rebuild it") from err
        firsts = np.asarray(load_array(path / "firsts.npy", np.int64, (documents + 1,)))
        if len(docnos) != documents or firsts[0] != 0 or firsts[-1] != n or bool((np.diff(firsts) < 1).any()):
            raise DamagedArtifactError(
                str(path / "firsts.npy"), f"does not divide {n} vectors among {documents} documents; rebuild it"
            )
        sketch = open_sketch(path, n, dimensions, width) if width else None
        return cls(manifest, docnos, firsts, open_vectors(path, storage, n, dimensions), sketch)

    def positions(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """Positions of `docnos` in `self.docnos`, int64[len(docnos)].

        Raises:
            InputError: one of them is not in this index.
        """
        found = self.find(docnos)
        if len(found) and found.min() < 0:
            docno = docnos[int(np.argmin(found))]
            raise InputError(f"docno {docno!r} is not in the forward index; build it from the corpus the ranking is of")
        return found

    def find(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """Positions of `docnos` in `self.docnos`, int64[len(docnos)], -1 for those it lacks."""
        found = np.empty(len(docnos), dtype=np.int64)
        for i, docno in enumerate(docnos):
            key = docno.encode()
            place = bisect_left(self._keys, key)
            here = place < len(self._keys) and self._keys[place] == key
            found[i] = place if here else -1
        return found

    def scores(self, query: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Dense scores of documents: the largest dot product over each one's vectors, summed in float64.

        A document's score is a function of its vectors and the query alone, whatever is scored beside it.

        Args:
            query: float[dimensions].
            positions: int64[n], as `positions` gives them.

        Returns:
            float64[n].

        Raises:
            InputError: the query has another shape, or a value that is not finite.
        """
        from thresher.vectors.kernels import best_dots

        rows, starts = self.rows_of(positions)
        best: NDArray[np.float64] = best_dots(self.stored.decode(rows), self.checked_query(query), starts)
        return best

    def rows_of(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the documents at `positions` (int64[n]), and where each one's start (int64[n + 1]).

        Rows come one document after the other, int64[rows].
        """
        low, counts = self.firsts[positions], np.diff(self.firsts)[positions]
        starts = np.zeros(len(positions) + 1, dtype=np.int64)
        np.cumsum(counts, out=starts[1:])
        return np.repeat(low - starts[:-1], counts) + np.arange(starts[-1]), starts

    def checked_query(self, query: NDArray[Any]) -> NDArray[np.float32]:
        """The query's vector as float32[dimensions].

        Raises:
            InputError: it has another shape, or a value that is not finite.
        """
        if query.shape != (self.dimensions,):
            raise InputError(f"the question's vector has the shape {query.shape}, not ({self.dimensions},)")
        vector = np.ascontiguousarray(query, dtype=np.float32)
        if not np.isfinite(vector).all():
            raise InputError("the question's vector holds a value that is not finite; encode it again")
        return vector


def _gather(
    batches: Iterable[tuple[Sequence[str], NDArray[Any]]], document_of: Callable[[str], str] | None
) -> tuple[list[str], NDArray[np.int64], NDArray[Any]]:
    """Documents ascending by bytes, where each one's rows start, and the rows, those of a document as they came."""
    names: list[str] = []
    parts: list[NDArray[Any]] = []
    for docnos, vectors in batches:
        if vectors.ndim != 2 or len(docnos) != len(vectors) or (parts and vectors.shape[1] != parts[0].shape[1]):
            raise InputError(f"a batch of {len(docnos)} docnos has vectors of the shape {vectors.shape}")
        names.extend(docnos)
        parts.append(vectors)
    if not names:
        raise InputError("a forward index needs at least one vector; the corpus is empty")
    documents = names if document_of is None else [document_of(name) for name in names]
    if document_of is None and len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"docno {twice!r} comes twice; make docnos unique, or say which document a passage is of")
    keys = [name.encode() for name in documents]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    ordered = [documents[i] for i in order]
    begins = [i for i in range(len(ordered)) if i == 0 or ordered[i] != ordered[i - 1]]
    firsts = np.array([*begins, len(ordered)], dtype=np.int64)
    return [ordered[i] for i in begins], firsts, np.concatenate(parts)[order]
