"""Whatever bytes a file holds, reading it ends in a value or in an error of thresher's own."""

import contextlib
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import InputError
from thresher.evaluate import read_qrels, read_queries, read_run

WORD = st.sampled_from(
    [b"1", b"Q0", b"d1", b"d2", b"2.5", b"nan", b"\xff", b"-1", b"s", b"", b"\xef\xbb\xbf", b"1e999", b"\x00"]
)
LINE = st.builds(
    lambda words, blank, end: blank.join(words) + end,
    st.lists(WORD, max_size=7),
    st.sampled_from([b" ", b"\t", b"\x0b"]),
    st.sampled_from([b"\n", b"\r\n", b""]),
)
ROWS = gzip.compress(b"".join(b"1 Q0 d%d %d %d.25 s\n" % (n, n + 1, 900 - n) for n in range(900)))


@pytest.mark.parametrize("read", [read_run, read_qrels, read_queries])
@given(data=st.one_of(st.binary(), st.lists(LINE).map(b"".join), st.binary().map(lambda tail: b"\x1f\x8b" + tail)))
def test_any_bytes_are_read_or_refused(tmp_path, read, data):
    (tmp_path / "file").write_bytes(data)
    with contextlib.suppress(InputError):
        read(tmp_path / "file")


@given(at=st.integers(0, len(ROWS) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_gzip_file_is_noticed_or_harmless(tmp_path, at, bit):
    damaged = bytearray(ROWS)
    damaged[at] ^= 1 << bit
    (tmp_path / "file").write_bytes(bytes(damaged))
    try:
        run = read_run(tmp_path / "file")
    except InputError:
        return
    assert len(run.rankings["1"]) == 900  # the header holds fields that say nothing of the content
