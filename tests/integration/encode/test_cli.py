import json

import pytest
from typer.testing import CliRunner

pytestmark = pytest.mark.models


@pytest.fixture
def run(torch, monkeypatch):
    pytest.importorskip("sentence_transformers", reason="the models extra is not installed")
    import typer

    from thresher.cli.encode import encode

    app = typer.Typer()
    app.command()(encode)

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "corpus.jsonl"
    file.write_text("".join(json.dumps({"docno": f"d{i}", "text": f"the dog sings {i}"}) + "\n" for i in range(5)))
    return file


def test_a_corpus_is_encoded_by_name(run, corpus, splade_dir, tmp_path):
    from thresher.encode.encoded import EncodedPassages

    done = run(corpus, "-o", tmp_path / "out", "--encoder", splade_dir, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)
    assert counts["passages"] == len(EncodedPassages(tmp_path / "out")) == 5
    assert counts["postings"] > 0


def test_dense_vectors_become_a_vector_store(run, corpus, dense_dir, tmp_path):
    from thresher.vectors.store import VectorStore

    done = run(corpus, "-o", tmp_path / "out", "--dense", "--encoder", dense_dir, "--device", "cpu", "--sketch", 4)
    assert done.exit_code == 0, done.output
    index = VectorStore.open(tmp_path / "out")
    assert list(index.docnos) == [f"d{i}" for i in range(5)]
    assert index.sketch is not None
