"""Reading and writing files: what is decompressed, what is stripped, and what a failed write leaves."""

import gzip
import os
import threading

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from thresher import files
from thresher.errors import DamagedArtifactError, DataNotFoundError, InputError

ROWS = b"\xef\xbb\xbffirst\r\n\r\nthird \xc3\xa9\nlast"
LINES = [(1, b"first"), (2, b""), (3, b"third \xc3\xa9"), (4, b"last")]


def long_window(data: bytes) -> bytes:
    """As `zstd --long=28` reading a pipe writes: readers refuse it unless they allow such windows."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(data) + packer.flush()


PACKERS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "zstd": zstandard.compress,
    "zstd frames": lambda data: zstandard.compress(data[:9]) + zstandard.compress(data[9:]),
    "zstd long": long_window,
}


@pytest.mark.parametrize("packer", PACKERS)
def test_lines_are_the_same_however_the_file_is_compressed_and_named(tmp_path, packer):
    path = tmp_path / "x"
    path.write_bytes(PACKERS[packer](ROWS))
    assert list(files.read_lines(path)) == LINES
    assert list(files.read_text_lines(path)) == [(n, line.decode()) for n, line in LINES]
    assert files.read_content(path) == ROWS[3:]


@given(st.binary(max_size=300), st.sampled_from(sorted(PACKERS)))
@example(b"\xef\xbb\xbf", "plain")
@example(b"\xef\xbb\xbf\n", "gzip")
def test_any_content_comes_back(tmp_path_factory, data, packer):
    path = tmp_path_factory.mktemp("any") / "x"
    if data[:2] == b"\x1f\x8b" or data[:4] == b"\x28\xb5\x2f\xfd":
        return
    path.write_bytes(PACKERS[packer](data))
    plain = data.removeprefix(files.BOM)
    assert files.read_content(path) == plain
    lines = plain.split(b"\n")
    wanted = [line.rstrip(b"\r") for line in (lines if lines[-1] else lines[:-1])]
    assert list(files.read_lines(path)) == list(enumerate(wanted, 1))


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_a_file_cut_short_is_an_error_with_its_name(tmp_path, packer):
    path = tmp_path / "rows"
    path.write_bytes(PACKERS[packer](b"".join(b"%d %d\n" % (n, n * n) for n in range(5000)))[:-20])
    with pytest.raises(InputError, match=r"rows.*cut short"):
        list(files.read_lines(path))


@pytest.mark.parametrize("name", ["x.gz", "x.zst"])
def test_a_compressed_name_with_plain_content_is_an_error_and_an_empty_one_has_no_lines(tmp_path, name):
    (tmp_path / name).write_bytes(b"plain")
    with pytest.raises(InputError, match="decompressed"):
        list(files.read_lines(tmp_path / name))
    (tmp_path / name).write_bytes(b"")
    assert list(files.read_lines(tmp_path / name)) == []


def test_a_missing_file_and_a_directory_are_told_apart(tmp_path):
    with pytest.raises(DataNotFoundError, match="none"):
        list(files.read_lines(tmp_path / "none"))
    with pytest.raises(InputError, match="directory"):
        list(files.read_lines(tmp_path))


def test_text_that_is_not_utf_8_is_an_error_with_its_line(tmp_path):
    (tmp_path / "x").write_bytes(b"good\nb\xffd\n")
    with pytest.raises(InputError, match=r"x:2.*byte 1"):
        list(files.read_text_lines(tmp_path / "x"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_read_like_a_file(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(gzip.compress(ROWS)))
    writer.start()
    assert list(files.read_lines(path)) == LINES
    writer.join()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "x.gz"
    files.write_atomic(path, "one")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as stream:
        stream.write(b"two")
        _ = 1 / 0
    assert gzip.decompress(path.read_bytes()) == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_the_same_content_is_compressed_to_the_same_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        files.write_atomic(tmp_path / name, "rows")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=8), max_size=8))
def test_names_come_back_as_they_were_written(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("names") / "docnos.txt"
    files.write_names(path, names)
    assert files.read_names(path) == names


def test_names_cut_short_or_missing_are_damage(tmp_path):
    (tmp_path / "cut").write_bytes(b"one\ntw")
    (tmp_path / "bytes").write_bytes(b"\xff\n")
    for name in ("cut", "bytes", "none"):
        with pytest.raises(DamagedArtifactError, match=name):
            files.read_names(tmp_path / name)


def test_the_cache_folder_is_named_by_the_environment_or_is_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "own"))
    assert files.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("THRESHER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "thresher"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert files.cache_folder() == tmp_path / "home" / ".cache" / "thresher"
