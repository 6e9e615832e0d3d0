"""Folding of duplicates: nothing is folded on an estimate, and every folded passage resembles what stands for it."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import InputError
from thresher.quality.duplicates import fold_duplicates, jaccard, shingle_sets
from thresher.quality.lexical import words_of

WORD = st.sampled_from("abcdefgh")
TEXT = st.lists(WORD, max_size=12).map(" ".join)


def exact_jaccard(a, b, shingle):
    def shingles(text):
        words = words_of(text)
        width = max(min(shingle, len(words)), 1)
        return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()

    x, y = shingles(a), shingles(b)
    return len(x & y) / len(x | y) if x | y else 0.0


@given(TEXT, TEXT, st.integers(1, 5))
def test_shingle_hashes_have_the_jaccard_similarity_of_the_shingles(a, b, shingle):
    hashes, offsets = shingle_sets([a, b], shingle)
    assert jaccard(hashes[: offsets[1]], hashes[offsets[1] :]) == pytest.approx(exact_jaccard(a, b, shingle))


@given(st.lists(TEXT, max_size=12), st.sampled_from([0.3, 0.5, 0.8, 1.0]), st.randoms(use_true_random=False))
def test_every_folded_passage_is_similar_enough_to_the_one_that_stands_for_it(texts, similarity, random):
    order = list(range(len(texts)))
    random.shuffle(order)
    folding = fold_duplicates(texts, np.array(order, np.int64), similarity=similarity, shingle=2)
    place = {row: i for i, row in enumerate(order)}
    for row, target in enumerate(folding.canonical):
        assert folding.canonical[target] == target
        assert place[target] <= place[row]
        bare = [re.sub(r"[\W_]+", "", texts[i].lower()) for i in (row, target)]
        if row != target and bare[0] != bare[1]:
            first = next(i for i in order if re.sub(r"[\W_]+", "", texts[i].lower()) == bare[0])
            assert exact_jaccard(texts[first], texts[target], 2) >= similarity
    assert folding.exact + folding.near == folding.folded.sum()


def folded_one_by_one(texts, order, groups, similarity):
    """Each passage's canonical one, by comparing it with every canonical one of its group."""
    bare = [re.sub(r"[\W_]+", "", text.lower()) for text in texts]
    canonical, first, kept = {}, {}, []
    for row in order:
        same = first.setdefault((bare[row] or row, groups[row]), row)
        if same != row:
            canonical[row] = canonical[same]
            continue
        alike = (
            other
            for other in kept
            if similarity and groups[other] == groups[row] and exact_jaccard(texts[row], texts[other], 2) >= similarity
        )
        canonical[row] = next(alike, row)
        if canonical[row] == row:
            kept.append(row)
    return [canonical[row] for row in range(len(texts))]


@given(
    st.lists(st.tuples(TEXT, st.integers(0, 2)), max_size=16),
    st.sampled_from([None, 0.3, 0.8, 1.0]),
    st.randoms(use_true_random=False),
)
def test_duplicates_are_folded_only_within_their_group_as_if_each_group_stood_alone(rows, similarity, random):
    texts, groups = [text for text, _ in rows], np.array([group for _, group in rows], np.int64)
    order = np.array(random.sample(range(len(rows)), len(rows)), np.int64)
    folding = fold_duplicates(texts, order, similarity=similarity, shingle=2, groups=groups)
    for group in range(3):
        rows_here = np.flatnonzero(groups == group)
        order_here = np.searchsorted(rows_here, order[groups[order] == group])
        alone = fold_duplicates([texts[i] for i in rows_here], order_here, similarity=similarity, shingle=2)
        assert folding.canonical[rows_here].tolist() == rows_here[alone.canonical].tolist()
    if similarity in (None, 1.0):  # equal sets agree in every band, so none is missed
        assert folding.canonical.tolist() == folded_one_by_one(texts, order.tolist(), groups.tolist(), similarity)


def test_near_duplicates_of_long_passages_are_found():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(3000)]
    originals = [" ".join(rng.choice(words, 60)) for _ in range(300)]
    copies = []
    for text in originals:
        changed = text.split()
        changed[30] = "changed"  # 5 of 56 shingles differ: similarity 51 / 61
        copies.append(" ".join(changed))
    folding = fold_duplicates([*originals, *copies], similarity=0.8)
    assert folding.near >= 298
    assert set(folding.canonical[:300]) == set(range(300))


def test_exact_duplicates_ignore_case_and_marks_but_not_emptiness():
    folding = fold_duplicates(["A-b c", "ab C!", "", "", "…"], similarity=None)
    assert folding.canonical.tolist() == [0, 0, 2, 3, 4]
    assert (folding.exact, folding.near) == (1, 0)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(InputError, match="every passage once"):
        fold_duplicates(["a", "b"], np.array([0, 0]))
    with pytest.raises(InputError, match=r"similarity must be in .*1\.2"):
        fold_duplicates(["a"], similarity=1.2)
    with pytest.raises(InputError, match="shingle must be at least 1, got 0"):
        fold_duplicates(["a"], shingle=0)
    for groups in ([0], ["x", "y"], [0.5, 1.0]):
        with pytest.raises(InputError, match="groups must be"):
            fold_duplicates(["a", "b"], groups=np.array(groups))


class OnDisk(Sequence):
    """Texts that are read one at a time, and how often each is."""

    def __init__(self, texts):
        self.texts, self.read = texts, 0

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, number):
        self.read += 1
        return self.texts[number]

    def __iter__(self):
        return iter(self.texts)


def test_texts_are_read_again_only_where_a_pair_is_checked():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(3000)]
    texts = [" ".join(rng.choice(words, 40)) for _ in range(50)]
    texts += [f"{texts[7]} more"]
    given_texts = OnDisk(texts)
    folding = fold_duplicates(given_texts)
    assert folding.canonical[50] == 7
    assert folding.near == 1
    assert given_texts.read == 2


def test_many_copies_of_one_passage_are_each_compared_once():
    rng = np.random.default_rng(0)
    text = " ".join(rng.choice([f"w{i}" for i in range(3000)], 60))
    copies = [f"{text} number{i}" for i in range(400)]
    folding = fold_duplicates(copies)
    assert folding.canonical.tolist() == [0] * 400
    assert folding.compared == 399


def test_temporary_files_are_removed(tmp_path):
    fold_duplicates(["a b c d e f g", "a b c d e f g h"], work=tmp_path)
    assert list(tmp_path.iterdir()) == []
