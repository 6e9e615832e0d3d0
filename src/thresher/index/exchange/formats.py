"""The file formats that documents leave in and encoded passages come in: one class each, found by name.

A format names the files it recognises, says what of an index it cannot hold, and writes `Documents` to one file or
reads one file back. What a file lacks stands alongside it in an exported folder (`thresher.index.exchange.folder`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from thresher.checks import shown
from thresher.durable import write_names
from thresher.errors import ConfigError, InputError
from thresher.index.exchange.given import plain_name
from thresher.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.index.exchange.documents import Documents
    from thresher.index.exchange.given import GivenVectors, Names


class Format(ABC):
    """A file format.

    Attributes:
        name: as users write it.
        title: what it is, in a few words.
        suffixes: names of files end so; the first is that of files it writes.
        loses: what of an index a file of it does not hold, in words; empty where it holds all.
        reads: whether it is read as well as written.
        writes: whether it is written.
        packs: whether a file may be compressed with gzip.
        docnos: whether a file holds docnos; if not, they are in `docnos.txt` beside it.
        vectors: whether it writes dense vectors where there are some.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    loses: ClassVar[str] = ""
    reads: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    packs: ClassVar[bool] = True
    docnos: ClassVar[bool] = True
    vectors: ClassVar[bool] = False

    def __init__(self, argument: str = "") -> None:
        if argument:
            raise ConfigError(f"the format {self.name!r} takes no argument; got {argument!r}")

    def check(self, documents: Documents) -> None:  # noqa: B027  (most formats hold any terms)
        """Refuse documents that the format cannot hold, before anything is written.

        Raises:
            InputError: says which term or docno, and why.
        """

    @abstractmethod
    def write(self, documents: Documents, file: Path) -> None:
        """Write documents to `file`, in order, holding a bounded part of them in memory.

        Args:
            documents: what `check` let pass.
            file: its folder exists; a name that ends in `.gz` asks for compression.
        """

    def write_files(
        self, documents: Documents, folder: Path, stem: str, suffix: str, size: int | None
    ) -> tuple[list[str], list[str]]:
        """Write documents to files in a folder, in order.

        Args:
            documents: what `check` let pass.
            folder: where.
            stem: what names of files begin with.
            suffix: what they end with.
            size: documents of a file; None for one file, or for files of the size that the format sets.

        Returns:
            the names of the files of documents, and of others that an engine needs with them.
        """
        names = []
        for number, shard in enumerate([documents] if size is None else documents.shards(size)):
            names.append(f"{stem}{suffix}" if size is None else f"{stem}-{number:05}{suffix}")
            self.write(shard, folder / names[-1])
            if not self.docnos:
                write_names(folder / docnos_of(names[-1]), shard.docnos())
        return names, []

    def open(self, path: Path, names: Names) -> GivenVectors:
        """Open a file of the format, or a folder where the format has folders.

        Args:
            path: what to read; nothing in it is trusted.
            names: what is known from elsewhere.

        Raises:
            InputError: it is damaged or of another format; or this format is only written.
        """
        raise InputError(f"files for {self.title} are only written; import another format", str(path))


def docnos_of(file: str) -> str:
    """Name of the file with the docnos of a file of documents."""
    return f"{file.partition('.')[0]}.docnos.txt"


FORMATS: Registry[Format] = Registry(
    "format",
    "thresher.formats",
    {
        "ciff": "thresher.index.exchange.ciff:Ciff",
        "anserini": "thresher.index.exchange.anserini:Anserini",
        "bigann": "thresher.index.exchange.bigann:BigAnn",
        "safetensors": "thresher.index.exchange.tensors:Tensors",
        "npz": "thresher.index.exchange.npz:Npz",
        "parquet": "thresher.index.exchange.parquet:Parquet",
        "qdrant": "thresher.index.exchange.qdrant:Qdrant",
        "milvus": "thresher.index.exchange.milvus:Milvus",
        "elasticsearch": "thresher.index.exchange.elastic:Elasticsearch",
        "opensearch": "thresher.index.exchange.elastic:OpenSearch",
        "vespa": "thresher.index.exchange.vespa:Vespa",
        "faiss": "thresher.vectors.faiss_format:FaissVectors",
    },
)
"""All formats by name; other packages register theirs in the group `thresher.formats`."""


def all_formats() -> list[Format]:
    """One of each format."""
    return [FORMATS.make(kind) for kind in FORMATS.kinds()]


def format_of(path: Path) -> Format:
    """The format that a file's name gives.

    Raises:
        InputError: it gives none; names the suffixes that would.
    """
    readable = [one for one in all_formats() if one.reads]
    found: list[tuple[int, Format]] = []
    for one in readable:
        plain = plain_name(path) if one.packs else path.name
        if path.is_dir() and ".jsonl" in one.suffixes:
            return one
        if not path.is_dir():
            found += [(len(suffix), one) for suffix in one.suffixes if plain.endswith(suffix)]
    if found:
        return max(found, key=lambda pair: pair[0])[1]  # `.vespa.jsonl` ends in `.jsonl` as well
    known = sorted({suffix for one in readable for suffix in one.suffixes})
    raise InputError(
        f"the name {path.name!r} does not give the format; names end in {', '.join(known)} "
        f"(and .gz), or name the format: {', '.join(one.name for one in readable)}"
    )


def refuse_term(what: str, term: str, why: str) -> InputError:
    """The error about a term or docno that a format cannot hold."""
    return InputError(f"{what} {shown(term)} {why}; choose another format, such as parquet")
