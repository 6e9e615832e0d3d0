"""Records of parquet files and of `ir_datasets`; both need an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher.corpus.rows import Problem, Row
from thresher.errors import DataNotFoundError, InputError, require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BATCH = 2048


def read_parquet(path: Path) -> Iterator[Row | Problem]:
    """The rows of a parquet file, a batch in memory at a time; the line of a row is its number."""
    parquet: Any = require("pyarrow.parquet", extra="parquet", purpose="reading parquet")
    if not path.is_file():
        reason = "parquet cannot be read from a pipe; save it to a file" if path.exists() else "no such file"
        raise DataNotFoundError(f"{path}: {reason}")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(str(path), number, fields)
    except UnicodeDecodeError as err:
        raise InputError(f"a string is not UTF-8 ({err.reason})", str(path), number + 1) from err
    except (OSError, ValueError) as err:  # pyarrow's errors are of these kinds
        raise InputError(f"cannot be read as parquet: {err}", str(path), number) from err


def read_ir_dataset(name: str) -> Iterator[Row | Problem]:
    """The documents of an `ir_datasets` dataset: `doc_id`, `title` where it has one, and its text.

    Raises:
        DataNotFoundError: no dataset has that name, or it has no documents, or they cannot be fetched.
        MissingExtraError: `ir_datasets` is not installed.
    """
    library: Any = require("ir_datasets", extra="eval", purpose=f"the corpus ir_datasets:{name}")
    try:
        dataset = library.load(name)
    except KeyError as err:
        raise DataNotFoundError(f"ir_datasets knows no dataset {name!r}; see ir-datasets.com for the names") from err
    if not dataset.has_docs():
        raise DataNotFoundError(f"the dataset {name!r} of ir_datasets has no documents")
    try:
        for number, document in enumerate(dataset.docs_iter(), 1):
            yield Row(f"ir_datasets:{name}", number, _fields(document))
    except (OSError, RuntimeError) as err:
        raise DataNotFoundError(
            f"the documents of {name!r} are not on this machine and cannot be fetched ({type(err).__name__}: {err}); "
            "download them as ir-datasets.com says, or give a file"
        ) from err


def _fields(document: Any) -> dict[str, Any]:
    fields = dict(document._asdict())
    docno = fields.pop("doc_id", None)
    if not isinstance(fields.get("text"), str):
        title = fields.get("title") or ""
        text = document.default_text()
        fields = {"title": title, "text": text.removeprefix(title).lstrip() if title else text}
    return {"docno": docno, **fields}
