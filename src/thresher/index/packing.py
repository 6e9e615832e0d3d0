"""How a passage is stored: its title, text and metadata in one JSON array; its docno is stored apart."""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from thresher.errors import InputError

if TYPE_CHECKING:
    from thresher.records import Passage


def pack_passage(passage: Passage) -> bytes:
    """Title, text and metadata of a passage as one JSON array: self-delimiting, readable, safe for any characters."""
    fields = f"{encode_basestring(passage.title)},{encode_basestring(passage.text)}"
    if passage.metadata:
        try:
            fields += "," + json.dumps(dict(passage.metadata), ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as err:
            raise InputError(f"the metadata of passage {passage.docno!r} cannot be stored ({err})") from err
    return f"[{fields}]".encode("utf-8", "surrogatepass")


def unpack_fields(packed: bytes) -> tuple[str, str, dict[str, object]]:
    """Title, text and metadata of a stored passage.

    Raises:
        ValueError, TypeError, RecursionError: it is not what the builder wrote.
    """
    title, text, *rest = json.loads(packed.decode("utf-8", "surrogatepass"))
    metadata = rest[0] if rest else {}
    if not (isinstance(title, str) and isinstance(text, str) and isinstance(metadata, dict)):
        raise TypeError("not a title, a text and metadata")
    return title, text, metadata
