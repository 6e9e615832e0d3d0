"""Test collections by name: passages, queries and judgments that belong together.

A name (`trec-dl-2019`, `scifact`, `scifact/train`) stands for files under the folder that the environment variable
THRESHER_DATA names, or for an `ir_datasets` identifier if those files are not there. The `trec-dl-*` names
are judged on excerpts of MS MARCO (the passages that were judged and many that were retrieved); `trec-dl-*-full` are
the whole 8.8 million passages, which only `ir_datasets` has. `bright-*`, `dl-hard`, `miracl-zh`, `t2ranking` and
`trec-rag-2024` are what the field compares on.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, DataNotFoundError, InputError, require
from thresher.evaluate.locations import COLLECTIONS, Location
from thresher.files import read_lines
from thresher.records import Qrels, Query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thresher.corpus import Corpus

DATA_VARIABLE = "THRESHER_DATA"
EXCLUDED = -100
"""Grade by which `ir_datasets` marks the passages that BRIGHT excludes."""


@dataclass(frozen=True, slots=True)
class Nugget:
    """A fact that a good answer has; `vital` ones must be in it."""

    text: str
    vital: bool


@dataclass(frozen=True, slots=True)
class Collection:
    """A test collection, opened.

    Attributes:
        name: what it was asked for by.
        corpus: its passages; iterable again and again.
        queries: its queries, in file order. Queries without judgments are included.
        qrels: its judgments.
        relevant: lowest grade that counts as relevant in binary measures.
        excluded: by qid, docnos that are taken out of a ranking before it is measured (BRIGHT: the passages that the
            query was made from).
        nuggets: by qid, facts that a good answer has (TREC RAG); empty where none are given.
    """

    name: str
    corpus: Corpus
    queries: tuple[Query, ...]
    qrels: Qrels
    relevant: int
    excluded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    nuggets: Mapping[str, tuple[Nugget, ...]] = field(default_factory=dict)


def known() -> tuple[str, ...]:
    """The names that `load` knows, whether their data are on this machine or not."""
    return tuple(COLLECTIONS)


def available() -> tuple[str, ...]:
    """The names whose files are under THRESHER_DATA; others need `ir_datasets` and a network.

    Raises:
        DataNotFoundError: the variable names something that is not a directory.
    """
    root = data_dir()
    return tuple(name for name, location in COLLECTIONS.items() if root is not None and _is_here(location, root))


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
        return COLLECTIONS[name]
    except KeyError:
        raise ConfigError(f"unknown collection {name!r}; known are: {', '.join(COLLECTIONS)}") from None


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


def needs(name: str) -> dict[str, str]:
    """What opening the collection `name` takes, without opening it: sizes, files or downloads, what is missing.

    Raises:
        ConfigError: no collection has that name.
        DataNotFoundError: THRESHER_DATA names something that is not a directory.
    """
    location, root = locate(name), data_dir()
    said = {}
    if location.passages:
        said["passages"] = f"{location.passages:,}"
    if location.topics:
        said["judged queries"] = f"{location.topics:,}"
    if location.language == "zh":
        said["language"] = "Chinese: analyzers take each Han character as a term, so BM25 is over single characters"
    if location.corpus:
        lacking = [part for part in _parts(location) if root is None or not (root / part).exists()]
        beside = [part for part in (location.excluded, location.nuggets) if part]
        files = ", ".join([*_parts(location), *(f"{part} (optional)" for part in beside)])
        where = f"{DATA_VARIABLE}={root}" if root else f"{DATA_VARIABLE} is not set"
        said["files"] = f"{files}; {where}"
        said["here"] = "yes" if not lacking else f"no, lacks {', '.join(lacking)}"
    here = said.get("here") == "yes"
    said["data"] = location.corpus if here or not location.ir_datasets else f"ir_datasets:{location.ir_datasets}"
    if here:
        return said
    if location.ir_datasets:
        size = f", about {location.download / 1e6:,.0f} MB" if location.download else ""
        said["download"] = f"ir_datasets:{location.ir_datasets}{size}, which needs a network"
        modules = {"ir_datasets": "eval"} | ({"pyarrow": "parquet"} if location.parquet else {})
        said["extras"] = ", ".join(
            f"thresher[{extra}] for {module} ({'installed' if find_spec(module) else 'not installed'})"
            for module, extra in modules.items()
        )
    elif location.source:
        said["source"] = location.source
    return said


def _is_here(location: Location, root: Path) -> bool:
    return bool(location.corpus) and all((root / part).exists() for part in _parts(location))


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
    elif f"{name}-full" in COLLECTIONS:
        ways.append(f"use {name + '-full'!r}, the whole corpus, which ir_datasets downloads")
    else:
        ways.append(
            f"get the files from {location.source}" if location.source else "no ir_datasets identifier is known for it"
        )
    return f"the collection {name!r} is not on this machine: either {'; or '.join(ways)}"


def _from_files(name: str, location: Location, root: Path) -> Collection:
    from thresher.corpus import open_corpus
    from thresher.evaluate.trec import read_qrels, read_queries

    corpus = root / location.corpus
    excluded, nuggets = (root / part if part else None for part in (location.excluded, location.nuggets))
    return Collection(
        name,
        open_corpus(
            corpus,
            format="jsonl" if corpus.is_dir() else "",
            on_error="skip" if location.empty_texts else "raise",
        ),
        tuple(read_queries(root / location.queries)),
        read_qrels(root / location.qrels),
        location.relevant,
        _read_excluded(excluded) if excluded is not None and excluded.is_file() else {},
        _read_nuggets(nuggets) if nuggets is not None and nuggets.is_file() else {},
    )


def _read_excluded(path: Path) -> dict[str, frozenset[str]]:
    """Docnos by qid, of lines `qid docno`."""
    found: dict[str, set[str]] = {}
    for number, line in read_lines(path):
        fields = line.decode(errors="replace").split()
        if fields and len(fields) != 2:
            raise InputError(
                f"a line has {len(fields)} columns, and excluded passages are qid and docno", str(path), number
            )
        if fields:
            found.setdefault(fields[0], set()).add(fields[1])
    return {qid: frozenset(docnos) for qid, docnos in found.items()}


def _read_nuggets(path: Path) -> dict[str, tuple[Nugget, ...]]:
    """Nuggets by qid, of lines `{"qid": ..., "nuggets": [{"text": ..., "importance": "vital"}]}`."""
    found = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            topic = json.loads(line)
            nuggets = tuple(Nugget(str(one["text"]), one.get("importance") == "vital") for one in topic["nuggets"])
            found[str(topic["qid"])] = nuggets
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise InputError(f"no nuggets of a topic: {type(err).__name__}: {err}", str(path), number) from None
    return found


def _from_ir_datasets(name: str, location: Location) -> Collection:
    from thresher.corpus import open_corpus

    ir_datasets = require("ir_datasets", extra="eval", purpose=f"the collection {name!r}")
    dataset = ir_datasets.load(location.ir_datasets)
    judgments: dict[str, dict[str, int]] = {}
    excluded: dict[str, set[str]] = {}
    try:
        for row in dataset.qrels_iter():
            qid, docno, grade = str(row.query_id), str(row.doc_id), int(row.relevance)
            if location.excluded and grade <= EXCLUDED:
                excluded.setdefault(qid, set()).add(docno)
            else:
                judgments.setdefault(qid, {})[docno] = grade
        queries = tuple(Query(str(row.query_id), _query_text(row)) for row in dataset.queries_iter())
    except (OSError, RuntimeError) as err:
        raise DataNotFoundError(
            f"{_both_ways(name, location, data_dir())}. ir_datasets said: {type(err).__name__}: {err}"
        ) from err
    return Collection(
        name, open_corpus(f"ir_datasets:{location.ir_datasets}"), queries, Qrels(judgments), location.relevant,
        {qid: frozenset(docnos) for qid, docnos in excluded.items()},
    )  # fmt: skip


def _query_text(row: object) -> str:
    """The query of an `ir_datasets` query row: `text`, or the title of a TREC topic."""
    for name in ("text", "title", "query"):
        value = getattr(row, name, None)
        if value:
            return str(value)
    raise InputError(f"an ir_datasets query has none of the fields text, title, query: {row!r}")
