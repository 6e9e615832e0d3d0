"""BM25 over an index is BM25 by definition, whatever its parts are and whatever was deleted of them."""

import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher import artifact
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.encode.bm25 import Bm25Encoder, bm25_scale, lucene_length
from thresher.errors import InputError
from thresher.index import FORMAT, KIND, IndexBuilder
from thresher.index.layout import open_layout
from thresher.index.uninvert import count_deleted
from thresher.records import Passage
from thresher.search import Index
from thresher.search.statistics import Bm25Statistics
from thresher.text.analyzer import analyzer

WORDS = "grain chaff wind mill flour river zebra bread stone oat the of".split()
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=25)
ANALYZE = analyzer("english")


def scores(texts, query, bits, k1, b, lengths):
    """Each passage's score by definition, from weights quantised with the constant scale."""
    rows = [Counter(ANALYZE(text)) for text in texts]
    sizes = np.array([sum(row.values()) for row in rows], np.int64)
    n = int(np.count_nonzero(sizes))
    average = sizes.sum() / n if n else 1.0
    rounded = lucene_length(sizes) if lengths == "lucene" else sizes
    asked, found, top = Counter(ANALYZE(query)), [], 2**bits - 1
    for row, size in zip(rows, rounded.tolist(), strict=True):
        total = 0.0
        for term in sorted(asked):
            if row[term]:
                df = sum(1 for one in rows if one[term])
                weight = np.float32(asked[term] * np.log1p((n - df + 0.5) / (df + 0.5)))
                part = np.float32(row[term] / (row[term] + k1 * (1 - b + b * size / average)))
                total += float(weight) * max(1.0, float(np.rint(float(part) / bm25_scale(bits))))
        found.append(total * bm25_scale(bits))
    assert top * bm25_scale(bits) == pytest.approx(1)
    return found


@settings(max_examples=30)
@given(
    TEXTS,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
    st.sampled_from([8, 16]),
    st.floats(0, 3),
    st.floats(0, 1),
    st.sampled_from(["lucene", "exact"]),
)
def test_a_score_is_that_of_the_formula_with_quantised_passages(texts, query, bits, k1, b, lengths):
    texts = [*(text or "the" for text in texts), "grain"]  # without text, and an index without a term, are refused
    recipe = {"encode": {"k1": k1, "b": b, "lengths": lengths}, "index": {"bits": bits}}
    with tempfile.TemporaryDirectory() as folder:
        passages = [Passage(f"d{i:02}", text) for i, text in enumerate(texts)]
        build_index(Path(folder, "x"), passages, Recipe.model_validate(recipe))
        with Index.open(Path(folder, "x")) as index:
            found = dict(index.search(query, k=len(texts)).pairs())
    wanted = {f"d{i:02}": score for i, score in enumerate(scores(texts, query, bits, k1, b, lengths)) if score > 0}
    assert found == wanted


def words_of(layout):
    return [layout.vocabulary[number] for number in range(len(layout.vocabulary))]


class Numbers:
    """Term ids over several vocabularies: those of the first one that has the term, after the ones before it."""

    def __init__(self, layouts):
        self.words = [words_of(layout) for layout in layouts]
        self.bases = np.cumsum([0, *map(len, self.words)]).tolist()

    def __len__(self):
        return self.bases[-1]

    def find(self, term):
        for base, words in zip(self.bases, self.words, strict=False):
            if term in words:
                return base + words.index(term)
        return -1

    def term(self, number):
        return [word for words in self.words for word in words][number]

    def local(self, part, ids):
        flat = [word for words in self.words for word in words]
        words = self.words[part]
        return np.array([words.index(flat[i]) if flat[i] in words else -1 for i in ids.tolist()], np.int64)


def part_of(path, texts, average, dead):
    """A part with these passages, those at `dead` deleted."""
    encoder = Bm25Encoder(dict.fromkeys({t for text in texts for t in ANALYZE(text)}, 1), 1, 1, average_length=average)
    with artifact.writing(path, kind=KIND, format=FORMAT) as draft:
        builder = IndexBuilder(draft.path, [*encoder.vocabulary, "~unused"], scale=bm25_scale(8))
        batch, tokens = encoder.encode_with_tokens(texts)
        builder.add([Passage(f"{path.name}-{i}", text) for i, text in enumerate(texts)], batch)
        draft.fields["counts"] = builder.finish(tokens)
    layout = open_layout(path)
    assert words_of(layout) == encoder.vocabulary
    deleted = np.isin(np.arange(len(texts)), sorted(dead))
    counts = count_deleted(layout, deleted)
    terms = np.flatnonzero(counts)
    pairs = (terms.astype(np.uint32), counts[terms].astype(np.uint32)) if dead else None
    return SimpleNamespace(layout=layout, deleted=deleted if dead else None, deleted_counts=pairs)


@settings(max_examples=30)
@given(st.lists(st.tuples(TEXTS, st.sets(st.integers(0, 24), max_size=12)), min_size=1, max_size=3))
def test_statistics_of_many_parts_after_deletes_are_those_of_the_survivors_in_one(given_parts):
    survivors = [text for texts, dead in given_parts for i, text in enumerate(texts) if i not in dead]
    fresh = Bm25Encoder.fit(survivors)
    with tempfile.TemporaryDirectory() as folder:
        parts = [
            part_of(Path(folder, f"p{i}"), texts, 3.5, {d for d in dead if d < len(texts)})
            for i, (texts, dead) in enumerate(given_parts)
        ]
        numbers = Numbers([part.layout for part in parts])
        statistics = Bm25Statistics(parts, numbers)
        assert statistics.passages == fresh.passages
        assert statistics.average_length == (fresh.tokens / fresh.passages if fresh.passages else 0.0)
        ids = np.array([numbers.find(term) for term in fresh.vocabulary], np.int64)
        assert (ids >= 0).all()
        asked = np.array([*ids, -1, len(numbers), 2**62, -(2**62)], np.int64)
        for _ in range(2):  # computed, and kept
            assert statistics.factors(asked).tolist() == [*fresh.idf.tolist(), 0.0, 0.0, 0.0, 0.0]
        weights = np.linspace(0.5, 3, len(ids), dtype=np.float32)
        assert Bm25Statistics(parts, numbers).weigh(ids, weights).tolist() == (
            (fresh.idf * weights).astype(np.float32).tolist()
        )
        gone = {t for texts, _ in given_parts for text in texts for t in ANALYZE(text)} - set(fresh.vocabulary)
        assert statistics.factors(np.array([numbers.find(t) for t in gone], np.int64)).tolist() == [0.0] * len(gone)


def test_a_weight_that_no_search_takes_is_shown_as_it_was_given(tmp_path):
    part = part_of(tmp_path / "p", ["grain", "chaff wind"], 1.5, set())
    statistics = Bm25Statistics([part], Numbers([part.layout]))
    ids, indptr = np.array([0, 1, 2, -1], np.int64), np.array([0, 2, 4])
    with pytest.raises(InputError, match=r"query 1 gives a term the weight -2\.5"):
        statistics.weigh(ids, np.array([1, 1, -2.5, 1], np.float32), indptr)
    with pytest.raises(InputError, match="query 0 gives a term the weight nan"):
        statistics.weigh(ids, np.array([1, np.nan, 1, 1], np.float32), indptr)
