"""Small indexes, and where their files are, for tests that look at them or damage them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from thresher.index import IndexBuilder
from thresher.index.collection import Collection
from thresher.index.commit import read_commit
from thresher.manifest import load_manifest
from thresher.records import Passage, SparseBatch
from thresher.search import Index


def segment_of(index: Path, number: int = 0) -> Path:
    """The folder of one segment of an index."""
    return index / read_commit(index).segments[number].folder


def encoder_of(index: Path) -> Path:
    """The folder of the only query encoder of an index."""
    (folder,) = (index / "encoders").iterdir()
    return folder


def files_of(index: Path) -> dict[str, str]:
    """The sha256 of every file of an index with one segment: names within the segment, or within the index."""
    commit = read_commit(index)
    inner = load_manifest(segment_of(index)).files
    outer = {name: entry for name, entry in commit.files.items() if not name.startswith("segments/")}
    return {name: entry["sha256"] for name, entry in {**inner, **outer}.items()}


def write_segment(folder: Path, docnos: list[str], terms: int = 3) -> dict[str, Any]:
    """A tier of a segment in which passage i has the terms i and i + 1, modulo `terms`; returns its counts."""
    builder = IndexBuilder(folder, [f"t{i}" for i in range(terms)])
    rows = [sorted({i % terms, (i + 1) % terms}) for i in range(len(docnos))]
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    of_terms = np.array([term for row in rows for term in row], np.uint32)
    passages = [Passage(docno, f"text of {docno}") for docno in docnos]
    builder.add(passages, SparseBatch(indptr, of_terms, np.ones(len(of_terms), np.float32)))
    return builder.finish()


def left_over(index: Path) -> list[str]:
    """Files in or beside an index that its commit does not name."""
    commit = read_commit(index)
    known = {"manifest.json", f"commits/{commit.number}.json", *commit.files}
    for entry in commit.segments:
        known |= {f"{entry.folder}/{name}" for name in load_manifest(index / entry.folder).files}
    found = [file.relative_to(index).as_posix() for file in index.rglob("*") if file.is_file()]
    beside = [file.name for file in index.parent.iterdir() if file.name.startswith(f".{index.name}.")]
    return sorted({*found, *beside} - known)


def as_tiers(first: Index, second: Index) -> Index:
    """An index whose tiers are the first parts of two indexes."""
    parts, start = [], 0
    for tier, index in enumerate((first, second), 1):
        part = index._now.collection.parts[0]
        entry = replace(part.segment, passages=(part.size, part.size), deleted=(0, 0))
        parts.append(replace(part, segment=entry, tier=tier, start=start))
        start += part.size
    return Index(Collection(first._now.collection._lease, tuple(parts)))
