import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from thresher.errors import DataNotFoundError, InputError
from thresher.evaluate import read_qrels, read_queries, read_run, untied, write_qrels, write_run
from thresher.ranking import Ranking, Run
from thresher.records import Qrels, Query


def run_of(*rows, qid="1", tag="t"):
    return Run({qid: Ranking.from_pairs(rows)}, tag)


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_run_is_ordered_as_trec_eval_orders_it(tmp_path):
    path = write(tmp_path / "r", "1 Q0 a 1 2.0 s\n1 Q0 b 2 2.0 s\n1 Q0 10 3 2.00000001 s\n1 Q0 c 4 9 s\n2 Q0 a 1 1 s\n")
    run = read_run(path)
    assert [row.docno for row in run.rankings["1"]] == ["c", "b", "a", "10"]
    assert list(run.rankings) == ["1", "2"]
    assert run.tag == "s"


def test_rows_may_stay_as_listed(tmp_path):
    path = write(tmp_path / "r", "1 Q0 a 1 2.0 s\n1 Q0 c 2 1.0 s\n1 Q0 b 3 2.0 s\n")
    assert [row.docno for row in read_run(path, as_listed=True).rankings["1"]] == ["a", "c", "b"]


@pytest.mark.parametrize("packed", [False, True])
def test_crlf_gzip_byte_order_marks_and_blank_lines_are_transparent(tmp_path, packed):
    data = b"\xef\xbb\xbf1 Q0 a 1 2.5 s\r\n\r\n1\tQ0\tb\t2\t1.5\ts\r\n"
    path = write(tmp_path / "r", gzip.compress(data) if packed else data)
    assert read_run(path).rankings == {"1": Ranking.from_pairs([("a", 2.5), ("b", 1.5)])}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("1 Q0 a 1 2.0 s\n1 Q0 b 2 1.0\n", 2, "5 columns where a run has 6"),
        ("1 Q0 a 1 high s\n", 1, "'high' is not a number"),
        ("1 Q0 a 1 1_000 s\n", 1, "'1_000' is not a number"),
        ("1 Q0 a 1 nan s\n", 1, "'nan' is not finite"),
        ("1 Q0 a 1 -inf s\n", 1, "'-inf' is not finite"),
        ("1 Q0 a 1 2 s\n2 Q0 a 1 2 s\n\n1 Q0 a 2 1 s\n", 4, "'a' comes twice for topic '1', on line 1 and here"),
        (b"1 Q0 a 1 2 s\n1 Q0 b\xff 2 1 s\n", 2, "not UTF-8"),
    ],
)
def test_a_fault_in_a_run_is_named_by_file_and_line(tmp_path, text, line, says):
    path = write(tmp_path / "r.run", text)
    with pytest.raises(InputError, match=says) as caught:
        read_run(path)
    assert (caught.value.source, caught.value.line) == (str(path), line)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("1 0 a\n", 1, "3 columns where qrels have 4"),
        ("1 0 a 1\n1 0 b yes\n", 2, "grade 'yes', which is not a whole number"),
        ("1 0 a 1\n1 0 b 1\n1 0 a 1\n", 3, "'a' comes twice for topic '1', on line 1 and here"),
        ("1 0 a 1_0\n", 1, "'1_0'"),
        ("query-id\tcorpus-id\tscore\n1\ta\t1\n1\ta\t1\n", 3, "on line 2 and here"),
    ],
)
def test_a_fault_in_qrels_is_named_by_file_and_line(tmp_path, text, line, says):
    path = write(tmp_path / "q", text)
    with pytest.raises(InputError, match=says) as caught:
        read_qrels(path)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("1 what is it\n", 1, "has no tab"),
        ("1\tone\n1\ttwo\n", 2, "repeats the qid '1' of line 1"),
        ("1\t  \n", 1, "asks nothing"),
        ("a b\tone\n", 1, "holds white space"),
        ("\tone\n", 1, "is empty or"),
    ],
)
def test_a_fault_in_queries_is_named_by_file_and_line(tmp_path, text, line, says):
    with pytest.raises(InputError, match=says) as caught:
        read_queries(write(tmp_path / "q", text))
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ('{"_id": "2"}', "no field text or query or contents"),
        ('{"text": "b"}', "no field qid or query_id or _id or id"),
        ('{"_id": true, "text": "b"}', "no field qid"),
        ('{"_id": "2", "text": ["b"]}', "no field text"),
        ('{"_id": "2", "text": " "}', "asks nothing"),
        ('{"_id": "1", "text": "b"}', "repeats the qid '1' of line 1"),
        ('{"_id": "2", "text": "\\ud800"}', "half of a surrogate pair"),
        ('{"_id": "2"', "not a JSON object"),
        ("[]", "not a JSON object"),
        ("2\tb", "not a JSON object"),
    ],
)
def test_queries_in_json_lines_and_their_faults(tmp_path, second, says):
    first = '{"_id": "1", "metadata": {}, "text": " what\\tis it "}'
    found = read_queries(write(tmp_path / "q", first + '\n\n{"qid": 7, "contents": "café"}\n'))
    assert found == (Query("1", "what\tis it"), Query("7", "café"))
    with pytest.raises(InputError, match=says) as caught:
        read_queries(write(tmp_path / "r", first + "\n" + second + "\n"))
    assert caught.value.line == 2


def test_queries_keep_order_and_inner_tabs(tmp_path):
    path = write(tmp_path / "q", "2\twhat is\tit? \r\n1\tcafé\r\n")
    assert read_queries(path) == (Query("2", "what is\tit?"), Query("1", "café"))


def test_qrels_may_be_negative_and_may_be_beirs(tmp_path):
    assert read_qrels(write(tmp_path / "a", "1 0 a -2\n1 0 b 3\n")).judgments == {"1": {"a": -2, "b": 3}}
    assert read_qrels(write(tmp_path / "b", "query-id\tcorpus-id\tscore\n1\ta\t2\n")).judgments == {"1": {"a": 2}}


def test_a_missing_a_truncated_and_a_wrong_file_are_told_apart(tmp_path):
    with pytest.raises(DataNotFoundError, match="no such file"):
        read_run(tmp_path / "none")
    with pytest.raises(InputError, match="directory"):
        read_run(tmp_path)
    rows = b"".join(b"1 Q0 d%d 1 %d.5 s\n" % (n, n) for n in range(3000))
    with pytest.raises(InputError, match="cut short"):
        read_run(write(tmp_path / "t.gz", gzip.compress(rows)[:-300]))


def test_written_scores_decrease_strictly_in_single_precision(tmp_path):
    rows = [("a", 16777217.0), ("b", 16777216.0), ("c", 16777216.0), ("d", 0.0), ("e", 0.0), ("f", 0.0), ("g", -1.0)]
    write_run(run_of(*rows), tmp_path / "r.gz")
    lines = [line.split() for line in gzip.decompress((tmp_path / "r.gz").read_bytes()).decode().splitlines()]
    assert [line[2] for line in lines] == list("abcdefg")
    assert [line[3] for line in lines] == list("1234567")
    scores = np.array([line[4] for line in lines], dtype=np.float64).astype(np.float32)
    assert (scores[1:] < scores[:-1]).all()
    assert [row.docno for row in read_run(tmp_path / "r.gz").rankings["1"]] == list("abcdefg")


def test_distinct_scores_are_written_as_they_are(tmp_path):
    write_run(run_of(("a", 9.5986), ("b", 0.1), tag="bm25"), tmp_path / "r")
    assert (tmp_path / "r").read_text() == "1 Q0 a 1 9.5986 bm25\n1 Q0 b 2 0.1 bm25\n"


def test_ties_may_be_kept(tmp_path):
    write_run(run_of(("a", 1.0), ("b", 1.0)), tmp_path / "r", keep_ties=True)
    assert (tmp_path / "r").read_text() == "1 Q0 a 1 1.0 t\n1 Q0 b 2 1.0 t\n"
    assert [row.docno for row in read_run(tmp_path / "r").rankings["1"]] == ["b", "a"]


@pytest.mark.parametrize("keep_ties", [False, True])
@pytest.mark.parametrize(
    ("run", "says"),
    [
        (run_of(("a", 1.0), ("b", 2.0)), "'b' at rank 2 scores 2.0, more than 1.0"),
        (run_of(("a", 2.0), ("a", 1.0)), "'a' is ranked twice"),
        (run_of(("a", float("nan"))), "not finite"),
        (run_of(("a b", 1.0)), "holds white space"),
        (run_of(("a", 1.0), qid=""), "qid '' is empty"),
        (run_of(("a", 1.0), tag="my run"), "tag 'my run'"),
    ],
)
def test_what_a_run_file_cannot_carry_is_refused_and_leaves_nothing(tmp_path, run, says, keep_ties):
    with pytest.raises(InputError, match=says):
        write_run(run, tmp_path / "r", keep_ties=keep_ties)
    assert list(tmp_path.iterdir()) == []


def test_scores_beyond_single_precision_are_refused():
    with pytest.raises(InputError, match="beyond single precision"):
        untied(run_of(("a", 1e39)))


def test_qrels_written_are_qrels_read(tmp_path):
    qrels = Qrels({"q2": {"b": 2, "a": -1}, "q1": {"ü": 0}})
    write_qrels(qrels, tmp_path / "deep" / "q.gz")
    assert read_qrels(tmp_path / "deep" / "q.gz") == qrels


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run({"1": Ranking(["d\ud800"])}), "half of a surrogate pair"),
        (run_of(("a", -3.4028234e38), ("b", -3.4028234e38)), "no numbers to keep the order"),
    ],
)
def test_a_run_that_no_reader_could_take_is_not_written(tmp_path, run, message):
    with pytest.raises(InputError, match=message):
        write_run(run, tmp_path / "a.run")
    assert list(tmp_path.iterdir()) == []


def test_a_grade_beyond_every_scale_is_named_with_its_line(tmp_path):
    (tmp_path / "qrels.txt").write_text("q 0 a 1\nq 0 b 1234567890123456789012345\n")
    with pytest.raises(InputError, match=r"qrels.txt:2: .*a grade beyond"):
        read_qrels(tmp_path / "qrels.txt")


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")
@pytest.mark.parametrize("content", [b"q Q0 a 1 2.0 t\n", gzip.compress(b"q Q0 a 1 2.0 t\n")], ids=["plain", "gzip"])
def test_a_run_is_read_from_a_pipe(content):
    out, into = os.pipe()
    os.write(into, content)
    os.close(into)
    assert read_run(f"/dev/fd/{out}")["q"].docnos == ["a"]
    os.close(out)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_named_as_what_it_is(tmp_path, encoding):
    (tmp_path / "a.run").write_bytes("\ufeffq Q0 a 1 2.0 t\n".encode(encoding))
    with pytest.raises(InputError, match=r"a.run:1: the text is UTF-16; convert it"):
        read_run(tmp_path / "a.run")
