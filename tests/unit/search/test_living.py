"""An index that changes: commits taken up, filters, views, facets, deletes; and that one answer is of one commit."""

# ruff: noqa: S301  (what is unpickled was pickled here)

import copy
import pickle
import shutil
import threading

import numpy as np
import pytest

from tests.indexes import segment_of
from thresher.build.recipe import Recipe, VectorsStep
from thresher.build.stream import build_index
from thresher.errors import ArtifactError, InputError
from thresher.pipeline import Pipeline
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.search import Index

WORDS = [f"word{i}" for i in range(30)]


def passages(first, after, **metadata):
    rng = np.random.default_rng(first)
    return [
        Passage(
            f"d{i}",
            " ".join(rng.choice(WORDS, rng.integers(3, 20))),
            metadata={"lang": ("en", "de")[i % 2], "year": 2000 + i % 5, "groups": ["a", "b"][: 1 + i % 2], **metadata},
        )
        for i in range(first, after)
    ]


class WordCounts:
    """A dense encoder: a vector counts words."""

    fingerprint = "word-counts"
    name = "word-counts"
    max_tokens = 0

    def encode_passages(self, texts):
        rows = np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    encode_queries = encode_passages


TIERED = Recipe(prune=PruneStep(estimator="length", keep=0.5, fold=False))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three segments of two tiers with vectors, and deletes in the first two."""
    path = tmp_path_factory.mktemp("living") / "x"
    recipe = TIERED.model_copy(update={"vectors": VectorsStep(storage="float16", sketch=0)})
    build_index(path, passages(0, 60), recipe, dense=WordCounts())
    for first, gone in ((60, ["d1", "d2", "d61"]), (90, [])):
        with Index.open(path).writer(dense=WordCounts(), merge=False) as writer:
            writer.add(passages(first, first + 30))
            writer.commit()
            if gone:
                writer.delete(docnos=gone)
    index = Index.open(path)
    index.dense_encoder = WordCounts()
    return index


def told(ranking):
    return ranking.pairs()


QUERIES = ["word1 word2", "word7", {"word3": 2.0, "word4": 0.5}, "nothing known"]


def test_an_index_answers_from_one_commit_until_it_is_refreshed(tmp_path):
    build_index(tmp_path / "x", passages(0, 20), "bm25")
    index, following = Index.open(tmp_path / "x"), Index.open(tmp_path / "x", follow=True)
    before, texts = index.search("word1", 50), {one.docno: one.text for one in passages(0, 20)}
    with index.writer() as writer:
        writer.delete(docnos=["d3"])
        writer.add(passages(20, 30))
    assert told(index.search("word1", 50)) == told(before)
    assert (len(index), len(following), index.commit) == (20, 29, 1)
    assert "d3" in index
    assert "d3" not in following
    assert "d25" in following
    old = index._now.parts[0].searcher
    assert index.refresh()
    assert not index.refresh()
    assert index._now.parts[0].searcher is old
    assert index.commit == 2
    assert told(index.search("word1", 50)) == told(following.search("word1", 50))
    assert [hit.text for hit in before] == [texts[docno] for docno in before.docnos]
    with pytest.raises(InputError, match="'d3' is not in the index"):
        index.passage("d3")


def test_deleted_passages_are_not_found_and_keep_their_numbers(made):
    assert len(made) == 117
    assert "d1" not in made
    assert made.numbers(["d1", "d0"])[0] == -1
    everything = made._now.stored
    assert int(everything.starts[-1]) == 120
    live = [number for number in range(120) if number in set(made.numbers([f"d{i}" for i in range(120)]).tolist())]
    assert len(live) == 117
    gone = min(set(range(120)) - set(live))
    with pytest.raises(InputError, match=f"no passage has the number {gone}"):
        made.docnos_at([gone])
    for query in QUERIES:
        for by in ("sparse", "dense", "both"):
            if by != "sparse" and not isinstance(query, str):
                continue
            assert not {"d1", "d2", "d61"} & set(made.search(query, 120, by=by).docnos)


@pytest.mark.parametrize("by", ["sparse", "dense", "both"])
@pytest.mark.parametrize("tiers", ["both", "first", "auto"])
def test_a_filter_leaves_out_what_does_not_match_and_nothing_else(made, tiers, by):
    for query in QUERIES[:2]:
        whole = made.search(query, 120, by=by, tiers=tiers)
        for where in ({"lang": "en"}, "year >= 2003", {"groups": {"any": ["b"]}, "lang": "de"}, "year = 1990"):
            found = made.search(query, 120, by=by, tiers=tiers, where=where)
            assert all(matches(hit.metadata, where) for hit in found)
            if by != "both":
                expected = [pair for pair, hit in zip(told(whole), whole, strict=True) if matches(hit.metadata, where)]
                assert told(found) == expected
                assert told(made.search(query, 3, by=by, tiers=tiers, where=where)) == expected[:3]


def matches(metadata, where):
    """What the filters of these tests mean."""
    return {
        "year >= 2003": metadata["year"] >= 2003,
        "year = 1990": False,
        "{'lang': 'en'}": metadata["lang"] == "en",
    }.get(str(where), "b" in metadata["groups"] and metadata["lang"] == "de")


def test_allowed_docnos_and_masks_leave_out_all_others(made):
    wanted = [f"d{i}" for i in range(0, 120, 3)] + ["unknown"]
    whole = made.search("word1 word2", 120)
    expected = [pair for pair in told(whole) if pair[0] in wanted]
    assert told(made.search("word1 word2", 120, allow=wanted)) == expected
    mask = np.zeros(120, bool)
    numbers = made.numbers(wanted)
    mask[numbers[numbers >= 0]] = True
    assert told(made.search("word1 word2", 120, allow=mask)) == expected
    run = made.search_batch(["word1 word2"], 120, allow=mask, where="lang = en", threads=2)
    assert told(run["0"]) == told(made.search("word1 word2", 120, allow=wanted, where="lang = en"))
    assert len(made.search("word1", 5, allow=[])) == 0
    for wrong in (mask[:-1], "d1", 7):
        with pytest.raises(InputError, match=r"allow|docnos"):
            made.search("word1", allow=wrong)


def test_an_unknown_field_and_a_wrong_type_list_the_fields(made):
    for where in ("lnag = en", {"year": "soon"}, {"year": {"gte": "x"}}):
        with pytest.raises(InputError, match="lang"):
            made.search("word1", where=where)
    with pytest.raises(InputError, match="lang"):
        made.facets("lnag")
    with pytest.raises(InputError, match="field"):
        made.facets(7)


def test_no_later_argument_widens_a_view(made):
    view = made.restricted("lang = en")
    inside = [f"d{i}" for i in range(0, 120, 2) if i != 2]
    outside = [f"d{i}" for i in range(1, 120, 2)]
    assert len(view) == len(inside)
    assert all(docno in view for docno in inside)
    assert not any(docno in view for docno in outside)
    assert (view.numbers(outside) == -1).all()
    for query in QUERIES[:2]:
        for by in ("sparse", "dense", "both"):
            for options in ({}, {"where": "lang = de"}, {"where": "not lang = en"}, {"allow": outside}):
                found = set(view.search(query, 120, by=by, vector=np.ones(30) / 30**0.5, **options).docnos)
                assert found <= set(inside)
                assert found == set() or not options
    assert set(view.search_batch(["word1"], 120, where="year >= 2000")["0"].docnos) <= set(inside)
    assert told(view.search("word1", 120)) == told(made.search("word1", 120, where="lang = en"))
    assert view.facets("lang") == {"en": len(inside)}
    assert set(view.facets("lang", "word1")) == {"en"}
    assert view.facets("lang", where="lang = de") == {}
    assert view.aliases(inside[:2]) == [(), ()]
    inner = view.restricted("year = 2001")
    assert {view.passage(hit.docno).metadata["year"] for hit in inner.search("word1 word2 word3", 120)} == {2001}
    assert not view.refresh()
    assert len(pickle.loads(pickle.dumps(inner))) == len(inner)
    assert told(copy.copy(view).search("word1")) == told(view.search("word1"))


def test_errors_of_a_view_say_nothing_of_passages_outside(made):
    view = made.restricted("lang = en")
    asked = [
        view.passage,
        view.representative,
        lambda one: view.aliases([one]),
    ]
    for ask in asked:
        errors = []
        for docno in ("d1", "d3", "never"):  # deleted, outside, and not there
            with pytest.raises(InputError) as caught:
                ask(docno)
            errors.append(str(caught.value).replace(docno, "?"))
        assert len(set(errors)) == 1
    errors = []
    for number in (int(made.numbers(["d3"])[0]), 119_000):
        with pytest.raises(InputError) as caught:
            view.passages_at([number])
        errors.append(str(caught.value).replace(str(number), "?"))
    assert len(set(errors)) == 1
    for closed in (lambda: view.layouts, view.writer):
        with pytest.raises(InputError, match="restricted view"):
            closed()


def test_facets_count_all_matches(made):
    docs = [made.passage(f"d{i}") for i in range(120) if f"d{i}" in made]
    assert made.facets("lang") == {"en": 59, "de": 58}
    counted = made.facets("year", "word1 word2", where="lang = en")
    held = [d for d in docs if {"word1", "word2"} & set(d.text.split()) and d.metadata["lang"] == "en"]
    assert counted == {year: sum(d.metadata["year"] == year for d in held) for year in counted}
    assert sum(counted.values()) == len(held) > 10
    assert list(counted.values()) == sorted(counted.values(), reverse=True)
    assert made.facets("groups")["a"] == 117
    assert made.facets("lang", "nothing known") == {}


def test_copies_answer_from_the_same_commit(tmp_path):
    build_index(tmp_path / "x", passages(0, 20), "bm25")
    index = Index.open(tmp_path / "x")
    kept, found = pickle.dumps(index), pickle.dumps(index.search("word1", 20))
    with index.writer() as writer:
        writer.replace(passages(0, 5, lang="fr"))
    again = pickle.loads(kept)
    assert again.commit == 1
    assert told(again.search("word1", 20)) == told(pickle.loads(found))
    assert again.refresh()
    assert again.passage("d0").metadata["lang"] == "fr"
    del again
    index.close()
    with Index.open(tmp_path / "x").writer() as writer:
        writer.delete(docnos=["d7"])
    with pytest.raises(ArtifactError, match="was replaced since it was opened"):
        pickle.loads(kept)


def test_threads_that_follow_see_whole_commits(tmp_path):
    build_index(tmp_path / "x", [Passage(f"d{i}", f"common text of commit0 number{i}") for i in range(30)], "bm25")
    index, problems, stop = Index.open(tmp_path / "x", follow=True), [], threading.Event()

    def read():
        while not stop.is_set():
            found = index.search("common", 100)
            commits = {hit.text.split()[3] for hit in found}
            if len(found) != 30 or len(commits) != 1:
                problems.append((len(found), commits))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    with Index.open(tmp_path / "x").writer(merge=False) as writer:
        for commit in range(1, 5):
            writer.replace([Passage(f"d{i}", f"common text of commit{commit} number{i}") for i in range(30)])
            writer.commit()
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert index.search("common", 1)[0].text.split()[3] == "commit4"


def test_a_pipeline_takes_filters_and_is_copied(made):
    pipeline = Pipeline.open(made, rerank=None, context=None, query_encoder=WordCounts())
    answer = pipeline.ask("word1 word2", 5, where="lang = de", allow=[f"d{i}" for i in range(50)])
    assert len(answer.passages) == 5
    assert {passage.metadata["lang"] for passage in answer.passages} == {"de"}
    assert [one.docno for one in pipeline.ask_batch(["word1"], 4, where="year = 2001")[0].passages] == [
        one.docno for one in pipeline.ask("word1", 4, where={"year": 2001}).passages
    ]
    again = pickle.loads(pickle.dumps(pipeline))
    assert [one.docno for one in again.ask("word1 word2").passages] == [
        one.docno for one in pipeline.ask("word1 word2").passages
    ]
    view = Pipeline.open(made.restricted("lang = en"), rerank=None, context=None, query_encoder=WordCounts())
    assert view.ask("word1 word2", 5, where="lang = de").passages == ()
    assert {one.metadata["lang"] for one in view.ask("word1 word2", 5).passages} == {"en"}
    view.warm_up()
    with pytest.raises(InputError, match="candidates are given"):
        pipeline.ask("word1", candidates=made.search("word1"), where="lang = en")


def test_a_merge_changes_no_result(made, tmp_path):
    shutil.copytree(made.path, tmp_path / "x")
    merged = Index.open(tmp_path / "x", follow=True)
    assert len(merged.layouts) == 6
    with merged.writer(dense=WordCounts()) as writer:
        writer.merge(all=True)
    assert len(merged.layouts) == 2
    assert (len(merged), len(merged.layouts[0].docnos) + len(merged.layouts[1].docnos)) == (117, 117)
    vector = WordCounts().encode_queries(["word1 word2"])[0]
    for query in [*QUERIES, {"word1": 0.1, "word9": 1 / 3}]:
        for options in ({}, {"tiers": "first"}, {"where": "lang = en"}, {"by": "dense"}, {"by": "both"}):
            own = {**options, "vector": vector} if "by" in options else options
            assert told(merged.search(query, 40, **own)) == told(made.search(query, 40, **own))
    assert merged.facets("year", "word1") == made.facets("year", "word1")


def test_an_index_whose_segments_are_gone_refuses_what_it_has_not_opened(tmp_path):
    build_index(tmp_path / "x", passages(0, 20), "bm25")
    index = Index.open(tmp_path / "x")
    assert segment_of(tmp_path / "x").is_dir()
    build_index(tmp_path / "x", passages(0, 20), "bm25", overwrite=True)
    with pytest.raises(ArtifactError, match="was replaced since it was opened"):
        index.search("word1")
    assert index.refresh()
    assert len(index.search("word1")) > 0
