"""The engines of `search-scale`: which sizes each one gets, in which order of documents, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.search.columns import place, starts
from eval.search.engines import Bmp, Impact, Pisa, Scipy, Seismic, Splade, Thresher
from eval.search.rows import open_rows

if TYPE_CHECKING:
    from eval.search.engines import Engine
    from eval.search.matrices import Matrix, Rows

MANY = 10_000_000
"""More passages than any collection has."""
KS = (10, 1000)
PROMISES = (0.99, 0.95)
ORDERS = {"default": "source", "bp order": "bp", "memory 3 GB": "held"}


class WrittenBmp(Bmp):
    """bmp, its index file written from arrays: what it writes itself, to the byte, without a dict for each passage."""

    compiles = True

    def build(self, matrix: Matrix) -> None:
        """Write the index."""
        from eval.search.formats import write_bmp

        self.folder.mkdir(parents=True)
        size = int(self.kind[4:])
        write_bmp(self.folder / "index.bmp", matrix.documents, matrix.terms, matrix.ordered, size)

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        """Exact, and the approximation that its authors name."""
        return {f"{self.kind}, alpha {alpha:g}": {"alpha": alpha} for alpha in (1.0, 0.85)}


class SourceSplade(Splade):
    """The kernel of splade-index on passages in their own order, inverted when it is opened, to spare the disk."""

    compiles = False

    def build(self, matrix: Matrix) -> None:
        """Note where the rows are."""
        terms = matrix.documents.terms
        if not isinstance(terms, np.memmap):
            raise TypeError("the rows are not on disk")
        self.folder.mkdir(parents=True)
        (self.folder / "rows.txt").write_text(f"{Path(str(terms.filename)).parent}\n{matrix.terms}\n")

    def open(self) -> None:
        """Invert the rows."""
        folder, terms = (self.folder / "rows.txt").read_text().split()
        rows = open_rows(Path(folder))
        self.order, indptr = np.arange(len(rows)), starts(rows.terms, int(terms))
        data, docs = np.empty(indptr[-1], np.float32), np.empty(indptr[-1], np.int32)
        place(rows.indptr, rows.terms, rows.weights, self.order, indptr[:-1].copy(), docs, data)
        self.columns = {"data": data, "indices": docs, "indptr": indptr.astype(np.int32), "num_docs": len(rows)}


class ScaledThresher(Thresher):
    """thresher: what a user gets, each plan forced, and approximations."""

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        """By the planner, by each plan, and for less than the exact answer where that was calibrated."""
        from thresher.search.recall import curve_of

        found: dict[str, dict[str, Any]] = {"default": {}}
        found |= {plan: {"plan": plan} for plan in ("term-at-a-time", "block-max")}
        if curve_of(self.index.committed, self.index.path) is not None:
            found |= {f"recall {recall}": {"recall": recall} for recall in PROMISES}
        return found

    def calibrate(self, queries: Rows) -> None:
        """Measure what recall costs, on queries that are not measured otherwise."""
        rows = [queries.row(i) for i in range(len(queries))]
        self.index.calibrate_recall(rows, ks=KS, source="other synthetic or dev queries than those measured")


class HeldThresher(Thresher):
    """thresher, built in three gigabytes of memory: the same index."""


class ScaledSeismic(Seismic):
    """seismic, with settings from .9 to .999 of the ten best."""

    def settings(self, k: int) -> dict[str, dict[str, Any]]:
        """Lists and heap factors."""
        points = ((5, 0.9), (10, 0.9), (10, 0.8), (20, 0.8), (20, 0.7), (40, 0.7), (100, 0.6))
        return {f"cut {cut}, heap factor {factor}": {"cut": cut, "factor": factor} for cut, factor in points}


@dataclass(frozen=True, slots=True)
class Entrant:
    """An engine at the sizes it takes part at.

    Attributes:
        made: its class.
        kind: which of its indexes.
        order: order of documents that it is built in: `source`, or `bp` where it gains by that.
        sizes: the fewest and the most passages.
        reason: why it is not measured above that.
        builder: what `build_s` is the time of, where it is not the engine's own code.
    """

    made: type[Engine]
    kind: str
    order: str
    sizes: tuple[int, int] = (0, MANY)
    reason: str = ""
    builder: str = ""

    @property
    def slug(self) -> str:
        """The name of its folder."""
        return f"{self.made.name}--{self.kind}".replace(" ", "-").replace("=", "")

    def takes(self, passages: int) -> bool:
        """Whether it is measured on so many passages."""
        return self.sizes[0] <= passages <= self.sizes[1]


FILES = "arrays to the engine's file format"
ENTRANTS = (
    Entrant(ScaledThresher, "default", "source"),
    Entrant(ScaledThresher, "bp order", "bp"),
    Entrant(HeldThresher, "memory 3 GB", "source", (4_000_001, MANY)),
    Entrant(Splade, "default", "bp", builder="inversion of arrays"),
    Entrant(SourceSplade, "source order", "source", builder="none: it is inverted when it is opened"),
    Entrant(Pisa, "default", "bp", builder="inversion of arrays, then the engine's own compression"),
    Entrant(WrittenBmp, "b = 32", "bp", (0, 1_000_000), "blocks of 64 are measured", FILES),
    Entrant(WrittenBmp, "b = 64", "bp", (1_000_001, MANY), builder=FILES),
    Entrant(ScaledSeismic, "default", "source"),
    Entrant(Impact, "default", "source", (0, 500_000), "12 bytes a posting, and slower than the others at .5 M"),
    Entrant(Scipy, "default", "bp", builder="inversion of arrays"),
)
