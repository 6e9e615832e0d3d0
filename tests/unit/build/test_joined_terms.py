"""Indexes of BM25 and a learned encoder: built, changed, refitted, pruned, and made of what was encoded before."""

import re

import pytest

from tests.indexes import encoder_of, segment_of
from tests.word_pairs import NAME, WORDS, WordPairs, registered
from thresher.artifact import verify
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.encode import SparseEncoder, encode_corpus
from thresher.encode.encoder import load_query_encoder
from thresher.encode.hybrid import LEARNED
from thresher.errors import ConfigError, DamagedArtifactError, InputError
from thresher.index.commit import read_commit
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.search import Index

BOTH = f"bm25+{NAME}"
QUERIES = ["grain wind", "mill oat oat", "absent river", "zebra"]


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    registered(monkeypatch)


def recipe(**encode):
    return Recipe.model_validate({"encode": {"encoder": BOTH, "learned_weight": 0.5, **encode}})


def some(first, after):
    return [
        Passage(f"d{i:02}", " ".join(WORDS[(i * k) % 10] for k in range(1, 3 + i % 7))) for i in range(first, after)
    ]


def seen(path):
    with Index.open(path) as index:
        return {query: list(index.search(query, 100).pairs()) for query in QUERIES}


def test_changes_merges_and_a_refit_leave_what_a_fresh_index_has(tmp_path):
    path, fresh = tmp_path / "index", tmp_path / "fresh"
    build_index(path, some(0, 20), recipe())
    with IndexWriter.open(path, merge=False) as writer:
        writer.add([*some(20, 30), Passage("new", "words that nothing had before")])
        writer.commit()
        writer.delete(docnos=["d03", "d21", "d19"])
        writer.replace([Passage("d05", "river river mill")])
        writer.commit()
    left = seen(path)
    with IndexWriter.open(path) as writer:
        writer.merge(all=True)
    assert seen(path) == left
    with IndexWriter.open(path) as writer:
        writer.merge(refit=True)
    gone = {"d03", "d21", "d19", "d05"}
    survivors = [one for one in some(0, 30) if one.docno not in gone]
    build_index(
        fresh,
        [*survivors, Passage("new", "words that nothing had before"), Passage("d05", "river river mill")],
        recipe(),
    )
    for name in ("impacts", "ids", "tokens", "vocabulary.bytes"):
        assert (segment_of(path) / name).read_bytes() == (segment_of(fresh) / name).read_bytes(), name
    assert seen(path) == seen(fresh) != left
    assert read_commit(path).fields["encoder"] == read_commit(fresh).fields["encoder"]
    verify(path)


def test_the_index_keeps_both_query_sides_and_says_so(tmp_path):
    build_index(tmp_path / "x", some(0, 9), recipe())
    with Index.open(tmp_path / "x") as index:
        assert index.encoder.name == f"bm25(k1=0.9,b=0.4,english)+{NAME}"
        assert index.encoder.fingerprint == index.layouts[0].manifest.fields["encoder"]["fingerprint"]
        assert index.layouts[0].counts.bits == 16
        (row,) = index.encoder.encode_queries(["grain zebra grain"]).weights.reshape(1, -1)
        assert sorted(row)[-1] == 2.0 * 0.5 * 8, "the learned weight, the weight of the part, and the ceiling"
    alone = load_query_encoder(encoder_of(tmp_path / "x"))
    with pytest.raises(InputError, match="has no vocabulary of its own"):
        alone.encode_queries(["grain"])
    (encoder_of(tmp_path / "x") / "encoder.json").write_text('{"type": "bm25+learned", "name": "x"}')
    with pytest.raises(DamagedArtifactError, match="lacks weight, or name and fingerprint of the learned encoder"):
        load_query_encoder(encoder_of(tmp_path / "x"))


def test_what_was_encoded_before_gives_the_same_index(tmp_path):
    passages, built = some(0, 25), tmp_path / "built"
    build_index(built, passages, recipe())
    encode_corpus(passages, WordPairs(), tmp_path / "learned")
    build_index(tmp_path / "joined", passages, recipe(source=str(tmp_path / "learned")))
    texts = [one.contents for one in passages]
    encode_corpus(passages, SparseEncoder.from_name(BOTH, texts=texts, weight=0.5), tmp_path / "both")
    build_index(tmp_path / "given", passages, Recipe(), encoded=tmp_path / "both")
    for path in (tmp_path / "joined", tmp_path / "given"):
        assert seen(path) == seen(built)
        assert read_commit(path).fields["encoder"] == read_commit(built).fields["encoder"]
    with IndexWriter.open(tmp_path / "joined") as writer:
        writer.add(some(25, 30))
    encode_corpus(some(25, 29), WordPairs(), tmp_path / "more")
    with IndexWriter.open(built, merge=False) as writer:
        with pytest.raises(InputError, match="give passages"):
            writer.add(encoded=tmp_path / "more")
        writer.add(some(25, 27), encoded=WordPairs().encode_passages([one.contents for one in some(25, 27)]))
        writer.replace(some(25, 29), encoded=tmp_path / "more")
        writer.add(some(29, 30))
    assert seen(tmp_path / "joined") == seen(built)
    with IndexWriter.open(tmp_path / "given") as writer:
        writer.add(some(25, 30))
        with pytest.raises(ConfigError, match="'bm25' is another one here"):
            writer.commit()
        writer.discard()
    with pytest.raises(ConfigError, match="give the corpus of the encoded passages"):
        build_index(tmp_path / "none", None, recipe(source=str(tmp_path / "learned")))


PRUNING = PruneStep(estimator="length", keep=0.5, junk=False, similarity=None, fold=False)


def test_tiers_of_both_signals_answer_as_one_index_of_all_passages(tmp_path):
    build_index(tmp_path / "x", some(0, 30), recipe().model_copy(update={"prune": PRUNING}))
    build_index(tmp_path / "all", some(0, 30), recipe())
    assert seen(tmp_path / "x") == seen(tmp_path / "all")
    with Index.open(tmp_path / "x") as index:
        assert all(any(word.startswith(LEARNED) for word in layout.words) for layout in index.layouts)
        assert index.search("grain", 20).exact
        assert index._now.pair.comparable
    for path in (tmp_path / "x", tmp_path / "all"):
        with IndexWriter.open(path, merge=False) as writer:
            writer.add(some(30, 50))
            writer.delete(docnos=["d01", "d02", "d08", "d35"])
            writer.commit()
    assert seen(tmp_path / "x") == seen(tmp_path / "all")
    for path in (tmp_path / "x", tmp_path / "all"):
        with IndexWriter.open(path) as writer:
            writer.merge(refit=True)
        verify(path)
    assert seen(tmp_path / "x") == seen(tmp_path / "all")


def test_a_budget_leaves_the_second_tier_to_bm25(tmp_path):
    pruning = PRUNING.model_copy(update={"keep": None, "budget": "10 s", "rate": 7.0})
    build_index(tmp_path / "x", some(0, 30), recipe().model_copy(update={"prune": pruning}))
    with IndexWriter.open(tmp_path / "x") as writer:
        writer.add(some(30, 40))
        writer.commit()
        writer.merge(refit=True)
    with Index.open(tmp_path / "x") as index:
        first, second = index.layouts
        assert any(word.startswith(LEARNED) for word in first.words)
        assert not any(word.startswith(LEARNED) for word in second.words)
        held = {one.docno for one in some(0, 40) if "grain" in one.text.split()}
        assert held <= set(index.search("grain", 40).docnos)
        assert not index._now.pair.comparable


def test_another_encoder_or_a_half_named_one_is_refused(tmp_path, monkeypatch):
    build_index(tmp_path / "x", some(0, 9), recipe())
    monkeypatch.setattr(WordPairs, "__init__", lambda self, argument="": setattr(self, "fingerprint", "retrained"))
    with IndexWriter.open(tmp_path / "x") as writer:
        writer.add(some(9, 12))
        with pytest.raises(ConfigError, match=rf"but '{re.escape(BOTH)}' is another one here"):
            writer.commit()
        writer.discard()
    with pytest.raises(ConfigError, match=r"names no learned encoder; write, for example, bm25[+]thresher-mini"):
        recipe(encoder="bm25+").check()
    with pytest.raises(ConfigError, match=r"learned_weight is 0\.5, but encode.encoder is 'bm25'"):
        recipe(encoder="bm25").check()
    with pytest.raises(ConfigError, match=r"query_encoder is 'bm25[+]x'"):
        recipe(source="x", query_encoder="bm25+x").check()
    with pytest.raises(ConfigError, match="bm25 takes its statistics from the passages"):
        SparseEncoder.from_name(BOTH)
    with pytest.raises(InputError, match="weight"):
        SparseEncoder.from_name(BOTH, texts=["grain"], weight=-1)
