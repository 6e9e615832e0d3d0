"""Encoded passages opened, whoever wrote them: `thresher encode`, `thresher export`, or another system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.encode.encoded import EncodedPassages
from thresher.errors import DataNotFoundError, InputError
from thresher.files import read_text_lines
from thresher.index.exchange.folder import KIND, ExportedFolder
from thresher.index.exchange.formats import FORMATS, format_of
from thresher.index.exchange.given import GivenVectors, Names
from thresher.manifest import load_manifest
from thresher.publish import MANIFEST
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thresher.encode.preencoded import Encoding
    from thresher.records import Passage


@checked_call
def open_encoded(
    path: str | Path, *, format: str = "", docnos: str | Path | None = None, vocabulary: str | Path | None = None
) -> Encoding:
    """Open encoded passages: what `thresher encode` or `thresher export` wrote, or a file in one of the formats.

    A folder that thresher did not write is read as JSON lines.

    Args:
        path: the file or folder.
        format: one of `thresher.index.exchange.formats.FORMATS`; by default the name gives it.
        docnos: for formats without them (`.npz`, `.csr`), a text file with one docno a line; by default row numbers
            serve.
        vocabulary: for data that numbers its terms, a text file with one term a line, in order of id; by default the
            numbers serve.

    Raises:
        DataNotFoundError: there is nothing at `path`.
        InputError: the name does not give the format, or the data is not in it.
    """
    path = Path(path)
    if not path.exists():
        raise DataNotFoundError(f"{path} does not exist; give a file or folder of encoded passages")
    if (path / MANIFEST).is_file() and not format:
        return ExportedFolder(path) if load_manifest(path).kind == KIND else EncodedPassages(path)
    made = FORMATS.make(format) if format else format_of(path)
    return made.open(path, Names(_lines(docnos), _lines(vocabulary)))


def _lines(file: str | Path | None) -> list[str] | None:
    return None if file is None else [line for _, line in read_text_lines(file)]


def open_several(
    paths: Sequence[str | Path],
    *,
    format: str = "",
    docnos: str | Path | None = None,
    vocabulary: str | Path | None = None,
) -> Encoding:
    """Open files of encoded passages as one, in this order; terms are matched by their strings.

    Args:
        paths: at least one; as `open_encoded` takes them.
        format: of all of them.
        docnos: as `open_encoded`; for one file.
        vocabulary: as `open_encoded`.

    Raises:
        InputError: none is given, some number their terms and others name them, or scales differ.
    """
    if not paths or (docnos is not None and len(paths) > 1):
        raise InputError(f"one file of docnos goes with one file of passages; got {len(paths)}")
    opened = [open_encoded(path, format=format, docnos=docnos, vocabulary=vocabulary) for path in paths]
    return opened[0] if len(opened) == 1 else JoinedVectors(opened)


class JoinedVectors(GivenVectors):
    """Encoded passages of several files, in one vocabulary, which is sorted where the files' differ."""

    def __init__(self, opened: Sequence[Encoding]) -> None:
        self.path = opened[0].path
        self._opened = opened
        own = [tuple(one.query_side.vocabulary) for one in opened]
        names = {isinstance(one, GivenVectors) and not one.named for one in opened}
        if len(names) > 1:
            raise InputError("some files name their terms and others number them; import them one by one")
        facts = [one.facts if isinstance(one, GivenVectors) else None for one in opened]
        scales = {None if one is None else (one.scale, one.bits, one.idf) for one in facts}
        if len(scales) > 1:
            raise InputError("the files have impacts of different scales; import them one by one", str(self.path))
        self.facts = facts[0]
        self.named = not names.pop()
        if not self.named:
            self.vocabulary = max(own, key=len)
        else:
            self.vocabulary = own[0] if len(set(own)) == 1 else tuple(sorted(set().union(*own)))
        numbers = self.numbers_of_words()
        self._ids = [np.array([numbers[word] for word in words], np.uint32) for words in own]

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        for one, ids in zip(self._opened, self._ids, strict=True):
            for passages, batch in one:
                terms = ids[batch.terms]
                rows = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
                order = np.lexsort((terms, rows))
                yield passages, SparseBatch(batch.indptr, terms[order], batch.weights[order])
