"""A segment made of passages that are added to an index, by the index's own recipe and with what it froze.

Nothing is fitted again: the quality estimator, its threshold, the average length of BM25 and the scale of the impacts
are those of the index's first build, so a score means the same in every segment.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from thresher.build.folding import LiveDuplicates
from thresher.build.pending import IndexSide, is_lexical
from thresher.build.states import store_states
from thresher.build.tiers import TierWriter, folds, named, second_tier
from thresher.build.vectors import check_vectors, open_vectors, second_with_vectors, store_vectors
from thresher.build.weights import CountedTerms, JoinedTerms, LearnedTerms, count_terms, open_learned
from thresher.encode.encoder import concatenate
from thresher.encode.hybrid import is_hybrid
from thresher.errors import ConfigError
from thresher.index.commit import SEGMENTS
from thresher.prune.decision import FOLDER, REASONS, TIER_ONE, TIER_TWO, Decision, write_decision
from thresher.prune.dropped import Dropped
from thresher.prune.frozen import decide_added, frozen_estimator, junk_of
from thresher.prune.plan import PruneStep, groups_of
from thresher.publish import shards_of
from thresher.quality.store import score_texts
from thresher.vectors.segments import SegmentVectors, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.build.known import Known
    from thresher.build.recipe import EncodeStep, Recipe
    from thresher.build.vectors import VectorSource
    from thresher.build.weights import TermSource
    from thresher.corpus.spool import Spool
    from thresher.encode.query_side import QuerySide
    from thresher.encode.shards import PassageEncoder
    from thresher.index.collection import Collection
    from thresher.index.commit import SegmentDraft
    from thresher.index.memory import MemoryLimit
    from thresher.records import Passage, SparseBatch
    from thresher.vectors.store import VectorStore

    Take = Callable[[NDArray[np.int64]], SparseBatch]


@dataclass(frozen=True, slots=True)
class Options:
    """How models run.

    Attributes:
        device: of the models that the recipe names.
        progress: show progress bars.
        dense: the encoder of dense vectors itself, in place of the one that the recipe names.
        memory: how much memory may be resident; None for no limit.
    """

    device: str = "auto"
    progress: bool = False
    dense: PassageEncoder | None = None
    memory: MemoryLimit | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What became of the passages of a new segment.

    Attributes:
        counts: of the segment's first tier, as in a manifest.
        tiers: passages of each tier.
        pruned: passages by reason: those that are not in the first tier.
    """

    counts: Mapping[str, Any]
    tiers: tuple[int, int]
    pruned: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a segment is made of.

    Attributes:
        spool: the passages.
        decision: which tier each goes to; None where all are in the first.
        elsewhere: position of a folded passage to the docno of its representative in another segment.
        terms: weighted terms of the first tier's passages.
        second_terms: gives those of the second tier's.
        schema: types of the metadata fields.
        scale: of the first tier's impacts, where its weights are learned.
        vectors: where vectors come from; None where there are none.
        like: a store of another segment, whose codebook and axes these vectors take.
        collection: the index that the segment is added to, where there is one.
        policy: what was pruned, and the fingerprint of the estimator whose scores decided.
    """

    spool: Spool
    decision: Decision | None
    elsewhere: Mapping[int, str]
    terms: TermSource
    second_terms: Callable[[], TermSource]
    schema: Mapping[str, str]
    scale: float | None
    vectors: VectorSource | None
    like: VectorStore | None
    collection: Collection | None = None
    policy: tuple[PruneStep, str] | None = None


def write_segment(
    draft: SegmentDraft,
    recipe: Recipe,
    contents: Contents,
    *,
    progress: bool = False,
    memory: MemoryLimit | None = None,
) -> Made:
    """Write a segment from facts that are fixed; it is not sealed.

    Args:
        draft: the segment.
        recipe: how the index is built.
        contents: what the segment is made of.
        progress: show bars.
        memory: how much memory may be resident.
    """
    spool, decision, terms, schema = contents.spool, contents.decision, contents.terms, contents.schema
    numbers = np.arange(len(spool)) if decision is None else np.flatnonzero(decision.tiers == TIER_ONE)
    second = np.zeros(0, np.int64) if decision is None else np.flatnonzero(decision.tiers == TIER_TWO)
    writer = TierWriter(
        draft.path, terms, numbers, recipe.index, schema, order=recipe.index.order, scale=contents.scale,
        exact=folds(recipe), memory=memory,
    )  # fmt: skip
    bar: tqdm[None] = tqdm(
        desc="indexing", total=len(spool), unit=" passages", disable=not progress, mininterval=0.5, delay=1
    )
    with writer, bar:
        for passages, batch in terms.rows(spool, numbers):
            writer.add(passages, batch)
            bar.update(len(passages))
        counts = writer.finish()
        if len(second):
            second_tier(draft.path, spool, contents.second_terms(), second, recipe, schema, bar.update, memory)
    draft.fields.update(counts=counts, encoder=named(terms.query_side))
    if recipe.vectors is not None and contents.vectors is not None:
        check_vectors(recipe.vectors, contents.vectors, len(numbers), like=contents.like)
        having = second_with_vectors(recipe, contents.vectors, spool, second)
        store_vectors(
            draft.path, recipe.vectors, contents.vectors, spool, numbers, having, progress=progress, like=contents.like
        )
    if recipe.states is not None:
        store_states(draft.path, recipe.states, spool, numbers, contents.collection, progress=progress)
    if decision is not None and contents.policy is not None:
        step, estimator = contents.policy
        draft.fields["dropped"] = int(decision.counts()["dropped"])
        write_decision(
            draft.path / FOLDER, decision, spool.docnos,
            corpus_fingerprint=spool.fingerprint(), estimator=estimator,
            policy=step.model_dump(mode="json"), dropped=Dropped.of(spool, decision, contents.elsewhere),
        )  # fmt: skip
    return Made(counts, (len(numbers), len(second)), _pruned(decision))


class GivenAndEncoded:
    """Terms of passages some of which came with them; the others are encoded."""

    lexical = False
    impacts = None

    def __init__(
        self, query_side: QuerySide, has: NDArray[np.bool_], take: Take, encoder: Callable[[], TermSource]
    ) -> None:
        self.query_side = query_side
        self._has, self._take, self._encoder = has, take, encoder

    def rows(self, spool: Spool, numbers: NDArray[np.int64]) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
        """The passages with these numbers and their terms."""
        changes = np.flatnonzero(np.diff(self._has[numbers].astype(np.int8))) + 1
        for run in np.split(numbers, changes) if len(numbers) else ():
            if not self._has[run[0]]:
                yield from self._encoder().rows(spool, run)
                continue
            for first in range(0, len(run), 4096):
                yield spool.read(run[first : first + 4096]), self._take(run[first : first + 4096])

    def sample(self, spool: Spool, numbers: NDArray[np.int64]) -> SparseBatch:
        """The terms of these passages."""
        return concatenate([rows for _, rows in self.rows(spool, numbers)])

    def tokens(self, numbers: NDArray[np.int64]) -> None:
        """None: the weights are learned."""


class Addition:
    """A new segment of an open index, and how it is made.

    Args:
        collection: the index at its last commit.
        known: what it knows.
        recipe: how it was built.
        draft: the segment.
        work: a folder for temporary files.
        options: how models run.

    Raises:
        ConfigError: the recipe's encoder is not the one that the index was built with.
    """

    def __init__(
        self, collection: Collection, known: Known, recipe: Recipe, draft: SegmentDraft, work: Path, options: Options
    ) -> None:
        self._collection, self._known, self._recipe = collection, known, recipe
        self._draft, self._work, self._options = draft, work, options

    def make(self, spool: Spool, given: tuple[NDArray[np.bool_], Take] | None, schema: Mapping[str, str]) -> Made:
        """Write the segment.

        Args:
            spool: the passages.
            given: which of them came with weighted terms, and what gives these.
            schema: types of the metadata fields.
        """
        step = self._step
        decision, elsewhere = (None, {}) if step is None else self._decide(spool, step)
        vectors = like = None
        if self._recipe.vectors is not None:
            shards = shards_of(self._collection.path)
            vectors = open_vectors(
                self._recipe.vectors, self._options.dense, shards, self._recipe.encode, self._options.device
            )
            like = vectors_of(self._collection)

        def second_terms() -> TermSource:
            joined = self._recipe.learned_second_tier
            return self._terms(spool, given, "second") if joined else self._lexical(spool, "second")

        policy = None if step is None else (step, str(self._pruning.get("fingerprint", "")))
        contents = Contents(
            spool, decision, elsewhere, self._terms(spool, given, "first"), second_terms, schema, self._scale,
            vectors, like, self._collection, policy,
        )  # fmt: skip
        return write_segment(
            self._draft, self._recipe, contents, progress=self._options.progress, memory=self._options.memory
        )

    @property
    def _step(self) -> PruneStep | None:
        """What is pruned: as the recipe says, or the decision that it named."""
        policy = self._pruning.get("policy")
        return self._recipe.prune if policy is None else PruneStep.model_validate(policy)

    @property
    def _pruning(self) -> Mapping[str, Any]:
        """What the index froze of its pruning."""
        found: Mapping[str, Any] = self._collection.commit.frozen.get("pruning") or {}
        return found

    def _decide(self, spool: Spool, step: PruneStep) -> tuple[Decision, dict[int, str]]:
        """What becomes of each passage, and the docnos of those in the index that stand for some."""
        threshold, docnos, texts = self._pruning.get("threshold"), spool.docnos, spool.texts
        scores = np.zeros(len(spool), np.float32)
        if threshold is not None:
            watched = texts.watched("scoring") if self._options.progress else texts
            estimator = frozen_estimator(
                self._collection.path, {"estimator": step.estimator, **self._pruning}, self._options.device
            )
            scores = score_texts(watched, estimator)
        junk = junk_of(step, docnos, texts)
        live = {}
        if step.fold:
            rows = np.setdiff1d(np.arange(len(spool)), np.fromiter(junk, np.int64, len(junk)))
            live = LiveDuplicates(self._collection.path, self._known, step).find(spool, rows, self._options.progress)
        groups, fold_groups = groups_of(step, spool)
        decision = decide_added(
            step, threshold, docnos, texts, scores, junk=junk, live=live, groups=groups, fold_groups=fold_groups,
            work=self._work,
        )  # fmt: skip
        folded = np.flatnonzero(decision.reasons == REASONS.index("duplicate")).tolist()
        return decision, {row: live[row] for row in folded if row in live}

    def _terms(self, spool: Spool, given: tuple[NDArray[np.bool_], Take] | None, tier: str) -> TermSource:
        """Where the weighted terms of the first tier come from, and of the second where that has the same.

        Raises:
            ConfigError: the encoder of the recipe is not the one that the index was built with.
        """
        step, counted = self._recipe.encode, None
        if is_lexical(self._collection):
            counted = self._lexical(spool, tier)
            if not is_hybrid(step.encoder):
                return self._checked(counted)
        if given is None:
            learned: TermSource = self._learned(tier)
            return self._checked(learned if counted is None else JoinedTerms(counted, learned, step.learned_weight))
        side = IndexSide(self._collection)
        some = GivenAndEncoded(side, *given, lambda: self._checked(self._learned(tier), side))
        return some if counted is None else self._checked(JoinedTerms(counted, some, step.learned_weight))

    def _learned(self, tier: str) -> LearnedTerms:
        """What the learned encoder of the recipe gives for the passages of a tier."""
        step, shards = self._recipe.encode, shards_of(self._collection.path)
        named_so = step.model_copy(update={"encoder": step.query_encoder or step.encoder})
        own = shards if tier == "first" else shards.with_name(f"{shards.name}-{tier}")
        return LearnedTerms(open_learned(named_so, self._options.device), own)

    def _checked(self, terms: TermSource, side: IndexSide | None = None) -> TermSource:
        """These terms, if they are of the encoder that the index was built with; of `side`, if that is given."""
        step, built, found = self._recipe.encode, self._collection.commit.fields["encoder"], terms.query_side
        wanted, fingerprint = (built["name"], built["fingerprint"]) if side is None else (side.name, side.fingerprint)
        if found.fingerprint != fingerprint:
            name = step.query_encoder or step.encoder
            raise ConfigError(
                f"the index was built with the encoder {wanted} ({fingerprint[:12]}), but {name!r} is another one here "
                f"({found.fingerprint[:12]}); restore that model, or build the index again"
            )
        return terms

    def _lexical(self, spool: Spool, name: str) -> CountedTerms:
        """BM25 weights with the average length that the index froze."""
        step = self._recipe.encode
        counts = count_terms(spool, self._work / f"counts-{name}", step.analyzer)
        return CountedTerms(counts, step, average_length=self._collection.commit.frozen["average_length"])

    @property
    def _scale(self) -> float | None:
        """The scale of the first tier's impacts, where its weights are learned."""
        counts = self._collection.parts[0].layout.counts
        return None if counts.idf else counts.scale


def check_encodes(collection: Collection, step: EncodeStep) -> None:
    """Refuse passages without weighted terms where the recipe has no encoder for them.

    Raises:
        ConfigError: the index was built from encoded passages, and the recipe names no encoder.
    """
    if step.source and not step.query_encoder and not is_lexical(collection):
        raise ConfigError(
            f"{collection.path} was built from passages that were encoded before ({step.source}); give new ones "
            "encoded as well (encoded=, --encoded)"
        )


def vectors_of(collection: Collection) -> SegmentVectors | None:
    """The vectors of an open index; None where it has none."""
    spans, start = [], 0
    for entry in collection.commit.segments:
        spans.append(Span(entry.name, start, sum(entry.passages)))
        start += sum(entry.passages)
    return SegmentVectors.open_segments(collection.path / SEGMENTS, spans)


def remove_shards(path: Path) -> None:
    """Remove the shards of a finished addition; the lock of `path` is held."""
    shards = shards_of(path)
    for left in shards.parent.glob(f"{shards.name}*"):
        if left.name == shards.name or left.name.startswith(f"{shards.name}-"):
            shutil.rmtree(left, ignore_errors=True)


def _pruned(decision: Decision | None) -> dict[str, int]:
    """Passages that are not in the first tier, by reason."""
    if decision is None:
        return {}
    counts = decision.counts()
    return {reason: counts[reason] for reason in ("junk", "duplicate", "score") if counts[reason]}
