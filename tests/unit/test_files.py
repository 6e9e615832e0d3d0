"""Reading and writing files: what is decompressed, what is stripped, and what a failed write leaves."""

import errno
import gzip
import os
import stat
import threading
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from thresher import durable, files
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


OTHERS = (b"\xfd7zXZ", b"PK\x03\x04", b"\x1f\x9d", b"7z\xbc\xaf", b"\x04\x22\x4d\x18")
"""Starts of files that are compressed in other ways; Hypothesis draws them, for they stand in the source."""


@given(st.binary(max_size=300), st.sampled_from(sorted(PACKERS)))
@example(b"\xef\xbb\xbf", "plain")
@example(b"\xef\xbb\xbf\n", "gzip")
@example(b"\xfe\xff", "gzip")
@example(b"7z\xbc\xaf", "plain")
@example(b"7z\xbc\xaf", "zstd")
def test_any_content_comes_back(tmp_path_factory, data, packer):
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(PACKERS[packer](data))
    if packer == "plain" and data.startswith(OTHERS):
        with pytest.raises(InputError, match="compressed with"):
            files.read_content(path)
        return
    if packer == "plain" and data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return  # taken for a compressed file, which it may even be
    plain = data.removeprefix(files.BOM)
    assert files.read_content(path) == plain
    lines = plain.split(b"\n")
    wanted = [line.rstrip(b"\r") for line in (lines if lines[-1] else lines[:-1])]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        with pytest.raises(InputError, match="UTF-16"):
            list(files.read_lines(path))
        return
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
    durable.write_atomic(path, "one")
    with pytest.raises(ZeroDivisionError), durable.replacing(path) as stream:
        stream.write(b"two")
        _ = 1 / 0
    assert gzip.decompress(path.read_bytes()) == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_the_same_content_is_compressed_to_the_same_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        durable.write_atomic(tmp_path / name, "rows")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=8), max_size=8))
def test_names_come_back_as_they_were_written(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("names") / "docnos.txt"
    durable.write_names(path, names)
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


PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@PIPES
@pytest.mark.parametrize("leads", ["itself", "through a link"])
@pytest.mark.parametrize("content", [b"two rows\n", b""])
def test_a_pipe_is_written_through_and_stays(tmp_path, leads, content):
    pipe, path = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    path.symlink_to("pipe")
    path = pipe if leads == "itself" else path
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    durable.write_atomic(path, content)
    reader.join()
    assert got == [content]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe"]


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_a_descriptor_of_this_process_is_written_where_it_stands(tmp_path, name):
    """As `--run /dev/stdout >> log` does: what the shell opened is appended to, not replaced."""
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    with log.open("ab") as stream:
        path = tmp_path / "link"
        path.symlink_to(f"/proc/self/fd/{stream.fileno()}")
        if not Path("/proc/self/fd").is_dir():
            pytest.skip("needs /proc")
        durable.write_atomic(path if name == "link" else name.format(stream.fileno()), "between\n")
        stream.write(b"after\n")
    assert log.read_bytes() == b"before\nbetween\nafter\n"
    assert path.is_symlink()


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, depth, old):
    (tmp_path / "real").mkdir()
    if old is not None:
        (tmp_path / "real" / "file").write_bytes(old)
    (tmp_path / "l1").symlink_to("real/file")
    (tmp_path / "l2").symlink_to("l1")
    durable.write_atomic(tmp_path / f"l{depth}", "new")
    assert (tmp_path / "real" / "file").read_bytes() == b"new"
    assert (tmp_path / "l1").is_symlink()
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_permissions_and_owner_stay(tmp_path, mode):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    if os.geteuid() == 0:
        os.chown(path, 54321, 54322)
    path.chmod(mode)
    durable.write_atomic(path, "new")
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == mode
    assert path.read_bytes() == b"new"
    if os.geteuid() == 0:
        assert (found.st_uid, found.st_gid) == (54321, 54322)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY, errno.EXDEV])
def test_a_file_that_cannot_be_renamed_over_is_overwritten(tmp_path, monkeypatch, code):
    path = tmp_path / "x"
    path.write_bytes(b"a longer old content")

    def refuse(*names):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "replace", refuse)
    durable.write_atomic(path, "new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_while_flushing_leaves_the_old_file(tmp_path, monkeypatch, code):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=f"{os.strerror(code)}.*x"):
        durable.write_atomic(path, "new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_flush_is_written_to(tmp_path, monkeypatch, code):
    def refuse(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    durable.write_atomic(tmp_path / "x", "new")
    durable.sync_path(tmp_path)
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_folder_that_cannot_be_opened_is_not_flushed(tmp_path, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(errno.EACCES, "as on Windows", str(path))

    monkeypatch.setattr(os, "open", refuse)
    durable.sync_path(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(tmp_path, monkeypatch, code):
    with (tmp_path / "x").open("wb") as mine, (tmp_path / "x").open("wb") as other:
        assert durable.lock(mine.fileno())
        with pytest.raises(BlockingIOError):
            durable.lock(other.fileno())

        def refuse(descriptor, operation):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(durable.fcntl, "flock", refuse)
        assert not durable.lock(other.fileno())


def test_a_name_that_no_file_can_have_is_an_error(tmp_path):
    for call in (files.read_content, lambda path: durable.write_atomic(path, "x")):
        with pytest.raises(InputError, match="cannot be the name of a file"):
            call(f"{tmp_path}/a\0b")
    with pytest.raises(IsADirectoryError):
        durable.write_atomic(tmp_path, "x")


@pytest.mark.parametrize(
    ("variables", "home", "folder"),
    [
        ({"THRESHER_CACHE": "there"}, "/h", "there"),
        ({"XDG_CACHE_HOME": "/x"}, "/h", "/x/thresher"),
        ({"XDG_CACHE_HOME": "relative"}, "/h", "/h/.cache/thresher"),
        ({"XDG_CACHE_HOME": ""}, "/h", "/h/.cache/thresher"),
        ({}, "/h", "/h/.cache/thresher"),
        ({}, "", None),
        ({}, RuntimeError, None),
        ({}, KeyError, None),
    ],
)
def test_the_cache_folder_is_one_of_the_users_or_none(monkeypatch, variables, home, folder):
    for name in ("THRESHER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def find():
        if isinstance(home, str):
            return Path(home)
        raise home("no home")

    monkeypatch.setattr(Path, "home", find)
    assert files.cache_folder() == (None if folder is None else Path(folder))


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_what_the_machine_refuses_is_not_called_damage(tmp_path, monkeypatch, code):
    (tmp_path / "x").write_text("{}\n")

    def refuse(*arguments, **options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for call in (files.read_json, files.read_names):
        with pytest.raises(OSError, match=os.strerror(code)):
            call(tmp_path / "x")
