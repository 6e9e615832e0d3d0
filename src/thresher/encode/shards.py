"""A corpus encoded shard by shard, so that a run that was killed resumes after the shards that it finished.

A shard is a fixed number of consecutive passages, encoded on its own: batches never cross its border, so its bytes do
not depend on where a run was interrupted. It is written atomically and carries the sha256 of the passages it holds. On
resuming, passages are read again, and a shard whose hash matches is loaded instead of encoded; if the corpus changed,
the shard is encoded again. `Unread` counts what is beyond an encoder's limit of word pieces.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack, runtime_checkable

import numpy as np

from thresher.arguments import checked_call
from thresher.durable import write_atomic
from thresher.errors import ArtifactError, DamagedArtifactError, InputError
from thresher.files import UNREADABLE_ARRAYS
from thresher.models.hf import watching
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.encode import SparseEncoder

SHARD_SIZE = 1024
Arrays = dict[str, "NDArray[Any]"]


class PassageEncoder(Protocol):
    """Texts to dense vectors: the part of an encoder that an index is built with."""

    @property
    def fingerprint(self) -> str:
        """Sha256 of everything that determines the vectors."""

    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of texts, [n, dimensions]."""


@runtime_checkable
class CountsTokens(Protocol):
    """A sparse encoder whose weights depend on the length of a passage, which an index keeps: BM25."""

    @property
    def rows_fingerprint(self) -> str:
        """Sha256 of everything that determines rows of term ids and weights, the vocabulary included."""

    def encode_with_tokens(self, texts: Sequence[str]) -> tuple[SparseBatch, NDArray[np.uint32]]:
        """Weighted terms of passages, and the number of terms of each, uint32[n]."""


class Unread:
    """How much of the passages an encoder does not read, being beyond its limit of word pieces.

    Args:
        encoder: a sparse or dense encoder; one without `max_tokens`, or with `reads_windows`, reads all.

    Attributes:
        limit: the most word pieces that the encoder reads at once, special tokens included; 0 for no limit.
        passages: passages seen.
        cut: how many of them are longer.
    """

    def __init__(self, encoder: object) -> None:
        self.limit = int(getattr(encoder, "max_tokens", 0))
        self._name = str(getattr(encoder, "name", "the encoder"))
        self._count: Callable[[Sequence[str]], Sequence[int]] | None = None
        if not getattr(encoder, "reads_windows", False):
            self._count = getattr(encoder, "count_tokens", None)
        self.passages = self.cut = 0
        self._characters = self._unread = 0.0

    @property
    def share(self) -> float:
        """Share of the text that is not read, 0 to 1."""
        return self._unread / self._characters if self._characters else 0.0

    @property
    def advice(self) -> int:
        """How many tokens a passage should have at most: 70 % of the limit, because a word may be several pieces."""
        return max(1, self.limit * 7 // 10)

    def add(self, texts: Sequence[str]) -> None:
        """Count what is cut of these texts."""
        self.passages += len(texts)
        self._characters += sum(map(len, texts))
        room = self.limit - 2  # special tokens
        long = [text for text in texts if len(text) > room]  # a piece has a character at least
        if self.limit and self._count is not None and long:
            for text, pieces in zip(long, self._count(long), strict=True):
                if pieces > room:
                    self.cut += 1
                    self._unread += len(text) * (pieces - room) / pieces

    def counts(self) -> dict[str, float]:
        """`passages_cut` and `unread_share`, for reports; nothing where all is read."""
        return {"passages_cut": self.cut, "unread_share": round(self.share, 4)} if self.cut else {}

    def warning(self) -> str:
        """What to say of it; empty where all is read."""
        if not self.cut:
            return ""
        return (
            f"{self.cut:,} of {self.passages:,} passages are longer than the {self.limit} word pieces {self._name} "
            f"reads: {self.share:.1%} of the text is not read; split documents with split_tokens = {self.advice} "
            f"(--split-tokens {self.advice})"
        )


class Sharding(TypedDict, total=False):
    """How a corpus is encoded shard by shard.

    Attributes:
        shard_size: passages a shard.
        total: how many passages there are, for the time left; None where that is not known.
        progress: a bar with rate and time left: True, False, or None for "where standard error is a terminal".
        unread: counts what the encoder does not read.
        label: what the bar is called.
    """

    shard_size: int
    total: int | None
    progress: bool | None
    unread: Unread | None
    label: str


def sparse_shards(
    encoder: SparseEncoder,
    passages: Iterable[Passage],
    directory: Path,
    **settings: Unpack[Sharding],
) -> Iterator[tuple[list[Passage], SparseBatch]]:
    """Encode `passages` with a sparse encoder, shard by shard, keeping each shard in `directory`.

    Args:
        encoder: a `SparseEncoder`.
        passages: the corpus.
        directory: where shards are kept; made if missing.
        settings: as `Sharding`.

    Yields:
        The passages of a shard and their weighted terms.

    Raises:
        ArtifactError: `directory` holds shards of another encoder or another shard size.
    """
    counted = encoder.encode_with_tokens if isinstance(encoder, CountsTokens) else None

    def encode(batch: Sequence[Passage]) -> Arrays:
        texts = [passage.contents for passage in batch]
        rows, tokens = counted(texts) if counted is not None else (encoder.encode_passages(texts), None)
        arrays: Arrays = {"indptr": rows.indptr, "terms": rows.terms, "weights": rows.weights}
        return arrays if tokens is None else arrays | {"tokens": tokens}

    for shard, arrays in encode_shards(
        passages,
        encode,
        directory,
        encoder.rows_fingerprint if isinstance(encoder, CountsTokens) else encoder.fingerprint,
        names=("indptr", "terms", "weights", *(("tokens",) if counted is not None else ())),
        **settings,
    ):
        yield shard, SparseBatch(arrays["indptr"], arrays["terms"], arrays["weights"])


def dense_shards(
    encoder: PassageEncoder,
    passages: Iterable[Passage],
    directory: Path,
    **settings: Unpack[Sharding],
) -> Iterator[tuple[list[Passage], NDArray[np.floating]]]:
    """As `sparse_shards`, for a `DenseEncoder`; yields the passages of a shard and their vectors [n, dimensions]."""

    def encode(batch: Sequence[Passage]) -> Arrays:
        return {"vectors": encoder.encode_passages([passage.contents for passage in batch])}

    for shard, arrays in encode_shards(
        passages,
        encode,
        directory,
        encoder.fingerprint,
        names=("vectors",),
        **settings,
    ):
        yield shard, arrays["vectors"]


def encode_shards(
    passages: Iterable[Passage],
    encode: Callable[[Sequence[Passage]], Arrays],
    directory: Path,
    fingerprint: str,
    *,
    shard_size: int = SHARD_SIZE,
    total: int | None = None,
    progress: bool | None = False,
    unread: Unread | None = None,
    names: Sequence[str] = (),
    label: str = "encoding",
) -> Iterator[tuple[list[Passage], Arrays]]:
    """Run `encode` over shards of `passages`; finished ones are read back from `directory`.

    The files of `directory` are a function of the passages, `fingerprint` and `shard_size` alone, however often the
    run was killed. Raises and arguments: as `sparse_shards`; `names` are of the arrays that `encode` gives, without
    which a finished shard is encoded again.
    """
    if shard_size < 1:
        raise InputError(f"shard_size is {shard_size}; it must be at least 1")
    directory.mkdir(parents=True, exist_ok=True)
    _claim(directory, {"fingerprint": fingerprint, "shard_size": shard_size})
    source, number = iter(passages), 0
    with encoding_bar(total, progress=progress, label=label) as done:
        while shard := list(islice(source, shard_size)):
            file = directory / f"shard-{number:06d}.npz"
            wanted = _input_hash(shard)
            arrays = _read(file, wanted)
            if arrays is None or any(name not in arrays for name in names):
                arrays = encode(shard)
                _write(file, {**arrays, "input_sha256": np.frombuffer(wanted, dtype=np.uint8)})
            if unread is not None:
                unread.add([passage.contents for passage in shard])
            done(len(shard))
            yield shard, arrays
            number += 1
    for stale in directory.glob("shard-*.npz"):  # of an earlier, longer corpus
        if int(stale.stem.split("-")[1]) >= number:
            stale.unlink()


@contextmanager
def encoding_bar(
    total: int | None, *, progress: bool | None, label: str = "encoding"
) -> Iterator[Callable[[int], None]]:
    """A bar that moves with every batch of an encoder; call what it yields with the passages of a finished shard.

    Shards that were finished by an earlier run move the bar, but do not count towards its rate and the time left.

    Args:
        total: how many passages there are; None where that is not known.
        progress: True, False, or None for "where standard error is a terminal".
        label: what the bar is called.
    """
    from tqdm import tqdm

    hidden = None if progress is None else not progress
    with tqdm(total=total, unit=" passages", desc=label, disable=hidden, mininterval=0.5, smoothing=0) as bar:
        finished = encoded = 0

        def batch(count: int) -> None:
            nonlocal encoded
            encoded += count
            bar.update(count)

        def done(count: int) -> None:
            nonlocal finished, encoded
            finished += count
            if not encoded and not bar.disable:
                bar.initial += count
            bar.update(finished - bar.n)
            encoded = 0

        with watching(batch):
            yield done


def stored_arrays(directory: Path, names: Collection[str] = ()) -> Iterator[Arrays]:
    """The arrays of every finished shard in `directory`, in order, after the run that made or checked them.

    With `names`, only those of these names.

    Raises:
        DamagedArtifactError: a shard cannot be read.
    """
    for file in sorted(directory.glob("shard-*.npz")):
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
                wanted = names or [name for name in data.files if name != "input_sha256"]
                arrays = {name: data[name] for name in data.files if name in wanted}
        except UNREADABLE_ARRAYS as err:
            raise DamagedArtifactError(str(file), f"cannot be read ({err}); encode the corpus again") from err
        yield arrays


def _claim(directory: Path, settings: Mapping[str, object]) -> None:
    """Record which encoder and shard size the shards in `directory` are of, or check that they are these."""
    file = directory / "encoding.json"
    if not file.is_file():
        write_atomic(file, json.dumps(settings, indent=1) + "\n")
        return
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if found != settings:
        raise ArtifactError(
            f"{directory} holds shards of another encoder or shard size ({found}, not {dict(settings)}); "
            "remove it or choose another directory"
        )


def _input_hash(shard: Sequence[Passage]) -> bytes:
    digest = hashlib.sha256()
    for passage in shard:
        for part in (passage.docno, passage.title, passage.text):
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
    return digest.digest()


def _read(file: Path, wanted: bytes) -> Arrays | None:
    """The arrays of a finished shard, None where it is missing, unreadable, or of other passages."""
    if not file.is_file():
        return None
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except UNREADABLE_ARRAYS:
        return None
    found = arrays.pop("input_sha256", None)
    return arrays if found is not None and found.tobytes() == wanted else None


def _write(file: Path, arrays: Arrays) -> None:
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(file, buffer.getvalue())
