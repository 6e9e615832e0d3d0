"""Candidates for reranking: a run's rows with the text of their passages, from a corpus or an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.records import Hit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from thresher.ranking import Run
    from thresher.records import Passage, Query


def passages_of_corpus(source: str | Path, wanted: Iterable[str]) -> dict[str, Passage]:
    """The wanted passages of a corpus by docno; reading stops when all are found."""
    from thresher.corpus import open_corpus

    missing = set(wanted)
    found: dict[str, Passage] = {}
    for passage in open_corpus(source):
        if passage.docno in missing:
            missing.remove(passage.docno)
            found[passage.docno] = passage
            if not missing:
                break
    return found


def passages_of_index(path: str | Path, wanted: Iterable[str]) -> dict[str, Passage]:
    """The wanted passages an index stores, by docno."""
    from thresher.search import Index

    with Index.open(path) as index:
        found = [docno for docno in dict.fromkeys(wanted) if docno in index]
        return dict(zip(found, index.passages(found), strict=True))


def candidates(
    run: Run, queries: Iterable[Query], passages: Mapping[str, Passage], depth: int | None
) -> list[tuple[Query, tuple[Hit, ...]]]:
    """Each query of the run with its candidates, in the run's order.

    Args:
        run: rankings, best first.
        queries: the queries; those the run does not rank are left out.
        passages: text by docno.
        depth: candidates below it need no text, None for all.

    Raises:
        InputError: the run ranks a query that is not among the queries, or a candidate has no passage.
    """
    texts = {query.qid: query for query in queries}
    pairs = []
    for qid, rows in run.rankings.items():
        if qid not in texts:
            raise InputError(f"the run ranks the question {qid!r}, which is not in the file of queries")
        hits = []
        for rank, row in enumerate(rows, 1):
            passage = passages.get(row.docno)
            if passage is None and (depth is None or rank <= depth):
                raise InputError(
                    f"question {qid!r}: the candidate {row.docno!r} at rank {rank} has no passage; name the corpus "
                    "or index the run was made on"
                )
            text, title = (passage.text, passage.title) if passage is not None else ("", "")
            hits.append(Hit(row.docno, row.score, rank, text=text, title=title))
        pairs.append((texts[qid], tuple(hits)))
    return pairs
