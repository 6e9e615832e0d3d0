"""CIFF's messages decoded and encoded by kernels, block by block; a message may go on in the next one.

A posting list is a message `{1: term, 2: df, 3: cf, 4: posting ...}`, a posting `{1: gap, 2: impact}`; numbers are
varints, little groups of seven bits. The decoder goes on where the last block ended: its state says how much of which
message is left.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher._lazy import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEFT, DOC, COUNT, DF, LISTS, TERM = range(6)
"""Places in a state: bytes left of the list's message (-1 between messages), the last document, postings so far, the df
that the message states (-1 where it has not), lists that were completed, bytes of the open list's term (-1 where it has
not come)."""
MORE, FULL, DONE = 0, 1, 2
"""Why decoding stopped: the block ends, there is no room for more postings, or all lists are complete."""
LONG_VARINT, NEGATIVE, BAD_DOC, BAD_IMPACT, BAD_TAG, OVERRUN, LONG_TERM, BAD_DF, TERMS = range(3, 12)
FAULTS = {
    LONG_VARINT: "a number of more than ten bytes",
    NEGATIVE: "a length or gap below 0, or a gap of 0 after the first posting",
    BAD_DOC: "a posting of a document beyond those that the header counts",
    BAD_IMPACT: "an impact that is not between 1 and 65,535",
    BAD_TAG: "a field of an unknown type",
    OVERRUN: "a field that is longer than its message",
    LONG_TERM: "a term of more than 65,535 bytes",
    BAD_DF: "a df that is not the number of postings",
    TERMS: "a list with two terms, or with none",
}
LONGEST_TERM = 65_535
LARGEST = 65_535
"""The largest impact."""
POSTING = 64
"""Bytes that a posting takes at most."""


class Decoded(NamedTuple):
    """What a block is decoded into; the first `used` entries are filled.

    Attributes:
        docs: uint32[room], documents.
        impacts: uint16[room], theirs.
        ends: int64[lists, 2]: of each list that is completed in the block, where its postings end and the bytes of its
            term.
        terms: uint8[room of terms], the terms, one after the other.
        used: int64[3]: postings, lists and bytes of terms.
    """

    docs: NDArray[np.uint32]
    impacts: NDArray[np.uint16]
    ends: NDArray[np.int64]
    terms: NDArray[np.uint8]
    used: NDArray[np.int64]


@njit(cache=True, nogil=True)
def read_varint(block, at, end):
    """The number at `at`, and where it ends; -1 where the block ends first, -2 where it is longer than ten bytes."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < end:
        byte = np.uint64(block[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < 128:
            return np.int64(value), at
        shift += np.uint64(7)
        if shift >= 70:
            return np.int64(0), np.int64(-2)
    return np.int64(0), np.int64(-1)


@njit(cache=True, nogil=True)
def skip_field(block, at, end, kind):
    """Where a field of this wire type ends whose tag ends at `at`: -1 and -2 as `read_varint`, -3 for a wrong type."""
    if kind == 0:
        return read_varint(block, at, end)[1]
    if kind == 2:
        length, at = read_varint(block, at, end)
        if at < 0:
            return at
        return at + length if 0 <= length <= end - at else np.int64(-1 if length >= 0 else -3)
    size = 8 if kind == 1 else 4
    if kind not in (1, 5):
        return np.int64(-3)
    return at + size if end - at >= size else np.int64(-1)


@njit(cache=True, nogil=True)
def read_posting(block, at, end):
    """Gap and impact of the posting in block[at:end], 0 where they are absent; and a fault, 0 for none."""
    gap, impact = np.int64(0), np.int64(0)
    while at < end:
        tag, at = read_varint(block, at, end)
        if at < 0:
            return gap, impact, OVERRUN if at == -1 else LONG_VARINT
        if tag in (8, 16):
            value, at = read_varint(block, at, end)
            if at < 0:
                return gap, impact, OVERRUN if at == -1 else LONG_VARINT
            if tag == 8:
                gap = value
            else:
                impact = value
        else:
            at = skip_field(block, at, end, tag & 7)
            if at < 0:
                return gap, impact, BAD_TAG if at == -3 else OVERRUN
    return gap, impact, 0


@njit(cache=True, nogil=True)
def decode_lists(block, at, state, lists, docs, out):  # noqa: PLR0911, PLR0912  (a branch a field)
    """Decode posting lists from block[at:]; returns where it stopped, and why: MORE, FULL, DONE or a fault.

    block   uint8[n]
    state   int64[6]     in and out, see `LEFT`
    lists   the lists there are
    docs    the documents there are
    out     `Decoded`; `used` is set to 0 by the caller
    """
    size = block.shape[0]
    while True:
        if state[LEFT] < 0:  # between lists
            if state[LISTS] >= lists:
                return at, DONE
            if out.used[1] >= out.ends.shape[0] or out.used[2] + LONGEST_TERM > out.terms.shape[0]:
                return at, FULL
            length, after = read_varint(block, at, size)
            if after < 0:
                return at, MORE if after == -1 else LONG_VARINT
            if length < 0:
                return at, NEGATIVE
            at = after
            state[LEFT], state[DOC], state[COUNT], state[DF], state[TERM] = length, 0, 0, -1, -1
        begun, left = at, state[LEFT]
        if left == 0:
            fault = close_list(state, out)
            if fault:
                return at, fault
            continue
        end = min(size, at + left)
        tag, at = read_varint(block, at, end)
        if at < 0:
            return begun, stopped(at, end - begun, left)
        if tag == 34:
            if out.used[0] >= out.docs.shape[0]:
                return begun, FULL
            length, at = read_varint(block, at, end)
            if at < 0 or not 0 <= length <= POSTING or length > end - at:
                if at >= 0 and not 0 <= length <= POSTING:
                    return begun, OVERRUN
                return begun, stopped(at if at < 0 else -1, end - begun, left)
            gap, impact, fault = read_posting(block, at, at + length)
            if not fault:
                fault = put_posting(gap, impact, docs, state, out)
            if fault:
                return begun, fault
            at += length
        else:
            at, fault = read_field(block, at, end, tag, left - (end - begun) > 0, state, out)
            if fault or at < 0:
                return begun, fault if fault else MORE
        state[LEFT] = left - (at - begun)


@njit(cache=True, nogil=True)
def stopped(why, available, left):
    """What a number that does not end means, -1 or -2, where `available` of the `left` bytes of a message are there."""
    if why == -2:
        return LONG_VARINT
    return MORE if available < left else OVERRUN


@njit(cache=True, nogil=True)
def put_posting(gap, impact, docs, state, out):
    """Append a posting of the open list; returns a fault, 0 for none."""
    if gap < 0 or (gap == 0 and state[COUNT] > 0):
        return NEGATIVE
    if gap >= docs - state[DOC]:
        return BAD_DOC
    if not 1 <= impact <= LARGEST:
        return BAD_IMPACT
    state[DOC] += gap
    state[COUNT] += 1
    n = out.used[0]
    out.docs[n], out.impacts[n] = state[DOC], impact
    out.used[0] = n + 1
    return 0


@njit(cache=True, nogil=True)
def read_field(block, at, end, tag, more, state, out):
    """Read a field of a list that is not a posting; returns where it ends, -1 if more bytes are needed, and a fault."""
    if tag == 10:
        length, at = read_varint(block, at, end)
        if at >= 0 and not 0 <= length <= LONGEST_TERM:
            return at, LONG_TERM
        if at >= 0 and length <= end - at:
            if state[TERM] >= 0:
                return at, TERMS
            n = out.used[2]
            out.terms[n : n + length] = block[at : at + length]
            state[TERM] = length
            out.used[2] = n + length
            return at + length, 0
        if at >= 0:
            at = np.int64(-1)
    elif tag == 16:
        value, at = read_varint(block, at, end)
        if at >= 0:
            state[DF] = value
    else:
        at = skip_field(block, at, end, tag & 7)
    if at >= 0:
        return at, 0
    if at == -1 and more:
        return np.int64(-1), 0
    return at, LONG_VARINT if at == -2 else BAD_TAG if at == -3 else OVERRUN


@njit(cache=True, nogil=True)
def close_list(state, out):
    """End the open list; returns a fault, 0 for none."""
    if state[TERM] < 0:
        return TERMS
    if max(state[DF], 0) != state[COUNT]:
        return BAD_DF
    n = out.used[1]
    out.ends[n, 0], out.ends[n, 1] = out.used[0], state[TERM]
    out.used[1] = n + 1
    state[LISTS] += 1
    state[LEFT] = -1
    return 0


@njit(cache=True, nogil=True)
def varint_size(value):
    """Bytes of a number."""
    size = 1
    while value >= 128:
        value >>= 7
        size += 1
    return size


@njit(cache=True, nogil=True)
def put_varint(out, at, value):
    """Write a number; returns where it ends."""
    while value >= 128:
        out[at] = np.uint8((value & 127) | 128)
        value >>= 7
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@njit(cache=True, nogil=True)
def posting_sizes(gap, impact):
    """Bytes of the content of a posting's message."""
    return 2 + varint_size(gap) + varint_size(impact)


@njit(cache=True, nogil=True)
def encode_lists(docs, impacts, ends, words, out):
    """Write whole posting lists; returns the bytes written. Lists without postings are left out.

    docs      uint32[n]       documents, ascending in a list
    impacts   uint16[n]
    ends      int64[lists, 2]   where the postings of each list and the bytes of its term end
    words     uint8[...]      the terms, one after the other
    out       uint8[22 n + 64 lists + bytes of terms], which is always enough
    """
    at, first, word = 0, 0, 0
    for i in range(ends.shape[0]):
        last, stop = ends[i, 0], ends[i, 1]
        if last > first:
            size, total, before = 0, np.int64(0), np.int64(0)
            for p in range(first, last):
                size += 2 + posting_sizes(np.int64(docs[p]) - before, np.int64(impacts[p]))
                before = np.int64(docs[p])
                total += np.int64(impacts[p])
            size += 3 + varint_size(stop - word) + stop - word + varint_size(last - first) + varint_size(total)
            at = put_varint(out, at, size)
            out[at] = 10
            at = put_varint(out, at + 1, stop - word)
            out[at : at + stop - word] = words[word:stop]
            at += stop - word
            out[at] = 16
            at = put_varint(out, at + 1, last - first)
            out[at] = 24
            at = put_varint(out, at + 1, total)
            before = np.int64(0)
            for p in range(first, last):
                gap, impact = np.int64(docs[p]) - before, np.int64(impacts[p])
                before = np.int64(docs[p])
                out[at] = 34
                out[at + 1] = posting_sizes(gap, impact)
                out[at + 2] = 8
                at = put_varint(out, at + 3, gap)
                out[at] = 16
                at = put_varint(out, at + 1, impact)
        first, word = last, stop
    return at


@njit(cache=True, nogil=True)
def decode_records(block, at, numbers, lengths, spans):  # noqa: PLR0912
    """Decode the messages of documents in block[at:]; returns where it stopped, how many there were, and why.

    block     uint8[n]
    numbers   int64[room]      out: number of each document
    lengths   int64[room]      out: its length
    spans     int64[room, 2]   out: where its docno begins and ends in the block
    """
    size = block.shape[0]
    for n in range(numbers.shape[0]):
        length, start = read_varint(block, at, size)
        if start < 0:
            return at, n, MORE if start == -1 else LONG_VARINT
        if length < 0:
            return at, n, NEGATIVE
        if length > size - start:
            return at, n, MORE
        end, here = start + length, start
        numbers[n], lengths[n], spans[n, 0], spans[n, 1] = 0, 0, start, start
        while here < end:
            tag, here = read_varint(block, here, end)
            if here >= 0 and tag == 18:
                length, here = read_varint(block, here, end)
                if here >= 0:
                    if not 0 <= length <= end - here:
                        return at, n, OVERRUN
                    spans[n, 0], spans[n, 1] = here, here + length
                    here += length
            elif here >= 0 and tag in (8, 24):
                value, here = read_varint(block, here, end)
                if tag == 8:
                    numbers[n] = value
                else:
                    lengths[n] = value
            elif here >= 0:
                here = skip_field(block, here, end, tag & 7)
            if here < 0:
                return at, n, LONG_VARINT if here == -2 else BAD_TAG if here == -3 else OVERRUN
        at = end
    return at, numbers.shape[0], FULL


@njit(cache=True, nogil=True)
def count_docs(decoded, counts):
    """Add the postings of each document to `counts`, int64[documents]; returns the largest impact."""
    largest = 0
    for p in range(decoded.used[0]):
        counts[decoded.docs[p]] += 1
        largest = max(largest, np.int64(decoded.impacts[p]))
    return largest


@njit(cache=True, nogil=True)
def put_rows(decoded, term, low, cursors, terms, impacts):
    """Put the postings of a range of documents into their rows.

    decoded   `Decoded`
    term      number of the list that the first posting belongs to
    low       the first document of the range
    cursors   int64[range]     in and out: where each row goes on
    terms     uint32[nnz]      out
    impacts   uint16[nnz]      out
    """
    at, size = 0, cursors.shape[0]
    for i in range(decoded.used[1] + 1):
        end = decoded.ends[i, 0] if i < decoded.used[1] else decoded.used[0]
        while at < end:
            doc = np.int64(decoded.docs[at]) - low
            if 0 <= doc < size:
                place = cursors[doc]
                cursors[doc] = place + 1
                terms[place], impacts[place] = term + i, decoded.impacts[at]
            at += 1
