"""`thresher export` and `thresher import`: an index in the formats of other engines, and from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thresher.cli.output import JsonOption, WhereOption, emit_json, progress_wanted, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thresher.index.exchange.documents import Vectors

_FORMATS = (
    "ciff, anserini, bigann, npz, safetensors, parquet; and for engines qdrant, milvus, elasticsearch, opensearch, "
    "opensearch:ann, vespa, vespa:weightedset; the vectors alone: faiss, faiss:ivf, faiss:hnsw."
)


def export(
    index: Annotated[Path, typer.Argument(help="The index.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    format: Annotated[str, typer.Option(help=_FORMATS)] = "ciff",
    tiers: Annotated[
        Literal["first", "both"], typer.Option(help="Of an index with two tiers: both, or only the first.")
    ] = "both",
    where: WhereOption = None,
    shards_of: Annotated[int | None, typer.Option(min=1, metavar="N", help="Split into files of N passages.")] = None,
    gz: Annotated[bool, typer.Option("--gz", help="Compress files with gzip.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    json: JsonOption = False,
) -> None:
    """Write an index to a folder in a format that other engines read.

    The folder holds the documents, the vocabulary, the query encoder, and a manifest with the scale of the impacts, so
    that `thresher import` makes an index with the same scores of it.

    \b
    Examples:
      thresher export my-index -o my-ciff
      thresher export my-index -o vectors --format anserini --gz --shards-of 1000000
      thresher export my-index -o recent --format parquet --tiers first --where "year >= 2020"
      thresher export my-index -o for-qdrant --format qdrant
    """
    from thresher.index.exchange.folder import export_index

    made = export_index(
        index,
        output,
        format=format,
        tiers=tiers,
        where=where,
        shards_of=shards_of,
        gz=gz,
        overwrite=overwrite,
        vectors=_vectors_of(index, format),
    )
    if json:
        emit_json(made.as_json())
    else:
        files = made.files[0] if len(made.files) == 1 else f"{len(made.files)} files"
        say(f"{output}: {made.facts.documents:,} passages in {files}, {made.bytes:,} bytes")


def _vectors_of(index: Path, format: str) -> Vectors | None:
    """What gives the index's dense vectors, where the format holds them and there are any."""
    from thresher.index.exchange.formats import FORMATS

    if not FORMATS.make(format).vectors:
        return None
    import numpy as np

    from thresher.search import Index

    store = Index.open(index).vectors
    if store is None:
        return None

    def vectors(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        places = store.find_numbers(numbers)
        found = np.full((len(numbers), store.dimensions), np.nan, np.float32)
        rows, starts = store.rows_of(places[places >= 0])
        found[places >= 0] = store.stored.decode(rows[starts[:-1]])  # of several vectors the first
        return found

    return vectors


def export_queries(
    index: Annotated[Path, typer.Argument(help="The index that was exported.")],
    exported: Annotated[Path, typer.Argument(help="The folder of the export, for an engine such as qdrant.")],
    queries: Annotated[Path, typer.Argument(help="Queries: TSV `qid<TAB>text`, or JSON lines with text or vector.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write: JSON lines.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Passages to return.")] = 10,
) -> None:
    """Write queries as the requests with which an engine gives the scores of the index it was filled from.

    Each line is `{"qid", "body"}`; the body is what the engine's search takes.

    \b
    Examples:
      thresher export-queries my-index for-qdrant queries.tsv -o requests.jsonl -k 100
    """
    from thresher.durable import replacing
    from thresher.encode.preencoded import read_queries_for
    from thresher.encode.query_side import TermsOnly
    from thresher.index.exchange.bulk import as_json
    from thresher.search import Index
    from thresher.search.requests import search_requests

    found, count = Index.open(index), 0
    read = read_queries_for(queries, texts=not isinstance(found.encoder, TermsOnly))
    with replacing(output) as stream:
        for qid, (_, body) in zip(read, search_requests(found, exported, read.values(), k), strict=True):
            stream.write(as_json({"qid": qid, "body": body}) + b"\n")
            count += 1
    say(f"{output}: {count:,} requests")


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="What to import: files or folders, of `thresher export` or another system.")
    ],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Index to write.")],
    format: Annotated[str, typer.Option(help="Format of the files, if their names do not say.")] = "",
    query_encoder: Annotated[str, typer.Option(help="Encoder for queries; by default that of the export.")] = "",
    texts: Annotated[str, typer.Option(help="Corpus with the passages' texts, for formats without them.")] = "",
    docnos: Annotated[Path | None, typer.Option(help="For formats without docnos: a file with one a line.")] = None,
    vocabulary: Annotated[Path | None, typer.Option(help="For formats that number terms: one term a line.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing index.")] = False,
    json: JsonOption = False,
) -> None:
    """Make an index of passages that were weighted elsewhere, or of an export.

    Whole weights up to 65,535 are kept as they are, others become impacts of 8 bits. An export gives the index that it
    came from: the same scores, the same order, the same query encoder.

    \b
    Examples:
      thresher import my-ciff -o my-index
      thresher import splade.ciff.gz -o my-index --texts corpus.jsonl --query-encoder splade:MODEL
      thresher import base.csr -o my-index --docnos docnos.txt --vocabulary terms.txt
    """
    from thresher.build.recipe import Recipe
    from thresher.build.stream import build_index
    from thresher.cli.build import show_build
    from thresher.index.exchange.opening import open_several

    recipe = Recipe()
    encode = recipe.encode.model_copy(update={"query_encoder": query_encoder, "source": str(files[0])})
    report = build_index(
        output,
        texts or None,
        recipe.model_copy(update={"encode": encode}),
        encoded=open_several(files, format=format, docnos=docnos, vocabulary=vocabulary),
        overwrite=overwrite,
        progress=progress_wanted() and not json,
    )
    if json:
        emit_json(report.as_json())
    else:
        show_build(report)
