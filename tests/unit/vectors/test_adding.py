"""Vectors of segments that are added to an index, and of those that are merged."""

import numpy as np
import pytest

from thresher.build.recipe import VectorsStep
from thresher.build.vectors import EncodedVectors, GivenVectors, check_vectors, merge_vectors, store_vectors
from thresher.corpus.spool import Spool
from thresher.errors import ConfigError, InputError
from thresher.records import Passage
from thresher.vectors.segments import SegmentVectors, Span
from thresher.vectors.store import VectorStore

STEP = VectorsStep(storage="int8", sketch=2)
NONE = np.zeros(0, np.int64)


class Letters:
    """Counts four letters."""

    dimensions = 4

    def __init__(self, fingerprint="letters", same=()):
        self.fingerprint, self.same = fingerprint, same

    def accepts(self, fingerprint):
        return fingerprint in self.same

    def encode_passages(self, texts):
        return np.array([[text.count(letter) + 0.5 for letter in "abcd"] for text in texts], np.float32)


def spooled(folder, texts):
    spool = Spool(folder)
    for _ in spool.fill([Passage(f"{folder.name}{i}", text) for i, text in enumerate(texts)]):
        pass
    return spool


def stored(folder, name, texts, *, like=None, step=STEP, encoder=None, first=None, second=NONE):
    """The store of a segment of these texts."""
    spool = spooled(folder / f"{name}-spool", texts)
    vectors = EncodedVectors(step, encoder or Letters(), folder / f"{name}-shards")
    check_vectors(step, vectors, len(texts), like=like)
    (folder / name).mkdir()
    first = np.arange(len(texts)) if first is None else first
    store_vectors(folder / name, step, vectors, spool, first, second, progress=False, like=like)
    return VectorStore.open(folder / name / "vectors")


def test_an_added_segment_is_stored_as_the_index_is_and_a_merge_copies_both(tmp_path):
    first = stored(tmp_path, "s0", ["ab", "abba", "cd", "dad"])
    step = VectorsStep(storage="float16", sketch=0, second_tier=True)
    index = SegmentVectors.open_segments(tmp_path, [Span("s0", 0, 4)])
    chosen, rest = np.array([2, 0]), np.array([1])
    second = stored(tmp_path, "s1", ["bad", "dab", "cab"], like=index, step=step, first=chosen, second=rest)
    assert second.manifest.fields["storage"] == "int8"
    np.testing.assert_array_equal(second.sketch.rotation, first.sketch.rotation)
    index = SegmentVectors.open_segments(tmp_path, [Span("s0", 0, 4), Span("s1", 4, 3)], index)
    expected = Letters().encode_passages(["ab", "abba", "cd", "dad", "cab", "bad", "dab"])
    np.testing.assert_allclose(index.stored.decode(np.arange(7)), expected, atol=0.02)
    (tmp_path / "s2").mkdir()
    usage = merge_vectors(tmp_path / "s2", [(first, np.array([0, 3])), (second, np.array([1, 2]))])
    merged = VectorStore.open(tmp_path / "s2" / "vectors")
    assert usage.counts == {"vectors": 4, "bytes": merged.bytes}
    np.testing.assert_array_equal(merged.stored.decode(np.arange(4)), index.stored.decode(np.array([0, 3, 5, 6])))
    np.testing.assert_array_equal(merged.sketch.lengths[2:], second.sketch.lengths[1:])


def test_an_index_that_was_empty_learns_from_what_is_added_first(tmp_path):
    stored(tmp_path, "s0", [])
    index = SegmentVectors.open_segments(tmp_path, [Span("s0", 0, 0)])
    added = stored(tmp_path, "s1", ["bad", "dab", "cab"], like=index)
    assert (len(added), added.sketch.codes.shape) == (3, (3, 2))
    index = SegmentVectors.open_segments(tmp_path, [Span("s0", 0, 0), Span("s1", 0, 3)], index)
    assert index.find_numbers(np.arange(3)).tolist() == [0, 1, 2]
    (tmp_path / "s2").mkdir()
    merge_vectors(tmp_path / "s2", [(store, np.arange(len(store))) for store in map(index.store_of, ("s0", "s1"))])
    assert len(VectorStore.open(tmp_path / "s2" / "vectors")) == 3
    (tmp_path / "s3").mkdir()
    merge_vectors(tmp_path / "s3", [(index.store_of("s0"), NONE)])
    assert VectorStore.open(tmp_path / "s3" / "vectors").encoder_fingerprint == "letters"
    assert merge_vectors(tmp_path / "s4", []).counts == {"vectors": 0, "bytes": 0}
    assert not (tmp_path / "s4").exists()


def test_product_quantisation_of_an_added_segment_needs_no_more_passages_than_there_are(tmp_path):
    pytest.importorskip("faiss", reason="the faiss-cpu extra is not installed")
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcd"), 30)) for _ in range(256)]
    step = VectorsStep(storage="pq2", sketch=0)
    first = stored(tmp_path, "s0", texts, step=step)
    index = SegmentVectors.open_segments(tmp_path, [Span("s0", 0, 256)])
    second = stored(tmp_path, "s1", texts[:2], step=step, like=index)
    np.testing.assert_array_equal(second.stored.codes, first.stored.codes[:2])
    (tmp_path / "s2").mkdir()
    merge_vectors(tmp_path / "s2", [(first, NONE)])
    index = SegmentVectors.open_segments(tmp_path, [Span("s2", 0, 0)])
    third = stored(tmp_path, "s3", texts[:2], step=step, like=index)
    np.testing.assert_array_equal(third.stored.codebook, first.stored.codebook)


def test_vectors_of_another_encoder_are_refused_before_anything_is_encoded(tmp_path):
    first = stored(tmp_path, "s0", ["ab", "abba"])
    other = EncodedVectors(STEP, Letters("another"), tmp_path / "x")
    with pytest.raises(ConfigError, match=r"fingerprint letters, but those of the added passages"):
        check_vectors(STEP, other, 2, like=first)
    check_vectors(STEP, EncodedVectors(STEP, Letters("half", {"letters"}), tmp_path / "x"), 2, like=first)
    wide = Letters()
    wide.dimensions = 8
    with pytest.raises(ConfigError, match="4 dimensions, but those of the added passages 8"):
        check_vectors(STEP, EncodedVectors(STEP, wide, tmp_path / "x"), 2, like=first)


def test_given_vectors_of_added_passages_are_found_by_docno(tmp_path):
    first = stored(tmp_path, "s0", ["ab", "abba"])
    spool = spooled(tmp_path / "more", ["bad", "dab"])
    vectors = Letters().encode_passages(["dab", "bad"])
    for encoder in ("letters", "", "another"):
        VectorStore.build(
            tmp_path / "given", [vectors], docnos=["more1", "more0"], encoder=encoder, overwrite=True, sketch=1
        )
        given, step = GivenVectors(tmp_path / "given"), VectorsStep(source=str(tmp_path / "given"))
        if encoder == "another":
            with pytest.raises(ConfigError, match=r"fingerprint letters, but .* by an encoder with another"):
                check_vectors(step, given, 2, like=first)
            continue
        check_vectors(step, given, 2, like=first)
        folder = tmp_path / f"s1{encoder}"
        folder.mkdir()
        store_vectors(folder, step, given, spool, np.arange(2), NONE, progress=False, like=first)
        found = VectorStore.open(folder / "vectors")
        assert (found.encoder_fingerprint, found.manifest.fields["storage"]) == ("letters", "int8")
        np.testing.assert_allclose(found.stored.decode(np.arange(2)), vectors[::-1], atol=0.02)
    with pytest.raises(InputError, match="'less0' has no vector"):
        store_vectors(tmp_path, step, given, spooled(tmp_path / "less", ["x"]), np.arange(1), NONE, progress=False)
