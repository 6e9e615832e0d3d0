"""Choosing sentences of twenty passages without a model: BM25 scores, and the selection under a limit of tokens."""

from thresher.context import ContextPruner

LIMIT = 400


def test_select(benchmark, collection):
    pruner = ContextPruner("lexical")
    passages = collection.passages[:20]
    pruned = benchmark(pruner.prune, collection.queries[0], passages, threshold=0.0, max_tokens=LIMIT)
    assert 0 < sum(one.tokens for one in pruned) <= LIMIT
