"""QualT5: passage quality by a T5 that was trained to say whether a passage is relevant, without being told to what.

Chang, Kato, Yamamoto, MacAvaney and Macdonald (SIGIR 2024, "Neural Passage Quality Estimation for Static Pruning"). The
passage is put into `Document: {text} Relevant:`, one decoder step is taken from the start token, and the score is the
first entry of the log-softmax over the two target words (`true`, `false`; multilingual models name theirs in
`config.targets`): a log-probability, never positive, so an absolute threshold only makes sense below 0 or on quantiles.

Unlike the published code, texts are sorted by length before they are cut into batches, which changes padding and time
but no score beyond rounding, and accelerators run in half precision (bfloat16 where they have it: T5 overflows in
float16).
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

_PROMPT = "Document: {} Relevant:"
_MAX_TOKENS = 512


class QualT5:
    """The estimator, loaded when it first scores.

    Args:
        model: a directory or hub name, such as `pyterrier-quality/qt5-tiny`.
        device: `auto`, `cpu`, `cuda`.
        dtype: `auto` is half precision on an accelerator, single elsewhere.
        batch_size: passages a forward pass.
        download: let the model come from the hub.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 64,
        download: bool = False,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self._device = device
        self._dtype = dtype
        self._found = resolve(model, download=download)

    @property
    def name(self) -> str:
        """`qualt5:` and the model."""
        return f"qualt5:{self.model}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the model's files and the way the score is taken."""
        from thresher.encode.learned import directory_fingerprint

        return digest("qualt5", 1, directory_fingerprint(self._found.path))

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any, list[int]]:
        torch = require("torch", extra="models", purpose="QualT5")
        transformers = require("transformers", extra="models", purpose="QualT5")
        device = pick_device(self._device)
        dtype = getattr(torch, pick_dtype(self._dtype, device))
        if dtype == torch.float16 and torch.cuda.is_bf16_supported():
            dtype = torch.bfloat16
        path = str(self._found.path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(path, local_files_only=True, dtype=dtype)
        if model.config.decoder_start_token_id is None:
            raise ModelError(f"{self.model} names no decoder start token: it is not a T5 that QualT5 could run on")
        return torch, model.to(device).eval(), tokenizer, _targets(tokenizer, model.config, self.model)

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n], log-probabilities: the passage is relevant to something."""
        torch, model, tokenizer, targets = self._loaded
        out = np.empty(len(texts), np.float32)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        start = model.config.decoder_start_token_id
        with torch.inference_mode():
            for first in range(0, len(order), self.batch_size):
                rows = order[first : first + self.batch_size]
                encoded = tokenizer(
                    [_PROMPT.format(texts[i]) for i in rows],
                    padding=True,
                    truncation=True,
                    max_length=_MAX_TOKENS,
                    return_tensors="pt",
                ).to(model.device)
                begin = torch.full((len(rows), 1), start, device=model.device)
                logits = model(
                    input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], decoder_input_ids=begin
                ).logits
                out[rows] = logits[:, 0, targets].float().log_softmax(-1)[:, 0].cpu().numpy()
        if not np.isfinite(out).all():
            raise ModelError(f"{self.name} gave a score that is not a number; try dtype='float32'")
        return out


def _targets(tokenizer: Any, config: Any, model: str) -> list[int]:
    """First piece of the words for yes and no."""
    words = getattr(config, "targets", None) or ["true", "false"]
    pieces = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    if len(pieces) != 2 or not all(pieces):
        raise ModelError(f"{model} names the target words {words!r}; two that its tokenizer knows are needed")
    return [piece[0] for piece in pieces]
