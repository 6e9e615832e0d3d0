"""An index built in shards: a corpus cut into parts, each read, scored, encoded and indexed by whoever is free.

Between these steps are the facts that all parts share, put together in tasks of their own (`Stages` has the order).
Every task is a pure function named by what it is made from, so its result does not depend on the executor, on how many
processes there are, or on the order in which they finish; a build that was killed goes on where it was when the same
call is made again. What comes out is an index of one commit with a segment for each part.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from tqdm.auto import tqdm

from thresher.arguments import checked_call
from thresher.artifact import check_replaceable
from thresher.build.report import BuildReport, logged
from thresher.build.sources import with_sources
from thresher.corpus.parts import Piece, Source, cut, sources_of, to_count
from thresher.distributed.assembly import CommitIndex, Committed, is_built
from thresher.distributed.executors import Executor, LocalExecutor, executor_named
from thresher.distributed.pruning import (
    Decided,
    DecideTiers,
    FitEstimator,
    Fitted,
    MeasureFeatures,
    ScoreShard,
    check_step,
    is_standardised,
    needs_words,
)
from thresher.distributed.reading import (
    Counted,
    CountRecords,
    Facts,
    GatherFacts,
    Read,
    ReadShard,
    check_source,
)
from thresher.distributed.segments import (
    Encoded,
    EncodeShard,
    FitStorage,
    IndexShard,
    Models,
    OpenModels,
    Stored,
)
from thresher.distributed.task import Task, run, tables
from thresher.encode.hybrid import is_hybrid, learned_part
from thresher.errors import ArtifactError, ConfigError
from thresher.index.commit import INDEX
from thresher.publish import place_of, writing_in
from thresher.records import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thresher.build.recipe import Recipe
    from thresher.corpus import Corpus
    from thresher.records import Passage

T = TypeVar("T", bound=Task)
Result = TypeVar("Result", bound=msgspec.Struct)
SHARDS = 16
"""Shards of a build that does not say how many."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build in shards would do.

    Attributes:
        target: the index.
        work: the folder of unfinished work.
        parts: the pieces of each shard that is not empty, as known so far.
        counted: files whose records are counted first, and then cut.
        stages: names of the stages, in order, with the number of tasks of each.
    """

    target: Path
    work: Path
    parts: tuple[tuple[Piece, ...], ...]
    counted: tuple[str, ...]
    stages: tuple[tuple[str, int], ...]

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {
            "target": str(self.target),
            "work": str(self.work),
            "parts": [[piece.as_json() for piece in part] for part in self.parts],
            "counted": list(self.counted),
            "stages": dict(self.stages),
        }


@checked_call
def plan_shards(
    target: str | Path,
    source: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    *,
    shards: int = SHARDS,
    work: str | Path | None = None,
) -> Plan:
    """What `build_shards` would do; nothing is read but sizes.

    Raises:
        ConfigError, DataNotFoundError: as `build_shards`.
    """
    chosen, origin = _checked(source, recipe, shards)
    sources = _sources(origin, chosen)
    counted = to_count(sources, shards)
    parts = cut(sources, {one.file: one.size for one in counted}, shards)
    kept = tuple(tuple(part) for part in parts if part)
    return Plan(
        place_of(target), _work_of(target, work), () if counted else kept, tuple(one.file for one in counted),
        tuple(_stages(chosen, len(counted), shards if counted else len(kept))),
    )  # fmt: skip


@checked_call
def build_shards(
    target: str | Path,
    source: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    *,
    shards: int = SHARDS,
    executor: Executor | str = "local",
    work: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    device: str = "auto",
    memory_gb: float | None = None,
) -> BuildReport:
    """Build an index at `target` in shards; its results are those of `thresher.build_index`.

    Args:
        target: the directory to write; it appears when it is complete.
        source: a file, folder or data set that `thresher.corpus.open_corpus` knows, under the same name for every
            process. Default: the recipe's.
        recipe: how to build; a `Recipe`, a TOML file, or a shipped name. Default: `best_recipe`.
        shards: parts that the corpus is cut into, and so segments, fewer where it has fewer passages. What is in the
            index depends on this number, and not on the executor.
        executor: who does the work: `local[:WORKERS]`, `folder:PATH`, `ray[:ADDRESS]`, or an `Executor`.
        work: folder of unfinished work, on storage that all processes see, under the same name. Default: that of
            `folder:PATH`; otherwise `.NAME.shards` beside the index, which is removed when the index is complete.
        overwrite: replace an existing index.
        progress: show progress bars.
        device: for the models that the recipe names.
        memory_gb: GB (10^9 bytes) that each process may hold while it indexes a shard; None for no limit.

    Raises:
        ConfigError: the recipe is wrong, names artifacts of a whole corpus, or there is no corpus that several
            processes can read.
        InputError: the corpus is malformed, with file and line; or a docno comes twice.
        ArtifactError: there is something at `target` that may not be replaced.
        MissingExtraError: Ray is not installed.
    """
    chosen, origin = _checked(source, recipe, shards)
    with ExitStack() as held:
        if isinstance(executor, str):
            executor = executor_named(executor)
            if isinstance(executor, LocalExecutor):
                held.enter_context(executor)
        shared = getattr(executor, "folder", None)
        place = _work_of(target, work or shared)
        if shared is None:
            place.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(writing_in(place))
        stages = Stages(executor, str(place), chosen, origin, progress=progress, device=device)
        stages.memory_gb = memory_gb
        made = stages.build(place_of(target), shards, overwrite=overwrite)
        if shared is None:
            shutil.rmtree(place, ignore_errors=True)
    return made


class Stages:
    """The stages of one build, in order.

    Args:
        executor: who does the work.
        work: the work folder.
        recipe: how to build.
        source: the corpus.
        progress: show a bar for each stage.
        device: for models.
    """

    def __init__(
        self, executor: Executor, work: str, recipe: Recipe, source: str, *, progress: bool, device: str
    ) -> None:
        self.executor, self.work, self.recipe, self.source = executor, work, recipe, source
        self.progress, self.device = progress, device
        self.usage = Usage()
        self.memory_gb: float | None = None
        self.learned = bool(learned_part(recipe.encode.encoder))
        self.counted = not self.learned or is_hybrid(recipe.encode.encoder) or recipe.prune is not None

    def build(self, target: Path, shards: int, *, overwrite: bool) -> BuildReport:
        """All stages; returns what was made."""
        if not overwrite and target.exists():
            self._refuse_other(target)
        models = self._models()
        reads = self._read(shards, models.split_tokens)
        facts = self._facts(reads)
        read_facts = facts.result(Facts)
        fitted = decided = None
        if self.recipe.prune is not None:
            fitted, decided = self._prune(reads, facts)
        indexed = self._index(reads, read_facts, models, fitted, decided)
        commit = CommitIndex(
            work=self.work, target=str(target), overwrite=overwrite, recipe=self.recipe.model_dump_json(),
            source=self.source, split_tokens=models.split_tokens, facts=facts.name,
            fitted=fitted.name if fitted else "", decided=decided.name if decided else "",
            indexed=[task.name for task in indexed],
            usage=msgspec.json.encode([stage.as_json() for stage in self.usage.stages]).decode(),
        )  # fmt: skip
        if commit.done and not self._has(target, commit):
            shutil.rmtree(commit.place)
        self._map("commit", [commit])
        made = commit.result(Committed)
        report = BuildReport(target, msgspec.json.decode(made.counts), made.skipped, self.usage)
        return logged(report, self.source)

    def _has(self, target: Path, commit: CommitIndex) -> bool:
        with suppress(ArtifactError):
            return is_built(target, commit.name)
        return False

    def _refuse_other(self, target: Path) -> None:
        """Refuse a target that no build in shards made; whether it is this one's shows at the end."""
        from thresher.distributed.assembly import BUILD
        from thresher.index.commit import read_commit

        with suppress(ArtifactError):
            if BUILD in read_commit(target).fields:
                return
        check_replaceable(target, INDEX, overwrite=False)

    def _map(self, stage: str, tasks: Sequence[T], **counts: float) -> list[T]:
        """Have tasks done; returns them when all are."""
        started = time.perf_counter()
        pending = [task for task in tasks if not task.done]
        bar: tqdm[None] = tqdm(
            desc=stage, total=len(tasks), initial=len(tasks) - len(pending), unit=" shards",
            disable=not self.progress, mininterval=0.1,
        )  # fmt: skip
        with bar:
            for _ in self.executor.map(run, pending) if pending else ():
                bar.update()
        self.usage = self.usage.with_stage(stage, time.perf_counter() - started, shards=len(tasks), **counts)
        return list(tasks)

    def _models(self) -> Models:
        """What the encoders say, where there are any."""
        if not self.learned and self.recipe.vectors is None:
            return Models(0, "", "")
        task = OpenModels(work=self.work, device=self.device, recipe=tables(self.recipe, "encode", "vectors"))
        return self._map("models", [task])[0].result(Models)

    def _read(self, shards: int, split_tokens: int) -> list[ReadShard]:
        """The parts that have passages, read."""
        recipe, step = self.recipe, self.recipe.prune
        sources, how = _sources(self.source, recipe), tables(recipe, "corpus")
        counting = [
            CountRecords(
                work=self.work, recipe=how, split_tokens=split_tokens,
                piece=Piece(one.file, one.unit, size=one.size, changed=one.changed).as_json(),  # type: ignore[arg-type]
            )
            for one in to_count(sources, shards)
        ]  # fmt: skip
        counts = {}
        if counting:
            self._map("count", counting)
            counts = {str(task.piece["file"]): task.result(Counted).records for task in counting}
        parts = [part for part in cut(sources, counts, shards) if part]
        if not parts:
            raise ConfigError(f"{self.source} has no records to build from")
        tasks = [
            ReadShard(
                work=self.work, shard=number, recipe=tables(recipe, "corpus", "fields"), source=self.source,
                pieces=[piece.as_json() for piece in part], last=number == len(parts) - 1,  # type: ignore[misc]
                split_tokens=split_tokens, analyzer=recipe.encode.analyzer if self.counted else "",
                words=step is not None and needs_words(step.estimator),
            )
            for number, part in enumerate(parts)
        ]  # fmt: skip
        self._map("read", tasks)
        return [task for task in tasks if task.result(Read).passages]

    def _facts(self, reads: Sequence[ReadShard]) -> GatherFacts:
        """What all parts share."""
        if not reads:
            raise ConfigError(f"{self.source} has no passages to build from")
        results = [task.result(Read) for task in reads]
        skipped: list[int] = []
        for one in results:
            lost = one.about["skipped"]
            skipped.append(sum(lost.values()) if isinstance(lost, dict) else 0)
        task = GatherFacts(
            work=self.work, recipe=tables(self.recipe, "fields"), contents=[one.content for one in results],
            reads=[task.name for task in reads], skipped=skipped, words=reads[0].words, counted=self.counted,
        )  # fmt: skip
        return self._map("facts", [task])[0]

    def _prune(self, reads: Sequence[ReadShard], facts: GatherFacts) -> tuple[FitEstimator, DecideTiers]:
        """The estimator, and one decision for all parts."""
        step = self.recipe.prune
        if step is None:
            raise ConfigError("the recipe prunes nothing")
        contents, features = [task.result(Read).content for task in reads], list[MeasureFeatures]()
        if is_standardised(step.estimator):
            features = self._map("features", [
                MeasureFeatures(work=self.work, shard=read.shard, read=read.name, content=content, facts=facts.name)
                for read, content in zip(reads, contents, strict=True)
            ])  # fmt: skip
        fitting = FitEstimator(
            work=self.work, device=self.device, estimator=step.estimator, facts=facts.name if reads[0].words else "",
            features=[task.name for task in features],
        )  # fmt: skip
        fitted = self._map("estimator", [fitting])[0]
        policy = step.model_dump_json()
        scored = self._map("score", [
            ScoreShard(
                work=self.work, shard=read.shard, device=self.device, read=read.name, content=content,
                estimator=step.estimator, fitted=fitted.name, step=policy,
            )
            for read, content in zip(reads, contents, strict=True)
        ])  # fmt: skip
        deciding = DecideTiers(
            work=self.work, step=policy, contents=contents, reads=[task.name for task in reads],
            scored=[task.name for task in scored],
        )  # fmt: skip
        decided = self._map("prune", [deciding])[0]
        counts = decided.result(Decided).counts
        self.usage = self.usage.with_stage("decide", 0.0, **counts)
        return fitted, decided

    def _index(
        self,
        reads: Sequence[ReadShard],
        facts: Facts,
        models: Models,
        fitted: FitEstimator | None,
        decided: DecideTiers | None,
    ) -> list[IndexShard]:
        """The parts encoded, and written as segments; those of which all was pruned from the first tier as well."""
        recipe, decision = self.recipe, decided.result(Decided) if decided else None
        second, encoders = (recipe.learned_second_tier, recipe.encodes_second_tier), tables(recipe, "encode", "vectors")
        common = [
            {
                "work": self.work, "shard": read.shard, "device": self.device, "encoders": encoders,
                "learned": models.learned, "dense": models.dense, "read": read.name,
                "content": read.result(Read).content,
                "number": number, "decided": decided.name if decided else "",
                "digest": decision.digests[number] if decision else "", "second": second,
            }
            for number, read in enumerate(reads)
        ]  # fmt: skip
        encoded: list[EncodeShard] = []
        scale, storage = None, ""
        if models.learned or models.dense:
            encoded = self._map("encode", [EncodeShard(**values) for values in common])  # type: ignore[arg-type]
            found = [task.result(Encoded) for task in encoded]
            bits: Literal[0, 8, 16] = 0
            if models.learned and not is_hybrid(recipe.encode.encoder):
                bits = 8 if recipe.index.bits == "auto" else recipe.index.bits
            first = next((n for n, one in enumerate(found) if one.passages[1]), 0)
            fitting = FitStorage(
                **common[first], bits=bits, largest=max(one.largest for one in found),  # type: ignore[arg-type]
                whole=all(one.whole for one in found), encoded=encoded[first].name,
            )  # fmt: skip
            stored = self._map("storage", [fitting])[0]
            made = stored.result(Stored)
            scale, storage = made.scale, stored.name if made.vectors else ""
        return self._map("index", [
            IndexShard(
                **values, recipe=tables(recipe, "prune", "encode", "index", "vectors", "states"),  # type: ignore[arg-type]
                schema=list(facts.schema.items()), average_length=facts.average_length, scale=scale,
                estimator=fitted.result(Fitted).fingerprint if fitted else "", storage=storage,
                encoded=encoded[number].name if encoded else "", memory_gb=self.memory_gb,
            )
            for number, values in enumerate(common)
        ], passages=facts.passages)  # fmt: skip


def _checked(
    source: Corpus | Iterable[Passage] | str | Path | None, recipe: Recipe | str | Path | None, shards: int
) -> tuple[Recipe, str]:
    """The recipe and the name of the corpus.

    Raises:
        ConfigError: as `build_shards`.
    """
    if shards < 1:
        raise ConfigError(f"shards is {shards}; it must be at least 1")
    chosen = with_sources(recipe, None, None, None)
    chosen.check()
    for name, value in (
        ("encode.source", chosen.encode.source),
        ("vectors.source", chosen.vectors.source if chosen.vectors else ""),
    ):
        if value:
            raise ConfigError(
                f"{name} is {value!r}, which belongs to a corpus in one piece; a build in shards encodes itself: leave "
                "it out, or build without shards"
            )
    if chosen.prune is not None:
        check_step(chosen.prune)
    return chosen, check_source(source or chosen.corpus.source or None)


def _sources(source: str, recipe: Recipe) -> list[Source]:
    table = recipe.corpus
    return sources_of(source, table.format, (table.id_field, table.text_field, table.title_field))


def _work_of(target: str | Path, work: str | Path | None) -> Path:
    place = place_of(target)
    return Path(work).absolute() if work else place.with_name(f".{place.name}.shards")


def _stages(recipe: Recipe, counted: int, parts: int) -> Iterable[tuple[str, int]]:
    """The stages of a build and the number of tasks of each."""
    encodes = bool(learned_part(recipe.encode.encoder)) or recipe.vectors is not None
    if encodes:
        yield "models", 1
    if counted:
        yield "count", counted
    yield from (("read", parts), ("facts", 1))
    if recipe.prune is not None:
        if is_standardised(recipe.prune.estimator):
            yield "features", parts
        yield from (("estimator", 1), ("score", parts), ("prune", 1))
    if encodes:
        yield from (("encode", parts), ("storage", 1))
    yield from (("index", parts), ("commit", 1))
