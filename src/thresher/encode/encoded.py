"""A corpus encoded once, kept as an artifact: weighted terms by shard, docnos, the vocabulary and the query side.

`encode_corpus` can be killed at any time: finished shards (`thresher.encode.shards`) are kept in a sibling directory
(`.NAME.encoding`), and the next run resumes after them. The output is byte-identical to that of an uninterrupted run.
`thresher build --encoded` reads it.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import read_manifest, writing
from thresher.durable import write_names
from thresher.encode.shards import SHARD_SIZE, Unread, sparse_shards, stored_arrays
from thresher.errors import ArtifactVersionError, DamagedArtifactError, InputError
from thresher.files import read_names
from thresher.publish import discard_shards, shards_of
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from thresher.encode import SparseEncoder
    from thresher.manifest import Manifest

_log = logging.getLogger(__name__)
KIND, _FORMAT = "encoded-passages", 2
_DOCNOS, _VOCABULARY, _SHARDS = "docnos.txt", "vocabulary.txt", "shards"


@checked_call
def encode_corpus(
    corpus: Iterable[Passage],
    encoder: SparseEncoder,
    target: str | Path,
    *,
    shard_size: int = SHARD_SIZE,
    total: int | None = None,
    progress: bool | None = False,
    overwrite: bool = False,
) -> dict[str, float]:
    """Encode `corpus` into the artifact `target`, resuming where a killed run stopped.

    Args:
        corpus: the passages.
        encoder: a sparse encoder.
        target: the directory to make.
        shard_size: passages a shard.
        total: how many passages there are, for the time left.
        progress: a bar with rate and time left: True, False, or None for "where standard error is a terminal".
        overwrite: replace existing encoded passages.

    Returns:
        `passages`, `postings`, `seconds`, `bytes`; and where the encoder did not read all, `passages_cut` and
        `unread_share`.

    Raises:
        ArtifactError: `target` exists, or there are shards of another encoder alongside it.
    """
    work = shards_of(target)
    started = time.perf_counter()
    docnos: list[str] = []
    postings = 0
    unread = Unread(encoder)
    with writing(target, kind=KIND, format=_FORMAT, overwrite=overwrite) as draft:
        for shard, batch in sparse_shards(
            encoder, corpus, work, shard_size=shard_size, total=total, progress=progress, unread=unread
        ):
            docnos.extend(passage.docno for passage in shard)
            postings += len(batch.terms)
        if not docnos:
            raise InputError("there are no passages to encode", str(getattr(corpus, "name", "")))
        (draft.path / _SHARDS).mkdir()
        for file in sorted(work.glob("shard-*.npz")):
            _take(file, draft.path / _SHARDS / file.name)
        write_names(draft.path / _DOCNOS, docnos)
        write_names(draft.path / _VOCABULARY, encoder.vocabulary)
        encoder.save(draft.path / "encoder")
        draft.fields |= {
            "passages": len(docnos),
            "postings": postings,
            "shard_size": shard_size,
            "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        } | unread.counts()
    if unread.cut:
        _log.warning("%s: %s", target, unread.warning())
    discard_shards(target)
    size = sum(int(entry["bytes"]) for entry in read_manifest(target).files.values())
    counts = {"passages": len(docnos), "postings": postings, "seconds": time.perf_counter() - started, "bytes": size}
    return counts | unread.counts()


@dataclass(frozen=True, slots=True)
class SavedQuerySide:
    """The query side of an encoder, as `encode_corpus` kept it."""

    name: str
    fingerprint: str
    vocabulary: Sequence[str]
    directory: Path

    def save(self, directory: Path) -> None:
        """Copy it into `directory`."""
        shutil.copytree(self.directory, directory, dirs_exist_ok=True)


class EncodedPassages:
    """What `encode_corpus` wrote: iterate for passages (docno only) and their weighted terms, shard by shard.

    Raises:
        ArtifactError: there are no encoded passages at `path`.
        DamagedArtifactError: a file is missing or inconsistent.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path, kind=KIND, format=_FORMAT)
        if self.manifest.format < _FORMAT:
            raise ArtifactVersionError(
                f"{self.path} has format {self.manifest.format}, written by thresher {self.manifest.version}; this "
                f"release reads format {_FORMAT} only. Encode the passages again"
            )
        self.docnos = read_names(self.path / _DOCNOS)
        self.vocabulary: tuple[str, ...] = tuple(read_names(self.path / _VOCABULARY))

    @property
    def impacts(self) -> None:
        """None: weights are as the encoder gave them."""
        return None

    def __len__(self) -> int:
        return len(self.docnos)

    @property
    def encoder(self) -> Path:
        """Directory of the query side, for `thresher.encode.load_query_encoder`."""
        return self.path / "encoder"

    @property
    def query_side(self) -> SavedQuerySide:
        """What an index keeps of the encoder."""
        fields = self.manifest.fields.get("encoder")
        if not isinstance(fields, dict) or not all(isinstance(fields.get(k), str) for k in ("name", "fingerprint")):
            raise DamagedArtifactError(
                str(self.path), f"its manifest names no encoder, but {fields!r:.60}; encode again"
            )
        return SavedQuerySide(fields["name"], fields["fingerprint"], self.vocabulary, self.encoder)

    @cached_property
    def tokens(self) -> NDArray[np.uint32] | None:
        """uint32[passages]: terms of each passage with repetitions, for BM25; None for learned weights.

        Raises:
            DamagedArtifactError: some shards have them and others not, or they are not one a passage.
        """
        arrays = [shard.get("tokens") for shard in stored_arrays(self.path / _SHARDS, ("tokens",))]
        known = [array for array in arrays if array is not None]
        if not known:
            return None
        if len(known) < len(arrays) or sum(map(len, known)) != len(self):
            raise DamagedArtifactError(str(self.path / _SHARDS), "holds no length for some passages; encode again")
        return np.concatenate(known).astype(np.uint32)

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        done = 0
        for arrays in stored_arrays(self.path / _SHARDS):
            try:
                batch = SparseBatch(arrays["indptr"], arrays["terms"], arrays["weights"])
            except (KeyError, InputError) as err:
                raise DamagedArtifactError(str(self.path / _SHARDS), f"holds no weighted terms ({err})") from err
            try:
                passages = [Passage(docno, "") for docno in self.docnos[done : done + len(batch)]]
            except InputError as err:
                raise DamagedArtifactError(str(self.path / _DOCNOS), f"{err}; encode again") from err
            yield passages, batch
            done += len(batch)
        if done != len(self.docnos):
            raise DamagedArtifactError(
                str(self.path / _DOCNOS), f"names {len(self.docnos)} passages, but the shards hold {done}; encode again"
            )


def _take(file: Path, target: Path) -> None:
    """Link a finished shard to its final place; copy it where the file system cannot link."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
