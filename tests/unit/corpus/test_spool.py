"""The spool gives back what was put in, in any order, and knows which docnos two sequences share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.corpus import fingerprint_of
from thresher.corpus.spool import Spool, match_docnos
from thresher.errors import InputError
from thresher.records import Passage


def filled(directory, passages, **options):
    spool = Spool(directory)
    assert [p for chunk in spool.fill(iter(passages), **options) for p in chunk] == passages
    return spool


PASSAGES = [
    Passage("a", "one"),
    Passage("b", "zwei – 二", "Título", {"field": "x", "n": 3}),
    Passage("c", "", "title alone"),
    Passage("d", "x" * 70_000),
]


def test_passages_come_back_in_any_order_with_everything_they_had(tmp_path):
    spool = filled(tmp_path / "spool", PASSAGES)
    assert len(spool) == 4
    assert list(spool) == PASSAGES
    assert list(spool.rows(np.array([3, 1, 1]))) == [PASSAGES[3], PASSAGES[1], PASSAGES[1]]
    assert [len(chunk) for chunk in spool.rows().chunks(3)] == [3, 1]
    assert list(spool.texts) == [p.contents for p in PASSAGES]
    assert spool.texts[-1] == PASSAGES[3].contents
    assert spool.texts[1:3] == [p.contents for p in PASSAGES[1:3]]
    assert list(spool.docnos) == list("abcd")
    assert (spool.docnos[2], spool.docnos[:2]) == ("c", ["a", "b"])
    assert spool.fingerprint() == fingerprint_of(PASSAGES)
    assert list(spool.rows(np.zeros(0, np.int64))) == []


def test_a_reordered_copy_keeps_the_fingerprint_of_the_corpus(tmp_path):
    spool = filled(tmp_path / "spool", PASSAGES)
    copy = spool.reordered(np.array([2, 0, 3, 1]), tmp_path / "copy")
    assert [p.docno for p in copy] == list(copy.docnos) == ["c", "a", "d", "b"]
    assert copy.fingerprint() == spool.fingerprint()


def test_an_empty_corpus_is_an_empty_spool(tmp_path):
    spool = filled(tmp_path / "spool", [])
    assert len(spool) == 0
    assert list(spool) == list(spool.texts) == list(spool.docnos) == []


def test_passages_without_text_are_refused_unless_allowed(tmp_path):
    with pytest.raises(InputError, match="memory:1: passage 'a' has neither"):
        filled(tmp_path / "no", [Passage("a", "")])
    assert not filled(tmp_path / "yes", [Passage("a", "")], texts=False).has_text


@given(st.permutations(range(12)))
def test_docnos_are_matched_whatever_their_order(order):
    given_docnos = [f"d{i}" for i in range(12)]
    wanted = [given_docnos[i] for i in order]
    found = match_docnos(wanted, given_docnos, wanted_name="A", given_name="B")
    if wanted == given_docnos:
        assert found is None
    else:
        assert [given_docnos[i] for i in found] == wanted


def test_a_docno_that_only_one_has_is_named_with_where_it_is():
    with pytest.raises(InputError, match=r"A:2: docno 'x' \(and 1 more\) is not in B"):
        match_docnos(["a", "x", "y"], ["a", "b", "c"], wanted_name="A", given_name="B")
    with pytest.raises(InputError, match="B:2: docno 'b' is not in A"):
        match_docnos(["a"], ["a", "b"], wanted_name="A", given_name="B")
