"""New passages go through the index's own recipe: how files are read, and how a killed encoding goes on."""

import json

import numpy as np
import pytest

from thresher.build import segment, stream
from thresher.build.recipe import CorpusSource, EncodeStep, Recipe
from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.encode.encoder import SparseEncoder, from_mappings
from thresher.errors import ConfigError
from thresher.index.collection import open_collection
from thresher.publish import shards_of
from thresher.records import Passage


def live(path):
    return {p.docno: p.text for part in open_collection(path).parts for p in map(part.layout.passage, range(part.size))}


def test_files_are_read_as_the_recipe_says_and_passages_in_memory_as_they_are(tmp_path):
    rows = [{"key": "a", "body": "one", "text": "not this"}, {"key": "b", "body": "two", "text": "nor this"}]
    (tmp_path / "first.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (tmp_path / "more.jsonl").write_text(json.dumps(rows[1]) + "\nnonsense\n")
    recipe = Recipe(corpus=CorpusSource(id_field="key", text_field="body", on_error="skip"))
    build_index(tmp_path / "index", tmp_path / "first.jsonl", recipe)
    with IndexWriter.open(tmp_path / "index") as writer:
        change = writer.add(tmp_path / "more.jsonl")
        assert (change.added, dict(change.skipped)) == (1, {"malformed": 1})
        writer.add([Passage("c", "three")])
    assert live(tmp_path / "index") == {"a": "one", "b": "two", "c": "three"}


class Letters(SparseEncoder):
    """Weighs the letters of a text; stops after some calls, as if it were killed."""

    name, vocabulary, fingerprint = "letters", tuple("abcdefghijklmnopqrstuvwxyz"), "f" * 64
    left, encoded = 10**9, 0

    def encode_passages(self, texts):
        Letters.left -= 1
        if Letters.left < 0:
            raise KeyboardInterrupt
        Letters.encoded += len(texts)
        letters = ([ord(c) - 97 for c in text if c in self.vocabulary] for text in texts)
        return from_mappings([{c: float(row.count(c)) for c in row} for row in map(list, letters)])

    def encode_queries(self, texts):
        return self.encode_passages(texts)

    def save(self, directory):
        directory.mkdir(exist_ok=True)
        (directory / "encoder.json").write_text("{}")


@pytest.fixture
def letters(tmp_path, monkeypatch):
    """An index of learned weights."""
    for module in (stream, segment):
        monkeypatch.setattr(module, "open_learned", lambda step, device="auto": Letters())
    build_index(tmp_path / "index", [Passage("first", "grain")], Recipe(encode=EncodeStep(encoder="letters")))
    monkeypatch.setattr(Letters, "encoded", 0)
    return tmp_path / "index"


def test_a_killed_encoding_goes_on_behind_its_last_shard(letters, monkeypatch):
    new = [Passage(f"d{i}", f"number {i}") for i in range(1500)]
    monkeypatch.setattr(Letters, "left", 1)
    with pytest.raises(KeyboardInterrupt), IndexWriter.open(letters) as writer:
        writer.add(new)
    assert len(live(letters)) == 1
    done, Letters.left = Letters.encoded, 10**9
    assert done == 1024
    with IndexWriter.open(letters) as writer:
        writer.add(new)
    assert Letters.encoded - done < len(new) - 1000
    assert live(letters).keys() == {"first", *(p.docno for p in new)}
    assert not shards_of(letters).exists()


def test_another_encoder_by_the_same_name_is_refused(letters, monkeypatch):
    monkeypatch.setattr(Letters, "fingerprint", "e" * 64)
    with IndexWriter.open(letters) as writer:
        writer.add([Passage("new", "chaff")])
        with pytest.raises(
            ConfigError, match=r"built with the encoder letters \(ffffffffffff\), but 'letters' is another"
        ):
            writer.commit()
        monkeypatch.setattr(Letters, "fingerprint", "f" * 64)
        assert writer.commit().added == 1, "a commit that failed can be tried again"


def test_learned_parts_keep_the_scale_of_the_first(letters):
    with IndexWriter.open(letters) as writer:
        writer.add([Passage("new", "zzzzzzzzzz a")])
    scales = {part.layout.counts.scale for part in open_collection(letters).parts}
    assert len(scales) == 1
    assert np.isfinite(scales.pop())
