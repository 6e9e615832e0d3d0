"""Every engine of the panel behind one interface: build, open, prepare a query, run it, name the ids it found.

Only `run` is timed: dicts, frames and arrays that an engine takes are made in `prepare`, ids are read out in `ids`.
`settings(k)` lists what is tried: a setting is a name and the keyword arguments of `run`. Engines that take whole query
weights only get float ones rounded (`levels`); what they find is still judged by the float scores.
"""

from __future__ import annotations

import importlib
import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.search.columns import open_columns, write_columns
from eval.search.matrices import whole_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eval.search.matrices import Matrix, Rows


def folder_bytes(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def tokens(rows: Rows, i: int) -> tuple[list[str], NDArray[Any]]:
    """A row's terms by name, and their weights."""
    terms, weights = rows.row(i)
    return [f"t{t}" for t in terms.tolist()], weights


class Engine:
    """One engine of the panel; subclasses build, open and run it.

    A prepared query and what `run` returns have the engine's own types, which is why they are untyped here.
    """

    name = ""
    package = module = ""
    kinds: tuple[str, ...] = ("default",)
    levels = 0
    """Whole query weights that an engine tells apart; 0 where it takes float weights."""
    compiles = False
    """Whether building loads or compiles code that a second build finds ready."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind

    @property
    def version(self) -> str:
        return version(self.package)

    def bytes(self) -> int:
        return folder_bytes(self.folder)

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        return {self.kind: {}}

    def load(self) -> None:
        """Import what opening needs."""
        importlib.import_module(self.module or self.package.replace("-", "_"))

    def work(self, query: Any, k: int, **options: Any) -> dict[str, float]:
        """What the engine reports that it did for a query."""
        return {}

    def build(self, matrix: Matrix) -> None:
        """Build the engine's index of a collection in its folder."""
        raise NotImplementedError

    def open(self) -> None:
        """Open the index."""
        raise NotImplementedError

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        """Query i in the engine's own form."""
        raise NotImplementedError

    def run(self, query: Any, k: int, **options: Any) -> Any:
        """The k best for a prepared query."""
        raise NotImplementedError

    def ids(self, found: Any) -> NDArray[np.int64]:
        """The passages' numbers in what `run` returned."""
        raise NotImplementedError


class Thresher(Engine):
    """thresher; `default` is what a user gets without options."""

    name = package = "thresher"
    kinds = ("default", "similarity order", "bp order")
    compiles, module = True, "thresher.search"

    @property
    def version(self) -> str:
        import thresher

        return thresher.__version__

    def build(self, matrix: Matrix) -> None:
        from thresher.index import IndexBuilder
        from thresher.index.commit import writing_index
        from thresher.index.memory import MemoryLimit
        from thresher.mapping import release
        from thresher.records import Passage, SparseBatch

        rows = matrix.documents
        options: dict[str, dict[str, Any]] = {
            "default": {},
            "source order": {"order": "source"},
            "similarity order": {"order": "similarity"},
            "bp order": {"order": "bp"},
            "memory 3 GB": {},
        }
        if self.kind == "memory 3 GB":
            options[self.kind]["memory"] = MemoryLimit(3)
        with writing_index(self.folder, overwrite=True) as draft:
            builder = IndexBuilder(draft.segment.path, [f"t{i}" for i in range(matrix.terms)], **options[self.kind])
            for first in range(0, len(rows), 10_000):
                last = min(first + 10_000, len(rows))
                p = rows.indptr[first : last + 1]
                terms, weights = (
                    rows.terms[p[0] : p[-1]].astype(np.uint32),
                    rows.weights[p[0] : p[-1]].astype(np.float32),
                )
                passages = [Passage(str(i), "") for i in range(first, last)]
                builder.add(passages, SparseBatch(p - p[0], terms, weights))
                release(rows.terms[p[0] : p[-1]])  # pages of the rows count too
                release(rows.weights[p[0] : p[-1]])
            draft.fields.update(builder.finish())

    def open(self) -> None:
        from thresher.search import Index

        self.index = Index.open(self.folder)

    def bytes(self) -> int:
        """Everything but the passages' texts: postings, directory, maxima, order, docnos, vocabulary."""
        return sum(f.stat().st_size for f in self.segment.iterdir() if not f.name.startswith("passages."))

    @property
    def segment(self) -> Path:
        """Where the index's only segment is."""
        path: Path = self.index.layouts[0].path
        return path

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        if self.kind != "default":
            return {self.kind: {}}
        found: dict[str, dict[str, Any]] = {
            "default": {},
            "term-at-a-time": {"plan": "term-at-a-time"},
            "block-max": {"plan": "block-max"},
        }
        from thresher.search import Effort

        found |= {f"approx {a}": {"effort": Effort(blocks=a)} for a in (0.9, 0.8, 0.7, 0.6, 0.5)}
        return found | {f"approx, {n} terms": {"effort": Effort(terms=n)} for n in (20, 10)}

    def work(self, query: Any, k: int, **options: Any) -> dict[str, float]:
        told = self.index.search(query, k, explain=True, **options).explanations[0]
        return {
            "postings_query": told.postings,
            "scored_share": told.scored / max(told.postings, 1),
            "visited_share": told.visited / max(told.blocks, 1),
            "term_at_a_time_share": float(told.plan == "term-at-a-time"),
        }

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        return rows.row(i)

    def run(self, query: Any, k: int, **options: Any) -> Any:
        return self.index.search(query, k, **options)

    def ids(self, found: Any) -> NDArray[np.int64]:
        return np.array(found.docnos, np.int64)


class Bmp(Engine):
    """bmp: exact and approximate block-max pruning with superblocks."""

    name = package = "bmp"
    kinds = ("b = 32",)
    levels = 32  # rounds by itself, up

    def build(self, matrix: Matrix) -> None:
        import bmp

        self.folder.mkdir(parents=True)
        index = bmp.Indexer(str(self.folder / "index.bmp"), bsize=int(self.kind[4:]), compress_range=False)
        for i in range(len(matrix.documents)):
            names, impacts = tokens(matrix.documents, i)
            index.add_document(str(i), dict(zip(names, impacts.tolist(), strict=True)))
        index.finish()

    def open(self) -> None:
        import bmp

        self.searcher = bmp.Searcher(str(self.folder / "index.bmp"))

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        return {f"{self.kind}, alpha 1": {"alpha": 1.0}, f"{self.kind}, alpha 0.85": {"alpha": 0.85}}

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        names, weights = tokens(rows, i)
        return dict(zip(names, weights.tolist(), strict=True))

    def run(self, query: Any, k: int, *, alpha: float = 1.0, **options: Any) -> Any:
        return self.searcher.search(query, k=k, alpha=alpha, beta=1.0)

    def ids(self, found: Any) -> NDArray[np.int64]:
        return np.array([int(i) for i in found[0]], np.int64)


class Pisa(Engine):
    """PISA through PyTerrier: dynamic pruning over 8-bit impacts."""

    name, package = "pisa", "pyterrier-pisa"
    levels, compiles = 255, True

    def build(self, matrix: Matrix) -> None:
        from pyterrier_pisa import _pisathon

        from eval.search.formats import sums, write_pisa

        rows, order, scratch = matrix.documents, matrix.ordered, self.folder / "columns"
        scratch.mkdir(parents=True)
        columns = matrix.columns or write_columns(scratch, rows, matrix.terms, order)
        write_pisa(self.folder, columns, sums(rows.indptr, rows.weights)[order], order)
        del columns  # which are mapped, so that the disk is free for what follows
        shutil.rmtree(scratch)
        for name, lexicon in (("documents", "doclex"), ("terms", "termlex")):
            _pisathon.build_binlex(str(self.folder / f"fwd.{name}"), str(self.folder / f"fwd.{lexicon}"))
        self.open()  # compresses, and writes the maxima
        for name in ("docs", "freqs"):
            (self.folder / f"inv.{name}").unlink()

    def open(self) -> None:
        from pyterrier_pisa import PisaIndex

        index = PisaIndex(str(self.folder), stemmer="none", threads=1)
        self.retriever = index.quantized(num_results=10, toks_scale=1.0, query_weighted=True, threads=1)

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        return {
            name.replace("_", " "): {"algorithm": name} for name in ("maxscore", "block_max_maxscore", "block_max_wand")
        }

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        out = (np.empty(k, np.int32), np.empty(k, object), np.empty(k, np.int32), np.empty(k, np.float32))
        names, weights = tokens(rows, i)
        if (weights != np.rint(weights)).any():
            weights = whole_weights(weights, self.levels)
        return [(0, dict(zip(names, weights.astype(float).tolist(), strict=True)))], out

    def run(self, query: Any, k: int, *, algorithm: str = "maxscore", **options: Any) -> Any:
        from pyterrier_pisa import _pisathon

        inputs, (qidxs, docnos, ranks, scores) = query
        size = _pisathon.retrieve(
            self.retriever._ctxt, algorithm, inputs, k=k, threads=1, query_weighted=1, pretokenised=True,
            result_qidxs=qidxs, result_docnos=docnos, result_ranks=ranks, result_scores=scores,
        )  # fmt: skip
        return docnos[:size]

    def ids(self, found: Any) -> NDArray[np.int64]:
        return np.asarray(found, np.int64)


class Impact(Engine):
    """impact-index: exact MaxScore and WAND over float impacts."""

    name = package = "impact-index"

    def build(self, matrix: Matrix) -> None:
        import impact_index

        self.folder.mkdir(parents=True)
        builder = impact_index.IndexBuilder(str(self.folder))
        for i in range(len(matrix.documents)):
            terms, impacts = matrix.documents.row(i)
            builder.add(i, terms.astype(np.uintp), impacts.astype(np.float32))
        builder.build(in_memory=True)

    def open(self) -> None:
        import impact_index

        self.index = impact_index.Index.load(str(self.folder), True)

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        return {"maxscore": {}}

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        terms, weights = rows.row(i)
        return dict(zip(terms.tolist(), weights.astype(float).tolist(), strict=True))

    def run(self, query: Any, k: int, **options: Any) -> Any:
        return self.index.search_maxscore(query, k)

    def ids(self, found: Any) -> NDArray[np.int64]:
        return np.array([hit.docid for hit in found], np.int64)


class ImpactBmp(Impact):
    """Block-max pruning in impact-index."""

    name = "impact-index BMP"
    kinds = ("b = 32",)
    levels = 32  # rounds by itself, up

    def build(self, matrix: Matrix) -> None:
        import impact_index

        base = self.folder.parent / "impact-index--default"
        self.folder.mkdir(parents=True)
        impact_index.Index.load(str(base), True).to_bmp_streaming(str(self.folder / "index.bmp"), 32, False)

    def open(self) -> None:
        import impact_index

        self.index = impact_index.BmpSearcher(str(self.folder / "index.bmp"))

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        return {"b = 32, alpha 1": {}}

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        terms, weights = rows.row(i)
        return {str(t): w for t, w in zip(terms.tolist(), weights.astype(float).tolist(), strict=True)}

    def run(self, query: Any, k: int, **options: Any) -> Any:
        return self.index.search(query, k)

    def ids(self, found: Any) -> NDArray[np.int64]:
        return np.array([int(i) for i in found[0]], np.int64)


class Seismic(Engine):
    """Seismic: approximate, over clustered posting lists."""

    name, compiles = "seismic", True
    package, module = "pyseismic-lsr", "seismic"

    def build(self, matrix: Matrix) -> None:
        import seismic

        from eval.search.formats import write_seismic

        self.folder.mkdir(parents=True)
        file = self.folder / "documents.bin"
        write_seismic(file, matrix.documents)
        index = seismic.SeismicIndexRaw.build(
            str(file), n_postings=3000, centroid_fraction=0.2, summary_energy=0.5, max_fraction=6
        )  # its guide's values for SPLADE
        file.unlink()
        index.save(str(self.folder / "index"))

    def open(self) -> None:
        import seismic

        self.index = seismic.SeismicIndexRaw.load(str(next(self.folder.glob("index*"))))

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        points = ((5, 0.9), (10, 0.8), (20, 0.7), (40, 0.6), (100, 0.4))
        return {f"cut {cut}, heap factor {factor}": {"cut": cut, "factor": factor} for cut, factor in points}

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        terms, weights = rows.row(i)
        return terms.astype(np.int32), weights.astype(np.float32)

    def run(self, query: Any, k: int, *, cut: int = 10, factor: float = 0.8, **options: Any) -> Any:
        return self.index.search(query[0], query[1], k=k, query_cut=cut, heap_factor=factor, n_knn=0, sorted=False)

    def ids(self, found: Any) -> NDArray[np.int64]:
        return np.array([int(hit[1]) for hit in found], np.int64)


class Splade(Engine):
    """The Numba kernel of splade-index: term-at-a-time over float32 accumulators, then a heap."""

    name, package, module = "splade-index kernel", "splade-index", "splade_index.numba.retrieve_utils"
    compiles = True

    def build(self, matrix: Matrix) -> None:
        write_columns(self.folder, matrix.documents, matrix.terms, matrix.ordered)
        np.save(self.folder / "order.npy", matrix.ordered)

    def open(self) -> None:
        lists = open_columns(self.folder)
        self.columns: dict[str, Any] = {
            "data": lists.impacts.astype(np.float32),
            "indices": lists.docs.astype(np.int32),
            "indptr": lists.indptr.astype(np.int32),
        }
        self.order = np.load(self.folder / "order.npy")
        self.columns["num_docs"] = len(self.order)

    def bytes(self) -> int:
        """What the kernel has in memory."""
        return sum(self.columns[name].nbytes for name in ("data", "indices", "indptr"))

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        return {"term-at-a-time": {}}

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        terms, weights = rows.row(i)
        return [terms.astype(np.int32)], [weights.astype(np.float32)]

    def run(self, query: Any, k: int, **options: Any) -> Any:
        from splade_index.numba.retrieve_utils import _retrieve_numba_functional

        return _retrieve_numba_functional(*query, self.columns, k=min(k, self.columns["num_docs"]), n_threads=1)

    def ids(self, found: Any) -> NDArray[np.int64]:
        ids, scores = found
        return np.asarray(self.order[ids[0][scores[0] > 0]], np.int64)


class Scipy(Splade):
    """Columns of a scipy matrix, weighted and summed; then argpartition."""

    name, package, module = "scipy", "scipy", "scipy.sparse"

    def open(self) -> None:
        import scipy.sparse as sp

        super().open()
        c = self.columns
        self.rows = sp.csc_matrix(
            (c["data"], c["indices"], c["indptr"]), (c["num_docs"], len(c["indptr"]) - 1)
        ).T.tocsr()

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        return {"sparse product": {}}

    def prepare(self, rows: Rows, i: int, k: int) -> Any:
        import scipy.sparse as sp

        terms, weights = rows.row(i)
        return sp.csr_matrix((weights, terms.astype(np.int32), [0, len(terms)]), (1, self.rows.shape[0]))

    def run(self, query: Any, k: int, **options: Any) -> Any:
        scores = (query @ self.rows).toarray()[0]
        k = min(k, len(scores))
        best = np.argpartition(-scores, k - 1)[:k]
        best = best[np.argsort(-scores[best], kind="stable")]
        return best[None], scores[best][None]


ENGINES: tuple[type[Engine], ...] = (Thresher, Splade, Scipy, Bmp, Pisa, Impact, ImpactBmp, Seismic)


def fresh(folder: Path) -> Path:
    """The folder, removed with what is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
