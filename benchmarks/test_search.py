"""A query over 20,000 passages, BM25; one round answers all queries."""

import pytest

import thresher


@pytest.mark.parametrize("k", [10, 1000])
def test_search(benchmark, collection, index_path, k):
    index = thresher.Index.open(index_path)
    for query in collection.queries[:3]:
        index.search(query, k)  # compiles

    def answer():
        return [index.search(query, k) for query in collection.queries]

    rankings = benchmark(answer)
    assert all(len(ranking) == k for ranking in rankings)
