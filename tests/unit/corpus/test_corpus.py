"""What every corpus promises: the same passages again, a fingerprint of them, one docno once."""

import json
import tracemalloc

import pytest

from thresher.corpus import MemoryCorpus, fingerprint_of, open_corpus
from thresher.corpus.base import DocnoSet
from thresher.errors import InputError
from thresher.records import Passage


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_fingerprint_is_that_of_the_passages_wherever_they_come_from(tmp_path):
    passages = [Passage("a", "x", "t"), Passage("b", "y")]
    path = write(tmp_path / "c.jsonl", [{"id": p.docno, "title": p.title, "text": p.text} for p in passages])
    assert open_corpus(path).fingerprint() == MemoryCorpus(iter(passages)).fingerprint() == fingerprint_of(passages)
    assert len(fingerprint_of(passages)) == 64


def test_the_fingerprint_tells_fields_and_order_apart():
    a, b = Passage("a", "x y", ""), Passage("b", "z")
    others = [[b, a], [Passage("a", "y", "x"), b], [Passage("a", "x yb", ""), Passage("b", "z")], [a], []]
    assert len({fingerprint_of(passages) for passages in [[a, b], *others]}) == 6


def test_a_corpus_that_changes_between_readings_is_noticed(tmp_path):
    path = write(tmp_path / "c.jsonl", [{"id": "a", "text": "x"}])
    corpus = open_corpus(path)
    list(corpus)
    write(path, [{"id": "a", "text": "y"}])
    with pytest.raises(InputError, match="changed"):
        list(corpus)


def test_a_limit_ends_the_corpus(tmp_path):
    path = write(tmp_path / "c.jsonl", [{"id": str(n), "text": "x"} for n in range(9)])
    assert [p.docno for p in open_corpus(path, limit=3)] == ["0", "1", "2"]


def test_passages_in_memory_are_checked_too():
    with pytest.raises(InputError, match="memory:2: docno 'a' occurs twice"):
        MemoryCorpus([Passage("a", "x"), Passage("a", "y")])
    with pytest.raises(InputError, match="neither title nor text"):
        MemoryCorpus([Passage("a", " ")])
    with pytest.raises(InputError, match="surrogate"):
        MemoryCorpus([Passage("a", "\ud800")])


def test_a_title_alone_is_enough_to_index(tmp_path):
    path = write(tmp_path / "c.jsonl", [{"id": "a", "title": "only this", "text": ""}])
    assert [p.contents for p in open_corpus(path)] == ["only this "]


def test_docnos_take_few_bytes_and_are_all_remembered():
    seen = DocnoSet()
    tracemalloc.start()
    assert all(seen.add(f"document-{number}") for number in range(12_000))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 49 * 12_000
    assert not any(seen.add(f"document-{number}") for number in range(0, 12_000, 7))
    assert len(seen) == 12_000


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    path = tmp_path / "c.tsv"
    with path.open("w") as stream:
        stream.writelines(f"d{number}\t{'word ' * 100}\n" for number in range(8_000))
    corpus = open_corpus(path)
    tracemalloc.start()
    count = sum(1 for _ in corpus)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 8_000
    assert peak < 1_500_000  # the file has four million bytes


@pytest.mark.parametrize(
    ("passage", "problem"),
    [
        ({"docno": "a", "text": "x"}, "a dict, not a thresher.Passage"),
        ("a", "a str, not a thresher.Passage"),
        (Passage("a", "x", "", {"made": object()}), "which is not JSON"),
        (Passage("a", "x", "", {1: "x"}), "must map names to values"),
    ],
)
def test_what_is_not_a_passage_is_named_with_its_number(passage, problem):
    with pytest.raises(InputError, match=f"memory:2: .*{problem}"):
        MemoryCorpus([Passage("z", "x"), passage])
