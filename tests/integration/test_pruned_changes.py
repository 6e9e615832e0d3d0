"""An index with a [prune] table that changes: frozen thresholds, folding over segments, and what returns."""

import random

import pytest

from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.index.commit import read_commit
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.search import Index

WORDS = [f"word{i}" for i in range(300)]


def passage(i, n=0):
    rng = random.Random(i)
    return Passage(f"d{i}", " ".join(rng.choices(WORDS, k=n or rng.randint(20, 60))), metadata={"tenant": f"t{i % 2}"})


def near(one, docno, changed=2):
    """A passage with other words at its end."""
    words = one.text.split()
    return Passage(docno, " ".join([*words[:-changed], *["other"] * changed]), metadata=one.metadata)


def built(path, **settings):
    step = PruneStep(**{"estimator": "length", **settings})
    build_index(path, [passage(i) for i in range(40)], Recipe(prune=step))
    return path


def changed(path, **calls):
    with IndexWriter.open(path, merge=False) as writer:
        for name, what in calls.items():
            getattr(writer, name)(**what) if isinstance(what, dict) else getattr(writer, name)(what)
        report = writer.commit()
    return report, Index.open(path)


def test_near_and_exact_duplicates_of_passages_in_the_index_are_folded_into_them(tmp_path):
    path = built(tmp_path / "index")
    long = passage(100, 60)
    changed(path, add=[long])
    new = [
        near(long, "near"), near(long, "far", 30), Passage("exact", passage(3).text.upper()), passage(101, 50),
        near(passage(101, 50), "near-new"),
    ]  # fmt: skip
    report, index = changed(path, add=new)
    assert (report.added, report.folded) == (5, 3)
    assert index.aliases(["d100", "d3", "d101", "far"]) == [("near",), ("exact",), ("near-new",), ()]
    assert index.representative("near") == "d100"
    (hit,) = index.search(" ".join(passage(3).text.split()[:12]), 1)
    assert (hit.docno, hit.aliases) == ("d3", ("exact",))
    assert "near" not in index
    assert len(index) == 43


def test_what_was_folded_returns_when_its_representative_goes_and_stays_with_a_successor(tmp_path):
    path = built(tmp_path / "index")
    changed(path, add=[near(passage(5, 0), "twin", 1), near(passage(5), "other-twin", 1)])
    names = {"twin", "other-twin"}
    index = Index.open(path)
    assert set(index.aliases(["d5"])[0]) == names
    report, index = changed(path, replace=[near(passage(5), "d5", 1)])
    assert (report.replaced, report.returned, report.folded) == (1, 2, 2)
    assert set(index.aliases(["d5"])[0]) == names, "the successor of a representative stands for what it stood for"
    with IndexWriter.open(path) as writer:
        writer.merge(all=True)
    index = Index.open(path)
    assert set(index.aliases(["d5"])[0]) == names
    report, index = changed(path, delete={"docnos": ["d5"]})
    assert (report.deleted, report.returned, report.folded) == (1, 2, 1)
    (stays,) = (name for name in names if name in index)
    assert index.aliases([stays]) == [tuple(names - {stays})]
    assert index.passage(stays).text == near(passage(5), stays, 1).text
    report, index = changed(path, delete={"docnos": [*names]})
    assert report.deleted == 2
    assert len(index) == 39


def test_duplicates_are_folded_within_the_field_that_the_recipe_names(tmp_path):
    path = built(tmp_path / "index", fold_field="tenant")
    mine, other = passage(2), passage(2).metadata | {"tenant": "t1"}
    report, index = changed(
        path, add=[Passage("a", mine.text, metadata=other), Passage("b", mine.text, metadata=mine.metadata)]
    )
    assert report.folded == 1
    assert index.aliases(["d2", "a"]) == [("b",), ()]


def test_the_threshold_of_the_build_decides_over_added_passages(tmp_path):
    path = built(tmp_path / "index", keep=0.5)
    threshold = read_commit(path).frozen["pruning"]["threshold"]
    report, index = changed(
        path, add=[passage(200, 300), Passage("short", "word1 word2"), Passage("junk", "--- §§§ ---")]
    )
    assert threshold is not None
    assert (report.tier_2, report.pruned) == (2, {"junk": 1, "score": 1})
    ranking = index.search("word1", 50)
    assert dict(zip(ranking.docnos, ranking.tiers.tolist(), strict=True))["short"] == 2
    assert (
        index.search(passage(200, 300).text.split()[0], 50).tiers[
            index.search(passage(200, 300).text.split()[0], 50).docnos.index("d200")
        ]
        == 1
    )


def test_passages_that_pruning_dropped_are_known_to_sync_and_may_be_added_again(tmp_path):
    path = built(tmp_path / "index", keep=0.5, rest="drop")
    corpus = [passage(i) for i in range(40)]
    with IndexWriter.open(path) as writer:
        assert writer.sync(corpus).unchanged == 40
        dropped = next(p.docno for p in corpus if p.docno not in Index.open(path))
        assert writer.delete(docnos=[dropped]).absent == (dropped,)
        change = writer.sync(corpus[:-1])
        assert change.unchanged == 39
    with IndexWriter.open(path) as writer:
        writer.add([Passage(dropped, passage(300, 100).text)])
    assert dropped in Index.open(path)


def test_pins_and_floors_hold_for_added_passages(tmp_path):
    path = built(tmp_path / "index", keep=0.5, floor=1, floor_field="tenant", pins=("d1",), fold=False, junk=False)
    new = [Passage(f"n{i}", "word1 " * (i + 1), metadata={"tenant": f"new{i % 2}"}) for i in range(4)]
    report, index = changed(path, add=new)
    assert report.tier_2 == 2
    ranking = index.search("word1", 50)
    tiers = dict(zip(ranking.docnos, ranking.tiers.tolist(), strict=True))
    assert [tiers[f"n{i}"] for i in range(4)] == [2, 2, 1, 1]


def test_a_decision_of_its_own_command_prunes_added_passages_alike(tmp_path):
    from thresher.cli.prune import _decide

    (tmp_path / "corpus.jsonl").write_text(
        "".join(f'{{"docno": "{p.docno}", "text": "{p.text}"}}\n' for p in map(passage, range(40)))
    )
    step = PruneStep(estimator="length", keep=0.5, rest="drop")
    _decide(str(tmp_path / "corpus.jsonl"), "", step, 0, tmp_path / "decision", False)
    build_index(tmp_path / "index", tmp_path / "corpus.jsonl", "bm25", decision=tmp_path / "decision")
    direct = built(tmp_path / "direct", keep=0.5, rest="drop")
    for path in (tmp_path / "index", direct):
        report, _ = changed(path, add=[passage(200, 300), Passage("short", "word1 word2")])
        assert report.pruned == {"score": 1}


@pytest.mark.parametrize("rest", ["tier-2", "drop"])
def test_segments_without_a_first_tier_are_searched_and_merged(tmp_path, rest):
    path = built(tmp_path / "index", keep=0.5, rest=rest)
    _, index = changed(path, add=[Passage("short", "word1 word2"), Passage("copy", passage(3).text)])
    assert ("short" in index) == (rest == "tier-2")
    with IndexWriter.open(path) as writer:
        writer.merge(all=True)
    index = Index.open(path)
    assert ("short" in index) == (rest == "tier-2")
    assert "d3" not in index or index.representative("copy") == "d3"
