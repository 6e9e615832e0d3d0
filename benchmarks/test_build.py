"""An index of 5,000 passages, plain and with half of the passages in a second tier."""

from itertools import count

import pytest

from thresher.build import Recipe, build_index
from thresher.prune import PruneStep

PASSAGES = 5_000
RECIPES = {
    "plain": Recipe(),
    "pruned": Recipe(prune=PruneStep(estimator="unigram", keep=0.5, similarity=None)),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_build(benchmark, collection, tmp_path, recipe):
    passages = collection.passages[:PASSAGES]
    names = count()

    def build():
        return build_index(tmp_path / str(next(names)), passages, RECIPES[recipe])

    benchmark.pedantic(build, rounds=3, warmup_rounds=1)
