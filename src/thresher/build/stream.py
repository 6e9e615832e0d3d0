"""An index built from a recipe: corpus to weighted terms to postings, vectors and tiers, in one artifact.

The corpus is read once, so it may be a pipe. That pass spools the passages into the index being written, computes the
corpus fingerprint, and counts terms where BM25 is wanted; pruning, encoding, indexing and vectors then work from the
spool, which is removed at the end. Memory is bounded by the vocabulary, one chunk of passages and a few dozen bytes a
passage, with every policy. The directory appears when it is complete. Finished shards of a learned encoder are kept
alongside the index until then, so that a killed build resumes where it stopped.
"""

from __future__ import annotations

import errno
import logging
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from thresher.arguments import checked_call
from thresher.build.recall import measure_recall
from thresher.build.recipe import LEXICAL, Recipe
from thresher.build.report import BuildReport, duration, logged
from thresher.build.sources import corpus_of, expected_fields, plain_bytes, reading_bar, with_sources
from thresher.build.states import store_states
from thresher.build.tiers import TierWriter, decide_tiers, folds, measure, store_tiers
from thresher.build.vectors import (
    EncodedVectors,
    check_vectors,
    open_vectors,
    second_with_vectors,
    store_vectors,
)
from thresher.build.weights import (
    CountedTerms,
    GivenTerms,
    JoinedTerms,
    LearnedTerms,
    count_terms,
    has_lengths,
    impact_bits,
    in_order_of,
    open_encoding,
    open_learned,
)
from thresher.corpus.spool import Spool, refuse_empty
from thresher.corpus.stream import RecordCorpus
from thresher.encode.bm25 import TermCounts
from thresher.encode.encoder import load_query_encoder
from thresher.encode.hybrid import is_hybrid, learned_part
from thresher.encode.shards import encoding_bar
from thresher.errors import ConfigError, InputError
from thresher.index.commit import writing_index
from thresher.index.fields import Inference
from thresher.index.memory import MemoryLimit
from thresher.prune.decision import TIER_ONE, TIER_TWO
from thresher.prune.frozen import threshold_of
from thresher.publish import discard_shards, shards_of
from thresher.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from thresher.build.sources import Source
    from thresher.build.vectors import VectorSource
    from thresher.build.weights import TermSource
    from thresher.encode import SparseEncoder
    from thresher.encode.preencoded import Encoding
    from thresher.encode.shards import PassageEncoder
    from thresher.index.commit import IndexDraft
    from thresher.prune.plan import Measured, Pruning
    from thresher.records import Passage

_log = logging.getLogger(__name__)
_LONG = 5000
"""Passages from which on a build with models says what it will take."""
_SAMPLE, _LEARNED_SAMPLE = 2000, 64
"""Passages measured for a budget, and with a learned encoder."""
POSTING_BYTES = 12
"""Bytes that a posting takes on the disk while an index is built: eight in the spool, four in its list."""
WHILE_BUILDING = 3
"""How many times the bytes of the finished index its build takes: postings are spooled at twice their size."""
_FIRST = 8
"""Passages encoded before a measurement."""


@checked_call
def build_index(
    target: str | Path,
    source: Source | None = None,
    recipe: Recipe | str | Path | None = None,
    *,
    encoded: Encoding | str | Path | None = None,
    decision: str | Path | None = None,
    vectors: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    dense: PassageEncoder | None = None,
    learned: SparseEncoder | None = None,
    device: str = "auto",
    memory_gb: float | None = None,
) -> BuildReport:
    """Build an index at `target`.

    Args:
        target: the directory to write; it appears when it is complete.
        source: a corpus, a file or dataset name that `thresher.corpus.open_corpus` knows, or passages; read once.
            Default: the recipe's. With encoded passages it may be left out; the index then has the texts they bring.
        recipe: how to build; a `Recipe`, a TOML file, or a shipped name. Default: `best_recipe`, but for `encoded`.
        encoded: encoded passages to index, in place of the recipe's `[encode] source`: a file or folder that
            `thresher.index.exchange.open_encoded` knows, or what it returned.
        decision: a pruning decision to apply, in place of the recipe's `[prune] decision`.
        vectors: dense vectors to store, in place of the recipe's `[vectors] source`.
        overwrite: replace an existing index.
        progress: show progress bars.
        dense: the encoder of vectors itself (`encode_passages`, `fingerprint`), in place of the recipe's.
        learned: the encoder of learned terms itself, in place of the recipe's.
        device: for the models that the recipe names: `auto` (an accelerator if there is one), or a torch device.
        memory_gb: GB (10^9 bytes) that this process may hold, mapped files and models included; None for no limit.

    Raises:
        ConfigError: the recipe is wrong, there is no corpus, or the limit on memory is too low.
        InputError: the corpus is malformed, with file and line; or encoded passages, decision or vectors belong to
            another corpus, with the docno.
        ArtifactError: there is something at `target` that may not be replaced.
    """
    given = None if encoded is None or isinstance(encoded, str | Path) else encoded
    recipe = with_sources(recipe, encoded, decision, vectors)
    recipe.check()
    shards = shards_of(target)
    with writing_index(target, overwrite=overwrite) as draft:
        source = recipe.corpus.source or None if source is None else source
        build = _Build(
            draft, recipe, source, shards, progress=progress, models=(dense, learned), given=given, device=device
        )
        build.memory = None if memory_gb is None else MemoryLimit(memory_gb)
        counts = build.run()
        draft.fields.update(build.fields(), counts=counts)
        draft.segment.fields.update(build.segment_fields(), counts=counts)
        skipped = build.spool.skipped
        unread = next((one.warning() for one in build.readers if one.cut), "")
        build.close()
    discard_shards(target)
    if unread:
        _log.warning("%s: %s", target, unread)
    measure_recall(target, recipe.recall)
    return logged(BuildReport(Path(target), counts, skipped, build.usage), build.spool.name)


class _Build:
    """One build: its steps in order, and what one step leaves for the next.

    Args:
        draft: the index being written.
        recipe: how to build.
        source: the corpus, None where only encoded passages are given.
        shards: where a learned encoder's finished shards are kept until the index is complete.
        progress: show progress bars.
        models: the encoders of dense vectors and of learned terms, where they were given.
        given: encoded passages, where they were given open.
        device: for the models of the recipe.

    Attributes:
        memory: how much memory may be resident; None for no limit.
    """

    memory: MemoryLimit | None = None
    spool: Spool
    terms: TermSource
    lexical: CountedTerms
    encoder: SparseEncoder
    numbers: NDArray[np.int64]
    schema: dict[str, str]

    def __init__(
        self,
        draft: IndexDraft,
        recipe: Recipe,
        source: Source | None,
        shards: Path,
        *,
        progress: bool,
        models: tuple[PassageEncoder | None, SparseEncoder | None],
        given: Encoding | None = None,
        device: str,
    ) -> None:
        self.draft, self.recipe, self.progress, self.shards = draft, recipe, progress, shards
        self.directory = draft.segment.path
        self.work = draft.path / "work"
        self.work.mkdir()
        self.usage = Usage()
        self.pruning: Pruning | None = None
        self.measured: Measured | None = None
        self.encoding: Encoding | None = None
        self.learned: TermSource | None = None
        self.vectors: VectorSource | None = None
        self.split_tokens = 0
        self.joins = is_hybrid(recipe.encode.encoder)
        self.corpus = None if source is None else corpus_of(source, recipe)
        if self.corpus is None and not recipe.encode.source:
            raise ConfigError("there is no corpus to build from; give one, or encoded passages")
        dense, learned = models
        self._say_models(*models)
        if recipe.encode.source:
            self.encoding = open_encoding(recipe.encode, given)
            self.joins = self.joins and not has_lengths(self.encoding)
            if self.joins and self.corpus is None:
                raise ConfigError(
                    f"{recipe.encode.encoder} counts terms in texts; give the corpus of the encoded passages"
                )
        elif learned_part(recipe.encode.encoder):
            self.encoder = learned or open_learned(recipe.encode, device)
            self.learned = LearnedTerms(self.encoder, shards)
        if recipe.vectors is not None:
            self.vectors = open_vectors(recipe.vectors, dense, shards, recipe.encode, device)
        encoders = (self.learned, self.vectors)
        self.readers = [one.unread for one in encoders if isinstance(one, LearnedTerms | EncodedVectors)]
        if source is not None and (limits := [one.advice for one in self.readers if one.limit]):
            self.split_tokens = min(limits)
            self.corpus = corpus_of(source, recipe, self.split_tokens)

    def _say_models(self, dense: object, learned: object) -> None:
        """Say which models are loaded, which takes seconds before anything else is seen to happen."""
        encode, vectors = self.recipe.encode, self.recipe.vectors
        names = [] if encode.source or encode.encoder == LEXICAL or learned else [encode.encoder]
        names += [] if vectors is None or vectors.source or dense else [vectors.encoder]
        if names:
            self._say(f"loading {' and '.join(names)} with torch (the recipe `{LEXICAL}` needs no model)")

    def _say(self, line: str) -> None:
        _log.info("%s", line)
        if self.progress:
            tqdm.write(line, file=sys.stderr)

    def check_disk(self) -> None:
        """Refuse a corpus in plain files that the disk has no room for: its copy alone takes as much.

        Raises:
            OSError: there is not enough space.
        """
        name = str(getattr(self.corpus, "name", ""))
        least = plain_bytes(Path(name)) if name and self.corpus is not None else 0
        self._require_disk(least, "a copy of the corpus, which a build works from, takes")

    def _require_disk(self, least: int, what: str) -> None:
        free = shutil.disk_usage(self.directory).free
        if free < least:
            problem = f"{what} about {least:,} bytes, but only {free:,} are free"
            raise OSError(errno.ENOSPC, problem, str(self.directory.parent))

    def run(self) -> dict[str, Any]:
        """Read, prune, encode and store; returns the counts of the index."""
        self.check_disk()
        self.read()
        self.estimate()
        self.prune()
        counts = self.index()
        self.store_others()
        return counts

    def read(self) -> None:
        """Spool the corpus, count its terms where BM25 needs them, and bring it into the order of an encoding."""
        started = time.perf_counter()
        recipe, encoding = self.recipe, self.encoding
        corpus: Iterable[Passage] = self.corpus or ()
        name = str(getattr(corpus, "name", "memory"))
        if self.corpus is None and encoding is not None:
            corpus, name = (passage for passages, _ in encoding for passage in passages), str(encoding.path)
        self.spool = Spool(self.work / "corpus", name)
        counts = None
        if recipe.prune is not None or self.joins or (encoding is None and self.learned is None):
            counts = TermCounts(self.work / "counts", recipe.encode.analyzer)
        found = Inference(recipe.fields, expected=expected_fields(corpus))
        with reading_bar(corpus, progress=self.progress) as bar:
            for chunk in self.spool.fill(corpus, texts=self.corpus is not None, complaint_of=found.complaint):
                found.add(chunk)
                if counts is not None:
                    counts.add([passage.contents for passage in chunk])
                bar.update(len(chunk))
        refuse_empty(self.spool)
        self.schema = found.schema
        if encoding is not None and self.corpus is not None:
            ordered = in_order_of(encoding, self.spool)
            if counts is not None and ordered is not self.spool:
                counts = count_terms(ordered, self.work / "recounts", recipe.encode.analyzer)
            self.spool = ordered
        if counts is not None:
            self.lexical = CountedTerms(counts, recipe.encode)
        self.terms = GivenTerms(encoding) if encoding is not None else self.learned or self.lexical
        if self.joins:
            self.terms = JoinedTerms(self.lexical, self.terms, recipe.encode.learned_weight)
        self.numbers = np.arange(len(self.spool))
        terms = len(self.terms.query_side.vocabulary)
        counted = {"passages": len(self.spool), "terms": terms}
        if documents := int(getattr(corpus, "documents", 0)):
            counted["documents"] = documents
        self.usage = self.usage.with_stage("read", time.perf_counter() - started, **counted)

    def estimate(self) -> None:
        """Say what a long build will take, and refuse one that the disk has no room for.

        Raises:
            OSError: there is not enough space.
        """
        n = len(self.spool)
        least = (self.spool.directory / "passages").stat().st_size
        if self.terms is getattr(self, "lexical", None):
            least += POSTING_BYTES * self.lexical.postings
        encodes = self.learned is not None or isinstance(self.vectors, EncodedVectors)
        if encodes and n >= _LONG:
            self.measured = measured = self._measure(_LEARNED_SAMPLE)
            seconds, size = (x * n / measured.passages for x in (measured.seconds, measured.first))
            least = max(least, round(size * WHILE_BUILDING))
            self._say(
                f"{n:,} passages: encoding will take about {duration(seconds)}, the index about {size / 1e6:,.0f} MB"
            )
        self._require_disk(least, "building the index will take")

    def _measure(self, passages: int) -> Measured:
        bits = impact_bits(self.recipe.index, self.terms)
        vectors = self.vectors if isinstance(self.vectors, EncodedVectors) else None
        lexical = self.lexical if self.recipe.prune is not None else None
        if self.learned is not None:  # at the first passages models load and loops are compiled, which is not timed
            self.learned.sample(self.spool, np.arange(min(_FIRST, len(self.spool))))
        if vectors is not None:
            vectors.sample(self.spool.texts[:_FIRST])
        both = self.recipe.encodes_second_tier
        return measure(self.spool, self.terms, lexical, bits, vectors, passages=passages, both=both)

    def prune(self) -> None:
        """Decide which passages the first tier holds."""
        if self.recipe.prune is not None:
            step, measured = self.recipe.prune, None
            if step.budget and not step.rate and not step.decision:
                measured = self.measured or self._measure(_SAMPLE if self.learned is None else _LEARNED_SAMPLE)
            self.pruning = decide_tiers(self.spool, step, measured=measured, progress=self.progress)
            self.numbers = np.flatnonzero(self.pruning.decision.tiers == TIER_ONE)
            if not len(self.numbers):
                raise InputError(
                    f"the pruning keeps none of {len(self.spool):,} passages; ask for more", self.spool.name
                )

    def index(self) -> dict[str, Any]:
        """Encode and index the first tier; returns the counts of the index."""
        step, encoder = self.recipe.index, self.terms.query_side
        if self.recipe.vectors is not None and self.vectors is not None:
            check_vectors(self.recipe.vectors, self.vectors, len(self.numbers))
        writer = TierWriter(
            self.directory, self.terms, self.numbers, step, self.schema, order=step.order, exact=folds(self.recipe),
            progress=self.progress, memory=self.memory,
        )  # fmt: skip
        encoding = storing = 0.0
        asked = time.perf_counter()
        with writer, self._encoding_bar() as done:
            for passages, batch in self.terms.rows(self.spool, self.numbers):
                got = time.perf_counter()
                writer.add(passages, batch)
                encoding += got - asked
                asked = time.perf_counter()
                storing += asked - got
                done(len(passages))
        started = time.perf_counter()
        counts = writer.finish()
        if not counts["postings"]:
            problem = (
                f"none of {counts['passages']:,} passages has a term that can be searched; is this the right field?"
            )
            raise InputError(problem, self.spool.name)
        self.draft.add_encoder(encoder)
        passages_indexed = int(counts["passages"])
        unread = self.learned.unread.counts() if isinstance(self.learned, LearnedTerms) else {}
        self.usage = (
            self.usage.with_stage("encode", encoding + started - asked, passages=passages_indexed, **unread)
            .with_stage("store", storing, passages=passages_indexed)
            .with_stage("index", time.perf_counter() - started, postings=counts["postings"])
        )
        return counts

    def store_others(self) -> None:
        """Write what goes with the first tier: vectors, states, the second tier and the decision."""
        self.store_vectors()
        self.store_states()
        self.store_tiers()

    def store_vectors(self) -> None:
        """Write the vectors, in the order of the passage numbers."""
        step = self.recipe.vectors
        if step is not None and self.vectors is not None:
            tiers = np.zeros(0) if self.pruning is None else self.pruning.decision.tiers
            second = second_with_vectors(self.recipe, self.vectors, self.spool, np.flatnonzero(tiers == TIER_TWO))
            stage = store_vectors(
                self.directory, step, self.vectors, self.spool, self.numbers, second, progress=self.progress
            )
            self.usage = Usage((*self.usage.stages, stage))

    def store_states(self) -> None:
        """Write the states of the first tier's passages, in the order of their numbers."""
        if self.recipe.states is not None:
            stage = store_states(self.directory, self.recipe.states, self.spool, self.numbers, progress=self.progress)
            self.usage = Usage((*self.usage.stages, stage))

    def store_tiers(self) -> None:
        """Write the second tier and the decision."""
        if self.pruning is not None:
            stage = store_tiers(
                self.draft,
                self.pruning,
                self.spool,
                self._second_terms(),
                self.recipe,
                self.usage,
                self.schema,
                self.memory,
            )
            self.usage = Usage((*self.usage.stages, stage))

    def _second_terms(self) -> TermSource:
        """Where the weighted terms of the second tier come from."""
        if not (self.joins and self.recipe.learned_second_tier):
            return self.lexical
        if self.encoding is not None:
            return self.terms
        learned = LearnedTerms(self.encoder, self.shards.with_name(f"{self.shards.name}-second"))
        return JoinedTerms(self.lexical, learned, self.recipe.encode.learned_weight)

    def frozen(self) -> dict[str, object]:
        """What was fitted, and stays for the passages that are added later."""
        made: dict[str, object] = {"split_tokens": self.split_tokens}
        if hasattr(self, "lexical"):
            made["average_length"] = self.lexical.query_side.average_length
        elif self.encoding is not None and (folder := getattr(self.encoding, "encoder", None)) is not None:
            made["average_length"] = getattr(load_query_encoder(folder), "average_length", None)
        pruning = self.pruning
        if pruning is not None and pruning.policy is not None:
            threshold = pruning.threshold
            if len(pruning.scores):
                threshold = threshold_of(pruning.policy, pruning.decision, pruning.scores)
            made["pruning"] = {
                "threshold": threshold,
                "estimator": pruning.estimator,
                "fingerprint": pruning.estimator_fingerprint,
                "policy": pruning.policy.model_dump(mode="json"),
            }
            if pruning.fitted is not None and getattr(pruning.fitted, "can_save", False):
                self.draft.add_estimator(pruning.estimator_fingerprint, pruning.fitted.save)
        return made

    def segment_fields(self) -> dict[str, object]:
        """What the manifest of the segment records of the build."""
        encoder = self.terms.query_side
        return {"encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint}}

    def fields(self) -> dict[str, object]:
        """What the commit records of the build."""
        spool = self.spool
        return {
            "corpus": {"name": spool.name, "fingerprint": spool.fingerprint(), "skipped": spool.skipped},
            **self.segment_fields(),
            "fields": self.schema,
            "frozen": self.frozen(),
            "recipe": self.remembered().model_dump(mode="json", exclude_defaults=True),
            "usage": [stage.as_json() for stage in self.usage.stages],
        }

    def remembered(self) -> Recipe:
        """The recipe as the index keeps it: documents stay documents, whatever is put beside them later."""
        recipe = self.recipe
        if self.terms.impacts is not None:  # passages that are added later get impacts as wide
            index = recipe.index.model_copy(update={"bits": impact_bits(recipe.index, self.terms)})
            recipe = recipe.model_copy(update={"index": index})
        if not isinstance(self.corpus, RecordCorpus) or not self.corpus.format:
            return recipe
        corpus = recipe.corpus.model_copy(update={"format": self.corpus.format})
        return recipe.model_copy(update={"corpus": corpus})

    def close(self) -> None:
        """Remove the spool and everything else that the index does not keep."""
        shutil.rmtree(self.work)

    @contextmanager
    def _encoding_bar(self) -> Iterator[Callable[[int], object]]:
        """A bar over the first tier; call what it yields with the number of passages that have their terms."""
        if self.learned is None:
            total = len(self.numbers)
            hidden = not self.progress
            with tqdm(desc="encoding", total=total, unit=" passages", disable=hidden, mininterval=0.5, delay=1) as bar:
                yield bar.update
        else:
            with encoding_bar(len(self.numbers), progress=self.progress) as done:
                yield done
