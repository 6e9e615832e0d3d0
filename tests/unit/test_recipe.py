"""A recipe or experiment says what it must and nothing else; mistakes name the key and the file."""

import pytest

from thresher.build.recipe import Recipe, load_recipe, shipped
from thresher.corpus import open_corpus
from thresher.errors import ConfigError
from thresher.experiment import load_experiment, run_experiment


def written(path, text):
    path.write_text(text)
    return path


def test_an_empty_recipe_is_the_default(tmp_path):
    assert load_recipe(written(tmp_path / "r.toml", "")) == Recipe()


def test_shipped_recipes_and_experiments_are_valid():
    assert "bm25" in shipped("indexes")
    for path in shipped("indexes").values():
        load_recipe(path)
    names = shipped("eval")
    assert {"trec-dl-2019-bm25", "trec-dl-2019-full", "trec-dl-2020-full", "scifact-bm25", "nfcorpus-bm25"} <= set(
        names
    )
    for name in names:
        load_experiment(name)


def test_a_shipped_recipe_is_found_by_name_and_by_its_path_in_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("bm25") == load_recipe("indexes/bm25.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[encode]\nkl = 0.9", r"unknown key 'encode\.kl'; known here are: .*k1"),
        ("encoding = 1", r"unknown key 'encoding'; known here are: .*encode"),
        ('[encode]\nk1 = "much"', r"key 'encode\.k1' is 'much'"),
        ("[encode]\nb = 2.0", r"key 'encode\.b' is 2\.0"),
        ("[index]\nbits = 12", r"key 'index\.bits' is 12"),
        ("[index\n", "not valid TOML"),
    ],
)
def test_mistakes_name_the_key_and_the_file(tmp_path, text, message):
    path = written(tmp_path / "r.toml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_an_unknown_recipe_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"bm52: no such file.*shipped are: .*bm25"):
        load_recipe("bm52")


EXPERIMENT = """
collection = "{collection}"
recipe = "bm25"
measures = ["{measure}"]
[published]
"{published}" = 0.5
"""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("scifakt", "nDCG@10", "nDCG@10"), "unknown collection 'scifakt'; known are: .*scifact"),
        (("scifact", "NDGC@10", "NDGC@10"), "NDGC"),
        (("scifact", "nDCG@10", "AP"), "published gives 'AP'"),
    ],
)
def test_an_experiment_is_checked_before_any_work(tmp_path, values, message):
    collection, measure, published = values
    text = EXPERIMENT.format(collection=collection, measure=measure, published=published)
    with pytest.raises(ValueError, match=message):
        load_experiment(written(tmp_path / "e.toml", text))


@pytest.mark.parametrize(("name", "ndcg"), [("trec-dl-2019-full", 0.5058), ("trec-dl-2020-full", 0.4796)])
def test_the_whole_corpus_is_planned_without_being_here(name, ndcg):
    report = run_experiment(name, dry_run=True)
    assert report.plan["data"].startswith("ir_datasets:msmarco-passage/")
    assert report.experiment.published["nDCG@10"] == ndcg
    assert report.measured == {}


def test_an_overlap_without_a_split_says_what_is_missing():
    with pytest.raises(ConfigError, match="set split_tokens as well"):
        open_corpus("anything.jsonl", split_overlap=5)
