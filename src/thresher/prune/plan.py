"""A pruning planned for a corpus: score it (or take the scores there are), carry the policy out, account for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, InputError
from thresher.prune.budget import costs_by_words, parse_budget
from thresher.prune.policy import Decision, Policy, decide
from thresher.quality.estimator import QualityEstimator
from thresher.quality.junk import JunkRules
from thresher.quality.store import ScoreStore, score_corpus
from thresher.records import StageUsage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from thresher.prune.step import PruneStep
    from thresher.records import Passage


@dataclass(frozen=True, slots=True)
class Plan:
    """A pruning, decided and accounted for.

    Attributes:
        decision: where every passage goes.
        docnos: in corpus order.
        scores: float32[n].
        estimator: name of what scored.
        estimator_fingerprint: of what scored.
        texts: the passages, as they were scored.
        account: seconds and counts, for the usage: passages, kept, tier_2, dropped, words, words_kept.
        passages: the corpus, held.
    """

    decision: Decision
    docnos: list[str]
    scores: NDArray[np.float32]
    estimator: str
    estimator_fingerprint: str
    texts: list[str]
    account: StageUsage
    passages: list[Passage]

    def tier(self, number: int) -> list[Passage]:
        """The passages of tier 1 or 2, in corpus order."""
        return [self.passages[row] for row in np.flatnonzero(self.decision.tiers == number).tolist()]


def plan_pruning(
    passages: Iterable[Passage],
    step: PruneStep,
    *,
    corpus_fingerprint: str = "",
    estimator: QualityEstimator | None = None,
) -> Plan:
    """Decide what becomes of `passages`, which are held in memory.

    Args:
        passages: the corpus, read once.
        step: what to prune.
        corpus_fingerprint: of the corpus; a score store is checked against it.
        estimator: the estimator itself, in place of the one `step` names.

    Raises:
        ConfigError: the step asks for what it does not give (a floor without a field, a budget without a rate).
        ArtifactError: the score store is another corpus's.
    """
    started = time.perf_counter()
    held = list(passages)
    texts = [p.contents for p in held]
    docnos = [p.docno for p in held]
    policy = _policy(step)
    if step.scores:
        store = ScoreStore.open(step.scores, corpus=corpus_fingerprint)
        scores = np.array([score for _, score in store.stream(held)], np.float32)
        name, fingerprint = store.estimator, store.estimator_fingerprint
    else:
        estimator = estimator or QualityEstimator.from_name(step.estimator, texts=texts)
        scores = score_corpus(held, estimator).scores
        name, fingerprint = estimator.name, estimator.fingerprint
    decision = decide(policy, docnos, scores, texts=texts, groups=_groups(step, held), costs=_costs(step, texts))
    counts = decision.counts()
    lengths = np.array([len(text.split()) for text in texts], np.int64)
    account = StageUsage(
        "prune",
        time.perf_counter() - started,
        {
            "passages": len(held),
            "kept": counts["tier_1"],
            "tier_2": counts["tier_2"],
            "dropped": counts["dropped"],
            "words": int(lengths.sum()),
            "words_kept": int(lengths[decision.kept].sum()),
        },
    )
    return Plan(decision, docnos, scores, name, fingerprint, texts, account, held)


def _policy(step: PruneStep) -> Policy:
    if step.floor and not step.floor_field:
        raise ConfigError("floor needs floor_field, the metadata field that names a passage's source or document")
    return Policy(
        keep=step.keep,
        threshold=step.threshold,
        budget=parse_budget(step.budget)[0] if step.budget else None,
        floor=step.floor,
        pins=frozenset(step.pins),
        junk=JunkRules() if step.junk else None,
        fold=step.fold,
        similarity=step.similarity,
        rest=step.rest,
    )


def _groups(step: PruneStep, passages: list[Passage]) -> list[str] | None:
    if not step.floor:
        return None
    groups = []
    for number, passage in enumerate(passages, start=1):
        if step.floor_field not in passage.metadata:
            raise InputError(
                f"passage {passage.docno!r} has no metadata field {step.floor_field!r}, which the floor groups by; "
                f"it has: {', '.join(passage.metadata) or 'none'}",
                "corpus",
                number,
            )
        groups.append(str(passage.metadata[step.floor_field]))
    return groups


def _costs(step: PruneStep, texts: list[str]) -> NDArray[Any] | None:
    if not step.budget:
        return None
    if not step.rate:
        raise ConfigError(f"the budget {step.budget!r} needs a rate: words a second of encoding, bytes a word of index")
    unit = parse_budget(step.budget)[1]
    return costs_by_words(texts, step.rate if unit == "bytes" else 1 / step.rate, 1)
