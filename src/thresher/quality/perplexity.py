"""Perplexity of a passage under a causal language model, as a quality estimator.

The score is the mean log-probability of the passage's tokens given those before it, the negative logarithm of the
perplexity: higher is more fluent. Texts are cut at the model's context (at most `max_tokens`); the first token is
predicted from the beginning-of-text token where the tokenizer has one, and not counted where it has none.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ModelError, require
from thresher.models.resolve import pick_device, pick_dtype, resolve
from thresher.quality.estimator import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_EMPTY = -100.0
_IGNORED = -100


class Perplexity:
    """The estimator, loaded when it first scores.

    Args:
        model: a directory or hub name of any causal language model.
        device: `auto`, `cpu`, `cuda`.
        dtype: `auto` is half precision on an accelerator, single elsewhere.
        batch_size: passages a forward pass.
        max_tokens: what is read of a passage.
        download: let the model come from the hub.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
        max_tokens: int = 512,
        download: bool = False,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self._device = device
        self._dtype = dtype
        self._found = resolve(model, download=download)

    @property
    def name(self) -> str:
        """`perplexity:` and the model."""
        return f"perplexity:{self.model}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the model's files and how much is read."""
        from thresher.encode.learned import directory_fingerprint

        return digest("perplexity", 1, directory_fingerprint(self._found.path), self.max_tokens)

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        torch = require("torch", extra="models", purpose="perplexity")
        transformers = require("transformers", extra="models", purpose="perplexity")
        device = pick_device(self._device)
        path = str(self._found.path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        dtype = getattr(torch, pick_dtype(self._dtype, device))
        model = transformers.AutoModelForCausalLM.from_pretrained(path, local_files_only=True, dtype=dtype)
        return torch, model.to(device).eval(), tokenizer

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n], mean log-probability a token; the least there is for a text without a predicted token."""
        torch, model, tokenizer = self._loaded
        beginning = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        limit = min(self.max_tokens, getattr(model.config, "max_position_embeddings", None) or self.max_tokens)
        rows = [
            beginning + tokenizer.encode(text, add_special_tokens=False)[: limit - len(beginning)] for text in texts
        ]
        out = np.full(len(texts), _EMPTY, np.float32)
        order = sorted((i for i in range(len(rows)) if len(rows[i]) > 1), key=lambda i: -len(rows[i]))
        with torch.inference_mode():
            for first in range(0, len(order), self.batch_size):
                chosen = order[first : first + self.batch_size]
                out[chosen] = self._mean_log_probability(torch, model, [rows[i] for i in chosen])
        if not np.isfinite(out).all():
            raise ModelError(f"{self.name} gave a score that is not a number; try dtype='float32'")
        return out

    @staticmethod
    def _mean_log_probability(torch: Any, model: Any, rows: list[list[int]]) -> NDArray[np.float32]:
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        ids, mask = ids.to(model.device), mask.to(model.device)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, _IGNORED)
        loss = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=_IGNORED, reduction="none"
        )
        result: NDArray[np.float32] = -(loss.sum(1) / mask[:, 1:].sum(1)).cpu().numpy()
        return result
