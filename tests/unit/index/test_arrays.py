"""Strings come back as they were written, wherever groups end, and damage is an error that names the file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import DamagedArtifactError
from thresher.index.arrays import GROUP, PackedStore, PackedWriter, StringStore, StringWriter

KINDS = [(StringWriter, StringStore), (PackedWriter, PackedStore)]
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(["", "doc-000017", "doc-000018", "doc-0001", "é" * 200, "x" * 300, "x" * 70_000]),
)


def written(folder, kind, strings, part=5):
    writer = kind[0](folder, "s")
    for first in range(0, len(strings), part):
        writer.extend(string.encode() for string in strings[first : first + part])
    writer.close()
    return kind[1](folder, "s", len(strings))


@pytest.mark.parametrize("kind", KINDS)
@given(strings=st.lists(texts, max_size=3 * GROUP + 2), part=st.integers(1, 40), data=st.data())
def test_strings_come_back(tmp_path_factory, kind, strings, part, data):
    store = written(tmp_path_factory.mktemp("s"), kind, strings, part)
    assert [store[i] for i in range(len(store))] == strings
    some = sorted(data.draw(st.sets(st.sampled_from(range(len(strings))) if strings else st.nothing())))
    assert store.several(np.array(some, np.int64)) == [strings[i].encode() for i in some]


def test_numbered_docnos_take_less_than_half_of_plain_ones(tmp_path):
    strings = [f"doc-{i:07d}" for i in range(1000)]
    for name, kind in (("plain", KINDS[0]), ("packed", KINDS[1])):
        (tmp_path / name).mkdir()
        written(tmp_path / name, kind, strings)
    plain, packed = (sum(f.stat().st_size for f in (tmp_path / name).iterdir()) for name in ("plain", "packed"))
    assert packed * 2 < plain


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_an_error_or_another_string(tmp_path, kind):
    rng = np.random.default_rng(3)
    strings = [f"doc-{i}" * int(rng.integers(1, 60)) for i in range(100)]
    written(tmp_path, kind, strings)
    errors = 0
    for name in ("s.bytes", "s.offsets"):
        file = tmp_path / name
        whole = file.read_bytes()
        for _ in range(150):
            hurt = bytearray(whole)
            hurt[rng.integers(len(hurt))] ^= 1 << int(rng.integers(8))
            file.write_bytes(hurt)
            store = kind[1](tmp_path, "s", len(strings))
            for i in range(len(strings)):
                try:
                    assert isinstance(store[i], str)
                except DamagedArtifactError as err:
                    assert "s.bytes" in str(err) or "s.offsets" in str(err)
                    errors += 1
            try:
                assert all(isinstance(string, bytes) for string in store.several(np.arange(len(strings))))
            except DamagedArtifactError as err:
                assert "s.bytes" in str(err) or "s.offsets" in str(err)
        file.write_bytes(whole[:-1])
        with pytest.raises(DamagedArtifactError):
            [kind[1](tmp_path, "s", len(strings))[i] for i in range(len(strings))]
        file.write_bytes(whole)
    assert errors > 10
