"""An exported folder: files of one format, and beside them what an import needs to make the same index of them.

| file | content |
|---|---|
| `manifest.json` | the format, and what holds of all documents (`thresher.index.exchange.facts`); sizes and checksums |
| `documents.SUFFIX` | the documents; `documents-00000.SUFFIX` ... where they were split |
| `vocabulary.txt` | the terms, one a line, in order of their ids |
| `documents.docnos.txt` | the docnos of that file, one a line, in order, where the format does not hold them |
| `tokens.npy` | uint32[documents], for BM25: terms of each document with repetitions |
| `encoder/` | what turns a query into terms, where the index has it |

It is an artifact of kind `export`: it appears when it is complete, and `thresher verify` checks it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.artifact import read_manifest, writing
from thresher.checks import path_of, shown, whole
from thresher.durable import write_names
from thresher.encode.encoded import SavedQuerySide
from thresher.errors import DamagedArtifactError, InputError
from thresher.files import UNREADABLE_ARRAYS, read_names
from thresher.index.collection import open_collection
from thresher.index.exchange.documents import Documents
from thresher.index.exchange.facts import Facts, vocabulary_hash
from thresher.index.exchange.formats import FORMATS, docnos_of, refuse_term
from thresher.index.exchange.given import GivenVectors, Names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from numpy.typing import NDArray

    from thresher.encode.query_side import QuerySide
    from thresher.index.exchange.documents import Vectors
    from thresher.index.filters import Filter
    from thresher.records import Passage, SparseBatch

KIND, FORMAT = "export", 1
_STEM, _VOCABULARY, _TOKENS, _ENCODER = "documents", "vocabulary.txt", "tokens.npy", "encoder"


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: the folder.
        format: name of the format.
        facts: what holds of all documents.
        files: names of the files of documents.
        bytes: what they take.
        others: names of the files that an engine needs before these, such as the definition of a collection.
    """

    path: Path
    format: str
    facts: Facts
    files: tuple[str, ...]
    bytes: int
    others: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        sizes = {"files": list(self.files), "bytes": self.bytes, "others": list(self.others)}
        return {"path": str(self.path), "format": self.format, **sizes, **self.facts.as_json()}


def export_index(
    index: str | Path,
    target: str | Path,
    *,
    format: str = "ciff",
    tiers: Literal["first", "both"] = "both",
    where: Filter | None = None,
    shards_of: int | None = None,
    gz: bool = False,
    overwrite: bool = False,
    vectors: Vectors | None = None,
) -> Exported:
    """Write the live passages of an index to a folder, in a format that other engines read. Memory is bounded.

    Args:
        index: the index's directory.
        target: the folder to make; it appears when it is complete.
        format: one of `FORMATS`.
        tiers: of an index with two tiers, `both`, or only the `first`.
        where: only passages whose metadata match this filter.
        shards_of: documents of a file; by default there is one file, or files of the size that the format sets.
        gz: compress files with gzip, where the format allows it.
        overwrite: replace an earlier export.
        vectors: gives dense vectors by passage number, for formats that hold them.

    Raises:
        ConfigError: there is no such format.
        InputError: the format cannot hold a term, or an argument is wrong; nothing has been written then.
        ArtifactError: there is no index, or there is something at `target` that may not be replaced.
    """
    made = FORMATS.make(format)
    if not made.writes:
        raise InputError(f"files of {made.title} are only read; export another format")
    if gz and not made.packs:
        raise InputError(f"files of {made.title} are not compressed; leave out gz")
    size = None if shards_of is None else whole("shards_of", shards_of, 1)
    if tiers not in ("first", "both"):
        raise InputError(f"tiers must be 'first' or 'both'; got {shown(tiers)}")
    with open_collection(index) as collection:
        documents = Documents.of(collection, tiers=tiers, where=where, vectors=vectors if made.vectors else None)
        for term in documents.words:
            if "\n" in term:
                raise refuse_term("term", term, "has a line feed")
        made.check(documents)
        suffix = made.suffixes[0] + (".gz" if gz else "")
        with writing(target, kind=KIND, format=FORMAT, overwrite=overwrite) as draft:
            files, others = made.write_files(documents, draft.path, _STEM, suffix, size)
            _write_names(documents, draft.path)
            draft.fields |= {"documents_format": format, "documents": files, "facts": documents.facts.as_json()}
    entries = read_manifest(target, kind=KIND, format=FORMAT).files
    size_of = sum(int(entries[name]["bytes"]) for name in files)
    return Exported(path_of(target), format, documents.facts, tuple(files), size_of, tuple(others))


def _write_names(documents: Documents, folder: Path) -> None:
    """Write what stands beside the documents."""
    write_names(folder / _VOCABULARY, documents.words)
    tokens = [batch.tokens for batch in documents.batches(2**16)] if documents.facts.idf else []
    known = [own for own in tokens if own is not None]
    if known:
        np.save(folder / _TOKENS, np.concatenate(known), allow_pickle=False)
    encoder = documents.encoder.layout.encoder
    if encoder is not None:
        shutil.copytree(encoder, folder / _ENCODER)


class ExportedFolder(GivenVectors):
    """What `export_index` wrote, as encoded passages.

    Attributes:
        form: the format of its files.

    Raises:
        ArtifactError: there is no export at `path`, or a newer thresher wrote it.
        DamagedArtifactError: a file is missing, or does not fit the others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        fields = read_manifest(path, kind=KIND, format=FORMAT).fields
        files, name = fields.get("documents"), fields.get("documents_format")
        if not isinstance(files, list) or not files or not all(isinstance(f, str) and Path(f).name == f for f in files):
            raise DamagedArtifactError(str(path), "its manifest names no documents; export the index again")
        self.facts: Facts = Facts.of(fields.get("facts"), str(path))
        self.vocabulary = tuple(read_names(path / _VOCABULARY))
        if vocabulary_hash(self.vocabulary) != self.facts.vocabulary:
            raise DamagedArtifactError(str(path / _VOCABULARY), "is not that of the documents; export the index again")
        made = self.form = FORMATS.make(str(name))
        self._files: list[GivenVectors] = []
        for file in files:
            docnos = None if made.docnos else read_names(path / docnos_of(file))
            self._files.append(made.open(path / file, Names(docnos, self.vocabulary, self.facts)))

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        done = 0
        for file in self._files:
            for passages, batch in file:
                yield passages, batch
                done += len(passages)
        if done != self.facts.documents:
            problem = f"its manifest says {self.facts.documents:,} documents, but its files hold {done:,}"
            raise DamagedArtifactError(str(self.path), f"{problem}; export the index again")

    @cached_property
    def tokens(self) -> NDArray[np.uint32] | None:  # type: ignore[override]
        """For BM25, uint32[documents]: terms of each document with repetitions."""
        if not self.facts.idf:
            return None
        file = self.path / _TOKENS
        try:
            tokens = np.load(file, allow_pickle=False)
        except UNREADABLE_ARRAYS as err:
            raise DamagedArtifactError(str(file), f"cannot be read ({err}); export the index again") from err
        if tokens.dtype != np.uint32 or tokens.shape != (self.facts.documents,):
            problem = f"holds {tokens.dtype}{tokens.shape}, expected {self.facts.documents} uint32"
            raise DamagedArtifactError(str(file), f"{problem}; export the index again")
        return np.asarray(tokens)

    @property
    def encoder(self) -> Path | None:
        """Folder of what turns a query into terms; None where the index had none."""
        encoder = self.path / _ENCODER
        return encoder if encoder.is_dir() else None

    @property
    def query_side(self) -> QuerySide:
        """The encoder that was exported with the documents; weighted terms where there is none."""
        if self.encoder is None:
            return super().query_side
        return SavedQuerySide(self.facts.encoder, self.facts.fingerprint, self.vocabulary, self.encoder)
