"""Damaged columns give an error that names the file, or an answer of the right shape; never a crash."""

import json

import numpy as np
import pytest

from thresher.errors import DamagedArtifactError
from thresher.index.column_writer import ColumnWriter
from thresher.index.columns import Columns
from thresher.index.filters import Where
from thresher.records import Passage

SCHEMA = {"s": "string", "i": "integer", "f": "float", "d": "date", "b": "boolean", "l": "strings"}
FILTERS = [
    "s >= b", "s in (a, c, w1, w2, w3, w4, w5, w6, w7, w8, w9)", "s prefix w", "i > 3", "i in (1, 2, 3, 4, 5, 6, 7, 8)",
    "f <= 2.5", "d = 2024-05", "b = true", "l any (a, x)", "l all (a, b)", "exists l", "s != a",
]  # fmt: skip
JUNK = [None, "", "x", [], {}, True, 0.5, -1, 0, 2**31, 2**63, 10**30, float("nan")]
N = 60


def written(directory):
    writer = ColumnWriter(directory, SCHEMA)
    for n in range(N):
        fields = {"s": f"w{n}", "i": n * 100, "f": n / 4, "d": f"2024-05-{n % 28 + 1:02}", "b": n % 2 == 0}
        writer.add([Passage(f"D{n}", "x", metadata={**fields, "l": ["a", "b", "x"][: n % 4]} if n % 5 else {})])
    writer.close()
    return directory


def used(directory):
    """Everything that is asked of columns; whatever comes back has the right shape."""
    columns = Columns.open(directory, SCHEMA, N)
    for text in FILTERS:
        mask = columns.mask(Where.parse(text))
        assert mask.dtype == bool
        assert mask.shape == (N,)
    for field in SCHEMA:
        assert all(count > 0 for count in columns.counts(field, np.ones(N, bool)).values())


def test_flipped_bytes_are_an_error_of_thresher_or_an_answer(tmp_path):
    directory = written(tmp_path / "fields")
    used(directory)
    rng = np.random.default_rng(5)
    refused = 0
    files = sorted(directory.iterdir())
    for case in range(130):
        file = files[case % len(files)]
        content = file.read_bytes()
        hurt = bytearray(content)
        for _ in range(rng.integers(1, 5)):
            hurt[rng.integers(len(hurt))] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
        file.write_bytes(bytes(hurt))
        try:
            used(directory)
        except DamagedArtifactError as err:
            refused += 1
            assert err.file.startswith(str(directory))
        file.write_bytes(content)
    assert refused > 15
    used(directory)


def test_every_hostile_value_in_the_list_of_columns_is_refused_or_harmless(tmp_path):
    directory = written(tmp_path / "fields")
    file = directory / "columns.json"
    document = json.loads(file.read_bytes())
    for number, entry in enumerate(document["columns"]):
        for key in entry:
            for junk in JUNK:
                changed = json.loads(json.dumps(document))
                changed["columns"][number][key] = junk
                file.write_text(json.dumps(changed))
                try:
                    used(directory)
                except DamagedArtifactError as err:
                    assert err.file.startswith(str(directory))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"columns": 3, "passages": 60}', b"\xff", b"[" * 100_000])
def test_a_list_of_columns_that_is_none_is_refused(content, tmp_path):
    directory = written(tmp_path / "fields")
    (directory / "columns.json").write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=r"columns\.json"):
        Columns.open(directory, SCHEMA, N)


def test_a_missing_and_a_truncated_file_are_named(tmp_path):
    directory = written(tmp_path / "fields")
    for file in sorted(directory.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[:-2])
        with pytest.raises(DamagedArtifactError):
            used(directory)
        file.unlink()
        with pytest.raises(DamagedArtifactError, match=file.name.split(".")[0]):
            used(directory)
        file.write_bytes(content)


def test_columns_of_another_number_of_passages_are_refused(tmp_path):
    directory = written(tmp_path / "fields")
    with pytest.raises(DamagedArtifactError, match="60 passages, not 61"):
        Columns.open(directory, SCHEMA, N + 1)
