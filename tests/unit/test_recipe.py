"""A recipe or experiment says what it must and nothing else; mistakes name the key and the file."""

import os

import pytest

from thresher.build.recipe import Recipe, load_recipe, shipped
from thresher.corpus import open_corpus
from thresher.errors import ConfigError, InputError
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[ask]\nweights = [nan, 0.4, 0.4]", r"'ask\.weights\.0' is nan"),
        ("[ask]\nweights = [0, 0, 0]", r"'ask\.weights'.*above 0"),
        ("[ask]\nweights = [-1.0, 1, 1]", r"'ask\.weights'.*at least 0"),
        ("[ask]\nweights = [1, 1]", r"'ask\.weights"),
        ("[ask]\nthreshold = 3.0", r"'ask\.threshold"),
        ("[ask]\nthreshold = nan", r"'ask\.threshold"),
        ("[ask]\nthreshold = -1.0", r"'ask\.threshold"),
        ("[ask]\ndeadline_ms = inf", r"'ask\.deadline_ms' is inf"),
        ("[ask]\nk = 100000000000000000000", r"'ask\.k'"),
        ("[encode]\nk1 = inf", r"'encode\.k1' is inf"),
        ("[encode]\nb = nan", r"'encode\.b' is nan"),
        ("[encode]\nencoder = 7", r"'encode\.encoder' is 7"),
        ("[vectors]\nstorage = 'int4'", r"'vectors\.storage' is 'int4'.*float16"),
        ("[vectors]\nstorage = 'pq0'", r"'vectors\.storage' is 'pq0'"),
        ("[prune]\nkeep = 0", r"'prune\.keep' is 0"),
        ("[prune]\nkeep = nan", r"'prune\.keep' is nan"),
        ("[prune]\nthreshold = inf", r"'prune\.threshold' is inf"),
        ("[prune]\nbudget = 'much'", r"'prune\.budget' is 'much'.*2 GB"),
        ("[prune]\nkep = 0.5", r"unknown key 'prune\.kep'; known here are: .*keep"),
        ("[corpus]\nid_field = \"a\\u0000b\"", r"'corpus\.id_field'.*NUL"),
        ("[corpus]\nsplit_tokens = 1.5", r"'corpus\.split_tokens' is 1\.5"),
        ("[prune]\nestimator = 2026-01-01", r"'prune\.estimator'"),
        ("corpus = 'x'", r"'corpus' is 'x'"),
        ("description = '" + "x" * 9000 + "'\nk = 1", "unknown key 'k'"),
        ("[ask]\nfirst = '" + "x" * 9000 + "'", r"'ask\.first' is '.{,200}…"),
        ("x = " + "[" * 4000, "not valid TOML"),
        ("a." * 3000 + "b = 1", r"unknown key 'a"),
        ("[[[", "not valid TOML"),
        ("x = " + "1" * 9000, "not valid TOML"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_on_loading_with_table_and_key(tmp_path, text, message):
    path = written(tmp_path / "r.toml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[encode]\r\nk1 = 0.5\r\n", b"[encode]\nk1 = 0.5"])
def test_a_recipe_may_have_a_byte_order_mark_and_come_through_a_pipe(tmp_path, content):
    (tmp_path / "r.toml").write_bytes(content)
    assert load_recipe(tmp_path / "r.toml").encode.k1 == 0.5
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    try:
        assert load_recipe(f"/dev/fd/{reading}").encode.k1 == 0.5
    finally:
        os.close(reading)


def test_a_recipe_that_is_not_utf_8_names_the_line(tmp_path):
    (tmp_path / "r.toml").write_bytes(b'# a\ndescription = "caf\xe9"\n')
    with pytest.raises(ConfigError, match=r"r\.toml:2: not UTF-8"):
        load_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, ""])
def test_a_name_that_no_recipe_can_have_is_an_error(name):
    with pytest.raises((ConfigError, InputError)):
        load_recipe(name)
