"""Sparse tensors of sentence-transformers' `SparseEncoder`: in `.safetensors` files, or as `encode` returns them.

A file holds the parts of a torch tensor by the names of its methods: `crow_indices`, `col_indices` and `values` of
compressed rows, or `indices` (2 x entries, rows ascending) and `values` of coordinates. Files of `torch.save` are
pickles and are not read: `safetensors.torch.save_file({"crow_indices": t.crow_indices(), ...}, path)` writes what is.
"""

from __future__ import annotations

import io
import json
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np

from thresher.checks import shown
from thresher.durable import replacing
from thresher.errors import InputError
from thresher.index.exchange.csr import CsrVectors, count_rows, read_array
from thresher.index.exchange.facts import MARK, Facts
from thresher.index.exchange.formats import Format
from thresher.index.exchange.given import Names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from thresher.index.exchange.documents import Documents

_TYPES = {
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
_LONGEST_HEADER = 2**20


class Tensors(Format):
    """A sparse tensor of compressed rows."""

    name = "safetensors"
    title = "sentence-transformers sparse tensors"
    suffixes = (".safetensors",)
    loses = "titles, texts and metadata"
    packs = False
    docnos = False

    def write(self, documents: Documents, file: Path) -> None:
        """Row ends, columns and values, as `torch.sparse_csr_tensor` takes them."""
        indptr = count_rows(documents)
        entries, at = int(indptr[-1]), 0
        header: dict[str, dict[str, object]] = {}
        rows = ("crow_indices", "I64", len(indptr))
        for name, kind, count in (rows, ("col_indices", "I64", entries), ("values", "F32", entries)):
            size = count * _TYPES[kind].itemsize
            header[name] = {"dtype": kind, "shape": [count], "data_offsets": [at, at + size]}
            at += size
        shape = json.dumps([len(documents), len(documents.words)])
        text = json.dumps({"__metadata__": {"shape": shape, MARK: documents.facts.text()}, **header}).encode()
        text += b" " * (-len(text) % 8)
        with replacing(file) as stream:
            stream.write(len(text).to_bytes(8, "little") + text + indptr.astype("<i8").tobytes())
            for batch in documents.batches():
                stream.write(batch.rows.terms.astype("<i8").tobytes())
            for batch in documents.batches():
                stream.write(batch.rows.impacts.astype("<f4").tobytes())

    def open(self, path: Path, names: Names) -> TensorFile:
        """A file."""
        return TensorFile(path, names)


class TensorFile(CsrVectors):
    """The rows of a tensor in a `.safetensors` file; its header is checked with the file's size."""

    def __init__(self, path: Path, names: Names) -> None:
        self.path = path
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(_LONGEST_HEADER, path.stat().st_size - 8):
                raise InputError(f"its header takes {length} bytes; not a safetensors file, or damaged", str(path))
            try:
                self._header = json.loads(stream.read(length))
            except (ValueError, RecursionError) as err:
                raise InputError(f"its header is not JSON ({err}); not a safetensors file", str(path)) from err
            self._begin = 8 + length
            if not isinstance(self._header, dict):
                raise InputError("its header is not an object; not a safetensors file", str(path))
            said = self._header.get("__metadata__")
            known = said if isinstance(said, dict) else {}
            indptr = self._rows(stream)
        if names.facts is None and isinstance(known.get(MARK), str):
            names = names._replace(facts=Facts.from_text(known[MARK], str(path)))
        self._take(path, names, indptr, self._width(known, names))

    def _rows(self, stream: BinaryIO) -> NDArray[np.int64]:
        """Where rows begin, from either form."""
        if "crow_indices" in self._header:
            start, kind, shape = self._tensor("crow_indices", "iu", 1)
            stream.seek(start)
            indptr = read_array(stream, kind, shape[0], self.path, "crow_indices").astype(np.int64)
            columns, entries = self._tensor("col_indices", "iu", 1), int(indptr[-1]) if len(indptr) else -1
            self._starts, self.index_type = [columns[0]], columns[1]
            if columns[2][0] != entries:
                raise self._refused(f"rows that end at {entries} and {columns[2][0]} columns")
        else:
            start, kind, shape = self._tensor("indices", "iu", 2)
            if shape[0] != 2:
                raise self._refused(f"indices of the shape {shape}")
            stream.seek(start)
            rows, entries = read_array(stream, kind, shape[1], self.path, "indices"), shape[1]
            if bool((rows[1:] < rows[:-1]).any()) or (entries and not 0 <= int(rows[0]) <= int(rows[-1]) < 2**40):
                raise self._refused("rows that do not ascend; call coalesce() before saving")
            last = int(rows[-1]) + 1 if entries else 0
            if last > 64 * entries + 2**16:
                raise self._refused(f"{last} rows for {entries} entries")
            indptr = np.searchsorted(rows, np.arange(last + 1)).astype(np.int64)
            self._starts, self.index_type = [start + entries * kind.itemsize], kind
        values = self._tensor("values", "iuf", 1)
        if values[2][0] != entries:
            raise self._refused(f"{entries} entries and {values[2][0]} values")
        self._starts.append(values[0])
        self.value_type = values[1]
        if not len(indptr):
            raise self._refused("no row ends")
        return indptr

    def _tensor(self, name: str, kinds: str, dimensions: int) -> tuple[int, np.dtype[np.generic], list[int]]:
        """Where a tensor begins in the file, its type and its shape, checked with the file's size."""
        said = self._header.get(name)
        said = said if isinstance(said, dict) else {}
        kind = _TYPES.get(str(said.get("dtype")))
        shape, span = _sizes(said.get("shape"), dimensions), _sizes(said.get("data_offsets"), 2)
        room = self.path.stat().st_size - self._begin
        if kind is None or kind.kind not in kinds or shape is None or span is None:
            raise self._refused(f"tensor {name} as {shown(said)}")
        size = kind.itemsize
        for n in shape:
            size *= n
        if span[1] - span[0] != size or span[1] > room:
            raise self._refused(f"tensor {name} of {size} bytes at {span}, of {room}")
        return self._begin + span[0], kind, shape

    def _width(self, known: dict[str, object], names: Names) -> int:
        """Columns: what the file says, else as many as terms are given."""
        try:
            shape = json.loads(str(known.get("shape", "null")))
        except (ValueError, RecursionError):
            shape = None
        if isinstance(shape, list) and len(shape) == 2 and type(shape[1]) is int and 0 <= shape[1] < 2**31:
            return int(shape[1])
        if names.vocabulary is not None:
            return len(names.vocabulary)
        raise InputError("it does not say how many columns there are; give their names (vocabulary)", str(self.path))

    def _refused(self, problem: str) -> InputError:
        return InputError(f"{problem}; not a sparse tensor of rows, or damaged", str(self.path))

    @contextmanager
    def streams(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """The columns and the values."""
        with ExitStack() as held:
            indices, values = (held.enter_context(self.path.open("rb")) for _ in range(2))
            indices.seek(self._starts[0])
            values.seek(self._starts[1])
            yield indices, values


def _sizes(value: object, count: int) -> list[int] | None:
    """A list of this many whole numbers; None where it is not one."""
    fine = isinstance(value, list) and len(value) == count and all(type(n) is int and 0 <= n < 2**60 for n in value)
    return value if isinstance(value, list) and fine else None


class Tensor(Protocol):
    """A sparse tensor of torch, of two dimensions."""

    @property
    def shape(self) -> Sequence[int]:
        """Rows and columns."""

    def to_sparse_coo(self) -> Tensor:
        """The same in coordinates."""

    def coalesce(self) -> Tensor:
        """The same with coordinates ascending, each once."""

    def indices(self) -> Tensor:
        """Coordinates, 2 x entries."""

    def values(self) -> Tensor:
        """Values."""

    def cpu(self) -> Tensor:
        """The same in main memory."""

    def float(self) -> Tensor:
        """The same as float32."""

    def numpy(self) -> NDArray[np.float32]:
        """A dense tensor as an array."""


class TensorRows(CsrVectors):
    """What `SparseEncoder.encode` returns, as encoded passages.

    Args:
        tensor: a sparse tensor, one row a passage.
        docnos: of its rows; by default their numbers.
        vocabulary: the terms by column, as `model.tokenizer` has them; by default their numbers.
        name: what messages call it.
    """

    def __init__(
        self,
        tensor: Tensor,
        docnos: Sequence[str] | None = None,
        vocabulary: Sequence[str] | None = None,
        name: str = "tensor",
    ) -> None:
        entries = tensor.cpu().to_sparse_coo().coalesce()
        (rows, columns), values = entries.indices().numpy(), entries.values().float().numpy()
        self.index_type, self.value_type = columns.dtype, values.dtype
        self._contents = columns.tobytes(), values.tobytes()
        indptr = np.searchsorted(rows, np.arange(int(tensor.shape[0]) + 1)).astype(np.int64)
        self._take(Path(name), Names(docnos, vocabulary), indptr, int(tensor.shape[1]))

    @contextmanager
    def streams(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """The columns and the values."""
        yield io.BytesIO(self._contents[0]), io.BytesIO(self._contents[1])
