"""Recall as a promise: which effort is chosen, what results say, and when searches are exact."""

import copy
import json
import logging
import pickle

import numpy as np
import pytest

from thresher.errors import ArtifactError, DamagedArtifactError, InputError
from thresher.index import IndexBuilder
from thresher.index.commit import writing_index
from thresher.index.transaction import Transaction
from thresher.records import Passage, SparseBatch
from thresher.search import Index
from thresher.search.effort import EXACT, Effort
from thresher.search.recall import Level, RecallCurve
from thresher.search.recall_fit import fit_recall
from thresher.search.recall_report import promises

TERMS, PASSAGES = 60, 600
CUT = Effort(terms=2, candidates=50)
EXACTLY = Level(1.0, 1.0, 2.0, (EXACT, EXACT), (1.0, 1.0))
HALF = Level(0.8, 0.82, 1.0, (EXACT, CUT), (1.0, 0.75))
NEVER = 0.999999
"""So high a promise that no query here is cut."""
CURVE = RecallCurve((4,), {10: (EXACTLY, HALF), 40: (EXACTLY, HALF)}, 100, "log.tsv", PASSAGES)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("recall") / "index"
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, [f"t{i}" for i in range(TERMS)])
        held = rng.random((PASSAGES, TERMS)) < 0.3
        indptr = np.cumsum([0, *held.sum(axis=1)]).astype(np.int64)
        weights = rng.integers(1, 255, int(held.sum())).astype(np.float32)
        batch = SparseBatch(indptr, np.nonzero(held)[1].astype(np.uint32), weights)
        builder.add([Passage(f"d{i:03}", "text") for i in range(PASSAGES)], batch)
        draft.fields.update(builder.finish())
    return path


@pytest.fixture
def index(built, tmp_path):
    import shutil

    shutil.copytree(built, tmp_path / "index")
    return tmp_path / "index"


def keep(path, curve):
    with Transaction(path) as transaction:
        transaction.commit(recall=curve if curve is None or isinstance(curve, dict) else curve.as_json())


def queries(count, seed=0, terms=8):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        ids = np.sort(rng.choice(TERMS, terms, replace=False)).astype(np.int64)
        yield ids, rng.gamma(1, 1, terms).astype(np.float32)


def test_without_a_curve_a_search_is_exact_and_says_so_once(index, caplog):
    opened = Index.open(index)
    query = next(queries(1))
    with caplog.at_level(logging.WARNING):
        found, again = (opened.search(query, 10, recall=0.9) for _ in range(2))
    assert found == again == opened.search(query, 10)
    assert found.exact
    assert found.expected_recall == 1.0
    assert [record.message for record in caplog.records if "calibrate recall" in record.message] == [
        f"{index} has no recall curve, so searches with recall= are exact; run `thresher calibrate recall`"
    ]


def test_recall_is_a_share_and_excludes_an_effort(index):
    opened = Index.open(index)
    query = next(queries(1))
    for odd in (0, 1, 1.5, -0.1, float("nan"), "0.9", True):
        with pytest.raises(InputError, match="recall"):
            opened.search(query, recall=odd)
        with pytest.raises(InputError, match="recall"):
            opened.search_batch([query], recall=odd)
    with pytest.raises(InputError, match="not both"):
        opened.search(query, recall=0.9, effort=Effort(terms=3))
    with pytest.raises(InputError, match="not both"):
        opened.search_batch([query], recall=0.9, effort=Effort(terms=3))


def test_the_effort_is_that_of_the_kind_and_the_result_says_what_to_expect(index):
    keep(index, CURVE)
    opened = Index.open(index)
    for long in queries(5):
        assert CURVE.promise(10, 0.8).effort(long[0]) == (CUT, 0.75)
        found = opened.search(long, 10, recall=0.8)
        assert found == opened.search(long, 10, effort=CUT)
        assert found.expected_recall == (1.0 if found.exact else 0.75)
    short = next(queries(1, terms=3))
    found = opened.search(short, 10, recall=0.8)
    assert found.exact
    assert found.expected_recall == 1.0
    assert opened.search(long, 10, recall=NEVER).exact
    assert opened.search(long, 10, effort=Effort(terms=2)).expected_recall is None


def test_a_batch_is_searched_as_its_queries_are(index):
    keep(index, CURVE)
    opened = Index.open(index)
    asked = [*queries(6), *queries(3, 1, terms=3)]
    run = opened.search_batch(asked, 7, recall=0.8, threads=2)
    assert list(run) == [str(i) for i in range(9)]
    for query, found in zip(asked, run.values(), strict=True):
        one = opened.search(query, 7, recall=0.8)
        assert found == one
        assert found.expected_recall == one.expected_recall


def test_a_promise_between_two_levels_takes_the_cheaper_one_for_its_share_of_the_queries(index):
    keep(index, CURVE)
    opened = Index.open(index)
    promise = CURVE.promise(10, 0.95)
    assert promise.share == pytest.approx(0.25)
    assert promise.ms == pytest.approx(1.75)
    assert promise.mean == pytest.approx(0.955)
    asked = list(queries(400))
    cut = [promise.effort(terms) == (CUT, 0.75) for terms, _ in asked]
    assert 60 <= sum(cut) <= 140
    run = opened.search_batch(asked, 10, recall=0.95)
    for query, ranking, short in zip(asked, run.values(), cut, strict=True):
        assert ranking == opened.search(query, 10, recall=0.95)
        assert ranking == opened.search(query, 10, effort=CUT if short else None)
    lines = [row["effort"] for row in promises(CURVE) if row["recall"] == 0.95]
    assert "exact (75 % of queries)" in lines[0]
    assert "(25 %)" in lines[0]


def test_what_a_result_carries_stays_with_it(index):
    keep(index, CURVE)
    found = next(one for query in queries(9) if not (one := Index.open(index).search(query, 10, recall=0.8)).exact)
    for other in (found.cut(3), found[2:5], copy.copy(found), pickle.loads(pickle.dumps(found))):  # noqa: S301
        assert other.expected_recall == 0.75


def test_more_passages_than_were_measured_are_found_exactly(index):
    keep(index, CURVE)
    opened = Index.open(index)
    query = next(queries(1))
    assert not opened.search(query, 11, recall=0.8).exact  # by the curve for 40
    assert opened.search(query, 41, recall=0.8).exact


def test_a_filter_reaches_deeper_and_takes_the_curve_for_it(index):
    keep(index, CURVE)
    opened = Index.open(index)
    query = next(queries(1))
    third, tenth = ([f"d{i:03}" for i in range(0, PASSAGES, step)] for step in (3, 10))
    assert CURVE.promise(10, 0.8, 1 / 3) is not None
    assert not opened.search(query, 10, recall=0.8, allow=third).exact
    assert CURVE.promise(10, 0.8, 1 / 10) is None
    assert opened.search(query, 10, recall=0.8, allow=tenth) == opened.search(query, 10, allow=tenth)
    assert opened.search(query, 10, recall=0.8, allow=[]).expected_recall == 1.0


def test_a_curve_of_another_collection_than_there_is_now_is_not_used(index, caplog):
    keep(index, CURVE)
    with Transaction(index) as transaction:
        transaction.commit(changes={"added": 30, "deleted": 30})
    assert not Index.open(index).search(next(queries(1)), 10, recall=0.8).exact
    with Transaction(index) as transaction:
        transaction.commit(changes={"added": 31, "deleted": 30})
    with caplog.at_level(logging.WARNING):
        assert Index.open(index).search(next(queries(1)), 10, recall=0.8).exact
    assert "61 passages were changed since its recall was calibrated on 600" in caplog.text


DAMAGE = {
    "a list": [],
    "no format": {},
    "a later format": {"format": 2},
    "no levels": {"levels": {}},
    "a level that is not exact": {"levels": {"10": [[0.5, 0.5, 1.0, [0, 0], [1, 1]]]}},
    "an unknown effort": {"efforts": ["", "speed=2"]},
    "an effort out of range": {"efforts": ["", "blocks=2"]},
    "an effort that is none": {"efforts": ["", 3]},
    "a place that is none": {"levels": {"10": [[1.0, 1.0, 1.0, [7, 0], [1, 1]]]}},
    "too few kinds": {"levels": {"10": [[1.0, 1.0, 1.0, [0], [1]]]}},
    "kinds in no order": {"longest": [4, 4]},
    "a k that is none": {"levels": {"x": []}},
    "levels without rows": {"levels": {"10": 3}},
    "a count that is none": {"passages": -1},
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_curve_is_an_error_that_names_the_file(index, what):
    damage = DAMAGE[what]
    document = {**CURVE.as_json(), **damage} if damage else damage
    with Transaction(index) as transaction:
        transaction.commit(recall=document)
    opened = Index.open(index)  # it is read when it is needed
    with pytest.raises(DamagedArtifactError, match=r"manifest\.json.*recall"):
        opened.search(next(queries(1)), 10, recall=0.9)


def test_a_curve_is_measured_and_read_again(index):
    opened = Index.open(index)
    curve = opened.calibrate_recall(queries(90, 5), ks=(5, 5000), source="made up")
    assert list(curve.levels) == [5]
    assert curve.queries == 90
    assert curve == RecallCurve.from_json(json.loads(json.dumps(curve.as_json())))
    opened.refresh()
    assert opened._now.promises.curve == curve
    for levels in curve.levels.values():
        assert levels[0].exact
        costs = [level.ms for level in levels]
        assert costs == sorted(costs, reverse=True)
    for row in promises(curve):
        assert row["expected"] >= row["recall"]
    with pytest.raises(InputError, match="in an Index of all its passages; got 'index'"):
        fit_recall("index", queries(9))
    with pytest.raises(InputError, match="2 of 2 queries find anything"):
        fit_recall(opened, queries(2))


def test_where_words_are_sampled_the_index_needs_an_encoder(index):
    with pytest.raises(ArtifactError, match="query encoder"):
        Index.open(index).calibrate_recall()
