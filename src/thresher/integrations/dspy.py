"""DSPy: a retrieval model (dspy 3).

import dspy
from thresher.integrations.dspy import ThresherRM

dspy.configure(rm=ThresherRM("my-index", k=3))
dspy.Retrieve(k=2)("who found radium").passages
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thresher.errors import InputError, require

require("dspy", extra="dspy", purpose="the DSPy adapter")

import dspy
from dspy.dsp.utils import dotdict

from thresher.checks import shown, whole
from thresher.integrations import common

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thresher.index.filters import Filter
    from thresher.pipeline.pipeline import Pipeline
    from thresher.search.index import Index


class ThresherRM(dspy.Retrieve):
    """Retrieves passages: `dspy.configure(rm=ThresherRM(...))`, a module's own retriever, or a tool (`search`).

    Args:
        source: a `Pipeline`, an `Index`, or the path of an index, which is opened as a pipeline.
        k: passages of a query.
        where: return only passages whose metadata match this filter.

    Raises:
        InputError: the source or the filter is not one.
        ArtifactError: there is no index.
    """

    def __init__(self, source: Pipeline | Index | str | Path, k: int = 3, *, where: Filter | None = None) -> None:
        super().__init__(k=whole("k", k, 1))
        self.source, self.where = common.open_source(source), common.narrowed(where)

    def forward(
        self, query_or_queries: str | Sequence[str], k: int | None = None, *, where: Filter | None = None
    ) -> list[dotdict]:
        """The best k passages of each query, one query after another.

        Each has `long_text` (of a pipeline what is kept, of an index the whole), `docno`, `score` and `metadata`, with
        `metadata["thresher"]` (see `thresher.integrations`).

        Args:
            query_or_queries: one query, or several; empty ones are left out.
            k: in place of the module's own.
            where: narrows the module's own filter.
        """
        queries = [query_or_queries] if isinstance(query_or_queries, str) else list(query_or_queries)
        if not all(isinstance(query, str) for query in queries):
            raise InputError(f"a query is a string, and several are a list of them; got {shown(query_or_queries)}")
        narrowed = common.narrowed(self.where, where)
        return [
            dotdict(long_text=one.text, docno=one.docno, score=one.score, metadata=one.metadata)
            for query in queries
            if query
            for one in common.retrieve(self.source, query, self.k if k is None else k, narrowed)
        ]

    async def aforward(
        self, query_or_queries: str | Sequence[str], k: int | None = None, *, where: Filter | None = None
    ) -> list[dotdict]:
        """As `forward`, in a thread."""
        return await asyncio.to_thread(self.forward, query_or_queries, k, where=where)

    def search(self, query: str) -> list[str]:
        """Search the indexed documents; returns the passages that help most with the query, best first."""
        return [one.long_text for one in self.forward(query)]
