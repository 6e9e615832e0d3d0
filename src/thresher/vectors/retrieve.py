"""Dense retrieval: every vector compared (`flat`, exact), cells of a k-means (`ivf`), or a graph (`hnsw`).

On a CPU, `flat` scans int8 vectors as they are stored: 40,000 of 384 dimensions in a millisecond or two. With faiss
(`faiss-cpu`, or `faiss-gpu` on CUDA for `flat` and `ivf`) others are held in memory as float32; without it, `flat`
decodes and compares them all. Candidates are rescored from the stored vectors in float64, so that all ways give the
same scores. `flat` is exact: neighbours are found by float32 sums, so more are asked for until the rounding error
cannot have hidden a passage. `ivf` and `hnsw` trade recall for time through `nprobe` and `ef_search`.

A mask of allowed passages goes into the search itself (faiss's IDSelector), so that however few it allows, the k best
of them are found. Where it allows no more than faiss would be asked for, or `ivf` and `hnsw` reach too few, all that it
allows are scored.

The vectors of an index's segments are searched a segment at a time: what faiss holds of one is kept when others come.
Where a document has several vectors its best one counts, so more neighbours than documents are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import is_a, one_of, shown, whole
from thresher.errors import ConfigError, InputError, MissingExtraError, require
from thresher.ranking import Ranking
from thresher.vectors.codecs import CHUNK, Stored
from thresher.vectors.store import VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from thresher.texts import NumberedSource
    from thresher.vectors.codecs import Decoded

_KINDS = ("flat", "ivf", "hnsw")
_MORE = 16
"""Neighbours asked for beyond k, so that rounding rarely takes a second call."""
_MOST_ON_CUDA = 2048
"""Neighbours that faiss gives at most on CUDA."""


class _Neighbours(Protocol):
    """What a faiss index offers."""

    is_trained: bool

    def add(self, vectors: NDArray[np.float32]) -> None: ...
    def train(self, vectors: NDArray[np.float32]) -> None: ...
    def search(
        self, queries: NDArray[np.float32], count: int, *, params: object = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


@dataclass(frozen=True, slots=True)
class _Finder:
    """A faiss index over a store, and how it takes a mask.

    Attributes:
        neighbours: the index.
        selecting: the parameters of a search among some rows, from uint8[rows / 8], a bit a row, the lowest first; None
            where it takes no mask, which is on CUDA.
        most: neighbours that it can be asked for.
    """

    neighbours: _Neighbours
    selecting: Callable[[NDArray[np.uint8]], object] | None
    most: int

    def nearest(
        self, query: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], float]:
        """Rows among the allowed ones of the `count` nearest vectors, and a product that no other allowed row exceeds.

        With no mask, or one that the index takes, those are the nearest of the allowed ones.
        """
        if allowed is None or self.selecting is None:
            found, rows = self.neighbours.search(query[None], count)
        else:
            params = self.selecting(np.packbits(allowed, bitorder="little"))
            found, rows = self.neighbours.search(query[None], count, params=params)
        reached = rows[0][rows[0] >= 0]  # faiss fills up with -1
        last = float(found[0][-1]) if len(reached) == count else -np.inf
        if allowed is not None and self.selecting is None:
            reached = reached[allowed[reached]]
        return reached, last


class _Scan:
    """Finds neighbours among int8 vectors in the codes as they are stored, so that nothing is decoded or copied.

    Products are float32 sums in no fixed order: near enough to tell which vectors `_Part` scores exactly.
    """

    def __init__(self, stored: Decoded) -> None:
        if not isinstance(stored, Stored) or stored.scales is None:
            raise ConfigError("only int8 vectors are scanned as they are stored")
        self._codes, self._scales, self.most = stored.codes.view(np.int8), stored.scales, len(stored)

    def nearest(
        self, query: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], float]:
        """As `_Finder.nearest`."""
        from thresher.vectors.kernels import products_of_codes

        products = np.empty(len(self._codes), np.float32)
        products_of_codes(self._codes, self._scales, query, products)
        if allowed is not None:
            products[~allowed] = -np.inf
        rows = np.argpartition(products, len(products) - count)[len(products) - count :]
        found = products[rows]
        return rows[found > -np.inf], float(found.min())


def scanned(store: VectorStore) -> bool:
    """Whether `flat` scans the vectors of a store as they are stored: comparing all of them is then quick."""
    stored = [part.stored for _, part in store.parts]
    return all(isinstance(one, Stored) and one.scales is not None for one in stored)


class _Part:
    """The vectors of one store, of a segment or by themselves.

    Args:
        store: the vectors.
        first: position of the first among those of all parts.
        finder: finds neighbours among them; None to compare all.
        exact: whether the finder compares all.
    """

    def __init__(self, store: VectorStore, first: int, finder: _Finder | _Scan | None, *, exact: bool) -> None:
        self.store, self.first, self.finder, self.exact = store, first, finder, exact
        firsts = store.firsts
        self._owners = None if firsts is None else np.repeat(np.arange(len(store)), np.diff(firsts))
        self._most = 1 if firsts is None else int(np.diff(firsts).max(initial=1))

    def best(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
        """Positions and float64 scores of documents, and whether the k best and those tied with them are among them."""
        count = len(self.store) if allowed is None else int(np.count_nonzero(allowed))
        wanted = k * self._most + _MORE
        if self.finder is None or count <= wanted:
            return (*self._all(query, allowed), True)
        rows = allowed if allowed is None or self._owners is None else allowed[self._owners]
        total = min(len(self.store.stored), self.finder.most)
        while True:
            reached, last = self.finder.nearest(query, min(wanted, total), rows)
            positions = np.unique(reached if self._owners is None else self._owners[reached])
            scores = self.store.scores(query, positions)
            enough = len(scores) >= min(k, count)
            if not self.exact and enough:
                return positions, scores, False
            if self.exact and (
                last == -np.inf or (enough and last + self._error(query) < np.partition(scores, -k)[-k])
            ):
                return positions, scores, True
            if not self.exact or wanted >= total:
                return (*self._all(query, allowed), True)
            wanted *= 4

    def _error(self, query: NDArray[np.float32]) -> float:
        """What float32 arithmetic can be wrong by."""
        return self.store.dimensions * 2.0**-23 * float(np.linalg.norm(query)) * self.store.largest_length

    def _all(
        self, query: NDArray[np.float32], allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """All allowed documents, scored."""
        chosen = np.arange(len(self.store)) if allowed is None else np.flatnonzero(allowed)
        chunks = [self.store.scores(query, chosen[low : low + CHUNK]) for low in range(0, len(chosen), CHUNK)]
        return chosen, np.concatenate(chunks) if chunks else np.zeros(0)


class DenseIndex:
    """Nearest neighbours by inner product among the vectors of a store. Make one with `DenseIndex.over`.

    Attributes:
        kind: `flat`, `ivf` or `hnsw`.
    """

    @checked_call
    def __init__(self, store: VectorStore, finders: Sequence[_Finder | _Scan | None], kind: str) -> None:
        self.kind = kind
        self._store = store
        parts = zip(store.parts, finders, strict=True)
        self._parts = [_Part(part, first, finder, exact=kind == "flat") for (first, part), finder in parts]

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
        earlier: DenseIndex | None = None,
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
            earlier: one made with the same settings over the vectors of an earlier commit; what it holds of segments
                that are still there is used again.

        Raises:
            ConfigError: the kind is unknown, or the device is not available.
            InputError: a number is out of range.
            MissingExtraError: faiss is not installed, for anything but `flat` on a CPU.
        """
        settings = _Settings(kind, cells, nprobe, links, ef_construction, ef_search, device, seed)
        _check(store, settings, earlier)
        known = {} if earlier is None else {id(part.store): part.finder for part in earlier._parts}
        return cls(store, [known.get(id(part)) or _finder(part, settings) for _, part in store.parts], kind)

    def search(
        self,
        queries: NDArray[np.floating],
        k: int = 10,
        *,
        passages: NumberedSource | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[Ranking]:
        """The k best passages of each query, best first; ties by bytewise smaller docno.

        Args:
            queries: float[n, dimensions].
            k: passages a query.
            passages: the index that a store keyed by passage number belongs to.
            allowed: bool[passages], which of them may be found, by passage number, or by position in a store that is
                keyed by docno; None for all.

        Returns:
            rankings of k passages each, or of all that are allowed and have vectors where those are fewer.

        Raises:
            InputError: k is below 1, the queries or the mask have another shape, or `passages` is missing.
        """
        k = min(whole("k", k, 1), len(self._store))
        if getattr(queries, "ndim", 0) != 2 or queries.shape[1] != self._store.dimensions:
            given = getattr(queries, "shape", shown(queries))
            raise InputError(f"query vectors have the shape {given}, expected (n, {self._store.dimensions})")
        mask = None if allowed is None else self._store.positions_in(allowed)
        return [self._search(self._store.checked_query(query), k, passages, mask) for query in queries]

    def _search(
        self, query: NDArray[np.float32], k: int, passages: NumberedSource | None, mask: NDArray[np.bool_] | None
    ) -> Ranking:
        positions, scores, exact = self._candidates(query, k, mask)
        order = np.argsort(-scores, kind="stable")
        if len(order) > k:
            order = order[scores[order] >= scores[order[k - 1]]]
        ranking = self._ranking(positions[order], scores[order], passages, exact)
        if (np.diff(ranking.scores) == 0).any():
            rows = [(-score, docno.encode()) for docno, score in ranking.pairs()]
            ranking = ranking.take(sorted(range(len(rows)), key=rows.__getitem__))
        return ranking.cut(k)

    def _ranking(
        self, positions: NDArray[np.int64], scores: NDArray[np.float64], passages: NumberedSource | None, exact: bool
    ) -> Ranking:
        docnos = self._store.docnos
        if docnos is not None:
            return Ranking([docnos[i] for i in positions.tolist()], scores, exact=exact, source="dense")
        if passages is None:
            raise InputError("these vectors are keyed by passage number; give the index they belong to (passages=)")
        return Ranking.of_numbers(passages, self._store.numbers_at(positions), scores, exact=exact, stage="dense")

    def _candidates(
        self, query: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
        """Positions and float64 scores of documents, and whether the k best and those tied with them are among them."""
        found, exact = [], True
        for part in self._parts:
            allowed = None if mask is None else mask[part.first : part.first + len(part.store)]
            positions, scores, all_best = part.best(query, k, allowed)
            found.append((positions + part.first, scores))
            exact &= all_best
        return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found]), exact


class _Settings(NamedTuple):
    """The arguments of `DenseIndex.over`."""

    kind: str
    cells: int | None
    nprobe: int
    links: int
    ef_construction: int
    ef_search: int
    device: str
    seed: int


def _check(store: VectorStore, settings: _Settings, earlier: DenseIndex | None) -> None:
    """Check the arguments of `DenseIndex.over`."""
    if not is_a(store, VectorStore):
        raise InputError(f"dense retrieval is over the vectors of a VectorStore; got {shown(store)}")
    one_of("kind of dense index", settings.kind, _KINDS)
    if not is_a(settings.device, str):
        raise InputError(f"device must be 'cpu', 'cuda' or 'auto'; got {shown(settings.device)}")
    _check_numbers(settings, len(store.stored))
    if not is_a(earlier, DenseIndex, type(None)) or (earlier is not None and earlier.kind != settings.kind):
        raise InputError(f"earlier must be a DenseIndex of the kind {settings.kind!r}; got {shown(earlier)}")


def _check_numbers(settings: _Settings, vectors: int) -> None:
    for name in ("nprobe", "links", "ef_construction", "ef_search", "seed"):
        number = getattr(settings, name)
        if whole(name, number, name != "seed") >= 2**31:
            raise InputError(f"{name} must be below 2^31; got {shown(number)}")
    cells = settings.cells
    if cells is not None and whole("cells", cells, 1) > vectors:
        raise InputError(f"cells is {shown(cells)}, but there are {vectors} vectors")


def _finder(store: VectorStore, settings: _Settings) -> _Finder | _Scan | None:
    """What finds neighbours in a store; None to compare all.

    Raises:
        ConfigError, MissingExtraError: as `DenseIndex.over`.
    """
    on_cpu = settings.kind == "flat" and settings.device in ("cpu", "auto")
    try:
        faiss = require("faiss", extra="faiss-cpu", purpose="dense retrieval")
    except MissingExtraError:
        if not on_cpu:
            raise
        faiss = None
    if not len(store):
        return None
    if on_cpu and scanned(store) and (settings.device == "cpu" or not _devices(faiss)):
        return _Scan(store.stored)
    return None if faiss is None else _filled(faiss, store, settings)


def _devices(faiss: ModuleType | None) -> int:
    """Devices with CUDA that faiss finds."""
    return int(faiss.get_num_gpus()) if faiss is not None and hasattr(faiss, "StandardGpuResources") else 0


def _filled(faiss: ModuleType, store: VectorStore, settings: _Settings) -> _Finder:
    """A faiss index with the vectors of a store."""
    n, kind = len(store.stored), settings.kind
    index = _untrained(faiss, n, store.dimensions, settings)
    neighbours = on_device(faiss, index, kind, settings.device)
    _fill(neighbours, store.stored)
    if neighbours is not index:
        return _Finder(neighbours, None, _MOST_ON_CUDA)

    def selecting(bits: NDArray[np.uint8]) -> object:
        selector = faiss.IDSelectorBitmap(bits)
        if kind == "flat":
            return faiss.SearchParameters(sel=selector)
        if kind == "ivf":
            return faiss.SearchParametersIVF(sel=selector, nprobe=settings.nprobe)
        return faiss.SearchParametersHNSW(sel=selector, efSearch=settings.ef_search)

    return _Finder(neighbours, selecting, n)


def _untrained(faiss: ModuleType, n: int, d: int, settings: _Settings) -> _Neighbours:
    """An empty faiss index for n vectors of d dimensions."""
    if settings.kind == "flat":
        flat: _Neighbours = faiss.IndexFlatIP(d)
        return flat
    if settings.kind == "ivf":
        cells = min(n, settings.cells) if settings.cells else max(1, min(int(4 * n**0.5), n // 39))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.min_points_per_centroid, index.nprobe = settings.seed, 1, settings.nprobe
    else:
        index = faiss.IndexHNSWFlat(d, settings.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = settings.ef_construction, settings.ef_search
    made: _Neighbours = index
    return made


def _fill(index: _Neighbours, stored: Decoded) -> None:
    """Train an index on vectors, and add them."""
    n = len(stored)
    if not index.is_trained:
        index.train(stored.decode(np.arange(n)))
    for low in range(0, n, CHUNK):
        index.add(stored.decode(np.arange(low, min(low + CHUNK, n))))


def faiss_index(
    stored: Decoded, *, kind: str, cells: int | None, nprobe: int, links: int, ef_construction: int, seed: int
) -> object:
    """A faiss index of vectors on the CPU, as `DenseIndex` searches it; arguments as `DenseIndex.over`.

    Raises:
        InputError: a number is out of range, or there are no vectors.
        MissingExtraError: faiss is not installed.
    """
    settings = _Settings(kind, cells, nprobe, links, ef_construction, ef_construction, "cpu", seed)
    _check_numbers(settings, len(stored))
    if not len(stored):
        raise InputError("there are no vectors to index")
    faiss = require("faiss", extra="faiss-cpu", purpose="writing a faiss index")
    index = _untrained(faiss, len(stored), stored.dimensions, settings)
    _fill(index, stored)
    return index


def on_device(faiss: ModuleType, index: _Neighbours, kind: str, device: str) -> _Neighbours:
    """A faiss index, moved to CUDA where that is asked for, or found under `auto`.

    Raises:
        ConfigError: the device is not available.
    """
    found = _devices(faiss) > 0
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
