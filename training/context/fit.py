"""Training the two-headed cross-encoder: which passages help a query, and which of their sentences.

One training unit is a group: a query with a few passages. Two losses are read from the same forward pass, as in
Provence (arXiv 2501.16214):

- keep: binary cross-entropy of a sentence's score (the logistic of the mean of its tokens' logits, which is how the
  pruner will score it) and, at half the weight, of every token, whose label is its sentence's. Tokens of the query,
  special tokens and padding belong to no sentence, so they cannot enter the loss;
- rank: cross-entropy between the softmax of the group's targets (a teacher's scores, grades, or 1 and 0) and the
  softmax of its rank scores (ListNet; Cao and others, ICML 2007). Where a group says what other rankers think of its
  passages (`prior`), half of the loss is read from the rank score alone and half from its sum with them, so that it
  learns to add to them and not to repeat them.

Layers below the join are frozen and read passages without the query, so their states are computed once per passage
and remembered as float16, on disk where asked. A run is repeatable from its seed, writes checkpoints, and continues
from the last one.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.durable import write_atomic
from thresher.errors import InputError, require
from thresher.models import two_headed
from training.context import model as model_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from thresher.records import Span


@dataclass(frozen=True, slots=True)
class LabelledPassage:
    """A passage with its sentences and what is known of them.

    Attributes:
        text: the passage.
        sentences: spans of `text`, ascending and disjoint.
        labels: 1 keep, 0 drop, one per sentence; None where nobody labelled them.
    """

    text: str
    sentences: tuple[Span, ...] = ()
    labels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.sentences):
            raise InputError(
                f"a passage has {len(self.sentences)} sentences but {len(self.labels)} labels: give one each"
            )


@dataclass(frozen=True, slots=True)
class Group:
    """A query with a few passages.

    Attributes:
        query: the query.
        passages: at least one.
        targets: a score for each passage, in natural-log units (the softmax of them is learned); None where their
            order is unknown.
        prior: what rankers that are used beside this one think of each passage, in the same units; None where there
            are none.
    """

    query: str
    passages: tuple[LabelledPassage, ...]
    targets: tuple[float, ...] | None = None
    prior: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.prior is not None and len(self.prior) != len(self.passages):
            raise InputError(f"a group has {len(self.passages)} passages but {len(self.prior)} priors: give one each")
        if self.targets is not None and len(self.targets) != len(self.passages):
            raise InputError(
                f"a group has {len(self.passages)} passages but {len(self.targets)} targets: give one each"
            )


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How to train.

    Attributes:
        steps: optimiser steps.
        tokens: passage tokens in a batch, at most (one group always fits).
        length: passages are cut after so many word pieces, specials included.
        query_length: queries are cut after so many.
        rate: learning rate of the adapters; heads take three times as much, gates twenty times.
        warmup: share of the steps over which the rate rises; it then falls linearly to zero.
        decay: weight decay of the adapters.
        rank_weight: weight of the rank loss.
        seed: of the order of the groups.
        slice: passages computed together; those of a batch are sliced in order of length.
        checkpoint_every: steps between checkpoints.
        remembered: bytes of passage states to remember, at most.
    """

    steps: int = 1000
    tokens: int = 3000
    length: int = 256
    query_length: int = 48
    rate: float = 1e-3
    warmup: float = 0.05
    decay: float = 0.01
    rank_weight: float = 0.5
    seed: int = 7
    slice: int = 4
    checkpoint_every: int = 20
    remembered: int = 1_500_000_000


class Trainer:
    """Trains `model` on groups.

    Args:
        model: from `training.context.model.build`, with its body loaded.
        tokenizer: a `tokenizers.Tokenizer` without padding or truncation.
        groups: what to learn from.
        config: how.
    """

    def __init__(self, model: Any, tokenizer: Any, groups: Sequence[Group], config: FitConfig) -> None:
        if not groups:
            raise InputError("there is nothing to train on: no group of labelled passages was given")
        self.torch: Any = require("torch", extra="models", purpose="training a context pruner")
        self.model, self.tokenizer, self.groups, self.config = model, tokenizer, list(groups), config
        self.step = 0
        self._states: dict[str, Any] = {}
        self._remembered = 0
        self._encoded: dict[str, Any] = {}
        self.optimizer = self._optimizer()

    def _optimizer(self) -> Any:
        groups: dict[str, list[Any]] = {"adapters": [], "heads": [], "gates": []}
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            groups["adapters" if "lora_" in name else "gates" if name == "gates" else "heads"].append(parameter)
        rate = self.config.rate
        return self.torch.optim.AdamW(
            [
                {"params": groups["adapters"], "lr": rate, "weight_decay": self.config.decay},
                {"params": groups["heads"], "lr": 3 * rate, "weight_decay": 0.0},
                {"params": groups["gates"], "lr": 20 * rate, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )

    def _factor(self) -> float:
        progress = self.step / self.config.steps
        return min(
            1.0, (progress + 1 / self.config.steps) / self.config.warmup, (1 - progress) / (1 - self.config.warmup)
        )

    def run(self, checkpoint: Path | None = None, report: Callable[[dict[str, float]], None] | None = None) -> None:
        """Train until `config.steps`, from where the checkpoint left off."""
        if checkpoint is not None and (checkpoint / "trainer.json").is_file():
            self._resume(checkpoint)
        self.model.train()
        rates = [group["lr"] for group in self.optimizer.param_groups]
        batches = self._batches()
        for _ in range(self.step):
            next(batches)
        while self.step < self.config.steps:
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self._factor()
            loss, parts = self._loss(next(batches))
            self.optimizer.zero_grad()
            loss.backward()
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            self.torch.nn.utils.clip_grad_norm_(trained, 1.0)
            self.optimizer.step()
            self.step += 1
            if report is not None:
                report({"step": self.step, **parts})
            if checkpoint is not None and (
                self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps
            ):
                self._checkpoint(checkpoint)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.model.eval()

    # batches ----------------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[list[Group]]:
        """Batches without end, of groups in random order; every group comes once before any comes again."""
        chooser = random.Random(self.config.seed)  # noqa: S311  (an order, not a secret)
        sizes = [sum(self._length(p.text) for p in group.passages) for group in self.groups]
        batch: list[int] = []
        while True:
            order = list(range(len(self.groups)))
            chooser.shuffle(order)
            for number in order:
                if batch and sum(sizes[i] for i in batch) + sizes[number] > self.config.tokens:
                    yield [self.groups[i] for i in batch]
                    batch = []
                batch.append(number)

    def _length(self, text: str) -> int:
        return min(self.config.length, 2 + len(text) // 4)

    def _encode(self, text: str, limit: int) -> Any:
        """(ids, offsets) of a text with its special tokens, cut to `limit`."""
        key = f"{limit}:{text}"
        if key not in self._encoded:
            encoding = self.tokenizer.encode(text)
            ids, offsets = encoding.ids, encoding.offsets
            if len(ids) > limit:
                ids, offsets = [*ids[: limit - 1], ids[-1]], [*offsets[: limit - 1], (0, 0)]
            self._encoded[key] = (ids, offsets)
        return self._encoded[key]

    # states below the join ------------------------------------------------------------------------------------------

    def remember(self, directory: Path, progress: bool = False) -> None:
        """Compute the states of every passage now, and keep them in `directory`, from where a later run reads them."""
        from tqdm import tqdm

        texts = sorted({p.text for group in self.groups for p in group.passages}, key=lambda t: (len(t), t))
        rows = [self._encode(text, self.config.length)[0] for text in texts]
        ends = np.cumsum([len(row) for row in rows])
        digest = hashlib.sha256("\0".join([str(self.config.length), *texts]).encode()).hexdigest()[:16]
        file = directory / f"states-{digest}.npy"
        width = self.model.config.hidden
        if not file.exists():
            directory.mkdir(parents=True, exist_ok=True)
            draft = directory / "states.draft"
            table = np.lib.format.open_memmap(draft, "w+", np.float16, (int(ends[-1]), width))
            for first in tqdm(range(0, len(texts), 8), disable=not progress, mininterval=30):
                states = self._read_apart(rows[first : first + 8])
                for number, state in enumerate(states, first):
                    table[ends[number] - len(rows[number]) : ends[number]] = state.numpy()
            table.flush()
            draft.replace(file)
        table = np.load(file, mmap_mode="c")
        for number, text in enumerate(texts):
            self._states[text] = self.torch.from_numpy(table[ends[number] - len(rows[number]) : ends[number]])
        self._remembered = self.config.remembered

    def _read_apart(self, rows: list[Any]) -> list[Any]:
        """float16 states of single texts, unpadded."""
        ids, lengths = two_headed.pad(rows)
        with self.torch.no_grad():
            states = self.model.read_apart(ids, lengths)
        return [states[row, : lengths[row]].to(self.torch.float16).clone() for row in range(len(rows))]

    # the two losses ---------------------------------------------------------------------------------------------

    def _passage_states(self, texts: list[str]) -> tuple[Any, Any]:
        """States below the join, padded, and lengths."""
        torch = self.torch
        missing = [text for text in dict.fromkeys(texts) if text not in self._states]
        fresh: dict[str, Any] = {}
        if missing:
            encoded = [self._encode(text, self.config.length)[0] for text in missing]
            fresh = dict(zip(missing, self._read_apart(encoded), strict=True))
        rows = [fresh[text] if text in fresh else self._states[text] for text in texts]
        for text, state in fresh.items():
            size = state.numel() * 2
            if self._remembered + size <= self.config.remembered:
                self._states[text] = state
                self._remembered += size
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(torch.float32)
        return padded, torch.tensor([row.shape[0] for row in rows])

    def _loss(self, groups: list[Group]) -> tuple[Any, dict[str, float]]:
        torch = self.torch
        passages = [passage for group in groups for passage in group.passages]
        owner = torch.tensor([number for number, group in enumerate(groups) for _ in group.passages])
        ids, q_lengths = two_headed.pad([self._encode(g.query, self.config.query_length)[0] for g in groups])
        with torch.no_grad():
            asked = self.model.read_apart(ids, q_lengths)
        sizes = [len(self._encode(passage.text, self.config.length)[0]) for passage in passages]
        order = sorted(range(len(passages)), key=lambda i: (sizes[i], i))
        ranks: list[Any] = [None] * len(passages)
        rows: list[Any] = [None] * len(passages)
        for first in range(0, len(order), self.config.slice):  # like lengths together: little is spent on padding
            part = order[first : first + self.config.slice]
            states, lengths = self._passage_states([passages[i].text for i in part])
            mine = owner[part]
            longest = int(q_lengths[mine].max())
            pair = (asked[mine, :longest], states, q_lengths[mine], lengths)
            query, passage = self.model.read_together(*pair)
            rank, keep = self.model.judge(query, passage, q_lengths[mine], lengths)
            for row, number in enumerate(part):
                ranks[number], rows[number] = rank[row], keep[row]
        ranks, logits = torch.stack(ranks), torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        keep, kept = self._keep_loss(passages, logits)
        rank, ranked = self._rank_loss(groups, ranks)
        loss = keep + self.config.rank_weight * rank
        parts = {
            "pairs": len(passages),
            "keep": float(keep.detach()),
            "rank": float(rank.detach()),
            "kept": kept,
            "ranked": ranked,
        }
        return loss, parts

    def _keep_loss(self, passages: list[LabelledPassage], logits: Any) -> tuple[Any, int]:
        torch, bce = self.torch, self.torch.nn.functional.binary_cross_entropy_with_logits
        rows: list[int] = []
        columns: list[int] = []
        owners: list[int] = []
        labels: list[int] = []
        for row, passage in enumerate(passages):
            if passage.labels is None:
                continue
            offsets = self._encode(passage.text, self.config.length)[1]
            for span, label in zip(passage.sentences, passage.labels, strict=True):
                inside = [t for t, (a, b) in enumerate(offsets) if a < b and a >= span.start and b <= span.end]
                if inside:
                    rows += [row] * len(inside)
                    columns += inside
                    owners += [len(labels)] * len(inside)
                    labels.append(label)
        if not labels:
            return logits.sum() * 0.0, 0
        owner, label = torch.tensor(owners), torch.tensor(labels, dtype=torch.float32)
        token = logits[torch.tensor(rows), torch.tensor(columns)]
        total = torch.zeros(len(labels)).index_add(0, owner, token)
        count = torch.zeros(len(labels)).index_add(0, owner, torch.ones_like(token))
        return bce(total / count, label) + 0.5 * bce(token, label[owner]), len(labels)

    def _rank_loss(self, groups: list[Group], ranks: Any) -> tuple[Any, int]:
        torch = self.torch
        losses, start = [], 0
        for group in groups:
            end = start + len(group.passages)
            if group.targets is not None and end - start > 1:
                wanted = torch.softmax(torch.tensor(group.targets), dim=0)
                alone = torch.log_softmax(ranks[start:end], dim=0)
                said = [alone]
                if group.prior is not None:
                    said.append(torch.log_softmax(ranks[start:end] + torch.tensor(group.prior), dim=0))
                known = wanted.clamp_min(1e-9).log()
                losses.append(torch.stack([(wanted * (known - one)).sum() for one in said]).mean())
            start = end
        if not losses:
            return ranks.sum() * 0.0, 0
        return torch.stack(losses).mean(), len(losses)

    # checkpoints ------------------------------------------------------------------------------------------------

    def _checkpoint(self, directory: Path) -> None:
        safetensors: Any = require("safetensors.torch", extra="models", purpose="checkpoints")
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"weight.{name}": value.contiguous() for name, value in model_files.trained_state(self.model).items()
        }
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value.detach().clone()
        write_atomic(directory / f"trainer-{self.step}.safetensors", safetensors.save(tensors))
        write_atomic(directory / "trainer.json", json.dumps({"step": self.step, "config": asdict(self.config)}))
        for old in directory.glob("trainer-*.safetensors"):
            if old.name != f"trainer-{self.step}.safetensors":
                old.unlink()

    def _resume(self, directory: Path) -> None:
        safetensors: Any = require("safetensors.torch", extra="models", purpose="checkpoints")
        document = json.loads((directory / "trainer.json").read_text(encoding="utf-8"))
        tensors = safetensors.load_file(str(directory / f"trainer-{document['step']}.safetensors"))
        weights = {name.removeprefix("weight."): v for name, v in tensors.items() if name.startswith("weight.")}
        model_files.load_trained(self.model, weights)
        for name, parameter in self.model.named_parameters():
            kept = {
                key.split(".", 2)[1]: value
                for key, value in tensors.items()
                if key.startswith("adam.") and key.split(".", 2)[2] == name
            }
            if kept:
                self.optimizer.state[parameter] = kept
        self.step = int(document["step"])
