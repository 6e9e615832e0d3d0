"""Models whose output was computed before: MiniLM's vectors of passages, and what the cross-encoder said."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from thresher.context.model import TwoHeadedScorer
from thresher.context.scorers import PassageScores, SentenceScorer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from eval.bench import Bench
    from thresher.context.scorers import SplitPassage
    from thresher.encode.dense import MiniLMEncoder
    from thresher.evaluate.collections import Collection


class KnownVectors:
    """The embedded MiniLM; its vectors of a collection's passages are read from disk.

    Args:
        bench: where those of long passages are kept.
        collection: the passages.
        light: encodes queries.
        rate: words a second that MiniLM encodes here.

    Attributes:
        seconds: what encoding the passages asked for so far would have taken.
    """

    def __init__(self, bench: Bench, collection: Collection, light: MiniLMEncoder, rate: float) -> None:
        self._vectors = bench.embedded(collection, light)
        self._row = {passage.contents: row for row, passage in enumerate(collection.corpus)}
        self._light, self._rate = light, rate
        self.seconds = 0.0
        self.name, self.dimensions, self.fingerprint = light.name, light.dimensions, light.fingerprint

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, 384]."""
        self.seconds += sum(len(text.split()) for text in texts) / self._rate
        return self._vectors[[self._row[text] for text in texts]]

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, 384]."""
        return self._light.encode_queries(texts)


class RememberingScorer(SentenceScorer):
    """The embedded cross-encoder; it reads each query and passage once in all runs.

    Args:
        work: folder that keeps the scores.

    Attributes:
        seconds: what the answers given so far took when they were first computed.
    """

    def __init__(self, work: Path) -> None:
        self.model = TwoHeadedScorer()
        self.name, self.presets, self.about = self.model.name, self.model.presets, self.model.about
        self.seconds = 0.0
        self._file = work / f"read-{hashlib.sha256(self.name.encode()).hexdigest()[:12]}.jsonl"
        self._known: dict[str, tuple[float, list[float], float]] = {}
        if self._file.is_file():
            for line in self._file.read_text().splitlines():
                key, relevance, sentences, seconds = json.loads(line)
                self._known[key] = (relevance, sentences, seconds)

    def count_tokens(self, text: str) -> int:
        """Word pieces of `text`."""
        return self.model.count_tokens(text)

    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """As the model's."""
        keys = [hashlib.sha256(f"{q}\0{p.title}\0{p.text}".encode()).hexdigest()[:24] for q, p in pairs]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        if new:
            started = time.perf_counter()
            said = self.model.score([pairs[place] for place in new])
            taken = time.perf_counter() - started
            words = [len(pairs[place][1].text.split()) + 12 for place in new]
            with self._file.open("a") as file:
                for place, one, size in zip(new, said, words, strict=True):
                    entry = (one.relevance, [round(s, 6) for s in one.sentences], taken * size / sum(words))
                    self._known[keys[place]] = entry
                    file.write(json.dumps([keys[place], *entry]) + "\n")
            self.seconds -= taken
        found = [self._known[key] for key in keys]
        self.seconds += sum(one[2] for one in found)
        return [PassageScores(one[0], tuple(one[1])) for one in found]
