"""What an export says of the index that it came from, so that an import makes the same index of it.

A format that has a place for it (the description of CIFF, the metadata of parquet) holds it in the file itself; the
manifest of an exported folder always does.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal

from thresher.checks import is_a, shown
from thresher.encode.terms import LinearScale
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "thresher"
"""The key under which facts stand in a file of another format."""
_LONGEST = 4096
"""Characters that facts take at most."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds of all documents of an export.

    Attributes:
        documents: how many.
        terms: of the vocabulary.
        scale: weight of impact 1.
        bits: width of an impact, 8 or 16.
        vocabulary: sha256 of the terms by id, see `vocabulary_hash`; empty where it is not known.
        idf: whether impacts are BM25's: the index multiplies query weights by the IDF.
        encoder: name of the encoder that weighted the passages; empty where it is not known.
        fingerprint: of that encoder.
        order: order of the documents: `source`, as they were indexed; or `index`, as the index reordered them.
    """

    documents: int
    terms: int
    scale: float = 1.0
    bits: Literal[8, 16] = 8
    vocabulary: str = ""
    idf: bool = False
    encoder: str = ""
    fingerprint: str = ""
    order: str = "source"

    @property
    def impacts(self) -> LinearScale:
        """The scale of the impacts."""
        return LinearScale(self.scale, self.bits)

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)

    def text(self) -> str:
        """One line of JSON under the key `thresher`, as `from_text` reads it."""
        return json.dumps({MARK: self.as_json()}, separators=(",", ":"))

    @classmethod
    def of(cls, document: object, source: str) -> Facts:
        """The facts of a JSON object.

        Args:
            document: what `as_json` made.
            source: the file, for messages.

        Raises:
            InputError: a value has another type or makes no sense.
        """
        found = document if isinstance(document, dict) else {}
        values = [found.get(each.name, each.default) for each in fields(cls)]
        values = [
            float(value) if each.name == "scale" and is_a(value, int) else value
            for each, value in zip(fields(cls), values, strict=True)
        ]
        kinds = (int, int, float, int, str, bool, str, str, str)
        for each, value, kind in zip(fields(cls), values, kinds, strict=True):
            fine = is_a(value, kind) and (each.name not in ("documents", "terms") or 0 <= value < 2**63)
            fine = fine and (each.name != "bits" or value in (8, 16))
            if not fine or (each.name == "scale" and not 0 < value < math.inf):
                problem = f"{each.name} is {shown(value)}" if each.name in found else f"{each.name} is missing"
                raise InputError(f"what it says of the index that it came from is wrong: {problem}", source)
        return cls(*values)

    @classmethod
    def from_text(cls, text: str, source: str) -> Facts | None:
        """The facts in a text that another format has a place for; None where it holds none.

        Raises:
            InputError: it holds damaged ones.
        """
        if f'"{MARK}"' not in text[:_LONGEST] or len(text) > _LONGEST:
            return None
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or MARK not in document:
            return None
        return cls.of(document[MARK], source)


def vocabulary_hash(words: Iterable[str]) -> str:
    """sha256 of the terms in order of their ids, a line feed between them; hexadecimal."""
    return hashlib.sha256("\n".join(words).encode("utf-8", "surrogatepass")).hexdigest()
