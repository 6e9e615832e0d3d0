"""From a name to the learned encoder: the one that ships, one trained with `fit`, or any of sentence-transformers'."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from thresher.models.resolve import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.encode import SparseEncoder


def open_sparse_encoder(
    model: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 32,
    max_active_terms: int | None = None,
    download: bool = False,
) -> SparseEncoder:
    """Load the learned sparse encoder `model`; BM25, which is fitted to a corpus, is in `thresher.encode.bm25`.

    Args:
        model: `thresher-mini`, a directory, or a hub identifier.
        device: `auto`, or what torch calls it.
        dtype: `auto`, `float32`, `float16`, `bfloat16`.
        batch_size: passages a forward pass.
        max_active_terms: keep at most that many of a passage's heaviest terms; None keeps the model's own limit.
        download: fetch a hub model that is not in the cache.

    Raises:
        DataNotFoundError: the model is not on this machine.
        MissingExtraError: what it needs is not installed.
        ModelError: the directory holds no sparse encoder.
    """
    found = resolve(model, download=download)
    if _is_expansion(found.path):
        from thresher.encode.expansion import ExpansionEncoder

        return ExpansionEncoder(
            model, device=device, dtype=dtype, batch_tokens=batch_size * 128, max_active_terms=max_active_terms
        )
    from thresher.encode.learned import LearnedSparseEncoder

    return LearnedSparseEncoder(
        model,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        max_active_terms=max_active_terms,
        download=download,
    )


def _is_expansion(directory: Path) -> bool:
    try:
        return bool(json.loads((directory / "config.json").read_bytes()).get("type") == "thresher-expansion")
    except (OSError, ValueError, AttributeError):
        return False
