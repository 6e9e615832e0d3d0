"""Test collections by name: passages, queries and judgments that belong together.

A name (`trec-dl-2019`, `scifact`, `scifact/train`) stands for files under the folder that the environment variable
THRESHER_DATA names, or for an `ir_datasets` identifier if those files are not there. The `trec-dl-*` names
are judged on excerpts of MS MARCO (the passages that were judged and many that were retrieved); `trec-dl-*-full` are
the whole 8.8 million passages, which only `ir_datasets` has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, DataNotFoundError, InputError, require
from thresher.records import Qrels, Query

if TYPE_CHECKING:
    from thresher.corpus import Corpus

DATA_VARIABLE = "THRESHER_DATA"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a collection's parts are.

    Attributes:
        corpus: passages, relative to THRESHER_DATA; empty where no such excerpt exists.
        queries: queries, TSV.
        qrels: judgments, TREC format.
        ir_datasets: the dataset that holds all three, empty where there is none.
        relevant: lowest grade that counts as relevant in binary measures (TREC DL passages: 2).
        empty_texts: the corpus is known to hold passages without text, which are skipped and counted.
    """

    corpus: str
    queries: str
    qrels: str
    ir_datasets: str = ""
    relevant: int = 1
    empty_texts: bool = False


@dataclass(frozen=True, slots=True)
class Collection:
    """A test collection, opened.

    Attributes:
        name: what it was asked for by.
        corpus: its passages; iterable again and again.
        queries: its queries, in file order. Queries without judgments are included.
        qrels: its judgments.
        relevant: lowest grade that counts as relevant in binary measures.
    """

    name: str
    corpus: Corpus
    queries: tuple[Query, ...]
    qrels: Qrels
    relevant: int


def _small(name: str, ir_datasets: str = "", split: str = "") -> Location:
    part, packed = (f".{split}", ".gz") if split else ("", "")
    folder = f"collections/{name}"
    return Location(
        f"{folder}/corpus.jsonl.gz",
        f"{folder}/queries{part}.tsv{packed}",
        f"{folder}/qrels{part}.txt{packed}",
        ir_datasets,
    )


def _trec_dl(year: int, mini: str, *, covered: bool = False) -> Location:
    short = f"dl{year % 100}"
    qrels = f"trec-dl/qrels.{short}{'.covered' if covered else ''}.txt"
    return Location(f"trec-dl/{mini}.jsonl.gz", f"trec-dl/queries.{short}.tsv", qrels, relevant=2)


_COLLECTIONS = {
    "trec-dl-2019": _trec_dl(2019, "msmarco-v1-mini"),
    "trec-dl-2021": _trec_dl(2021, "msmarco-v2-mini", covered=True),
    "trec-dl-2023": _trec_dl(2023, "msmarco-v2-mini", covered=True),
    "trec-dl-2019-full": Location("", "", "", "msmarco-passage/trec-dl-2019/judged", relevant=2),
    "trec-dl-2020-full": Location("", "", "", "msmarco-passage/trec-dl-2020/judged", relevant=2),
    "msmarco-dev-full": Location("", "", "", "msmarco-passage/dev/small"),
    "scifact": _small("scifact", "beir/scifact/test"),
    "scifact/train": _small("scifact", "beir/scifact/train", "train"),
    "nfcorpus": _small("nfcorpus", "beir/nfcorpus/test"),
    "nfcorpus/train": _small("nfcorpus", "beir/nfcorpus/train", "train"),
    "nfcorpus/dev": _small("nfcorpus", "beir/nfcorpus/dev", "dev"),
    "cranfield": replace(_small("cranfield", "cranfield"), empty_texts=True),
    "med": _small("med"),
    "npl": _small("npl"),
    "time": _small("time"),
    "adi": _small("adi"),
}


def known() -> tuple[str, ...]:
    """The names that `load` knows, whether their data are on this machine or not."""
    return tuple(_COLLECTIONS)


def available() -> tuple[str, ...]:
    """The names whose files are under THRESHER_DATA; others need `ir_datasets` and a network.

    Raises:
        DataNotFoundError: the variable names something that is not a directory.
    """
    root = data_dir()
    return tuple(name for name, location in _COLLECTIONS.items() if root is not None and _is_here(location, root))


def data_dir() -> Path | None:
    """The folder that THRESHER_DATA names; None if it is not set.

    Raises:
        DataNotFoundError: the variable names something that is not a directory.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        return None
    path = Path(value)
    if not path.is_dir():
        raise DataNotFoundError(f"{DATA_VARIABLE}={value} is not a directory")
    return path


def locate(name: str) -> Location:
    """Where the parts of the collection `name` are.

    Raises:
        ConfigError: no collection has that name.
    """
    try:
        return _COLLECTIONS[name]
    except KeyError:
        raise ConfigError(f"unknown collection {name!r}; known are: {', '.join(_COLLECTIONS)}") from None


def load(name: str) -> Collection:
    """Open the collection `name`: from THRESHER_DATA where its files are, else through `ir_datasets`.

    Raises:
        ConfigError: no collection has that name.
        DataNotFoundError: the data are in neither place; the message names both.
        MissingExtraError: the files are not there and `ir_datasets` is not installed.
    """
    location = locate(name)
    root = data_dir()
    if root is not None and _is_here(location, root):
        return _from_files(name, location, root)
    if location.ir_datasets:
        return _from_ir_datasets(name, location)
    raise DataNotFoundError(_both_ways(name, location, root))


def _is_here(location: Location, root: Path) -> bool:
    return bool(location.corpus) and all((root / part).is_file() for part in _parts(location))


def _parts(location: Location) -> tuple[str, str, str]:
    return location.corpus, location.queries, location.qrels


def _both_ways(name: str, location: Location, root: Path | None) -> str:
    files = ", ".join(part for part in _parts(location) if part)
    here = f"{DATA_VARIABLE}={root} lacks some of them" if root else f"{DATA_VARIABLE} is not set"
    ways = []
    if files:
        ways.append(f"set {DATA_VARIABLE} to the folder that holds {files} ({here})")
    if location.ir_datasets:
        ways.append(f"let ir_datasets download {location.ir_datasets!r} (pip install 'thresher[eval]')")
    elif f"{name}-full" in _COLLECTIONS:
        ways.append(f"use {name + '-full'!r}, the whole corpus, which ir_datasets downloads")
    else:
        ways.append("no ir_datasets identifier is known for it")
    return f"the collection {name!r} is not on this machine: either {'; or '.join(ways)}"


def _from_files(name: str, location: Location, root: Path) -> Collection:
    from thresher.corpus import open_corpus
    from thresher.evaluate.trec import read_qrels, read_queries

    return Collection(
        name,
        open_corpus(root / location.corpus, on_error="skip" if location.empty_texts else "raise"),
        tuple(read_queries(root / location.queries)),
        read_qrels(root / location.qrels),
        location.relevant,
    )


def _from_ir_datasets(name: str, location: Location) -> Collection:
    from thresher.corpus import open_corpus

    ir_datasets = require("ir_datasets", extra="eval", purpose=f"the collection {name!r}")
    dataset = ir_datasets.load(location.ir_datasets)
    judgments: dict[str, dict[str, int]] = {}
    try:
        for row in dataset.qrels_iter():
            judgments.setdefault(str(row.query_id), {})[str(row.doc_id)] = int(row.relevance)
        queries = tuple(Query(str(row.query_id), _query_text(row)) for row in dataset.queries_iter())
    except (OSError, RuntimeError) as err:
        raise DataNotFoundError(
            f"{_both_ways(name, location, data_dir())}. ir_datasets said: {type(err).__name__}: {err}"
        ) from err
    return Collection(
        name, open_corpus(f"ir_datasets:{location.ir_datasets}"), queries, Qrels(judgments), location.relevant
    )


def _query_text(row: object) -> str:
    """The query of an `ir_datasets` query row: `text`, or the title of a TREC topic."""
    for name in ("text", "title", "query"):
        value = getattr(row, name, None)
        if value:
            return str(value)
    raise InputError(f"an ir_datasets query has none of the fields text, title, query: {row!r}")
