"""BM25's average length fitted again, from the stored texts of the surviving passages.

Term frequencies are stored after they were divided by a function of the average length, so a new average means that
all passages are analysed and weighed again, which merges all segments into one. IDF needs no refit: it comes from the
live passages anyway.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.build.tiers import TierWriter, folds, named, second_tier
from thresher.build.weights import CountedTerms, count_terms
from thresher.corpus.spool import Spool
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thresher.build.merge import Merge
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
        terms = CountedTerms(count_terms(spool, work / "counts", recipe.encode.analyzer), recipe.encode)
        transaction.add_encoder(terms.query_side)
        numbers = np.arange(border)
        if lexical:
            writer = TierWriter(
                draft.path, terms, numbers, recipe.index, collection.schema, order=recipe.index.order,
                exact=folds(recipe), progress=merge.progress,
            )  # fmt: skip
            with writer:
                for passages, batch in terms.rows(spool, numbers):
                    writer.add(passages, batch)
                draft.fields.update(counts=writer.finish(), encoder=named(terms.query_side))
        else:
            merge.tier(1)
        if len(spool) > border:
            second_tier(draft.path, spool, terms, np.arange(border, len(spool)), recipe, collection.schema)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    frozen = {**collection.commit.frozen, "average_length": terms.query_side.average_length}
    return {"frozen": frozen, **({"encoder": named(terms.query_side)} if lexical else {})}


def _stored(merge: Merge) -> Iterator[Passage]:
    """The surviving passages, the first tier's and then the second's."""
    for tier in (1, 2):
        for part, live in merge.parts(tier):
            for number in np.flatnonzero(live).tolist():
                yield part.layout.passage(number)
