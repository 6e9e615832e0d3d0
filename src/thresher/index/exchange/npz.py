"""scipy's compressed rows: `.npz` as `scipy.sparse.save_npz` writes it, one row a passage; impacts as values.

`scipy.sparse.load_npz` reads what is written here. Docnos and terms are in text files beside it; the scale is in one
more array inside, which scipy ignores. Nothing is pickled, and files with pickled arrays are refused.
"""

from __future__ import annotations

import io
import zipfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from thresher.durable import replacing
from thresher.errors import InputError
from thresher.files import UNREADABLE_ARRAYS
from thresher.index.exchange.csr import CsrVectors, count_rows, read_array
from thresher.index.exchange.facts import Facts
from thresher.index.exchange.formats import Format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thresher.index.arrays import Array
    from thresher.index.exchange.documents import Documents
    from thresher.index.exchange.given import Names

_FACTS = "thresher"
_RATIO = 250
"""What a member may unpack to, in its own size: entries of a matrix do not compress better."""


class Npz(Format):
    """A compressed-row matrix of scipy."""

    name = "npz"
    title = "scipy compressed rows"
    suffixes = (".npz",)
    loses = "titles, texts and metadata"
    packs = False
    docnos = False

    def write(self, documents: Documents, file: Path) -> None:
        """The arrays of `save_npz`, uncompressed."""
        indptr = count_rows(documents)
        nnz, width = int(indptr[-1]), len(documents.words)
        index_type = np.dtype(np.int32 if max(nnz, width) < 2**31 else np.int64)
        impact_type = np.dtype(np.uint8 if documents.facts.bits == 8 else np.uint16)
        with replacing(file) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in (
                ("format", np.array(b"csr")),
                ("shape", np.array([len(documents), width], np.int64)),
                ("indptr", indptr.astype(index_type)),
                (_FACTS, np.frombuffer(documents.facts.text().encode(), np.uint8)),
            ):
                with archive.open(_member(name), "w") as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            with archive.open(_member("indices"), "w", force_zip64=True) as member:
                _write_header(cast("BinaryIO", member), index_type, nnz)
                for batch in documents.batches():
                    member.write(batch.rows.terms.astype(index_type).tobytes())
            with archive.open(_member("data"), "w", force_zip64=True) as member:
                _write_header(cast("BinaryIO", member), impact_type, nnz)
                for batch in documents.batches():
                    member.write(batch.rows.impacts.astype(impact_type).tobytes())

    def open(self, path: Path, names: Names) -> NpzVectors:
        """A matrix."""
        return NpzVectors(path, names)


class NpzVectors(CsrVectors):
    """A scipy compressed-row matrix, `scipy.sparse.save_npz`: one row a passage."""

    def __init__(self, path: Path, names: Names) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                kind = self._small(archive, "format")
                if kind.ndim or bytes(kind.item()) != b"csr":
                    raise InputError(f"the matrix is in {kind.item()!r} format; save it with tocsr()", str(path))
                shape = self._small(archive, "shape")
                if shape.shape != (2,) or shape.dtype.kind not in "iu" or not (shape >= 0).all():
                    raise InputError(f"its shape is {shape!r}; write the matrix again", str(path))
                n, width = (int(size) for size in shape)
                self.index_type, count = self._header(archive, "indices", "iu")
                self.value_type, values = self._header(archive, "data", "biuf")
                indptr_type, rows = self._header(archive, "indptr", "iu")
                if rows != n + 1 or values != count:
                    problem = f"{n} x {width} with {rows} row ends, {count} indices and {values} values"
                    raise InputError(f"its arrays do not fit together: {problem}; write it again", str(path))
                with self._opened(archive, "indptr") as stream:
                    indptr = read_array(stream, indptr_type, rows, path, "indptr").astype(np.int64)
                if names.facts is None and _member(_FACTS) in archive.namelist():
                    stored = self._small(archive, _FACTS)
                    text = stored.astype(np.uint8).tobytes().decode("utf-8", "replace")
                    names = names._replace(facts=Facts.from_text(text, str(path)))
        except InputError:
            raise
        except UNREADABLE_ARRAYS as err:
            raise self._refused(err) from err
        if indptr[-1] != count:
            raise InputError(f"its rows end at {indptr[-1]}, but it has {count} entries; write it again", str(path))
        self._take(path, names, indptr, width)

    @contextmanager
    def streams(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """The members `indices` and `data`, after their headers."""
        try:
            with ExitStack() as held:
                archive = held.enter_context(zipfile.ZipFile(self.path))
                indices, values = (held.enter_context(self._opened(archive, name)) for name in ("indices", "data"))
                yield indices, values
        except InputError:
            raise
        except UNREADABLE_ARRAYS as err:
            raise self._refused(err) from err

    def _refused(self, err: BaseException) -> InputError:
        problem = f"not a matrix of scipy.sparse.save_npz ({type(err).__name__}: {err})"
        return InputError(problem, str(self.path))

    @contextmanager
    def _opened(self, archive: zipfile.ZipFile, name: str) -> Iterator[BinaryIO]:
        """A member after its header."""
        with archive.open(_member(name)) as member:
            _read_header(cast("BinaryIO", member))
            yield cast("BinaryIO", member)

    def _header(self, archive: zipfile.ZipFile, name: str, kinds: str) -> tuple[np.dtype[np.generic], int]:
        """Type and length of the array that a member holds, checked with the member's size."""
        info = archive.getinfo(_member(name))
        with archive.open(info) as member:
            shape, _, dtype = _read_header(cast("BinaryIO", member))
            begun = member.tell()
        if len(shape) != 1 or dtype.hasobject or dtype.kind not in kinds:
            raise InputError(f"an array is {dtype}{shape}; write the matrix again", str(self.path))
        if info.file_size != begun + shape[0] * dtype.itemsize or info.file_size > _RATIO * info.compress_size + 2**16:
            problem = f"{name} should have {shape[0]} entries, and its member {info.file_size} bytes"
            raise InputError(f"{problem} ({info.compress_size} packed); write the matrix again", str(self.path))
        return dtype, shape[0]

    def _small(self, archive: zipfile.ZipFile, name: str) -> Array:
        """An array of a few entries."""
        with archive.open(_member(name)) as member:
            content = member.read(2**13)
        array: Array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        return array


def _member(name: str) -> str:
    return f"{name}.npy"


def _write_header(stream: BinaryIO, dtype: np.dtype[np.generic], count: int) -> None:
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(stream, fields)


def _read_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        found = np.lib.format.read_array_header_1_0(stream)
    else:
        found = np.lib.format.read_array_header_2_0(stream)
    return cast("tuple[tuple[int, ...], bool, np.dtype[np.generic]]", found)
