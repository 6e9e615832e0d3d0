"""A small cross-encoder with two heads: how relevant is the passage, and which of its tokens are worth keeping.

One forward pass over a query and a passage gives a rank score and a keep logit for every token of the passage, as in
Provence (Chirkova and others, ICLR 2025, arXiv 2501.16214), so that pruning and reranking cost one.

The body is a BERT bi-encoder (the embedded MiniLM) turned into a cross-encoder by *late joining*, as in PreTTR
(MacAvaney and others, SIGIR 2020, arXiv 2004.14255): the first `join` layers read the query and the passage apart,
each with its own positions, exactly as the bi-encoder reads them; the layers above attend across, through low-rank
adapters. Two departures keep what the bi-encoder knows: attention from one text to the other is shifted by a learned
bias for every layer, head and direction, which starts low, so that training starts from the bi-encoder and opens the
gates; and the rank score is a scaled cosine of the two mean states plus linear terms that start at zero, so that the
ranking starts as the bi-encoder's. Keep logits read a token's state, its product with the query's mean state, its
best cosine with a token of the query, and the passage's cosine.

On a CPU every pair is computed by itself, unpadded, so that no score depends on what else is in the batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from thresher.errors import ModelError, require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PURPOSE = "the two-headed cross-encoder"
KIND = "thresher-two-headed"
BODY = ("embeddings.", "encoder.")
"""Prefixes of the weights that the body has."""


@dataclass(frozen=True, slots=True)
class JoinedBertConfig:
    """Shape of the model.

    Attributes:
        hidden: width of a state.
        layers: number of layers.
        heads: attention heads.
        intermediate: width of the feed-forward layer.
        vocabulary: number of word pieces.
        positions: longest sequence the body knows.
        join: layers below this one read query and passage apart.
        rank: rank of the adapters in the layers from `join` on.
        gate: where the bias on attention between the texts starts.
        epsilon: of the layer normalisation.
    """

    hidden: int = 384
    layers: int = 6
    heads: int = 12
    intermediate: int = 1536
    vocabulary: int = 30522
    positions: int = 512
    join: int = 3
    rank: int = 32
    gate: float = -2.0
    epsilon: float = 1e-12


@cache
def _classes() -> Any:
    torch: Any = require("torch", extra="models", purpose=_PURPOSE)
    nn, functional = torch.nn, torch.nn.functional
    module: Any = nn.Module  # torch is untyped here

    class Layer(module):  # type: ignore[misc]
        """One BERT layer; dotted names as in Hugging Face checkpoints."""

        def __init__(self, config: JoinedBertConfig) -> None:
            super().__init__()
            d, self.heads = config.hidden, config.heads
            self.attention = nn.Module()
            self.attention.self = nn.Module()
            inner = self.attention.self
            inner.query, inner.key, inner.value = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
            self.attention.output = nn.Module()
            self.attention.output.dense = nn.Linear(d, d)
            self.attention.output.LayerNorm = nn.LayerNorm(d, eps=config.epsilon)
            self.intermediate = nn.Module()
            self.intermediate.dense = nn.Linear(d, config.intermediate)
            self.output = nn.Module()
            self.output.dense = nn.Linear(config.intermediate, d)
            self.output.LayerNorm = nn.LayerNorm(d, eps=config.epsilon)

        def forward(self, x: Any, mask: Any) -> Any:
            n, length, d = x.shape
            inner, out = self.attention.self, self.attention.output
            q, k, v = (
                part(x).view(n, length, self.heads, d // self.heads).transpose(1, 2)
                for part in (inner.query, inner.key, inner.value)
            )
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = out.LayerNorm(x + out.dense(mixed.transpose(1, 2).reshape(n, length, d)))
            return self.output.LayerNorm(x + self.output.dense(functional.gelu(self.intermediate.dense(x))))

    class JoinedBert(module):  # type: ignore[misc]
        """The body and the two heads."""

        def __init__(self, config: JoinedBertConfig) -> None:
            super().__init__()
            self.config = config
            d, above = config.hidden, config.layers - config.join
            self.embeddings = nn.Module()
            self.embeddings.word_embeddings = nn.Embedding(config.vocabulary, d)
            self.embeddings.position_embeddings = nn.Embedding(config.positions, d)
            self.embeddings.token_type_embeddings = nn.Embedding(2, d)
            self.embeddings.LayerNorm = nn.LayerNorm(d, eps=config.epsilon)
            self.encoder = nn.Module()
            self.encoder.layer = nn.ModuleList(Layer(config) for _ in range(config.layers))
            self.gates = nn.Parameter(torch.full((above, 2, config.heads), config.gate))
            self.segments = nn.Parameter(torch.zeros(2, d))
            self.rank_scale = nn.Parameter(torch.tensor(20.0))
            self.rank_product = nn.Linear(d, 1)
            self.rank_states = nn.Linear(2 * d, 1)
            self.keep_state = nn.Linear(d, 1)
            self.keep_product = nn.Linear(d, 1, bias=False)
            self.keep_features = nn.Parameter(torch.tensor([2.0, 2.0, 4.0]))
            for head in (self.rank_product, self.rank_states, self.keep_state, self.keep_product):
                nn.init.zeros_(head.weight)
                if head.bias is not None:
                    nn.init.zeros_(head.bias)

        def read_apart(self, ids: Any, lengths: Any | None) -> Any:
            """States of single texts after the layers below the join: [n, length] ids to [n, length, hidden].

            `lengths` [n] where rows are padded at the end, None where none is.
            """
            positions = torch.arange(ids.shape[1], device=ids.device)
            e = self.embeddings
            x = e.word_embeddings(ids) + e.position_embeddings(positions) + e.token_type_embeddings.weight[0]
            x = e.LayerNorm(x)
            mask = None if lengths is None else (positions < lengths[:, None])[:, None, None, :]
            for layer in self.encoder.layer[: self.config.join]:
                x = layer(x, mask)
            return x

        def read_together(self, query: Any, passage: Any, q_lengths: Any | None, p_lengths: Any | None) -> Any:
            """Final states of both texts, from their states below the join."""
            nq, np_ = query.shape[1], passage.shape[1]
            x = torch.cat([query + self.segments[0], passage + self.segments[1]], dim=1)
            padding = None
            if q_lengths is not None and p_lengths is not None:
                here = torch.arange(nq + np_, device=x.device)
                valid = torch.where(here < nq, here < q_lengths[:, None], here - nq < p_lengths[:, None])
                padding = torch.zeros(valid.shape, device=x.device).masked_fill(~valid, -1e9)[:, None, None, :]
            for number, layer in enumerate(self.encoder.layer[self.config.join :]):
                to_passage, to_query = self.gates[number]
                shift = x.new_zeros(self.config.heads, nq + np_, nq + np_)
                shift[:, :nq, nq:] = to_passage[:, None, None]
                shift[:, nq:, :nq] = to_query[:, None, None]
                x = layer(x, shift[None] if padding is None else shift[None] + padding)
            return x[:, :nq], x[:, nq:]

        def judge(self, query: Any, passage: Any, q_lengths: Any | None, p_lengths: Any | None) -> Any:
            """Rank scores [n], keep logits [n, passage length]; logits of padding and special tokens mean nothing."""
            return self.judge_in_full(query, passage, q_lengths, p_lengths)[:2]

        def judge_in_full(self, query: Any, passage: Any, q_lengths: Any | None, p_lengths: Any | None) -> Any:
            """As `judge`, then what it was read from.

            Cosines of passage tokens with the query's mean state [n, passage length], and with its tokens between
            [CLS] and the end [n, passage length, query length - 1], where [SEP] and padding count -1.
            """
            mean_q, mean_p = _mean(query, q_lengths), _mean(passage, p_lengths)
            unit_q, unit_p = functional.normalize(mean_q, dim=-1), functional.normalize(mean_p, dim=-1)
            product = unit_q * unit_p
            cosine = product.sum(-1)
            ends = torch.cat([query[:, 0], passage[:, 0]], dim=-1)
            d = self.config.hidden
            rank = self.rank_scale * cosine + self.rank_product(product * d).squeeze(-1)
            rank = rank + self.rank_states(ends).squeeze(-1)
            tokens, asked = functional.normalize(passage, dim=-1), functional.normalize(query, dim=-1)
            close = tokens @ asked[:, 1:].transpose(1, 2)
            here = torch.arange(1, query.shape[1], device=close.device)
            last = query.shape[1] - 1 if q_lengths is None else q_lengths[:, None] - 1
            close = close.masked_fill((here >= last).expand(close.shape[0], -1)[:, None, :], -1.0)
            near = (tokens * unit_q[:, None]).sum(-1)
            a, b, c = self.keep_features
            keep = self.keep_state(passage) + self.keep_product(passage * unit_q[:, None] * d**0.5)
            keep = keep.squeeze(-1) + a * (close.amax(-1) - 0.5) + b * (near - 0.3) + c * (cosine - 0.5)[:, None]
            return rank, keep, near, close

        def forward(self, q_ids: Any, p_ids: Any, q_lengths: Any | None = None, p_lengths: Any | None = None) -> Any:
            """(rank float[n], keep logits float[n, passage length]) of n padded pairs, or of equally long ones."""
            query, passage = self.read_together(
                self.read_apart(q_ids, q_lengths), self.read_apart(p_ids, p_lengths), q_lengths, p_lengths
            )
            return self.judge(query, passage, q_lengths, p_lengths)

    def _mean(states: Any, lengths: Any | None) -> Any:
        if lengths is None:
            return states.mean(1)
        valid = (torch.arange(states.shape[1], device=states.device) < lengths[:, None]).unsqueeze(-1)
        return (states * valid).sum(1) / lengths[:, None]

    return JoinedBert


def untrained(config: JoinedBertConfig) -> Any:
    """A model of that shape with random weights and no adapters."""
    return _classes()(config)


def adapted_names(config: JoinedBertConfig) -> list[str]:
    """Dotted names of the linear maps that have adapters: all of the layers from the join on."""
    attention = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    parts = (*attention, "intermediate.dense", "output.dense")
    return [f"encoder.layer.{number}.{part}" for number in range(config.join, config.layers) for part in parts]


def is_saved(directory: Path) -> bool:
    """Whether `directory` holds what `save` writes, by its configuration."""
    try:
        return bool(json.loads((directory / "config.json").read_text(encoding="utf-8")).get("kind") == KIND)
    except (OSError, ValueError, AttributeError):
        return False


def read_config(directory: Path) -> tuple[JoinedBertConfig, dict[str, Any]]:
    """The shape of the saved model, and everything else its `config.json` says.

    Raises:
        ModelError: there is no such file, or it describes something else.
    """
    path = directory / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("kind") != KIND or document.get("format") != 1:
            raise ModelError(
                f"{path}: kind {document.get('kind')!r} format {document.get('format')!r}, expected {KIND!r} format 1"
            )
        return JoinedBertConfig(**document.pop("shape")), document
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise ModelError(
            f"{path}: not the configuration of a two-headed cross-encoder ({type(err).__name__}: {err})"
        ) from err


def load(directory: Path, body: Mapping[str, Any]) -> Any:
    """The model saved in `directory` on the given body, adapters merged, ready for inference.

    Args:
        directory: holds `config.json` and `model.safetensors`.
        body: weights of a Hugging Face BERT checkpoint.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    safetensors: Any = require("safetensors.torch", extra="models", purpose=_PURPOSE)
    torch: Any = require("torch", extra="models", purpose=_PURPOSE)
    config, _ = read_config(directory)
    model = untrained(config)
    saved = safetensors.load_file(str(directory / "model.safetensors"))
    saved = {name: value.to(torch.float32) for name, value in saved.items()}
    load_body(model, body)
    load_heads(model, saved)
    merge_adapters(model, saved)
    return model.eval()


def load_body(model: Any, state: Mapping[str, Any]) -> None:
    """Copy the weights of a Hugging Face BERT checkpoint into a model without adapters, and freeze them.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    _copy({name: one for name, one in model.named_parameters() if name.startswith(BODY)}, state)
    for name, parameter in model.named_parameters():
        if name.startswith(BODY):
            parameter.requires_grad_(False)


def load_heads(model: Any, state: Mapping[str, Any]) -> None:
    """Copy the trained weights that are no adapters: gates, segments and the two heads.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    _copy({name: one for name, one in model.named_parameters() if not name.startswith(BODY)}, state)


def _copy(parameters: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    torch: Any = require("torch", extra="models", purpose=_PURPOSE)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checked_weight(state, name, parameter.shape))


def merge_adapters(model: Any, state: Mapping[str, Any]) -> None:
    """Add the product of each saved pair of low-rank factors to its linear map (LoRA; Hu and others, ICLR 2022).

    `NAME.lora_a` is float[rank, in] and `NAME.lora_b` float[out, rank]; weight += lora_b @ lora_a.

    Raises:
        ModelError: a factor is missing or has another shape.
    """
    torch: Any = require("torch", extra="models", purpose=_PURPOSE)
    rank = model.config.rank
    with torch.no_grad():
        for name in adapted_names(model.config):
            weight = model.get_submodule(name).weight
            low = checked_weight(state, f"{name}.lora_a", (rank, weight.shape[1]))
            high = checked_weight(state, f"{name}.lora_b", (weight.shape[0], rank))
            weight += high @ low


def checked_weight(state: Mapping[str, Any], name: str, shape: Sequence[int]) -> Any:
    """The weight of that name.

    Raises:
        ModelError: it is missing or has another shape.
    """
    saved = state.get(name)
    if saved is None or tuple(saved.shape) != tuple(shape):
        found = "is missing" if saved is None else f"has shape {tuple(saved.shape)}"
        raise ModelError(f"weight {name} {found}; expected shape {tuple(shape)}")
    return saved


def pad(rows: Sequence[Sequence[int]], device: Any = None) -> tuple[Any, Any]:
    """Token ids as one tensor [n, longest], zeros behind, and their lengths [n]."""
    torch: Any = require("torch", extra="models", purpose=_PURPOSE)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long, device=device)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row, device=device)
    return ids, lengths
