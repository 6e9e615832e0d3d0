"""`Index`: queries of every form, lookups by docno, exactness, and that no passage of any tier is left out."""

import numpy as np
import pytest

import thresher
from tests.indexes import as_tiers, segment_of
from thresher.build.recipe import Recipe, VectorsStep, load_recipe, shipped
from thresher.build.stream import build_index
from thresher.errors import (
    ArtifactError,
    ConfigError,
    DamagedArtifactError,
    DataNotFoundError,
    InputError,
    MissingExtraError,
)
from thresher.index import IndexBuilder
from thresher.index.commit import read_commit, writing_index
from thresher.index.transaction import Transaction
from thresher.prune import PruneStep
from thresher.ranking import Ranking, Run
from thresher.records import Passage, Query, SparseBatch
from thresher.rerank.candidates import with_texts
from thresher.search import Effort, Index, calibrate_tiers

WORDS = [f"word{i}" for i in range(40)]


def corpus(n, seed=0):
    rng = np.random.default_rng(seed)
    return [Passage(f"d{i}", " ".join(rng.choice(WORDS, rng.integers(3, 20))), f"title {i}") for i in range(n)]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "pruned"
    build_index(path, corpus(80), Recipe(prune=PruneStep(estimator="length", keep=0.5, fold=False)))
    return path


def brute_force(index, query):
    """docno to score of every passage with a positive score, from the impacts stored in each tier."""
    found = {}
    now = index._now
    for part in now.parts:
        layout, space = part.layout, (now.first if part.tier == 1 else now.second).space
        ids, given = space.row(query)
        weights, ids = space.weigh(ids, given), space.vocabulary.local(space.parts.index(part), ids)
        sums = np.zeros(layout.counts.passages)
        for term, weight in sorted(zip(ids.tolist(), weights.tolist(), strict=True)):
            if 0 <= term < layout.counts.terms:
                sums += weight * impacts_of(layout, term)
        for number, score in zip(layout.numbers_of(np.arange(len(sums))).tolist(), sums.tolist(), strict=True):
            if score > 0:
                found[layout.docnos[number]] = score * layout.counts.scale
    return found


def impacts_of(layout, term):
    """A posting list as one impact a document; collections here are within one chunk, so lists have no skip entries."""
    row, n = int(layout.rows[term]), layout.counts
    if 0 <= row < n.dense:
        return layout.dense[row].astype(float)
    impacts = np.zeros(n.passages)
    own = slice(int(layout.starts[term]), int(layout.starts[term + 1]))
    impacts[layout.ids[own]] = layout.impacts[own]
    return impacts


@pytest.mark.parametrize("name", sorted(shipped("indexes")))
@pytest.mark.parametrize("form", ["plain", "tiered"])
def test_a_search_for_all_passages_returns_every_one_with_a_positive_score(tmp_path, name, form):
    recipe = load_recipe(name).model_copy(update={"vectors": None})
    step = PruneStep(estimator="length", keep=0.6, fold=False) if form == "tiered" else None
    recipe = recipe.model_copy(update={"prune": step})
    passages = corpus(60, 1)
    try:
        build_index(tmp_path / "x", passages, recipe)
    except (MissingExtraError, DataNotFoundError) as err:
        pytest.skip(str(err))
    with Index.open(tmp_path / "x") as index:
        assert len(index) == len(passages)
        for text in ("word1 word2", "word7", "word3 word30 word12 word5", "nothing known"):
            expected = brute_force(index, text)
            found = index.search(text, k=len(index))
            assert sorted(found.docnos) == sorted(expected)
            if found.exact:
                assert dict(found.pairs()) == expected
                assert found.docnos == sorted(expected, key=lambda d: (-expected[d], d.encode()))
            few = index.search(text, k=5)
            assert len(few) == min(5, len(expected))


def test_an_index_built_with_pruning_is_never_searched_in_part(pruned):
    index = thresher.Index.open(pruned)
    assert [layout.counts.passages for layout in index.layouts] == [40, 40]
    assert len(index) == 80
    expected = brute_force(index, "word1")
    found = index.search("word1", k=80)
    assert found.exact
    assert dict(found.pairs()) == expected
    assert {1, 2} == set(found.tiers.tolist())
    first = index.search("word1", k=80, tiers="first")
    assert not first.exact
    assert len(first) < len(found)


def test_a_first_tier_is_exact_only_where_the_second_provably_changes_nothing(tmp_path):
    long, short = "grain grain grain wheat barley oats rye corn rice millet", "wheat straw"
    build_index(
        tmp_path / "x",
        [Passage("a", long), Passage("b", long + " sorghum"), Passage("c", short), Passage("d", "straw")],
        Recipe(prune=PruneStep(estimator="length", keep=0.5, fold=False, junk=False)),
    )
    index = Index.open(tmp_path / "x")
    assert [index.docnos_at(np.arange(4)).index(d) < 2 for d in "abcd"] == [True, True, False, False]
    assert index.search("grain", 10, tiers="first").exact  # the second tier does not hold the term
    assert not index.search("wheat", 10, tiers="first").exact
    assert not index.search("straw", 10, tiers="first").exact
    assert index.search("straw", 0, tiers="first").exact
    weights = {"grain": 5.0, "wheat": 0.01}
    assert index.search(weights, 2, tiers="first").exact  # its upper bound is below the second score
    assert not index.search(weights, 3, tiers="first").exact
    assert index.search(weights, 2, tiers="first") == index.search(weights, 2)
    assert index.search_batch([weights], 2, tiers="first")["0"].exact


def test_what_a_search_returns_any_stage_can_read_the_text_of(pruned):
    index = Index.open(pruned)
    found = index.search("word1 word2", k=80)
    texts = {p.docno: p for p in corpus(80)}
    assert {1, 2} == set(found.tiers.tolist())
    assert index.passages(found.docnos) == [texts[docno] for docno in found.docnos] == found.passages()
    written = Run({"q": Ranking(found.docnos, found.scores)})
    assert with_texts(written, index, None)["q"].passages() == found.passages()


def test_search_without_calibration_answers_from_both_tiers(pruned):
    index = Index.open(pruned)
    assert not index.calibrated
    assert index.search("word1").escalated


def test_every_form_of_a_query_is_accepted_everywhere(pruned):
    index = Index.open(pruned)
    text = "word1 word9"
    weights = {"word1": 1.0, "word9": 0.5}
    assert index.search(Query("q7", text)) == index.search(text)
    terms = index.terms(weights)
    assert index.search(terms) == index.search(weights)
    batch = index.search_batch([Query("q7", text), text, weights, terms], 10)
    assert list(batch) == ["q7", "1", "2", "3"]
    assert batch["q7"] == batch["1"] == index.search(text)
    assert batch["2"] == batch["3"] == index.search(weights)
    ids, values = terms
    order = np.argsort(ids)
    rows = SparseBatch(np.array([0, 2]), ids[order].astype(np.uint32), values[order])
    assert index.search_batch(rows)["0"] == index.search(weights)
    with pytest.raises(InputError, match="qid 'q7'"):
        index.search_batch([Query("q7", "a"), Query("q7", "b")])
    with pytest.raises(InputError, match="a Query, a mapping"):
        index.search(7)


def test_a_batch_equals_its_queries_one_by_one_in_every_mode(pruned, tmp_path):
    queries = [Query(f"q{i}", f"{a} {b}") for i, (a, b) in enumerate(zip(WORDS, WORDS[7:], strict=False))]
    index = Index.open(pruned)
    calibrated = index.with_routing(thresher.search.tiers.fit_model(index, queries, 0.5))
    for one in (index, calibrated):
        for tiers in ("auto", "both", "first"):
            for k in (3, 30):
                run = one.search_batch(queries, k, tiers=tiers, threads=2)
                for query in queries:
                    alone = one.search(query, k, tiers=tiers)
                    assert run[query.qid] == alone
                    assert run[query.qid].exact == alone.exact
                    assert run[query.qid].tiers.tolist() == alone.tiers.tolist()
    assert len({calibrated.search(q, 3).escalated for q in queries}) == 2


def test_passages_are_found_by_docno_over_all_tiers(pruned):
    index = Index.open(pruned)
    for passage in corpus(80):
        assert passage.docno in index
        assert index.passage(passage.docno) == passage
    assert "nowhere" not in index
    assert "" not in index
    assert 7 not in index
    with pytest.raises(InputError, match="'nowhere'"):
        index.passages(["d1", "nowhere"])
    assert index.passages([]) == []
    numbers = np.arange(80)
    assert sorted(index.docnos_at(numbers)) == sorted(p.docno for p in corpus(80))
    assert [p.docno for p in index.passages_at(numbers)] == index.docnos_at(numbers)
    for wrong in (-1, 80):
        with pytest.raises(InputError, match="from 0 to 79"):
            index.docnos_at(np.array([wrong]))


def test_passages_are_found_in_a_reordered_index(tmp_path):
    passages = corpus(500, 3)
    recipe = Recipe()
    recipe = recipe.model_copy(update={"index": recipe.index.model_copy(update={"order": "similarity"})})
    build_index(tmp_path / "x", passages, recipe)
    index = Index.open(tmp_path / "x")
    assert index.layouts[0].sources is not None
    assert [index.passage(p.docno) for p in passages] == passages
    assert index.docnos_at(np.arange(500)) == [p.docno for p in passages]


def test_ranks_that_are_no_permutation_are_damage(tmp_path):
    build_index(tmp_path / "x", corpus(10), "bm25")
    for value in (0, 10):
        file = segment_of(tmp_path / "x") / "ranks"
        ranks = np.fromfile(file, np.uint32)
        ranks[3] = value if ranks[3] != value else 1
        ranks.tofile(file)
        with pytest.raises(DamagedArtifactError, match="ranks"):
            Index.open(tmp_path / "x").passage("d1")


def test_a_closed_index_refuses_and_its_rankings_stay_readable(pruned):
    with Index.open(pruned) as index:
        found = index.search("word1")
    assert found.passages()
    with pytest.raises(InputError, match="closed"):
        index.search("word1")
    index.close()


def test_an_index_says_what_it_is(pruned):
    index = Index.open(pruned)
    assert repr(index) == f"<Index '{pruned}': 80 passages, 40 of them in the first tier>"
    assert index.recipe.prune.keep == 0.5
    assert index.encoder.name.startswith("bm25")
    assert index.vectors is None
    assert index.tiered


def test_calibration_is_written_into_the_index_and_read_again(tmp_path):
    path = tmp_path / "x"
    build_index(path, corpus(80), Recipe(prune=PruneStep(estimator="length", keep=0.5, fold=False)))
    queries = [Query(str(i), word) for i, word in enumerate(WORDS)]
    margin = calibrate_tiers(Index.open(path), queries, 0.25, k=3)
    index = Index.open(path)
    assert index.calibrated
    assert index._now.pair.model.threshold == margin.threshold
    assert 0 < sum(index.search(q, 3).escalated for q in queries) < len(queries)
    assert len(read_commit(path).segments) == 1
    with Transaction(path) as transaction:
        transaction.commit(routing={})
    with pytest.raises(DamagedArtifactError, match="calibrate tiers"):
        Index.open(path)


def test_a_recipe_that_asks_a_build_to_calibrate_is_told_which_command_does(tmp_path):
    (tmp_path / "x.toml").write_text('[prune]\nqueries = "log.tsv"\nfall_through = 0.3\n')
    with pytest.raises(ConfigError, match="thresher calibrate tiers"):
        load_recipe(tmp_path / "x.toml")


def test_rankings_of_an_index_behave_as_rankings(pruned):
    index = Index.open(pruned)
    found = index.search("word1 word2", 20)
    assert found.cut(5).docnos == found.docnos[:5]
    assert found[:5] == found.cut(5)
    assert found[3].docno == found.docnos[3]
    assert found[-1].rank == len(found)
    assert found.source == "search"
    assert found.take([2, 0], [9.0, 8.0]).pairs() == [(found.docnos[2], 9.0), (found.docnos[0], 8.0)]
    assert index.docnos_at(found.numbers) == found.docnos
    assert found.fuse(found).docnos == found.docnos
    assert found.to_run("q")["q"] is found


class WordCounts:
    """A dense encoder: a vector counts words."""

    fingerprint = "word-counts"

    def encode_passages(self, texts):
        rows = np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    encode_queries = encode_passages


@pytest.mark.parametrize("second_tier", [True, False])
def test_dense_retrieval_compares_the_vectors_of_every_tier_that_has_them(tmp_path, second_tier):
    recipe = Recipe(
        prune=PruneStep(estimator="length", keep=0.5, fold=False),
        vectors=VectorsStep(storage="float16", sketch=0, second_tier=second_tier),
    )
    build_index(tmp_path / "x", corpus(80), recipe, dense=WordCounts())
    index = Index.open(tmp_path / "x")
    vector = WordCounts().encode_queries(["word1 word2"])[0]
    n = 80 if second_tier else 40
    found = index.search("word1 word2", 80, by="dense", vector=vector)
    assert len(found) == n
    assert found.exact == second_tier
    assert found.scores.tolist() == sorted(index.vectors.scores(vector, np.arange(n)).tolist(), reverse=True)
    assert (found.tiers == np.where(found.numbers < 40, 1, 2)).all()
    assert found.source == "dense"
    index.dense_encoder = WordCounts()
    for query in ("word1 word2", Query("q", "word1 word2")):
        assert index.search(query, 80, by="dense") == found
    sparse = index.search("word1 word2", 20)
    both = index.search("word1 word2", 20, by="both")
    assert both == sparse.fuse(index.search("word1 word2", 20, by="dense"), depth=20)
    assert both.tiers.tolist() == [1 if number < 40 else 2 for number in both.numbers.tolist()]
    assert len(index.search("word1", 0, by="dense")) == 0
    with pytest.raises(InputError, match="'sideways'"):
        index.search("word1", by="sideways")
    with pytest.raises(InputError, match="weighted terms"):
        index.search({"word1": 1.0}, by="dense")


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_neighbours_stand_where_their_sparse_scores_put_them(tmp_path, keep):
    prune = None if keep == 1 else PruneStep(estimator="length", keep=keep, fold=False)
    recipe = Recipe(prune=prune, vectors=VectorsStep(sketch=0, second_tier=True))
    build_index(tmp_path / "x", corpus(80), recipe, dense=WordCounts())
    index = Index.open(tmp_path / "x")
    for query, k, count, where in (
        ("word1 word2", 10, 30, None),
        ("word3", 4, 60, range(0, 80, 2)),
        ("none", 5, 7, None),
    ):
        allow = None if where is None else [f"d{i}" for i in where]
        vector = WordCounts().encode_queries([query])[0]
        ranking = index.search(query, k, allow=allow)
        near = index.search(query, count, by="dense", vector=vector, allow=allow)
        found = index.with_neighbours(ranking, query, vector, count, allow=allow)
        scores = brute_force(index, query)
        expected = {docno: scores.get(docno, 0.0) for docno in {*ranking.docnos, *near.docnos}}
        assert found.docnos == sorted(expected, key=lambda docno: (-expected[docno], docno.encode()))
        assert found.scores.tolist() == [expected[docno] for docno in found.docnos]
        assert found.docnos[: len(ranking)] == ranking.docnos
        assert found.exact
    if keep < 1:
        first = index.search("word1", 3, tiers="first")
        assert set(index.with_neighbours(first, "word1", vector, 80, tiers="first").tiers.tolist()) == {1}
    other = Ranking(["d1"])
    assert index.with_neighbours(other, "word1", vector, 5) is other
    with pytest.raises(InputError, match="count"):
        index.with_neighbours(ranking, "word1", vector, 0)


def test_arguments_out_of_range_are_refused_by_every_search(pruned):
    index = Index.open(pruned)
    wrong = [{"k": -1}, {"k": 1.5}, {"effort": 0.9}, {"effort": "terms=1"}, {"plan": "best"}]
    for options in wrong:
        with pytest.raises(InputError):
            index.search("word1", **options)
        with pytest.raises(InputError):
            index.search_batch(["word1"], **options)
    with pytest.raises(InputError, match="threads"):
        index.search_batch(["word1"], threads=0)
    assert index.search("word1", 3, effort=Effort(terms=1)) == index.search("word1", 3)
    assert not index.search("word1 word2", 3, effort=Effort(terms=1)).exact


def test_a_query_may_be_given_in_any_numeric_arrays(pruned):
    index = Index.open(pruned)
    ids, weights = index.terms({"word1": 1.0, "word2": 0.5})
    expected = index.search((ids, weights))
    for kind in (np.int32, np.uint32, np.uint16, list):
        given = ids.tolist() if kind is list else ids.astype(kind)
        assert index.search((given, weights)) == expected
        assert index.search((given, weights.astype(np.float64))) == expected
    assert index.search(([], [])) == index.search({})
    for wrong in ((ids, weights[:1]), (ids.astype(float), weights), (ids[None], weights[None]), (ids,)):
        with pytest.raises(InputError):
            index.search(wrong)


def without_encoder(path, vocabulary):
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, vocabulary)
        builder.add([Passage("a", "")], SparseBatch(np.array([0, 1]), np.zeros(1, np.uint32), np.ones(1, np.float32)))
        draft.fields.update(builder.finish())
    return Index.open(path)


def test_an_index_without_an_encoder_says_how_to_search_it(tmp_path):
    index = without_encoder(tmp_path / "x", ["grain"])
    assert index.search({"grain": 1.0}).docnos == ["a"]
    with pytest.raises(ArtifactError, match="no query encoder; search with weighted terms"):
        index.search("grain")


def test_a_damaged_order_of_terms_is_named_when_ids_are_translated(tmp_path):
    without_encoder(tmp_path / "one", ["b", "a"])
    build_index(tmp_path / "two", [Passage("c", "b")], "bm25")
    pair = as_tiers(Index.open(tmp_path / "one"), Index.open(tmp_path / "two"))
    assert pair.search(([0], [1.0])).docnos == ["a", "c"]
    np.array([1, 2], np.uint32).tofile(segment_of(tmp_path / "one") / "sorted_terms")
    pair = as_tiers(Index.open(tmp_path / "one"), Index.open(tmp_path / "two"))
    with pytest.raises(DamagedArtifactError, match="sorted_terms"):
        pair.search(([0], [1.0]))
