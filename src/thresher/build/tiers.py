"""What a recipe's `[prune]` table adds to a build: the decision, the second tier beside the first, what it saved.

The first tier is the index itself. What only its score condemned goes to `tier-2/` inside it, a BM25 index with the
statistics of the whole corpus; junk and duplicates go nowhere. The decision is kept in `pruning/`. Both are part of the
index's artifact: they are there with it or not at all.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from thresher import artifact
from thresher.index import FORMAT, IndexBuilder
from thresher.prune.policy import TIER_ONE, TIER_TWO

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.build.recipe import Recipe
    from thresher.corpus import Corpus
    from thresher.encode import SparseEncoder
    from thresher.prune.plan import Plan
    from thresher.records import Passage, Usage

_CHUNK = 4096


def plan_build(corpus: Corpus, recipe: Recipe) -> Plan | None:
    """The recipe's pruning of `corpus`, decided; None where the recipe prunes nothing. Holds the passages in memory."""
    if recipe.prune is None:
        return None
    from thresher.prune.plan import plan_pruning

    return plan_pruning(corpus, recipe.prune, corpus_fingerprint=corpus.fingerprint())


def kept_corpus(corpus: Corpus, plan: Plan | None) -> Corpus:
    """What the first tier is built from."""
    if plan is None:
        return corpus
    from thresher.corpus import MemoryCorpus

    return MemoryCorpus(plan.tier(TIER_ONE), corpus.name)


def pruned_passages(plan: Plan | None) -> list[Passage]:
    """What the second tier holds."""
    return [] if plan is None else plan.tier(TIER_TWO)


def store_tiers(
    directory: Path, plan: Plan, corpus: Corpus, encoder: SparseEncoder, recipe: Recipe, usage: Usage
) -> Usage:
    """Write `tier-2/` and `pruning/` into the index being built, and add the pruning's account to the usage.

    What was saved is estimated from what the first tier took: seconds, postings and bytes a word, times the words
    pruned, less the bytes of the second tier.
    """
    from thresher.prune.tiers import write_decision

    started = time.perf_counter()
    counts = dict(plan.account.counts)
    if counts["tier_2"]:
        counts["tier_2_postings"] = _second_tier(directory / "tier-2", plan, encoder, recipe)
    write_decision(
        directory / "pruning",
        plan.decision,
        plan.docnos,
        corpus_fingerprint=corpus.fingerprint(),
        estimator=plan.estimator_fingerprint,
        policy=recipe.prune.model_dump(mode="json") if recipe.prune is not None else {},
    )
    taken = {stage.stage: stage for stage in usage.stages}
    words_kept = max(counts["words_kept"], 1)
    share = (counts["words"] - counts["words_kept"]) / words_kept
    vectors = taken["vectors"].seconds if "vectors" in taken and not _vectors_of_all(recipe) else 0.0
    counts["encode_seconds_saved"] = round((taken["encode"].seconds + vectors) * share, 3)
    counts["postings_saved"] = round(taken["index"].counts["postings"] * share)
    first = _bytes(directory) - (second := _bytes(directory / "tier-2")) - _bytes(directory / "pruning")
    counts["bytes_saved"] = round(first * share) - second
    return usage.with_stage("prune", plan.account.seconds + time.perf_counter() - started, **counts)


def _second_tier(directory: Path, plan: Plan, encoder: SparseEncoder, recipe: Recipe) -> int:
    """A BM25 index of the second tier; its postings."""
    lexical = encoder
    if recipe.encode.encoder != "bm25":
        from thresher.encode.bm25 import Bm25Encoder

        lexical = Bm25Encoder.fit(plan.texts, analyzer=recipe.encode.analyzer)
    passages = plan.tier(TIER_TWO)
    with artifact.writing(directory, kind="index", format=FORMAT) as draft:
        builder = IndexBuilder(draft.path, lexical.vocabulary, bits=recipe.index.bits)
        for first in range(0, len(passages), _CHUNK):
            chunk = passages[first : first + _CHUNK]
            builder.add(chunk, lexical.encode_passages([p.contents for p in chunk]))
        counts = builder.finish()
        lexical.save(draft.path / "encoder")
        draft.fields.update(
            counts=counts, encoder={"name": lexical.name, "fingerprint": lexical.fingerprint}, tier=TIER_TWO
        )
    return int(counts["postings"])


def _vectors_of_all(recipe: Recipe) -> bool:
    return recipe.vectors is not None and recipe.vectors.second_tier


def _bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) if directory.is_dir() else 0
