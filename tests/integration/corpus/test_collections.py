"""The research collections are read whole, and what cannot be indexed is counted."""

import pytest

from thresher.corpus import open_corpus
from thresher.evaluate.collections import load

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("name", "passages", "skipped"),
    [("cranfield", 1398, {"empty-text": 2}), ("nfcorpus", 3633, {}), ("med", 1033, {}), ("adi", 82, {})],
)
def test_collections_are_read_whole(data_dir, name, passages, skipped):
    corpus = load(name).corpus
    assert sum(1 for _ in corpus) == passages
    assert corpus.skipped == skipped


def test_long_documents_are_split_without_losing_text(data_dir):
    path = data_dir / "collections" / "time" / "corpus.jsonl.gz"
    whole = {document.docno: document for document in open_corpus(path)}
    parts = list(open_corpus(path, split_tokens=150, split_overlap=30, limit=800))
    assert len(parts) > len({part.docno.partition("#")[0] for part in parts})
    for part in parts:
        if "document" in part.metadata:
            text = whole[part.metadata["document"]].text
            assert text[int(part.metadata["start"]) : int(part.metadata["end"])] == part.text
