"""Queries as another engine is asked them, over an index that was exported to it.

    export_index("my-index", "for-qdrant", format="qdrant")
    for qid, body in search_requests(Index.open("my-index"), "for-qdrant", queries, k=10): ...

The engine adds up query weight x impact, and impacts are whole numbers. So the weights in a request are those of the
query, times the IDF of their terms where the index is BM25's, times the scale of the impacts: the scores that come back
are those of the index, up to the rounding of float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import path_of, whole
from thresher.errors import InputError
from thresher.index.exchange.bulk import Bulk, Request
from thresher.index.exchange.folder import ExportedFolder
from thresher.records import Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from thresher.search.index import Index
    from thresher.search.queries import AnyQuery


def weights_of(index: Index, query: AnyQuery) -> dict[str, float]:
    """The weights of a query by term, times their IDF for BM25.

    The score of a passage is their dot product with its weighted terms. Terms that the index lacks are left out.

    Raises:
        InputError: as `Index.search`.
    """
    space = index._current().first.space
    ids, weights = space.row(query)
    if space.statistics is not None:
        weights = space.statistics.weigh(ids, weights)
    made: dict[str, float] = {}
    for term, weight in zip(ids.tolist(), weights.tolist(), strict=True):
        if term >= 0 and weight > 0:
            word = space.vocabulary.term(term)
            made[word] = made.get(word, 0.0) + weight
    return made


def search_requests(
    index: Index, exported: str | Path, queries: Iterable[AnyQuery], k: int = 10
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The qid and the JSON body of a search for each query; the position of queries without a qid.

    Args:
        index: the index that was exported; its encoder weighs the queries.
        exported: the folder of the export, in the bulk format of an engine.
        queries: as `Index.search` takes them.
        k: documents to return, at least 1.

    Raises:
        ArtifactError: there is no export.
        InputError: it is not for an engine that is searched over HTTP, or a query is wrong.
    """
    folder, count = ExportedFolder(path_of(exported)), whole("k", k, 1)
    form = folder.form
    if not isinstance(form, Bulk):
        raise InputError(f"{form.title} is a file format and takes no requests; export for an engine", str(folder.path))
    numbers = {word: number for number, word in enumerate(folder.vocabulary)}
    for place, query in enumerate(queries):
        weights = {term: w * folder.facts.scale for term, w in weights_of(index, query).items() if term in numbers}
        ids = sorted(numbers[term] for term in weights)
        values = np.array([weights[folder.vocabulary[number]] for number in ids], np.float32).tolist()
        named = {form.name_of(folder.vocabulary[number]): value for number, value in zip(ids, values, strict=True)}
        yield query.qid if isinstance(query, Query) else str(place), form.request(Request(named, ids, values, count))
