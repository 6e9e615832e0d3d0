"""`Handles`: a short text for each pruned passage, with which whoever got the passage gets back what was dropped of it.

A handle of a passage in an index names the index, the passage, a hash of its text and what was kept; nothing is stored
for it, it outlives the server, and of a passage that has changed since it says so. A handle of a text that a request
brought along names an entry of a store that is bounded in bytes and in age. Handles are opaque: what is in one may
change. A handle opens for its owner only, and what it gives is read through the owner's view of the index, so that a
forged one shows nothing that a search would not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.checks import shown
from thresher.errors import InputError
from thresher.records import Passage, Span
from thresher.serve.refusals import RefusedError, not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from thresher.serve.keys import Caller

_OF_PASSAGE, _OF_TEXT = 1, 2
_HASH, _OWNER, _CHECK, _NAME = 8, 6, 3, 12
"""Bytes of a text's hash, of an owner's, of a handle's checksum, and of a stored text's name."""
_OVERHEAD = 400
"""Bytes that an entry of the store takes besides its texts."""
_LONGEST = 1_000_000
"""Characters of a handle."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """A passage with what was kept and what was dropped of it.

    Attributes:
        docno: its identifier.
        text: the whole passage.
        title: its title, empty where there is none.
        kept: half-open ranges of code points of `text`, ascending and disjoint.
        index: the name of the index it is in; None for a text that a request brought along.
    """

    docno: str
    text: str
    title: str = ""
    kept: tuple[Span, ...] = ()
    index: str | None = None

    @property
    def dropped(self) -> tuple[Span, ...]:
        """What lies between and beside what was kept; ranges of white space are left out."""
        ends = [0, *(span.end for span in self.kept)]
        starts = [*(span.start for span in self.kept), len(self.text)]
        gaps = (Span(end, start) for end, start in zip(ends, starts, strict=True) if end < start)
        return tuple(gap for gap in gaps if self.text[gap.start : gap.end].strip())

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {
            "index": self.index,
            "docno": self.docno,
            "title": self.title,
            "text": self.text,
            "kept": [[span.start, span.end] for span in self.kept],
            "dropped": [
                {"start": span.start, "end": span.end, "text": self.text[span.start : span.end]}
                for span in self.dropped
            ],
        }


def expanded(index: str | None, passage: Passage, spans: Iterable[Span] = ()) -> Expanded:
    """A passage with what was dropped of it.

    Args:
        index: the name of the index it is in.
        passage: the passage.
        spans: what was kept: half-open ranges of code points of its text, ascending and disjoint.

    Raises:
        InputError: the spans are not ascending ranges within the text.
    """
    kept, end = tuple(spans), 0
    for span in kept:
        if not end <= span.start < span.end <= len(passage.text):
            raise InputError(
                f"the span {span.start} to {span.end} is not a range of the {len(passage.text):,} characters of "
                f"passage {passage.docno!r} after the span before it; give ascending, disjoint ranges"
            )
        end = span.end
    return Expanded(passage.docno, passage.text, passage.title, kept, index)


def owner_of(caller: Caller) -> str:
    """Who a handle is given to, of the caller of a request: other keys and other filters are other owners."""
    return caller.name if caller.where is None else f"{caller.name}\0{caller.where.key}"


class Handles:
    """Gives handles and opens them. Safe to share between threads.

    Args:
        max_bytes: of the texts that requests brought along, all together; the oldest make room.
        seconds: how long such a text is kept.
        clock: seconds that only grow.
    """

    def __init__(
        self, max_bytes: int = 64 * 2**20, seconds: float = 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_bytes, self.seconds = max_bytes, seconds
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, int, bytes, Expanded]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of_passage(self, index: str, docno: str, text: str, spans: Iterable[Span], owner: str = "") -> str:
        """A handle of a passage that is in an index; nothing is stored.

        Args:
            index: the name of the index.
            docno: the passage.
            text: as the index has it.
            spans: what is kept of the text.
            owner: who may open it.
        """
        numbers, end = [], 0
        for span in spans:
            numbers += [span.start - end, span.end - span.start]
            end = span.end
        parts = [bytes([_OF_PASSAGE]), _hash(text), _digest(owner), _packed(index), _packed(docno)]
        return _written(b"".join([*parts, *map(_varint, numbers)]))

    def of_text(self, docno: str, title: str, text: str, spans: Iterable[Span], owner: str = "") -> str:
        """A handle of a text that a request brought along, which is kept here for a while.

        Args:
            docno: what it is called.
            title: its title, empty where there is none.
            text: the whole text.
            spans: what is kept of it.
            owner: who may open it.

        Raises:
            RefusedError: the text alone is larger than all that is kept.
        """
        found = Expanded(docno, text, title, tuple(spans))
        size = sum(len(one.encode("utf-8", "surrogatepass")) for one in (docno, title, text))
        size += _OVERHEAD + 100 * len(found.kept)
        if size > self.max_bytes:
            raise RefusedError(
                f"a text of {len(text):,} characters cannot be kept for its handle: the server keeps "
                f"{self.max_bytes:,} bytes of texts",
                413,
            )
        name, now = secrets.token_bytes(_NAME), self._clock()
        with self._lock:
            self._kept[name] = (now + self.seconds, size, _digest(owner), found)
            self._bytes += size
            self._make_room(now)
        return _written(bytes([_OF_TEXT]) + name)

    def open(self, handle: str, owner: str, passage_of: Callable[[str, str], Passage]) -> Expanded:
        """What a handle stands for.

        Args:
            handle: as it was given.
            owner: who opens it.
            passage_of: the passage of a docno in the index of a name, as the owner may see it; raises an `InputError`
                where there is none.

        Raises:
            RefusedError: 404, it is not a handle, or was given to another owner; 409, the passage has changed since;
                410, the passage is gone, or the text is no longer kept.
        """
        content = _read(handle)
        if content[0] == _OF_TEXT:
            return self._text(content[1:], owner)
        at = 1 + _HASH + _OWNER
        if content[1 + _HASH : at] != _digest(owner):
            raise _unknown(handle)
        try:
            index, at = _unpacked(content, at)
            docno, at = _unpacked(content, at)
            spans = tuple(_spans(content, at))
        except (ValueError, IndexError):
            raise _unknown(handle) from None
        try:
            passage = passage_of(index, docno)
        except InputError as err:
            raise RefusedError(f"the passage that this handle stands for is gone: {err}", 410) from None
        if _hash(passage.text) != content[1 : 1 + _HASH]:
            raise RefusedError(
                f"passage {docno!r} of the index {index!r} has changed since this handle was given; ask again", 409
            )
        return expanded(index, passage, spans)

    def _text(self, name: bytes, owner: str) -> Expanded:
        with self._lock:
            self._make_room(self._clock())
            found = self._kept.get(name)
        if found is None or found[2] != _digest(owner):
            raise RefusedError(
                f"the text that this handle stands for is no longer kept: texts that come with a request are kept for "
                f"{self.seconds:,.0f} seconds at most; send it again",
                410,
            )
        return found[3]

    def _make_room(self, now: float) -> None:
        """Drop what is too old, and the oldest where there is too much; the oldest expires first."""
        while self._kept and (self._bytes > self.max_bytes or next(iter(self._kept.values()))[0] <= now):
            self._bytes -= self._kept.popitem(last=False)[1][1]


def _unknown(handle: str) -> RefusedError:
    return not_found(f"{shown(handle)} is not a handle that was given to this key; use one as it came with a passage")


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_HASH]


def _digest(owner: str) -> bytes:
    return hashlib.sha256(owner.encode("utf-8", "surrogatepass")).digest()[:_OWNER]


def _written(content: bytes) -> str:
    """Bytes as text that fits a URL and a prompt; a checksum tells copying errors."""
    return base64.urlsafe_b64encode(content + hashlib.sha256(content).digest()[:_CHECK]).rstrip(b"=").decode()


def _read(handle: str) -> bytes:
    try:
        if len(handle) > _LONGEST:
            raise ValueError("too long")
        content = base64.b64decode(handle.encode("ascii") + b"=" * (-len(handle) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _unknown(handle) from None
    body, check = content[:-_CHECK], content[-_CHECK:]
    if not body or body[0] not in (_OF_PASSAGE, _OF_TEXT) or hashlib.sha256(body).digest()[:_CHECK] != check:
        raise _unknown(handle)
    return body


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _packed(text: str) -> bytes:
    content = text.encode("utf-8", "surrogatepass")
    return _varint(len(content)) + content


def _unpacked(content: bytes, at: int) -> tuple[str, int]:
    """The packed text that begins at a place, and where it ends."""
    size, at = _number(content, at)
    if size > len(content) - at:
        raise ValueError("cut short")
    return content[at : at + size].decode("utf-8", "surrogatepass"), at + size


def _number(content: bytes, at: int) -> tuple[int, int]:
    """The varint that begins at a place, and where it ends."""
    number = 0
    for shift in range(0, 63, 7):
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise ValueError("too large")


def _spans(content: bytes, at: int) -> Iterator[Span]:
    end = 0
    while at < len(content):
        gap, at = _number(content, at)
        size, at = _number(content, at)
        yield Span(end + gap, end + gap + size)
        end += gap + size
