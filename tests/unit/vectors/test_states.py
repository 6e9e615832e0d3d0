"""Stored states of passages: what is written is read, and what is merged is copied."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import ConfigError, DamagedArtifactError
from thresher.vectors.states import StateStore, StateWriter

WIDTH = 12


def drawn(seed, lengths):
    """Passages with windows of these lengths: word pieces and states."""
    random = np.random.default_rng(seed)
    return [
        [(random.integers(0, 9000, n).tolist(), random.standard_cauchy((n, WIDTH)).astype(np.float32)) for n in windows]
        for windows in lengths
    ]


def written(path, passages, model="m@1"):
    with StateWriter(path, model, WIDTH) as writer:
        for windows in passages:
            writer.add(windows)
    return StateStore.open(path)


@given(st.integers(0, 1000), st.lists(st.lists(st.integers(1, 9), max_size=3), max_size=5))
@settings(max_examples=25, deadline=None)
def test_states_are_read_within_half_a_step_and_the_largest_exactly(tmp_path_factory, seed, lengths):
    passages = drawn(seed, lengths)
    store = written(tmp_path_factory.mktemp("states") / "s", passages)
    assert len(store) == len(passages)
    for number, windows in enumerate(passages):
        assert (store.of(number) is None) == (not windows)
        for ids, states in windows:
            found = store.of(number).find(ids)
            rest = np.sort(np.abs(states), axis=1)[:, -2:-1]
            assert (np.abs(found - states) <= 0.501 * rest / 127 + 1e-20).all()
            assert np.array_equal(np.abs(found).max(1), np.abs(states).max(1))
            assert store.of(number).find([*ids, 1]) is None
    assert store.of(len(passages)) is None


@given(st.integers(0, 1000), st.lists(st.lists(st.integers(1, 5), max_size=2), min_size=1, max_size=6), st.data())
@settings(max_examples=25, deadline=None)
def test_copied_states_are_those_of_the_passages_that_were_chosen(tmp_path_factory, seed, lengths, data):
    folder, passages = tmp_path_factory.mktemp("states"), drawn(seed, lengths)
    store = written(folder / "one", passages)
    chosen = sorted(data.draw(st.sets(st.integers(0, len(passages) - 1))))
    with StateWriter(folder / "two", store.model, WIDTH) as writer:
        writer.copy(None, np.arange(2))
        writer.copy(store, np.array(chosen, np.int64))
        writer.copy(store, np.arange(len(passages)))
    made = StateStore.open(folder / "two")
    assert len(made) == 2 + len(chosen) + len(passages)
    assert made.of(0) is None and made.of(1) is None
    for place, number in enumerate([*chosen, *range(len(passages))], 2):
        for ids, _ in passages[number]:
            assert np.array_equal(made.of(place).find(ids), store.of(number).find(ids))


def test_states_of_another_model_are_not_merged(tmp_path):
    store = written(tmp_path / "one", drawn(0, [[3]]))
    with (
        pytest.raises(ConfigError, match=r"of m@1 and of m@2, and cannot be merged"),
        StateWriter(tmp_path / "two", "m@2", WIDTH) as writer,
    ):
        writer.copy(store, np.arange(1))
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("name", ["tokens.npy", "windows.npy"])
def test_places_that_divide_nothing_are_damage_and_name_the_file(tmp_path, name):
    written(tmp_path / "s", drawn(0, [[3, 2], [4]]))
    array = np.load(tmp_path / "s" / name)
    array[1] = 99
    np.save(tmp_path / "s" / name, array)
    with pytest.raises(DamagedArtifactError, match=name):
        StateStore.open(tmp_path / "s")
