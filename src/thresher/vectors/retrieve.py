"""Dense retrieval: every vector compared (`flat`, exact), cells of a k-means (`ivf`), or a graph (`hnsw`).

With faiss (`faiss-cpu`, or `faiss-gpu` on CUDA for `flat` and `ivf`) vectors are held in memory as float32; without it,
`flat` scans the stored vectors with numpy. Candidates are rescored from the stored vectors in float64, so that both
give the same scores. `flat` is exact: faiss adds in float32, so it is asked for more until the rounding error cannot
have hidden a passage. `ivf` and `hnsw` trade recall for time through `nprobe` and `ef_search`.

Where a document has several vectors its best one counts, so more neighbours than documents are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import is_a, one_of, shown, whole
from thresher.errors import ConfigError, InputError, MissingExtraError, require
from thresher.ranking import Ranking
from thresher.vectors.codecs import CHUNK
from thresher.vectors.store import VectorStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from numpy.typing import NDArray

    from thresher.ranking import NumberedSource

_KINDS = ("flat", "ivf", "hnsw")
_MORE = 16
"""Neighbours asked for beyond k, so that rounding rarely takes a second call."""


class _Neighbours(Protocol):
    """What a faiss index offers."""

    is_trained: bool

    def add(self, vectors: NDArray[np.float32]) -> None: ...
    def train(self, vectors: NDArray[np.float32]) -> None: ...
    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


class DenseIndex:
    """Nearest neighbours by inner product among the vectors of a store.

    Attributes:
        kind: `flat`, `ivf` or `hnsw`.
    """

    @checked_call
    def __init__(self, store: VectorStore, neighbours: _Neighbours | None, kind: str) -> None:
        self.kind = kind
        self._store, self._neighbours = store, neighbours
        firsts = store.firsts
        self._owners = None if firsts is None else np.repeat(np.arange(len(store)), np.diff(firsts))
        self._most = 1 if firsts is None else int(np.diff(firsts).max(initial=1))

    @classmethod
    def over(
        cls,
        store: VectorStore,
        *,
        kind: str = "flat",
        cells: int | None = None,
        nprobe: int = 16,
        links: int = 32,
        ef_construction: int = 200,
        ef_search: int = 128,
        device: str = "auto",
        seed: int = 0,
    ) -> DenseIndex:
        """Index the vectors of `store`.

        Args:
            store: where they come from.
            kind: `flat`, `ivf` or `hnsw`.
            cells: number of cells of `ivf`; by default 4 times the root of the number of vectors, at most a 39th of it.
            nprobe: cells that `ivf` searches for a query.
            links: neighbours that a node of `hnsw` keeps.
            ef_construction: candidates kept while the graph is built.
            ef_search: candidates kept while it is searched.
            device: `cpu`, `cuda` with `faiss-gpu`, or `auto`: CUDA for `flat` and `ivf` where faiss finds it.
            seed: for the k-means.

        Raises:
            ConfigError: the kind is unknown, or the device is not available.
            InputError: a number is out of range.
            MissingExtraError: faiss is not installed, for anything but `flat` on a CPU.
        """
        numbers = {"nprobe": nprobe, "links": links, "ef_construction": ef_construction, "ef_search": ef_search}
        _check(store, kind, device, {**numbers, "seed": seed})
        if cells is not None and whole("cells", cells, 1) > len(store.stored):
            raise InputError(f"cells is {shown(cells)}, but there are {len(store.stored)} vectors")
        try:
            faiss = require("faiss", extra="faiss-cpu", purpose="dense retrieval")
        except MissingExtraError:
            if kind == "flat" and device in ("cpu", "auto"):
                return cls(store, None, kind)
            raise
        n, d = len(store.stored), store.dimensions
        if kind == "flat":
            index = faiss.IndexFlatIP(d)
        elif kind == "ivf":
            cells = cells or max(1, min(int(4 * n**0.5), n // 39))
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, faiss.METRIC_INNER_PRODUCT)
            index.cp.seed, index.cp.min_points_per_centroid, index.nprobe = seed, 1, nprobe
        else:
            index = faiss.IndexHNSWFlat(d, links, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = ef_construction, ef_search
        neighbours = _on_device(faiss, index, kind, device)
        if not neighbours.is_trained:
            neighbours.train(store.stored.decode(np.arange(n)))
        for low in range(0, n, CHUNK):
            neighbours.add(store.stored.decode(np.arange(low, min(low + CHUNK, n))))
        return cls(store, neighbours, kind)

    def search(
        self, queries: NDArray[np.floating], k: int = 10, *, passages: NumberedSource | None = None
    ) -> list[Ranking]:
        """The k best passages of each query, best first; ties by bytewise smaller docno.

        Args:
            queries: float[n, dimensions].
            k: passages a query.
            passages: the index that a store keyed by passage number belongs to.

        Raises:
            InputError: k is below 1, the queries have another shape, or `passages` is missing.
        """
        k = min(whole("k", k, 1), len(self._store))
        if getattr(queries, "ndim", 0) != 2 or queries.shape[1] != self._store.dimensions:
            given = getattr(queries, "shape", shown(queries))
            raise InputError(f"query vectors have the shape {given}, expected (n, {self._store.dimensions})")
        return [self._search(self._store.checked_query(query), k, passages) for query in queries]

    def _search(self, query: NDArray[np.float32], k: int, passages: NumberedSource | None) -> Ranking:
        positions, scores = self._candidates(query, k)
        order = np.argsort(-scores, kind="stable")
        if len(order) > k:
            order = order[scores[order] >= scores[order[k - 1]]]
        ranking = self._ranking(positions[order], scores[order], passages)
        if (np.diff(ranking.scores) == 0).any():
            rows = [(-score, docno.encode()) for docno, score in ranking.pairs()]
            ranking = ranking.take(sorted(range(len(rows)), key=rows.__getitem__))
        return ranking.cut(k)

    def _ranking(
        self, positions: NDArray[np.int64], scores: NDArray[np.float64], passages: NumberedSource | None
    ) -> Ranking:
        exact = self.kind == "flat"
        docnos = self._store.docnos
        if docnos is not None:
            return Ranking([docnos[i] for i in positions.tolist()], scores, exact=exact, source="dense")
        if passages is None:
            raise InputError("these vectors are keyed by passage number; give the index they belong to (passages=)")
        return Ranking.of_numbers(passages, positions, scores, exact=exact, stage="dense")

    def _candidates(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Positions and float64 scores of passages, the k best and those tied with them among them."""
        total = len(self._store.stored)
        if self._neighbours is None:
            return self._scan(query)
        wanted = min(total, k * self._most + _MORE)
        while True:
            found, rows = self._neighbours.search(query[None], wanted)
            reached = rows[0][rows[0] >= 0]  # faiss fills up with -1
            positions = np.unique(reached if self._owners is None else self._owners[reached])
            scores = self._store.scores(query, positions)
            if self.kind != "flat" or wanted == total:
                return positions, scores
            if len(scores) >= k:
                error = self._store.dimensions * 2.0**-23 * float(np.linalg.norm(query)) * self._store.largest_length
                if float(found[0][-1]) + error < np.partition(scores, -k)[-k]:
                    return positions, scores
            wanted = min(total, wanted * 4)

    def _scan(self, query: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        n = len(self._store)
        parts = [self._store.scores(query, np.arange(low, min(low + CHUNK, n))) for low in range(0, n, CHUNK)]
        return np.arange(n), np.concatenate(parts) if parts else np.zeros(0)


def _check(store: VectorStore, kind: str, device: str, numbers: Mapping[str, int]) -> None:
    """Check the arguments of `DenseIndex.over`."""
    if not is_a(store, VectorStore):
        raise InputError(f"dense retrieval is over the vectors of a VectorStore; got {shown(store)}")
    one_of("kind of dense index", kind, _KINDS)
    if not is_a(device, str):
        raise InputError(f"device must be 'cpu', 'cuda' or 'auto'; got {shown(device)}")
    for name, number in numbers.items():
        if whole(name, number, name != "seed") >= 2**31:
            raise InputError(f"{name} must be below 2^31; got {shown(number)}")


def _on_device(faiss: ModuleType, index: _Neighbours, kind: str, device: str) -> _Neighbours:
    found = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    if device == "cpu" or (device == "auto" and (not found or kind == "hnsw")):
        return index
    if kind == "hnsw":
        raise ConfigError("faiss has no hnsw on CUDA; use flat or ivf, or the device cpu")
    if not found:
        raise ConfigError(
            f"device {device!r} was asked for, but this faiss finds none; pip install 'thresher[faiss-gpu]' in place "
            "of faiss-cpu on a machine with CUDA, or use the device cpu"
        )
    moved: _Neighbours = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    return moved
