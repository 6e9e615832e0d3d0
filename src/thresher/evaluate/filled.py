"""Judgments that a model made of unjudged documents: kept apart, marked, and compared with people's.

A file of filled judgments is a TREC qrels file whose second column, which trec_eval ignores, names the judge:

    q1 filled:openai:qwen3-8b d7 2

So every tool reads it, and no row can be taken for a person's. `read_filled` takes such files alone, and `with_filled`
is the only way to mix them with judgments: those of people win, and topics that people did not judge stay out.

`agreement` compares a judge's grades with people's on documents that both graded (Cohen's kappa, 1960): of the grades,
and of each "at least this grade". `fit_thresholds` makes grades of a ranker's scores by such documents.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import shown
from thresher.durable import replacing
from thresher.errors import InputError
from thresher.evaluate.trec import read_qrels
from thresher.files import read_lines
from thresher.records import Qrels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thresher.evaluate.results import Row

MARK = "filled:"
"""What the second column of a filled judgment begins with."""

FAIR = 0.4
"""Kappa below which agreement is weak."""


@dataclass(frozen=True, slots=True)
class Filled:
    """Judgments by a model.

    Attributes:
        judge: its name, without white space.
        qrels: qid to docno to grade.
    """

    judge: str
    qrels: Qrels

    def __len__(self) -> int:
        return sum(map(len, self.qrels.judgments.values()))


@dataclass(frozen=True, slots=True)
class GradeAgreement:
    """How a judge and people agree on "at least this grade".

    Attributes:
        grade: the grade.
        people: documents that people gave this grade.
        judge: documents that the judge gave it.
        both: documents that both gave it.
        kappa: Cohen's kappa of "at least this grade"; None for the lowest, and where one side knows no other answer.
    """

    grade: int
    people: int
    judge: int
    both: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge's grades agree with people's.

    Attributes:
        n: documents that both graded.
        same: share with the same grade.
        kappa: Cohen's kappa, 1 for full agreement and 0 for that of chance; None where both know one grade alone.
        grades: by grade, ascending.
    """

    n: int
    same: float
    kappa: float | None
    grades: tuple[GradeAgreement, ...]

    @property
    def weak(self) -> bool:
        """Whether kappa is below .4, which Landis and Koch (Biometrics, 1977) call fair at best."""
        return self.kappa is None or self.kappa < FAIR

    def as_json(self) -> Row:
        """Plain JSON."""
        grades = [{name: getattr(one, name) for name in one.__slots__} for one in self.grades]
        return {"n": self.n, "same": self.same, "kappa": self.kappa, "grades": grades}


@checked_call
def write_filled(filled: Filled, path: str | Path) -> None:
    """Write filled judgments atomically; gzipped if the name ends in `.gz`.

    Raises:
        InputError: the judge's name or an identifier is empty or has white space.
    """
    with replacing(path) as stream:
        for qid, topic in filled.qrels.judgments.items():
            for docno, grade in topic.items():
                for what, name in (("judge", filled.judge), ("qid", qid), ("docno", docno)):
                    if name.split() != [name]:
                        raise InputError(
                            f"the {what} {name!r} is empty or has white space, which no qrels file can hold"
                        )
                stream.write(f"{qid} {MARK}{filled.judge} {docno} {int(grade)}\n".encode())


@checked_call
def read_filled(path: str | Path) -> Filled:
    """Read filled judgments.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: as `read_qrels`; or a row is not marked as filled, or rows are of several judges.
    """
    judge = ""
    for number, line in read_lines(path):
        fields = line.split()
        if not fields:
            continue
        mark = fields[1].decode(errors="replace") if len(fields) == 4 else ""
        if not mark.startswith(MARK):
            raise InputError(
                f"the line {shown(line.decode(errors='replace'))} is not a filled judgment: its second column is not "
                f"{MARK}JUDGE. Judgments by people belong to --qrels",
                str(path),
                number,
            )
        judge = judge or mark.removeprefix(MARK)
        if mark != MARK + judge:
            raise InputError(
                f"the judge is {mark!r} here and {MARK + judge!r} before; keep one file a judge", str(path), number
            )
    return Filled(judge, read_qrels(path))


@checked_call
def with_filled(qrels: Qrels, filled: Filled) -> Qrels:
    """Judgments with filled ones added: in topics that people judged, where they judged nothing."""
    added = filled.qrels.judgments
    return Qrels({qid: {**added.get(qid, {}), **topic} for qid, topic in qrels.judgments.items()})


@checked_call
def agreement(judge: Mapping[tuple[str, str], int], people: Mapping[tuple[str, str], int]) -> Agreement:
    """Compare grades of the same documents.

    Args:
        judge: (qid, docno) to the judge's grade.
        people: the same to people's; documents that one side lacks are left out.

    Raises:
        InputError: no document has both.
    """
    pairs = [(grade, people[key]) for key, grade in judge.items() if key in people]
    if not pairs:
        raise InputError("no document was graded by both, so there is no agreement to measure")
    theirs, ours = (Counter(pair[side] for pair in pairs) for side in (1, 0))
    both = Counter(a for a, b in pairs if a == b)
    levels = sorted({*ours, *theirs})
    return Agreement(
        n=len(pairs),
        same=sum(both.values()) / len(pairs),
        kappa=_kappa(pairs),
        grades=tuple(
            GradeAgreement(
                level,
                theirs[level],
                ours[level],
                both[level],
                None if level == levels[0] else _kappa([(int(a >= level), int(b >= level)) for a, b in pairs]),
            )
            for level in levels
        ),
    )


def _kappa(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Cohen's kappa; None where chance alone agrees fully."""
    n = len(pairs)
    first, second = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    chance = sum(first[level] * second[level] for level in first) / n**2
    return None if chance == 1.0 else (sum(a == b for a, b in pairs) / n - chance) / (1.0 - chance)


@checked_call
def fit_thresholds(scores: Sequence[float], grades: Sequence[int]) -> dict[int, float]:
    """The lowest score of each grade above the lowest, by which a ranker's scores agree best with people's grades.

    Each "at least this grade" is fitted by Cohen's kappa alone; then thresholds are raised so that they ascend.

    Args:
        scores: of n documents.
        grades: people's, of the same documents.

    Raises:
        InputError: there are fewer than two grades, or the lengths differ.
    """
    if len(scores) != len(grades):
        raise InputError(f"there are {len(scores)} scores and {len(grades)} grades")
    levels = sorted(set(grades))
    if len(levels) < 2:
        raise InputError(
            "the sample of judged documents has one grade alone, so no threshold can be fitted; judge more"
        )
    at = np.sort(np.unique(np.asarray(scores, dtype=np.float64)))
    cuts = [*((at[1:] + at[:-1]) / 2).tolist(), float("inf")] if at.size else []
    found: dict[int, float] = {}
    lowest = -float("inf")
    for level in levels[1:]:
        wanted = [grade >= level for grade in grades]
        best = max(
            (cut for cut in cuts if cut >= lowest),
            key=lambda cut: _kappa([(int(s >= cut), int(w)) for s, w in zip(scores, wanted, strict=True)]) or 0.0,
        )
        found[level] = lowest = best
    return found


@checked_call
def graded_by(thresholds: Mapping[int, float], score: float, lowest: int = 0) -> int:
    """The highest grade whose threshold the score reaches; `lowest` where it reaches none."""
    return max((grade for grade, least in thresholds.items() if score >= least), default=lowest)
