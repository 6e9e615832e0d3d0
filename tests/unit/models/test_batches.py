"""How texts are cut into batches."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from thresher.models.batches import batches


@given(st.lists(st.integers(0, 400), max_size=60), st.integers(1, 9), st.booleans())
def test_every_text_is_in_one_batch_and_batches_are_alike(lengths, size, alike):
    found = batches(lengths, size, alike=alike)
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert 0 < len(batch) <= size
        longest = lengths[batch[0]]
        assert all(lengths[place] <= longest for place in batch)
        assert not alike or all(lengths[place] >= 0.9 * longest for place in batch)
    longest_first = [max(lengths[place] for place in batch) for batch in found]
    assert longest_first == sorted(longest_first, reverse=True)
    if not alike:
        assert len(found) == -(-len(lengths) // size)


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 200), st.booleans())
def test_a_batch_padded_to_its_longest_has_so_many_tokens_or_one_text(lengths, tokens, alike):
    found = batches(lengths, tokens=tokens, alike=alike)
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch, after in pairwise([*found, []]):
        longest = lengths[batch[0]]
        assert len(batch) == 1 or len(batch) * longest <= tokens
        if after and (len(batch) + 1) * longest <= tokens:
            assert alike
            assert lengths[after[0]] < 0.9 * longest
