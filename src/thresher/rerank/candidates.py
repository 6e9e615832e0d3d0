"""What is reranked: queries with their rankings, and the texts of their passages.

`with_texts` gives the rankings of a run their texts, from an index or from one pass over a corpus (`texts_of_corpus`).
The other functions check what a reranker is given and pair each query with its ranking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from thresher.checks import is_a, shown
from thresher.errors import InputError
from thresher.ranking import Ranking, Run
from thresher.records import Hit, Passage, Query
from thresher.texts import HeldPassages, aliases_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from thresher.texts import PassageSource


def of_run(run: Mapping[str, Ranking], queries: Iterable[Query]) -> list[tuple[Query, Ranking]]:
    """Each given query of the run with its ranking, in the order of the run."""
    if not is_a(queries, Iterable):
        raise InputError(f"queries must be `Query` objects, got {shown(queries)}")
    queries = list(queries)
    if strange := [query for query in queries if not is_a(query, Query)]:
        raise InputError(f"queries must be `Query` objects, got {shown(strange[0])}")
    known = {query.qid: query for query in queries}
    if run and known.keys().isdisjoint(run):
        raise InputError(
            f"none of the {len(run)} queries of the run ({next(iter(run))!r}, ...) is among the {len(known)} given"
        )
    chosen = [(known[qid], ranking) for qid, ranking in run.items() if qid in known]
    if others := [ranking for _, ranking in chosen if not is_a(ranking, Ranking)]:
        raise InputError(f"a run must hold `Ranking` objects, got {shown(others[0])}")
    return chosen


def pairs_of(given: Iterable[object]) -> Iterator[tuple[str | Query, Ranking | Sequence[Hit]]]:
    """The pairs of query and ranking.

    Raises:
        InputError: something else is among them.
    """
    for pair in given if is_a(given, Iterable) else [given]:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"candidates must be a run, or pairs of a query and its ranking; got {shown(pair)}")
        if not isinstance(pair[0], str | Query):
            raise InputError(f"a query must be a text or a `Query`, got {shown(pair[0])}")
        yield pair[0], pair[1]


def check_distinct(query: Query, ranking: Ranking) -> None:
    """Raise an InputError if a docno occurs twice."""
    seen: set[str] = set()
    for docno in ranking.docnos:
        if docno in seen:
            raise InputError(f"docno {docno!r} occurs twice in the ranking of query {query.qid!r}; remove one")
        seen.add(docno)


def hits_of(ranking: Ranking, *, with_text: bool) -> list[Hit]:
    """The hits of a ranking, with all texts fetched at once, or without texts."""
    if not with_text:
        return [Hit(docno, score, rank) for rank, (docno, score) in enumerate(ranking.pairs(), 1)]
    return [
        Hit(one.docno, float(score), rank, one.text, one.title, one.metadata)
        for rank, (one, score) in enumerate(zip(ranking.passages(), ranking.scores, strict=True), 1)
    ]


class PassageIndex(Protocol):
    """An index that finds passages by docno."""

    def __contains__(self, docno: object) -> bool:
        """Whether it holds the passage."""

    def passages(self, docnos: Sequence[str]) -> Sequence[Passage]:
        """The passages with these docnos, in their order."""


def texts_of_corpus(run: Run, source: str | Path, depth: int | None) -> dict[str, Passage]:
    """The passages of the first `depth` of every ranking (None for all), by docno; reading stops when all are found."""
    from thresher.corpus import open_corpus

    missing = {docno for ranking in run.values() for docno in ranking.docnos[:depth]}
    found: dict[str, Passage] = {}
    for passage in open_corpus(source):
        if passage.docno in missing:
            missing.remove(passage.docno)
            found[passage.docno] = passage
            if not missing:
                break
    return found


def with_texts(run: Run, passages: PassageIndex | Mapping[str, Passage], depth: int | None) -> Run:
    """The run with rankings that find their texts in `passages`.

    Args:
        run: rankings of docnos, best first.
        passages: an `Index` (which must stay open), or passages by docno.
        depth: the first `depth` of every ranking must have a passage, None for all.

    Raises:
        InputError: one of them has none.
    """
    for qid, ranking in run.items():
        for rank, docno in enumerate(ranking.docnos[:depth], 1):
            if docno not in passages:
                raise InputError(
                    f"query {qid!r}: no passage for {docno!r} at rank {rank}; give the corpus or index that the run "
                    "was made on"
                )
    source = HeldPassages(passages.values()) if isinstance(passages, Mapping) else passages
    return Run({qid: ranking.with_passages(source) for qid, ranking in run.items()}, run.tag)


class _Joined:
    """Passages from a ranking's own source, and others that are held."""

    def __init__(self, source: PassageSource, held: Mapping[str, Passage]) -> None:
        self._source, self._held = source, held

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos, in their order."""
        others = [docno for docno in docnos if docno not in self._held]
        found = dict(zip(others, self._source.passages(others), strict=True))
        return [self._held[docno] if docno in self._held else found[docno] for docno in docnos]

    def aliases(self, docnos: Sequence[str]) -> list[tuple[str, ...]]:
        """The duplicates that the ranking's source knows of."""
        known = aliases_in(self._source, [docno for docno in docnos if docno not in self._held])
        each = iter(known)
        return [() if docno in self._held else next(each) for docno in docnos]


def extended(ranking: Ranking, head: int, added: Sequence[Hit]) -> tuple[Ranking, list[int]]:
    """A ranking with passages added at its end, and the place of each candidate in it.

    Args:
        ranking: best first.
        head: its first `head` passages were candidates.
        added: the candidates after those. One that the ranking has further down keeps its place there.

    Returns:
        the ranking, and head + len(added) places.
    """
    if not added:
        return ranking, list(range(head))
    docnos = ranking.docnos
    place_of = {docno: place for place, docno in enumerate(docnos)}
    new = [hit for hit in added if hit.docno not in place_of]
    place_of.update({hit.docno: len(docnos) + at for at, hit in enumerate(new)})
    held = {hit.docno: Passage(hit.docno, hit.text, hit.title, hit.metadata) for hit in new}
    longer = Ranking(
        [*docnos, *held],
        [*ranking.scores.tolist(), *(hit.score for hit in new)],
        exact=ranking.exact,
        source=ranking.source,
        passages=_Joined(ranking._passages, held) if ranking._passages is not None else None,
    )
    return longer, [*range(head), *(place_of[hit.docno] for hit in added)]
