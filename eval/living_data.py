"""What `living` measures on: passages with weighted terms and two fields, the indexes of them, and filters."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.search import synthetic
from eval.search.matrices import Matrix, Rows, load, save

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.records import Passage, SparseBatch

QUERIES, SEED, FIELDS_SEED = 200, 78, 5
BUCKETS = 1000
TAG = "three"
EXTRA = 1000
"""Passages beside those of the collection, for a commit that adds them."""


@dataclass
class Data:
    """A synthetic collection of some size: rows, queries, and two fields of each passage.

    Attributes:
        work: where indexes and arrays are kept.
        passages: how many; there are `EXTRA` more rows.
    """

    work: Path
    passages: int

    @cached_property
    def matrix(self) -> Matrix:
        """Rows and queries, kept in the work directory."""
        file = self.work / f"living-{self.passages}.npz"
        if not file.exists():
            rows = synthetic.documents(self.passages + EXTRA)
            topics = synthetic.queries(rows, QUERIES, SEED)
            save(Matrix(f"living-{self.passages}", synthetic.TERMS, rows, {"float": topics}), file)
        return load(file)

    @cached_property
    def bucket(self) -> NDArray[np.int64]:
        """int64[n]: a whole number from 0 to 999 for each passage."""
        return np.random.default_rng(FIELDS_SEED).integers(0, BUCKETS, self.passages + EXTRA)

    @cached_property
    def three(self) -> NDArray[np.int64]:
        """Numbers of the three passages that have the tag."""
        return np.random.default_rng(FIELDS_SEED + 1).choice(self.passages, 3, replace=False)

    @property
    def queries(self) -> list[tuple[NDArray[np.uint32], NDArray[Any]]]:
        """Terms and weights of each query."""
        asked = self.matrix.queries["float"]
        return [asked.row(i) for i in range(len(asked))]

    def stored(self, first: int, after: int) -> Iterator[Passage]:
        """Passages number first to after - 1, with a short text and their fields."""
        from thresher.records import Passage

        three = set(self.three.tolist())
        for number, bucket in enumerate(self.bucket[first:after].tolist(), first):
            fields = {"bucket": bucket, "tag": TAG if number in three else "other"}
            yield Passage(str(number), f"passage {number}", metadata=fields)

    def batch(self, first: int, after: int) -> SparseBatch:
        """Their weighted terms."""
        from thresher.records import SparseBatch

        rows = self.matrix.documents
        p = rows.indptr[first : after + 1]
        part = slice(p[0], p[-1])
        return SparseBatch(p - p[0], rows.terms[part], rows.weights[part].astype(np.float32))

    def build(self, path: Path, after: int) -> tuple[float, float]:
        """An index of one segment of the first passages; seconds of its index step, and of storing passages."""
        from thresher.build.recipe import EncodeStep, Recipe
        from thresher.build.stream import build_index

        given = path.with_suffix(".npz")
        batch = self.batch(0, after)
        shape = np.array([after, synthetic.TERMS])
        indices = batch.terms.astype(np.int32)
        np.savez(given, format=b"csr", shape=shape, indptr=batch.indptr, indices=indices, data=batch.weights)
        recipe = Recipe(encode=EncodeStep(source=str(given)), fields={"bucket": "integer", "tag": "string"})
        report = build_index(path, self.stored(0, after), recipe, overwrite=True)
        given.unlink()
        seconds = {stage.stage: stage.seconds for stage in report.usage.stages}
        return seconds["index"], seconds["store"]

    def peers(self) -> Path:
        """The collection in one file, as `living_peers` reads it."""
        file = self.work / f"living-{self.passages}-peers.npz"
        if not file.exists():
            rows, queries = self.matrix.documents.take(np.arange(self.passages)), self.matrix.queries["float"]
            arrays = {f"documents/{name}": getattr(rows, name) for name in Rows.__annotations__}
            arrays |= {f"queries/{name}": getattr(queries, name) for name in Rows.__annotations__}
            partial = file.with_suffix(".partial.npz")
            np.savez(partial, allow_pickle=False, bucket=self.bucket[: self.passages], three=self.three, **arrays)
            partial.rename(file)
        return file


def linked(source: Path, target: Path) -> Path:
    """A copy of an index whose files are the same files: none of them is ever written to again."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)
    return target


Filter = tuple[int, int] | str | None
"""LOW <= bucket < HIGH; the tag; or none."""


def where_of(given: Filter) -> dict[str, Any] | None:
    """A filter as `search` takes it."""
    if given is None:
        return None
    return {"tag": given} if isinstance(given, str) else {"bucket": {"gte": given[0], "lt": given[1]}}


def filters_of(share: float, count: int, *, known: bool) -> list[Filter]:
    """A filter for each query: the same for all, or each another one of the same share; 0 stands for three passages."""
    if share == 0:
        return [TAG] * count
    if share == 1:
        return [None] * count
    width = round(share * BUCKETS)
    lows = np.zeros(count, int) if known else np.random.default_rng(width).permutation(BUCKETS - width + 1)
    return [(int(lows[i % len(lows)]), int(lows[i % len(lows)]) + width) for i in range(count)]
