"""The score store: aligned to its corpus, refused for another, extended, and exchanged as a published cache."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.artifact import verify
from thresher.corpus import fingerprint_of
from thresher.errors import ArtifactError, DamagedArtifactError, InputError
from thresher.quality.lexical import LexicalEstimator
from thresher.quality.qt5cache import export_cache, import_cache, read_cache
from thresher.quality.store import ScoreStore, extend_scores, score_corpus, write_scores
from thresher.records import Passage

PASSAGES = [Passage(f"d{i}", text) for i, text in enumerate(["grain and chaff", "chaff", "a grain of wheat", "wind"])]
TEXTS = [p.contents for p in PASSAGES]


@dataclass
class Held:
    """A corpus in memory."""

    passages: list[Passage]
    name: str = "held"
    skipped: dict[str, int] = field(default_factory=dict)

    def __iter__(self):
        return iter(self.passages)

    def fingerprint(self):
        return fingerprint_of(self.passages)


def build(path, passages=PASSAGES, estimator=None):
    estimator = estimator or LexicalEstimator.fit("kl", TEXTS)
    scored = score_corpus(passages, estimator)
    return write_scores(
        path, scored.docnos, scored.scores, estimator=estimator, corpus_fingerprint=fingerprint_of(passages)
    )


def test_scores_are_read_by_docno_by_position_and_as_a_stream(tmp_path):
    store = build(tmp_path / "s")
    expected = LexicalEstimator.fit("kl", TEXTS).score(TEXTS)
    np.testing.assert_array_equal(store.scores, expected)
    assert isinstance(store.scores, np.memmap)
    assert store.score_of("d2") == expected[2]
    np.testing.assert_array_equal(store.scores_of(["d3", "d0", "d3"]), expected[[3, 0, 3]])
    assert [score for _, score in store.stream(PASSAGES)] == expected.tolist()
    assert (tmp_path / "s" / "scores.f4").read_bytes() == expected.astype("<f4").tobytes()
    verify(tmp_path / "s")


def test_an_unknown_docno_is_an_error_and_never_another_score(tmp_path):
    with pytest.raises(InputError, match=r"'d9' has no score"):
        build(tmp_path / "s").score_of("d9")


@pytest.mark.parametrize("wrong", [PASSAGES[:3], PASSAGES[::-1], [*PASSAGES, Passage("d4", "x")], []])
def test_a_stream_of_other_passages_is_refused(tmp_path, wrong):
    store = build(tmp_path / "s")
    with pytest.raises(InputError, match=r"where .* has|corpus ends"):
        list(store.stream(wrong))


def test_scores_of_another_corpus_or_estimator_are_refused(tmp_path):
    build(tmp_path / "s")
    other = fingerprint_of([*PASSAGES[:3], Passage("d3", "winds")])
    with pytest.raises(ArtifactError, match="passages have changed"):
        ScoreStore.open(tmp_path / "s", corpus=other)
    with pytest.raises(ArtifactError, match="holds scores of kl"):
        ScoreStore.open(tmp_path / "s", estimator=LexicalEstimator("length"))
    with pytest.raises(ArtifactError, match="holds scores of kl"):
        ScoreStore.open(tmp_path / "s", estimator=LexicalEstimator.fit("kl", ["other text"]))
    ScoreStore.open(tmp_path / "s", corpus=fingerprint_of(PASSAGES), estimator=LexicalEstimator.fit("kl", TEXTS))


def test_new_passages_are_scored_by_the_estimator_the_store_keeps(tmp_path):
    build(tmp_path / "s")
    added = [Passage("d4", "grain"), Passage("d5", "unheard of")]
    store = extend_scores(tmp_path / "s", Held([*PASSAGES, *added]))
    assert store.docnos == [f"d{i}" for i in range(6)]
    expected = LexicalEstimator.fit("kl", TEXTS).score([p.contents for p in [*PASSAGES, *added]])
    np.testing.assert_array_equal(store.scores, expected)
    assert store.corpus_fingerprint == fingerprint_of([*PASSAGES, *added])


def test_a_corpus_whose_known_passages_changed_is_not_extended(tmp_path):
    build(tmp_path / "s")
    with pytest.raises(ArtifactError, match="first 4 passages"):
        extend_scores(tmp_path / "s", Held([Passage("d0", "changed"), *PASSAGES[1:], Passage("d4", "x")]))
    assert len(ScoreStore.open(tmp_path / "s")) == 4


def test_bad_scores_are_not_written(tmp_path):
    length = LexicalEstimator("length")
    for docnos, scores, message in [
        (["a", "b"], [1.0], "cannot go with"),
        (["a", "b"], [1.0, np.nan], "score of 'b' is nan"),
        (["a", "a"], [1.0, 2.0], "'a' occurs twice"),
    ]:
        with pytest.raises(InputError, match=message):
            write_scores(tmp_path / "s", docnos, np.array(scores, np.float32), estimator=length, corpus_fingerprint="f")
        assert not (tmp_path / "s").exists()


def test_an_empty_corpus_has_an_empty_store(tmp_path):
    store = build(tmp_path / "s", [])
    assert len(store) == 0
    assert store.quantiles().shape == (0,)


def test_a_truncated_store_is_refused(tmp_path):
    build(tmp_path / "s")
    file = tmp_path / "s" / "scores.f4"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(DamagedArtifactError, match=r"scores\.f4"):
        ScoreStore.open(tmp_path / "s")


@settings(max_examples=15)  # each example writes a dozen files
@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=30))
def test_a_cache_written_and_read_back_is_the_same(tmp_path_factory, values):
    tmp_path = tmp_path_factory.mktemp("cache")
    docnos = [f"doc-{i}" for i in range(len(values))]
    store = write_scores(
        tmp_path / "s",
        docnos,
        np.array(values, np.float32),
        estimator=LexicalEstimator("length"),
        corpus_fingerprint="f",
    )
    export_cache(store, tmp_path / "cache")
    names, scores = read_cache(tmp_path / "cache")
    assert names == docnos
    np.testing.assert_array_equal(scores, store.scores)
    again = import_cache(tmp_path / "cache", tmp_path / "again", corpus_fingerprint="f")
    np.testing.assert_array_equal(again.scores, store.scores)


def test_a_cache_whose_parts_disagree_is_refused(tmp_path):
    export_cache(build(tmp_path / "s"), tmp_path / "cache")
    with pytest.raises(ArtifactError, match="not empty"):
        export_cache(ScoreStore.open(tmp_path / "s"), tmp_path / "cache")
    (tmp_path / "cache" / "quality.f4").write_bytes(b"\0" * 8)
    with pytest.raises(DamagedArtifactError, match="2 scores, 4 docnos"):
        read_cache(tmp_path / "cache")
    with pytest.raises(ArtifactError, match="not a quality cache"):
        read_cache(tmp_path / "s")
