"""BM25 on real collections gives what Anserini, on Lucene, gives on the same passages."""

import gzip
import json
from collections import defaultdict

import numpy as np
import pytest

from thresher.corpus import open_corpus
from thresher.encode.bm25 import Bm25Encoder

pytestmark = pytest.mark.data
K = 1000


def rankings(corpus, queries, lengths):
    """qid to docno to score of the K best, by brute force over the whole matrix."""
    sparse = pytest.importorskip("scipy.sparse", reason="the extra `eval` is not installed")
    passages = list(corpus)
    texts = [passage.contents for passage in passages]
    encoder = Bm25Encoder.fit(texts, lengths=lengths)
    shape = (-1, len(encoder.vocabulary))

    def matrix(batch):
        return sparse.csr_matrix((batch.weights, batch.terms, batch.indptr), shape=(len(batch), shape[1]))

    scores = (matrix(encoder.encode_queries(list(queries.values()))) @ matrix(encoder.encode_passages(texts)).T).tocsr()
    docnos = np.array([passage.docno for passage in passages])
    found = {}
    for row, qid in enumerate(queries):
        at = slice(scores.indptr[row], scores.indptr[row + 1])
        order = np.lexsort((docnos[scores.indices[at]], -scores.data[at]))[:K]
        found[qid] = dict(zip(docnos[scores.indices[at]][order], scores.data[at][order].tolist(), strict=True))
    return found


def read_queries(file):
    return dict(line.split("\t", 1) for line in file.read_text(encoding="utf-8").split("\n") if line)


@pytest.mark.slow
def test_scores_are_anserinis_for_every_passage_it_returned(data_dir):
    run = defaultdict(dict)
    with gzip.open(data_dir / "runs" / "anserini-bm25-on-mini.dl19.run.gz", "rt") as lines:
        for line in lines:
            qid, _, docno, _, score, _ = line.split()
            run[qid][docno] = float(score)
    queries = {q: t for q, t in read_queries(data_dir / "trec-dl" / "queries.dl19.tsv").items() if q in run}
    ours = rankings(open_corpus(data_dir / "trec-dl" / "msmarco-v1-mini.jsonl.gz"), queries, "lucene")
    for qid, theirs in run.items():
        shared = theirs.keys() & ours[qid].keys()
        assert len(shared) >= len(theirs) - 2  # ties at the last rank are broken in another order
        for docno in shared:
            assert ours[qid][docno] == pytest.approx(theirs[docno], abs=2e-3)


@pytest.mark.parametrize("name", ["nfcorpus"])
def test_effectiveness_is_anserinis(data_dir, name):
    ir_measures = pytest.importorskip("ir_measures", reason="the oracle ir_measures is not installed")
    published = json.loads((data_dir / "oracle" / "anserini_bm25_on_these_collections.json").read_text())[name]
    folder = data_dir / "collections" / name
    qrels = list(ir_measures.read_trec_qrels(str(folder / "qrels.txt")))
    judged = {row.query_id for row in qrels}
    queries = {qid: text for qid, text in read_queries(folder / "queries.tsv").items() if qid in judged}
    found = rankings(open_corpus(folder / "corpus.jsonl.gz"), queries, "lucene")
    run = [
        ir_measures.ScoredDoc(qid, docno, -float(rank))
        for qid, docs in found.items()
        for rank, docno in enumerate(docs)
    ]
    measured = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.R @ 1000], qrels, run)
    assert measured[ir_measures.nDCG @ 10] == pytest.approx(published["nDCG@10"], abs=0.0002)
    assert measured[ir_measures.R @ 1000] == pytest.approx(published["R@1000"], abs=0.0002)
