"""A collection of `search-scale` on disk: rows, queries, true scores and the engines' indexes, each made once.

Everything lies in one folder: `rows-SIZE`, `queries-SIZE.npz`, `best-SIZE.npy`, thresher's indexes `SIZE-source` and
`SIZE-bp`, the peers' in `peers-SIZE`; what a build took beside each index, `NAME.built.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.search import everything, synthetic
from eval.search.columns import best_of, open_columns
from eval.search.engines import Pisa, Scipy, Splade, Thresher
from eval.search.large import ENTRANTS, ORDERS, Entrant
from eval.search.matrices import Matrix, Rows, load, save, whole_queries
from eval.search.measuring import Asked
from eval.search.rows import is_written, open_rows, write_shuffled
from thresher.durable import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"500k": 500_000, "1m": 1_000_000, "2m": 2_000_000, "4m": 4_000_000, "8m": 8_800_000}
REAL = "real"
QUERIES, SEED = 150, 19
CALIBRATED, CALIBRATION_SEED = 300, 91
EMPTY = Rows(np.zeros(1, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint8))


@dataclass
class Scaled:
    """One collection: a size of the synthetic one, or the real one.

    Attributes:
        work: the folder.
        name: a key of `SIZES`, `real`, or a number of synthetic passages.
        data: THRESHER_DATA, for making the real one.
        model: directory of SPLADE-tiny, likewise.
    """

    work: Path
    name: str
    data: Path | None = None
    model: str = ""

    @property
    def title(self) -> str:
        """What the rows call it."""
        return everything.NAME if self.name == REAL else "synthetic"

    @property
    def rows_folder(self) -> Path:
        """Where the rows are."""
        return self.work / f"rows-{self.name}"

    @cached_property
    def rows(self) -> Rows:
        """The passages, mapped."""
        return open_rows(self.rows_folder)

    @cached_property
    def queries(self) -> Matrix:
        """Query sets `measured` and `calibration`, of whole weights."""
        return load(self.work / f"queries-{self.name}.npz")

    @property
    def terms(self) -> int:
        """Size of the vocabulary."""
        return self.queries.terms

    def make(self) -> None:
        """Write rows and queries that are not there yet."""
        if not is_written(self.rows_folder) and self.name != REAL:
            n = SIZES.get(self.name) or int(self.name)
            write_shuffled(self.rows_folder, synthetic.stream(n), synthetic.shuffled(n))
        asked = self.work / f"queries-{self.name}.npz"
        if not asked.is_file():
            terms, sets = self._real() if self.name == REAL else (synthetic.TERMS, self._synthetic())
            whole = {name: whole_queries(rows) for name, rows in sets.items()}
            save(Matrix(self.title, terms, EMPTY, whole), asked)

    def _synthetic(self) -> dict[str, Rows]:
        drawn = {"measured": (QUERIES, SEED), "calibration": (CALIBRATED, CALIBRATION_SEED)}
        return {name: synthetic.queries(self.rows, count, seed) for name, (count, seed) in drawn.items()}

    def _real(self) -> tuple[int, dict[str, Rows]]:
        from thresher.encode import SparseEncoder
        from thresher.encode.encoded import EncodedPassages, encode_corpus

        if self.data is None or not self.model:
            raise SystemExit("the real collection is made with --data and --model")
        encoder = SparseEncoder.from_name(self.model, device="cpu")
        target = self.work / f"encoded-{everything.NAME}"
        if not target.is_dir():
            encode_corpus(everything.passages(self.data), encoder, target)
        everything.write_impacts(EncodedPassages(target), self.rows_folder)
        measured, calibration = everything.queries(encoder, self.data)
        return len(encoder.vocabulary), {"measured": measured, "calibration": calibration}

    def entrants(self) -> list[Entrant]:
        """The engines that take part, thresher's first."""
        return [entrant for entrant in ENTRANTS if entrant.takes(len(self.rows))]

    def entrant(self, slug: str) -> Entrant:
        """An engine by the name of its folder."""
        return next(entrant for entrant in ENTRANTS if entrant.slug == slug)

    def engine(self, entrant: Entrant) -> Path:
        """The folder of an engine's index."""
        if issubclass(entrant.made, Thresher):
            return self.work / f"{self.name}-{ORDERS[entrant.kind]}"
        slug = self.lists.slug if entrant.made is Scipy else entrant.slug
        return self.work / f"peers-{self.name}" / slug

    def note(self, entrant: Entrant) -> Path:
        """Where it is noted what the build took."""
        folder = self.engine(entrant)
        return folder.with_name(folder.name + ".built.json")

    def built(self, entrant: Entrant) -> dict[str, Any]:
        """What is noted; nothing where it is not built."""
        file = self.note(entrant)
        return json.loads(file.read_text()) if file.is_file() else {}

    @property
    def lists(self) -> Entrant:
        """The engine whose posting lists others, and the true scores, are made from."""
        return next(entrant for entrant in ENTRANTS if entrant.made is Splade)

    def matrix(self, entrant: Entrant) -> Matrix:
        """What an engine is built from."""
        matrix = Matrix(self.title, self.terms, self.rows, {})
        if entrant.made is Pisa and self.built(self.lists):
            lists = self.engine(self.lists)
            matrix.order, matrix.columns = np.load(lists / "order.npy"), open_columns(lists)
        elif entrant.order == "bp" and not issubclass(entrant.made, Thresher):
            matrix.order = self.bisected
        return matrix

    @property
    def bisected(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """int64[n]: the row of each document of thresher's bisected index."""
        from thresher.search import Index

        with Index.open(self.work / f"{self.name}-bp") as index:
            layout = index.layouts[0]
            return layout.numbers_of(np.arange(layout.counts.passages))

    def asked(self) -> Asked:
        """The queries and their best scores, which are computed once."""
        file = self.work / f"best-{self.name}.npy"
        measured = self.queries.queries["measured"]
        if not file.is_file():
            best = best_of(open_columns(self.engine(self.lists)), measured, len(self.rows))
            np.save(file.with_suffix(".partial.npy"), best)
            file.with_suffix(".partial.npy").rename(file)
        return Asked(measured, np.load(file), self.rows, self.terms)

    def keep(self, entrant: Entrant, took: dict[str, Any]) -> None:
        """Note what a build took."""
        write_atomic(self.note(entrant), json.dumps(took))
