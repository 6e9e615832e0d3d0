"""BM25 weights by the formula, and a query side that an index can keep."""

import json
import math
import pickle
from collections import Counter

import numpy as np
import pytest

from thresher.encode.bm25 import Bm25Encoder, lucene_length
from thresher.encode.encoder import load_query_encoder
from thresher.errors import ArtifactVersionError, ConfigError, DamagedArtifactError, InputError
from thresher.text.analyzer import analyzer

TEXTS = [
    "The cat sat on the mat with another cat.",
    "Dogs and cats are running in the streets of Paris.",
    "",
    "A streetcar named desire; running, running, running.",
    "of the and",
]


def by_hand(texts, k1, b):
    """The formula, term by term: its part of the passage, and that of the query."""
    rows = [Counter(analyzer("english")(text)) for text in texts]
    n = sum(1 for row in rows if row)
    average = sum(sum(row.values()) for row in rows) / n
    df = Counter(term for row in rows for term in row)
    weights = [
        {term: tf / (tf + k1 * (1 - b + b * sum(row.values()) / average)) for term, tf in row.items()} for row in rows
    ]
    return weights, {term: math.log(1 + (n - df[term] + 0.5) / (df[term] + 0.5)) for term in df}


def as_mappings(batch, vocabulary):
    return [
        {vocabulary[t]: float(w) for t, w in zip(batch.terms[start:stop], batch.weights[start:stop], strict=True)}
        for start, stop in zip(batch.indptr[:-1], batch.indptr[1:], strict=True)
    ]


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0, 0), (2, 1)])
def test_weights_follow_the_formula(k1, b):
    encoder = Bm25Encoder.fit(TEXTS, k1=k1, b=b)
    found = as_mappings(encoder.encode_passages(TEXTS), encoder.vocabulary)
    wanted, idf = by_hand(TEXTS, k1, b)
    assert dict(zip(encoder.vocabulary, encoder.idf, strict=True)) == pytest.approx(idf)
    assert [set(row) for row in found] == [set(row) for row in wanted]
    for row, want in zip(found, wanted, strict=True):
        for term, weight in row.items():
            assert weight == pytest.approx(want[term], rel=1e-6)


def test_rows_are_sorted_and_do_not_depend_on_the_batch():
    encoder = Bm25Encoder.fit(iter(TEXTS))
    whole = encoder.encode_passages(TEXTS)
    for start, stop in zip(whole.indptr[:-1], whole.indptr[1:], strict=True):
        assert (np.diff(whole.terms[start:stop].astype(np.int64)) > 0).all()
    parts = [encoder.encode_passages([text]) for text in TEXTS]
    np.testing.assert_array_equal(np.concatenate([part.terms for part in parts]), whole.terms)
    np.testing.assert_array_equal(np.concatenate([part.weights for part in parts]), whole.weights)
    assert list(encoder.vocabulary) == sorted(encoder.vocabulary)


def test_queries_count_known_terms_and_weigh_them_by_idf():
    encoder = Bm25Encoder.fit(TEXTS)
    rows = as_mappings(encoder.encode_queries(["cats cat zebra", "zebra", ""]), encoder.vocabulary)
    assert rows == [{"cat": pytest.approx(2 * by_hand(TEXTS, 0.9, 0.4)[1]["cat"])}, {}, {}]


def test_a_saved_query_side_counts_terms_of_the_vocabulary_that_it_is_given(tmp_path):
    encoder = Bm25Encoder.fit(TEXTS)
    encoder.save(tmp_path / "encoder")
    loaded = load_query_encoder(tmp_path / "encoder")
    assert (loaded.name, loaded.fingerprint) == (encoder.name, encoder.fingerprint)
    assert loaded.average_length == encoder.average_length
    with pytest.raises(InputError, match=r"no vocabulary of its own.*Index\.encoder"):
        loaded.encode_queries(["cats"])
    words = ["cat", "pari", "run"]
    bound = loaded.with_vocabulary(lambda term: words.index(term) if term in words else -1)
    found = bound.encode_queries(["running, run: cats in Paris", "zebra", "", "a", "~~~ zzzz 0"])
    assert as_mappings(found, words) == [{"cat": 1.0, "pari": 1.0, "run": 2.0}, {}, {}, {}, {}]
    assert found.terms.tolist() == [0, 1, 2]


def test_an_empty_collection_has_no_terms():
    for texts in ([], ["", "the of"]):
        encoder = Bm25Encoder.fit(texts)
        assert len(encoder.encode_passages(["cat"]).terms) == 0
        assert len(encoder.encode_queries(["cat"]).terms) == 0


def test_a_given_average_length_takes_the_place_of_the_collections():
    fitted = Bm25Encoder.fit(TEXTS)
    df = dict.fromkeys(fitted.vocabulary, 1)
    frozen = Bm25Encoder(df, 1, 3, average_length=fitted.average_length)
    assert frozen.fingerprint == fitted.fingerprint
    np.testing.assert_array_equal(frozen.encode_passages(TEXTS).weights, fitted.encode_passages(TEXTS).weights)
    with pytest.raises(ConfigError, match="average_length is 0"):
        Bm25Encoder(df, 1, 3, average_length=0.0)


def test_the_fingerprint_changes_with_everything_that_changes_weights():
    variants = [
        Bm25Encoder.fit(TEXTS),
        Bm25Encoder.fit(TEXTS, k1=1.2),
        Bm25Encoder.fit(TEXTS, b=0.75),
        Bm25Encoder.fit(TEXTS, analyzer="unicode"),
        Bm25Encoder.fit(TEXTS, lengths="exact"),
        Bm25Encoder.fit(TEXTS[:2]),
        Bm25Encoder.fit([*TEXTS, TEXTS[0]]),
    ]
    assert len({encoder.fingerprint for encoder in variants}) == len(variants)
    assert Bm25Encoder.fit([*TEXTS, *TEXTS]).fingerprint == variants[0].fingerprint  # as long on average


def test_shards_are_told_apart_by_their_vocabulary_as_well():
    one, other = Bm25Encoder.fit(["cat dog"]), Bm25Encoder.fit(["cat emu"])
    assert one.fingerprint == other.fingerprint
    assert one.rows_fingerprint != other.rows_fingerprint


def test_lucene_lengths_are_exact_to_39_and_have_four_bits_beyond():
    lengths = np.arange(2000)
    rounded = lucene_length(lengths)
    np.testing.assert_array_equal(rounded[:40], lengths[:40])
    assert rounded[40] == rounded[41] == 40
    assert [int(rounded[n]) for n in (56, 57, 59, 60, 88, 95, 96, 1000)] == [56, 56, 56, 60, 88, 88, 96, 984]
    assert (rounded <= lengths).all()
    assert (np.diff(rounded) >= 0).all()


@pytest.mark.parametrize("bad", [{"k1": -1}, {"k1": math.nan}, {"b": 1.5}, {"lengths": "short"}, {"analyzer": "none"}])
def test_parameters_out_of_range_are_refused(bad):
    with pytest.raises((ConfigError, InputError)):
        Bm25Encoder.fit(TEXTS, **bad)


def test_damage_to_the_query_side_is_an_error(tmp_path):
    def saved(name):
        Bm25Encoder.fit(TEXTS).save(tmp_path / name)
        return tmp_path / name

    for document in ("{", "[]", '{"type": "bm25"}', '{"type": "bm25", "average_length": "x"}'):
        folder = saved("json")
        (folder / "encoder.json").write_text(document)
        with pytest.raises(DamagedArtifactError, match=r"encoder\.json"):
            load_query_encoder(folder)


def test_a_type_or_analyzer_of_another_release_is_refused_by_name(tmp_path):
    Bm25Encoder.fit(TEXTS).save(tmp_path)
    document = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps({**document, "analyzer_fingerprint": "english/0"}))
    with pytest.raises(DamagedArtifactError, match="english/0"):
        load_query_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps({**document, "type": "psychic"}))
    with pytest.raises(ArtifactVersionError, match="psychic"):
        load_query_encoder(tmp_path)


def test_encoders_travel_between_processes():
    encoder = Bm25Encoder.fit(TEXTS)
    copy = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    np.testing.assert_array_equal(copy.encode_passages(TEXTS).weights, encoder.encode_passages(TEXTS).weights)


def test_text_with_half_a_surrogate_pair_is_no_term():
    with pytest.raises((InputError, UnicodeEncodeError)):
        Bm25Encoder.fit(["\ud800"], analyzer="whitespace").fingerprint  # noqa: B018
