"""Collection `synthetic-1m`: passages with topics, so that terms occur together and their weights agree nearby.

Weights drawn independently per passage make block maxima far looser than real ones, and any block-max engine looks bad
on them. Here a passage is a noisy copy of its topic. Weights are impacts, 1 to 255, and normal: so are those of
`thresher-mini`, whose logarithm leaves no heavy tail.

1. `COMMON` terms are in most passages: the first with chance `EVERYWHERE`, each following one `FADES` times less often.
   The other terms have a global popularity, Zipf with exponent `ZIPF` after a flat head (`HEAD` ranks).
2. A field (coarse topic, about `FIELD` passages) is a set of terms drawn by popularity, with weights.
3. A topic (about `TOPIC` passages) takes `FROM_FIELD` terms of its field and `OWN` of its own; a term keeps its field's
   weight up to N(0, `TOPIC_NOISE`), own terms get heavier ones.
4. A passage takes each of the topic's terms with probability `KEEP`, with the topic's weight plus N(0, `NOISE`), and
   `BACKGROUND` terms drawn by popularity with light weights.
5. A query looks at one passage: its terms are drawn from the passage by weight and rarity, the rest by a flatter
   popularity; its weights fall off geometrically in the order drawn, the largest is 32.

Passages are shuffled at the end, so that reordering has work to do. Everything follows from one seed. The constants
were set by comparing the statistics of `calibrate.py` with those of `real-learned` at the same number of passages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from eval.search.matrices import Matrix, Rows, from_pairs, whole_queries

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED, QUERY_SEED = 7, 20
TERMS = 28_000
COMMON, EVERYWHERE, FADES = 30, 0.87, 0.918
ZIPF, HEAD = 0.8, 150
FIELD, TOPIC = 3000, 12
FIELD_TERMS, FROM_FIELD, OWN = 220, 107, 28
FIELD_WEIGHT, OWN_WEIGHT, LIGHT_WEIGHT = (66.0, 30.0), (92.0, 36.0), (42.0, 26.0)  # mean and deviation
TOPIC_NOISE, NOISE, KEEP, BACKGROUND = 16.0, 16.0, 0.62, 18
QUERY_TERMS, QUERY_SPREAD, FROM_PASSAGE, DECAY = 43, 16, 0.65, 0.922
RARITY, FLATTER = 0.08, 1.1


def popularity(terms: int, exponent: float = ZIPF) -> NDArray[np.float64]:
    """Cumulative shares of the terms, the most popular first."""
    share = (np.arange(terms) + HEAD) ** -exponent
    return np.asarray(np.cumsum(share) / share.sum())


@njit(cache=True)
def draw_distinct(
    cumulative: NDArray[np.float64],
    count: int,
    first: int,
    seen: NDArray[np.int64],
    stamp: int,
    out: NDArray[np.int64],
) -> int:
    """Fill out[:count] with distinct terms from `first` on, by popularity; `seen` holds stamps of terms taken."""
    size = 0
    while size < count:
        term = first + np.searchsorted(cumulative, np.random.random())
        if term < len(seen) and seen[term] != stamp:
            seen[term] = stamp
            out[size] = term
            size += 1
    return size


Sizes = tuple[int, int, int, int, int, int]
"""Passages of a field and of a topic; terms of a field, of a topic from its field, of its own; background terms."""
Levels = tuple[tuple[float, float], tuple[float, float], tuple[float, float], float, float]
"""Mean and deviation of a field's, a topic's own and light weights; noise of a topic and of a passage."""


@njit(cache=True)
def generate(
    n: int, seed: int, cumulative: NDArray[np.float64], common: NDArray[np.float64], sizes: Sizes, levels: Levels,
    keep: float,
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32]]:  # fmt: skip
    """Rows of n passages in topic order: (indptr, terms unsorted in a row, weights)."""
    field_size, topic_size, field_terms, from_field, own, background = sizes
    field_weight, own_weight, light_weight, topic_noise, noise = levels
    np.random.seed(seed)
    first = len(common)  # ids below are common terms
    terms = first + len(cumulative)
    seen = np.zeros(terms, np.int64)
    capacity = n * (first + from_field + own + background)
    indptr = np.zeros(n + 1, np.int64)
    out_terms = np.empty(capacity, np.uint32)
    out_weights = np.empty(capacity, np.float32)
    f_terms, f_weights = np.empty(field_terms, np.int64), np.empty(field_terms)
    t_terms, t_weights = np.empty(from_field + own, np.int64), np.empty(from_field + own)
    extra = np.empty(background, np.int64)
    field_left = topic_left = size = stamp = 0
    for doc in range(n):
        if field_left == 0:
            field_left = max(1, int(field_size * np.random.gamma(2.0, 0.5)))
            topic_left = 0
            stamp += 1
            draw_distinct(cumulative, field_terms, first, seen, stamp, f_terms)
            for i in range(field_terms):
                f_weights[i] = np.random.normal(field_weight[0], field_weight[1])
        if topic_left == 0:
            topic_left = max(1, int(topic_size * np.random.gamma(1.0, 1.0)))
            stamp += 1
            order = np.random.permutation(field_terms)
            for i in range(from_field):
                t_terms[i] = f_terms[order[i]]
                t_weights[i] = f_weights[order[i]] + np.random.normal(0.0, topic_noise)
                seen[t_terms[i]] = stamp
            draw_distinct(cumulative, own, first, seen, stamp, t_terms[from_field:])
            for i in range(from_field, from_field + own):
                t_weights[i] = np.random.normal(own_weight[0], own_weight[1])
        field_left -= 1
        topic_left -= 1
        stamp += 1
        for i in range(first):
            if np.random.random() < common[i]:
                out_terms[size] = i
                out_weights[size] = np.random.normal(light_weight[0], light_weight[1])
                size += 1
        share = keep * min(1.5, max(0.4, np.random.normal(1.0, 0.2)))
        for i in range(from_field + own):
            if np.random.random() < share:
                seen[t_terms[i]] = stamp
                out_terms[size] = t_terms[i]
                out_weights[size] = t_weights[i] + np.random.normal(0.0, noise)
                size += 1
        count = draw_distinct(cumulative, background, first, seen, stamp, extra)
        for i in range(count):
            out_terms[size] = extra[i]
            out_weights[size] = np.random.normal(light_weight[0], light_weight[1])
            size += 1
        indptr[doc + 1] = size
    return indptr, out_terms[:size], out_weights[:size]


@njit(cache=True)
def shuffle_rows(
    indptr: NDArray[np.int64],
    terms: NDArray[np.uint32],
    weights: NDArray[np.float32],
    order: NDArray[np.int64],
    new_indptr: NDArray[np.int64],
    new_terms: NDArray[np.uint32],
    impacts: NDArray[np.uint8],
) -> None:
    """Rows in another order, terms ascending, weights as impacts 1 … 255."""
    for i in range(len(order)):
        first, last = indptr[order[i]], indptr[order[i] + 1]
        by_term = np.argsort(terms[first:last])
        at = new_indptr[i]
        for j in range(last - first):
            new_terms[at + j] = terms[first + by_term[j]]
            impacts[at + j] = max(1.0, min(255.0, np.rint(weights[first + by_term[j]])))
        new_indptr[i + 1] = at + last - first


def documents(n: int, seed: int = SEED) -> Rows:
    """The passages, shuffled."""
    common = EVERYWHERE * FADES ** np.arange(COMMON)
    levels = (FIELD_WEIGHT, OWN_WEIGHT, LIGHT_WEIGHT, TOPIC_NOISE, NOISE)
    sizes = (FIELD, TOPIC, FIELD_TERMS, FROM_FIELD, OWN, BACKGROUND)
    indptr, terms, weights = generate(n, seed, popularity(TERMS - COMMON), common, sizes, levels, KEEP)
    rng = np.random.default_rng(seed)
    new_indptr = np.zeros(n + 1, np.int64)
    new_terms, impacts = np.empty(len(terms), np.uint32), np.empty(len(terms), np.uint8)
    shuffle_rows(indptr, terms, weights, rng.permutation(n), new_indptr, new_terms, impacts)
    return Rows(new_indptr, new_terms, impacts)


def queries(rows: Rows, count: int, seed: int = QUERY_SEED) -> Rows:
    """Float queries about single passages."""
    rng = np.random.default_rng(seed)
    flat = popularity(TERMS, FLATTER * ZIPF)
    owners: list[NDArray[Any]] = []
    terms: list[NDArray[Any]] = []
    weights: list[NDArray[Any]] = []
    for q in range(count):
        about, impacts = rows.row(int(rng.integers(len(rows))))
        size = max(4, int(rng.normal(QUERY_TERMS, QUERY_SPREAD)))
        from_passage = min(len(about), round(size * FROM_PASSAGE))
        chance = impacts * (1.0 + about) ** RARITY  # ids ascend with rarity
        own = rng.choice(about, from_passage, replace=False, p=chance / chance.sum())
        other = np.searchsorted(flat, rng.random(size - from_passage)).clip(0, TERMS - 1)
        # heavy places go to the passage's terms more often than not
        drawn = np.concatenate((own, other))
        place = np.argsort(np.concatenate((rng.random(len(own)) * 0.7, 0.25 + rng.random(len(other)) * 0.75)))
        drawn = drawn[place]
        owners.append(np.full(len(drawn), q))
        terms.append(drawn)
        weights.append(DECAY ** np.arange(len(drawn)) * np.exp(rng.normal(0, 0.3, len(drawn))))
    return from_pairs(np.concatenate(owners), np.concatenate(terms), np.concatenate(weights).astype(np.float32), count)


def matrix(n: int = 1_000_000, count: int = 400, seed: int = SEED, name: str = "synthetic-1m") -> Matrix:
    """The collection and its queries."""
    rows = documents(n, seed)
    asked = queries(rows, count)
    about = {"generator": "eval/search/synthetic.py", "seed": seed, "passages": n}
    return Matrix(name, TERMS, rows, {"synthetic": whole_queries(asked), "synthetic float": asked}, about)
