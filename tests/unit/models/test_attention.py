# ruff: noqa: E402
"""Attention in bfloat16: near what is computed in float64, and each text from itself alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the models extra")

from thresher.models.attention import Mixer, Product, groups
from thresher.models.backend import Joined
from thresher.models.kernels import Rows, Weights, quantise

pytestmark = pytest.mark.models

HEADS, WIDTH = 2, 8
HIDDEN = HEADS * WIDTH
LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=5)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows_of(n):
    return Rows(np.zeros((n, HIDDEN), np.int8), np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int32))


def numbers(rows):
    found = rows.numbers * rows.scales[:, None]
    found[np.arange(len(found)), rows.places] = rows.largest
    return found


def product_of(tokens, seed, size):
    """The product of random tokens and the numbers it stands for, float64[tokens, 3 * hidden]."""
    random = np.random.default_rng(seed)
    rows = rows_of(tokens)
    quantise(random.normal(size=(tokens, HIDDEN)).astype(np.float32), rows, 0)
    columns = random.integers(-127, 128, (HIDDEN, 3 * HIDDEN)).astype(np.int8)
    scales = (random.random(3 * HIDDEN) * size / 500).astype(np.float32)
    bias = random.normal(size=3 * HIDDEN).astype(np.float32)
    sums = rows.numbers.astype(np.int32) @ columns.astype(np.int32)
    return Product(sums, rows, Weights(columns, scales, bias)), numbers(rows) @ (columns * scales.astype(float)) + bias


def short(x):
    return torch.from_numpy(x).bfloat16().double().numpy()


def mixed(inner, gates, query):
    """Attention of one text in float64, from numbers and logits that are rounded as the engine's are."""
    q, k, v = (short(part.reshape(len(part), HEADS, WIDTH).swapaxes(0, 1)) for part in np.split(inner, 3, 1))
    logits = short(q @ k.swapaxes(1, 2)) / WIDTH**0.5
    logits[:, :query, query:] += gates[0][:, None, None]
    logits[:, query:, :query] += gates[1][:, None, None]
    weights = np.exp(logits - logits.max(2, keepdims=True))
    return (weights / weights.sum(2, keepdims=True) @ v).swapaxes(0, 1).reshape(len(inner), HIDDEN)


def joined_of(lengths, seed):
    random = np.random.default_rng(seed)
    queries = [int(random.integers(1, length)) for length in lengths]
    return Joined(torch.from_numpy(random.normal(size=(3, 2, HEADS)).astype(np.float32) * 3), queries)


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.integers(0, 1000), st.sampled_from([0.01, 1.0, 8.0]), st.booleans())
def test_attention_is_near_that_of_float64(lengths, seed, size, pairs):
    product, inner = product_of(sum(lengths), seed, size)
    joined = joined_of(lengths, seed) if pairs else None
    into = rows_of(sum(lengths))
    Mixer(lengths, HEADS, HIDDEN, joined)(product, 1, into)
    gates, queries = (joined.gates[1].numpy(), joined.queries) if joined else (np.zeros((2, HEADS)), [0] * len(lengths))
    ends = np.cumsum(lengths)
    wanted = np.concatenate([mixed(inner[e - n : e], gates, q) for e, n, q in zip(ends, lengths, queries, strict=True)])
    values = np.abs(inner[:, 2 * HIDDEN :]).max()
    # logits that rounding turns to the next bfloat16 differ by a part in 128, of at most about 10 in these data
    assert np.abs(numbers(into) - wanted).max() <= values * (0.02 if size <= 1 else 0.2) + into.scales.max()


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.integers(0, 1000), st.booleans())
def test_a_text_is_mixed_as_it_is_alone(lengths, seed, pairs):
    product, _ = product_of(sum(lengths), seed, 1.0)
    joined = joined_of(lengths, seed) if pairs else None
    together = rows_of(sum(lengths))
    Mixer(lengths, HEADS, HIDDEN, joined)(product, 0, together)
    low = 0
    for text, length in enumerate(lengths):
        part = slice(low, low + length)
        own = Product(product.sums[part], Rows(*(array[part] for array in product.rows)), product.weights)
        into = rows_of(length)
        Mixer([length], HEADS, HIDDEN, joined and Joined(joined.gates, [joined.queries[text]]))(own, 0, into)
        assert all(np.array_equal(one, other[part]) for one, other in zip(into, together, strict=True))
        low += length


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_groups_hold_every_text_in_order_and_are_rounded_up(lengths):
    found = groups(lengths, 12, 32)
    own = [int(n) for group in found for n in np.diff(group.bounds)]
    assert own == lengths
    for group in found:
        size = group.weights.shape[-1]
        assert size % 8 == 0
        assert all(size - 8 < n <= size for n in np.diff(group.bounds))
        assert len(group.bounds) == 2 or group.weights.size <= 2**18


def test_weights_are_the_softmax_of_huge_and_tiny_logits():
    """Rows of logits of +-1e4, of 0, and of one text behind the other's end are still shares of 1."""
    product, inner = product_of(9, 0, 1e3)
    into = rows_of(9)
    Mixer([9], HEADS, HIDDEN, None)(product, 0, into)
    found = numbers(into)
    low, high = inner[:, 2 * HIDDEN :].min(0), inner[:, 2 * HIDDEN :].max(0)
    room = 0.01 * np.abs(inner).max()
    assert np.isfinite(found).all()
    assert ((low - room <= found) & (found <= high + room)).all()
