"""A BERT masked-language model as a sparse encoder (SPLADE), without ever holding the logits of a batch.

The weight of word piece t in a text is log(1 + relu(max over tokens i of h_i' w_t + b_t)), with h the states after the
head's transform and w_t the word's row of the decoder (Formal et al., arXiv 2109.10086). A batch of 32 texts of 256
tokens has a gigabyte of logits over 30,522 pieces, most of them below 0. Here the product is taken text by text and
reduced at once, on a CPU in the engine's type (int8 or bfloat16); the pieces that can be among the heaviest are then
computed again in float32, so that a weight that is kept is as exact as the states are. Texts are packed without
padding, several passes run side by side with one thread each, and a row is the same, bit for bit, whatever else is
encoded.

A text longer than the model reads comes as windows: a piece's weight is its largest in any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional

from thresher.errors import ModelError
from thresher.models.backend import open_body
from thresher.models.bert import Bert
from thresher.models.hf import report, single_threaded
from thresher.models.packed import packs
from thresher.models.two_headed import JoinedBertConfig, checked_weight, load_body, pad
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from thresher.models.backend import Backend

Activation = Literal["relu", "log1p_relu"]
_HEAD = "cls.predictions.transform"
_TOKENS = 512
"""Tokens whose logits exist at once: 62 MB in int8's sums."""
_SPARE = 64
"""Candidates beyond the terms that are kept; what a low precision ranks lower than that is lost."""
_NEAR = 0.3
"""Logits this far below 0 are computed again where all positive ones are kept."""
_ROUND = 32  # integer products have a multiple of this many rows


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
            self._low = _low_precision(self._decoder, backend.name)
        else:
            self._bert = bert.to(device)
            self._low = None
            self._decoder, self._bias = self._decoder.to(device), self._bias.to(device)
            self._dense = (self._dense[0].to(device), self._dense[1].to(device))
            self._norm = (self._norm[0].to(device), self._norm[1].to(device))

    def rows(self, texts: Sequence[Sequence[Sequence[int]]], limit: int | None) -> SparseBatch:
        """Weighted terms of texts, row i for text i.

        Args:
            texts: the windows of each text: word-piece ids, special tokens included.
            limit: keep at most this many of a text's heaviest terms, ties by the lower id; None keeps all.
        """
        found: list[tuple[NDArray[np.uint32], NDArray[np.float32]]] = [_NOTHING] * len(texts)

        def one(batch: list[int]) -> None:
            windows = [window for place in batch for window in texts[place]]
            if windows:
                states = self._states(windows)
                own = torch.split(states, [sum(map(len, texts[place])) for place in batch])
                for place, mine in zip(batch, own, strict=True):
                    if len(mine):
                        found[place] = self._weighed(mine, limit)
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

    def _weighed(self, states: Tensor, limit: int | None) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Terms and weights of one text from its last states float32[tokens, hidden]."""
        with torch.inference_mode():
            states = functional.gelu(functional.linear(states, *self._dense))
            states = functional.layer_norm(states, states.shape[-1:], *self._norm, self._epsilon)
            logits = self._largest(states)
            logits[self._special] = -torch.inf
            if self._low is not None:
                terms = (logits > -_NEAR).nonzero()[:, 0]
                if limit is not None and len(terms) > limit + _SPARE:
                    terms = logits.topk(limit + _SPARE).indices
                terms = terms.sort().values
                exact = (states @ self._decoder[terms].T).amax(0) + self._bias[terms]
            else:
                terms = (logits > 0).nonzero()[:, 0]
                exact = logits[terms]
            kept = exact > 0
            if limit is not None and int(kept.sum()) > limit:
                order = exact.sort(descending=True, stable=True).indices[:limit]
                kept = torch.zeros_like(kept)
                kept[order] = True
            values = torch.log1p(exact[kept])
            if self._activation == "log1p_relu":
                values = torch.log1p(values)
            return terms[kept].cpu().numpy().astype(np.uint32), values.cpu().numpy().astype(np.float32)

    def _largest(self, states: Tensor) -> Tensor:
        """The largest logit of every piece over the tokens, float32[V], in the engine's precision."""
        best: Tensor | None = None
        for part in torch.split(states, _TOKENS):
            if self._low is None:
                found = (part @ self._decoder.T).amax(0)
            else:
                found = self._low(part)
            best = found if best is None else torch.maximum(best, found)
        return self._bias.clone() if best is None else best + self._bias


class _Bf16:
    def __init__(self, decoder: Tensor) -> None:
        self._columns = decoder.to(torch.bfloat16).t().contiguous()

    def __call__(self, states: Tensor) -> Tensor:
        return (states.to(torch.bfloat16) @ self._columns).amax(0).float()


class _Int8:
    """The product in int8, with a scale for each piece and one for the text: the largest is taken of integers."""

    def __init__(self, decoder: Tensor) -> None:
        scale = decoder.abs().amax(1).clamp_min(1e-20) / 127
        self._matrix, self._scale = (decoder / scale[:, None]).round().to(torch.int8), scale

    def __call__(self, states: Tensor) -> Tensor:
        scale = states.abs().amax().clamp_min(1e-20) / 127
        numbers = (states / scale).round().to(torch.int8)
        missing = -len(numbers) % _ROUND
        if missing:
            numbers = torch.cat([numbers, numbers[-1:].expand(missing, -1)])
        sums: Tensor = torch._int_mm(numbers, self._matrix.t())
        return sums.amax(0).float() * (scale * self._scale)


def _low_precision(decoder: Tensor, engine: str) -> _Bf16 | _Int8 | None:
    if engine == "torch-int8":
        return _Int8(decoder)
    return _Bf16(decoder) if engine == "torch-bf16" else None


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


_NOTHING: tuple[NDArray[np.uint32], NDArray[np.float32]] = (np.zeros(0, np.uint32), np.zeros(0, np.float32))
