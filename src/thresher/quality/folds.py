"""Cross-validation folds that no query and no passage straddles.

A passage judged for two queries ties them together; near-duplicates tie passages together. The groups are the
connected components of that graph, so a fold never holds a query, a passage, or a copy of a passage that another
fold holds. Where components are so large that this leaves fewer folds than asked for (NFCorpus: nearly all queries
are one component), `passage_folds` splits by passage clusters alone, and the queries of the test fold are measured on
its passages only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def components(pairs: Sequence[tuple[int, int]], n: int) -> NDArray[np.int64]:
    """The component of each of `n` nodes under undirected `pairs`: the smallest node of it, int64[n]."""
    parent = np.arange(n, dtype=np.int64)

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = int(parent[node])
        return node

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(i) for i in range(n)], np.int64)


def passage_folds(canonical: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each passage, by the passage that stands for it, int64[n]; clusters are dealt out at random.

    Raises:
        InputError: there are fewer clusters than folds.
    """
    clusters, inverse = np.unique(canonical, return_inverse=True)
    if folds < 2 or len(clusters) < folds:
        raise InputError(
            f"{len(clusters)} clusters of passages cannot be cut into {folds} folds; at least two are needed"
        )
    dealt = np.empty(len(clusters), np.int64)
    dealt[np.random.default_rng(seed).permutation(len(clusters))] = np.arange(len(clusters)) % folds
    result: NDArray[np.int64] = dealt[inverse]
    return result


def grouped_folds(
    judgments: Mapping[str, Mapping[int, int]], canonical: NDArray[np.int64], folds: int, seed: int
) -> tuple[dict[str, int], NDArray[np.int64], bool]:
    """Folds of queries and of judged passages together.

    Args:
        judgments: query to passage position to grade.
        canonical: the passage that stands for each.
        folds: how many.
        seed: of the deal.

    Returns:
        The fold of each query, the fold of each passage (int64[n]), and whether queries and passages could be kept
        together. Where they could not (the largest component holds more than half of the judgments), passages are dealt
        out by cluster and queries at random, and only a judgment whose two folds agree may be used for testing.
    """
    qids = sorted(judgments)
    n = len(canonical)
    pairs = [(n + i, int(canonical[p])) for i, qid in enumerate(qids) for p in judgments[qid]]
    pairs += [(p, int(c)) for p, c in enumerate(canonical) if p != c]
    component = components(pairs, n + len(qids))
    weight: dict[int, int] = {}
    for i, qid in enumerate(qids):
        weight[int(component[n + i])] = weight.get(int(component[n + i]), 0) + len(judgments[qid])
    rng = np.random.default_rng(seed)
    if not weight or 2 * max(weight.values()) > sum(weight.values()) or len(weight) < folds:
        dealt = rng.permutation(len(qids)) % folds
        return {q: int(f) for q, f in zip(qids, dealt, strict=True)}, passage_folds(canonical, folds, seed), False
    fold_of = _balanced(weight, folds, rng)
    rest = (
        passage_folds(component[:n], folds, seed) if len(np.unique(component[:n])) >= folds else np.zeros(n, np.int64)
    )
    passages = np.array([fold_of.get(int(component[p]), int(rest[p])) for p in range(n)], np.int64)
    return {q: fold_of[int(component[n + i])] for i, q in enumerate(qids)}, passages, True


def _balanced(weight: dict[int, int], folds: int, rng: np.random.Generator) -> dict[int, int]:
    """Deal components out, heaviest first, each to the lightest fold."""
    order = list(weight)
    rng.shuffle(order)
    order.sort(key=lambda c: -weight[c])
    load = [0] * folds
    fold_of = {}
    for component in order:
        lightest = int(np.argmin(load))
        fold_of[component] = lightest
        load[lightest] += weight[component]
    return fold_of
