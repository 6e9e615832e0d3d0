"""BERT and the two-headed cross-encoder on it, as torch modules; `thresher.models.minilm` and `two_headed` load them.

Dotted names are those of Hugging Face checkpoints (Devlin et al., NAACL 2019, arXiv 1810.04805). This module imports
torch, so it is itself imported only when a model loads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from thresher.models.two_headed import JoinedBertConfig

_FAR = -1e9
"""Added to attention logits of padding."""


class _Projections(nn.Module):
    """Query, key and value of the attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)


class _Output(nn.Module):
    """A linear map whose output is added to the input and normalised."""

    def __init__(self, inner: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, x: Tensor, inner: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(x + self.dense(inner))
        return out


class _Attention(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.self = _Projections(width)
        self.output = _Output(width, width, epsilon)


class _Intermediate(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)


class BertLayer(nn.Module):
    """One layer: multi-head attention, then a feed-forward network."""

    def __init__(self, config: JoinedBertConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention = _Attention(config.hidden, config.epsilon)
        self.intermediate = _Intermediate(config.hidden, config.intermediate)
        self.output = _Output(config.intermediate, config.hidden, config.epsilon)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """States [n, length, hidden]; `mask` is bool (True: attend) or added to logits [n, heads, length, length]."""
        n, length, d = x.shape
        inner = self.attention.self
        q, k, v = (
            part(x).view(n, length, self.heads, d // self.heads).transpose(1, 2)
            for part in (inner.query, inner.key, inner.value)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.attention.output(x, mixed.transpose(1, 2).reshape(n, length, d))
        out: Tensor = self.output(x, functional.gelu(self.intermediate.dense(x)))
        return out


class Embeddings(nn.Module):
    """What enters the first layer."""

    def __init__(self, config: JoinedBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.hidden)
        self.position_embeddings = nn.Embedding(config.positions, config.hidden)
        self.token_type_embeddings = nn.Embedding(2, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=config.epsilon)

    def forward(self, ids: Tensor, types_first: bool) -> Tensor:
        """States [n, length, hidden] from word-piece ids [n, length]; the order of the sum decides its last bit."""
        words = self.word_embeddings(ids)
        positions = self.position_embeddings(torch.arange(ids.shape[1], device=ids.device))
        kind = self.token_type_embeddings.weight[0]
        out: Tensor = self.LayerNorm(words + kind + positions if types_first else words + positions + kind)
        return out


class _Encoder(nn.Module):
    def __init__(self, config: JoinedBertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.layers))


class Bert(nn.Module):
    """The body: word pieces to states."""

    def __init__(self, config: JoinedBertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = _Encoder(config)

    def read(
        self, ids: Tensor, lengths: Tensor | None = None, *, layers: int | None = None, types_first: bool = True
    ) -> Tensor:
        """States of single texts, [n, length] ids to float[n, length, hidden].

        Args:
            ids: word pieces, padded at the end.
            lengths: int[n], of the texts; None if none is padded.
            layers: run only the first layers.
            types_first: add the embedding of the token type before that of the position, as transformers does. The sum
                differs in its last bit, and stored weights and vectors were made with either order.
        """
        mask = None
        if lengths is not None:
            mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None])[:, None, None, :]
        x: Tensor = self.embeddings(ids, types_first)
        for layer in self.encoder.layer[:layers]:
            x = layer(x, mask)
        return x


class Judged(NamedTuple):
    """What `JoinedBert` outputs for n pairs.

    Attributes:
        rank: float[n], rank scores.
        keep: float[n, passage length], keep logits; meaningless for padding and special tokens.
        near: float[n, passage length], cosine of each passage token with the query's mean state.
        close: float[n, passage length, query length - 1], its cosine with each query token between [CLS] and the end,
            where [SEP] and padding count -1.
    """

    rank: Tensor
    keep: Tensor
    near: Tensor
    close: Tensor


class JoinedBert(Bert):
    """The body and the two heads; `thresher.models.two_headed` describes the model."""

    def __init__(self, config: JoinedBertConfig) -> None:
        super().__init__(config)
        d, above = config.hidden, config.layers - config.join
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

    def read_apart(self, ids: Tensor, lengths: Tensor | None) -> Tensor:
        """States of single texts after the layers below the join, [n, length] ids to [n, length, hidden]."""
        return self.read(ids, lengths, layers=self.config.join, types_first=False)

    def read_together(
        self, query: Tensor, passage: Tensor, q_lengths: Tensor | None, p_lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Final states of both texts, from their states below the join."""
        nq, np_ = query.shape[1], passage.shape[1]
        x = torch.cat([query + self.segments[0], passage + self.segments[1]], dim=1)
        padding = None
        if q_lengths is not None and p_lengths is not None:
            here = torch.arange(nq + np_, device=x.device)
            valid = torch.where(here < nq, here < q_lengths[:, None], here - nq < p_lengths[:, None])
            padding = torch.zeros(valid.shape, device=x.device).masked_fill(~valid, _FAR)[:, None, None, :]
        for number, layer in enumerate(self.encoder.layer[self.config.join :]):
            mask = shift(self.gates[number], nq, nq + np_)
            x = layer(x, mask if padding is None else mask + padding)
        return x[:, :nq], x[:, nq:]

    def judge(
        self, query: Tensor, passage: Tensor, q_lengths: Tensor | None, p_lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Rank scores and keep logits, as in `Judged`."""
        found = self.judge_in_full(query, passage, q_lengths, p_lengths)
        return found.rank, found.keep

    def judge_in_full(
        self, query: Tensor, passage: Tensor, q_lengths: Tensor | None, p_lengths: Tensor | None
    ) -> Judged:
        """Both heads, and the cosines they use, from the final states of both texts."""
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
        return Judged(rank, keep, near, close)

    def forward(
        self, q_ids: Tensor, p_ids: Tensor, q_lengths: Tensor | None = None, p_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(rank float[n], keep logits float[n, passage length]) of n pairs, padded or equally long."""
        query, passage = self.read_together(
            self.read_apart(q_ids, q_lengths), self.read_apart(p_ids, p_lengths), q_lengths, p_lengths
        )
        return self.judge(query, passage, q_lengths, p_lengths)


def shift(gates: Tensor, query: int, both: int) -> Tensor:
    """What is added to a layer's attention logits above the join, [1, heads, both, both].

    Args:
        gates: float[2, heads]: from query to passage, and from passage to query.
        query: tokens of the query.
        both: tokens of query and passage.
    """
    found = gates.new_zeros(1, gates.shape[1], both, both)
    found[0, :, :query, query:] = gates[0, :, None, None]
    found[0, :, query:, :query] = gates[1, :, None, None]
    return found


def _mean(states: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return states.mean(1)
    valid = (torch.arange(states.shape[1], device=states.device) < lengths[:, None]).unsqueeze(-1)
    return (states * valid).sum(1) / lengths[:, None]
