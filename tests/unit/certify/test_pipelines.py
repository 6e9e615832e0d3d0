"""Each pipeline's run is what the index and its `Pipeline` answer, with models asked once."""

import numpy as np
import pytest

from tests.unit.certify.conftest import QRELS, QUERIES, passages, recipe
from thresher import Pipeline
from thresher.build.stream import build_index
from thresher.certify.fractions import kept, scores_of
from thresher.certify.pipelines import AS_BUILT, Asked, Changed
from thresher.context.scorers import LexicalScorer
from thresher.evaluate import evaluate
from thresher.search import Effort, Index


@pytest.fixture(scope="module")
def index(whole):
    with Index.open(whole) as opened:
        yield opened


def docnos(run):
    return {qid: run[qid].docnos for qid in run}


def test_runs_are_what_the_pipeline_answers(index):
    runs = Asked(index, QUERIES, 10).runs(["sparse", "reranked", "context"])
    pipeline = Pipeline.open(index)
    reranking = pipeline.without("select")
    for query in QUERIES[:10]:
        assert runs["sparse"][query.qid].docnos == index.search(query, 10).docnos
        assert runs["reranked"][query.qid].docnos == reranking.ask(query).ranking.cut(10).docnos
        handed = [one.docno for one in pipeline.ask(query).passages if one.spans]
        assert runs["context"][query.qid].docnos == handed


def test_lexical_is_bm25_alone(index, tmp_path):
    build_index(tmp_path / "bm25", passages(), recipe(encode={"encoder": "bm25"}))
    with Index.open(tmp_path / "bm25") as alone:
        lexical = Asked(index, QUERIES, 10).runs(["lexical"])["lexical"]
        assert docnos(lexical) == docnos(alone.search_batch(QUERIES, 10))
        assert "lexical" not in Asked(alone, QUERIES, 10).available(), "it would be tested twice"
        assert not Asked(alone, QUERIES, 10).lacking("lexical")


def test_passages_without_a_kept_sentence_are_left_out_of_the_context(index):
    strong = Asked(index, QUERIES, 10).runs(["context"], changed=Changed.parse("threshold=.9,repeats=keep"))["context"]
    usual = Asked(index, QUERIES, 10).runs(["context"])["context"]
    assert sum(map(len, strong.values())) < sum(map(len, usual.values()))


def test_a_passage_is_read_once_with_a_query_however_many_masks_and_settings_there_are(index, monkeypatch):
    read = []
    score = LexicalScorer.score

    def counting(self, pairs):
        read.extend((query, passage.text) for query, passage in pairs)
        return score(self, pairs)

    monkeypatch.setattr(LexicalScorer, "score", counting)
    asked = Asked(index, QUERIES[:8], 10)
    known, _ = scores_of(index, "random")
    for fraction in (0.0, 0.1, 0.2):
        asked.runs(["reranked", "context"], allow=kept(index, known, fraction))
    asked.runs(["context"], changed=Changed.parse("threshold=strong"))
    assert len(read) == len(set(read)) > 0
    assert list(asked.models.scorers) == ["lexical"], "stages and settings that name one model share it"


class Letters:
    """A dense encoder without a model, that keeps what it was asked."""

    fingerprint, name, dimensions = "letters", "letters", 26

    def __init__(self):
        self.asked = []

    def encode_passages(self, texts):
        rows = np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_queries(self, texts):
        self.asked += texts
        return self.encode_passages(texts)


def test_interpolated_is_the_pipeline_without_its_later_stages_and_encodes_a_query_once(tmp_path, monkeypatch):
    build_index(tmp_path / "x", passages(10), recipe(vectors={}), dense=Letters())
    encoder = Letters()
    monkeypatch.setattr("thresher.vectors.store.VectorStore.open_encoder", lambda *_: encoder)
    with Index.open(tmp_path / "x") as index:
        pipeline = Pipeline.open(index).without("rerank", "select")
        wanted = {query.qid: pipeline.ask(query).ranking.cut(10).docnos for query in QUERIES[:8]}
        encoder.asked.clear()
        asked = Asked(index, QUERIES[:8], 10)
        assert asked.available() == ["lexical", "sparse", "interpolated", "reranked", "context"]
        assert docnos(asked.runs(["interpolated"])["interpolated"]) == wanted
        known, _ = scores_of(index, "random")
        masked = asked.runs(["interpolated", "context"], allow=kept(index, known, 0.3))["interpolated"]
        asked.runs(["interpolated"], changed=Changed.parse("alpha=.9"))
        assert encoder.asked == [query.text for query in QUERIES[:8]]
        gone = set(index.docnos_at(np.flatnonzero(~kept(index, known, 0.3))))
        assert gone.isdisjoint(docno for one in masked.values() for docno in one.docnos)


def test_a_mask_keeps_the_wanted_share_and_the_best(index):
    known, name = scores_of(index, "length")
    mask = kept(index, known, 0.25)
    assert name == "length"
    assert mask.sum() == 90
    assert known[mask].min() >= known[~mask].max()
    assert kept(index, known, 0.0).all()


def test_changes_are_read_from_text():
    assert Changed.parse("blocks=.9, terms=4") == Changed({"effort": Effort(terms=4, blocks=0.9)})
    assert Changed.parse("threshold=strong,read=5") == Changed(ask={"threshold": "strong", "read": 5})
    assert not AS_BUILT.concerns("sparse")


def test_judgments_of_the_whole_run_are_as_evaluate_gives_them(index):
    run = Asked(index, QUERIES, 10).runs(["sparse"])["sparse"]
    assert evaluate(run, QRELS, "nDCG@10").mean["nDCG@10"] > 0.9
