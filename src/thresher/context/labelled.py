"""Queries whose answering sentences are known: readers of public data, and a split that keeps kin together.

Every reader gives the same value: a query, one passage with its sentences, a label for each, and where the answers
stand. The parts (`train`, `calibrate`, `test`) are drawn by the hash of a *family*, so that a paragraph, an article or
a query is in one part only, whatever order the files are read in; `without_kin` then drops from the training part
what repeats a held-out passage under another name.

Formats: QED (Lamm and others 2021), SQuAD 2.0 and whatever copies its layout (COVID-QA does), and lists of candidate
sentences (WikiQA, TrecQA), whose sentences are joined by a line break into one passage.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thresher.errors import InputError
from thresher.records import Span
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

PARTS = {"test": 0.25, "calibrate": 0.4}
"""Upper ends of the hash ranges; the rest is for training."""


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A query, a passage, and which of its sentences answer it.

    Attributes:
        collection: `qed`, `squad2-half`, `covid-qa`, `wikiqa`, `trecqa`, or the user's own name.
        query: the query.
        passage: the text.
        sentences: spans of the text, ascending and disjoint.
        labels: 1 where a sentence holds an answer; all 0 where the passage has none.
        answers: where the answers stand, each one enough; empty where there is none.
        family: paragraphs, articles or queries that must not be parted.
        part: `train`, `calibrate` or `test`.
    """

    collection: str
    query: str
    passage: str
    sentences: tuple[Span, ...]
    labels: tuple[int, ...]
    answers: tuple[Span, ...]
    family: str
    part: str


def part_of(family: str) -> str:
    """The part a family belongs to: a quarter is `test`, 15 % are `calibrate`, the rest is `train`."""
    value = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") / 2**64
    return next((part for part, end in PARTS.items() if value < end), "train")


def _open(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8")
    return path.open(encoding="utf-8")


def _overlapping(sentences: Sequence[Span], answers: Iterable[Span]) -> tuple[int, ...]:
    spans = list(answers)
    return tuple(int(any(a.start < s.end and s.start < a.end for a in spans)) for s in sentences)


def read_own(path: Path) -> Iterator[LabelledQuestion]:
    """The user's own queries: lines `{"query", "passage", "answers": [[start, end], ...]}`.

    Answers are half-open ranges of code points of the passage. Without any, nothing in the passage helps. `family`
    (optional) names what must stay in one part, for instance a document; by default the passage itself.

    Raises:
        InputError: a line is no such record; names file and line.
        DataNotFoundError: there is no such file.
    """
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                query, text = row["query"], row["passage"]
                answers = tuple(Span(int(a), int(b)) for a, b in row.get("answers", ()))
                if not isinstance(query, str) or not isinstance(text, str):
                    raise TypeError("query and passage must be strings")
            except (ValueError, KeyError, TypeError, AttributeError) as err:
                raise InputError(
                    f'expected {{"query", "passage", "answers": [[start, end], ...]}} ({type(err).__name__}: {err})',
                    str(path), number,
                ) from err  # fmt: skip
            if any(a.end > len(text) or a.start == a.end for a in answers):
                raise InputError(
                    f"an answer is empty or ends after the passage's {len(text)} code points", str(path), number
                )
            sentences = tuple(split_sentences(text))
            family = str(row.get("family", text))
            labels = _overlapping(sentences, answers)
            yield LabelledQuestion("own", query, text, sentences, labels, answers, family, part_of(family))


def read_qed(path: Path) -> Iterator[LabelledQuestion]:
    """QED: queries of Natural Queries, each with a Wikipedia paragraph and the sentence that answers.

    Raises:
        InputError: a line is no such record; names file and line.
    """
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                text, chosen = row["paragraph_text"], row["annotation"].get("selected_sentence")
                answers = [Span(a["start"], a["end"]) for each in row["original_nq_answers"] for a in each]
                query = row["question_text"]
            except (ValueError, KeyError, TypeError) as err:
                raise InputError(f"not a QED record ({type(err).__name__}: {err})", str(path), number) from err
            sentences = tuple(split_sentences(text))
            picked = [Span(chosen["start"], chosen["end"])] if chosen and chosen["start"] >= 0 else []
            if not answers:
                continue
            labels = _overlapping(sentences, [*answers, *picked])
            family = "qed:" + row["title_text"]
            yield LabelledQuestion("qed", query, text, sentences, labels, tuple(answers), family, part_of(family))


def read_squad(path: Path, *, collection: str = "squad2-half", parts: Any = None) -> Iterator[LabelledQuestion]:
    """SQuAD 2.0 paragraphs; a query without an answer labels nothing.

    Args:
        path: the JSON file, gzipped or not.
        collection: what to call it.
        parts: article title to part; by default articles are ranked by hash, the first quarter is for testing and the
            next eighth for calibration, because a hash range could leave a small set of articles without one.
    """
    with _open(path) as stream:
        articles = json.load(stream)["data"]
    if parts is None:
        ranked = sorted((a["title"] for a in articles), key=lambda t: hashlib.sha256(t.encode()).hexdigest())
        n = len(ranked)
        parts = {t: "test" if i < n / 4 else "calibrate" if i < 3 * n / 8 else "train" for i, t in enumerate(ranked)}
    for article in articles:
        family = f"{collection}:{article['title']}"
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            sentences = tuple(split_sentences(text))
            for row in paragraph["qas"]:
                found = {(a["answer_start"], a["answer_start"] + len(a["text"])) for a in row["answers"]}
                answers = tuple(Span(*pair) for pair in sorted(found))
                yield LabelledQuestion(
                    collection, row["question"], text, sentences, _overlapping(sentences, answers), answers, family,
                    parts[article["title"]],
                )  # fmt: skip


def read_covid_qa(path: Path, *, characters: int = 900) -> Iterator[LabelledQuestion]:
    """COVID-QA: articles cut at sentences into passages of about `characters`; each query with every passage.

    Answer offsets that miss their text by a few characters are re-aligned; answers that cross passages are dropped.
    """
    with _open(path) as stream:
        articles = json.load(stream)["data"]
    for article in articles:
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            family = f"covid-qa:{paragraph['document_id']}"
            pieces = list(_pieces(text, characters))
            for row in paragraph["qas"]:
                answers = [span for a in row["answers"] if (span := _aligned(text, a["answer_start"], a["text"]))]
                if not any(s.start <= a.start and a.end <= s.end for a in answers for s, _ in pieces):
                    continue
                for piece, sentences in pieces:
                    inside = tuple(
                        Span(a.start - piece.start, a.end - piece.start)
                        for a in answers
                        if piece.start <= a.start and a.end <= piece.end
                    )
                    yield LabelledQuestion(
                        "covid-qa", row["question"], text[piece.start : piece.end], sentences,
                        _overlapping(sentences, inside), inside, family, part_of(family),
                    )  # fmt: skip


def _pieces(text: str, characters: int) -> Iterator[tuple[Span, tuple[Span, ...]]]:
    """Consecutive sentences up to `characters`, as one span and its sentences relative to it."""
    run: list[Span] = []
    for sentence in [*split_sentences(text), None]:
        if run and (sentence is None or sentence.end - run[0].start > characters):
            start = run[0].start
            yield Span(start, run[-1].end), tuple(Span(s.start - start, s.end - start) for s in run)
            run = []
        if sentence is not None:
            run.append(sentence)


def _aligned(text: str, start: int, answer: str) -> Span | None:
    wanted = answer.strip()
    for shift in (0, *(s for d in range(1, 6) for s in (-d, d))):
        here = start + shift
        if here >= 0 and wanted and text.startswith(wanted, here):
            return Span(here, here + len(wanted))
    return None


def _joined(collection: str, query: str, rows: Sequence[tuple[str, int]], family: str, part: str) -> LabelledQuestion:
    spans, here = [], 0
    for sentence, _ in rows:
        spans.append(Span(here, here + len(sentence)))
        here += len(sentence) + 1
    labels = tuple(label for _, label in rows)
    answers = tuple(span for span, label in zip(spans, labels, strict=True) if label)
    text = "\n".join(sentence for sentence, _ in rows)
    return LabelledQuestion(collection, query, text, tuple(spans), labels, answers, family, part)


def _in_runs(rows: Sequence[tuple[str, int]], characters: int) -> Iterator[list[tuple[str, int]]]:
    run: list[tuple[str, int]] = []
    for row in rows:
        if run and sum(len(s) + 1 for s, _ in run) + len(row[0]) > characters:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def read_wikiqa(directory: Path, *, part: str = "", characters: int = 900) -> Iterator[LabelledQuestion]:
    """WikiQA in the layout of aligned files (`a.toks`, `b.toks`, `sim.txt`): one passage for a query.

    Long candidate lists are cut into passages of about `characters`. With `part` empty, queries are parted by hash.
    """
    columns = []
    for name in ("a.toks.gz", "b.toks.gz", "sim.txt.gz"):
        with _open(directory / name) as stream:
            columns.append(stream.read().splitlines())
    grouped: dict[str, list[tuple[str, int]]] = {}
    for query, sentence, label in zip(*columns, strict=True):
        grouped.setdefault(query, []).append((sentence, int(label)))
    yield from _candidates("wikiqa", grouped, part, characters)


def read_trecqa(path: Path, *, part: str = "", characters: int = 900) -> Iterator[LabelledQuestion]:
    """TrecQA as CSV (`qtext,label,atext`): candidate sentences from several documents make one passage.

    The file lists answers first; so that places say nothing, candidates are ordered by a hash of their text.
    """
    grouped: dict[str, list[tuple[str, int]]] = {}
    with _open(path) as stream:
        for row in csv.DictReader(stream):
            if row["atext"].strip():
                rows = grouped.setdefault(row["qtext"], [])
                if row["atext"] not in {s for s, _ in rows}:
                    rows.append((row["atext"].replace("\n", " "), int(row["label"])))
    for rows in grouped.values():
        rows.sort(key=lambda row: hashlib.sha256(row[0].encode()).digest())
    yield from _candidates("trecqa", grouped, part, characters)


def _candidates(
    collection: str, grouped: dict[str, list[tuple[str, int]]], part: str, characters: int
) -> Iterator[LabelledQuestion]:
    for query, rows in grouped.items():
        family = f"{collection}:{query}"
        for run in _in_runs(rows, characters):
            yield _joined(collection, query, run, family, part or part_of(family))


def _shingles(text: str, size: int = 8) -> set[int]:
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[i : i + size])) for i in range(max(1, len(words) - size + 1))}


def without_kin(
    training: Iterable[LabelledQuestion], held_out: Iterable[LabelledQuestion], *, share: float = 0.2
) -> list[LabelledQuestion]:
    """The training queries that repeat nothing held out.

    A query goes when it is also asked in the held-out part, or when at least `share` of the 8-word shingles of its
    passage stand in held-out passages.
    """
    held, asked = set(), set()
    for passage, query in {(row.passage, row.query) for row in held_out}:
        held |= _shingles(passage)
        asked.add(" ".join(re.findall(r"\w+", query.lower())))
    kin: dict[str, bool] = {}
    kept = []
    for row in training:
        if row.passage not in kin:
            own = _shingles(row.passage)
            kin[row.passage] = len(own & held) >= share * len(own)
        if not kin[row.passage] and " ".join(re.findall(r"\w+", row.query.lower())) not in asked:
            kept.append(row)
    return kept
