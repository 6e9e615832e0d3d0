"""Queries made of the passages of an index, for calibrating without a log.

A query is some words in a row of a passage, or its title, as long as queries of web search engines: `WORDS` words in
the mean (MS MARCO's have 6). Such a query has one passage that it was taken from; real ones have none. How well a
curve of sampled queries holds on real ones is measured by `python -m eval recall-promise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from thresher.search.index import Index

WORDS, SPREAD, FEWEST, MOST = 6.0, 2.5, 2, 14
LONGEST = 100
"""Characters of a query, for languages that do not separate words."""
OF_TITLES = 0.5
"""Share of the passages with titles whose title is the query."""


def sampled_queries(index: Index, count: int, seed: int = 0) -> list[str]:
    """Queries made of passages drawn at random; fewer than `count` where passages have no words.

    Args:
        index: whose live passages are drawn from, each as often as the others.
        count: how many queries.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    numbers = np.flatnonzero(index.live)
    if not len(numbers):
        return []
    drawn = index.passages_at(rng.choice(numbers, count, replace=count > len(numbers)))
    made = []
    for passage in drawn:
        titled = bool(passage.title) and rng.random() < OF_TITLES
        words = (passage.title if titled else passage.text or passage.title).split()
        size = int(np.clip(round(rng.normal(WORDS, SPREAD)), FEWEST, MOST))
        start = int(rng.integers(max(len(words) - size, 0) + 1))
        made.append(" ".join(words[start : start + size])[:LONGEST])
    return [query for query in made if query]
