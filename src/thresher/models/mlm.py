"""A BERT masked-language model as a sparse encoder (SPLADE), without ever holding the logits of a batch.

The weight of word piece t in a text is log(1 + relu(max over tokens i of h_i' w_t + b_t)), with h the states after the
head's transform and w_t the word's row of the decoder (Formal et al., arXiv 2109.10086). A batch of 32 texts of 256
tokens has a gigabyte of logits over 30,522 pieces, most of them below 0. Here the product is taken block by block and
reduced while a block is in the cache, on a CPU in the engine's type (int8 or bfloat16); the pieces that can be among
the heaviest are then computed again in float32, so that a weight that is kept is as exact as the states are. Texts are
packed without padding, several passes run side by side with one thread each, and a row is the same, bit for bit,
whatever else is encoded.

A text longer than the model reads comes as windows: a piece's weight is its largest in any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch.nn import functional

from thresher.errors import ModelError
from thresher.models.backend import open_body
from thresher.models.bert import Bert
from thresher.models.hf import report, single_threaded
from thresher.models.int8 import padded
from thresher.models.kernels import raise_peaks
from thresher.models.packed import packs
from thresher.models.two_headed import JoinedBertConfig, checked_weight, load_body, pad
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from thresher.models.backend import Backend

Activation = Literal["relu", "log1p_relu"]
_Row: TypeAlias = "tuple[NDArray[np.uint32], NDArray[np.float32]]"  # terms and weights of a text
_HEAD = "cls.predictions.transform"
_TOKENS = 512
"""Tokens of a pass, and of a product."""
_BLOCK = 1 << 19
"""Sums of an integer product that exist at once: 2 MB, which a core's cache holds about."""
_SPARE = 64
"""Candidates beyond the terms that are kept; what a low precision ranks lower than that is lost."""
_NEAR = 0.3
"""Logits this far below 0 are computed again where all positive ones are kept."""
_WIDEST = 8192  # pieces of a block of a product with few rows


class MaskedLM:
    """A BERT with its language-model head, frozen.

    Args:
        config: the `config.json` of a Hugging Face BertForMaskedLM.
        weights: its tensors by name; the decoder is tied to the word embeddings unless it is among them.
        device: a torch device.
        backend: the engine on a CPU.
        special: ids of pieces that get no weight.
        activation: `relu`, or `log1p_relu`, which takes the logarithm twice (arXiv 2504.14839).

    Attributes:
        width: number of word pieces.
        positions: longest window.
        batch_tokens: word pieces in a pass of an accelerator.

    Raises:
        ModelError: a weight is missing or of another shape, or the model is not a BERT with erf-GELU.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        *,
        device: str,
        backend: Backend,
        special: Sequence[int] = (),
        activation: Activation = "relu",
    ) -> None:
        if not is_masked_bert(config):
            raise ModelError("the model is not a BertForMaskedLM with absolute positions and GELU")
        shape = JoinedBertConfig(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            intermediate=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            epsilon=config["layer_norm_eps"],
        )
        state = {_renamed(name): value.detach().float() for name, value in weights.items()}
        self.width, self.positions, self.device = shape.vocabulary, shape.positions, device
        self.backend, self._activation = backend, activation
        self.batch_tokens = 4096
        self._special = torch.tensor(sorted(special), dtype=torch.long)
        bert = Bert(shape)
        load_body(bert, state)
        bert.eval().requires_grad_(False)
        square = (shape.hidden, shape.hidden)
        self._dense = (
            checked_weight(state, f"{_HEAD}.dense.weight", torch.Size(square)),
            checked_weight(state, f"{_HEAD}.dense.bias", torch.Size(square[:1])),
        )
        norm = torch.Size(square[:1])
        self._norm = (
            checked_weight(state, f"{_HEAD}.LayerNorm.weight", norm),
            checked_weight(state, f"{_HEAD}.LayerNorm.bias", norm),
        )
        self._epsilon = shape.epsilon
        tied = "embeddings.word_embeddings.weight"
        name = "cls.predictions.decoder.weight" if "cls.predictions.decoder.weight" in state else tied
        self._decoder = checked_weight(state, name, torch.Size((shape.vocabulary, shape.hidden))).contiguous()
        bias = "cls.predictions.bias" if "cls.predictions.bias" in state else "cls.predictions.decoder.bias"
        self._bias = checked_weight(state, bias, torch.Size((shape.vocabulary,)))
        if device == "cpu":
            self._body = open_body(bert, backend)
        else:
            self._bert = bert.to(device)
            self._decoder, self._bias = self._decoder.to(device), self._bias.to(device)
            self._dense = (self._dense[0].to(device), self._dense[1].to(device))
            self._norm = (self._norm[0].to(device), self._norm[1].to(device))
        self._largest = _open_largest(self._decoder, self._bias, backend.name if device == "cpu" else "torch")

    def rows(self, texts: Sequence[Sequence[Sequence[int]]], limit: int | None) -> SparseBatch:
        """Weighted terms of texts, row i for text i.

        Args:
            texts: the windows of each text: word-piece ids, special tokens included.
            limit: keep at most this many of a text's heaviest terms, ties by the lower id; None keeps all.
        """
        found: list[_Row] = [_NOTHING] * len(texts)

        def one(batch: list[int]) -> None:
            windows = [window for place in batch for window in texts[place]]
            if windows:
                states = self._states(windows)
                own = torch.split(states, [sum(map(len, texts[place])) for place in batch])
                full = [(place, mine) for place, mine in zip(batch, own, strict=True) if len(mine)]
                weighed = self._weighed([mine for _, mine in full], limit)
                for (place, _), row in zip(full, weighed, strict=True):
                    found[place] = row
            report(len(batch))

        lengths = [sum(map(len, text)) for text in texts]
        if self.device == "cpu":
            single_threaded.map(one, packs(lengths, single_threaded.width(), _TOKENS))
        else:
            for batch in packs(lengths, tokens=self.batch_tokens):
                one(batch)
        indptr = np.cumsum([0] + [len(terms) for terms, _ in found], dtype=np.int64)
        return SparseBatch(
            indptr,
            np.concatenate([_NOTHING[0], *(terms for terms, _ in found)]),
            np.concatenate([_NOTHING[1], *(values for _, values in found)]),
        )

    def _states(self, windows: list[Sequence[int]]) -> Tensor:
        """Last states, float32[tokens, hidden], texts one behind the other."""
        with torch.inference_mode():
            if self.device == "cpu":
                return self._body.run(self._body.embed(windows), [len(window) for window in windows])
            ids, lengths = pad(windows, self.device)
            states = self._bert.read(ids, lengths, types_first=False)
            return states[torch.arange(ids.shape[1], device=self.device) < lengths[:, None]]

    def _weighed(self, texts: Sequence[Tensor], limit: int | None) -> list[_Row]:
        """Terms and weights of each text from its last states float32[tokens, hidden]."""
        with torch.inference_mode():
            states = [functional.gelu(functional.linear(own, *self._dense)) for own in texts]
            states = [functional.layer_norm(own, own.shape[-1:], *self._norm, self._epsilon) for own in states]
            return [self._heaviest(own, top, limit) for own, top in zip(states, self._largest(states), strict=True)]

    def _heaviest(self, states: Tensor, logits: Tensor, limit: int | None) -> _Row:
        """Terms and weights of a text from its transformed states and the largest logit of every piece, float32[V]."""
        logits[self._special] = -torch.inf
        if self._largest.exact:
            terms = (logits > 0).nonzero()[:, 0]
            exact = logits[terms]
        else:
            terms = (logits > -_NEAR).nonzero()[:, 0]
            if limit is not None and len(terms) > limit + _SPARE:
                terms = logits.topk(limit + _SPARE).indices.sort().values
            exact = (states @ self._decoder[terms].T).amax(0) + self._bias[terms]
        kept = exact > 0
        if limit is not None and int(kept.sum()) > limit:
            order = exact.sort(descending=True, stable=True).indices[:limit]
            kept = torch.zeros_like(kept)
            kept[order] = True
        values = torch.log1p(exact[kept])
        if self._activation == "log1p_relu":
            values = torch.log1p(values)
        return terms[kept].cpu().numpy().astype(np.uint32), values.cpu().numpy().astype(np.float32)


class _Largest:
    """The largest logit of every piece over the tokens of each text, float32[V], in a precision.

    Args:
        decoder: float32[V, hidden].
        bias: float32[V].
        dtype: of the product.
    """

    def __init__(self, decoder: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self._columns, self._bias = decoder.to(dtype).t(), bias
        self.exact = dtype == decoder.dtype

    def __call__(self, texts: Sequence[Tensor]) -> list[Tensor]:
        return [self._of(own) for own in texts]

    def _of(self, states: Tensor) -> Tensor:
        parts = torch.split(states.to(self._columns.dtype), _TOKENS)
        return torch.stack([(part @ self._columns).amax(0) for part in parts]).amax(0).float() + self._bias


class _LargestInt8:
    """The same in int8, with a scale for each piece and one for each text: the largest is taken of exact integers."""

    exact = False

    def __init__(self, decoder: Tensor, bias: Tensor) -> None:
        self._scale = decoder.abs().amax(1).clamp_min(1e-20) / 127
        self._matrix, self._bias = (decoder / self._scale[:, None]).round().to(torch.int8), bias

    def __call__(self, texts: Sequence[Tensor]) -> list[Tensor]:
        scales = [own.abs().amax().clamp_min(1e-20) / 127 for own in texts]
        numbers = torch.cat([(own / scale).round().to(torch.int8) for own, scale in zip(texts, scales, strict=True)])
        bounds = np.cumsum([0, *(len(own) for own in texts)], dtype=np.int64)
        best = np.full((len(texts), len(self._matrix)), np.iinfo(np.int32).min, np.int32)
        for low in range(0, len(numbers), _TOKENS):
            self._raise(best, numbers[low : low + _TOKENS], bounds - low)
        sums = torch.from_numpy(best).float()
        return [own * (scale * self._scale) + self._bias for own, scale in zip(sums, scales, strict=True)]

    def _raise(self, best: NDArray[np.int32], numbers: Tensor, bounds: NDArray[np.int64]) -> None:
        """Raise the largest sums of texts, int32[texts, V], to those of some tokens, in blocks of pieces.

        Text i has the tokens from bounds[i] to bounds[i + 1].
        """
        m = padded(len(numbers))
        rows = functional.pad(numbers, (0, 0, 0, m - len(numbers)))
        space, width = torch.empty(_BLOCK, dtype=torch.int32), min(_WIDEST, _BLOCK // m)
        for low in range(0, len(self._matrix), width):
            block = self._matrix[low : low + width]
            sums = space[: m * len(block)].view(m, len(block))
            torch._int_mm(rows, block.t(), out=sums)
            raise_peaks(sums.numpy()[: len(numbers)], bounds, best[:, low : low + width])


def _open_largest(decoder: Tensor, bias: Tensor, engine: str) -> _Largest | _LargestInt8:
    if engine == "torch-int8":
        return _LargestInt8(decoder, bias)
    return _Largest(decoder, bias, torch.bfloat16 if engine == "torch-bf16" else torch.float32)


def is_masked_bert(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` describes a model that `MaskedLM` runs."""
    return bool(
        config.get("model_type") == "bert"
        and "BertForMaskedLM" in (config.get("architectures") or ())
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") in ("absolute", None)
    )


def _renamed(name: str) -> str:
    """A tensor's name without the body's prefix and the names that old checkpoints give a normalisation."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


_NOTHING: _Row = (np.zeros(0, np.uint32), np.zeros(0, np.float32))
