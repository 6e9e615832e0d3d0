"""Scores from the two-headed cross-encoder: the pruner that ships, and what `thresher context train` makes.

One forward pass over question and passage gives the passage's relevance and its tokens' keep logits; a sentence's score
is the logistic of their mean. Long passages are read through windows; a passage's relevance is its best window's.

On a CPU each window is computed by itself, without padding, in the order of its length, and the question's own states
once. That is as fast there as padded batches, and it is what makes a score independent of the batch it came in. On an
accelerator windows of like length are padded together, and scores are rounded to four digits.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.context.scoring import PassageScores, SplitPassage, combine, sentence_tokens, windows
from thresher.errors import ModelError, require
from thresher.models import two_headed
from thresher.models.embedded import embedded_path, load_tokenizer
from thresher.models.resolve import pick_device

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SHIPPED", "TwoHeadedScorer"]

SHIPPED = Path(__file__).parent.parent / "models" / "weights" / "thresher-context"
_PURPOSE = "the context pruner"


@dataclass(frozen=True, slots=True)
class _Window:
    pair: int
    tokens: tuple[int, int]
    ids: list[int]


class TwoHeadedScorer:
    """A two-headed cross-encoder on the embedded MiniLM.

    Args:
        directory: a model that `two_headed.save` wrote; the shipped one by default.
        device: `auto`, or what torch calls it.
        max_tokens: word pieces of a passage read at once, specials included.
        overlap: word pieces of whole sentences that a window shares with the one before.
        question_tokens: questions are read up to so many word pieces.
        batch_size: windows in one forward pass on an accelerator.

    Raises:
        ModelError: the directory holds no such model.
        MissingExtraError: torch, safetensors, tokenizers or the embedded model is not installed.
    """

    def __init__(
        self,
        directory: Path | str = SHIPPED,
        *,
        device: str = "cpu",
        max_tokens: int = 256,
        overlap: int = 64,
        question_tokens: int = 64,
        batch_size: int = 32,
    ) -> None:
        directory = Path(directory)
        self.torch: Any = require("torch", extra="models", purpose=_PURPOSE)
        safetensors: Any = require("safetensors.torch", extra="models", purpose=_PURPOSE)
        body = embedded_path()
        self.device = pick_device(device)
        self.shape, self.about = two_headed.read_config(directory)
        if not 16 <= max_tokens <= self.shape.positions:
            raise ModelError(f"max_tokens={max_tokens}: the model reads windows of 16 to {self.shape.positions} tokens")
        self.model = two_headed.load(directory, safetensors.load_file(str(body / "model.safetensors"))).to(self.device)
        self.tokenizer = load_tokenizer(body)
        self.tokenizer.no_truncation()
        self.max_tokens, self.overlap, self.question_tokens = max_tokens, overlap, question_tokens
        self.batch_size = batch_size
        self.presets: dict[str, float] = dict(self.about.get("presets", {}))
        self.name = f"{self.about.get('name', directory.name)}@{_fingerprint(directory)}"

    def count_tokens(self, text: str) -> int:
        """Word pieces of `text`, without special tokens."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """Scores of every pair, in order."""
        ranges: list[list[tuple[int, int]]] = []
        work: list[_Window] = []
        for number, (_, passage) in enumerate(pairs):
            head = f"{passage.title} " if passage.title else ""
            encoding = self.tokenizer.encode(head + passage.text, add_special_tokens=False)
            before = sum(1 for start, _ in encoding.offsets if start < len(head))
            offsets = [(start - len(head), end - len(head)) for start, end in encoding.offsets[before:]]
            before = min(before, self.max_tokens // 4)
            ranges.append(sentence_tokens(offsets, passage.sentences))
            title, ids = encoding.ids[:before], encoding.ids[len(encoding.ids) - len(offsets) :]
            for start, end in windows(ranges[-1], self.max_tokens - 2 - len(title), self.overlap):
                work.append(_Window(number, (start, end), [101, *title, *ids[start:end], 102]))
        return self._collect(pairs, ranges, work)

    def _collect(
        self, pairs: Sequence[tuple[str, SplitPassage]], ranges: list[list[tuple[int, int]]], work: list[_Window]
    ) -> list[PassageScores]:
        read: list[list[tuple[tuple[int, int], list[float]]]] = [[] for _ in pairs]
        relevance = [-math.inf] * len(pairs)
        order = sorted(range(len(work)), key=lambda i: (len(work[i].ids), i))
        outputs = self._forward([pairs[window.pair][0] for window in work], work, order)
        for window, (rank, logits) in zip(work, outputs, strict=True):
            start, end = window.tokens
            own = logits[len(window.ids) - 1 - (end - start) : len(window.ids) - 1]  # without title and specials
            scores = []
            for first, after in ranges[window.pair]:
                inside = own[max(first, start) - start : max(0, min(after, end) - start)] if after > start else []
                scores.append(_logistic(math.fsum(inside) / len(inside)) if inside else 0.0)
            read[window.pair].append((window.tokens, scores))
            relevance[window.pair] = max(relevance[window.pair], rank)
        lowest = -1e9  # a passage without a single token is relevant to nothing
        return [
            PassageScores(relevance[n] if relevance[n] > -math.inf else lowest, combine(ranges[n], read[n]))
            for n in range(len(pairs))
        ]

    def _forward(self, questions: list[str], work: list[_Window], order: list[int]) -> list[tuple[float, list[float]]]:
        """(rank score, keep logit of every token) of each window."""
        out: list[tuple[float, list[float]]] = [(0.0, [])] * len(work)
        size = 1 if self.device == "cpu" else self.batch_size
        with self.torch.inference_mode():
            asked = {question: self._question(question) for question in dict.fromkeys(questions)}
            for first in range(0, len(order), size):
                batch = order[first : first + size]
                if size == 1:
                    ids = self.torch.tensor([work[batch[0]].ids])
                    states = self.model.read_together(
                        asked[questions[batch[0]]], self.model.read_apart(ids, None), None, None
                    )
                    rank, logits = self.model.judge(*states, None, None)
                else:
                    rank, logits = self._padded([questions[i] for i in batch], [work[i].ids for i in batch])
                for row, number in enumerate(batch):
                    length = len(work[number].ids)
                    out[number] = (float(rank[row]), logits[row, :length].tolist())
        return out

    def _padded(self, questions: list[str], rows: list[list[int]]) -> tuple[Any, Any]:
        torch = self.torch
        q_ids, q_lengths = two_headed.pad([self._question_ids(q) for q in questions], self.device)
        p_ids, p_lengths = two_headed.pad(rows, self.device)
        rank, logits = self.model(q_ids, p_ids, q_lengths, p_lengths)
        return torch.round(rank, decimals=4), torch.round(logits, decimals=3)

    def _question_ids(self, question: str) -> list[int]:
        ids = self.tokenizer.encode(question, add_special_tokens=False).ids
        return [101, *ids[: self.question_tokens - 2], 102]

    def _question(self, question: str) -> Any:
        if self.device != "cpu":
            return None
        return self.model.read_apart(self.torch.tensor([self._question_ids(question)]), None)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@lru_cache(maxsize=8)
def _fingerprint(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()[:12]
