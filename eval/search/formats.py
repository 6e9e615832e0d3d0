"""Files of other engines, written straight from arrays: what they read, without a dict for each passage.

PISA: the canonical inverted index (`.docs`, `.freqs`, `.sizes`) and lexicons, which its own code compresses. BMP: its
index file (bincode). Seismic: its binary input. Each takes an order of documents, as block-max engines gain by one.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eval.search.columns import Columns
    from eval.search.matrices import Rows

STEP = 2**20
KTH = (10, 100, 1000)


def names(terms: int) -> list[str]:
    """The terms' names, as the engines know them."""
    return [f"t{i}" for i in range(terms)]


def write_pisa(folder: Path, columns: Columns, lengths: NDArray[np.int64], order: NDArray[np.int64]) -> None:
    """Write PISA's uncompressed index: documents are named by their row, terms are sorted by name.

    `lengths` int64[n]: the sum of each document's impacts; `order` int64[n]: the row of each document.
    """
    known = [(name, i) for i, name in enumerate(names(len(columns.indptr) - 1))]
    used = sorted((name, i) for name, i in known if columns.indptr[i] < columns.indptr[i + 1])
    (folder / "fwd.terms").write_text("".join(f"{name}\n" for name, _ in used))
    (folder / "fwd.documents").write_text("".join(f"{row}\n" for row in order.tolist()))
    with (folder / "inv.docs").open("wb") as docs, (folder / "inv.freqs").open("wb") as freqs:
        np.array([1, len(order)], np.uint32).tofile(docs)
        for _, term in used:
            part = slice(columns.indptr[term], columns.indptr[term + 1])
            for stream, array in ((docs, columns.docs[part]), (freqs, columns.impacts[part])):
                np.array([len(array)], np.uint32).tofile(stream)
                array.astype(np.uint32).tofile(stream)
    with (folder / "inv.sizes").open("wb") as sizes:
        np.array([len(order)], np.uint32).tofile(sizes)
        lengths.astype(np.uint32).tofile(sizes)
    about = {"type": "sparse_index", "format": "pisa", "package_hint": "pyterrier-pisa", "stemmer": "none"}
    (folder / "pt_meta.json").write_text(json.dumps(about))


@njit(cache=True)
def sums(indptr: NDArray[np.int64], weights: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Sum of the weights of each row."""
    found = np.zeros(len(indptr) - 1, np.int64)
    for i in range(len(found)):
        for p in range(indptr[i], indptr[i + 1]):
            found[i] += weights[p]
    return found


def write_seismic(file: Path, rows: Rows) -> None:
    """Write rows as Seismic's binary input: a count, then for each row its length, terms uint32 and weights float32."""
    with file.open("wb") as stream:
        np.array([len(rows)], np.uint32).tofile(stream)
        for first in range(0, len(rows), STEP):
            last = min(first + STEP, len(rows))
            at = np.asarray(rows.indptr[first : last + 1])
            part = slice(at[0], at[-1])
            out = np.empty(2 * (at[-1] - at[0]) + last - first, np.uint32)
            interleave(at - at[0], rows.terms[part], rows.weights[part].astype(np.float32).view(np.uint32), out)
            out.tofile(stream)


@njit(cache=True)
def interleave(
    indptr: NDArray[np.int64], terms: NDArray[Any], weights: NDArray[np.uint32], out: NDArray[np.uint32]
) -> None:
    """Length, terms and weights of each row, one row after the other."""
    at = 0
    for i in range(len(indptr) - 1):
        size = indptr[i + 1] - indptr[i]
        out[at] = size
        for j in range(size):
            out[at + 1 + j] = terms[indptr[i] + j]
            out[at + 1 + size + j] = weights[indptr[i] + j]
        at += 1 + 2 * size


def bmp_terms(terms: int) -> bytes:
    """BMP's map from names to numbers, as it writes it itself: its length (u64) and a finite state transducer."""
    import bmp

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "terms.bmp")
        index = bmp.InvertedIndexer(str(file), 1, False)
        index.add_document("0", [])
        for name in names(terms):
            index.add_term(name, [(0, 1)])
        index.finish()
        data = file.read_bytes()[16 + terms * bmp_list(1).itemsize :]
        return data[: 8 + int.from_bytes(data[:8], "little")]


def bmp_list(blocks: int) -> np.dtype[Any]:
    """What BMP holds of a term: uncompressed block maxima, and its 10th, 100th and 1000th largest impact."""
    fields = [("raw", "<u4"), ("blocks", "<u8"), ("maxima", "u1", (blocks,)), ("kths", "<u8"), ("kth", "u1", (3,))]
    return np.dtype(fields)


def write_bmp(file: Path, rows: Rows, terms: int, order: NDArray[np.int64], size: int) -> None:
    """Write BMP's index of the rows, in the order given, with blocks of `size` documents named by their row."""
    n, blocks = len(order), -(-len(order) // size)
    with file.open("wb") as stream:
        np.array([n, terms], np.uint64).tofile(stream)
        stream.truncate(16 + terms * bmp_list(blocks).itemsize)
    lists = np.memmap(file, bmp_list(blocks), "r+", 16, (terms,))
    lists["raw"], lists["blocks"], lists["kths"] = 1, blocks, 3
    histogram = np.zeros((terms, 256), np.int64)
    weigh(rows.terms, rows.weights, histogram)
    at_least = np.cumsum(histogram[:, ::-1], axis=1)
    for i, k in enumerate(KTH):
        lists["kth"][:, i] = np.where(at_least[:, -1] >= k, 255 - np.argmax(at_least >= k, axis=1), 0)
    scratch = Scratch(np.empty(terms, np.int64), np.empty(terms, np.int64), np.empty(2**16, np.uint8))
    out = np.empty(2**26, np.uint8)
    with file.open("ab") as stream:
        stream.write(bmp_terms(terms))
        np.array([n], np.uint64).tofile(stream)
        for first in range(0, n, STEP):
            docnos = [str(row).encode() for row in order[first : first + STEP].tolist()]
            stream.write(b"".join(len(docno).to_bytes(8, "little") + docno for docno in docnos))
        np.array([blocks], np.uint64).tofile(stream)
        first = 0
        while first < n:
            arrays = (rows.indptr, rows.terms, rows.weights)
            written, first = write_blocks(arrays, order, size, first, scratch, (lists["maxima"], out))
            out[:written].tofile(stream)
        np.array([size], np.uint64).tofile(stream)
    lists.flush()


@njit(cache=True)
def weigh(terms: NDArray[Any], weights: NDArray[np.uint8], histogram: NDArray[np.int64]) -> None:
    """Count the postings of each term by impact."""
    for p in range(len(terms)):
        histogram[terms[p], weights[p]] += 1


class Scratch(NamedTuple):
    """Where the postings of a block are sorted: ends and counts int64[terms]; members, two bytes a posting."""

    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    members: NDArray[np.uint8]


@njit(cache=True)
def put(out: NDArray[np.uint8], at: int, number: int, width: int) -> int:
    """Write a whole number, the lowest byte first; returns the place after it."""
    for b in range(width):
        out[at + b] = (number >> (8 * b)) & 255
    return at + width


@njit(cache=True)
def write_blocks(
    rows: tuple[NDArray[np.int64], NDArray[Any], NDArray[np.uint8]], order: NDArray[np.int64], size: int, first: int,
    scratch: Scratch, outputs: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> tuple[int, int]:  # fmt: skip
    """As many blocks from document `first` of the order on as fit, as bincode has them: (bytes, the next document).

    A block is the number of its terms (u64), and for each the term (u16), the number of its postings (u64) and these:
    (u8 document in the block, u8 impact). Outputs: maxima [term, block], and the bytes.
    """
    indptr, terms, impacts = rows
    ends, counts, members = scratch
    maxima, out = outputs
    at = 0
    for begin in range(first, len(order), size):
        after = min(begin + size, len(order))
        counts[:] = 0
        for i in range(begin, after):
            for p in range(indptr[order[i]], indptr[order[i] + 1]):
                counts[terms[p]] += 1
        total, distinct = 0, 0
        for term in range(len(counts)):
            ends[term] = total
            total += counts[term]
            distinct += counts[term] > 0
        if at + 8 + 10 * distinct + 2 * total > len(out):
            return at, begin
        if 2 * total > len(members):
            members = np.empty(2 * total, np.uint8)
        for i in range(begin, after):
            for p in range(indptr[order[i]], indptr[order[i] + 1]):
                place = ends[terms[p]]
                ends[terms[p]] = place + 1
                members[2 * place], members[2 * place + 1] = i - begin, impacts[p]
        at = put(out, at, distinct, 8)
        for term in range(len(counts)):
            if counts[term] == 0:
                continue
            at = put(out, at, term, 2)
            at = put(out, at, counts[term], 8)
            for place in range(2 * (ends[term] - counts[term]), 2 * ends[term]):
                out[at] = members[place]
                at += 1
            for place in range(ends[term] - counts[term], ends[term]):
                maxima[term, begin // size] = max(maxima[term, begin // size], members[2 * place + 1])
    return at, len(order)
