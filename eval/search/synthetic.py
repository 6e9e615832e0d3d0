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

Passages are shuffled at the end, so that reordering has work to do. Everything follows from one seed: a larger
collection has the topics of a smaller one and more, and `stream` makes either a few passages at a time. The constants
were set by comparing the statistics of `calibrate.py` with those of `real-learned` at the same number of passages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

from eval.search.matrices import Matrix, Rows, from_pairs, gathered, whole_queries

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class State(NamedTuple):
    """What the generator carries from passage to passage, so that it can stop after any of them.

    Attributes:
        left: int64[3], passages left in the field, in the topic; stamps given out.
        seen: int64[terms], the stamp of the draw that last took a term.
        f_terms, f_weights: int64, float64[terms of a field].
        t_terms, t_weights: int64, float64[terms of a topic].
    """

    left: NDArray[np.int64]
    seen: NDArray[np.int64]
    f_terms: NDArray[np.int64]
    f_weights: NDArray[np.float64]
    t_terms: NDArray[np.int64]
    t_weights: NDArray[np.float64]


@njit(cache=True)
def start(seed: int) -> None:
    """Seed the generator of this thread."""
    np.random.seed(seed)


@njit(cache=True)
def generate(
    n: int, cumulative: NDArray[np.float64], common: NDArray[np.float64], sizes: Sizes, levels: Levels, keep: float,
    state: State,
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint8]]:  # fmt: skip
    """The next n passages in topic order: (indptr, terms ascending in a row, impacts 1 … 255)."""
    field_size, topic_size, field_terms, from_field, own, background = sizes
    field_weight, own_weight, light_weight, topic_noise, noise = levels
    left, seen, f_terms, f_weights, t_terms, t_weights = state
    first = len(common)  # ids below are common terms
    width = first + from_field + own + background
    indptr = np.zeros(n + 1, np.int64)
    out_terms, out_impacts = np.empty(n * width, np.uint16), np.empty(n * width, np.uint8)
    row_terms, row_weights = np.empty(width, np.uint32), np.empty(width, np.float32)
    extra = np.empty(background, np.int64)
    for doc in range(n):
        if left[0] == 0:
            left[0] = max(1, int(field_size * np.random.gamma(2.0, 0.5)))
            left[1] = 0
            left[2] += 1
            draw_distinct(cumulative, field_terms, first, seen, left[2], f_terms)
            for i in range(field_terms):
                f_weights[i] = np.random.normal(field_weight[0], field_weight[1])
        if left[1] == 0:
            left[1] = max(1, int(topic_size * np.random.gamma(1.0, 1.0)))
            left[2] += 1
            order = np.random.permutation(field_terms)
            for i in range(from_field):
                t_terms[i] = f_terms[order[i]]
                t_weights[i] = f_weights[order[i]] + np.random.normal(0.0, topic_noise)
                seen[t_terms[i]] = left[2]
            draw_distinct(cumulative, own, first, seen, left[2], t_terms[from_field:])
            for i in range(from_field, from_field + own):
                t_weights[i] = np.random.normal(own_weight[0], own_weight[1])
        left[0] -= 1
        left[1] -= 1
        left[2] += 1
        size = 0
        for i in range(first):
            if np.random.random() < common[i]:
                row_terms[size] = i
                row_weights[size] = np.random.normal(light_weight[0], light_weight[1])
                size += 1
        share = keep * min(1.5, max(0.4, np.random.normal(1.0, 0.2)))
        for i in range(from_field + own):
            if np.random.random() < share:
                seen[t_terms[i]] = left[2]
                row_terms[size] = t_terms[i]
                row_weights[size] = t_weights[i] + np.random.normal(0.0, noise)
                size += 1
        count = draw_distinct(cumulative, background, first, seen, left[2], extra)
        for i in range(count):
            row_terms[size] = extra[i]
            row_weights[size] = np.random.normal(light_weight[0], light_weight[1])
            size += 1
        by_term = np.argsort(row_terms[:size])
        at = indptr[doc]
        for j in range(size):
            out_terms[at + j] = row_terms[by_term[j]]
            out_impacts[at + j] = max(1.0, min(255.0, np.rint(row_weights[by_term[j]])))
        indptr[doc + 1] = at + size
    return indptr, out_terms[: indptr[n]].copy(), out_impacts[: indptr[n]].copy()


def stream(n: int, seed: int = SEED, step: int = 50_000) -> Iterator[Rows]:
    """The passages in topic order, `step` at a time, the same ones for any `step`.

    They come from numba's generator of this thread: run one stream at a time, to its end, and no other kernel that
    draws.
    """
    common = EVERYWHERE * FADES ** np.arange(COMMON)
    levels = (FIELD_WEIGHT, OWN_WEIGHT, LIGHT_WEIGHT, TOPIC_NOISE, NOISE)
    sizes = (FIELD, TOPIC, FIELD_TERMS, FROM_FIELD, OWN, BACKGROUND)
    cumulative, topic = popularity(TERMS - COMMON), FROM_FIELD + OWN
    state = State(
        np.zeros(3, np.int64), np.zeros(TERMS, np.int64), np.empty(FIELD_TERMS, np.int64), np.empty(FIELD_TERMS),
        np.empty(topic, np.int64), np.empty(topic),
    )  # fmt: skip
    start(seed)
    for first in range(0, n, step):
        yield Rows(*generate(min(step, n - first), cumulative, common, sizes, levels, KEEP, state))


def shuffled(n: int, seed: int = SEED) -> NDArray[np.int64]:
    """int64[n]: the place in topic order of each passage of the collection."""
    return np.random.default_rng(seed).permutation(n)


def documents(n: int, seed: int = SEED) -> Rows:
    """The passages, shuffled, in memory."""
    parts = list(stream(n, seed))
    indptr = np.concatenate(([0], np.cumsum(np.concatenate([np.diff(part.indptr) for part in parts]))))
    terms, impacts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("terms", "weights"))
    return gathered(Rows(indptr, terms.astype(np.uint32), impacts), shuffled(n, seed))


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
