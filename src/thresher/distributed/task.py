"""A piece of a build: a pure function of what it names, whose result is a folder that appears when it is complete.

A task is named by a hash of its stage and of what it is made from: the tables of the recipe that count, the facts that
all shards share, and the content of the shard. So whoever runs it, wherever and how often, makes the same files, and a
task whose result is there is not run again. All that run one build see its work folder under one name:

results/NAME/       what a task made, with `result.json`; renamed into place when it is complete
unfinished/         what tasks are making
encoding/NAME-…/    finished shards of an encoding, so that a task that was killed resumes (`thresher.encode.shards`)
locks/              of the executor `folder` (`thresher.distributed.shared_folder`)
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import msgspec

from thresher._version import __version__
from thresher.durable import sync_path
from thresher.errors import ArtifactError, DamagedArtifactError

if TYPE_CHECKING:
    from thresher.build.recipe import Recipe

FORMAT = 1
"""Of results; another one makes them anew."""
RESULT = "result.json"
RESULTS, UNFINISHED, ENCODING = "results", "unfinished", "encoding"
Made = TypeVar("Made", bound=msgspec.Struct)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a build.

    Attributes:
        work: the work folder of the build.
        shard: which shard it is of; -1 for what is made of all.
        device: for the models that it runs.
    """

    work: str
    shard: int = -1
    device: str = "auto"

    stage: ClassVar[str] = ""
    places: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where something is, and not what: they are not in the name."""

    @property
    def name(self) -> str:
        """Stage and hash of what the result depends on."""
        unnamed = {"work", "shard", "device", *self.places}
        fields = {field: getattr(self, field) for field in self.__struct_fields__ if field not in unnamed}
        text = msgspec.json.encode([FORMAT, __version__, self.stage, fields], order="deterministic")
        return f"{self.stage}-{hashlib.sha256(text).hexdigest()[:24]}"

    @property
    def place(self) -> Path:
        """The folder of the result."""
        return Path(self.work) / RESULTS / self.name

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return (self.place / RESULT).is_file()

    @property
    def encoding(self) -> Path:
        """Where its encodings keep what they have finished."""
        return Path(self.work) / ENCODING / self.name

    def make(self, folder: Path) -> msgspec.Struct:
        """Make the result's files in an empty folder; returns what `result.json` shall say."""
        raise NotImplementedError

    def result(self, kind: type[Made]) -> Made:
        """What `result.json` says.

        Raises:
            DamagedArtifactError: it is missing or unreadable.
        """
        return read_result(self.place, kind)


def read_result(place: Path, kind: type[Made]) -> Made:
    """What `result.json` of a task's result says.

    Raises:
        DamagedArtifactError: it is missing or unreadable.
    """
    file = place / RESULT
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError) as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); remove {place} and build again") from err


def run(task: Task) -> None:
    """Run a task, unless its result is there.

    Raises:
        ThresherError: as the task says.
        OSError: the disk is full or failed.
    """
    if task.done:
        return
    home = Path(task.work) / UNFINISHED
    home.mkdir(parents=True, exist_ok=True)
    task.place.parent.mkdir(exist_ok=True)
    folder = home / f"{task.name}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        made = task.make(folder)
        (folder / RESULT).write_bytes(msgspec.json.encode(made))
        for path in sorted(folder.rglob("*"), reverse=True):
            sync_path(path)
        sync_path(folder)
        try:
            folder.rename(task.place)
        except OSError as err:
            if err.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not task.done:
                raise
        sync_path(task.place.parent)
    except FileNotFoundError as err:
        if folder.is_dir() or task.done:
            raise
        raise ArtifactError(f"{folder} was removed while it was made; build again") from err
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tables(recipe: Recipe, *names: str) -> str:
    """These tables of a recipe, as JSON: the part of it that a task depends on."""
    return recipe.model_dump_json(include=set(names), exclude_defaults=True)


def recipe_of(text: str) -> Recipe:
    """The recipe with the tables of `tables`."""
    from thresher.build.recipe import Recipe

    return Recipe.model_validate_json(text)
