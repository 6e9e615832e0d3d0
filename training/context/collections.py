"""Public collections of queries with known answer sentences, and a training part free of near-duplicates.

Formats: QED (Lamm and others 2021), COVID-QA (the layout of SQuAD), and lists of candidate sentences (WikiQA, TrecQA),
whose sentences are joined by a line break into one passage. `thresher.context.calibrate` reads SQuAD 2.0 itself.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from typing import TYPE_CHECKING

from thresher.context.calibrate import LabelledQuery, overlapping, part_of
from thresher.errors import InputError
from thresher.files import read_content, read_lines
from thresher.records import Span
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


def read_qed(path: Path) -> Iterator[LabelledQuery]:
    """QED: queries of Natural Queries, each with a Wikipedia paragraph and the sentence that answers.

    Raises:
        InputError: a line is no such record; names file and line.
    """
    for number, line in read_lines(path):
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
        labels = overlapping(sentences, [*answers, *picked])
        family = "qed:" + row["title_text"]
        yield LabelledQuery("qed", query, text, sentences, labels, tuple(answers), family, part_of(family))


def read_covid_qa(path: Path, *, characters: int = 900) -> Iterator[LabelledQuery]:
    """COVID-QA: articles cut at sentences into passages of about `characters`; each query with every passage.

    Answer offsets that miss their text by a few characters are re-aligned; answers that cross passages are dropped.
    """
    articles = json.loads(read_content(path))["data"]
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
                    yield LabelledQuery(
                        "covid-qa", row["question"], text[piece.start : piece.end], sentences,
                        overlapping(sentences, inside), inside, family, part_of(family),
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


def _joined(collection: str, query: str, rows: Sequence[tuple[str, int]], family: str, part: str) -> LabelledQuery:
    spans, here = [], 0
    for sentence, _ in rows:
        spans.append(Span(here, here + len(sentence)))
        here += len(sentence) + 1
    labels = tuple(label for _, label in rows)
    answers = tuple(span for span, label in zip(spans, labels, strict=True) if label)
    text = "\n".join(sentence for sentence, _ in rows)
    return LabelledQuery(collection, query, text, tuple(spans), labels, answers, family, part)


def _in_runs(rows: Sequence[tuple[str, int]], characters: int) -> Iterator[list[tuple[str, int]]]:
    run: list[tuple[str, int]] = []
    for row in rows:
        if run and sum(len(s) + 1 for s, _ in run) + len(row[0]) > characters:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def read_wikiqa(directory: Path, *, part: str = "", characters: int = 900) -> Iterator[LabelledQuery]:
    """WikiQA in the layout of aligned files (`a.toks`, `b.toks`, `sim.txt`): one passage for a query.

    Long candidate lists are cut into passages of about `characters`. With `part` empty, queries are parted by hash.
    """
    columns = [
        read_content(directory / name).decode().splitlines() for name in ("a.toks.gz", "b.toks.gz", "sim.txt.gz")
    ]
    grouped: dict[str, list[tuple[str, int]]] = {}
    for query, sentence, label in zip(*columns, strict=True):
        grouped.setdefault(query, []).append((sentence, int(label)))
    yield from _candidates("wikiqa", grouped, part, characters)


def read_trecqa(path: Path, *, part: str = "", characters: int = 900) -> Iterator[LabelledQuery]:
    """TrecQA as CSV (`qtext,label,atext`): candidate sentences from several documents make one passage.

    The file lists answers first; so that places say nothing, candidates are ordered by a hash of their text.
    """
    grouped: dict[str, list[tuple[str, int]]] = {}
    for row in csv.DictReader(io.StringIO(read_content(path).decode(), newline=None)):
        if row["atext"].strip():
            rows = grouped.setdefault(row["qtext"], [])
            if row["atext"] not in {s for s, _ in rows}:
                rows.append((row["atext"].replace("\n", " "), int(row["label"])))
    for rows in grouped.values():
        rows.sort(key=lambda row: hashlib.sha256(row[0].encode()).digest())
    yield from _candidates("trecqa", grouped, part, characters)


def _candidates(
    collection: str, grouped: dict[str, list[tuple[str, int]]], part: str, characters: int
) -> Iterator[LabelledQuery]:
    for query, rows in grouped.items():
        family = f"{collection}:{query}"
        for run in _in_runs(rows, characters):
            yield _joined(collection, query, run, family, part or part_of(family))


def _shingles(text: str, size: int = 8) -> set[int]:
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[i : i + size])) for i in range(max(1, len(words) - size + 1))}


def without_kin(
    training: Iterable[LabelledQuery], held_out: Iterable[LabelledQuery], *, share: float = 0.2
) -> list[LabelledQuery]:
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
