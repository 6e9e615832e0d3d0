"""An index built from a recipe: corpus to weighted terms to postings and vectors, in one artifact, whole or not there.

Two passes over the corpus: one to fit the encoder where it needs the collection's statistics (BM25), one to encode and
index. Memory is bounded by the vocabulary and one chunk of passages; the corpus may be larger than memory. What a
learned encoder has finished is kept in shards beside the index until that is whole, so that a killed build goes on
where it stopped.
"""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tqdm.auto import tqdm

from thresher import artifact
from thresher.build.recipe import Recipe, load_recipe
from thresher.build.tiers import kept_corpus, plan_build, pruned_passages, store_tiers
from thresher.build.vectors import encoded_twice, shares_states, store_vectors
from thresher.corpus import MemoryCorpus, open_corpus
from thresher.index import FORMAT, IndexBuilder
from thresher.records import Passage, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from thresher.corpus import Corpus
    from thresher.encode import SparseEncoder
    from thresher.records import SparseBatch

_log = logging.getLogger(__name__)

CHUNK = 4096
"""Passages encoded and indexed at a time."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build made.

    Attributes:
        path: the index.
        counts: passages, postings, terms, bytes by part, as in the manifest.
        skipped: records left out, by reason; empty unless skipping was asked for.
        usage: seconds and counts by stage.
    """

    path: Path
    counts: dict[str, Any]
    skipped: dict[str, int]
    usage: Usage

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "path": str(self.path),
            "counts": self.counts,
            "skipped": self.skipped,
            "usage": [asdict(stage) for stage in self.usage.stages],
        }


def build_index(
    target: str | Path,
    source: str | Path | Corpus | Iterable[Passage],
    recipe: Recipe | str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
    dense: Any = None,
) -> BuildReport:
    """Build an index at `target`.

    Args:
        target: the directory to write; it appears when it is whole.
        source: a corpus, a file or dataset name that `thresher.corpus.open_corpus` knows, or passages.
        recipe: how to build; a `Recipe`, a TOML file, or a shipped name. Default: BM25.
        overwrite: replace an index that stands there.
        progress: show progress bars.
        dense: the encoder of the recipe's `[vectors]` table itself (`encode_passages`, `fingerprint`), in place of the
            one that it names.

    Raises:
        ConfigError: the recipe is wrong.
        InputError: the corpus is malformed, with file and line.
        ArtifactError: something stands at `target` and may not be replaced.
    """
    if recipe is None:
        recipe = Recipe()
    elif not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    corpus = corpus_of(source, recipe)
    plan = plan_build(corpus, recipe)
    shards = _shards_beside(Path(target))
    if dense is None and recipe.vectors is not None:
        from thresher.encode import DenseEncoder

        dense = DenseEncoder.from_name(recipe.vectors.encoder, batch_size=recipe.encode.batch_size)
    with artifact.writing(target, kind="index", format=FORMAT, overwrite=overwrite) as draft:
        encoder, usage = _open_encoder(corpus, recipe, progress)
        builder = IndexBuilder(
            draft.path,
            encoder.vocabulary,
            bits=recipe.index.bits,
            order=recipe.index.order,
            progress=progress,
        )
        kept = kept_corpus(corpus, plan)
        usage = _fill(builder, _encoded(kept, encoder, dense, recipe, shards, progress), usage)
        started = time.perf_counter()
        counts = builder.finish()
        encoder.save(draft.path / "encoder")
        usage = usage.with_stage("index", time.perf_counter() - started, postings=counts["postings"])
        if recipe.vectors is not None:
            usage = store_vectors(
                draft.path, recipe.vectors, encoder, dense, kept, pruned_passages(plan), shards, usage, progress
            )
        if plan is not None:
            usage = store_tiers(draft.path, plan, corpus, encoder, recipe, usage)
        skipped = dict(corpus.skipped)
        draft.fields.update(
            counts=counts,
            corpus={"name": corpus.name, "fingerprint": corpus.fingerprint(), "skipped": skipped},
            encoder={"name": encoder.name, "fingerprint": encoder.fingerprint},
            recipe=recipe.model_dump(mode="json", exclude_defaults=True),
            usage=[asdict(stage) for stage in usage.stages],
        )
    for left in shards.parent.glob(f"{shards.name}*"):
        shutil.rmtree(left, ignore_errors=True)
    for stage in usage.stages:
        _log.info("%s: %s took %.2f s, %s", target, stage.stage, stage.seconds, dict(stage.counts))
    for reason, count in skipped.items():
        _log.info("%s: %d records of %s skipped: %s", target, count, corpus.name, reason)
    return BuildReport(Path(target), counts, skipped, usage)


def corpus_of(source: str | Path | Corpus | Iterable[Passage], recipe: Recipe) -> Corpus:
    """The corpus that `source` means, read as the recipe says.

    An iterator of passages is held in memory, since a build reads the corpus twice.
    """
    if isinstance(source, str | Path):
        keys = recipe.corpus.model_dump(exclude={"source"}, exclude_defaults=True)
        return open_corpus(source, **keys)
    return cast("Corpus", source) if hasattr(source, "fingerprint") else MemoryCorpus(source)


def _open_encoder(corpus: Corpus, recipe: Recipe, progress: bool) -> tuple[SparseEncoder, Usage]:
    """The recipe's encoder, fitted on the corpus where it needs to be."""
    step = recipe.encode
    started = time.perf_counter()
    if step.encoder == "bm25":
        from thresher.encode.bm25 import Bm25Encoder

        texts = (passage.contents for passage in _watched(corpus, "reading", progress))
        encoder: SparseEncoder = Bm25Encoder.fit(
            texts, analyzer=step.analyzer, k1=step.k1, b=step.b, lengths=step.lengths
        )
    else:
        from thresher.encode import SparseEncoder

        encoder = SparseEncoder.from_name(
            step.encoder, batch_size=step.batch_size, max_active_terms=step.max_active_terms or None
        )
    return encoder, Usage().with_stage("read", time.perf_counter() - started, terms=len(encoder.vocabulary))


def _encoded(
    corpus: Corpus, encoder: SparseEncoder, dense: Any, recipe: Recipe, shards: Path, progress: bool
) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
    """The corpus encoded, some passages at a time; with a learned encoder, resuming what a killed build left."""
    if recipe.encode.encoder == "bm25":
        for chunk in _chunks(_watched(corpus, "encoding", progress)):
            yield chunk, encoder.encode_passages([passage.contents for passage in chunk])
    elif recipe.vectors is not None and shares_states(encoder, recipe.vectors):
        yield from encoded_twice(encoder, dense, corpus, shards, progress)
    else:
        from thresher.encode.shards import sparse_shards

        yield from sparse_shards(encoder, corpus, shards, progress=progress)


def _fill(builder: IndexBuilder, encoded: Iterator[tuple[Sequence[Passage], SparseBatch]], usage: Usage) -> Usage:
    """Hand the encoded corpus to the builder, and say how long encoding and handing over took."""
    encoding = storing = 0.0
    count = 0
    asked = time.perf_counter()
    for passages, batch in encoded:
        got = time.perf_counter()
        builder.add(passages, batch)
        encoding += got - asked
        asked = time.perf_counter()
        storing += asked - got
        count += len(passages)
    encoding += time.perf_counter() - asked
    return usage.with_stage("encode", encoding, passages=count).with_stage("store", storing, passages=count)


def _shards_beside(target: Path) -> Path:
    """Where a learned encoder's finished shards wait until the index is whole."""
    return target.absolute().parent / f".{target.name}.encoding"


def _watched(corpus: Corpus, what: str, progress: bool) -> Iterator[Passage]:
    """The corpus, with a progress bar that counts passages where one was asked for."""
    bar = tqdm(corpus, desc=what, unit=" passages", disable=not progress, mininterval=0.5, delay=1)
    yield from bar


def _chunks(passages: Iterator[Passage]) -> Iterator[Sequence[Passage]]:
    while chunk := list(islice(passages, CHUNK)):
        yield chunk
