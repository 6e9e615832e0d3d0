"""Quality caches in the layout of published QualT5 scores, read and written.

A cache is a directory with `quality.f4` (float32, little-endian, corpus order), `docno.npids` and `pt_meta.json` (type
`quality_score_cache`, format `numpy`). The layout names neither the estimator nor the corpus, so an imported cache gets
the estimator name `qualt5-cache`, the sha256 of its scores as fingerprint, and no corpus fingerprint unless the caller
gives one.

`docno.npids` maps positions to docnos and back. It is a chain of blocks, little-endian. A header is `type u32, next
i64, count i64, config length u32`, followed by that many bytes of JSON and then the block's data; `next` is the offset
of the next header, -1 at the last. The first header has the type `NPID` and holds the version. Blocks of type 0 hold
docnos in order, in one of six codecs; a block of type 1 is an inverse table. Version 0 has no first header and orders
the fields `next, count, config length, type`.

All six forward codecs of both versions are read; the inverse is not needed, since docnos are looked up in memory. One
block of codec `fixedbytes` and a `hash` inverse (32-bit FNV-1) are written, which every release of the npids package
reads.
"""

from __future__ import annotations

import json
import struct
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import ArtifactError, DamagedArtifactError, InputError, ModelError
from thresher.quality.estimator import QualityEstimator, digest
from thresher.quality.store import ScoreStore, write_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.quality.estimator import Json


_HEADER = struct.Struct("<IqqI")
_HEADER_0 = struct.Struct("<qqII")
_MAGIC = int.from_bytes(b"NPID"[::-1], "big")


class _Recorded(QualityEstimator):
    """The unknown estimator of an imported cache: it has a name and a fingerprint, and cannot score."""

    name: str = "qualt5-cache"
    fingerprint: str = ""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise ModelError(f"{self.name} is a record of scores, not a model; it cannot score {len(texts)} more texts")


def export_cache(store: ScoreStore, directory: str | Path) -> None:
    """Write the scores of `store` as a quality cache.

    Raises:
        ArtifactError: `directory` exists and is not empty.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise ArtifactError(f"{directory} is not empty; choose another directory for the cache")
    directory.mkdir(parents=True, exist_ok=True)
    np.asarray(store.scores, "<f4").tofile(directory / "quality.f4")
    write_npids(store.docnos, directory / "docno.npids")
    meta = {
        "type": "quality_score_cache",
        "format": "numpy",
        "package_hint": "pyterrier-quality",
        "count": len(store),
    }
    (directory / "pt_meta.json").write_text(json.dumps(meta) + "\n", encoding="utf-8")


def read_cache(directory: str | Path) -> tuple[list[str], NDArray[np.float32]]:
    """Docnos and scores (float32[n]) of a quality cache, in corpus order.

    Raises:
        ArtifactError: there is no quality cache at `directory`.
        DamagedArtifactError: its parts disagree.
    """
    directory = Path(directory)
    file = directory / "pt_meta.json"
    try:
        meta = json.loads(file.read_bytes())
        found = (meta["type"], meta["format"])
    except OSError as err:
        raise ArtifactError(f"{directory} is not a quality cache: there is no pt_meta.json in it") from err
    except (ValueError, KeyError, TypeError) as err:
        raise DamagedArtifactError(str(file), f"not the description of a quality cache: {err}") from err
    if found != ("quality_score_cache", "numpy"):
        raise ArtifactError(f"{directory} holds {found[0]!r} in format {found[1]!r}, not a numpy quality_score_cache")
    for name in ("quality.f4", "docno.npids"):
        if not (directory / name).is_file():
            raise DamagedArtifactError(str(directory / name), "the file is missing; fetch the cache again")
    scores = np.fromfile(directory / "quality.f4", "<f4")
    docnos = read_npids(directory / "docno.npids")
    if len(docnos) != len(scores) or len(docnos) != meta.get("count", len(docnos)):
        raise DamagedArtifactError(
            str(directory), f"{len(scores)} scores, {len(docnos)} docnos and a stated count of {meta.get('count')}"
        )
    return docnos, scores


def import_cache(
    directory: str | Path, target: str | Path, *, corpus_fingerprint: str = "", overwrite: bool = False
) -> ScoreStore:
    """Make a score store of a quality cache.

    Raises:
        ArtifactError: as `read_cache`, or `target` may not be replaced.
    """
    docnos, scores = read_cache(directory)
    recorded = _Recorded(digest("qualt5-cache", scores))
    return write_scores(
        target, docnos, scores, estimator=recorded, corpus_fingerprint=corpus_fingerprint, overwrite=overwrite
    )


def write_npids(docnos: Sequence[str], file: Path) -> None:
    """Write `docnos`, in order.

    Raises:
        InputError: a docno is empty or contains a NUL, the padding of the format.
    """
    encoded = [docno.encode() for docno in docnos]
    for docno in encoded:
        if b"\0" in docno or not docno:
            raise InputError(f"docno {docno!r} is empty or contains a NUL; an npids file cannot hold it")
    length = max(map(len, encoded), default=1)
    table = np.array(encoded, f"S{length}")
    config = json.dumps({"version": 1}).encode()
    forward = json.dumps({"format": "fixedbytes", "length": length, "prefix": ""}).encode()
    bits = (len(encoded) - 1).bit_length() if encoded else 0
    inverse = json.dumps({"format": "hash", "hash_bits": bits, "hash_fn": "fnv1_32"}).encode()
    offsets, order = _hash_table(table, bits)
    at_forward = _HEADER.size + len(config)
    at_inverse = at_forward + _HEADER.size + len(forward) + table.nbytes
    with file.open("wb") as out:
        out.write(_HEADER.pack(_MAGIC, at_forward, 0, len(config)) + config)
        out.write(_HEADER.pack(0, at_inverse, len(encoded), len(forward)) + forward + table.tobytes())
        out.write(_HEADER.pack(1, -1, len(encoded), len(inverse)) + inverse + offsets.tobytes() + order.tobytes())


def _hash_table(table: NDArray[np.bytes_], bits: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Bucket offsets uint32[2**bits + 1] and the positions in bucket order, uint32[n]."""
    buckets = _fnv1(table) & np.uint32((1 << bits) - 1)
    offsets = np.zeros((1 << bits) + 1, np.uint32)
    offsets[1:] = np.cumsum(np.bincount(buckets, minlength=1 << bits)).astype(np.uint32)
    return offsets, np.argsort(buckets, kind="stable").astype(np.uint32)


def _fnv1(table: NDArray[np.bytes_]) -> NDArray[np.uint32]:
    """The format's FNV-1: each byte but NUL is xored in, then the hash is multiplied (the order of FNV-1a)."""
    hashes = np.full(len(table), 2166136261, np.uint32)
    columns = np.ascontiguousarray(table).view(np.uint8).reshape(len(table), table.dtype.itemsize)
    for column in columns.T:
        live = column != 0
        np.bitwise_xor(hashes, column.astype(np.uint32), out=hashes, where=live)
        np.multiply(hashes, np.uint32(16777619), out=hashes, where=live)
    return hashes


def read_npids(file: Path) -> list[str]:
    """The docnos of an npids file, in order.

    Raises:
        DamagedArtifactError: the file does not have this format.
    """
    data = file.read_bytes()
    docnos: list[str] = []
    try:
        at, version = _first(data)
        while at != -1:
            kind, following, count, config, body = _block(data, at, version)
            if kind == 0:
                docnos += _decode(config, data[body : len(data) if following == -1 else following], count)
            if following != -1 and following <= at:
                raise ValueError(f"the block at {at} is followed by one at {following}")
            at = following
    except (ValueError, KeyError, TypeError, struct.error) as err:
        raise DamagedArtifactError(str(file), f"not a readable npids file: {err}") from err
    return docnos


def _first(data: bytes) -> tuple[int, int]:
    """Offset of the first block, and the version."""
    kind, following, count, length = _HEADER.unpack_from(data)
    if kind != _MAGIC or count != 0:
        return 0, 0
    version = int(json.loads(data[_HEADER.size : _HEADER.size + length])["version"])
    if version > 1:
        raise ValueError(f"format version {version} is newer than this reader, which knows 0 and 1")
    return following, version


def _block(data: bytes, at: int, version: int) -> tuple[int, int, int, Json, int]:
    if version:
        kind, following, count, length = _HEADER.unpack_from(data, at)
        body = at + _HEADER.size
    else:
        following, count, length, kind = _HEADER_0.unpack_from(data, at)
        body = at + _HEADER_0.size
    if count < 0 or body + length > len(data):
        raise ValueError(f"the block at {at} does not fit the file")
    config = json.loads(data[body : body + length]) if length else {}
    return kind, following, count, config, body + length


def _decode(config: Json, body: bytes, count: int) -> list[str]:
    """`count` docnos from one forward block."""
    codec, prefix = config["format"], config.get("prefix") or ""
    if codec == "fixedbytes":
        width = int(config["length"]) - len(prefix.encode())
        rows = _rows(body, count, width)
        return [prefix + row.rstrip(b"\0").decode() for row in rows]
    if codec == "intsequence":
        start = int(config.get("start") or 0)
        return [f"{prefix}{number}" for number in range(start, start + count)]
    if codec == "intsequencepad":
        start, pad = int(config.get("start") or 0), int(config["pad"])
        return [f"{prefix}{number:0{pad}d}" for number in range(start, start + count)]
    if codec == "intstored":
        rows = _rows(body, count, int(config["int_bytes"]))
        return [f"{prefix}{int.from_bytes(row, 'little')}" for row in rows]
    if codec == "hexdigest":
        digits = [row.hex() for row in _rows(body, count, int(config["length"]) // 2)]
        return [prefix + (row.upper() if config.get("upper") else row) for row in digits]
    if codec == "uuid":
        names = [str(uuid.UUID(bytes=row)) for row in _rows(body, count, 16)]
        return [prefix + (row.upper() if config.get("upper") else row) for row in names]
    raise ValueError(f"unknown codec {codec!r}")


def _rows(body: bytes, count: int, width: int) -> list[bytes]:
    if width < 0 or len(body) < count * width:
        raise ValueError(f"{count} docnos of {width} bytes do not fit {len(body)} bytes")
    return [body[row * width : (row + 1) * width] for row in range(count)]
