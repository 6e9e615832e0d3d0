"""Collections that need not fit in memory, the files that peers are built from, and the experiment at a tiny size."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eval.search import building, columns, formats, large, measuring, rows, scale, synthetic
from eval.search.matrices import Matrix, Rows, gathered
from eval.search.scaled import Scaled

N, TERMS = 400, 60


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in rows.ARRAYS)


def joined(parts):
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    terms, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("terms", "weights"))
    return Rows(np.concatenate(([0], np.cumsum(lengths))), terms, weights)


@pytest.fixture(scope="module")
def whole():
    return synthetic.documents(N)


@pytest.fixture(scope="module")
def small(whole):
    """The rows without the terms from TERMS on, which leaves some nearly empty."""
    kept = whole.terms < TERMS
    owner = np.repeat(np.arange(N), np.diff(whole.indptr))[kept]
    indptr = np.searchsorted(owner, np.arange(N + 1)).astype(np.int64)
    return Rows(indptr, whole.terms[kept].astype(np.uint16), whole.weights[kept])


@pytest.fixture(scope="module")
def order():
    return np.random.default_rng(1).permutation(N)


@pytest.mark.parametrize("step", [1, 7, 150, N, 1000])
def test_the_generator_streams_the_same_rows_however_many_come_at_a_time(whole, step):
    streamed = joined(list(synthetic.stream(N, step=step)))
    assert same(gathered(streamed, synthetic.shuffled(N)), whole)


def test_a_larger_collection_begins_with_the_topics_of_a_smaller_one():
    fewer, more = (joined(list(synthetic.stream(n))) for n in (50, 90))
    assert np.array_equal(fewer.terms, more.terms[: len(fewer.terms)])


@pytest.mark.parametrize(("step", "bucket"), [(64, 50), (N, 17), (33, 1000)])
def test_rows_are_shuffled_on_disk_as_in_memory(whole, tmp_path, step, bucket):
    rows.write_shuffled(tmp_path, synthetic.stream(N, step=step), synthetic.shuffled(N), bucket)
    assert same(rows.open_rows(tmp_path), whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["indptr.npy", "terms.npy", "weights.npy"]


def test_lists_hold_the_impacts_of_each_term_in_the_order_given(small, order, tmp_path):
    columns.write_columns(tmp_path, small, TERMS, order)
    lists = columns.open_columns(tmp_path)
    found = np.zeros((N, TERMS), np.uint8)
    for term in range(TERMS):
        part = slice(lists.indptr[term], lists.indptr[term + 1])
        assert (np.diff(lists.docs[part].astype(np.int64)) > 0).all()
        found[order[lists.docs[part]], term] = lists.impacts[part]
    wanted = np.zeros_like(found)
    wanted[np.repeat(np.arange(N), np.diff(small.indptr)), small.terms] = small.weights
    assert np.array_equal(found, wanted)


def test_scores_of_the_passages_found_are_those_of_the_lists(small, tmp_path):
    lists = columns.write_columns(tmp_path, small, TERMS)
    query = Rows(np.array([0, 3]), np.array([2, 5, 40], np.uint32), np.array([32, 7, 1], np.float32))
    best = columns.best_of(lists, query, N)[0]
    dense = np.zeros(TERMS)
    dense[query.terms] = query.weights
    scores = columns.scores_of(small.indptr, small.terms, small.weights, dense, np.arange(N))
    assert np.array_equal(best[:N], np.sort(scores)[::-1])
    asked = measuring.Asked(query, best[None], small, TERMS)
    top = np.argsort(-scores, kind="stable")[:10]
    assert asked.judge(0, top, 10) == (1.0, True, False)
    assert asked.judge(0, np.append(top[:9], np.argmin(scores)), 10)[:2] == (0.9, False)


def test_the_files_for_pisa_hold_every_posting(small, order, tmp_path):
    lists = columns.write_columns(tmp_path / "lists", small, TERMS, order)
    formats.write_pisa(tmp_path, lists, formats.sums(small.indptr, small.weights)[order], order)
    terms = (tmp_path / "fwd.terms").read_text().split()
    docnos = (tmp_path / "fwd.documents").read_text().split()
    assert terms == sorted(terms)
    docs, freqs, sizes = (np.fromfile(tmp_path / f"inv.{name}", np.uint32) for name in ("docs", "freqs", "sizes"))
    assert docs[:2].tolist() == [1, N]
    assert sizes[0] == N
    found, totals, at = {}, np.zeros(N, np.int64), 2
    for term in terms:
        size = docs[at]
        assert freqs[at - 2] == size
        for doc, impact in zip(docs[at + 1 : at + 1 + size], freqs[at - 1 : at - 1 + size], strict=True):
            found[int(docnos[doc]), int(term[1:])] = int(impact)
            totals[doc] += impact
        at += 1 + size
    assert at == len(docs)
    assert np.array_equal(totals, sizes[1:])
    owners = np.repeat(np.arange(N), np.diff(small.indptr))
    assert found == dict(zip(zip(owners.tolist(), small.terms.tolist(), strict=True), small.weights, strict=True))


def test_the_file_for_seismic_holds_every_row(small, tmp_path):
    formats.write_seismic(tmp_path / "rows", small)
    data = np.fromfile(tmp_path / "rows", np.uint32)
    assert data[0] == N
    at = 1
    for i in range(N):
        terms, weights = small.row(i)
        size = data[at]
        assert data[at + 1 : at + 1 + size].tolist() == terms.tolist()
        assert data[at + 1 + size : at + 1 + 2 * size].view(np.float32).tolist() == weights.tolist()
        at += 1 + 2 * size
    assert at == len(data)


@pytest.mark.parametrize("size", [16, 64])
def test_the_file_for_bmp_is_the_one_that_it_writes_itself(small, order, tmp_path, size):
    bmp = pytest.importorskip("bmp", reason="bmp is not installed")
    formats.write_bmp(tmp_path / "ours", small, TERMS, order, size)
    index = bmp.InvertedIndexer(str(tmp_path / "theirs"), size, False)
    for row in order.tolist():
        index.add_document(str(row), [(int(t), int(w)) for t, w in zip(*small.row(row), strict=True)])
    lists = columns.write_columns(tmp_path / "lists", small, TERMS, order)
    for term in range(TERMS):
        part = slice(lists.indptr[term], lists.indptr[term + 1])
        index.add_term(f"t{term}", list(zip(lists.docs[part].tolist(), lists.impacts[part].tolist(), strict=True)))
    index.finish()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("made", [large.WrittenBmp, large.Pisa])
def test_peers_built_from_arrays_find_the_best_passages(small, order, tmp_path, made):
    pytest.importorskip(made.package.replace("-", "_"), reason=f"{made.package} is not installed")
    engine = made(tmp_path / "index", "b = 16")
    engine.build(Matrix("small", TERMS, small, {}, order=order))
    engine.load()
    engine.open()
    query = Rows(np.array([0, 3]), np.array([2, 5, 20], np.uint32), np.array([32, 7, 1], np.float32))
    asked = measuring.Asked(
        query, columns.best_of(columns.write_columns(tmp_path / "l", small, TERMS), query, N), small, TERMS
    )
    options = next(iter(engine.settings(10).values()))
    found = engine.ids(engine.run(engine.prepare(query, 0, 10), 10, **options))
    assert asked.judge(0, found, 10)[0] == 1.0


def test_the_experiment_runs_from_the_passages_to_the_table(tmp_path, monkeypatch):
    entrants = (
        *(entrant for entrant in large.ENTRANTS if issubclass(entrant.made, large.Thresher)),
        large.Entrant(large.Splade, "default", "bp", builder="inversion of arrays"),
        large.Entrant(large.Impact, "default", "source", (0, 10), "too large a collection for it"),
    )
    for module in ("eval.search.scale", "eval.search.scaled"):
        monkeypatch.setattr(f"{module}.ENTRANTS", entrants)
    monkeypatch.setattr(
        scale, "build_apart", lambda made, entrant, _, what="build": getattr(building, what)(made, entrant)
    )
    monkeypatch.setattr("eval.search.scaled.QUERIES", 20)
    monkeypatch.setattr("eval.search.scaled.CALIBRATED", 60)

    def measured_here(arguments):
        if "splade" in arguments[2]:
            return 1  # its package may be missing
        measuring.main(arguments)
        return 0

    monkeypatch.setattr(scale, "measure_apart", measured_here)
    given = ["--work", str(tmp_path / "work"), "--out", str(tmp_path), "--allow-dirty", "--sizes", "300,400,600"]
    scale.main(given)
    found = json.loads((tmp_path / "search-scale.json").read_text())["rows"]
    own = [row for row in found if row["engine"] == "thresher" and "recall" in row]
    assert {(row["passages"], row["order"], row["k"], row["setting"]) for row in own} == {
        (n, order, k, setting)
        for n in (300, 400, 600)
        for order in ("source", "bp")
        for k in measuring.KS
        for setting in ("default", "term-at-a-time", "block-max", "recall 0.99", "recall 0.95")
    }
    exact = [row for row in own if "recall" not in row["setting"]]
    assert all(row["recall"] == row["exact_share"] == 1 and row["build_s"] > 0 for row in exact)
    assert all(row["recall"] > 0.8 and row["calibration_s"] > 0 for row in own)
    assert {row["threads"] for row in found if row["setting"] == "batch"} == {1, 2}
    assert {row["engine"]: row["not_measured"] for row in found if "not_measured" in row} == {
        "splade-index kernel": "searching ended with exit code 1",
        "impact-index": "too large a collection for it",
    }
    assert sum("exponent" in row for row in found) == 20
    assert (tmp_path / "search-scale.md").is_file()
    assert (tmp_path / "search-scale.svg").is_file()
    collection = Scaled(tmp_path / "work", "300")
    assert len(collection.queries.queries["calibration"]) > 0
