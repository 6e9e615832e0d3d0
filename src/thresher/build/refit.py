"""BM25's average length fitted again, from the stored texts of the surviving passages.

Term frequencies are stored after they were divided by a function of the average length, so a new average means that
all passages are analysed and weighed again, which merges all segments into one. IDF needs no refit: it comes from the
live passages anyway. The terms of a learned encoder in the same index are copied as they are stored.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.build.merge import live_rows
from thresher.build.tiers import TierWriter, folds, named, second_tier
from thresher.build.weights import CountedTerms, JoinedTerms, count_terms
from thresher.corpus.spool import Spool
from thresher.encode.encoded import SavedQuerySide
from thresher.encode.encoder import concatenate
from thresher.encode.hybrid import CEILING, LEARNED, LEARNED_FOLDER, is_saved_hybrid, saved_learned
from thresher.errors import InputError
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from thresher.build.merge import Merge
    from thresher.build.weights import TermSource
    from thresher.index.collection import Part
    from thresher.index.transaction import Transaction
    from thresher.records import Passage


def refit_tiers(transaction: Transaction, merge: Merge) -> dict[str, Any]:
    """Write the tiers of a merge with a new average length; returns the fields of the commit that change.

    Raises:
        InputError: no tier is weighed by BM25.
    """
    recipe, draft, collection = merge.recipe, merge.draft, merge.collection
    first, second = merge.parts(1), merge.parts(2)
    lexical = first[0][0].layout.counts.idf
    if not lexical and not second:
        raise InputError(f"{collection.path} has no BM25 weights to fit again: its weights are those of an encoder")
    work = draft.path / "work"
    try:
        spool = Spool(work / "corpus", str(collection.commit.fields["corpus"]["name"]))
        for _ in spool.fill(_stored(merge), texts=False):
            pass
        border = sum(int(np.count_nonzero(live)) for _, live in first)
        counted = CountedTerms(count_terms(spool, work / "counts", recipe.encode.analyzer), recipe.encode)
        terms = _joined(counted, first)
        numbers = np.arange(border)
        if lexical:
            transaction.add_encoder(terms.query_side)
            writer = TierWriter(
                draft.path, terms, numbers, recipe.index, collection.schema, order=recipe.index.order,
                exact=folds(recipe), progress=merge.progress, memory=merge.memory,
            )  # fmt: skip
            with writer:
                for passages, batch in terms.rows(spool, numbers):
                    writer.add(passages, batch)
                draft.fields.update(counts=writer.finish(), encoder=named(terms.query_side))
        else:
            merge.tier(1)
        if len(spool) > border:
            pruned = _joined(counted, second)
            transaction.add_encoder(pruned.query_side)
            numbers = np.arange(border, len(spool))
            second_tier(draft.path, spool, pruned, numbers, recipe, collection.schema, memory=merge.memory)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    frozen = {**collection.commit.frozen, "average_length": counted.query_side.average_length}
    return {"frozen": frozen, **({"encoder": named(terms.query_side)} if lexical else {})}


def _joined(counted: CountedTerms, parts: Sequence[tuple[Part, NDArray[np.bool_]]]) -> TermSource:
    """The terms of a tier: BM25's, and those of a learned encoder that are stored with them."""
    encoder = parts[0][0].layout.encoder
    if encoder is None or not is_saved_hybrid(encoder):
        return counted
    learned, words, weight = saved_learned(encoder)
    side = SavedQuerySide(learned["name"], learned["fingerprint"], words, encoder / LEARNED_FOLDER)
    return JoinedTerms(counted, StoredTerms(parts, side), weight)


class StoredTerms:
    """The terms of a learned encoder that parts hold in addition to BM25's.

    Args:
        parts: the parts, and which of their passages live; those are the passages of the spool, in order.
        side: the query side of the learned encoder.
    """

    lexical = False
    impacts = None

    def __init__(self, parts: Sequence[tuple[Part, NDArray[np.bool_]]], side: SavedQuerySide) -> None:
        self.query_side = side
        self._parts = parts

    def rows(self, spool: Spool, numbers: NDArray[np.int64]) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
        """All passages and their terms; `numbers` are those of all."""
        ids, done = {LEARNED + term: number for number, term in enumerate(self.query_side.vocabulary)}, 0
        for part, live in self._parts:
            known = np.array([ids.get(word, -1) for word in part.layout.words], np.int64)
            for kept, batch in live_rows(part, live):
                terms = known[batch.terms]
                own = terms >= 0
                indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(own)])[batch.indptr]
                row = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))[own]
                order = np.lexsort((terms[own], row))
                weights = batch.weights[own][order] * np.float32(CEILING)
                yield (
                    spool.read(numbers[done : done + len(kept)]),
                    SparseBatch(indptr, terms[own][order].astype(np.uint32), weights),
                )
                done += len(kept)

    def sample(self, spool: Spool, numbers: NDArray[np.int64]) -> SparseBatch:
        """The terms of all passages."""
        return concatenate([rows for _, rows in self.rows(spool, numbers)])

    def tokens(self, numbers: NDArray[np.int64]) -> None:
        """None: the weights are learned."""


def _stored(merge: Merge) -> Iterator[Passage]:
    """The surviving passages, the first tier's and then the second's."""
    for tier in (1, 2):
        for part, live in merge.parts(tier):
            for number in np.flatnonzero(live).tolist():
                yield part.layout.passage(number)
