"""TREC files: runs, qrels and queries, read and written with every fault named by file and line.

    run      qid Q0 docno rank score tag        six columns, separated by white space
    qrels    qid 0 docno grade                  four columns; a file that opens with BEIR's header has three
    queries  qid TAB text, or JSON lines

Gzip is recognised by its first bytes, not by the file's name; line ends may be LF or CRLF; blank lines say nothing.

The rank column of a run is ignored, as trec_eval ignores it: rows are ordered by score in single precision, and equal
scores by docno descending (`trec_order`). Written runs therefore carry scores that decrease strictly in single
precision, so that whoever reads them sees the order they were written in (`untied`, `write_run`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.durable import replacing
from thresher.errors import InputError
from thresher.files import read_lines
from thresher.ranking import Ranking, Run
from thresher.records import Qrels, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

QID_FIELDS, TEXT_FIELDS = ("qid", "query_id", "_id", "id"), ("text", "query", "contents")
"""Of queries in JSON lines."""
_LARGEST_GRADE = 2**31 - 1
_BEIR_HEADER = [b"query-id", b"corpus-id", b"score"]


@checked_call
def read_run(path: str | Path, *, as_listed: bool = False) -> Run:
    """Read a TREC run.

    Rows come back in the order trec_eval sees: score descending in single precision, then docno descending. The scores
    themselves keep double precision. The tag is the first row's.

    Args:
        path: the run, gzipped or not.
        as_listed: keep the rows of a topic in the order of the file, for handing them on as candidates: where scores
            tie, the order a system listed is the order it ranked in. Evaluation does not look at it.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: a row without six columns, a score that is not a finite number, a docno twice in one topic, or text
            that is not UTF-8; with file and line.
    """
    path = Path(path)
    topics: dict[bytes, dict[bytes, float]] = {}
    tag = ""
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise _bad(path, number, line, f"has {len(fields)} columns where a run has 6: qid Q0 docno rank score tag")
        qid, _, docno, _, score, last = fields
        rows = topics.setdefault(qid, {})
        if docno in rows:
            raise _twice(path, number, qid, docno)
        rows[docno] = _score(path, number, score)
        tag = tag or _text(path, number, last)
    rankings = {}
    for qid, rows in topics.items():
        docnos = [_text(path, 0, docno) for docno in rows]
        scores = list(rows.values())
        order = range(len(docnos)) if as_listed else trec_order(docnos, scores)
        rankings[_text(path, 0, qid)] = Ranking([docnos[i] for i in order], [scores[i] for i in order], source="file")
    return Run(rankings, tag or "thresher")


@checked_call
def write_run(run: Run, path: str | Path, *, keep_ties: bool = False) -> None:
    """Write a TREC run atomically; gzipped if the name ends in `.gz`.

    Rows are written in the order of the run, ranks from 1. Scores are those of `untied`, so they decrease strictly in
    single precision and every reader finds the same order.

    Args:
        run: what to write; each ranking best first.
        path: the file to make or replace.
        keep_ties: write the scores as they are, in double precision; readers then order ties by their own rule.

    Raises:
        InputError: a ranking that is not best first, a score that is not finite, a docno twice in one ranking, or an
            identifier with white space.
    """
    write_runs([run], path, keep_ties=keep_ties)


def write_runs(runs: Iterable[Run], path: str | Path, *, keep_ties: bool = False) -> None:
    """As `write_run`, for a run that comes in parts, each of other queries: a part is written before the next is made.

    Raises:
        InputError: as `write_run`.
    """
    with replacing(path) as stream:
        for run in runs:
            tag = _one_word("tag", run.tag)
            for qid, ranking in (run if keep_ties else untied(run)).items():
                if keep_ties:
                    _check_ranking(qid, ranking)
                numbers = [repr(score) for score in ranking.scores.tolist()] if keep_ties else _single_texts(ranking)
                start = f"{_one_word('qid', qid)} Q0 "
                lines = [
                    f"{start}{_one_word('docno', docno)} {rank} {number} {tag}\n"
                    for rank, (docno, number) in enumerate(zip(ranking.docnos, numbers, strict=True), 1)
                ]
                stream.write("".join(lines).encode())


@checked_call
def untied(run: Run) -> Run:
    """The run with scores that decrease strictly in single precision, its order unchanged.

    A score that is not below the one before it becomes the next smaller single-precision number: the least change that
    keeps the order for readers who compare in single precision. Evaluating the result is evaluating the order given.

    Raises:
        InputError: a ranking that is not best first, or a score beyond single precision.
    """
    rankings = {}
    for qid, ranking in run.items():
        _check_ranking(qid, ranking)
        scores = _single(ranking.scores)
        if len(ranking) and not np.isfinite(scores).all():
            raise InputError(f"qid {qid!r}: a score is beyond single precision; rescale the scores of this run")
        if (scores[1:] < scores[:-1]).all():
            rankings[qid] = ranking.take(np.arange(len(ranking)), scores)
            continue
        lowered = [scores[0]]
        with np.errstate(over="ignore"):  # below the lowest number, which is refused
            for score in scores[1:]:
                lowered.append(min(score, _next_below(lowered[-1])))
        if not np.isfinite(lowered[-1]):
            raise InputError(
                f"qid {qid!r}: scores tie at {float(scores[-1])!r}, below which single precision has no "
                "numbers to keep the order; rescale the scores of this run"
            )
        rankings[qid] = ranking.take(np.arange(len(ranking)), lowered)
    return Run(rankings, run.tag)


@checked_call
def read_qrels(path: str | Path) -> Qrels:
    """Read TREC qrels, or a BEIR `qrels/SPLIT.tsv` (recognised by its header). Topics keep the order of the file.

    Grades are whole numbers and may be negative.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: a row without the right columns, a grade that is not a whole number, a docno twice in one topic, or
            text that is not UTF-8; with file and line.
    """
    path = Path(path)
    judgments: dict[str, dict[str, int]] = {}
    columns = 0
    for number, line in _lines(path):
        fields = line.split()
        if not columns:
            columns = 3 if fields == _BEIR_HEADER else 4
            if columns == 3:
                continue
        if len(fields) != columns:
            layout = "qid docno grade" if columns == 3 else "qid 0 docno grade"
            raise _bad(path, number, line, f"has {len(fields)} columns where qrels have {columns}: {layout}")
        qid, docno, grade = fields[0], fields[-2], fields[-1]
        topic = judgments.setdefault(_text(path, number, qid), {})
        name = _text(path, number, docno)
        if name in topic:
            raise _twice(path, number, qid, docno)
        try:
            topic[name] = int(grade.replace(b"_", b"?"))
        except ValueError:
            raise _bad(path, number, line, f"has the grade {_show(grade)}, which is not a whole number") from None
        if abs(topic[name]) > _LARGEST_GRADE:
            raise _bad(path, number, line, f"has a grade beyond {_LARGEST_GRADE:,}")
    return Qrels(judgments)


@checked_call
def write_qrels(qrels: Qrels, path: str | Path) -> None:
    """Write TREC qrels atomically; gzipped if the name ends in `.gz`.

    Raises:
        InputError: an identifier with white space.
    """
    with replacing(path) as stream:
        for qid, topic in qrels.judgments.items():
            for docno, grade in topic.items():
                stream.write(f"{_one_word('qid', qid)} 0 {_one_word('docno', docno)} {int(grade)}\n".encode())


@checked_call
def read_queries(path: str | Path) -> tuple[Query, ...]:
    """Read queries, one a line: qid, a tab, the text; or, where the first line is a JSON object, one object a line.

    An object has the qid in `qid`, `query_id`, `_id` or `id`, and the text in `text`, `query` or `contents`, as BEIR
    and Anserini write them. White space around the text goes.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: a line without a tab, an object without one of these fields, an empty query, a qid that is empty,
            holds white space or comes twice, or text that is not UTF-8; with file and line.
    """
    path = Path(path)
    queries: dict[str, Query] = {}
    seen: dict[str, int] = {}
    objects = False
    for number, line in _lines(path):
        objects = objects if seen else _is_object(line)
        if objects:
            row = json_row(path, number, line)
            qid, text = (text_field(path, number, row, names) for names in (QID_FIELDS, TEXT_FIELDS))
        else:
            qid, tab, text = _text(path, number, line).partition("\t")
            if not tab:
                raise _bad(path, number, line, "has no tab: each line is a qid, a tab, and the query")
        qid, text = qid.strip(" "), text.strip()
        if qid.split() != [qid]:
            raise _bad(path, number, line, f"has the qid {qid!r}, which is empty or holds white space")
        if not text:
            raise _bad(path, number, line, f"asks nothing: the text of query {qid!r} is empty")
        if qid in seen:
            raise _bad(path, number, line, f"repeats the qid {qid!r} of line {seen[qid]}")
        seen[qid] = number
        queries[qid] = Query(qid, text)
    return tuple(queries.values())


def trec_order(docnos: Sequence[str], scores: Sequence[float]) -> NDArray[np.intp]:
    """Positions of the rows of one ranking as trec_eval orders them, best first.

    Args:
        docnos: n identifiers.
        scores: n scores, finite; compared in single precision.

    Returns:
        intp[n]: by score descending, then docno descending by code point, which for UTF-8 is byte order.
    """
    return np.lexsort((np.array(docnos, dtype=np.str_), _single(scores)))[::-1]


def _single(scores: ArrayLike) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # trec_eval, too, takes 1e39 for infinity
        return np.array(scores, dtype=np.float64).astype(np.float32)


def _next_below(score: np.float32) -> np.float32:
    """The next smaller single-precision number; below 0 one that is not subnormal, which some readers flush to 0."""
    return min(np.nextafter(score, np.float32(-np.inf)), score - np.float32(1e-30))


def _single_texts(ranking: Ranking) -> list[str]:
    """Scores as the shortest decimals that readers turn into these single-precision numbers, however they parse."""
    single = _single(ranking.scores)
    texts = single.astype(np.str_)
    exact = _single(texts.astype(np.float64)) == single  # a decimal parsed as double may round to a neighbour
    return [text if same else repr(float(s)) for text, same, s in zip(texts.tolist(), exact, single, strict=True)]


def _check_ranking(qid: str, ranking: Ranking) -> None:
    docnos, scores = ranking.docnos, ranking.scores
    if not np.isfinite(scores).all():
        bad = int(np.argmin(np.isfinite(scores)))
        raise InputError(f"qid {qid!r}: document {docnos[bad]!r} scores {float(scores[bad])!r}, which is not finite")
    single = _single(scores)  # below its precision readers see a tie, in which any order may stand
    rises = np.flatnonzero(single[1:] > single[:-1])
    if rises.size:
        at = int(rises[0]) + 1
        raise InputError(
            f"qid {qid!r}: document {docnos[at]!r} at rank {at + 1} scores {float(scores[at])!r}, more than "
            f"{float(scores[at - 1])!r} before it; a ranking goes best first: sort it, or give it scores that fall"
        )
    if len(set(docnos)) != len(docnos):
        again = next(docno for i, docno in enumerate(docnos) if docno in docnos[:i])
        raise InputError(f"qid {qid!r}: document {again!r} is ranked twice; a ranking holds each document once")


def _one_word(what: str, value: str) -> str:
    if value.split() != [value]:
        raise InputError(f"{what} {value!r} is empty or holds white space, which TREC files cannot carry")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} {value!a} holds half of a surrogate pair, which no file can carry") from None
    return value


def _score(path: Path, number: int, field: bytes) -> float:
    try:
        score = float(field.replace(b"_", b"?"))  # 1_000 is a number to Python alone
    except ValueError:
        raise InputError(f"the score {_show(field)} is not a number", str(path), number) from None
    if score - score != 0.0:  # infinity or nan
        raise InputError(f"the score {_show(field)} is not finite", str(path), number)
    return score


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without their ends; blank ones are left out."""
    return ((number, line) for number, line in read_lines(path) if line and not line.isspace())


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object."""
    try:
        return line.lstrip()[:1] == b"{" and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def json_row(path: Path, number: int, line: bytes) -> dict[str, object]:
    """The JSON object of a line of queries.

    Raises:
        InputError: it is something else, with file and line.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise _bad(path, number, line, f"is not a JSON object ({err}), as the first line is") from None
    if not isinstance(row, dict):
        raise _bad(path, number, line, "is not a JSON object, as the first line is")
    return row


def text_field(path: Path, number: int, row: Mapping[str, object], names: Sequence[str]) -> str:
    """The first of these fields that an object has, a text or a whole number.

    Raises:
        InputError: it has none, with file and line.
    """
    found = next((row[name] for name in names if name in row), None)
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise _bad(path, number, json.dumps(row).encode(), f"has no field {' or '.join(names)} that holds a text")
    if re.search("[\ud800-\udfff]", str(found)):
        problem = "has half of a surrogate pair, which is not a character; mend the escape"
        raise _bad(path, number, json.dumps(row).encode(), problem)
    return str(found)


def _text(path: Path, number: int, field: bytes) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError as err:
        number = number or _first(path, lambda fields: field in fields)
        raise InputError(f"{_show(field)} is not UTF-8 ({err.reason}); convert the file", str(path), number) from None


def _first(path: Path, matches: Callable[[list[bytes]], bool]) -> int:
    """The number of the first line whose fields match; 0 where the file cannot be read again, as a pipe."""
    if not path.is_file():
        return 0
    return next((number for number, line in _lines(path) if matches(line.split())), 0)


def _show(field: bytes) -> str:
    return repr(field.decode(errors="backslashreplace"))


def _bad(path: Path, number: int, line: bytes, problem: str) -> InputError:
    shown = line if len(line) <= 120 else line[:117] + b"..."
    return InputError(f"the line {_show(shown)} {problem}", str(path), number)


def _twice(path: Path, number: int, qid: bytes, docno: bytes) -> InputError:
    """The error for a docno that comes a second time; the first line is looked up only now."""
    first = _first(path, lambda fields: fields[:1] == [qid] and docno in fields[1:3])
    places = f"on line {first} and here; remove one" if first else "the second time here; remove one"
    return InputError(
        f"document {_show(docno)} comes twice for topic {_show(qid)}, {places}",
        str(path),
        number,
    )
