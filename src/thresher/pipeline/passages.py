"""The passages that an answer hands over, from what the stages left of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.pipeline.answer import AnswerPassage
from thresher.pipeline.select import whole_passages
from thresher.pipeline.stage import State, places_of
from thresher.search.any_index import IndexRanking

if TYPE_CHECKING:
    from collections.abc import Callable

    from thresher.ranking import Ranking


def handed_over(state: State, count_tokens: Callable[[str], int]) -> tuple[AnswerPassage, ...]:
    """The passages to hand over, with what is kept of them."""
    kept = state.selected
    if kept is None:
        kept = dict(enumerate(whole_passages(state, count_tokens)))
    head = state.ranking.take(np.fromiter(kept, np.int64, len(kept)))
    texts, tiers = state.passages(head), _tiers(state, head)
    aliases = state.aliases(head)
    scores = {name: state.signal(name, head) for name in state.signals}
    return tuple(
        AnswerPassage(
            one.docno,
            place + 1,
            {name: float(of[number]) for name, of in scores.items() if not np.isnan(of[number])},
            state.confidences.get(one.docno),
            tiers[number],
            one,
            text.metadata,
            aliases[number],
            text.title,
            state.probabilities.get(one.docno),
        )
        for number, ((place, one), text) in enumerate(zip(kept.items(), texts, strict=True))
    )


def _tiers(state: State, head: Ranking) -> list[int]:
    """The tier that each passage came from."""
    searched = state.signals.get("search")
    if not isinstance(searched, IndexRanking) or not len(searched):
        return [1] * len(head)
    places = places_of(searched, head)
    return [int(searched.tiers[place]) if place >= 0 else 1 for place in places.tolist()]
