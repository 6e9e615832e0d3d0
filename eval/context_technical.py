"""Answers kept against characters pruned on technical documentation, and headings kept with nothing under them.

Writes eval/results/context-technical.json.

Two hundred pieces of the documentation on this machine, made by rule (`training/context/technical.py`) from families
of documents that nothing was trained, calibrated or chosen on: docstrings, topics of Python's reference, manual pages,
Markdown, reStructuredText, changelogs and answers to frequent questions. Each is a query, a passage that holds the
answer, and one of another document that holds none. What is measured is what the pruner hands over, with the shipped
presets. `scores alone` thresholds the same scores without keeping together what belongs together; `bm25` is the lexical
scorer, whose thresholds keep 99, 95 and 90 % on the calibration part of the same set.

A heading (a line with `#` before it, or with a line of marks under it) is lone where it is kept and nothing is that
stands under it, up to the next heading that is not below it. The test looks at lines and knows nothing of the pruner's
own rules.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.bench import Bench, key_of, options
from thresher.context.calibrate import GOALS, LabelledQuery, calibrate, overlapping, wilson
from thresher.context.model import TwoHeadedScorer
from thresher.context.pruned import ScoredPassage, Scores
from thresher.context.scorers import LexicalScorer, PassageScores, SplitPassage
from thresher.context.select import select_by_score
from thresher.context.spans import kept_spans
from thresher.models.two_headed import SHIPPED
from thresher.records import Span
from thresher.text.sentences import split_sentences
from training.context.documents import documents
from training.context.technical import drawn, pieces, with_negatives

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.bench import Row
    from thresher.context.scorers import SentenceScorer
    from training.context.technical import Piece

PIECES, CALIBRATION, MANUALS = 200, 400, 400
_MARKS = re.compile(r"\s*([=\-~^\"*+#])\1{2,}\s*")
_ATX = re.compile(r"(#{1,6})\s+\S")


def make(parts: Mapping[str, int], manuals: int) -> dict[str, list[dict[str, Any]]]:
    """So many pieces of each part as plain JSON."""
    everything = list(pieces(documents(manuals)))
    return {part: _plain(with_negatives(drawn(everything, part, count))) for part, count in parts.items()}


def _plain(rows: Sequence[Piece]) -> list[dict[str, Any]]:
    return [
        {
            "query": row.query, "passage": row.passage, "answers": row.answers, "negatives": row.negatives,
            "kind": row.kind, "family": row.family,
        }
        for row in rows
        if row.negatives
    ]  # fmt: skip


def headings(text: str) -> list[tuple[int, int, int]]:
    """(start, end, level) of headings by their lines alone, with an empty line before them, not inside fenced code."""
    found, levels, at, fenced = [], dict[str, int](), 0, False
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        end = at + len(line.rstrip())
        under = lines[number + 1] if number + 1 < len(lines) else ""
        alone = number == 0 or not lines[number - 1].strip()
        fenced ^= line.lstrip().startswith(("```", "~~~ "))
        bare = line.strip()
        if not fenced and alone and (atx := _ATX.match(line)):
            found.append((at, end, len(atx[1])))
        elif not fenced and alone and bare[:1].isalnum() and _MARKS.fullmatch(under):
            if len(bare) <= len(under.strip()) + 3:
                level = levels.setdefault(under.strip()[0], 10 + len(levels))
                found.append((at, at + len(line) + len(under.rstrip()), level))
        at += len(line)
    return found


def lone(text: str, spans: Sequence[Span]) -> tuple[int, int]:
    """Headings kept with nothing under them, and kept spans that are lines of marks alone."""
    kept = bytearray(len(text))
    for span in spans:
        kept[span.start : span.end] = bytes([1]) * (span.end - span.start)
    seen = [bool(kept[place]) and not text[place].isspace() for place in range(len(text))]
    found = headings(text)
    bad = 0
    for number, (start, end, level) in enumerate(found):
        if any(seen[start:end]):
            stop = next((other for other, _, below in found[number + 1 :] if below <= level), len(text))
            inside = [at for one in found if end <= one[0] < stop for at in range(one[0], one[1])]
            under = set(range(end, stop)).difference(inside)
            bad += not any(seen[place] for place in under)
    marks = sum(not any(map(str.isalnum, text[s.start : s.end])) for s in spans)
    return bad, marks


def labelled(made: Sequence[dict[str, Any]]) -> list[LabelledQuery]:
    """Pieces as labelled queries."""
    out = []
    for row in made:
        sentences = tuple(split_sentences(row["passage"]))
        answers = tuple(Span(*one) for one in row["answers"])
        labels = overlapping(sentences, answers)
        out.append(
            LabelledQuery(row["kind"], row["query"], row["passage"], sentences, labels, answers, row["family"], "test")
        )
    return out


def scored(scorer: SentenceScorer, made: Sequence[dict[str, Any]]) -> list[tuple[ScoredPassage, ScoredPassage]]:
    """The relevant and the irrelevant passage of each piece, with scores."""
    texts = [(row["query"], text) for row in made for text in (row["passage"], row["negatives"][0])]
    pairs = [(query, SplitPassage(text, tuple(split_sentences(text)))) for query, text in texts]
    read = [ScoredPassage.of("", p, s) for (_, p), s in zip(pairs, scorer.score(pairs), strict=True)]
    return list(zip(read[::2], read[1::2], strict=True))


def spans_of(row: ScoredPassage, threshold: float, together: bool) -> tuple[Span, ...]:
    """What is kept of a passage."""
    if together:
        return select_by_score(Scores((row,)), len, threshold=threshold)[0].spans
    return kept_spans(len(row.text), row.sentences, [score >= threshold for score in row.scores])


def measured(
    made: Sequence[dict[str, Any]],
    read: Sequence[tuple[ScoredPassage, ScoredPassage]],
    threshold: float,
    together: bool,
) -> dict[str, dict[str, float]]:
    """Figures by kind of piece, and of `all`."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for piece, (relevant, irrelevant) in zip(made, read, strict=True):
        spans, others = spans_of(relevant, threshold, together), spans_of(irrelevant, threshold, together)
        whole = any(any(s.start <= a and b <= s.end for s in spans) for a, b in piece["answers"])
        bad, marks = map(sum, zip(lone(relevant.text, spans), lone(irrelevant.text, others), strict=True))
        for kind in (piece["kind"], "all"):
            sums[kind].update(
                pieces=1, kept=whole, lone_headings=bad, lone_marks=marks,
                before=len(relevant.text), after=sum(s.end - s.start for s in spans),
                other_before=len(irrelevant.text), other_after=sum(s.end - s.start for s in others),
            )  # fmt: skip
    out = {}
    for kind, one in sorted(sums.items()):
        low, high = wilson(one["kept"], one["pieces"])
        out[kind] = {
            "pieces": one["pieces"], "answer_kept": one["kept"] / one["pieces"], "low": low, "high": high,
            "pruned_relevant": 1 - one["after"] / one["before"],
            "pruned_irrelevant": 1 - one["other_after"] / one["other_before"],
            "lone_headings": one["lone_headings"], "lone_marks": one["lone_marks"],
        }  # fmt: skip
    return out


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("context-technical", __doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--pieces", type=int, default=PIECES)
    parser.add_argument("--manuals", type=int, default=MANUALS, help="manual pages to read, at most")
    parser.add_argument("--part", choices=("measured", "calibrate"), default="measured")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    parts = {"calibrate": CALIBRATION} | {given.part: given.pieces}
    name = "-".join(f"{part}-{count}" for part, count in parts.items())
    made = bench.kept(f"technical-{name}-{given.manuals}", lambda: make(parts, given.manuals))
    test, scorer, lexical = made[given.part], TwoHeadedScorer(given.model), LexicalScorer()
    tuning = labelled(made["calibrate"])
    tuned = [PassageScores(0.0, relevant.scores) for relevant, _ in scored(lexical, made["calibrate"])]
    own = {preset: calibrate(tuning, tuned, goal).threshold for preset, goal in GOALS.items()}
    read = scored(scorer, test)
    plain = scored(lexical, test)
    rows: list[Row] = []
    for system, presets, table, together in (
        ("thresher-context", scorer.presets, read, True),
        ("scores alone", scorer.presets, read, False),
        ("bm25", own, plain, True),
    ):
        for preset, threshold in presets.items():
            for kind, figures in measured(test, table, threshold, together).items():
                same = {"kind": kind, "system": system, "preset": preset, "threshold": threshold}
                rows.append({**same, **{k: round(v, 4) for k, v in figures.items()}})
    columns = {"kind": "", "system": "", "preset": "", "threshold": ".4f", "pieces": ".0f", "answer_kept": ".3f"}
    columns |= {"pruned_relevant": ".3f", "pruned_irrelevant": ".3f", "lone_headings": ".0f", "lone_marks": ".0f"}
    whole = [row for row in rows if row["kind"] == "all"]
    bench.write(
        "context-technical",
        whole,
        columns=columns,
        packages=("torch",),
        title="Context pruning of technical documentation",
        note=f"Pieces: {key_of([(row['query'], row['passage']) for row in test])}, "
        + ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(row["kind"] for row in test).items())) + ".",
        details=[row for row in rows if row["kind"] != "all"],
    )  # fmt: skip
