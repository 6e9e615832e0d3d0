"""Docno files of published caches, against the package that defines them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import DamagedArtifactError, InputError
from thresher.quality.qt5cache import read_npids, write_npids

DOCNO = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12)


@given(st.lists(DOCNO, unique=True, max_size=40))
def test_docnos_come_back_in_order(tmp_path, docnos):
    write_npids(docnos, tmp_path / "x.npids")
    assert read_npids(tmp_path / "x.npids") == docnos


@pytest.mark.parametrize(
    "docnos",
    [
        ["d7"],
        [f"d{i}" for i in range(1000)],
        [f"MED-{i * 7}" for i in range(600)],
        [f"{i:06d}" for i in range(300)],
        [f"msmarco_passage_{i % 3}_{i * 31}" for i in range(700)],
        [f"{i * 1234567:016x}" for i in range(300)],
        [f"00000000-0000-4000-8000-{i:012d}" for i in range(300)],
        ["äöü", "日本", "a"],
        [*(f"d{i}" for i in range(300)), *(f"{i * 77:032x}" for i in range(300)), *(f"doc {i}" for i in range(300))],
    ],
)
def test_the_reference_package_reads_ours_and_we_read_its(tmp_path, docnos):
    npids = pytest.importorskip("npids", reason="the npids package is not installed")
    write_npids(docnos, tmp_path / "ours.npids")
    ours = npids.Lookup(tmp_path / "ours.npids")
    assert list(ours.fwd) == docnos
    assert ours.inv.lookup(docnos) == list(range(len(docnos)))
    if len(docnos) == 1:
        return  # the package cannot build a lookup of one docno
    npids.Lookup.build(docnos, tmp_path / "theirs.npids")
    assert read_npids(tmp_path / "theirs.npids") == docnos


def test_a_damaged_file_is_refused_by_name(tmp_path):
    file = tmp_path / "x.npids"
    write_npids(["a", "b"], file)
    data = file.read_bytes()
    for damaged in (b"", data[:10], data[: len(data) // 2], data.replace(b"fixedbytes", b"flexybytes")):
        file.write_bytes(damaged)
        with pytest.raises(DamagedArtifactError, match=r"x\.npids"):
            read_npids(file)


def test_a_docno_the_format_cannot_carry_is_refused(tmp_path):
    with pytest.raises(InputError, match="NUL"):
        write_npids(["a\0b"], tmp_path / "x.npids")
