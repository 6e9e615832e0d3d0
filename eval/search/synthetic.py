"""Collection `synthetic-1m`: passages with topics, so that terms occur together and their weights agree nearby.

Weights drawn independently per passage make block maxima far looser than real ones, and any block-max engine looks bad
on them. Here a passage is a noisy copy of its topic:

1. Terms have a global popularity, Zipf with exponent `ZIPF` after a flat head (`HEAD` ranks), as in expanded passages.
2. A field (coarse topic, about `FIELD` passages) is a set of terms drawn by popularity, with weights.
3. A topic (about `TOPIC` passages) takes `FROM_FIELD` terms of its field and `OWN` of its own; a term keeps its field's
   weight up to a factor exp(N(0, `TOPIC_NOISE`)), own terms get heavy ones.
4. A passage takes each of the topic's terms with probability `KEEP`, with the topic's weight times exp(N(0, `NOISE`)),
   and `BACKGROUND` terms drawn by popularity with light weights.
5. A query looks at one passage: its terms are drawn from the passage by weight and rarity, the rest by a flatter
   popularity; its weights fall off geometrically in the order drawn, the largest is 32.

Passages are shuffled at the end, so that reordering has work to do. Everything follows from one seed. The constants
were set by comparing postings per query with those of `real-learned`; `calibrate.py` compares the other `statistics`.
"""

from __future__ import annotations

import numpy as np
from matrices import Matrix, Rows, from_pairs, whole_queries
from numba import njit

SEED = 7
TERMS = 28_000
ZIPF, HEAD = 1.05, 60
FIELD, TOPIC = 1500, 12
FIELD_TERMS, FROM_FIELD, OWN = 400, 90, 45
TOPIC_NOISE, NOISE, KEEP, BACKGROUND = 0.6, 0.45, 0.62, 30
QUERY_TERMS, QUERY_SPREAD, FROM_PASSAGE, DECAY = 44, 16, 0.55, 0.93
RARITY, FLATTER = 0.35, 0.8


def popularity(terms: int, exponent: float = ZIPF) -> np.ndarray:
    """Cumulative shares of the terms, the most popular first."""
    share = (np.arange(terms) + HEAD) ** -exponent
    return np.cumsum(share) / share.sum()


@njit(cache=True)
def draw_distinct(cumulative, count, seen, stamp, out):
    """Fill out[:count] with distinct terms drawn by popularity; `seen` holds stamps of terms taken."""
    size = 0
    while size < count:
        term = np.searchsorted(cumulative, np.random.random())
        if term < len(seen) and seen[term] != stamp:
            seen[term] = stamp
            out[size] = term
            size += 1
    return size


@njit(cache=True)
def generate(
    n, seed, cumulative, field_size, topic_size, field_terms, from_field, own, topic_noise, noise, keep, background
):
    """Rows of n passages in topic order: (indptr, terms unsorted in a row, weights)."""
    np.random.seed(seed)
    terms = len(cumulative)
    seen = np.zeros(terms, np.int64)
    stamp = 0
    capacity = n * (from_field + own + background)
    indptr = np.zeros(n + 1, np.int64)
    out_terms = np.empty(capacity, np.uint32)
    out_weights = np.empty(capacity, np.float32)
    f_terms, f_weights = np.empty(field_terms, np.int64), np.empty(field_terms)
    t_terms, t_weights = np.empty(from_field + own, np.int64), np.empty(from_field + own)
    extra = np.empty(background, np.int64)
    field_left = topic_left = size = 0
    for doc in range(n):
        if field_left == 0:
            field_left = max(1, int(field_size * np.random.gamma(2.0, 0.5)))
            topic_left = 0
            stamp += 1
            draw_distinct(cumulative, field_terms, seen, stamp, f_terms)
            for i in range(field_terms):
                f_weights[i] = np.exp(np.random.normal(-1.0, 0.75))
        if topic_left == 0:
            topic_left = max(1, int(topic_size * np.random.gamma(1.0, 1.0)))
            stamp += 1
            order = np.random.permutation(field_terms)
            for i in range(from_field):
                t_terms[i] = f_terms[order[i]]
                t_weights[i] = f_weights[order[i]] * np.exp(np.random.normal(0.0, topic_noise))
                seen[t_terms[i]] = stamp
            draw_distinct(cumulative, own, seen, stamp, t_terms[from_field:])
            for i in range(from_field, from_field + own):
                t_weights[i] = np.exp(np.random.normal(-0.6, 0.8))
        field_left -= 1
        topic_left -= 1
        stamp += 1
        share = keep * min(1.5, max(0.4, np.random.normal(1.0, 0.2)))
        for i in range(from_field + own):
            if np.random.random() < share:
                seen[t_terms[i]] = stamp
                out_terms[size] = t_terms[i]
                out_weights[size] = t_weights[i] * np.exp(np.random.normal(0.0, noise))
                size += 1
        count = draw_distinct(cumulative, background, seen, stamp, extra)
        for i in range(count):
            out_terms[size] = extra[i]
            out_weights[size] = np.exp(np.random.normal(-1.7, 0.8))
            size += 1
        indptr[doc + 1] = size
    return indptr, out_terms[:size], out_weights[:size]


@njit(cache=True)
def shuffle_rows(indptr, terms, weights, order, largest, new_indptr, new_terms, impacts):
    """Rows in another order, terms ascending, weights as impacts 1 … 255."""
    for i in range(len(order)):
        first, last = indptr[order[i]], indptr[order[i] + 1]
        by_term = np.argsort(terms[first:last])
        at = new_indptr[i]
        for j in range(last - first):
            new_terms[at + j] = terms[first + by_term[j]]
            impacts[at + j] = max(1.0, min(255.0, np.rint(weights[first + by_term[j]] * 255 / largest)))
        new_indptr[i + 1] = at + last - first


def documents(n: int, seed: int = SEED) -> Rows:
    """The passages, shuffled."""
    cumulative = popularity(TERMS)
    parameters = (FIELD, TOPIC, FIELD_TERMS, FROM_FIELD, OWN, TOPIC_NOISE, NOISE, KEEP, BACKGROUND)
    indptr, terms, weights = generate(n, seed, cumulative, *parameters)
    rng = np.random.default_rng(seed)
    new_indptr = np.zeros(n + 1, np.int64)
    new_terms, impacts = np.empty(len(terms), np.uint32), np.empty(len(terms), np.uint8)
    largest = float(np.percentile(weights[:1_000_000], 99.99))
    shuffle_rows(indptr, terms, weights, rng.permutation(n), largest, new_indptr, new_terms, impacts)
    return Rows(new_indptr, new_terms, impacts)


def queries(rows: Rows, count: int, seed: int = SEED) -> Rows:
    """Float queries about single passages."""
    rng = np.random.default_rng(seed + 1)
    flat = popularity(TERMS, FLATTER * ZIPF)
    owners, terms, weights = [], [], []
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


def matrix(n: int = 1_000_000, count: int = 500, seed: int = SEED, name: str = "synthetic-1m") -> Matrix:
    """The collection and its queries."""
    rows = documents(n, seed)
    asked = queries(rows, count, seed)
    about = {"generator": "eval/search/synthetic.py", "seed": seed, "passages": n}
    return Matrix(name, TERMS, rows, {"synthetic": whole_queries(asked), "synthetic-float": asked}, about)
