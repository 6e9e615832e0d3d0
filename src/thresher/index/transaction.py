"""A transaction: changes of an index that become visible together, in one rename of `manifest.json`.

New segments, deletes and encoders are written under names that no commit uses, and flushed; then the commit's document,
as `commits/N.json`; and last `manifest.json` is replaced. A transaction that is killed before that leaves files that no
commit names, which the next one removes, as it removes earlier commits that no reader holds (`thresher.index.commit`).
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher import artifact
from thresher.durable import lock, sync_path
from thresher.errors import ArtifactError, InputError
from thresher.index.collection import read_counts, read_mask
from thresher.index.commit import (
    COMMITS,
    DELETES,
    ENCODERS,
    INDEX,
    QUALITY,
    SEGMENTS,
    Commit,
    SegmentDraft,
    SegmentEntry,
    read_commit,
    save_shared,
    small_files,
    sync_folders,
)
from thresher.index.layout import FORMAT, encoder_folder
from thresher.index.lease import held_here
from thresher.manifest import manifest_text, parse_manifest
from thresher.publish import MANIFEST, place_of, writing_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from thresher.index.commit import QuerySide

    TermCounts = tuple[NDArray[np.uint32], NDArray[np.uint32]]

KEPT_SECONDS = 3600.0
"""How long a commit stays after it was replaced, where readers cannot lock it."""
_FIELDS = {"fields": "schema", "frozen": "frozen", "routing": "routing"}


class Transaction:
    """Changes of the index `path`, made by one writer at a time. Leaving the block without `commit` discards them.

    Args:
        path: the index.

    Attributes:
        path: its folder.
        base: the last commit.

    Raises:
        ArtifactError: there is no index, or another process is writing it.
        OSError: the folder cannot be written.
    """

    base: Commit
    _drafts: list[tuple[SegmentDraft, str | None]]

    def __init__(self, path: str | Path) -> None:
        self.path = place_of(path)
        self._held = ExitStack()
        self._reset()

    def __enter__(self) -> Transaction:
        self.base = read_commit(self.path)  # before a lock is made beside what is not an index
        with ExitStack() as held:
            held.enter_context(writing_in(self.path))
            self.base = read_commit(self.path)
            self._sweep()
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            self.discard()
        finally:
            suppressed = self._held.__exit__(kind, error, trace)
        return suppressed

    @property
    def number(self) -> int:
        """Of the commit that this will make."""
        return self.base.number + 1

    def segment(self, *, before: str | None = None) -> SegmentDraft:
        """A new segment to fill, which comes last in the index, or before the segment of that name."""
        if before is not None:
            self.base.segment(before)
        draft = SegmentDraft.new(self.path, self.number)
        self._drafts.append((draft, before))
        return draft

    def seal(self, draft: SegmentDraft) -> SegmentEntry:
        """Complete a new segment: flush its files and write its manifest. `commit` does it otherwise."""
        if draft.name not in self._sealed:
            self._sealed[draft.name] = draft.seal()
        return self._sealed[draft.name]

    def remove(self, draft: SegmentDraft) -> None:
        """Give up a new segment."""
        self._drafts = [(one, before) for one, before in self._drafts if one is not draft]
        self._sealed.pop(draft.name, None)
        shutil.rmtree(draft.path, ignore_errors=True)

    def add_encoder(self, encoder: QuerySide) -> None:
        """Keep what turns queries into the terms of `encoder`."""
        self._share(ENCODERS, encoder.fingerprint, encoder.save)

    def add_estimator(self, fingerprint: str, save: Callable[[Path], object]) -> None:
        """Keep the quality estimator with this fingerprint: `save` writes it into the folder it is given."""
        self._share(QUALITY, fingerprint, save)

    def _share(self, kind: str, fingerprint: str, save: Callable[[Path], object]) -> None:
        self._shared.add(save_shared(self.path, kind, fingerprint, save))

    def deleted(self, segment: str) -> NDArray[np.bool_]:
        """bool[passages of a segment]: which are deleted, with those of this transaction.

        Tier 1's come first, then tier 2's, then those that pruning dropped.

        Raises:
            InputError: there is no such segment.
        """
        return self._mask(segment).copy()

    def delete(self, segment: str, numbers: NDArray[np.int64], counts: Mapping[int, TermCounts] | None = None) -> None:
        """Delete passages.

        Args:
            segment: a segment of `base`.
            numbers: int64[n], within the segment: tier 1's passages, tier 2's, then the dropped ones; none is deleted
                already, or comes twice.
            counts: by tier, the ids of the terms of these passages, uint32[m], and how many of the passages have each,
                uint32[m].

        Raises:
            InputError: there is no such segment, or no such live passage.
        """
        mask, numbers = self._mask(segment), np.asarray(numbers, np.int64)
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(mask):
            raise InputError(f"segment {segment} has no passage {int(numbers.min())} or {int(numbers.max())}")
        if len(np.unique(numbers)) < len(numbers) or bool(mask[numbers].any()):
            raise InputError(f"a passage of segment {segment} is deleted twice")
        mask[numbers] = True
        for tier, added in (counts or {}).items():
            self._counts[segment][tier - 1] = _sum(self._counts[segment][tier - 1], added)
        if len(numbers):
            self._changed.add(segment)

    def drop(self, segment: str) -> None:
        """Leave a segment out of the next commit.

        Raises:
            InputError: there is no such segment.
        """
        self.base.segment(segment)
        self._dropped.add(segment)

    def commit(self, **fields: Any) -> Commit:
        """Make the changes visible, together.

        Args:
            fields: what replaces the commit's fields of these names: `fields` (the schema), `frozen`, `routing`,
                `counts`, `recipe`, ...

        Returns:
            the new commit, on which the next changes build; the last one where nothing was changed.

        Raises:
            InputError: no segment would be left.
            OSError: the disk is full or failed; nothing was changed, or the commit was made and could not be flushed.
        """
        if not (self._drafts or self._dropped or self._changed or fields):
            return self.base
        entries = self._entries()
        own = {name: fields.pop(key) for key, name in _FIELDS.items() if key in fields}
        made = replace(
            self.base, number=self.number, segments=tuple(entries), fields={**self.base.fields, **fields}, **own
        )
        content = manifest_text(INDEX, FORMAT, made.as_fields(), self._files(made))
        try:
            self._publish(content)
        finally:  # it may be the last one although an error came afterwards
            self._follow()
        with suppress(OSError):  # the next transaction removes what stays
            self._sweep()
        return self.base

    def reset(self) -> None:
        """Give up what was not committed. Its files are removed with the next commit, or at the end."""
        self._reset()

    def discard(self) -> None:
        """Give up what was not committed."""
        self._reset()
        with suppress(OSError, ArtifactError):  # the next transaction removes what stays
            self.base = read_commit(self.path)  # a commit that failed in flushing its folder was made all the same
            self._sweep()

    def _follow(self) -> None:
        """Go on from the last commit, if it is the one that was made here."""
        last = read_commit(self.path)
        if last.number == self.number:
            self.base = last
            self._reset()

    def _reset(self) -> None:
        self._drafts = []
        self._sealed: dict[str, SegmentEntry] = {}
        self._masks: dict[str, NDArray[np.bool_]] = {}
        self._counts: dict[str, list[TermCounts]] = {}
        self._changed: set[str] = set()
        self._dropped: set[str] = set()
        self._shared: set[str] = set()

    def _mask(self, segment: str) -> NDArray[np.bool_]:
        """The deletes of a segment, to be changed."""
        if segment not in self._masks:
            entry = self.base.segment(segment)
            none = np.zeros(0, np.uint32)
            counts, sizes = [(none, none), (none, none)], (*entry.passages, entry.dropped)
            masks = [np.zeros(n, np.bool_) for n in sizes]
            if entry.deletes:
                mask, file = (self.path / name for name in entry.masks)
                found = zip(read_mask(mask, entry), masks, strict=True)
                masks = [empty if one is None else one for one, empty in found]
                counts = list(read_counts(file))
            self._masks[segment], self._counts[segment] = np.concatenate(masks), counts
        return self._masks[segment]

    def _entries(self) -> list[SegmentEntry]:
        """The segments of the new commit; new ones are sealed, and deletes written."""
        entries: list[SegmentEntry] = []
        for entry in self.base.segments:
            entries += [self.seal(draft) for draft, before in self._drafts if before == entry.name]
            if entry.name not in self._dropped:
                entries.append(self._with_deletes(entry) if entry.name in self._changed else entry)
        entries += [self.seal(draft) for draft, before in self._drafts if before is None]
        if not entries:
            raise InputError(f"no segment of {self.path} would be left; add passages first")
        return entries

    def _with_deletes(self, entry: SegmentEntry) -> SegmentEntry:
        """A segment with the deletes of this transaction, which are written."""
        whole = self._masks[entry.name]
        bounds = np.cumsum((0, *entry.passages)).tolist()
        deleted = tuple(int(np.count_nonzero(whole[a:b])) for a, b in pairwise(bounds))
        made = replace(entry, deleted=deleted, deletes=self.number)
        (self.path / DELETES).mkdir(exist_ok=True)
        mask, counts = (self.path / name for name in made.masks)
        mask.write_bytes(np.packbits(whole).tobytes())
        tiers = self._counts[entry.name]
        sizes = np.array([len(terms) for terms, _ in tiers], np.uint32)
        pairs = [np.stack(one, axis=1).astype(np.uint32).ravel() for one in tiers]
        counts.write_bytes(np.concatenate([sizes, *pairs]).tobytes())
        return made

    def _files(self, made: Commit) -> dict[str, Mapping[str, Any]]:
        """The files that the new commit names; what the last one names already is not looked at."""
        known, wanted = self.base.files, {f"{entry.folder}/{MANIFEST}" for entry in made.segments}
        wanted.update(name for entry in made.segments if entry.deletes for name in entry.masks)
        needed = {f"{ENCODERS}/{name}" for entry in made.segments for name in entry.encoders}
        pruning = made.frozen.get("pruning")
        if isinstance(pruning, dict) and "fingerprint" in pruning:
            needed.add(f"{QUALITY}/{encoder_folder(str(pruning['fingerprint']))}")
        wanted.update(name for name in known if _shared_folder(name) in needed)
        for folder in self._shared & needed:
            wanted.update(file.relative_to(self.path).as_posix() for file in _files_in(self.path / folder))
        new = [self.path / name for name in wanted if name not in known]
        files = {name: entry for name, entry in known.items() if name in wanted} | small_files(self.path, new)
        sync_folders(self.path, new)
        return dict(sorted(files.items()))

    def _publish(self, content: bytes) -> None:
        """Write the commit, and make it the last one."""
        folder = self.path / COMMITS
        last, kept, partial = (folder / name for name in (f"{self.base.number}.json", f"{self.number}.json", MANIFEST))
        for file in (kept, partial):
            file.write_bytes(content)
            sync_path(file)
        sync_path(folder)
        with suppress(OSError):
            os.utime(last)  # from now on it is an old one
        partial.replace(self.path / MANIFEST)
        sync_path(self.path)

    def _sweep(self) -> None:
        """Remove what neither the last commit nor one that a reader holds names."""
        self.base = read_commit(self.path)
        commits = [self.base]
        for file in sorted((self.path / COMMITS).iterdir()):
            number = int(file.stem) if file.stem.isdecimal() and file.suffix == ".json" else 0
            if file.name == MANIFEST or number > self.base.number:
                file.unlink(missing_ok=True)
            elif 0 < number < self.base.number and not _expired(file):
                with suppress(ArtifactError, OSError):
                    commits.append(Commit.of(parse_manifest(file.read_bytes(), file), self.path))
        names = {entry.folder for commit in commits for entry in commit.segments}
        names.update(draft.path.relative_to(self.path).as_posix() for draft, _ in self._drafts)
        files = {name for commit in commits for name in commit.files}
        names |= {name for name in files if name.startswith(f"{DELETES}/")} | set(map(_shared_folder, files))
        artifact.remove_left(self.path, (SEGMENTS, ENCODERS, QUALITY, DELETES), names)


def _shared_folder(name: str) -> str:
    """The folder of a file of an encoder or an estimator within the index, empty for other files."""
    kind, _, rest = name.partition("/")
    return f"{kind}/{rest.partition('/')[0]}" if kind in (ENCODERS, QUALITY) else ""


def _files_in(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _expired(file: Path) -> bool:
    """Whether an old commit was removed: no reader held it."""
    if held_here(file):
        return False
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        return False
    try:
        if lock(descriptor) or time.time() - os.fstat(descriptor).st_mtime > KEPT_SECONDS:
            file.unlink(missing_ok=True)
            return True
    except OSError:  # held by a reader
        pass
    finally:
        os.close(descriptor)
    return False


def _sum(one: TermCounts, other: TermCounts) -> TermCounts:
    """Counts by term, added."""
    terms, places = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts = np.bincount(places, np.concatenate([one[1], other[1]]), len(terms))
    return terms.astype(np.uint32), counts.astype(np.uint32)
