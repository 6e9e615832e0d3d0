"""Scorers by name, and the one that needs no model.

The lexical scorer is a baseline to beat, and what there is without torch: BM25 (Robertson and Zaragoza 2009) over the
sentences of the passage, each taken as a document, with document frequencies from those sentences and a few thousand
stop words' worth of nothing else. A score is the share of the query's weight that the sentence carries, from 0 to 1;
a passage's relevance is the share carried by the passage as a whole, so both are comparable between passages.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.context.scoring import PassageScores, SplitPassage
from thresher.errors import DataNotFoundError
from thresher.text.analyzer import analyzer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.context.scoring import SentenceScorer


def open_scorer(name: str, *, device: str = "cpu") -> SentenceScorer:
    """The scorer of that name.

    Args:
        name: `thresher-context` (the model that ships), `lexical`, or a directory or hub identifier of a model:
            one made by `thresher context train`, a Provence or XProvence checkpoint, or an OpenProvence checkpoint.
        device: `auto`, or what torch calls it.

    Raises:
        DataNotFoundError: it is nowhere on this machine.
        ModelError: its files hold none of these.
    """
    if name == "lexical":
        return LexicalScorer()
    if name == "thresher-context":
        from thresher.context.model import SHIPPED, TwoHeadedScorer

        if not (SHIPPED / "model.safetensors").is_file():
            raise DataNotFoundError(f"the weights that ship with thresher are not at {SHIPPED}; reinstall thresher")
        return TwoHeadedScorer(SHIPPED, device=device)
    from thresher.context.provence import ProvenceScorer
    from thresher.models import two_headed
    from thresher.models.files import resolve

    path = Path(resolve(name).path)
    if two_headed.is_saved(path):
        from thresher.context.model import TwoHeadedScorer

        return TwoHeadedScorer(path, device=device)
    return ProvenceScorer(path, device=device)


class LexicalScorer:
    """BM25 over the sentences of each passage.

    Args:
        language: of the analyzer, as in `thresher.text.analyzer`.
        k1: how slowly a repeated word saturates.
        b: how much a long sentence is held against itself.
    """

    def __init__(self, language: str = "english", *, k1: float = 0.9, b: float = 0.4) -> None:
        self._analyzer = analyzer(language)
        self._k1, self._b = k1, b
        self.name = f"lexical-{language}"
        self.presets: Mapping[str, float] = {"conservative": 0.0, "balanced": 0.0001, "strong": 0.2}

    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """Scores of every pair, in order."""
        return [self._one(query, passage) for query, passage in pairs]

    def _terms(self, text: str) -> Counter[str]:
        return Counter(self._analyzer(text))

    def _one(self, query: str, passage: SplitPassage) -> PassageScores:
        asked = self._terms(query)
        sentences = [self._terms(passage.text[s.start : s.end]) for s in passage.sentences]
        n = len(sentences)
        mean = max(1.0, sum(c.total() for c in sentences) / max(n, 1))
        weight = {}
        for term, times in asked.items():
            df = sum(term in c for c in sentences)
            weight[term] = times * math.log(1 + (n - df + 0.5) / (df + 0.5)) if n else 0.0
        whole = math.fsum(weight.values())
        if whole <= 0:
            return PassageScores(0.0, (0.0,) * n)
        scores = tuple(self._share(c, weight, mean) / whole for c in sentences)
        present = math.fsum(w for term, w in weight.items() if any(term in c for c in sentences))
        return PassageScores(present / whole, scores)

    def _share(self, terms: Counter[str], weight: Mapping[str, float], mean: float) -> float:
        """BM25 of a sentence, with the saturated frequency scaled to at most 1."""
        norm = self._k1 * (1 - self._b + self._b * terms.total() / mean)
        return math.fsum(w * terms[t] / (terms[t] + norm) for t, w in weight.items() if t in terms)
