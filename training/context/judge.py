"""Sentences judged by a language model: EXIT-style scores, and silver labels to train a small model on.

`LanguageModelScorer` asks for every sentence, with the whole passage before it, whether it helps to answer the
query, and scores P(yes) / (P(yes) + P(no)) at the first answer token (EXIT; Hwang and others, arXiv 2412.12559,
whose own model is a fine-tuned Gemma; any causal model with log-probabilities will do here, less well). A passage's
relevance is its best sentence's score.

`label` is the recipe of Provence (arXiv 2501.16214) for training data: the model answers from a passage whose sentences
are numbered and cites the numbers it used; what it cites is kept, "no answer" keeps nothing, and an answer that cites
nothing, or a number that is not there, is dropped and counted, never guessed at.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.context.scorers import PassageScores, SplitPassage
from thresher.errors import ModelError
from thresher.llm.background import run_in_background
from thresher.llm.model import Message, Request
from training.context.fit import Group, LabelledPassage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.llm.model import Completion, LanguageModel

_ASK = (
    "Question: {query}\n\nPassage:\n{passage}\n\nSentence from the passage:\n{sentence}\n\n"
    "Does this sentence help to answer the question? Answer Yes or No."
)
_CITE = (
    "Answer the question from the numbered sentences below, and from nothing else. After each statement, cite the "
    "sentences it rests on by their numbers in brackets, like [2] or [0][3]. If the sentences do not answer the "
    'question, write only "No answer".\n\nQuestion: {query}\n\n{sentences}'
)
_CITED = re.compile(r"\[(\d+(?:\s*,\s*\d+)*)\]")


class LanguageModelScorer:
    """Asks a language model about every sentence.

    Args:
        model: gives log-probabilities of labels.
        batch_size: requests in flight at once.
    """

    def __init__(self, model: LanguageModel, *, batch_size: int = 32) -> None:
        self.model, self.batch_size = model, batch_size
        self.name = f"yes-no-{model.name}"
        self.presets: Mapping[str, float] = {"balanced": 0.5}

    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """Scores of every pair, in order."""
        requests = []
        for query, passage in pairs:
            whole = f"{passage.title}\n{passage.text}" if passage.title else passage.text
            for span in passage.sentences:
                prompt = _ASK.format(query=query, passage=whole, sentence=passage.text[span.start : span.end])
                requests.append(Request((Message("user", prompt),), max_tokens=1, labels=("Yes", "No")))
        answers = iter(_complete(self.model, requests, self.batch_size))
        out = []
        for _, passage in pairs:
            scores = tuple(_share(next(answers), self.model.name) for _ in passage.sentences)
            out.append(PassageScores(max(scores, default=0.0), scores))
        return out


def _complete(model: LanguageModel, requests: Sequence[Request], size: int) -> list[Completion]:
    out: list[Completion] = []
    for first in range(0, len(requests), size):
        out += run_in_background(model.complete(requests[first : first + size]))
    return out


def _share(answer: Completion, name: str) -> float:
    """P(yes) / (P(yes) + P(no)); a label the model did not list counts as just under the least likely it listed."""
    yes, no = (answer.labels.get(label, answer.floor) for label in ("Yes", "No"))
    if yes == no == -math.inf:
        raise ModelError(
            f"the model {name} gave neither Yes nor No a probability; use one that returns log-probabilities"
        )
    return 1 / (1 + math.exp(min(700.0, no - yes))) if yes > -math.inf else 0.0


@dataclass(frozen=True, slots=True)
class LabellingAccount:
    """What became of the queries given to `label`.

    Attributes:
        labelled: passages with labels.
        nothing: of these, passages the model found no answer in.
        uncited: answers without a citation, dropped.
        out_of_range: answers that cite a sentence that is not there, dropped.
    """

    labelled: int
    nothing: int
    uncited: int
    out_of_range: int


def label(
    model: LanguageModel,
    asked: Sequence[tuple[str, Sequence[SplitPassage]]],
    *,
    max_tokens: int = 256,
    batch_size: int = 32,
) -> tuple[list[Group], LabellingAccount]:
    """Silver labels for training: one group for each query of which at least one passage could be labelled.

    Args:
        model: answers and cites.
        asked: queries with passages, split into sentences.
        max_tokens: longest answer.
        batch_size: requests in flight at once.

    Returns:
        Groups whose targets are 3 for a passage the model used and 0 for one it did not, and an account.
    """
    requests = []
    for query, passages in asked:
        for passage in passages:
            lines = (f"[{n}] {passage.text[s.start : s.end]}" for n, s in enumerate(passage.sentences))
            prompt = _CITE.format(query=query, sentences="\n".join(lines))
            requests.append(Request((Message("user", prompt),), max_tokens=max_tokens))
    answers = iter(_complete(model, requests, batch_size))
    groups, counts = [], {"labelled": 0, "nothing": 0, "uncited": 0, "out_of_range": 0}
    for query, passages in asked:
        made = []
        for passage in passages:
            found = cited_sentences(next(answers).text, len(passage.sentences))
            if isinstance(found, str):
                counts[found] += 1
                continue
            counts["labelled"] += 1
            counts["nothing"] += not found
            labels = tuple(int(n in found) for n in range(len(passage.sentences)))
            made.append(LabelledPassage(passage.text, passage.sentences, labels))
        if made:
            targets = tuple(3.0 if any(p.labels or ()) else 0.0 for p in made)
            groups.append(Group(query, tuple(made), targets if len(set(targets)) > 1 else None))
    return groups, LabellingAccount(**counts)


def cited_sentences(answer: str, sentences: int) -> set[int] | str:
    """The sentence numbers an answer cites; empty for "no answer"; `uncited` or `out_of_range` where it is unusable."""
    numbers = {int(n) for cited in _CITED.findall(answer) for n in cited.split(",")}
    if numbers:
        return numbers if max(numbers) < sentences else "out_of_range"
    return set() if re.match(r"\W*no answer\b", answer, re.IGNORECASE) else "uncited"
