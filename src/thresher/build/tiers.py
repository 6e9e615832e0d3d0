"""What a recipe's `[prune]` table adds to a build: the decision, and the second tier inside the index.

The first tier is the segment itself. Passages pruned for their score or as junk go to `tier-2/` in it, with the
statistics of the whole corpus: a BM25 index, or one of the same encoder where that is BM25 and a learned one
(`Recipe.learned_second_tier`). Duplicates are discarded, and junk if that is asked for. The decision is kept in
`pruning/`. Both are part of the segment.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from thresher import artifact
from thresher.build.folding import ExactWriter
from thresher.build.weights import impact_bits, impact_scale
from thresher.corpus.spool import match_docnos
from thresher.encode.encoder import row_slice
from thresher.index import FORMAT, KIND, IndexBuilder
from thresher.index.column_writer import ColumnWriter
from thresher.index.commit import SECOND
from thresher.prune.decision import ESTIMATOR, TIER_TWO, read_decision, write_decision
from thresher.prune.decision import KIND as DECISION
from thresher.prune.dropped import Dropped
from thresher.prune.plan import Measured, PruneStep, Pruning, plan_pruning, prune_usage
from thresher.quality.estimator import QualityEstimator
from thresher.quality.lexical import words_of
from thresher.records import StageUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from thresher.build.recipe import IndexStep, Recipe
    from thresher.build.weights import CountedTerms, TermSource
    from thresher.corpus.spool import Spool
    from thresher.encode.query_side import QuerySide
    from thresher.index.commit import IndexDraft
    from thresher.index.fields import Schema
    from thresher.index.memory import MemoryLimit
    from thresher.records import Passage, SparseBatch, Usage

_log = logging.getLogger(__name__)


class Sampled(Protocol):
    """Encodes a sample of texts."""

    def sample(self, texts: Sequence[str]) -> int:
        """Encode `texts`, and say how many bytes they take when they are stored."""


def decide_tiers(spool: Spool, step: PruneStep, *, measured: Measured | None = None, progress: bool = False) -> Pruning:
    """The pruning of the spooled corpus: decided as `step` says, or read from the decision it names.

    Raises:
        ArtifactError: there is no decision at that path.
        InputError: the decision was made for other docnos; names the first one.
    """
    if not step.decision:
        return plan_pruning(spool, step, measured=measured, progress=progress)
    started = time.perf_counter()
    decision, docnos = read_decision(step.decision)
    order = match_docnos(spool.docnos, docnos, wanted_name=spool.name, given_name=step.decision)
    if order is not None:
        decision = decision.reordered(order)
    fields = artifact.read_manifest(step.decision, kind=DECISION).fields
    if fields["corpus_fingerprint"] != spool.fingerprint():
        _log.warning("%s was made for other texts or another order of the passages of %s", step.decision, spool.name)
    usage = prune_usage(spool, decision, time.perf_counter() - started)
    kept = Path(step.decision) / ESTIMATOR
    fitted = QualityEstimator.load(kept) if kept.is_dir() else None
    policy = PruneStep.model_validate({**(fields.get("policy") or step.model_dump(mode="json")), "decision": ""})
    name = policy.estimator if fitted is None else fitted.name
    fingerprint, scores = str(fields["estimator_fingerprint"]), np.zeros(0, np.float32)
    return Pruning(decision, scores, name, fingerprint, usage, fitted, policy, fields.get("threshold"))


def store_tiers(
    draft: IndexDraft,
    pruning: Pruning,
    spool: Spool,
    terms: TermSource,
    recipe: Recipe,
    usage: Usage,
    schema: Schema,
    memory: MemoryLimit | None = None,
) -> StageUsage:
    """Write `tier-2/` and `pruning/` into the segment being built; returns the usage of the pruning.

    What was saved is estimated from what the first tier took: seconds, postings and bytes a word, times the words
    pruned, less the bytes of the second tier.

    Args:
        draft: the index being built.
        pruning: the decision.
        spool: the corpus.
        terms: where the weighted terms of the second tier come from.
        recipe: how the index is built.
        usage: that of the first tier's stages.
        schema: the metadata fields and their types.
        memory: how much memory may be resident.
    """
    started = time.perf_counter()
    counts, directory = dict(pruning.usage.counts), draft.segment.path
    if counts["tier_2"]:
        draft.add_encoder(terms.query_side)
        numbers = np.flatnonzero(pruning.decision.tiers == TIER_TWO)
        made = second_tier(directory, spool, terms, numbers, recipe, schema, memory=memory)
        counts["tier_2_postings"] = int(made["postings"])
    draft.segment.fields["dropped"] = counts["dropped"]
    write_decision(
        directory / "pruning",
        pruning.decision,
        spool.docnos,
        corpus_fingerprint=spool.fingerprint(),
        estimator=pruning.estimator_fingerprint,
        policy=pruning.policy.model_dump(mode="json") if pruning.policy is not None else {},
        dropped=Dropped.of(spool, pruning.decision),
    )
    taken = {stage.stage: stage for stage in usage.stages}
    share = (counts["words"] - counts["words_kept"]) / max(counts["words_kept"], 1)
    vectors = taken["vectors"].seconds if "vectors" in taken and not recipe.encodes_second_tier else 0.0
    encoded = 0.0 if recipe.learned_second_tier else taken["encode"].seconds
    counts["encode_seconds_saved"] = round((encoded + vectors) * share, 3)
    counts["postings_saved"] = round(taken["index"].counts["postings"] * share)
    second = _bytes(directory / SECOND)
    first = _bytes(directory) - second - _bytes(directory / "pruning")
    saved = round(first * share) - second
    counts |= {"bytes_saved": max(saved, 0)} if saved >= 0 else {"bytes_saved": 0, "bytes_added": -saved}
    return StageUsage("prune", pruning.usage.seconds + time.perf_counter() - started, counts)


def measure(
    spool: Spool,
    terms: TermSource,
    lexical: CountedTerms | None,
    bits: Literal[8, 16],
    vectors: Sampled | None,
    *,
    passages: int,
    both: bool,
) -> Measured:
    """Encode and index a sample of the corpus, spread evenly over it, to see what the whole takes.

    Args:
        spool: the corpus.
        terms: where terms come from.
        lexical: BM25 weights of the second tier; None where there is none.
        bits: width of an impact.
        vectors: encodes vectors in a pass of its own; None where there are none, or one pass gives both.
        passages: size of the sample.
        both: passages of the second tier have vectors as well.
    """
    numbers = np.unique(np.linspace(0, len(spool) - 1, passages).astype(np.int64))
    sample = spool.read(numbers)
    started = time.perf_counter()
    rows = terms.sample(spool, numbers)
    room = vectors.sample([passage.contents for passage in sample]) if vectors is not None else 0
    seconds = time.perf_counter() - started
    first = _sample_bytes(spool, terms, sample, numbers, rows, bits) + room
    second = 0.0
    if lexical is not None:
        second = first - room
        if lexical is not terms:
            second = _sample_bytes(spool, lexical, sample, numbers, lexical.sample(spool, numbers), 16)
        second += room if both else 0
    words = sum(max(len(words_of(passage.contents)), 1) for passage in sample)
    return Measured(len(sample), words, seconds, first, second)


def _sample_bytes(
    spool: Spool,
    terms: TermSource,
    sample: Sequence[Passage],
    numbers: NDArray[np.int64],
    rows: SparseBatch,
    bits: Literal[8, 16],
) -> float:
    """Bytes that the passages of a sample add to an index; what an index takes without passages does not count."""
    sizes, tokens = [], terms.tokens(numbers)
    for count in (len(sample) // 2, len(sample)):
        directory = spool.directory.with_name("sample")
        directory.mkdir()
        builder = IndexBuilder(directory, terms.query_side.vocabulary, bits=bits, scale=impact_scale(bits, terms))
        builder.add(sample[:count], row_slice(rows, 0, count))
        builder.finish(None if tokens is None else tokens[:count])
        sizes.append(_bytes(directory))
        shutil.rmtree(directory)
    return (sizes[1] - sizes[0]) * len(sample) / max(len(sample) - len(sample) // 2, 1)


class TierWriter:
    """Writes one tier of a segment: postings and texts, metadata columns, and keys of exact duplicates.

    Args:
        directory: where the files go; it exists.
        terms: where the weighted terms come from.
        numbers: int64[n], the passages.
        step: how postings are stored.
        schema: the metadata fields and their types.
        order: of the documents inside the index.
        scale: that of the impacts of learned weights, where the index has one already.
        exact: keep what finds exact duplicates of passages that are added later.
        progress: show a progress bar.
        memory: how much memory may be resident.
    """

    def __init__(
        self,
        directory: Path,
        terms: TermSource,
        numbers: NDArray[np.int64],
        step: IndexStep,
        schema: Schema,
        *,
        order: str = "source",
        scale: float | None = None,
        exact: bool = False,
        progress: bool = False,
        memory: MemoryLimit | None = None,
    ) -> None:
        bits, self._tokens = impact_bits(step, terms), terms.tokens(numbers)
        scale = impact_scale(bits, terms) if scale is None or terms.lexical else scale
        self._builder = IndexBuilder(
            directory, terms.query_side.vocabulary, bits=bits, order=order, scale=scale, progress=progress,
            memory=memory,
        )  # fmt: skip
        self._columns = ColumnWriter(directory / "fields", schema)
        self._exact = ExactWriter(directory) if exact else None

    def add(self, passages: Sequence[Passage], batch: SparseBatch) -> None:
        """Append passages, whose weighted terms are the rows of `batch`."""
        self._builder.add(passages, batch)
        self._columns.add(passages)
        if self._exact is not None:
            self._exact.extend(passages)

    def __enter__(self) -> TierWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._builder.abandon()
            if self._exact is not None:
                self._exact.close()

    def finish(self) -> dict[str, Any]:
        """Write what remains; returns the counts, for the manifest."""
        if self._exact is not None:
            self._exact.close()
        counts = self._builder.finish(self._tokens)
        counts["bytes"] |= self._columns.close()
        return counts


def second_tier(
    directory: Path,
    spool: Spool,
    terms: TermSource,
    numbers: NDArray[np.int64],
    recipe: Recipe,
    schema: Schema,
    done: Callable[[int], object] = int,
    memory: MemoryLimit | None = None,
) -> dict[str, Any]:
    """Write the second tier; returns its counts.

    Args:
        directory: of the segment.
        spool: the passages.
        terms: where their weighted terms come from.
        numbers: int64[n], those of the second tier.
        recipe: how the index is built.
        schema: the metadata fields and their types.
        done: called with the number of passages written, for a progress bar.
        memory: how much memory may be resident.
    """
    with artifact.writing(directory / SECOND, kind=KIND, format=FORMAT) as tier:
        made = TierWriter(tier.path, terms, numbers, recipe.index, schema, exact=folds(recipe), memory=memory)
        with made as writer:
            for passages, batch in terms.rows(spool, numbers):
                writer.add(passages, batch)
                done(len(passages))
            counts = writer.finish()
        tier.fields.update(counts=counts, encoder=named(terms.query_side), tier=TIER_TWO)
    return counts


def named(encoder: QuerySide) -> dict[str, str]:
    """What a manifest says of an encoder."""
    return {"name": encoder.name, "fingerprint": encoder.fingerprint}


def folds(recipe: Recipe) -> bool:
    """Whether duplicates are folded."""
    return recipe.prune is not None and recipe.prune.fold


def _bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) if directory.is_dir() else 0
