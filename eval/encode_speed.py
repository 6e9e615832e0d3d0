"""Encoding speed against the sentence-transformers call a user would write: same model, batch and device, in one run.

Writes eval/results/encode-speed.json. Passages are the first of every 600 of msmarco-v1-mini. The SPLADE-sized model
has random weights (six layers of 768 dimensions and the masked-language-model head over 30,522 pieces: the time of a
forward pass does not depend on what the weights are). Both sides run alternately, `--rounds` times on one thread; the
figure is the best round by processor time, so that other load on the machine counts little.
"""

from __future__ import annotations

import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.bench import Bench, Row, options
from thresher.encode.dense import TransformerEncoder
from thresher.encode.learned import LearnedSparseEncoder
from thresher.encode.splade import SpladeEncoder
from thresher.evaluate.collections import load
from thresher.models.files import embedded_path
from thresher.models.minilm import MiniLM

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

BATCH = 32


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("encode-speed", __doc__)
    parser.add_argument("--passages", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    import torch
    from sentence_transformers import SentenceTransformer, SparseEncoder

    torch.set_num_threads(1)
    corpus = load("trec-dl-2019").corpus
    texts = [passage.contents for passage in islice(corpus, 0, None, 600)][: given.passages]
    with tempfile.TemporaryDirectory() as folder:
        splade_sized(Path(folder))
        ours: Any = LearnedSparseEncoder(Path(folder), device=given.device, batch_size=BATCH)
        theirs: Any = SparseEncoder(folder, device=given.device)
        rows = compare(
            "SPLADE-sized, random weights",
            texts,
            lambda: ours.encode_passages(texts),
            lambda: theirs.encode_document(texts, batch_size=BATCH, show_progress_bar=False),
            given,
        )
    dense = SentenceTransformer(str(embedded_path()), device=given.device)
    minilm, encoder = MiniLM(device=given.device), TransformerEncoder(device=given.device, batch_size=BATCH)
    mini = SpladeEncoder(device=given.device)

    def theirs_dense() -> Any:
        return dense.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)

    rows += compare("MiniLM, DenseEncoder", texts, lambda: encoder.encode_passages(texts), theirs_dense, given)
    rows += compare("MiniLM, pooled states", texts, lambda: minilm.pooled(minilm.pieces(texts)), theirs_dense, given)
    rows += compare(
        "thresher-mini, against MiniLM alone", texts, lambda: mini.encode_passages(texts), theirs_dense, given
    )
    bench.write(
        "encode-speed",
        rows,
        seed=0,
        packages=["torch", "transformers", "sentence-transformers"],
        title="Encoding speed",
        note=f"{len(texts)} passages, batches of {BATCH}, {given.device}, one thread. ratio: thresher's rate over "
        "sentence-transformers'. thresher-mini does more than the call beside it, which gives dense vectors only.",
    )


def compare(
    model: str, texts: list[str], ours: Callable[[], Any], theirs: Callable[[], Any], given: argparse.Namespace
) -> list[Row]:
    """One row: passages a second of processor time on both sides, and their ratio."""
    best = {"thresher": float("inf"), "sentence-transformers": float("inf")}
    for _ in range(given.rounds):
        for name, call in (("thresher", ours), ("sentence-transformers", theirs)):
            started = time.process_time() if given.device == "cpu" else time.perf_counter()
            call()
            ended = time.process_time() if given.device == "cpu" else time.perf_counter()
            best[name] = min(best[name], ended - started)
    rates = {f"{name}_passages_per_s": len(texts) / seconds for name, seconds in best.items()}
    print(model, rates, flush=True)
    ratio = best["sentence-transformers"] / best["thresher"]
    return [{"model": model, "device": given.device, **rates, "ratio": ratio}]


def splade_sized(folder: Path) -> None:
    """Save a SPLADE model of six layers with random weights, over MiniLM's word pieces."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sentence_transformer.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as base:
        config = BertConfig(hidden_size=768, num_hidden_layers=6, num_attention_heads=12, intermediate_size=3072)
        BertForMaskedLM(config).save_pretrained(base)
        AutoTokenizer.from_pretrained(embedded_path()).save_pretrained(base)
        modules = [Transformer(base, transformer_task="fill-mask", max_seq_length=256), SpladePooling()]
        SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder))
