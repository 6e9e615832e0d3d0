"""What a query comes back with: passages and what to read of them, how each stage went, and what it all cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.context.pruned import join_passages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thresher.context.pruned import PrunedPassage
    from thresher.pipeline.stage import StageReport
    from thresher.ranking import Ranking
    from thresher.records import Span, Usage


@dataclass(frozen=True, slots=True)
class AnswerPassage:
    """A passage handed over.

    Attributes:
        docno: its identifier.
        rank: 1-based, in the final ranking.
        scores: by signal, those of the stages that scored it: `search`, `dense`, `interpolate`, `relevance`, `rerank`.
        confidence: the highest probability that one of its sentences helps with the query, 0 to 1; None where no
            stage scored its sentences.
        tier: the tier it came from, 1 or 2.
        sentences: what is kept of it and what is not; where no stage scored its sentences it is whole, unless
            `max_context_tokens` cut it.
        metadata: the corpus's metadata of it.
        aliases: docnos of the duplicates that were folded into it when the index was built.
        original_title: the title as it was indexed, also where nothing of the passage is kept.
        probability: that it is relevant, in [0, 1], by the calibration of the reranker; None where no calibrated
            reranker read it.
    """

    docno: str
    rank: int
    scores: Mapping[str, float]
    confidence: float | None
    tier: int
    sentences: PrunedPassage
    metadata: Mapping[str, object] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    original_title: str = ""
    probability: float | None = None

    @property
    def title(self) -> str:
        """The title, where something of the passage is kept."""
        return self.sentences.title

    @property
    def original(self) -> str:
        """The text as it was indexed."""
        return self.sentences.original

    @property
    def spans(self) -> tuple[Span, ...]:
        """What is kept: half-open ranges of code points of `original`, ascending, not touching."""
        return self.sentences.spans

    @property
    def text(self) -> str:
        """What is kept, joined."""
        return self.sentences.text

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        one = self.sentences
        return {
            "rank": self.rank,
            "docno": self.docno,
            "title": one.title,
            "text": one.text,
            "spans": [[span.start, span.end] for span in one.spans],
            "original": one.original,
            "original_title": self.original_title,
            "sentences": [
                {"start": span.start, "end": span.end, "score": round(score, 6), "kept": kept}
                for span, score, kept in zip(one.sentences, one.scores, one.keep, strict=True)
            ],
            "scores": {name: round(score, 6) for name, score in self.scores.items()},
            "confidence": None if self.confidence is None else round(self.confidence, 6),
            "probability": None if self.probability is None else round(self.probability, 6),
            "tier": self.tier,
            "tokens": one.tokens,
            "metadata": dict(self.metadata),
            "aliases": list(self.aliases),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pipeline found for a query.

    Attributes:
        query: the query.
        qid: its identifier, empty where it was given as a string.
        passages: the first k of the ranking of which something is kept, best first, with what to read of each; those of
            which nothing is kept only where there are fewer. None where the answer was withheld.
        ranking: all candidates in the final order. Its scores fall by one a rank where several stages ranked, which
            score on different scales.
        confidence: the highest of the passages' confidences, None where none has one.
        stages: how each stage went, in order.
        usage: seconds and counts of the stages that ran.
        milliseconds: wall clock, from the call to the answer.
        deadline_ms: the deadline, None for no limit.
        withheld: passages were found, and none is handed over because of `min_confidence`.
        tokens: tokens of `context`, as the pipeline counts them.
    """

    query: str
    qid: str
    passages: tuple[AnswerPassage, ...]
    ranking: Ranking
    confidence: float | None
    stages: tuple[StageReport, ...]
    usage: Usage
    milliseconds: float
    deadline_ms: float | None = None
    withheld: bool = False
    tokens: int = 0

    @property
    def context(self) -> str:
        """The text to put in a prompt: what is kept of each passage under its title, an empty line between passages."""
        return join_passages(one.sentences for one in self.passages)

    @property
    def exact(self) -> bool:
        """Every stage did all it was set to do, without approximation, error or deadline reached."""
        return all(stage.exact for stage in self.stages)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Stages that the deadline left out, or cut short."""
        return tuple(stage.stage for stage in self.stages if stage.outcome in ("skipped", "cut"))

    @property
    def errors(self) -> dict[str, str]:
        """What stages failed with, by stage."""
        return {stage.stage: stage.reason for stage in self.stages if stage.outcome == "failed"}

    @checked_call
    def as_json(self) -> dict[str, object]:
        """Plain JSON, without the ranking beyond the passages."""
        return {
            "query": self.query,
            "qid": self.qid,
            "passages": [one.as_json() for one in self.passages],
            "confidence": None if self.confidence is None else round(self.confidence, 6),
            "withheld": self.withheld,
            "exact": self.exact,
            "skipped": list(self.skipped),
            "errors": self.errors,
            "stages": [
                {"stage": s.stage, "outcome": s.outcome, "exact": s.exact, "reason": s.reason} for s in self.stages
            ],
            "usage": [stage.as_json() for stage in self.usage.stages],
            "milliseconds": round(self.milliseconds, 3),
            "deadline_ms": self.deadline_ms,
            "tokens": self.tokens,
            "candidates": len(self.ranking),
        }
