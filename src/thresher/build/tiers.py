"""What a recipe's `[prune]` table adds to a build: the decision, and the second tier inside the index.

The first tier is the segment itself. Passages pruned for their score or as junk go to `tier-2/` in it, a BM25 index
with the statistics of the whole corpus; duplicates are discarded, and junk if that is asked for. The decision is kept
in `pruning/`. Both are part of the segment.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from thresher import artifact
from thresher.build.weights import impact_bits, impact_scale
from thresher.corpus.spool import match_docnos
from thresher.encode.encoder import row_slice
from thresher.index import FORMAT, KIND, IndexBuilder
from thresher.index.column_writer import ColumnWriter
from thresher.index.commit import SECOND
from thresher.prune.decision import KIND as DECISION
from thresher.prune.decision import TIER_TWO, read_decision, write_decision
from thresher.prune.dropped import Dropped
from thresher.prune.plan import Measured, Pruning, plan_pruning, prune_usage
from thresher.quality.lexical import words_of
from thresher.records import StageUsage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.build.recipe import Recipe
    from thresher.build.weights import CountedTerms, TermSource
    from thresher.corpus.spool import Spool
    from thresher.index.commit import IndexDraft
    from thresher.index.fields import Schema
    from thresher.prune.plan import PruneStep
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
    return Pruning(decision, np.zeros(0, np.float32), "", str(fields["estimator_fingerprint"]), usage)


def store_tiers(
    draft: IndexDraft,
    pruning: Pruning,
    spool: Spool,
    terms: CountedTerms,
    recipe: Recipe,
    usage: Usage,
    schema: Schema,
) -> StageUsage:
    """Write `tier-2/` and `pruning/` into the segment being built; returns the usage of the pruning.

    What was saved is estimated from what the first tier took: seconds, postings and bytes a word, times the words
    pruned, less the bytes of the second tier.

    Args:
        draft: the index being built.
        pruning: the decision.
        spool: the corpus.
        terms: BM25 weights with the statistics of the whole corpus.
        recipe: how the index is built.
        usage: that of the first tier's stages.
        schema: the metadata fields and their types.
    """
    started = time.perf_counter()
    counts, directory = dict(pruning.usage.counts), draft.segment.path
    if counts["tier_2"]:
        counts["tier_2_postings"] = _second_tier(draft, pruning, spool, terms, recipe, schema)
    draft.segment.fields["dropped"] = counts["dropped"]
    write_decision(
        directory / "pruning",
        pruning.decision,
        spool.docnos,
        corpus_fingerprint=spool.fingerprint(),
        estimator=pruning.estimator_fingerprint,
        policy=recipe.prune.model_dump(mode="json") if recipe.prune is not None else {},
        dropped=Dropped.of(spool, pruning.decision),
    )
    taken = {stage.stage: stage for stage in usage.stages}
    share = (counts["words"] - counts["words_kept"]) / max(counts["words_kept"], 1)
    vectors = taken["vectors"].seconds if "vectors" in taken and not _has_all_vectors(recipe) else 0.0
    counts["encode_seconds_saved"] = round((taken["encode"].seconds + vectors) * share, 3)
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
) -> Measured:
    """Encode and index a sample of the corpus, spread evenly over it, to see what the whole takes.

    Args:
        spool: the corpus.
        terms: where terms come from.
        lexical: BM25 weights of the second tier; None where there is none.
        bits: width of an impact.
        vectors: encodes vectors in a pass of its own; None where there are none, or one pass gives both.
        passages: size of the sample.
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
        second = first
        if lexical is not terms:
            found = lexical.sample(spool, numbers)
            second = _sample_bytes(spool, lexical, sample, numbers, found, 16)
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
        builder = IndexBuilder(directory, terms.query_side.vocabulary, bits=bits, scale=impact_scale(bits, tokens))
        builder.add(sample[:count], row_slice(rows, 0, count))
        builder.finish(None if tokens is None else tokens[:count])
        sizes.append(_bytes(directory))
        shutil.rmtree(directory)
    return (sizes[1] - sizes[0]) * len(sample) / max(len(sample) - len(sample) // 2, 1)


def _second_tier(
    draft: IndexDraft, pruning: Pruning, spool: Spool, terms: CountedTerms, recipe: Recipe, schema: Schema
) -> int:
    """Write a BM25 index of the second tier; returns the number of its postings."""
    encoder, numbers = terms.query_side, np.flatnonzero(pruning.decision.tiers == TIER_TWO)
    bits, tokens = impact_bits(recipe.index, encoder), terms.tokens(numbers)
    draft.add_encoder(encoder)
    with artifact.writing(draft.segment.path / SECOND, kind=KIND, format=FORMAT) as tier:
        builder = IndexBuilder(tier.path, encoder.vocabulary, bits=bits, scale=impact_scale(bits, tokens))
        columns = ColumnWriter(tier.path / "fields", schema)
        for passages, batch in terms.rows(spool, numbers):
            builder.add(passages, batch)
            columns.add(passages)
        counts = builder.finish(tokens)
        counts["bytes"] |= columns.close()
        tier.fields.update(
            counts=counts, encoder={"name": encoder.name, "fingerprint": encoder.fingerprint}, tier=TIER_TWO
        )
    return int(counts["postings"])


def _has_all_vectors(recipe: Recipe) -> bool:
    return recipe.vectors is not None and recipe.vectors.second_tier


def _bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) if directory.is_dir() else 0
