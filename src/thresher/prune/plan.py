"""The settings of a pruning, and a pruning decided for a spooled corpus.

Passages are read from the spool a chunk at a time. What is held is about 50 bytes a passage (score, hash of the docno,
order, number of words) and what the estimator keeps of the collection. A report says what the pruning would do before
anything is encoded: counts, savings, a histogram, and examples of what is pruned.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from thresher.checks import shown
from thresher.corpus.spool import docno_keys
from thresher.errors import ConfigError, InputError
from thresher.prune.decision import REASONS, Decision, read_decision
from thresher.prune.policy import Policy, costs_by_words, decide, parse_budget
from thresher.quality.estimator import DOCUMENT, ESTIMATORS, QualityEstimator
from thresher.quality.junk import JunkRules
from thresher.quality.lexical import words_of
from thresher.quality.store import ScoreStore, score_texts
from thresher.records import StageUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydantic._internal._model_construction import ModelMetaclass

    from thresher.corpus.spool import Spool
    from thresher.prune.decision import Decision

else:
    ModelMetaclass = type(BaseModel)

_LARGEST = 2**31 - 1


class Settings(ModelMetaclass):
    """Models of settings that raise a `ConfigError` where one is made of wrong values; validating a file is not it."""

    def __call__(cls, *args: object, **values: object) -> object:  # noqa: D102, N805  (a metaclass)
        try:
            return super().__call__(*args, **values)
        except ValidationError as err:
            wrong = [f"{'.'.join(map(str, e['loc']))} is {shown(e['input'])}: {e['msg']}" for e in err.errors()]
            raise ConfigError(f"{cls.__name__}: {'; '.join(wrong)}") from None


class Table(BaseModel, metaclass=Settings):
    """A table of a recipe: only known keys, of their types, and no number that nothing can be made of."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _is_usable(cls, value: object) -> object:
        if isinstance(value, int) and value > _LARGEST:
            raise ValueError(f"a number above {_LARGEST:,} is not meant")
        if isinstance(value, str) and "\0" in value:
            raise ValueError("text cannot hold a NUL")
        return value


class PruneStep(Table):
    """What to prune, as recipes and the command line spell it."""

    estimator: str = "embedded"
    """Name of a quality estimator, or the directory of a fitted one."""
    scores: str = ""
    """A score store (`thresher quality score`) to read the scores from, instead of scoring."""
    decision: str = ""
    """A decision (`thresher prune -o`) to apply, instead of deciding; the other keys are then not used."""
    keep: float | None = Field(default=None, gt=0, le=1)
    """Fraction of the passages to keep."""
    threshold: float | None = None
    """Minimum score; passages below it are pruned."""
    budget: str = ""
    """What the index may take: bytes of its directory (`2 GB`), or the time to encode it (`3 hours`)."""
    rate: float = Field(default=0.0, ge=0)
    """Words encoded a second, or bytes of index a word, for the budget; 0 measures a sample of the corpus."""
    floor: int = Field(default=0, ge=0)
    """Minimum number of passages kept of every group."""
    floor_field: str = ""
    """The metadata field that names a passage's group (source, document)."""
    pins: tuple[str, ...] = Field(default=(), strict=False)
    """Docnos that are always kept."""
    junk: bool = True
    """Prune junk passages, whatever their score: they go where passages below the cut go."""
    drop_junk: bool = False
    """Drop junk passages, also where other pruned passages go to the second tier."""
    fold: bool = True
    """Fold duplicates into one canonical passage."""
    similarity: float | None = Field(default=0.8, gt=0, le=1)
    """Minimum Jaccard similarity of near-duplicates; null folds exact duplicates only."""
    fold_field: str = ""
    """The metadata field (source, tenant, permissions) within which duplicates are folded: a passage is folded only
    into one with the same value. By default any passage may stand for any other."""
    rest: Literal["tier-2", "drop"] = "tier-2"
    """Where passages below the cut go: to the second tier, or nowhere."""

    @field_validator("budget")
    @classmethod
    def _is_budget(cls, value: str) -> str:
        if value:
            parse_budget(value)
        return value

    def check(self) -> None:
        """Check what the keys say together, and that what they name is there.

        Raises:
            ConfigError: keys that exclude each other, or one that lacks its companion.
            ArtifactError: `scores` or `decision` is not the artifact that it must be.
            DataNotFoundError: there is no such estimator.
        """
        policy_of(self)
        if self.decision:
            read_decision(self.decision)
        elif self.scores:
            ScoreStore.open(self.scores)
        elif not (Path(self.estimator) / DOCUMENT).is_file():
            for name in self.estimator.split("+"):
                ESTIMATORS.factory(name.strip().partition(":")[0])


@dataclass(frozen=True, slots=True)
class Measured:
    """What a sample of a corpus takes.

    Attributes:
        passages: number of passages in the sample.
        words: their words.
        seconds: to encode them.
        first: bytes that they take in the first tier: postings, texts and vectors.
        second: bytes that they take in the second tier.
    """

    passages: int
    words: int
    seconds: float
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class Pruning:
    """A decision for a corpus, the scores it was made by, and what it took.

    Attributes:
        decision: the tier of every passage.
        scores: float32[n], in corpus order.
        estimator: name of the quality estimator.
        estimator_fingerprint: sha256 of what determined the scores.
        fitted: the estimator itself; None where the scores were read, and it is not kept with them.
        policy: what was pruned, as `step` says, or the decision that it names.
        threshold: the least score of a passage that was kept, where a decision was read that says so.
        usage: seconds and counts: passages, kept, tier_2, dropped, words, words_kept.
    """

    decision: Decision
    scores: NDArray[np.float32]
    estimator: str
    estimator_fingerprint: str
    usage: StageUsage
    fitted: QualityEstimator | None = None
    policy: PruneStep | None = None
    threshold: float | None = None


def plan_pruning(
    spool: Spool,
    step: PruneStep,
    *,
    estimator: QualityEstimator | None = None,
    measured: Measured | None = None,
    progress: bool = False,
) -> Pruning:
    """Decide which tier each passage of `spool` goes to.

    Args:
        spool: the corpus.
        step: what to prune.
        estimator: the quality estimator, in place of the one that `step` names.
        measured: what a sample takes, for a budget without a rate.
        progress: show a progress bar for each pass over the texts.

    Raises:
        ConfigError: the step asks for a floor without a field, for a budget that the second tier alone exceeds, or for
            one without a rate or a measurement; or a passage has no text.
        InputError: a passage lacks the metadata field that the floor groups by, or duplicates are folded within.
        ArtifactError: the score store was made for another corpus.
    """
    started = time.perf_counter()
    policy, costs = policy_of(step), None
    texts = spool.texts.watched("pruning") if progress else spool.texts
    if step.budget:
        costs, limit = _costs(step, spool, measured)
        policy = replace(policy, budget=limit)
    if not spool.has_text and len(spool):
        raise ConfigError(f"{spool.name} has no texts, which pruning reads; give the corpus that they are in as well")
    if step.scores:
        store = ScoreStore.open(step.scores, corpus=spool.fingerprint())
        scores = np.fromiter((score for _, score in store.stream(spool)), np.float32, len(spool))
        name, fingerprint = store.estimator, store.estimator_fingerprint
        kept = Path(step.scores) / "estimator"
        estimator = QualityEstimator.load(kept) if kept.is_dir() else None
    else:
        estimator = estimator or QualityEstimator.from_name(step.estimator, texts=texts)
        scores = score_texts(texts, estimator)
        name, fingerprint = estimator.name, estimator.fingerprint
    groups, fold_groups = groups_of(step, spool)
    decision = decide(
        policy,
        spool.docnos,
        scores,
        texts=texts,
        groups=groups,
        fold_groups=fold_groups,
        costs=costs,
        work=spool.directory,
    )
    usage = prune_usage(spool, decision, time.perf_counter() - started)
    return Pruning(decision, scores, name, fingerprint, usage, estimator, step)


def prune_usage(spool: Spool, decision: Decision, seconds: float) -> StageUsage:
    """The usage of a pruning: passages by tier, words in all and in the first tier."""
    counts = decision.counts()
    words = np.fromiter((len(text.split()) for text in spool.texts), np.int64, len(spool))
    return StageUsage(
        "prune",
        seconds,
        {
            "passages": len(spool),
            "kept": counts["tier_1"],
            "tier_2": counts["tier_2"],
            "dropped": counts["dropped"],
            "words": int(words.sum()),
            "words_kept": int(words[decision.kept].sum()),
        },
    )


def policy_of(step: PruneStep) -> Policy:
    """What `decide` is told by a step.

    Raises:
        ConfigError: keys that exclude each other, or one that lacks its companion.
    """
    if step.floor and not step.floor_field:
        raise ConfigError("floor needs floor_field, the metadata field that names a passage's source or document")
    if step.fold_field and not step.fold:
        raise ConfigError(f"fold_field is {step.fold_field!r}, but fold is off, so no duplicates are folded")
    return Policy(
        keep=step.keep,
        threshold=step.threshold,
        budget=parse_budget(step.budget)[0] if step.budget else None,
        floor=step.floor,
        pins=frozenset(step.pins),
        junk=JunkRules() if step.junk else None,
        drop_junk=step.drop_junk,
        fold=step.fold,
        similarity=step.similarity,
        rest=step.rest,
    )


def groups_of(
    step: PruneStep, spool: Spool, *, hashed: bool = False
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """The number of each passage's group, int64[n], for the floor and for folding; None where no field is named.

    `hashed`: a hash of the group's name in place of a number, so that it is the same for parts of a corpus.
    """
    wanted = {"which the floor groups by": step.floor_field if step.floor else ""}
    wanted["within which duplicates are folded"] = step.fold_field
    numbers: dict[str, dict[str, int]] = {field: {} for field in wanted.values() if field}
    groups = {field: np.zeros(len(spool), np.int64) for field in numbers}
    for row, passage in enumerate(spool if numbers else ()):
        for purpose, field in wanted.items():
            if field and field not in passage.metadata:
                raise InputError(
                    f"passage {passage.docno!r} has no metadata field {field!r}, {purpose}; "
                    f"it has: {', '.join(passage.metadata) or 'none'}",
                    spool.name,
                    row + 1,
                )
        for field, known in numbers.items():
            value = str(passage.metadata[field])
            if value not in known:
                known[value] = int(docno_keys([value]).astype(np.int64)[0]) if hashed else len(known)
            groups[field][row] = known[value]
    return groups.get(step.floor_field) if step.floor else None, groups.get(step.fold_field)


def _costs(step: PruneStep, spool: Spool, measured: Measured | None) -> tuple[NDArray[np.float64], float]:
    """What keeping each passage costs, float64[n], and what all together may cost, in the budget's unit.

    With a rate it is what the user says of the first tier. Measured bytes are those of the whole index: each passage
    takes room in one tier or the other, and keeping it costs the difference.
    """
    budget, unit = parse_budget(step.budget)
    if step.rate:
        return costs_by_words(spool.texts, step.rate if unit == "bytes" else 1 / step.rate, 1), budget
    if measured is None or (unit == "seconds" and not measured.seconds):
        raise ConfigError(
            f"the budget {step.budget!r} needs a rate: words a second of encoding, bytes a word of index; a build "
            "measures it where none is given"
        )
    if unit == "seconds":
        return costs_by_words(spool.texts, measured.seconds, measured.words), budget
    first = costs_by_words(spool.texts, measured.first, measured.words)
    if step.rest == "drop":
        return first, budget
    second = first * (measured.second / measured.first)
    if second.sum() > budget:
        raise ConfigError(
            f"the budget {step.budget!r} is too small: all passages in the second tier would take about "
            f"{second.sum():,.0f} bytes; allow more, or drop what is pruned (rest = 'drop', --drop)"
        )
    return np.maximum(first - second, 0), budget - float(second.sum())


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
    """A decision in numbers.

    Attributes:
        counts: passages by tier and reason, words in all and words kept.
        junk: junk passages, by rule.
        edges: float64[bins + 1], borders of the histogram's bins.
        kept, pruned: int64[bins], passages by score.
        examples: pruned passages: the best and the worst by score, and some junk and duplicates.
    """

    counts: dict[str, int]
    junk: dict[str, int]
    edges: NDArray[np.float64]
    kept: NDArray[np.int64]
    pruned: NDArray[np.int64]
    examples: tuple[Example, ...]

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {
            "counts": self.counts,
            "junk": self.junk,
            "histogram": {
                "edges": [round(float(e), 6) for e in self.edges],
                "kept": self.kept.tolist(),
                "pruned": self.pruned.tolist(),
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
