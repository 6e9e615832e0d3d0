"""A recipe with a [prune] table: a tier for what stays, a second for what its score condemned, none for the rest."""

import copy

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.indexes import segment_of
from thresher.artifact import read_manifest, verify
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.cli.ask import ask
from thresher.cli.search import search
from thresher.errors import ConfigError, InputError
from thresher.pipeline import Pipeline
from thresher.prune import PruneStep, read_decision
from thresher.ranking import Ranking
from thresher.records import Passage
from thresher.search import Index
from thresher.search.tiers import fit_model


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(60)]
    passages = [Passage(f"d{i}", " ".join(rng.choice(words, rng.integers(5, 30)))) for i in range(200)]
    passages += [Passage("copy", passages[3].text.upper()), Passage("junk", "--- §§§ ---")]
    path = tmp_path_factory.mktemp("pruned")
    recipe = Recipe(prune=PruneStep(estimator="length", keep=0.5))
    build_index(path / "pruned", passages, recipe)
    build_index(path / "whole", passages, "bm25")
    return path, passages


def test_tiers_hold_what_the_decision_says_and_are_one_artifact(built):
    path, passages = built
    verify(path / "pruned")
    verify(segment_of(path / "pruned") / "tier-2")
    decision, docnos = read_decision(segment_of(path / "pruned") / "pruning")
    index = Index.open(path / "pruned")
    assert docnos == [p.docno for p in passages]
    assert index.layouts[0].counts.passages == (decision.tiers == 1).sum() == 101
    assert index.layouts[1].counts.passages == (decision.tiers == 2).sum() == 100
    assert len(index) == 201


def test_a_query_that_escalates_is_answered_as_by_one_index(built):
    path, _ = built
    tiers, whole = Index.open(path / "pruned"), Index.open(path / "whole")
    queries = [f"word{i} word{i + 7}" for i in range(40)]
    for query in queries:
        joint = tiers.search(query, 10, tiers="both")
        assert joint.exact
        single = [d for d in whole.search(query, 12).docnos if d not in ("copy", "junk")]
        assert len(set(joint.docnos) & set(single[:10])) >= 9  # quantisation may swap neighbours at the edge
    calibrated = tiers.with_routing(fit_model(tiers, queries, 0.3))
    assert 12 <= sum(calibrated.search(q).escalated for q in queries) < 40


TWINS = [
    Passage("public", "How the threshing floor is swept before the harvest.", metadata={"tenant": "a"}),
    Passage("private", "How the threshing floor is swept before the harvest!", metadata={"tenant": "b"}),
    Passage("again", "how the threshing floor is swept before the harvest", metadata={"tenant": "b"}),
    Passage("other", "Something else about winnowing in the wind.", metadata={"tenant": "b"}),
]


def test_duplicates_are_folded_within_the_field_that_the_recipe_names(tmp_path):
    step = PruneStep(estimator="length", junk=False, fold_field="tenant")
    build_index(tmp_path / "within", TWINS, Recipe(prune=step))
    build_index(tmp_path / "across", TWINS, Recipe(prune=step.model_copy(update={"fold_field": ""})))
    within, across = Index.open(tmp_path / "within"), Index.open(tmp_path / "across")
    assert len(within) == 3
    assert {hit.metadata["tenant"] for hit in within.search("threshing floor")} == {"a", "b"}
    assert len(across) == 2


def test_results_name_the_duplicates_that_were_folded_into_them(tmp_path):
    passages = [*TWINS, Passage("thé", TWINS[0].text), Passage("junk", "--- §§§ ---")]
    step = PruneStep(estimator="length", drop_junk=True)
    build_index(tmp_path / "index", passages, Recipe(prune=step))
    index = Index.open(tmp_path / "index")
    (hit,) = index.search("threshing floor")
    names = {"public", "private", "again", "thé"}
    assert {hit.docno, *hit.aliases} == names
    assert index.aliases([hit.docno, "other"]) == [hit.aliases, ()]
    for docno in names:
        assert index.representative(docno) == hit.docno
        assert (docno in index) == (docno == hit.docno)
    folded = hit.aliases[0]
    with pytest.raises(InputError, match=f"'{folded}' is not in .*; it was folded into its duplicate '{hit.docno}'"):
        index.passage(folded)
    with pytest.raises(InputError, match=r"'junk' is not in the index .*; it was pruned as junk"):
        index.representative("junk")
    with pytest.raises(InputError, match=r"'nowhere' is not in the index .*another index"):
        index.representative("nowhere")
    ranking = index.search("threshing floor", tiers="both")
    assert copy.deepcopy(ranking)[0].aliases == hit.aliases
    assert Ranking.from_hits([hit])[0].aliases == hit.aliases
    (answered,) = Pipeline.open(index, rerank=None, context=None).ask("threshing floor").passages
    assert answered.aliases == hit.aliases
    assert answered.as_json()["aliases"] == list(hit.aliases)
    app = typer.Typer()
    app.command("search")(search)
    app.command("ask")(ask)
    shown = [
        CliRunner().invoke(app, [command, str(tmp_path / "index"), "threshing floor", *options]).output
        for command in ("search", "ask")
        for options in ([], ["--json"])
    ]
    for text in shown:
        assert all(name in text for name in hit.aliases), text
    build_index(tmp_path / "index", passages[:3], "bm25", overwrite=True)
    assert ranking[0].aliases == hit.aliases, "a ranking stays readable where its index was replaced"


def test_aliases_are_those_of_the_decision_in_both_tiers(built, tmp_path):
    _, texts = built
    passages = [Passage(f"{one.docno}-{n}", one.text) for n in range(3) for one in texts[: 150 - n * 50]]
    build_index(tmp_path / "index", passages, Recipe(prune=PruneStep(estimator="length", keep=0.2)))
    index = Index.open(tmp_path / "index")
    decision, docnos = read_decision(segment_of(tmp_path / "index") / "pruning")
    stands_for = {docno: [] for docno in index.docnos_at(np.arange(len(index)))}
    for row, target in enumerate(decision.canonical.tolist()):
        if row != target:
            stands_for[docnos[target]].append(docnos[row])
    assert sum(map(len, stands_for.values())) >= 150
    assert {
        docno: list(found) for docno, found in zip(stands_for, index.aliases(list(stands_for)), strict=True)
    } == stands_for


def test_a_passage_without_the_field_to_fold_within_is_named(tmp_path):
    passages = [*TWINS, Passage("lost", "No tenant here.", metadata={"source": "s"})]
    step = PruneStep(estimator="length", junk=False, fold_field="tenant")
    expected = "passage 'lost' has no metadata field 'tenant', within which duplicates are folded; it has: source"
    with pytest.raises(InputError, match=expected):
        build_index(tmp_path / "index", passages, Recipe(prune=step))
    assert not (tmp_path / "index").exists()
    with pytest.raises(ConfigError, match="fold_field is 'tenant', but fold is off"):
        Recipe(prune=step.model_copy(update={"fold": False})).check()


def test_the_ledger_says_what_was_saved(built):
    path, _ = built
    stages = {stage["stage"]: stage for stage in read_manifest(path / "pruned").fields["usage"]}
    counts = stages["prune"]["counts"]
    assert counts["passages"] == 202
    assert counts["kept"] + counts["tier_2"] + counts["dropped"] == 202
    assert counts["postings_saved"] > 0
    assert counts["tier_2_postings"] > 0
