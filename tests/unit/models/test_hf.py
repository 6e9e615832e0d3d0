"""Batches of texts, and torch with one thread per text."""

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.models.hf import batches, single_threaded


@given(st.lists(st.integers(0, 400), max_size=60), st.integers(1, 9), st.booleans())
def test_every_text_is_in_one_batch_and_batches_are_alike(lengths, size, similar):
    found = batches(lengths, size, similar=similar)
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert 0 < len(batch) <= size
        longest = lengths[batch[0]]
        assert all(lengths[place] <= longest for place in batch)
        assert not similar or all(lengths[place] >= 0.9 * longest for place in batch)
    longest_first = [max(lengths[place] for place in batch) for batch in found]
    assert longest_first == sorted(longest_first, reverse=True)
    if not similar:
        assert len(found) == -(-len(lengths) // size)


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 200), st.booleans())
def test_a_batch_padded_to_its_longest_has_so_many_tokens_or_one_text(lengths, tokens, similar):
    found = batches(lengths, tokens=tokens, similar=similar)
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch, after in pairwise([*found, []]):
        longest = lengths[batch[0]]
        assert len(batch) == 1 or len(batch) * longest <= tokens
        if after and (len(batch) + 1) * longest <= tokens:
            assert similar
            assert lengths[after[0]] < 0.9 * longest


@pytest.mark.models
def test_single_threaded_work_leaves_every_other_thread_its_number():
    torch = pytest.importorskip("torch", reason="the models extra is not installed")
    before = torch.get_num_threads()
    seen = []

    def callers():
        seen.append((single_threaded.map(lambda i: (i, torch.get_num_threads()), range(8), 3), torch.get_num_threads()))

    torch.set_num_threads(2)
    try:
        started = [threading.Thread(target=callers) for _ in range(4)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        assert torch.get_num_threads() == 2
        for results, after in seen:
            assert results == [(i, 1) for i in range(8)]
            assert after == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.models
def test_single_threaded_work_raises_what_its_function_raised():
    pytest.importorskip("torch", reason="the models extra is not installed")
    with pytest.raises(ZeroDivisionError):
        single_threaded.map(lambda i: 1 // i, [1, 0, 2])
    assert single_threaded.map(lambda i: i, []) == []


@pytest.mark.models
def test_single_threaded_work_can_be_nested():
    pytest.importorskip("torch", reason="the models extra is not installed")
    squares = single_threaded.map(lambda i: single_threaded.map(lambda j: i * j, [1, 2]), [1, 2, 3, 4], 2)
    assert squares == [[i, 2 * i] for i in (1, 2, 3, 4)]
