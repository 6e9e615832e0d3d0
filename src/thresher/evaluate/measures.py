"""Effectiveness of a run against relevance judgments: nDCG, AP, RR, R, P, Success, Judged, bpref.

Measures are named in the grammar of ir_measures: NAME [ "(" PARAMETER "=" VALUE { "," ... } ")" ] [ "@" CUTOFF ], as in
`nDCG@10`, `AP(rel=2)`, `R(rel=2)@1000`. A measure has one canonical spelling (`str(measure)`), under which its values
are reported; `MAP`, `MRR`, `NDCG`, `Recall`, `Precision` and `BPref` are read as the names ir_measures gives them, and
trec_eval's own names (`map`, `ndcg_cut_10`, `P_10`, `recip_rank`) as what they mean there without its option -l.

Definitions are those of trec_eval 9, under the names of ir_measures:

    nDCG@k     linear gain (the grade itself, negative ones 0), discount log2(rank + 1), ideal from all judgments
               (Järvelin and Kekäläinen, TOIS 2002; the exponential-gain variant is another measure, not offered here)
    AP(rel)    mean over all relevant documents of the precision at their ranks, 0 for those not retrieved
    RR(rel)@k  1 / rank of the first relevant document
    R(rel)@k   share of the relevant documents in the top k
    P(rel)@k   relevant documents in the top k, divided by k even where fewer were retrieved
    Success@k  whether a relevant document is in the top k
    Judged@k   share of the top k that was judged, whatever the grade; of what was retrieved where that is less than k
    Bpref(rel) preferences of relevant over judged nonrelevant documents kept (Buckley and Voorhees, SIGIR 2004)

`judged_only=True` removes unjudged documents from the ranking first (condensed lists: Sakai, SIGIR 2007). A negative
grade is trec_eval's mark for "in the pool but not judged": such a document is neither relevant nor nonrelevant, leaves
condensed lists, and only Judged counts it as a judgment.

One tie rule serves all measures, trec_eval's: scores are compared in single precision, equal ones ordered by docno
descending; the order of rows and the rank column count for nothing. (ir_measures sends RR@k and Judged@k to other code
with the opposite rule.) The mean is taken over the topics of the qrels: a topic without results counts 0, and so does
one without relevant documents; topics of the run that were never judged are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.evaluate.trec import trec_order
from thresher.records import Qrels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from thresher.ranking import Run

_UNJUDGED = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class _Form:
    """The parameters of a measure, and whether `@k` must, may or cannot follow."""

    parameters: tuple[str, ...]
    cutoff: str
    example: str


KNOWN = {
    "nDCG": _Form(("judged_only",), "may", "nDCG@10"),
    "AP": _Form(("rel", "judged_only"), "may", "AP(rel=2)"),
    "RR": _Form(("rel", "judged_only"), "may", "RR(rel=2)@10"),
    "R": _Form(("rel", "judged_only"), "must", "R(rel=2)@1000"),
    "P": _Form(("rel", "judged_only"), "must", "P(rel=2)@10"),
    "Success": _Form(("rel", "judged_only"), "must", "Success(rel=2)@5"),
    "Judged": _Form((), "may", "Judged@10"),
    "Bpref": _Form(("rel",), "cannot", "Bpref(rel=2)"),
}
_ALIASES = {"NDCG": "nDCG", "MAP": "AP", "MRR": "RR", "Recall": "R", "Precision": "P", "BPref": "Bpref"}
_TREC_EVAL = {
    "map": "AP", "map_cut": "AP", "ndcg": "nDCG", "ndcg_cut": "nDCG", "recip_rank": "RR", "P": "P", "recall": "R",
    "success": "Success", "bpref": "Bpref",
}  # fmt: skip
_TREC_EVAL_NAME = re.compile(r"(?P<name>[a-zA-Z_]+?)(?:[._](?P<cutoff>\d+))?")
_GRAMMAR = re.compile(r"(?P<name>[^\W\d]\w*)(?:\((?P<parameters>[^()]*)\))?(?:@(?P<cutoff>[^@]*))?")


@checked_call
@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of a ranking against judgments.

    Attributes:
        name: one of `KNOWN`.
        cutoff: only this many rows count; None is the whole ranking.
        rel: lowest grade that counts as relevant (nDCG and Judged have no such line).
        judged_only: leave unjudged documents out of the ranking first (condensed list).

    Raises:
        InputError: there is no such measure, or it has no such parameter.
    """

    name: str
    cutoff: int | None = None
    rel: int = 1
    judged_only: bool = False

    def __post_init__(self) -> None:
        form = KNOWN.get(self.name)
        if form is None:
            raise InputError(f"unknown measure {self.name!r}; known are: {_existing()}")
        if self.cutoff is None and form.cutoff == "must":
            raise InputError(f"{self.name} needs a cutoff, as in {form.example}")
        if self.cutoff is not None and form.cutoff == "cannot":
            raise InputError(f"{self.name} takes no cutoff; write it as in {form.example}")
        if self.cutoff is not None and self.cutoff < 1:
            raise InputError(f"the cutoff of {self.name} must be at least 1, got {self.cutoff}")
        if self.rel < 1:
            raise InputError(f"{self.name}(rel={self.rel}): the lowest relevant grade must be at least 1")
        for parameter, given in (("rel", self.rel != 1), ("judged_only", self.judged_only)):
            if given and parameter not in form.parameters:
                raise InputError(_no_parameter(self.name, parameter))

    def __str__(self) -> str:
        said = [f"rel={self.rel}"] if self.rel != 1 else []
        said += ["judged_only=True"] if self.judged_only else []
        return self.name + (f"({','.join(said)})" if said else "") + ("" if self.cutoff is None else f"@{self.cutoff}")


@checked_call
def parse_measure(text: str) -> Measure:
    """The measure that `text` names.

    Raises:
        InputError: `text` is not in the grammar, or names a measure or parameter that does not exist.
    """
    trec_eval = _TREC_EVAL_NAME.fullmatch(text.strip())
    if trec_eval is not None and trec_eval["name"] in _TREC_EVAL:
        cut = trec_eval["cutoff"]
        return Measure(_TREC_EVAL[trec_eval["name"]], None if cut is None else _whole(text, "cutoff", cut))
    match = _GRAMMAR.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a measure; write, for example: {_existing()}")
    name = _ALIASES.get(match["name"], match["name"])
    if name not in KNOWN:
        raise InputError(f"unknown measure {match['name']!r}; known are: {_existing()}")
    cutoff = None if match["cutoff"] is None else _whole(text, "cutoff", match["cutoff"])
    rel, judged_only = 1, False
    for part in filter(None, (part.strip() for part in (match["parameters"] or "").split(","))):
        parameter, _, value = (side.strip() for side in part.partition("="))
        if parameter not in KNOWN[name].parameters:
            raise InputError(_no_parameter(name, parameter))
        if parameter == "rel":
            rel = _whole(text, "rel", value)
        elif value in ("True", "False"):
            judged_only = value == "True"
        else:
            raise InputError(f"{text!r}: judged_only must be True or False, got {value!r}")
    return Measure(name, cutoff, rel, judged_only)


@checked_call
def parse_measures(measures: str | Measure | Iterable[str | Measure]) -> tuple[Measure, ...]:
    """Measures from a string (separated by blanks or commas), a measure, or any mixture; each once, in order.

    Raises:
        InputError: as `parse_measure`, or none is named.
    """
    if isinstance(measures, str | Measure):
        measures = [measures]
    found: dict[Measure, None] = {}
    for item in measures:
        if isinstance(item, Measure):
            found[item] = None
        else:
            found.update((parse_measure(part), None) for part in _split(item))
    if not found:
        raise InputError(f"no measure given; write, for example: {_existing()}")
    return tuple(found)


def _split(text: str) -> list[str]:
    """Cut at blanks and commas outside parentheses."""
    return re.findall(r"(?:\([^()]*\)|[^\s,])+", text)


def _whole(text: str, what: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InputError(f"{text!r}: {what} must be a whole number, got {value!r}") from None


def _existing() -> str:
    return ", ".join(form.example for form in KNOWN.values())


def _no_parameter(name: str, parameter: str) -> str:
    known = ", ".join(KNOWN[name].parameters) or "none"
    more = "; gain is linear and every grade counts" if name == "nDCG" else ""
    return f"{name} has no parameter {parameter!r}; it has: {known}{more}"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values of some measures for one run.

    Attributes:
        mean: canonical measure name to its mean over the topics of the qrels.
        per_query: canonical measure name to qid to value; every topic of the qrels, in their order.
    """

    mean: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]

    def name_of(self, measure: str | Measure) -> str:
        """The name under which a measure was evaluated: its canonical one, or one that needs no judgments.

        Raises:
            InputError: that measure was not evaluated.
        """
        if str(measure) in self.per_query:
            return str(measure)
        name = str(parse_measure(measure) if isinstance(measure, str) else measure)
        if name not in self.per_query:
            raise InputError(f"{name} was not evaluated; evaluated were: {', '.join(self.per_query)}")
        return name

    def values(self, measure: str | Measure) -> NDArray[np.float64]:
        """float64[topics]: a measure's values in the order of the qrels, ready for pairing.

        Raises:
            InputError: that measure was not evaluated.
        """
        return np.fromiter(self.per_query[self.name_of(measure)].values(), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Topic:
    """A ranking seen through its judgments.

    Attributes:
        grades: int64[n], the grade at each rank; `_UNJUDGED` where there is none.
        judged: int64[m], all grades of the topic, descending.
    """

    grades: NDArray[np.int64]
    judged: NDArray[np.int64]

    def top(self, measure: Measure) -> NDArray[np.int64]:
        """Grades down to the cutoff, unjudged documents removed first where the measure says so."""
        grades = self.grades[self.grades >= 0] if measure.judged_only else self.grades
        return grades[: measure.cutoff]

    def hits(self, measure: Measure) -> NDArray[np.bool_]:
        """Whether the document at each rank is relevant."""
        return self.top(measure) >= measure.rel

    def relevant(self, measure: Measure) -> int:
        """How many relevant documents were judged."""
        return int(np.count_nonzero(self.judged >= measure.rel))


@checked_call
def evaluate(
    run: Run | Mapping[str, Mapping[str, float]],
    qrels: Qrels | Mapping[str, Mapping[str, int]],
    measures: str | Measure | Iterable[str | Measure],
) -> Evaluation:
    """Measure `run` against `qrels`.

    Scores decide the order, as they do for readers of a TREC file: two documents of one score are ordered by docno
    descending even if the run lists them the other way. Pass `untied(run)` to measure the order that the run gives.

    Args:
        run: rankings, or plain mappings qid to docno to score.
        qrels: judgments, or plain mappings qid to docno to grade.
        measures: names such as `"nDCG@10 AP(rel=2)"`, one string or several.

    Raises:
        InputError: an unknown measure, qrels without topics, a score that is not finite, a docno twice in a ranking,
            or a run none of whose topics is judged.
    """
    wanted = parse_measures(measures)
    judgments = qrels.judgments if isinstance(qrels, Qrels) else qrels
    rankings = {q: list(rows.items()) if isinstance(rows, Mapping) else rows.pairs() for q, rows in run.items()}
    if not judgments:
        raise InputError("the qrels hold no topics, so there is nothing to average over")
    if rankings and not any(qid in judgments for qid in rankings):
        raise InputError(
            f"none of the run's {len(rankings)} topics is judged: the run has qid {next(iter(rankings))!r}, the qrels "
            f"have qid {next(iter(judgments))!r}; are they of the same collection?"
        )
    for qid, grades in judgments.items():
        if any(abs(grade) >= 2**31 for grade in grades.values()):
            raise InputError(f"qid {qid!r}: a grade is beyond 32 bits")
    per_query: dict[str, dict[str, float]] = {str(measure): {} for measure in wanted}
    for qid, grades in judgments.items():
        docnos = ordered_docnos(qid, rankings.get(qid, ()))
        topic = _Topic(
            np.array([grades.get(docno, _UNJUDGED) for docno in docnos], dtype=np.int64),
            np.sort(np.fromiter(grades.values(), dtype=np.int64, count=len(grades)))[::-1],
        )
        for measure in wanted:
            per_query[str(measure)][qid] = float(_FORMULAS[measure.name](topic, measure))
    mean = {name: math.fsum(values.values()) / len(values) for name, values in per_query.items()}
    return Evaluation(mean, per_query)


def ordered_docnos(qid: str, rows: Iterable[tuple[str, float]]) -> list[str]:
    """The documents of one ranking in trec_eval's order, best first.

    Raises:
        InputError: a score that is not finite, or a docno twice.
    """
    rows = tuple(rows)
    docnos, scores = [row[0] for row in rows], [row[1] for row in rows]
    if not np.isfinite(np.array(scores, dtype=np.float64)).all():
        bad = next(row for row in rows if not math.isfinite(row[1]))
        raise InputError(f"qid {qid!r}: document {bad[0]!r} has the score {bad[1]!r}, which is not finite")
    if len(set(docnos)) != len(docnos):
        again = next(docno for i, docno in enumerate(docnos) if docno in docnos[:i])
        raise InputError(f"qid {qid!r}: document {again!r} is ranked twice; a ranking holds each document once")
    return [docnos[i] for i in trec_order(docnos, scores)]


def _dcg(grades: NDArray[np.int64]) -> float:
    gains = np.maximum(grades, 0)
    return float((gains / np.log2(np.arange(2, gains.shape[0] + 2))).sum())


def _ndcg(topic: _Topic, measure: Measure) -> float:
    ideal = _dcg(topic.judged[: measure.cutoff])
    return _dcg(topic.top(measure)) / ideal if ideal else 0.0


def _average_precision(topic: _Topic, measure: Measure) -> float:
    ranks = np.flatnonzero(topic.hits(measure)) + 1
    precisions = np.arange(1, ranks.shape[0] + 1) / ranks
    return float(precisions.sum()) / relevant if (relevant := topic.relevant(measure)) else 0.0


def _reciprocal_rank(topic: _Topic, measure: Measure) -> float:
    ranks = np.flatnonzero(topic.hits(measure)) + 1
    return 1.0 / int(ranks[0]) if ranks.size else 0.0


def _recall(topic: _Topic, measure: Measure) -> float:
    return _found(topic, measure) / relevant if (relevant := topic.relevant(measure)) else 0.0


def _precision(topic: _Topic, measure: Measure) -> float:
    return _found(topic, measure) / measure.cutoff if measure.cutoff else 0.0


def _success(topic: _Topic, measure: Measure) -> float:
    return float(_found(topic, measure) > 0)


def _found(topic: _Topic, measure: Measure) -> int:
    return int(np.count_nonzero(topic.hits(measure)))


def _judged(topic: _Topic, measure: Measure) -> float:
    top = topic.top(measure)
    return float(np.count_nonzero(top != _UNJUDGED)) / top.shape[0] if top.size else 0.0


def _bpref(topic: _Topic, measure: Measure) -> float:
    relevant = topic.relevant(measure)
    nonrelevant = int(np.count_nonzero((topic.judged >= 0) & (topic.judged < measure.rel)))
    if not relevant:
        return 0.0
    condensed = topic.grades[topic.grades >= 0]
    hits = condensed >= measure.rel
    above = np.cumsum(~hits)[hits]  # judged nonrelevant documents ranked above each relevant one
    bound = max(min(relevant, nonrelevant), 1)  # where there is no nonrelevant document, nothing is above either
    return float((1.0 - np.minimum(above, relevant) / bound).sum()) / relevant


_FORMULAS: dict[str, Callable[[_Topic, Measure], float]] = {
    "nDCG": _ndcg,
    "AP": _average_precision,
    "RR": _reciprocal_rank,
    "R": _recall,
    "P": _precision,
    "Success": _success,
    "Judged": _judged,
    "Bpref": _bpref,
}
