"""What a pruning would do, before anything is encoded: counts, savings, a histogram, and examples of what goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.prune.decision import REASONS, Decision
from thresher.quality.lexical import words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BINS = 20
_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Example:
    """One passage and what becomes of it."""

    docno: str
    score: float
    reason: str
    text: str
    canonical: str = ""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a decision comes to.

    Attributes:
        counts: passages by tier and reason, words in all and words kept.
        junk: passages that went as junk, by rule.
        edges: float64[bins + 1], borders of the histogram's bins.
        kept, gone: int64[bins], passages by score.
        examples: the best of what goes (the border line), the worst, and some junk and duplicates.
    """

    counts: dict[str, int]
    junk: dict[str, int]
    edges: NDArray[np.float64]
    kept: NDArray[np.int64]
    gone: NDArray[np.int64]
    examples: tuple[Example, ...]

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {
            "counts": self.counts,
            "junk": self.junk,
            "histogram": {
                "edges": [round(float(e), 6) for e in self.edges],
                "kept": self.kept.tolist(),
                "gone": self.gone.tolist(),
            },
            "examples": [
                {"docno": e.docno, "score": e.score, "reason": e.reason, "text": e.text, "canonical": e.canonical}
                for e in self.examples
            ],
        }


def report(
    decision: Decision,
    docnos: Sequence[str],
    scores: NDArray[np.floating],
    texts: Sequence[str],
    *,
    examples: int = 5,
) -> PruneReport:
    """Describe `decision`, with up to `examples` passages of each sort; scores are float[n], in corpus order."""
    values: NDArray[np.float64] = np.asarray(scores, np.float64)
    lengths = np.fromiter((len(words_of(text)) for text in texts), np.int64, len(texts))
    kept = decision.kept
    edges = np.histogram_bin_edges(values, _BINS) if len(values) else np.linspace(0, 1, _BINS + 1)
    junk: dict[str, int] = {}
    for reason in decision.junk.values():
        junk[reason] = junk.get(reason, 0) + 1
    counts = decision.counts() | {"words": int(lengths.sum()), "words_kept": int(lengths[kept].sum())}
    return PruneReport(
        counts,
        dict(sorted(junk.items())),
        edges,
        np.histogram(values[kept], edges)[0],
        np.histogram(values[~kept], edges)[0],
        tuple(_examples(decision, docnos, values, texts, examples)),
    )


def _examples(
    decision: Decision, docnos: Sequence[str], scores: NDArray[np.float64], texts: Sequence[str], limit: int
) -> list[Example]:
    order = np.argsort(-scores, kind="stable")
    by_score = order[decision.reasons[order] == REASONS.index("score")]
    worst = by_score[max(len(by_score) - limit, limit) :]
    chosen = [*by_score[:limit], *worst]
    for reason in ("junk", "duplicate"):
        chosen += list(np.flatnonzero(decision.reasons == REASONS.index(reason))[:limit])
    out = []
    for row in map(int, chosen):
        reason = REASONS[decision.reasons[row]]
        reason = f"junk: {decision.junk[row]}" if row in decision.junk else reason
        target = int(decision.canonical[row])
        represented = docnos[target] if target != row and reason == "duplicate" else ""
        shown = texts[row] if len(texts[row]) <= _SHOWN else texts[row][: _SHOWN - 1] + "…"
        out.append(Example(docnos[row], float(scores[row]), reason, shown, represented))
    return out
