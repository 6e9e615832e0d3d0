"""The stages of an answer, each a function from the ranking so far to a better one.

- `search`: candidates by sparse score, from the index with its tiers.
- `interpolate`: alpha * min-max(sparse) + (1 - alpha) * dense over the candidates, with early stopping
  (Fast-Forward). Of the candidates without a vector, which pruned passages are, the first are encoded now and
  remembered; the others get the mean dense score of those that have one.
- `rank`: the head of the ranking read by a cross-encoder; sparse score, dense score and relevance, each standardised
  over the passages read, are summed with fixed weights. With a `Reranker` its order is taken as it is.
- `context`: sentences of the first k chosen by what they add to those chosen before, so that the same fact is handed
  over once (`thresher.context.select`); what the ranker has read is not read again.

Under a deadline the ranker reads in parts: half of what fits, then half of what fits then, so that one wrong prediction
late in the stage is about a passage or two.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.context.pruner import ContextPruner
from thresher.context.scoring import PassageScores
from thresher.context.select import select
from thresher.pipeline.answer import StageReport
from thresher.ranking import Ranking, normalise_scores
from thresher.records import Hit, Passage, Span
from thresher.search import Index, SearchRanking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.build.recipe import AskStep
    from thresher.context import PrunedPassage
    from thresher.context.scoring import SplitPassage
    from thresher.context.select import Selection
    from thresher.pipeline.costs import Costs, Deadline
    from thresher.pipeline.parts import Reader, VectorsPart
    from thresher.rerank.reranker import Reranker
    from thresher.vectors.store import VectorStore

Counts = dict[str, "int | float"]
PASSAGE_UNITS, CALL_UNITS = 12, 24
"""What a passage, and a call of the model, cost beside their tokens, in tokens' worth."""
_LATE_SHARE = 0.2
"""Of the time that is left, what encoding pruned passages may take."""


@dataclass(slots=True)
class Course:
    """An answer in the making.

    Attributes:
        query: what is asked.
        settings: how the stages work.
        k: passages to hand over.
        max_tokens: that they may cost together, None for no limit.
        deadline: time that is left.
        costs: what stages cost.
        found: the candidates, in first-stage order; hits are made when looked at.
        docnos: of the candidates.
        order: places in `found`, best first.
        scores: by signal, place to score.
        read: place to what the model said.
        sentences: of texts that were split.
        reserved: milliseconds kept for the stages to come.
        apart: milliseconds of the stage that runs whose cost is learnt apart from the stage's.
    """

    query: str
    settings: AskStep
    k: int
    max_tokens: int | None
    deadline: Deadline
    costs: Costs
    found: Any = ()
    docnos: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    read: dict[int, PassageScores] = field(default_factory=dict)
    sentences: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    reserved: float = 0.0
    apart: float = 0.0
    _hits: dict[int, Hit] = field(default_factory=dict)

    def hit(self, place: int) -> Hit:
        """The candidate at `place`."""
        if place not in self._hits:
            self._hits[place] = self.found[place]
        return self._hits[place]

    def tier(self, place: int) -> int:
        """The tier it came from."""
        tiers = getattr(self.found, "tiers", None)
        return int(tiers[place]) if tiers is not None else 1

    def left(self) -> float:
        """Milliseconds that a stage may still take."""
        return self.deadline.left() - self.reserved


def search(course: Course, first: Any, given: Sequence[Hit] | None) -> tuple[StageReport, Counts]:
    """Candidates from the index, or those the caller brought."""
    counts: Counts = {}
    exact = True
    if given is not None:
        course.found, course.docnos = tuple(given), [hit.docno for hit in given]
        scores: Sequence[float] = [hit.score for hit in given]
    else:
        result = _found(first, course)
        course.found, course.docnos, scores = result, list(result.docnos), result.scores
        counts = _work(result)
        exact = bool(result.exact)
    course.order = list(range(len(course.docnos)))
    course.scores["search"] = dict(enumerate(map(float, scores)))
    return StageReport("search", "done", exact), {"candidates": len(course.docnos), **counts}


def _found(first: Any, course: Course) -> Any:
    query, depth = course.query, max(course.settings.depth, course.k)
    if isinstance(first, Index):
        return first.search(query, depth, tiers=course.settings.tiers, explain=True)
    return first.search(query, depth, explain=True)


def _work(result: Any) -> Counts:
    explained = list(getattr(result, "explanations", ()))
    counts: Counts = {
        name: sum(getattr(e, name) for e in explained)
        for name in ("terms", "postings", "scored", "blocks", "visited")
        if explained
    }
    if getattr(result, "escalated", False):
        counts |= {"escalated": 1, "tier_2": sum(tier == 2 for tier in result.tiers)}
    return counts


def interpolate(course: Course, part: VectorsPart, first: Any) -> tuple[StageReport, Counts]:
    """The ranking interpolated with dense scores, those of the query moved by feedback from its first passages."""
    settings = course.settings
    ranking = _ranking(course, part.store, first)
    late, encoded = _late_vectors(course, part, ranking)
    found = part.store.interpolate(
        ranking,
        part.vector(course.query),
        alpha=settings.alpha,
        k=max(course.k, settings.read),
        missing="mean",
        vectors=late,
        feedback=settings.feedback,
        feedback_weight=settings.feedback_weight,
    )
    head = found.places.tolist()
    course.scores["dense"] = dict(zip(head, found.dense.tolist(), strict=True))
    course.scores["interpolate"] = dict(zip(head, found.scores.tolist(), strict=True))
    chosen = set(head)
    course.order = [*head, *(place for place in course.order if place not in chosen)]
    counts: Counts = {"candidates": found.candidates, "lookups": found.lookups, "forwards": 1 + encoded}
    reason = f"{found.missing} candidates have no vector and count with the mean" if found.missing else ""
    return StageReport("interpolate", "done", not found.missing, reason), counts


class _Numbers:
    """Docnos of candidates by passage number."""

    def __init__(self, docnos: Mapping[int, str]) -> None:
        self._docnos = docnos

    def docnos_at(self, numbers: NDArray[np.int64]) -> list[str]:
        return [self._docnos[number] for number in numbers.tolist()]

    def passages_at(self, numbers: NDArray[np.int64]) -> list[Passage]:
        raise NotImplementedError

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        raise NotImplementedError


def _ranking(course: Course, store: VectorStore, first: Any) -> Ranking:
    """The candidates with their sparse scores, numbered where the store is keyed by passage number."""
    scores = np.array([course.scores["search"][place] for place in range(len(course.docnos))], np.float64)
    if store.docnos is not None:
        return Ranking(course.docnos, scores)
    if isinstance(course.found, SearchRanking):
        return course.found
    numbers = first.numbers(course.docnos)
    unknown = numbers < 0
    numbers[unknown] = len(first) + np.flatnonzero(unknown)
    named = _Numbers(dict(zip(numbers.tolist(), course.docnos, strict=True)))
    return Ranking.of_numbers(named, numbers, scores)


def _late_vectors(course: Course, part: VectorsPart, ranking: Ranking) -> tuple[dict[str, NDArray[Any]], int]:
    """Vectors of the first candidates that the index has none of, and how many of them were made now."""
    if not course.settings.encode_missing or not part.encodes_passages:
        return {}, 0
    absent = np.flatnonzero(part.store.find_ranking(ranking) < 0)[: course.settings.encode_missing].tolist()
    vectors = part.known([course.docnos[place] for place in absent])
    wanted = [place for place in absent if course.docnos[place] not in vectors]
    tokens = [len(course.hit(place).text.split()) for place in wanted]
    if course.deadline.limited:  # no more than a part of the time: what has a vector must still be read
        known = course.costs.known("encode")
        wanted = wanted[: _fitting(course, tokens, "encode", 0, course.left() * _LATE_SHARE) if known else 1]
    if wanted:
        started = course.deadline.now()
        vectors |= part.encode([course.hit(place) for place in wanted])
        course.apart = (course.deadline.now() - started) * 1000
        course.costs.observe("encode", course.apart, units(tokens[: len(wanted)], calls=0))
    return vectors, len(wanted)


def units(tokens: Sequence[int], calls: int = 1) -> int:
    """What reading passages of so many tokens in so many calls of the model costs, in tokens' worth."""
    return sum(tokens) + PASSAGE_UNITS * len(tokens) + CALL_UNITS * calls


def rank_by_reader(course: Course, reader: Reader) -> tuple[StageReport, Counts]:
    """The head of the ranking read, and sorted by the mixture of all that is known of it."""
    places = course.order[: course.settings.read]
    tokens = [reader.tokens(course.hit(place)) for place in places]
    if course.settings.read_tokens:
        total = np.cumsum(tokens)
        count = max(1, int(np.searchsorted(total, course.settings.read_tokens, side="right")))
        places, tokens = places[:count], tokens[:count]
    done = _read_in_time(course, reader, places, tokens)
    head = places[:done]
    _mix(course, head)
    ranked = sorted(head, key=lambda p: (-course.scores["rank"][p], course.docnos[p].encode()))
    course.order = [*ranked, *course.order[done:]]
    counts: Counts = {"passages": done, "forwards": _forwards(course, head), "tokens": sum(tokens[:done])}
    if done < len(places):
        return StageReport("rank", "cut", False, f"time for {done} of {len(places)} passages"), counts
    return StageReport("rank", "done"), counts


def _read_in_time(course: Course, reader: Reader, places: Sequence[int], tokens: Sequence[int]) -> int:
    """Read from the front as many as fit; how many were read."""
    if not course.deadline.limited:
        with reader.lock:
            _read(course, reader, places, tokens)
        return len(places)
    done = 0
    if not reader.lock.acquire(timeout=max(0.0, course.left() / 1000)):
        return 0
    try:
        while done < len(places):
            fit = _fitting(course, tokens[done:], "rank", 1, course.left())
            if fit == 0:
                break
            part = fit if fit <= 2 else max(2, (fit + 1) // 2)
            _read(course, reader, places[done : done + part], tokens[done : done + part])
            done += part
    finally:
        reader.lock.release()
    return done


def _fitting(course: Course, tokens: Sequence[int], work: str, calls: int, left: float) -> int:
    """How many passages from the front are predicted to go through the model in the milliseconds that are left."""
    fit = 0
    while fit < len(tokens) and course.costs.predict(work, units(tokens[: fit + 1], calls)) <= left:
        fit += 1
    return fit


def _read(course: Course, reader: Reader, places: Sequence[int], tokens: Sequence[int]) -> None:
    started = course.deadline.now()
    said = reader.read(course.query, [course.hit(place) for place in places], course.sentences)
    course.costs.observe("rank", (course.deadline.now() - started) * 1000, units(tokens))
    course.read.update(zip(places, said, strict=True))


def _forwards(course: Course, places: Sequence[int]) -> int:
    return sum(getattr(course.read[place], "forwards", 1) for place in places)


def _mix(course: Course, places: Sequence[int]) -> None:
    """Scores `relevance` and `rank` of the passages read."""
    course.scores["relevance"] = {place: course.read[place].relevance for place in places}
    total = np.zeros(len(places))
    for weight, signal in zip(course.settings.weights, ("search", "dense", "relevance"), strict=True):
        known = course.scores.get(signal, {})
        if places and all(place in known for place in places):
            total += weight * normalise_scores(np.array([known[place] for place in places]), "z-score")
    course.scores["rank"] = dict(zip(places, total.tolist(), strict=True))


def rank_by_reranker(course: Course, reranker: Reranker) -> tuple[StageReport, Counts]:
    """The head of the ranking in the reranker's order; under a deadline, its best so far when the time is over."""
    left = course.left()
    if not math.isinf(left):
        limits = reranker.budget_per_query
        seconds = max(0.0, left / 1000)
        seconds = seconds if limits.seconds is None else min(seconds, limits.seconds)
        reranker = copy.copy(reranker)
        reranker.budget_per_query = dataclasses.replace(limits, seconds=seconds)
    depth = len(course.order) if reranker.depth is None else reranker.depth
    head = course.order[:depth]
    result = reranker.rank(course.query, [course.hit(place) for place in head])
    place_of = {course.docnos[place]: place for place in head}
    ranked = [place_of[hit.docno] for hit in result.hits]
    course.scores["rank"] = {place: hit.score for place, hit in zip(ranked, result.hits, strict=True)}
    course.order = [*ranked, *course.order[len(head) :]]
    record = result.record
    counts: Counts = {
        "passages": len(head),
        "calls": record.calls,
        "tokens": record.prompt_tokens + record.answer_tokens,
    }
    if record.money is not None:
        counts["money"] = record.money
    if result.complete:
        return StageReport("rank", "done"), counts
    reason = f"the budget in {result.stopped} ended" if result.stopped else "some comparisons got no answer"
    return StageReport("rank", "cut" if result.stopped == "seconds" else "done", False, reason), counts


def context(
    course: Course, reader: Reader, pruner: ContextPruner, shared: bool
) -> tuple[StageReport, Counts, list[PrunedPassage]]:
    """Sentences of the first k chosen. `shared`: the ranker read with the same model."""
    places = course.order[: course.k]
    if not shared:
        course.read.clear()
    unread = [place for place in places if place not in course.read]
    tokens = [reader.tokens(course.hit(place)) for place in unread]
    done = _read_in_time(course, reader, unread, tokens) if unread else 0
    hits = [course.hit(place) for place in places]
    known = _Known(reader.scorer.name, reader.scorer.presets, [course.read.get(place) for place in places])
    one = ContextPruner(
        known, splitter=lambda text: reader.split(text, course.sentences), count_tokens=pruner.count_tokens
    )
    settings, by_gain = course.settings, course.settings.repeats == "drop"
    pruned = one.prune(
        course.query,
        hits,
        threshold=settings.threshold,
        max_tokens=None if by_gain else course.max_tokens,
        min_keep=settings.min_keep,
    )
    counts: Counts = {"passages": len(places), "forwards": _forwards(course, unread[:done])}
    if by_gain:
        unknown = [number for number, place in enumerate(places) if place not in course.read]
        chosen = _by_gain(course, pruner, pruned, unknown)
        pruned, counts["repeated"] = list(chosen.pruned), chosen.repeated
    counts |= kept(pruned)
    if done < len(unread):
        missing = len(unread) - done
        return StageReport("context", "cut", False, f"{missing} passages stay whole for want of time"), counts, pruned
    return StageReport("context", "done"), counts, pruned


def _by_gain(
    course: Course, pruner: ContextPruner, pruned: Sequence[PrunedPassage], unknown: Sequence[int]
) -> Selection:
    """Of the sentences that pass, those that add enough to what is kept already, within the budget."""
    limit = pruned[0].threshold if pruned else 0.0
    return select(
        pruned,
        pruner.count_tokens,
        max_tokens=course.max_tokens,
        min_gain=limit,
        min_keep=course.settings.min_keep,
        whole=unknown if limit else range(len(pruned)),  # a threshold of 0 keeps all
    )


def whole(course: Course, pruner: ContextPruner) -> list[PrunedPassage]:
    """The first k as they are: whole, or from the front as far as `max_context_tokens` goes."""
    hits = [course.hit(place) for place in course.order[: course.k]]
    splitter = _as_one if course.max_tokens is None else pruner.splitter
    nothing_known = _Known("everything", {}, [None] * len(hits))
    everything = ContextPruner(nothing_known, splitter=splitter, count_tokens=pruner.count_tokens)
    return everything.prune(course.query, hits, threshold=0.0, max_tokens=course.max_tokens)


def _as_one(text: str) -> list[Span]:
    return [Span(0, len(text))] if text else []


def kept(pruned: Sequence[PrunedPassage]) -> Counts:
    """What sentence selection made of the passages."""
    characters = sum(len(one.original) for one in pruned)
    left = sum(span.end - span.start for one in pruned for span in one.spans)
    return {
        "sentences": sum(len(one.sentences) for one in pruned),
        "sentences_kept": sum(map(sum, (one.keep for one in pruned))),
        "characters": characters,
        "characters_dropped": characters - left,
        "tokens": sum(one.tokens for one in pruned),
        "tokens_dropped": sum(one.original_tokens - one.tokens for one in pruned),
    }


class _Known:
    """A scorer of passages that were read already; sentences of others all score 1 and stay."""

    def __init__(self, name: str, presets: Mapping[str, float], known: Sequence[PassageScores | None]) -> None:
        self.name, self.presets = name, presets
        self._known = known

    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        return [
            PassageScores(0.0, (1.0,) * len(passage.sentences)) if said is None else said
            for said, (_, passage) in zip(self._known, pairs, strict=True)
        ]
