"""The last task of a build in shards: segments that are complete become one index, in one commit."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from thresher.build.recipe import Recipe
from thresher.distributed.pruning import ESTIMATOR, Decided, Fitted
from thresher.distributed.reading import Facts
from thresher.distributed.segments import SEGMENT, Indexed
from thresher.distributed.task import RESULTS, Task, read_result
from thresher.durable import sync_path
from thresher.errors import ArtifactError
from thresher.index.commit import ENCODERS, SEGMENTS, entry_of, read_commit, writing_index
from thresher.index.layout import open_layout
from thresher.manifest import load_manifest
from thresher.publish import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    Counts = dict[str, object]

BUILD = "shards"
"""The field of a commit that says which build in shards made it."""


class Committed(msgspec.Struct):
    """An index.

    Attributes:
        counts: as a build reports them, JSON.
        skipped: records left out, by reason.
    """

    counts: str
    skipped: dict[str, int]


class CommitIndex(Task, frozen=True, kw_only=True):
    """Makes an index of the segments.

    Attributes:
        target: the index.
        overwrite: replace an index that is there.
        recipe: how it was built.
        source: the corpus.
        split_tokens: as `corpus_of` takes it.
        facts: the task that gathered them.
        fitted: the task that made the quality estimator; empty where nothing is pruned.
        decided: the task that decided; likewise.
        indexed: the tasks that wrote the segments, in order.
        usage: stages of the build so far, JSON.
    """

    stage: ClassVar[str] = "commit"
    places: ClassVar[frozenset[str]] = frozenset(("overwrite", "usage"))
    target: str
    overwrite: bool
    recipe: str
    source: str
    split_tokens: int
    facts: str
    fitted: str
    decided: str
    indexed: list[str]
    usage: str

    def make(self, folder: Path) -> Committed:
        """Nothing here: the index appears at its own name."""
        results = Path(self.work) / RESULTS
        facts = read_result(results / self.facts, Facts)
        parts = [read_result(results / name, Indexed) for name in self.indexed]
        with suppress(ArtifactError):  # killed after the index was there
            if is_built(self.target, self.name):
                counts = read_commit(self.target).fields.get("counts")
                return Committed(msgspec.json.encode(counts).decode(), facts.skipped)
        with writing_index(self.target, overwrite=self.overwrite) as draft:
            for number, name in enumerate(self.indexed):
                segment = draft.path / SEGMENTS / segment_name(number, name)
                link_tree(results / name / SEGMENT, segment)
                draft.complete.append(entry_of(segment))
                for encoder in (results / name / ENCODERS).iterdir():
                    if not (draft.path / ENCODERS / encoder.name).is_dir():
                        link_tree(encoder, draft.path / ENCODERS / encoder.name)
            counts = _counts([msgspec.json.decode(part.counts) for part in parts])
            counts["terms"] = _terms([draft.path / entry.folder for entry in draft.complete])
            draft.fields.update(self._fields(facts), counts=counts)
            if self.fitted:
                fitted = read_result(results / self.fitted, Fitted)
                if fitted.saved:
                    kept = results / self.fitted / ESTIMATOR
                    draft.add_estimator(fitted.fingerprint, partial(shutil.copytree, kept, dirs_exist_ok=True))
        return Committed(msgspec.json.encode(counts).decode(), facts.skipped)

    def _fields(self, facts: Facts) -> dict[str, object]:
        """What the commit records of the build."""
        results, recipe = Path(self.work) / RESULTS, Recipe.model_validate_json(self.recipe)
        frozen: dict[str, object] = {"split_tokens": self.split_tokens}
        if facts.average_length:
            frozen["average_length"] = facts.average_length
        if self.decided and recipe.prune is not None:
            fitted = read_result(results / self.fitted, Fitted)
            frozen["pruning"] = {
                "threshold": read_result(results / self.decided, Decided).threshold,
                "estimator": fitted.name,
                "fingerprint": fitted.fingerprint,
                "policy": recipe.prune.model_dump(mode="json"),
            }
        encoder = load_manifest(results / self.indexed[0] / SEGMENT).fields["encoder"]
        if facts.format:
            recipe = recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update={"format": facts.format})})
        return {
            "corpus": {"name": self.source, "fingerprint": facts.fingerprint, "skipped": facts.skipped},
            "encoder": encoder,
            "fields": facts.schema,
            "frozen": frozen,
            "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
            "usage": msgspec.json.decode(self.usage),
            BUILD: {"build": self.name, "segments": len(self.indexed)},
        }


def is_built(target: str | Path, name: str) -> bool:
    """Whether the index at `target` is what the task of this name makes.

    Raises:
        ArtifactError: there is no index.
    """
    recorded = read_commit(place_of(target)).fields.get(BUILD)
    return isinstance(recorded, dict) and recorded.get("build") == name


def segment_name(number: int, task: str) -> str:
    """The name of a segment in the index: of the first commit, by its place and the task that wrote it."""
    return f"1-{number:04x}{task[-4:]}" if number < 1 << 16 else f"1-{number:08x}"


def link_tree(source: Path, target: Path) -> None:
    """Give the files of a folder, which are never written to, a second name; copied where the system has no links."""
    target.mkdir(parents=True)
    for file in sorted(source.rglob("*")):
        place = target / file.relative_to(source)
        if file.is_dir():
            place.mkdir()
            continue
        try:
            os.link(file, place)
        except OSError as err:
            if err.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                raise
            shutil.copyfile(file, place)
            sync_path(place)
    for folder in (*(p for p in target.rglob("*") if p.is_dir()), target, target.parent):
        sync_path(folder)


def _counts(parts: Sequence[Counts]) -> Counts:
    """The counts of all segments: sums, and the rest as the first has it."""
    made = dict(parts[0])
    for name in ("passages", "postings", "clamped"):
        made[name] = sum(value for part in parts if isinstance(value := part[name], int))
    sizes: dict[str, int] = {}
    for part in parts:
        found = part["bytes"]
        for file, size in found.items() if isinstance(found, dict) else ():
            sizes[file] = sizes.get(file, 0) + size
    made["bytes"] = sizes
    return made


def _terms(segments: Sequence[Path]) -> int:
    """Different terms of all segments."""
    found: set[str] = set()
    for segment in segments:
        found.update(open_layout(segment).words)
    return len(found)
