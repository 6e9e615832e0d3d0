"""Provence, XProvence and OpenProvence checkpoints, without any code of theirs.

A checkpoint is recognised by its parameter names:

- Provence and XProvence (arXiv 2501.16214): an encoder (`deberta.*`, `roberta.*`, ...), `classifier.*` on the pooled
  first token, whose logit 0 ranks the passage, and `token_classifier.*` (two logits a token, keep = index 1). A token
  is kept when its keep probability exceeds T, a sentence when the share of its kept tokens exceeds T. Both depend on
  T, so the score of a sentence here is the largest T at which it is kept: with its n keep probabilities in descending
  order, max over k of min(p_k, k / n).
- OpenProvence: `ranking_model.*` (a sequence classifier; relevance is the logistic of its logit) and
  `pruning_head.classifier.*` on the last states. A sentence's score is its tokens' mean keep probability.

A sentence that no window reads completely is scored by parts, and none is dropped because a token is missing, where the
original codes give such a sentence 1 or 0. Nothing is fetched and no remote code runs: the encoder is one of those
that transformers knows.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from thresher.arguments import checked_call
from thresher.context.scorers import PassageScores, SentenceScorer, SplitPassage, combine
from thresher.errors import ModelError, require
from thresher.models.files import refuse_pickled
from thresher.models.hf import pick_device
from thresher.models.windows import sentence_tokens, windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    from torch import Tensor, nn

_Config = dict[str, Any]
"""A `config.json`."""

_PURPOSE = "Provence checkpoints"
_ENCODERS = {"deberta": "deberta-v2", "roberta": "xlm-roberta", "bert": "bert", "xlm-roberta": "xlm-roberta"}


def share_score(probabilities: Sequence[float]) -> float:
    """The largest T at which the share of probabilities over T still exceeds T (see the module); 0 for none."""
    ordered = sorted(probabilities, reverse=True)
    return max((min(p, k / len(ordered)) for k, p in enumerate(ordered, 1)), default=0.0)


class ProvenceScorer(SentenceScorer):
    """A Provence, XProvence or OpenProvence checkpoint.

    Args:
        directory: holds `config.json`, `model.safetensors` and the tokenizer's files.
        device: `auto`, or what torch calls it.
        max_tokens: longest input, query and specials included; by default what the configuration names.
        overlap: tokens of whole sentences that a window shares with the one before.

    Raises:
        ModelError: the files do not hold such a checkpoint.
    """

    def __init__(
        self, directory: Path, *, device: str = "auto", max_tokens: int | None = None, overlap: int = 64
    ) -> None:
        self.torch = require("torch", extra="models", purpose=_PURPOSE)
        transformers = require("transformers", extra="models", purpose=_PURPOSE)
        refuse_pickled(directory)
        config, state = _read(directory)
        self.device = pick_device(device)
        self.open = "pruning_head.classifier.weight" in state
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory, use_fast=True, trust_remote_code=False)
        self.module, self.heads = (_open_provence if self.open else _provence)(transformers, config, state)
        self.module.eval().requires_grad_(False).to(self.device)
        self.heads = {name: tensor.to(self.device) for name, tensor in self.heads.items()}
        positions = int(config.get("max_position_embeddings", 512)) - (
            2 if "roberta" in config.get("model_type", "") else 0
        )
        self.max_tokens = max_tokens or int(config.get("max_length", min(512, positions)))
        self.overlap = overlap
        self.name = f"{'open-provence' if self.open else 'provence'}-{directory.name}@{_fingerprint(state)}"
        default = config.get("default_threadshold") or config.get("default_threshold") or 0.1  # their spelling
        self.presets: Mapping[str, float] = {"conservative": float(default), "strong": 0.5}

    @checked_call
    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """Scores of every pair, in order; each window in a forward pass of its own."""
        return [self._one(query, passage) for query, passage in pairs]

    def _one(self, query: str, passage: SplitPassage) -> PassageScores:
        head = f"{passage.title} " if passage.title else ""
        query_length = len(self.tokenizer(query, add_special_tokens=False)["input_ids"])
        title_length = len(self.tokenizer(head, add_special_tokens=False)["input_ids"]) if head else 0
        room = self.max_tokens - min(query_length, self.max_tokens // 4) - title_length - 4
        if room < 8:
            raise ModelError(f"query and title leave room for {room} tokens of {self.max_tokens}; shorten the title")
        alone = self.tokenizer(passage.text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = [tuple(pair) for pair in alone["offset_mapping"]]
        ranges = sentence_tokens(offsets, passage.sentences)
        read, best = [], -math.inf
        for start, end in windows(ranges, room, self.overlap):
            here, there = offsets[start][0], offsets[end - 1][1]
            relevance, tokens = self._window(query, head + passage.text[here:there])
            shifted = [(a - len(head) + here, p) for a, p in tokens]
            scores = []
            for number, sentence in enumerate(passage.sentences):
                limit = passage.sentences[number + 1].start if number + 1 < len(passage.sentences) else sentence.end
                inside = [p for a, p in shifted if max(sentence.start, here) <= a < limit]
                scores.append(self._sentence(inside))
            read.append(((start, end), scores))
            best = max(best, relevance)
        return PassageScores(best if read else -1e9, combine(ranges, read))

    def _sentence(self, probabilities: list[float]) -> float:
        if not probabilities:
            return 0.0
        return math.fsum(probabilities) / len(probabilities) if self.open else share_score(probabilities)

    def _window(self, query: str, text: str) -> tuple[float, list[tuple[int, float]]]:
        """Relevance, and (start in `text`, keep probability) of each of its tokens."""
        torch = self.torch
        query = self._cut(query)
        encoded = self.tokenizer(
            query, text, truncation="only_second", max_length=self.max_tokens, return_offsets_mapping=True
        )
        ids = torch.tensor([encoded["input_ids"]], device=self.device)
        with torch.inference_mode():
            states, relevance = self._states(ids)
            name = "pruning_head.classifier" if self.open else "token_classifier"
            logits = torch.nn.functional.linear(states[0], self.heads[f"{name}.weight"], self.heads[f"{name}.bias"])
            keep = torch.softmax(logits.float(), dim=-1)[:, 1].tolist()
        belongs, places = encoded.sequence_ids(0), encoded["offset_mapping"]
        return relevance, [
            (start, p) for part, (start, end), p in zip(belongs, places, keep, strict=True) if part == 1 and end > start
        ]

    def _cut(self, query: str) -> str:
        """The query, cut to a quarter of the input."""
        encoded = self.tokenizer(query, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return query if len(encoded) <= self.max_tokens // 4 else query[: encoded[self.max_tokens // 4 - 1][1]]

    def _states(self, ids: Tensor) -> tuple[Tensor, float]:
        torch, functional = self.torch, self.torch.nn.functional
        if self.open:
            out = self.module(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
            return out.hidden_states[-1], float(torch.sigmoid(out.logits.float())[0, 0])
        states = self.module(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
        pooled = states[:, 0]
        if "pooler.dense.weight" in self.heads:  # DeBERTa's own pooler
            pooled = functional.gelu(
                functional.linear(pooled, self.heads["pooler.dense.weight"], self.heads["pooler.dense.bias"])
            )
        if "classifier.dense.weight" in self.heads:  # RoBERTa's classification head
            pooled = torch.tanh(
                functional.linear(pooled, self.heads["classifier.dense.weight"], self.heads["classifier.dense.bias"])
            )
        last = "classifier.out_proj" if "classifier.out_proj.weight" in self.heads else "classifier"
        logits = functional.linear(pooled, self.heads[f"{last}.weight"], self.heads[f"{last}.bias"])
        return states, float(logits[0, 0])


def _read(directory: Path) -> tuple[_Config, dict[str, Tensor]]:
    safetensors = require("safetensors.torch", extra="models", purpose=_PURPOSE)
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        index = directory / "model.safetensors.index.json"
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            names = ["model.safetensors"]
        state: dict[str, Tensor] = {}
        for name in names:
            if "/" in name or "\\" in name:
                raise ModelError(f"{index}: names a file outside the checkpoint: {name!r}")
            state.update(safetensors.load_file(str(directory / name)))
    except (OSError, ValueError, KeyError) as err:
        raise ModelError(
            f"{directory}: no checkpoint of a known kind ({type(err).__name__}: {err}); expected config.json and "
            "model.safetensors of a thresher, Provence or OpenProvence model"
        ) from err
    return config, state


def _provence(
    transformers: ModuleType, config: _Config, state: dict[str, Tensor]
) -> tuple[nn.Module, dict[str, Tensor]]:
    prefix = next((p for p in _ENCODERS if f"{p}.embeddings.word_embeddings.weight" in state), None)
    if prefix is None or "token_classifier.weight" not in state:
        raise ModelError(
            "not a Provence checkpoint: expected `token_classifier.weight` and an encoder under one of "
            + ", ".join(f"`{p}.`" for p in _ENCODERS)
        )
    body = {name.removeprefix(f"{prefix}."): t for name, t in state.items() if name.startswith(f"{prefix}.")}
    heads = {
        name: t.float() for name, t in state.items() if name.startswith(("pooler.", "classifier.", "token_classifier."))
    }
    known = {k: v for k, v in config.items() if k not in ("model_type", "architectures", "auto_map")}
    shape = transformers.AutoConfig.for_model(_ENCODERS[prefix], **known)
    pooler = {"add_pooling_layer": False} if _ENCODERS[prefix] != "deberta-v2" else {}
    module = transformers.AutoModel.from_config(shape, trust_remote_code=False, **pooler)
    return _filled(module, body), heads


def _open_provence(
    transformers: ModuleType, config: _Config, state: dict[str, Tensor]
) -> tuple[nn.Module, dict[str, Tensor]]:
    base = dict(config.get("base_model_config") or {})
    kind = base.pop("model_type", None)
    if not kind:
        raise ModelError(
            "not an OpenProvence checkpoint: its configuration lacks `base_model_config` with a `model_type`"
        )
    base.pop("auto_map", None)
    shape = transformers.AutoConfig.for_model(kind, **base)
    module = transformers.AutoModelForSequenceClassification.from_config(shape, trust_remote_code=False)
    body = {k.removeprefix("ranking_model."): t for k, t in state.items() if k.startswith("ranking_model.")}
    heads = {name: t.float() for name, t in state.items() if name.startswith("pruning_head.")}
    return _filled(module, body), heads


def _filled(module: nn.Module, body: dict[str, Tensor]) -> nn.Module:
    """`module` with the weights of the checkpoint, every one of which must fit."""
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in body and not name.endswith("position_ids")]
    misshapen = [name for name in wanted if name in body and body[name].shape != wanted[name].shape]
    if missing or misshapen:
        raise ModelError(
            f"the checkpoint does not fit its configuration: missing {missing[:3]}, of another shape {misshapen[:3]} "
            f"({len(missing)} and {len(misshapen)} weights in all)"
        )
    module.load_state_dict({name: body[name].float() for name in wanted if name in body}, strict=False)
    return module


def _fingerprint(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(str(float(state[name].float().sum())).encode())
    return digest.hexdigest()[:12]
