"""`TwoHeadedScorer`: sentence scores from a two-headed cross-encoder, such as the one that ships.

One forward pass over query and passage gives the passage's relevance and its tokens' keep logits; a sentence's score
is the logistic of their mean, or, where the model has one, the output of its sentence head. Long passages are read
through windows; a passage's relevance is its best window's.

On a CPU windows are packed without padding and the query's own states are computed once (`thresher.models.packed`); a
score depends neither on the batch it came in nor on the number of threads. On an accelerator windows of like length are
padded together, and scores are rounded to three digits.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np

from thresher.arguments import checked_call
from thresher.context.scorers import (
    LexicalScorer,
    PassageScores,
    SentenceScorer,
    SplitPassage,
    combine,
)
from thresher.context.sentence_head import FEATURES, Evidence, PassageEvidence, read_head, sentence_features
from thresher.errors import ModelError, require
from thresher.models import two_headed
from thresher.models.backend import pick_backend
from thresher.models.files import embedded_path
from thresher.models.hf import pick_device
from thresher.models.minilm import CLS, SEP, load_tokenizer
from thresher.models.two_headed import SHIPPED
from thresher.models.windows import Cutter, Window
from thresher.records import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from thresher.models.packed import JoinedReader
    from thresher.records import Hit

_Outputs: TypeAlias = "tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]"
"""Of a window's own tokens: rank score, keep logits, cosines with the query, cosines with each of its tokens."""
_NOTHING: _Outputs = (0.0, np.zeros(0), np.zeros(0), np.zeros((0, 0)))

RARITY = "piece_rarity"
"""Name of the weights file's table of word-piece rarity, float[vocabulary]."""
RANK_FEATURES = ("rank", "logit", "top", "near", "late", "overlap")
"""What relevance is a weighted sum of, where a model has such weights: the rank score, and the evidence of a window."""
_PURPOSE = "the context pruner"
_LEAST = -1e9
"""Relevance of a passage without a single token."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A window of a passage, and the query that it is read with."""

    pair: int
    query: str
    tokens: tuple[int, int]
    ids: list[int]
    states: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The model's output for a passage.

    Attributes:
        rank: the rank head's score of the best window.
        relevance: that, or the weighted sum of it and of the other evidence, where the model has weights for them.
        sentences: of each sentence; empty where not one token was read.
        whole: of the passage; none where not one token was read.
        stored: the passage's own states came with it, and were not computed.
    """

    rank: float
    relevance: float
    sentences: list[Evidence]
    whole: PassageEvidence | None
    stored: bool = False


class TwoHeadedScorer(SentenceScorer):
    """A two-headed cross-encoder on the embedded MiniLM.

    Args:
        directory: a model that `two_headed.save` wrote; the shipped one by default.
        device: `auto`, or what torch calls it.
        max_tokens: word pieces of a passage read at once, specials included.
        overlap: word pieces of whole sentences that a window shares with the one before.
        query_tokens: queries are truncated to this many word pieces.
        batch_size: windows in one forward pass on an accelerator.
        backend: the engine on a CPU: `auto`, or as `thresher.models.backend` lists them.

    Attributes:
        backend: the engine, and why.

    Raises:
        ConfigError: the engine is unknown, or does not run on the device.
        ModelError: the directory holds no such model.
        MissingExtraError: torch, safetensors, tokenizers or the embedded model is not installed.
    """

    def __init__(
        self,
        directory: Path | str = SHIPPED,
        *,
        device: str = "auto",
        max_tokens: int = 256,
        overlap: int = 64,
        query_tokens: int = 64,
        batch_size: int = 32,
        backend: str = "auto",
    ) -> None:
        directory = Path(directory)
        self.torch = require("torch", extra="models", purpose=_PURPOSE)
        safetensors = require("safetensors.torch", extra="models", purpose=_PURPOSE)
        body = embedded_path()
        self.device = pick_device(device)
        self.backend = pick_backend(backend, device=self.device)
        self.shape, self.about = two_headed.read_config(directory)
        if not 16 <= max_tokens <= self.shape.positions:
            raise ModelError(f"max_tokens={max_tokens}: the model reads windows of 16 to {self.shape.positions} tokens")
        self.model = two_headed.load(directory, safetensors.load_file(str(body / "model.safetensors"))).to(self.device)
        self.tokenizer = load_tokenizer(body)
        self.tokenizer.no_truncation()
        self.cutter, self.query_tokens = Cutter(self.tokenizer, max_tokens, overlap), query_tokens
        self.batch_size = batch_size
        self.lexical = LexicalScorer()
        config = str(directory / "config.json")
        self.presets = _presets(self.about.get("presets", {}), config)
        head = self.about.get("sentence_head")
        self.rank_weights = _rank_weights(self.about.get("rank_head"), config)
        self.head = read_head(head, config) if head else None
        extra = safetensors.load_file(str(directory / "model.safetensors"))
        rarity = extra.get(RARITY)
        self.rarity: list[float] = [1.0] * self.shape.vocabulary if rarity is None else rarity.double().tolist()
        if len(self.rarity) != self.shape.vocabulary:
            raise ModelError(f"{directory}: {RARITY} has {len(self.rarity)} numbers, not one for each word piece")
        self.name = two_headed.name_of(directory, self.about)

    def count_tokens(self, text: str) -> int:
        """Word pieces of `text`, without special tokens."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @checked_call
    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """Scores of every pair, in order."""
        readings = self.read(pairs)
        found: list[tuple[float, ...]]
        if self.head is None:
            found = [tuple(_logistic(one.logit) for one in reading.sentences) for reading in readings]
        else:
            tables = [self.features(*pair, reading) for pair, reading in zip(pairs, readings, strict=True)]
            scores = self.head(np.concatenate(tables)) if tables else np.zeros(0)
            ends = np.cumsum([len(table) for table in tables]).tolist()
            found = [
                tuple(float(score) for score in scores[end - len(table) : end])
                for table, end in zip(tables, ends, strict=True)
            ]
        # a passage without a token keeps every sentence
        return [
            PassageScores(
                reading.relevance,
                mine if reading.sentences else (1.0,) * len(passage.sentences),
                stored=reading.stored,
            )
            for (_, passage), reading, mine in zip(pairs, readings, found, strict=True)
        ]

    def features(self, query: str, passage: SplitPassage, reading: Reading) -> NDArray[np.float64]:
        """What the sentence head reads, float64[sentences, features]; no rows where not one token was read."""
        if reading.whole is None:
            return np.zeros((0, len(FEATURES)))
        bm25 = self.lexical.score([(query, passage)])[0].sentences
        return sentence_features(
            query, passage, reading.sentences, reading.relevance, bm25, reading.rank, reading.whole
        )

    def relevance(self, pairs: Sequence[tuple[str, SplitPassage | Hit]]) -> list[float]:
        """The rank score of every pair alone; sentences need not be known."""
        whole = [
            (query, SplitPassage(p.text, (Span(0, len(p.text)),), p.title, getattr(p, "states", None)))
            for query, p in pairs
        ]
        return [reading.relevance for reading in self.read(whole)]

    def read(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[Reading]:
        """The model's output for every pair, in order."""
        ranges: list[list[tuple[int, int]]] = []
        overlaps: list[list[float]] = []
        work: list[_Asked] = []
        asked = {query: self._query_ids(query) for query in dict.fromkeys(q for q, _ in pairs)}
        for number, (query, passage) in enumerate(pairs):
            cut = self.cutter.cut(passage.text, passage.sentences, passage.title)
            ranges.append(cut.ranges)
            overlaps.append([self._overlap(asked[query], cut.ids[first:after]) for first, after in cut.ranges])
            work += [
                _Asked(number, query, window.tokens, window.ids, self._stored(passage, window))
                for window in cut.windows
            ]
        read: list[list[tuple[tuple[int, int], list[Evidence]]]] = [[] for _ in pairs]
        ranks: list[list[float]] = [[] for _ in pairs]
        relevance: list[list[float]] = [[] for _ in pairs]
        wholes: list[list[PassageEvidence]] = [[] for _ in pairs]
        for window, (rank, *states) in zip(work, self._forward(work, asked), strict=True):
            n = window.pair
            read[n].append((window.tokens, _evidence(window.tokens, ranges[n], *states)))
            (whole,) = _evidence((0, len(states[0])), [(0, len(states[0]))], *states)
            ranks[n].append(rank)
            covered = self._overlap(asked[window.query], window.ids)
            relevance[n].append(self._relevance(rank, whole, covered))
            wholes[n].append(self._whole(asked[window.query], window.ids, whole, covered, states[2]))
        stored = [True] * len(pairs)
        for window in work:
            stored[window.pair] &= window.states is not None
        return [
            Reading(
                max(ranks[n]),
                max(relevance[n]),
                _combined(ranges[n], read[n], overlaps[n]),
                PassageEvidence.best(wholes[n]),
                stored[n],
            )
            if read[n]
            else Reading(_LEAST, _LEAST, [], None)
            for n in range(len(pairs))
        ]

    def _stored(self, passage: SplitPassage, window: Window) -> NDArray[np.float32] | None:
        """The states of a window that came with the passage; None where they are of another model, or of other text.

        On an accelerator they are computed.
        """
        states = passage.states
        if states is None or states.model != self.name or self.device != "cpu":
            return None
        return states.find(window.ids)

    def _relevance(self, rank: float, whole: Evidence, overlap: float) -> float:
        """The rank score, or what the rank head makes of it and of the window's other evidence."""
        if self.rank_weights is None:
            return rank
        values = (rank, whole.logit, whole.top, whole.near, whole.late, overlap)
        return math.fsum(w * x for w, x in zip(self.rank_weights, values, strict=True))

    def _whole(
        self, query: list[int], ids: list[int], whole: Evidence, covered: float, close: NDArray[np.float64]
    ) -> PassageEvidence:
        """Evidence about a passage from one of its windows; `close` holds cosines of its tokens with the query's."""
        pieces = query[1:-1]
        rarity = np.array([self.rarity[piece] for piece in pieces])
        here = set(ids)
        missing = max((self.rarity[piece] for piece in pieces if piece not in here), default=0.0)
        if not pieces:
            return PassageEvidence(whole.top, whole.near, 0.0, 0.0, 0.0, 0.0, 0.0, covered, missing, 0.0, 0)
        late = close.max(0)
        low = np.sort(late)[: max(1, len(late) // 3)]
        total = float(rarity.sum())
        return PassageEvidence(
            top=whole.top,
            near=whole.near,
            late=whole.late,
            late_rare=float((late * rarity).sum()) / total if total else 0.0,
            late_rarest=float(late[int(rarity.argmax())]),
            late_least=float(low[0]),
            late_low=float(low.mean()),
            covered=covered,
            missing=missing,
            rarest=float(rarity.max()),
            pieces=len(pieces),
        )

    def _forward(self, work: list[_Asked], asked: dict[str, list[int]]) -> list[_Outputs]:
        """Rank score, keep logits, cosines with the query and with its tokens, of each window's own tokens."""
        if self.device != "cpu":
            return self._batches(work, asked, sorted(range(len(work)), key=lambda i: (-len(work[i].ids), i)))
        pairs = [(asked[window.query], window.ids) for window in work]
        found = self._reader.judge(pairs, [window.states for window in work])
        return [_own(one, window, len(asked[window.query])) for one, window in zip(found, work, strict=True)]

    @cached_property
    def _reader(self) -> JoinedReader:
        from thresher.models.packed import JoinedReader

        return JoinedReader(self.model, self.backend)

    def _batches(self, work: list[_Asked], asked: dict[str, list[int]], order: list[int]) -> list[_Outputs]:
        """As `_forward`, in padded batches of like length."""
        out: list[_Outputs] = [_NOTHING] * len(work)
        with self.torch.inference_mode():
            for first in range(0, len(order), self.batch_size):
                batch = order[first : first + self.batch_size]
                outputs = self._padded([asked[work[i].query] for i in batch], [work[i].ids for i in batch])
                arrays = [tensor.double().cpu().numpy() for tensor in outputs]
                for row, number in enumerate(batch):
                    window = work[number]
                    out[number] = _own([array[row] for array in arrays], window, len(asked[window.query]))
        return out

    def _padded(self, queries: list[list[int]], rows: list[list[int]]) -> tuple[Tensor, ...]:
        q_ids, q_lengths = two_headed.pad(queries, self.device)
        p_ids, p_lengths = two_headed.pad(rows, self.device)
        apart = self.model.read_apart(q_ids, q_lengths), self.model.read_apart(p_ids, p_lengths)
        both = self.model.read_together(*apart, q_lengths, p_lengths)
        return tuple(self.torch.round(x, decimals=3) for x in self.model.judge_in_full(*both, q_lengths, p_lengths))

    def _query_ids(self, query: str) -> list[int]:
        ids = self.tokenizer.encode(query, add_special_tokens=False).ids
        return [CLS, *ids[: self.query_tokens - 2], SEP]

    def _overlap(self, query: list[int], ids: list[int]) -> float:
        """Share of the query's word pieces among `ids`, weighted by rarity."""
        wanted = sorted(set(query[1:-1]))
        whole = math.fsum(self.rarity[piece] for piece in wanted)
        here = set(ids)
        return math.fsum(self.rarity[piece] for piece in wanted if piece in here) / whole if whole else 0.0


def _presets(found: object, source: str) -> dict[str, float]:
    """The thresholds in a configuration, by name."""
    if not isinstance(found, dict) or not all(_is_number(x) and 0 <= x <= 1 for x in found.values()):
        raise ModelError(f"{source}: its presets are not thresholds of 0 to 1 by name; train the model again")
    return {str(name): float(threshold) for name, threshold in found.items()}


def _rank_weights(found: object, source: str) -> tuple[float, ...] | None:
    """The weights of what relevance is a sum of, None where a model has none."""
    if found is None:
        return None
    weights = found.get("weights") if isinstance(found, dict) else None
    if not isinstance(found, dict) or tuple(found.get("features") or ()) != RANK_FEATURES:
        raise ModelError(f"{source}: its rank head was made for other features; train it again")
    if not isinstance(weights, list) or len(weights) != len(RANK_FEATURES) or not all(map(_is_number, weights)):
        raise ModelError(f"{source}: its rank head does not have {len(RANK_FEATURES)} weights; train it again")
    return tuple(map(float, weights))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _own(outputs: list[NDArray[np.float64]], window: _Asked, query: int) -> _Outputs:
    """Outputs of a forward pass, cut to the window's own tokens and the query's."""
    rank, keep, near, close = outputs
    start, end = window.tokens
    last = len(window.ids) - 1
    mine = slice(last - (end - start), last)
    return float(rank), keep[mine], near[mine], close[mine, : max(0, query - 2)]


def _evidence(
    tokens: tuple[int, int],
    ranges: list[tuple[int, int]],
    keep: NDArray[np.float64],
    near: NDArray[np.float64],
    close: NDArray[np.float64],
) -> list[Evidence]:
    """Evidence about each sentence from one window; a placeholder for sentences outside it."""
    start, end = tokens
    out = [_UNREAD] * len(ranges)
    starts = [first for first, _ in ranges]
    for number in range(max(0, bisect_right(starts, start) - 1), bisect_left(starts, end)):
        first, after = max(ranges[number][0], start) - start, min(ranges[number][1], end) - start
        if after > first:
            logits = np.sort(keep[first:after])
            late = close[first:after].max(0).mean() if close.shape[1] else 0.0
            top = logits[-max(1, len(logits) // 4) :].mean()
            out[number] = Evidence(float(logits.mean()), float(top), float(near[first:after].mean()), float(late), 0.0)
    return out


_UNREAD = Evidence(0.0, 0.0, 0.0, 0.0, 0.0)


def _combined(
    ranges: list[tuple[int, int]], read: list[tuple[tuple[int, int], list[Evidence]]], overlaps: list[float]
) -> list[Evidence]:
    fields = [
        combine(ranges, [(tokens, [getattr(one, name) for one in found]) for tokens, found in read])
        for name in ("logit", "top", "near", "late")
    ]
    return [Evidence(*values) for values in zip(*fields, overlaps, strict=True)]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
