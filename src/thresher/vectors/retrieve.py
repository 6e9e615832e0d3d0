"""Dense retrieval through faiss: every vector compared (`flat`), cells of a k-means (`ivf`), or a graph (`hnsw`).

Where a document has several vectors its best one counts, so more neighbours than documents are asked for. `flat` is
exact; the others trade recall for time by `nprobe` and `ef_search`. On CUDA, `flat` and `ivf` run on the device where
faiss was built for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.artifact import read_manifest, writing
from thresher.errors import ConfigError, DamagedArtifactError, InputError, require
from thresher.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.vectors.store import ForwardIndex

_KIND, _FORMAT = "dense-index", 1
_KINDS = ("flat", "ivf", "hnsw")


class DenseIndex:
    """A faiss index over the vectors of a forward index, by inner product."""

    def __init__(self, index: Any, docnos: Sequence[str], document_of_row: NDArray[np.int64], kind: str) -> None:
        self._index = index
        self.docnos = docnos
        self.document_of_row = document_of_row
        self.kind = kind

    @classmethod
    def over(
        cls,
        forward: ForwardIndex,
        *,
        kind: str = "flat",
        cells: int | None = None,
        nprobe: int = 16,
        links: int = 32,
        ef_construction: int = 200,
        ef_search: int = 128,
        device: str = "cpu",
        seed: int = 0,
    ) -> DenseIndex:
        """Index the vectors of `forward`.

        Args:
            forward: where they come from.
            kind: `flat`, `ivf` or `hnsw`.
            cells: of `ivf`; by default 4 times the root of the number of vectors, at most a 39th of it.
            nprobe: cells of `ivf` searched for a query.
            links: of a node of `hnsw`.
            ef_construction: candidates kept while the graph is built.
            ef_search: candidates kept while it is searched.
            device: `cpu`, or `cuda` with `faiss-gpu`.
            seed: of the k-means.

        Raises:
            ConfigError: the kind is unknown, or the device is not to be had.
            MissingExtraError: faiss is not installed.
        """
        faiss: Any = require("faiss", extra="faiss-cpu", purpose="dense retrieval")
        n = forward.stored.codes.shape[0]
        vectors = forward.stored.decode(np.arange(n))
        if kind == "flat":
            index = faiss.IndexFlatIP(forward.dimensions)
        elif kind == "ivf":
            cells = cells or max(1, min(int(4 * n**0.5), n // 39))
            index = faiss.IndexIVFFlat(
                faiss.IndexFlatIP(forward.dimensions), forward.dimensions, cells, faiss.METRIC_INNER_PRODUCT
            )
            index.cp.seed = seed
            index.cp.min_points_per_centroid = 1
            index.nprobe = nprobe
        elif kind == "hnsw":
            index = faiss.IndexHNSWFlat(forward.dimensions, links, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = ef_construction, ef_search
        else:
            raise ConfigError(f"unknown kind of dense index {kind!r}; use {', '.join(_KINDS)}")
        index = _on_device(faiss, index, kind, device)
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
        owners = np.repeat(np.arange(len(forward), dtype=np.int64), np.diff(forward.firsts))
        return cls(index, forward.docnos, owners, kind)

    def search(self, queries: NDArray[Any], k: int = 10) -> list[Ranking]:
        """The k best documents of each query, best first; ties by bytewise smaller docno.

        Args:
            queries: float[n, dimensions].
            k: documents a query.

        Raises:
            InputError: k is below 1, or the queries have another shape.
        """
        if k < 1:
            raise InputError(f"k is {k}; ask for at least one document")
        if queries.ndim != 2 or queries.shape[1] != self._index.d:
            raise InputError(f"questions have the shape {queries.shape}, expected (n, {self._index.d})")
        most = int(np.bincount(self.document_of_row).max())
        wanted = min(len(self.document_of_row), k * most + (16 if self.kind == "flat" else 0))
        scores, rows = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), wanted)
        return [self._documents(row, score, k) for row, score in zip(rows, scores, strict=True)]

    def save(self, target: str | Path, *, overwrite: bool = False) -> None:
        """Write the index as an artifact."""
        faiss: Any = require("faiss", extra="faiss-cpu", purpose="dense retrieval")
        with writing(target, kind=_KIND, format=_FORMAT, overwrite=overwrite) as draft:
            faiss.write_index(self._index, str(draft.path / "index.faiss"))
            np.save(draft.path / "documents.npy", self.document_of_row, allow_pickle=False)
            (draft.path / "docnos.txt").write_bytes(b"".join(docno.encode() + b"\n" for docno in self.docnos))
            draft.fields["dense_kind"] = self.kind

    @classmethod
    def open(cls, path: str | Path) -> DenseIndex:
        """Open what `save` wrote.

        Raises:
            ArtifactError: there is none.
            DamagedArtifactError: its files do not fit together.
        """
        path = Path(path)
        manifest = read_manifest(path, kind=_KIND, format=_FORMAT)
        faiss: Any = require("faiss", extra="faiss-cpu", purpose="dense retrieval")
        try:
            index = faiss.read_index(str(path / "index.faiss"))
            owners = np.load(path / "documents.npy", allow_pickle=False)
            docnos = (path / "docnos.txt").read_text(encoding="utf-8").split("\n")[:-1]
        except (RuntimeError, OSError, ValueError) as err:
            raise DamagedArtifactError(str(path), f"cannot be read ({err}); rebuild the dense index") from err
        if index.ntotal != len(owners) or (len(owners) and int(owners.max()) >= len(docnos)):
            raise DamagedArtifactError(str(path), "its vectors and docnos do not fit together; rebuild it")
        return cls(index, docnos, owners, str(manifest.fields.get("dense_kind", "flat")))

    def _documents(self, rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Ranking:
        best: dict[str, float] = {}
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if row >= 0:  # faiss fills up with -1
                docno = self.docnos[self.document_of_row[row]]
                best[docno] = max(score, best.get(docno, -np.inf))
        ordered = sorted(best.items(), key=lambda item: (-item[1], item[0].encode()))
        return Ranking.from_pairs(ordered[:k], source="dense")


def _on_device(faiss: Any, index: Any, kind: str, device: str) -> Any:
    if device == "cpu":
        return index
    if kind == "hnsw":
        raise ConfigError("faiss has no hnsw on CUDA; use flat or ivf, or the device cpu")
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        raise ConfigError(
            f"device {device!r} was asked for, but this faiss sees none; pip install 'thresher[faiss-gpu]' in place of "
            "faiss-cpu on a machine with CUDA, or use the device cpu"
        )
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
