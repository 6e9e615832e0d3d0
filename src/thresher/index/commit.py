"""Commits: which segments an index consists of, under one small file that is replaced atomically.

An index directory holds

| path | content |
|---|---|
| `manifest.json` | the commit: a manifest of kind `index`, which names the segments and their shared parts |
| `commits/N.json` | the same document for commit N, kept while a reader may need it |
| `segments/NAME/` | an immutable artifact of kind `segment`, see `thresher.index.layout`; no name is used twice |
| `encoders/FINGERPRINT/` | query encoders, which belong to the index and not to a segment |
| `quality/FINGERPRINT/` | the quality estimator that pruning was fitted with, likewise |
| `deletes/NAME-N.mask` | one bit a passage of a segment, tier 1's, tier 2's, then dropped ones: whether it is deleted |
| `deletes/NAME-N.counts` | how many of the deleted passages had each term, by tier |
| `certificate.json` | what was certified of one commit (`thresher.certify`); outlives commits and builds |
| `score-calibration.json` | what a reranker's scores mean (`thresher calibrate scores`); outlives them too |

A reader locks `commits/N.json` against removal (a shared `flock`, its **lease**), and opens what that commit names. A
writer removes an old commit, and what only that one names, once it gets the exclusive lock. Where the file system has
no locks, a commit is kept for an hour after it was replaced. Every file but `manifest.json` is written once, so what a
reader opens is of one commit.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from thresher import artifact
from thresher.checks import path_of
from thresher.durable import sync_path
from thresher.errors import DamagedArtifactError, InputError
from thresher.index.counts import read_counts
from thresher.index.layout import FORMAT, KIND, check_format, encoder_folder
from thresher.manifest import check_kind, load_manifest, manifest_text
from thresher.publish import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from thresher.manifest import Fields, Files, Manifest


INDEX = "index"
COMMITS, SEGMENTS, DELETES = "commits", "segments", "deletes"
ENCODERS, QUALITY = "encoders", "quality"
SECOND = "tier-2"
"""Folder of the second tier inside a segment."""
CERTIFICATE = "certificate.json"
"""What was certified of the index (`thresher.certify`); no commit names it."""
NAME = re.compile(r"\d+-[0-9a-f]{8}")
"""Names of segments."""
CALIBRATION = "score-calibration.json"
"""What the scores of the model that reads its passages mean; no commit names it."""
_OWN = ("commit", "segments", "fields", "frozen", "routing")


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment, as a commit names it.

    Attributes:
        name: of its folder.
        sha256: the checksum of its manifest.
        passages: of each tier.
        deleted: deleted passages of each tier.
        bytes: size of all its files.
        deletes: the commit that wrote its deletes, 0 where nothing is deleted.
        dropped: passages that pruning left in none of its tiers, which are numbered after those of the tiers.
        encoders: folders in `encoders/` of what its tiers were encoded with, without repetition.
    """

    name: str
    sha256: str
    passages: tuple[int, ...]
    deleted: tuple[int, ...]
    bytes: int
    deletes: int = 0
    dropped: int = 0
    encoders: tuple[str, ...] = ()

    @property
    def live(self) -> int:
        """Passages that are not deleted."""
        return sum(self.passages) - sum(self.deleted)

    @property
    def folder(self) -> str:
        """Its folder within the index."""
        return f"{SEGMENTS}/{self.name}"

    @property
    def masks(self) -> tuple[str, str]:
        """Its files in `deletes/`, within the index: the mask and the counts."""
        return tuple(f"{DELETES}/{self.name}-{self.deletes}.{kind}" for kind in ("mask", "counts"))  # type: ignore[return-value]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> SegmentEntry:
        """The entry that a manifest holds.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        made = cls(**{**entry, **{name: tuple(entry[name]) for name in ("passages", "deleted", "encoders")}})
        counts = (*made.passages, *made.deleted, made.bytes, made.deletes, made.dropped)
        if not (isinstance(made.name, str) and NAME.fullmatch(made.name) and isinstance(made.sha256, str)):
            raise ValueError(f"{made.name!r} is not the name of a segment")
        if any(type(n) is not int or n < 0 for n in counts) or len(made.passages) not in (1, 2):
            raise ValueError(f"the counts of segment {made.name} make no sense")
        if not all(isinstance(name, str) for name in made.encoders):
            raise ValueError(f"the encoders of segment {made.name} are not names")
        if len(made.passages) != len(made.deleted) or any(map(int.__lt__, made.passages, made.deleted)):
            raise ValueError(f"segment {made.name} has other numbers of deleted passages than of passages")
        return made


@dataclass(frozen=True, slots=True)
class Commit:
    """What an index consists of at one time.

    Attributes:
        number: 1 for a fresh index, one more for every commit since.
        sha256: its checksum; two indexes built at one place both begin with number 1.
        segments: in the order of the passage numbers.
        schema: type of each metadata field by its name.
        frozen: statistics that were fixed when they were fitted.
        routing: the calibration of the second tier, where there is one.
        files: as in an artifact's manifest: the segments' manifests, deletes and encoders.
        fields: everything else: corpus, encoder, recipe, usage, counts.
        version: the release that wrote it.
    """

    number: int
    sha256: str
    segments: tuple[SegmentEntry, ...]
    schema: Mapping[str, str]
    frozen: Fields
    routing: Fields | None
    files: Files
    fields: Fields
    version: str

    @property
    def passages(self) -> int:
        """Passages of all segments, with those that are deleted."""
        return sum(sum(entry.passages) for entry in self.segments)

    @property
    def live(self) -> int:
        """Passages that are not deleted."""
        return sum(entry.live for entry in self.segments)

    @property
    def build(self) -> str:
        """Names the build that this commit goes back to: what the build recorded and no commit changes."""
        recorded = {name: self.fields.get(name) for name in ("corpus", "usage")}
        return hashlib.sha256(json.dumps(recorded, sort_keys=True).encode()).hexdigest()

    @property
    def changes(self) -> dict[str, int]:
        """Passages `added`, `replaced` and `deleted` since the build."""
        found = self.fields.get("changes")
        return {name: n for name, n in found.items() if type(n) is int} if isinstance(found, dict) else {}

    def segment(self, name: str) -> SegmentEntry:
        """The segment of this name.

        Raises:
            InputError: the commit has none.
        """
        for entry in self.segments:
            if entry.name == name:
                return entry
        raise InputError(f"there is no segment {name!r} in commit {self.number}")

    @classmethod
    def of(cls, manifest: Manifest, path: Path) -> Commit:
        """The commit that is the manifest of the index `path`.

        Raises:
            ArtifactError: it is not an index.
            ArtifactVersionError: its format is older or newer than what this thresher reads.
            DamagedArtifactError: it does not describe an index.
        """
        check_kind(path, manifest, INDEX, FORMAT)
        check_format(path, manifest)
        fields = dict(manifest.fields)
        try:
            number, segments, schema, frozen, routing = (fields.pop(name) for name in _OWN)
            entries = tuple(map(SegmentEntry.of, segments))
            if type(number) is not int or number < 1 or not isinstance(schema, dict) or not isinstance(frozen, dict):
                raise TypeError("commit, fields or frozen is of a wrong type")
            if not isinstance(routing, dict | None):
                raise TypeError("routing is of a wrong type")
            if len({entry.name for entry in entries}) < len(entries) or not entries:
                raise ValueError("it names no segment, or one twice")
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            problem = f"does not describe an index ({type(err).__name__}: {err}); build the index again"
            raise DamagedArtifactError(str(path / MANIFEST), problem) from err
        return cls(number, manifest.sha256, entries, schema, frozen, routing, manifest.files, fields, manifest.version)

    def as_fields(self) -> dict[str, Any]:
        """What a manifest holds of it."""
        own = (self.number, [asdict(entry) for entry in self.segments], self.schema, self.frozen, self.routing)
        return {**dict(zip(_OWN, own, strict=True)), **self.fields}


def read_commit(path: str | Path) -> Commit:
    """The commit at `path`, as it is now.

    Raises:
        ArtifactError: there is no index at `path`, or of another format.
        DamagedArtifactError: its manifest cannot be read.
    """
    path = path_of(path)
    return Commit.of(load_manifest(path), path)


class QuerySide(Protocol):
    """An encoder whose query side can be kept."""

    @property
    def fingerprint(self) -> str:
        """Of the encoder."""

    def save(self, directory: Path) -> None:
        """Write what queries need into `directory`."""


@dataclass(slots=True)
class SegmentDraft:
    """A segment being written.

    Attributes:
        path: its folder, to be filled.
        fields: what its manifest shall say: `counts`, `encoder` with its `name` and `fingerprint`, and how many were
            `dropped`, where pruning left passages in none of the tiers.
    """

    path: Path
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the segment."""
        return self.path.name

    @classmethod
    def new(cls, index: Path, number: int) -> SegmentDraft:
        """An empty segment of the index directory `index`, for commit `number`."""
        folder = index / SEGMENTS / f"{number}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        return cls(folder)

    def seal(self) -> SegmentEntry:
        """Flush its files and write its manifest."""
        artifact.seal(self.path, KIND, FORMAT, self.fields)
        return entry_of(self.path)


def entry_of(path: Path) -> SegmentEntry:
    """The entry of a complete segment, whose folder has its name.

    Raises:
        ArtifactError: it is none.
        DamagedArtifactError: a file is missing or of another size.
    """
    manifest = artifact.read_manifest(path, kind=KIND, format=FORMAT)
    tiers = [path, *([path / SECOND] if (path / SECOND).is_dir() else [])]
    passages = tuple(read_counts(tier / "layout.json").passages for tier in tiers)
    size = sum(int(entry["bytes"]) for entry in manifest.files.values())
    dropped = int(manifest.fields.get("dropped", 0))
    encoders = tuple(dict.fromkeys(filter(None, map(_encoder_of, tiers))))
    none = (0,) * len(tiers)
    return SegmentEntry(path.name, manifest.sha256, passages, none, size, dropped=dropped, encoders=encoders)


def _encoder_of(tier: Path) -> str:
    """The folder in `encoders/` of what a tier was encoded with, empty where it is not known."""
    said = load_manifest(tier).fields.get("encoder")
    return encoder_folder(str(said["fingerprint"])) if isinstance(said, dict) and "fingerprint" in said else ""


@dataclass(slots=True)
class IndexDraft:
    """A fresh index being written.

    Attributes:
        path: the index's folder, which gets its final name when it is complete.
        segment: its segment, where it is written here.
        complete: its segments, where these were written elsewhere; they are in `segments/` already, and `segment` is
            then not kept.
        fields: what the commit shall say: corpus, encoder, recipe, usage, counts; `fields`, `frozen` and `routing`.
    """

    path: Path
    segment: SegmentDraft
    fields: dict[str, Any] = field(default_factory=dict)
    complete: list[SegmentEntry] = field(default_factory=list)

    def add_encoder(self, encoder: QuerySide) -> None:
        """Keep what turns queries into the terms of `encoder`."""
        save_shared(self.path, ENCODERS, encoder.fingerprint, encoder.save)

    def add_estimator(self, fingerprint: str, save: Callable[[Path], object]) -> None:
        """Keep the quality estimator with this fingerprint: `save` writes it into the folder it is given."""
        save_shared(self.path, QUALITY, fingerprint, save)


def save_shared(index: Path, kind: str, fingerprint: str, save: Callable[[Path], object]) -> str:
    """Write what segments share into the folder `kind` of the index directory `index`, if it is not there.

    Returns:
        its folder within the index.
    """
    name = f"{kind}/{encoder_folder(fingerprint)}"
    if not (index / name).is_dir():
        (index / kind).mkdir(exist_ok=True)
        if kind == QUALITY:  # an estimator is saved into a folder, an encoder makes its own
            (index / name).mkdir()
        save(index / name)
    return name


@contextmanager
def writing_index(target: str | Path, *, overwrite: bool = False) -> Iterator[IndexDraft]:
    """Write a fresh index at `target`: it appears when the block ends, and does not if it raises or the process dies.

    Args:
        target: the final directory.
        overwrite: replace an existing index. Nothing else is ever replaced.

    Raises:
        ArtifactError: there is something at `target` that may not be replaced.
    """
    with artifact.making(target, kind=INDEX, overwrite=overwrite) as path:
        draft = IndexDraft(path, SegmentDraft.new(path, 1))
        yield draft
        if draft.complete:
            shutil.rmtree(draft.segment.path)
        entries = draft.complete or [draft.segment.seal()]
        own = {"fields": {}, "frozen": {}, "routing": None, **draft.fields}
        shared = [file for kind in (ENCODERS, QUALITY) for file in (path / kind).rglob("*")]
        named = [*(path / entry.folder / MANIFEST for entry in entries), *shared]
        files = small_files(path, named)
        content = manifest_text(INDEX, FORMAT, {"commit": 1, "segments": [*map(asdict, entries)], **own}, files)
        (path / COMMITS).mkdir()
        for file in (path / COMMITS / "1.json", path / MANIFEST):
            file.write_bytes(content)
            sync_path(file)
        sync_folders(path, [path / COMMITS / "1.json", *named])
        for kept in (CERTIFICATE, CALIBRATION):  # a certificate says itself that it is of an earlier build
            if (Path(target) / kept).is_file():
                shutil.copyfile(Path(target) / kept, path / kept)


def small_files(path: Path, files: Iterable[Path]) -> dict[str, Fields]:
    """What a commit says of these files of the index `path`, which are flushed; folders are left out."""
    return {file.relative_to(path).as_posix(): artifact.sealed_entry(file) for file in sorted(files) if file.is_file()}


def sync_folders(path: Path, files: Iterable[Path]) -> None:
    """Flush the folders that these files of the index `path` are in, up to the index's own."""
    folders = {folder for file in files for folder in file.parents if folder.is_relative_to(path)}
    for folder in sorted(folders | {path}, reverse=True):
        sync_path(folder)
