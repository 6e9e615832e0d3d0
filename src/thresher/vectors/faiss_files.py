"""Index files of faiss: flat, IVF with flat lists, and HNSW over flat vectors, with or without a map of ids.

    write_faiss(store.stored, "vectors.faiss", kind="hnsw")               # row i is position i of the store
    FaissFile.open("vectors.faiss").store("my-vectors", docnos=docnos)    # needs no faiss

Faiss reads a file without asking whether its parts fit together, and searches by the numbers in it. So a file is parsed
here first: every size is compared with what the file holds, and every number that a search follows with what it leads
to (`FaissFile.open`). What has passed may be given to faiss (`thresher.integrations.faiss`).

The layout is that of faiss 1.6 to 1.15 on a machine with little-endian numbers: a name of four letters, the fields of
the class, then those of what it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import one_of, path_of, shown, strings
from thresher.durable import replacing
from thresher.errors import DataNotFoundError, InputError, require
from thresher.mapping import map_file
from thresher.vectors.retrieve import faiss_index
from thresher.vectors.store import VectorStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from thresher.vectors.codecs import Decoded

SUFFIX = ".faiss"
KINDS = FLAT, IVF, HNSW = "flat", "ivf", "hnsw"
_FLAT = (b"IxFI", b"IxF2", b"IxFl")
_MAPS = (b"IxMp", b"IxM2")
_INNER_PRODUCT, _L2 = 0, 1
_PIECE = 1024
"""Vectors that are gathered at a time."""
_LARGEST = 2**31 - 1
_WIDEST = 2**20
"""Dimensions of a vector, and candidates of a search, at most."""
_MOST_LEVELS = 64


class FaissFile:
    """The vectors of a faiss index file, checked. Open one with `FaissFile.open`.

    Attributes:
        path: the file.
        kind: `flat`, `ivf` or `hnsw`.
        metric: `inner-product` or `l2`.
        dimensions: of a vector.
        ids: int64[n], ascending: what faiss returns for each vector.
    """

    def __init__(self, path: Path, parsed: _Parsed, content: NDArray[np.uint8]) -> None:
        self.path = path
        self.kind, self.dimensions = parsed.kind, parsed.dimensions
        self.metric = "inner-product" if parsed.metric == _INNER_PRODUCT else "l2"
        order = np.argsort(parsed.ids, kind="stable")
        self.ids: NDArray[np.int64] = parsed.ids[order]
        self._starts, self._content = parsed.starts[order], content
        if len(self.ids) and bool((np.diff(self.ids) == 0).any()):
            twice = int(self.ids[int(np.argmin(np.diff(self.ids)))])
            raise InputError(f"two of its vectors have the id {twice}", str(path))

    @classmethod
    def open(cls, path: str | Path) -> FaissFile:
        """Map a file into memory and check it.

        Raises:
            DataNotFoundError: there is no such file.
            InputError: it is damaged, or an index of another type; says where.
        """
        file = path_of(path)
        if not file.is_file():
            raise DataNotFoundError(f"there is no faiss index at {file}")
        content = np.frombuffer(map_file(file), np.uint8)
        return cls(file, _Reader(content, str(file)).index(), content)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<FaissFile: {len(self)} vectors of {self.dimensions} dimensions, {self.kind}, {self.metric}>"

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """The vectors in order of their ids, float32[some, dimensions].

        Raises:
            InputError: a value is not finite.
        """
        width = self.dimensions * 4
        for low in range(0, len(self), _PIECE):
            starts = self._starts[low : low + _PIECE]
            if len(starts) * width == starts[-1] + width - starts[0] and bool((np.diff(starts) == width).all()):
                rows = self._content[starts[0] : starts[-1] + width]
            else:
                rows = self._content[starts[:, None] + np.arange(width)]
            vectors = np.frombuffer(rows.tobytes(), "<f4").reshape(len(starts), self.dimensions).astype(np.float32)
            if not np.isfinite(vectors).all():
                row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
                problem = f"the vector with the id {int(self.ids[low + row])} holds a value that is not finite"
                raise InputError(problem, str(self.path))
            yield vectors

    def docnos(self, docnos: Sequence[str]) -> list[str]:
        """The docno of each vector in order of its id: the id is a place in `docnos`.

        Raises:
            InputError: an id has no docno.
        """
        names = strings("docnos", docnos)
        if len(self.ids) and not (int(self.ids[0]) >= 0 and int(self.ids[-1]) < len(names)):
            wrong = int(self.ids[0] if self.ids[0] < 0 else self.ids[-1])
            raise InputError(f"a vector has the id {wrong}, and there are {len(names)} docnos", str(self.path))
        return [names[number] for number in self.ids.tolist()]

    @checked_call
    def store(
        self,
        target: str | Path,
        *,
        docnos: Sequence[str],
        storage: str = "int8",
        sketch: int = 0,
        encoder: str = "",
        encoder_name: str = "",
        overwrite: bool = False,
    ) -> VectorStore:
        """Write the vectors to a vector store keyed by docno, which a recipe takes (`[vectors] source`).

        Args:
            target: the folder to make.
            docnos: by id.
            storage: `float16`, `int8` or `pq<bytes>`.
            sketch: as `VectorStore.build`.
            encoder: fingerprint of the encoder that made them.
            encoder_name: its name.
            overwrite: replace a vector store at `target`.

        Raises:
            InputError: distances are not inner products, an id has no docno, or a value is not finite.
        """
        if self.metric != "inner-product":
            raise InputError(
                "it compares by Euclidean distance (L2), and vectors here are compared by inner product; where all "
                "have the length 1 both give the same order: make it with METRIC_INNER_PRODUCT",
                str(self.path),
            )
        return VectorStore.build(
            target,
            self.batches(),
            docnos=self.docnos(docnos),
            storage=storage,
            sketch=sketch,
            encoder=encoder,
            encoder_name=encoder_name,
            overwrite=overwrite,
        )


class _Parsed(NamedTuple):
    """What a file holds.

    Attributes:
        kind: as `FaissFile.kind`.
        metric: as faiss numbers it.
        dimensions: of a vector.
        ids: int64[n].
        starts: int64[n], the byte at which each vector starts.
    """

    kind: str
    metric: int
    dimensions: int
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]


class _Header(NamedTuple):
    """What every index begins with."""

    name: bytes
    dimensions: int
    vectors: int
    metric: int


class _Reader:
    """Reads a file from its start, never beyond its end."""

    def __init__(self, content: NDArray[np.uint8], source: str) -> None:
        self.content, self.source, self.at = content, source, 0

    def index(self) -> _Parsed:
        """The index that is the file."""
        found = self._index()
        if self.at != len(self.content):
            raise self.problem(f"{len(self.content) - self.at} bytes follow the end of the index")
        return found

    def problem(self, what: str) -> InputError:
        """The error about what stands here."""
        return InputError(f"{what} (byte {self.at} of a faiss index); it is damaged, or of a type not read here",
                          self.source)  # fmt: skip

    def skip(self, size: int) -> int:
        """Step over `size` bytes; returns where they start."""
        if size < 0 or size > len(self.content) - self.at:
            raise self.problem(f"{size} bytes are announced, and {len(self.content) - self.at} are left")
        self.at += size
        return self.at - size

    def array(self, dtype: DTypeLike, count: int) -> NDArray[np.generic]:
        """`count` numbers."""
        kind = np.dtype(dtype)
        start = self.skip(count * kind.itemsize)
        return np.frombuffer(self.content[start : self.at].tobytes(), kind)

    def number(self, dtype: DTypeLike) -> int:
        """One whole number."""
        return int(self.array(dtype, 1)[0])

    def vector(self, dtype: DTypeLike, most: int = _LARGEST) -> NDArray[np.generic]:
        """Numbers after how many they are."""
        count = self.number("<u8")
        if count > most:
            raise self.problem(f"a list of {count} numbers, where at most {most} can be")
        return self.array(dtype, count)

    def header(self) -> _Header:
        """Name and fields that all indexes have."""
        name = bytes(self.array(np.uint8, 4))
        dimensions, count = self.number("<i4"), self.number("<i8")
        self.skip(16)
        trained, metric = self.number("u1"), self.number("<i4")
        if not (0 < dimensions <= _WIDEST and 0 <= count <= _LARGEST):
            raise self.problem(f"{count} vectors of {dimensions} dimensions")
        if trained != 1:
            raise self.problem("an index that is not trained")
        if metric not in (_INNER_PRODUCT, _L2):
            raise self.problem(f"metric {metric}, neither inner product nor L2")
        return _Header(name, dimensions, count, metric)

    def _index(self) -> _Parsed:
        start = self.at
        header = self.header()
        if header.name in _MAPS:
            inner = self._index_below(header)
            ids = self.vector("<i8", header.vectors).astype(np.int64)
            if len(ids) != header.vectors:
                raise self.problem(f"{len(ids)} ids for {header.vectors} vectors")
            if len(inner.ids) and not np.array_equal(inner.ids, np.arange(len(ids))):
                raise self.problem("ids of ids")
            return inner._replace(ids=ids)
        if header.name in _FLAT:
            return self._flat(header)
        if header.name == b"IwFl":
            return self._ivf(header)
        if header.name == b"IHNf":
            return self._hnsw(header)
        self.at = start
        raise self.problem(f"an index of the type {shown(header.name.decode('latin-1'))}; flat, IVFFlat, HNSWFlat and "
                           "IDMap over them are read")  # fmt: skip

    def _index_below(self, above: _Header) -> _Parsed:
        """The index that another one holds, with the same vectors."""
        if bytes(self.content[self.at : self.at + 4]) in _MAPS:
            raise self.problem("a map of ids within another index")
        found = self._index()
        if (found.dimensions, len(found.ids)) != (above.dimensions, above.vectors):
            raise self.problem(f"{len(found.ids)} vectors of {found.dimensions} dimensions within an index of "
                               f"{above.vectors} of {above.dimensions}")  # fmt: skip
        return found

    def _flat(self, header: _Header) -> _Parsed:
        d, n = header.dimensions, header.vectors
        if (told := self.number("<u8")) != n * d:
            raise self.problem(f"{told} values for {n} vectors of {d} dimensions")
        start = self.skip(n * d * 4)
        ids = np.arange(n, dtype=np.int64)
        return _Parsed(FLAT, header.metric, d, ids, start + ids * (d * 4))

    def _ivf(self, header: _Header) -> _Parsed:
        d, cells, probes = header.dimensions, self.number("<u8"), self.number("<u8")
        if not (0 < cells <= _LARGEST and 0 < probes <= _LARGEST):
            raise self.problem(f"{cells} cells, of which {probes} are searched")
        name = bytes(self.content[self.at : self.at + 4])
        if name not in _FLAT:
            raise self.problem("cells that are not found by flat vectors")
        if (quantizer := self._index()).dimensions != d or len(quantizer.ids) != cells:
            raise self.problem(f"{len(quantizer.ids)} centres for {cells} cells")
        if (kind := self.number("u1")) != 0 or self.number("<u8") != 0:
            raise self.problem(f"a direct map (type {kind}), which is not read")
        if bytes(self.array(np.uint8, 4)) != b"ilar" or self.number("<u8") != cells or self.number("<u8") != d * 4:
            raise self.problem("inverted lists that do not fit the index")
        sizes = self._sizes(cells)
        if int(sizes.sum()) != header.vectors or (len(sizes) and int(sizes.max()) > header.vectors):
            raise self.problem(f"lists of {int(sizes.sum())} vectors in an index of {header.vectors}")
        ids, starts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for size in sizes[sizes > 0].tolist():
            start = self.skip(size * d * 4)
            starts.append(start + np.arange(size, dtype=np.int64) * (d * 4))
            ids.append(self.array("<i8", size).astype(np.int64))
        return _Parsed(IVF, header.metric, d, np.concatenate(ids), np.concatenate(starts))

    def _sizes(self, cells: int) -> NDArray[np.int64]:
        """int64[cells]: vectors of each list."""
        form = bytes(self.array(np.uint8, 4))
        given = self.vector("<u8", 2 * cells)
        if len(given) and int(given.max()) > _LARGEST:
            raise self.problem(f"a list of {int(given.max())} vectors")
        sizes = given.astype(np.int64)
        if form == b"full" and len(sizes) == cells:
            return sizes
        if form == b"sprs" and len(sizes) % 2 == 0:
            pairs = sizes.reshape(-1, 2)
            if bool((np.diff(pairs[:, 0]) > 0).all()) and not (len(pairs) and int(pairs[-1, 0]) >= cells):
                made = np.zeros(cells, np.int64)
                made[pairs[:, 0]] = pairs[:, 1]
                return made
        raise self.problem("sizes of lists that do not fit the cells")

    def _hnsw(self, header: _Header) -> _Parsed:
        n = header.vectors
        self.vector("<f8", _MOST_LEVELS)
        ends = self.vector("<i4", _MOST_LEVELS + 1).astype(np.int64)
        levels = self.vector("<i4", n).astype(np.int64)
        offsets = self.vector("<u8", n + 1)
        if len(offsets) and int(offsets.max()) > _LARGEST:
            raise self.problem("a graph with more links than faiss makes")
        links = self.vector("<i4").astype(np.int64)
        numbers = [self.number("<i4") for _ in range(5)]
        fault = _Graph(ends, levels, offsets.astype(np.int64), links, numbers[0], numbers[1]).fault(n)
        if fault or not 0 <= min(numbers[2:]) <= max(numbers[2:]) <= _WIDEST:
            raise self.problem(fault or "a graph whose settings are out of range")
        found = self._index_below(header)
        if found.kind != FLAT:
            raise self.problem("a graph over vectors that are not flat")
        return found._replace(kind=HNSW, metric=header.metric)


class _Graph(NamedTuple):
    """The links of an HNSW index.

    Attributes:
        ends: int64[levels + 1], where the links of each level end among those of a node.
        levels: int64[n], of how many levels a node is.
        offsets: int64[n + 1], where the links of each node start.
        links: int64[offsets[n]], nodes; -1 for none.
        entry: the node where a search starts; -1 where there is none.
        highest: the level at which it starts.
    """

    ends: NDArray[np.int64]
    levels: NDArray[np.int64]
    offsets: NDArray[np.int64]
    links: NDArray[np.int64]
    entry: int
    highest: int

    def fault(self, n: int) -> str:
        """What leads nowhere in a graph of n nodes; empty where all is well."""
        ends, levels, offsets = self.ends, self.levels, self.offsets
        if len(ends) < 1 or int(ends[0]) != 0 or bool((np.diff(ends) < 0).any()):
            return "levels of a graph whose links do not ascend"
        fits = len(levels) == n and len(offsets) == n + 1
        if not fits or int(offsets[0]) != 0 or int(offsets[-1]) != len(self.links):
            return f"a graph that is not of {n} nodes"
        if n == 0:
            return "" if self.entry == -1 else "a graph without nodes that is searched from one"
        if int(levels.min()) < 1 or int(levels.max()) >= len(ends) or bool((np.diff(offsets) != ends[levels]).any()):
            return "a node whose links do not fit its levels"
        if not 0 <= self.entry < n or not 0 <= self.highest < int(levels[self.entry]):
            return f"a graph that is searched from the node {self.entry} at the level {self.highest}, where it is not"
        return self._lost(n)

    def _lost(self, n: int) -> str:
        """What is wrong with the links of a graph whose parts fit together."""
        used = np.flatnonzero(self.links != -1)
        to = self.links[used]
        if len(to) and not (int(to.min()) >= 0 and int(to.max()) < n):
            return f"a link to a node that is none of {n}"
        owners = np.searchsorted(self.offsets, used, side="right") - 1
        at = np.searchsorted(self.ends, used - self.offsets[owners], side="right") - 1
        return "a link to a node that is not at its level" if bool((self.levels[to] <= at).any()) else ""


def write_faiss(
    stored: Decoded,
    file: str | Path,
    *,
    kind: str = FLAT,
    cells: int | None = None,
    nprobe: int = 16,
    links: int = 32,
    ef_construction: int = 200,
    seed: int = 0,
) -> None:
    """Write vectors as an index file of faiss; the id of a vector is its row.

    Such a file is searched on a CPU, or moved to CUDA (`faiss.index_cpu_to_gpu`).

    Args:
        stored: the vectors, such as `VectorStore.stored`.
        file: what to write.
        kind: `flat`, `ivf` or `hnsw`.
        cells: as `DenseIndex.over`, as are all others.
        nprobe: kept in the file.
        links: neighbours that a node of `hnsw` keeps.
        ef_construction: candidates kept while the graph is built, and when the file is searched.
        seed: for the k-means.

    Raises:
        ConfigError: an unknown kind.
        InputError: a number is out of range, or there are no vectors.
        MissingExtraError: faiss is not installed.
    """
    one_of("kind of faiss index", kind, KINDS)
    index = faiss_index(
        stored, kind=kind, cells=cells, nprobe=nprobe, links=links, ef_construction=ef_construction, seed=seed
    )
    faiss = require("faiss", extra="faiss-cpu", purpose="writing a faiss index")
    with replacing(file) as stream:
        faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))
