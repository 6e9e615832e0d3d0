"""The tasks that encode a part and write it as a segment.

What is learned from all passages is the scale of the impacts of learned weights (from the largest of them) and, for
vectors, the codebook and the axes of the sketch, which are taken from the first part that has vectors. So parts are
encoded first; what they need of each other is put together; and then each is indexed, from what it encoded.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
import numpy as np

from thresher.build.segment import Contents, write_segment
from thresher.build.vectors import EncodedVectors, check_vectors, store_vectors
from thresher.build.weights import CountedTerms, JoinedTerms, LearnedTerms, open_learned
from thresher.distributed.pruning import part_decision
from thresher.distributed.reading import Part
from thresher.distributed.task import ENCODING, RESULTS, Task, recipe_of
from thresher.encode import DenseEncoder
from thresher.encode.hybrid import is_hybrid, learned_part
from thresher.encode.shards import Unread
from thresher.encode.terms import fit_scale
from thresher.errors import ConfigError
from thresher.index.commit import ENCODERS, SegmentDraft, save_shared
from thresher.index.memory import MemoryLimit
from thresher.prune.decision import TIER_ONE, TIER_TWO
from thresher.vectors.store import FOLDER, VectorStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thresher.build.recipe import Recipe
    from thresher.build.weights import TermSource
    from thresher.encode import SparseEncoder
    from thresher.encode.query_side import QuerySide
    from thresher.prune.decision import Decision

SEGMENT = "segment"
"""Folder of the segment in the result of a task."""
_FIRST, _SECOND, _VECTORS = "terms", "terms-second", "terms-vectors"


class Models(msgspec.Struct):
    """The encoders of a recipe.

    Attributes:
        split_tokens: as `corpus_of` takes it, from how much the encoders read.
        learned: fingerprint of the learned encoder; empty where there is none.
        dense: likewise.
    """

    split_tokens: int
    learned: str
    dense: str


class OpenModels(Task, frozen=True, kw_only=True):
    """Loads the encoders, to see whether they are there and what they read.

    Attributes:
        recipe: the tables `encode` and `vectors`.
    """

    stage: ClassVar[str] = "models"
    recipe: str

    def make(self, folder: Path) -> Models:
        """Nothing but what they say."""
        learned, dense = learned_encoder(self.recipe, self.device), dense_encoder(self.recipe, self.device)
        limits = [unread.advice for unread in map(Unread, filter(None, (learned, dense))) if unread.limit]
        prints = ["" if one is None else one.fingerprint for one in (learned, dense)]
        return Models(min(limits, default=0), *prints)


@lru_cache(maxsize=1)
def learned_encoder(recipe: str, device: str) -> SparseEncoder | None:
    """The learned encoder of a recipe, loaded once in a process; None where it has none."""
    step = recipe_of(recipe).encode
    return open_learned(step, device) if learned_part(step.encoder) else None


@lru_cache(maxsize=1)
def dense_encoder(recipe: str, device: str) -> DenseEncoder | None:
    """The dense encoder of a recipe, loaded once in a process; None where it has none."""
    found = recipe_of(recipe)
    if found.vectors is None:
        return None
    return DenseEncoder.from_name(found.vectors.encoder, device=device, batch_size=found.encode.batch_size)


class PartTask(Task, frozen=True, kw_only=True):
    """A task of one part, after its passages were decided on.

    Attributes:
        encoders: the tables `encode` and `vectors` of the recipe.
        learned, dense: fingerprints of its encoders.
        read: the task that read the part.
        content: of the part.
        number: of the part among those with passages.
        decided: the task that decided; empty where nothing is pruned.
        digest: of what it decided for this part.
        second: whether the second tier has learned terms, and whether it has vectors.
    """

    places: ClassVar[frozenset[str]] = frozenset(("read", "number", "decided"))
    encoders: str
    learned: str
    dense: str
    read: str
    content: str
    number: int
    decided: str
    digest: str
    second: tuple[bool, bool]

    def decision(self) -> tuple[Decision | None, dict[int, str]]:
        """What was decided of the part, and the docnos in other parts that stand for some of its passages."""
        return part_decision(self.work, self.decided, self.number) if self.decided else (None, {})

    def learned_terms(self, encoding: Path, tier: str = _FIRST) -> LearnedTerms:
        """The terms of the learned encoder, with what was encoded before.

        Raises:
            ConfigError: it is not the encoder that the build began with.
        """
        encoder = learned_encoder(self.encoders, self.device)
        if encoder is None or encoder.fingerprint != self.learned:
            raise _other(recipe_of(self.encoders).encode.encoder, self.learned)
        return LearnedTerms(encoder, encoding / tier)

    def vectors(self, encoding: Path) -> EncodedVectors | None:
        """The vectors of the dense encoder, with what was encoded before; None where there are none.

        Raises:
            ConfigError: it is not the encoder that the build began with.
        """
        step = recipe_of(self.encoders).vectors
        if step is None:
            return None
        encoder = dense_encoder(self.encoders, self.device)
        if encoder is None or encoder.fingerprint != self.dense:
            raise _other(step.encoder, self.dense)
        return EncodedVectors(step, encoder, encoding / _FIRST)


class Encoded(msgspec.Struct):
    """A part that was encoded; what was made is beside the results.

    Attributes:
        passages: of the first tier, and with a vector.
        largest: the largest learned weight of the first tier, 0 where there is none.
        whole: whether all these weights are whole numbers.
        unread: what the encoder did not read, as `Unread.counts` gives it.
    """

    passages: tuple[int, int]
    largest: float
    whole: bool
    unread: dict[str, float]


class EncodeShard(PartTask, frozen=True, kw_only=True):
    """Encodes a part: learned terms and vectors, in shards that stay where the task was killed."""

    stage: ClassVar[str] = "encode"

    def make(self, folder: Path) -> Encoded:
        """Nothing but what was found."""
        spool, recipe = Part(self.work, self.read).spool, recipe_of(self.encoders)
        decision, _ = self.decision()
        first, second = tiers_of(decision, len(spool))
        largest, whole, unread = 0.0, True, dict[str, float]()
        if self.learned:
            terms = self.learned_terms(self.encoding)
            for _, batch in terms.rows(spool, first):
                largest = max(largest, float(batch.weights.max(initial=0)))
                whole = whole and bool(np.all(batch.weights == np.rint(batch.weights)))
            unread = terms.unread.counts()
            if self.second[0] and len(second):
                for _ in self.learned_terms(self.encoding, _SECOND).rows(spool, second):
                    pass
        vectors, having = self.vectors(self.encoding), second if self.second[1] else second[:0]
        if vectors is not None and recipe.vectors is not None:
            for _ in vectors.batches(spool, first, having, progress=False):
                pass
        count = len(first) + len(having) if vectors is not None else 0
        return Encoded((len(first), count), largest, whole, unread)


class Stored(msgspec.Struct):
    """What all parts are stored with.

    Attributes:
        scale: of learned impacts; None where it is constant.
        vectors: whether the result holds the vectors of one part, whose codebook and axes the others take.
    """

    scale: float | None
    vectors: bool


class FitStorage(PartTask, frozen=True, kw_only=True):
    """Fits what all parts are stored with. Its part is the first that has vectors.

    Attributes:
        bits: width of an impact; 0 where the scale is constant.
        largest: the largest weight of all parts.
        whole: whether all weights are whole numbers.
        encoded: the task that encoded its part.
    """

    stage: ClassVar[str] = "storage"
    places: ClassVar[frozenset[str]] = PartTask.places | {"encoded"}
    bits: Literal[0, 8, 16]
    largest: float
    whole: bool
    encoded: str

    def make(self, folder: Path) -> Stored:
        """The vectors of the part."""
        scale = None
        if self.bits:
            fits = self.whole and self.largest <= 2**self.bits - 1
            scale = 1.0 if fits else fit_scale(self.largest, self.bits).scale
        step = recipe_of(self.encoders).vectors
        if step is None:
            return Stored(scale, vectors=False)
        spool, (decision, _) = Part(self.work, self.read).spool, self.decision()
        first, second = tiers_of(decision, len(spool))
        vectors = self.vectors(Path(self.work) / ENCODING / self.encoded)
        if vectors is None:
            return Stored(scale, vectors=False)
        check_vectors(step, vectors, len(first))
        store_vectors(folder, step, vectors, spool, first, second if self.second[1] else second[:0], progress=False)
        return Stored(scale, vectors=True)


class Indexed(msgspec.Struct):
    """A part that is a segment.

    Attributes:
        counts: of its first tier, as the manifest has them; JSON.
        tiers: passages of each tier.
    """

    counts: str
    tiers: tuple[int, int]


class IndexShard(PartTask, frozen=True, kw_only=True):
    """Writes a part as a segment, and what its queries need.

    Attributes:
        recipe: the tables `prune`, `encode`, `index`, `vectors` and `states`.
        schema: types of the metadata fields, in order.
        average_length: terms of an average passage; 0 where no weights are BM25's.
        scale: of learned impacts; None where it is constant.
        estimator: fingerprint of the estimator whose scores decided.
        storage: the task whose vectors these are stored like; empty where there are none.
        encoded: the task that encoded the part; empty where nothing was.
        memory_gb: what the process that does it may hold; None for no limit.
    """

    stage: ClassVar[str] = "index"
    places: ClassVar[frozenset[str]] = PartTask.places | {"encoded", "memory_gb"}
    recipe: str
    schema: list[tuple[str, str]]
    average_length: float
    scale: float | None
    estimator: str
    storage: str
    encoded: str
    memory_gb: float | None = None

    def make(self, folder: Path) -> Indexed:
        """The segment, sealed, and `encoders/`."""
        recipe, part = recipe_of(self.recipe), Part(self.work, self.read)
        spool, (decision, elsewhere), step = part.spool, self.decision(), recipe.encode
        encoding = Path(self.work) / ENCODING / self.encoded
        counted = None
        if self.average_length:
            counted = CountedTerms(part.counts(step.analyzer), step, average_length=self.average_length)
        saved: list[QuerySide] = []

        def terms(tier: str) -> TermSource:
            made = self._terms(recipe, counted, encoding, tier)
            saved.append(made.query_side)
            return made

        like = VectorStore.open(Path(self.work) / RESULTS / self.storage / FOLDER) if self.storage else None
        contents = Contents(
            spool, decision, elsewhere, terms(_FIRST), lambda: terms(_SECOND), dict(self.schema), self.scale,
            self.vectors(encoding), like, policy=None if recipe.prune is None else (recipe.prune, self.estimator),
        )  # fmt: skip
        draft = SegmentDraft(folder / SEGMENT)
        draft.path.mkdir()
        memory = None if self.memory_gb is None else MemoryLimit(self.memory_gb)
        made = write_segment(draft, recipe, contents, memory=memory)
        draft.seal()
        for side in saved:
            save_shared(folder, ENCODERS, side.fingerprint, side.save)
        return Indexed(msgspec.json.encode(made.counts).decode(), made.tiers)

    def _terms(self, recipe: Recipe, counted: CountedTerms | None, encoding: Path, tier: str) -> TermSource:
        """Where the weighted terms of a tier come from."""
        step = recipe.encode
        pruned = tier == _SECOND and not recipe.learned_second_tier
        if counted is not None and (pruned or not self.learned):
            return counted
        learned = self.learned_terms(encoding, tier)
        return (
            learned
            if counted is None or not is_hybrid(step.encoder)
            else JoinedTerms(counted, learned, step.learned_weight)
        )


def tiers_of(decision: Decision | None, passages: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the passages of both tiers."""
    if decision is None:
        return np.arange(passages), np.zeros(0, np.int64)
    return np.flatnonzero(decision.tiers == TIER_ONE), np.flatnonzero(decision.tiers == TIER_TWO)


def _other(name: str, wanted: str) -> ConfigError:
    """The error for another encoder than the one that a build began with."""
    return ConfigError(
        f"the encoder {name!r} is another one here than where the build began ({wanted[:12]}): other weights, or "
        "another engine; all machines need the same"
    )
