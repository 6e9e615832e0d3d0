"""PyTerrier transformers that add a column: weighted terms of passages and of queries, and quality."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from thresher.errors import require

require("pyterrier", extra="pyterrier", purpose="the PyTerrier adapter")

import pandas as pd
import pyterrier as pt

from thresher.encode.encoder import SparseEncoder
from thresher.quality.estimator import QualityEstimator
from thresher.records import Passage

if TYPE_CHECKING:
    from thresher.records import SparseBatch

Row = dict[str, object]
"""A row of a frame, by column."""


class PassageEncoder(pt.Transformer):
    """Adds `toks`, the weighted terms of the column `text` (after `title` where it is there), term to weight.

    Args:
        encoder: a `SparseEncoder`, or the name of one (`SparseEncoder.from_name`).
    """

    def __init__(self, encoder: SparseEncoder | str) -> None:
        super().__init__()
        self.encoder = encoder if isinstance(encoder, SparseEncoder) else SparseEncoder.from_name(encoder)
        self.schematic = {"label": "Encode passages", "help_url": None}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with `toks`."""
        pt.validate.columns(inp, includes=["text"], context=self)
        texts = [Passage("0", str(row["text"]), title_of(row)).contents for row in records(inp)]
        return inp.assign(toks=_rows_of(self.encoder, self.encoder.encode_passages(texts)))

    def __repr__(self) -> str:
        return f"PassageEncoder({self.encoder.name!r})"


class QueryEncoder(pt.Transformer):
    """Adds `query_toks`, the weighted terms of the column `query`, term to weight.

    Args:
        encoder: a `SparseEncoder`, or the name of one (`SparseEncoder.from_name`).
    """

    def __init__(self, encoder: SparseEncoder | str) -> None:
        super().__init__()
        self.encoder = encoder if isinstance(encoder, SparseEncoder) else SparseEncoder.from_name(encoder)
        self.schematic = {"label": "Encode queries", "help_url": None}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with `query_toks`."""
        pt.validate.columns(inp, includes=["query"], context=self)
        found = self.encoder.encode_queries([str(query) for query in inp["query"]])
        return inp.assign(query_toks=_rows_of(self.encoder, found))

    def __repr__(self) -> str:
        return f"QueryEncoder({self.encoder.name!r})"


class QualityScorer(pt.Transformer):
    """Adds `quality`, how much a passage is worth indexing, from the column `text`; higher is better.

    Args:
        estimator: a `QualityEstimator`, or the name of one that needs no corpus (`QualityEstimator.from_name`).
    """

    def __init__(self, estimator: QualityEstimator | str) -> None:
        super().__init__()
        self.estimator = estimator if isinstance(estimator, QualityEstimator) else QualityEstimator.from_name(estimator)
        self.schematic = {"label": "Thresher quality", "help_url": None}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows with `quality`."""
        pt.validate.columns(inp, includes=["text"], context=self)
        texts = [Passage("0", str(row["text"]), title_of(row)).contents for row in records(inp)]
        return inp.assign(quality=self.estimator.score(texts).astype(float) if texts else [])

    def __repr__(self) -> str:
        return f"QualityScorer({self.estimator.name!r})"


def records(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame."""
    found: list[Row] = frame.to_dict(orient="records")
    return found


def title_of(row: Row) -> str:
    """The title of a row, empty where it has none."""
    title = row.get("title")
    return title if isinstance(title, str) else ""


def _rows_of(encoder: SparseEncoder, batch: SparseBatch) -> list[dict[str, float]]:
    """Each row of a batch as term to weight."""
    words, terms, weights = encoder.vocabulary, batch.terms.tolist(), batch.weights.tolist()
    return [
        {words[term]: weight for term, weight in zip(terms[start:end], weights[start:end], strict=True)}
        for start, end in pairwise(batch.indptr.tolist())
    ]
