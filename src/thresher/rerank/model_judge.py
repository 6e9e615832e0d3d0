"""A language model as a judge: comparisons become prompts, answers become orders, choices and ratings.

How each kind of comparison is made:

`Order`    the model writes the order ("generate"), or the passages are sorted by the log-probability of their letter
           as the first answer token ("logits": FIRST, Reddy et al., arXiv 2406.15657; one token a window).
`Best`     the letter with the largest log-probability ("logits", which also orders the rest), or the letter the model
           writes ("generate").
`Prefer`   P(A) against P(B) from the two letters' log-probabilities, or the letter written.
`Rate`     "yes-no": log-odds of yes against no. "graded": InstUPR's soft score (arXiv 2403.16435), the mean of the
           grades 1 to 5 under their softmax. "likelihood": the log-probability of the query given the passage.
           "monot5": log-odds of true against false, in monoT5's own format. "text": yes or no as written, 1 or 0.
           "umbrela": the grade 0 to 3 that the model writes as an assessor (after UMBRELA, arXiv 2406.06519).

Log-odds order as P(yes)/(P(yes) + P(no)) does, without its ties at 1. A missing log-probability means no rating, never
a rating of 0.

A thought that `reasoning_tokens` cut off is closed, and the answer asked for once more: `thresher.rerank.reasoning`.

If another answer cannot be read, the request is repeated, up to `reasks` times, with the answer and what was wrong with
it. Such an answer is neither cached nor kept in the journal, so that the next run asks again. The first one is logged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from thresher.arguments import checked_call
from thresher.checks import is_a, real, shown, whole
from thresher.errors import ConfigError
from thresher.llm.model import THOUGHT_CLOSES, Message, Request
from thresher.rerank.constraints import chain_pattern, places_schema
from thresher.rerank.label_scores import hard_grade, log_odds, logistic, plain_grade, probability, soft_grade
from thresher.rerank.model_calls import Asking, ModelCalls
from thresher.rerank.parsing import get_parser, label_letters, read_choice, read_order
from thresher.rerank.plans.plan import Answer, Best, Order, Prefer, Rate
from thresher.rerank.prompting import THINKING, Prompts, load_template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thresher.llm.client import Client
    from thresher.llm.model import LanguageModel
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison
    from thresher.rerank.prompting import Template

AnswerMode = Literal["generate", "logits"]
Rating = Literal[
    "yes-no", "graded", "graded-plain", "graded-hard", "answerable", "likelihood", "monot5", "text", "umbrela", "rank1"
]

MODES = ("generate", "logits")
GRADES = ("1", "2", "3", "4", "5")
ASSESSED = ("0", "1", "2", "3")
"""Grades of TREC Deep Learning, and of UMBRELA."""
ID_TOKENS = 8  # upper bound for an id with brackets and separator
_FAMILY = {"yes-no": "yes-no", "text": "yes-no", "answerable": "yes-no", "graded": "graded", "graded-plain": "graded",
           "graded-hard": "graded", "likelihood": "likelihood", "monot5": "monot5", "umbrela": "umbrela",
           "rank1": "rank1"}  # fmt: skip
_GRADED = {"graded": soft_grade, "graded-plain": plain_grade, "graded-hard": hard_grade}
_VERDICTS = ("true", "false")
_VERDICT_AT_THE_END = re.compile(r"[\s*_\"'(]*\b(?:true|false)\b\W*\Z", re.IGNORECASE)
_ONE_VERDICT = "it must be the one word true or the one word false"


class ModelJudge:
    """Compares passages with a language model.

    Args:
        model: the model.
        order: how `Order` is answered.
        choice: how `Best` and `Prefer` are answered.
        rating: how `Rate` is answered.
        prompts: templates to use instead of the package's, by family (`{"listwise": "mine.jinja"}`).
        parsing: how a written order is read; see `thresher.rerank.parsing`.
        passage_tokens: passages are cut to this many of the model's tokens, and further if the prompt would not fit
            the model's context.
        reasoning_tokens: extra completion tokens for reasoning before the answer; "rank1" and the prompt "rank-k" need
            some (2,048 to 8,192).
        reasks: how often a request is repeated after an unreadable answer.
        temperature: for written answers.
        instruction: a sentence added to the prompt (what counts as relevant here).
        repeat: number of the repetition; the cache keeps repetitions apart.
    """

    comparisons_per_call = 1

    @checked_call
    def __init__(
        self,
        model: LanguageModel,
        *,
        order: AnswerMode = "generate",
        choice: AnswerMode = "logits",
        rating: Rating = "yes-no",
        prompts: Mapping[str, str | Path] | None = None,
        parsing: str = "brackets-v1",
        passage_tokens: int = 400,
        reasoning_tokens: int = 0,
        reasks: int = 1,
        temperature: float = 0.0,
        instruction: str = "",
        repeat: int = 0,
    ) -> None:
        for name, mode, modes in (("order", order, MODES), ("choice", choice, MODES), ("rating", rating, _FAMILY)):
            if not is_a(mode, str) or mode not in modes:
                raise ConfigError(f"{name} must be one of {', '.join(modes)}; got {shown(mode)}")
        whole("passage_tokens", passage_tokens, 1)
        for name, number in (("reasks", reasks), ("reasoning_tokens", reasoning_tokens), ("repeat", repeat)):
            whole(name, number)
        real("temperature", temperature, 0.0)
        if not is_a(instruction, str) or not is_a(prompts or {}, Mapping):
            raise ConfigError(
                f"instruction must be a text and prompts a mapping of families to files; got {shown(instruction)} and "
                f"{shown(prompts)}"
            )
        self._order, self._choice, self._rating = order, choice, rating
        own = dict(prompts or {})
        families = ("listwise", "setwise", "pairwise", _FAMILY[rating])
        if unknown := set(own) - set(families):
            raise ConfigError(f"unknown prompt families {sorted(map(str, unknown))}; choose from {', '.join(families)}")
        self._prompts = Prompts(
            {family: load_template(own.get(family, family)) for family in families}, passage_tokens, instruction
        )
        self._parser = get_parser(parsing)
        self._passage_tokens, self._reasoning_tokens = passage_tokens, reasoning_tokens
        self._temperature, self._repeat = temperature, repeat
        self._calls = ModelCalls(model, reasoning_tokens, reasks)
        thinks = [name for name in ("rank1", *THINKING) if any(one.name.startswith(name) for one in self._thinking())]
        if thinks and not reasoning_tokens:
            raise ConfigError(
                f"{thinks[0]!r} lets the model think before it answers; give reasoning_tokens, such as 4096"
            )

    @property
    def model(self) -> LanguageModel:
        """The model that answers."""
        return self._calls.model

    @model.setter
    def model(self, model: LanguageModel) -> None:
        self._calls.model = model

    def _thinking(self) -> list[Template]:
        """The templates that ask for thought, of those that this judge uses."""
        used = ["listwise", *(["rank1"] if self._rating == "rank1" else [])]
        return [self._prompts.templates[family] for family in used]

    @property
    def grades(self) -> bool:
        """Whether ratings are the grades 0 to 3."""
        return self._rating == "umbrela"

    @property
    def name(self) -> str:
        """The model and the settings."""
        prompts = "+".join(template.name for template in self._prompts.templates.values())
        return (
            f"{self.model.name}(order={self._order}, choice={self._choice}, rating={self._rating}, "
            f"parsing={self._parser.name}, prompts={prompts}, passage_tokens={self._passage_tokens})"
        )

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Compare with one call each, and one more for each repeated request.

        Raises:
            ModelError: a call failed for good, or the prompt does not fit the model.
            BudgetExhaustedError: a call does not fit the budget.
        """
        asking = Asking(query, candidates, client)
        return [await self._one(asking, comparison) for comparison in comparisons]

    def close(self) -> None:
        """Close the model's connections or threads."""
        close = getattr(self.model, "close", None)
        if close is not None:
            close()

    async def _one(self, asking: Asking, comparison: Comparison) -> Answer | None:
        match comparison:
            case Order(items=items):
                if self._order == "logits":
                    return await self._by_letters(asking, items, "listwise")
                return await self._written_order(asking, items)
            case Best(items=items) if self._choice == "logits":
                return await self._by_letters(asking, items, "setwise")
            case Prefer(items=items) if self._choice == "logits":
                return await self._pair(asking, items)
            case Best() | Prefer():
                return await self._written_choice(asking, comparison)
            case Rate(items=(item,)):
                return await self._rate(asking, item)

    async def _written_order(self, asking: Asking, items: tuple[int, ...]) -> Answer | None:
        """Let the model write the order."""
        if len(items) == 1:
            return Answer((items,))
        labels = [str(i + 1) for i in range(len(items))]
        structured = getattr(self.model, "structured", "none") == "json-schema"
        ties = self._prompts.templates["listwise"].name.startswith(THINKING)
        request = Request(
            self._prompt(asking, "listwise", items, labels, structured=structured, answer=ID_TOKENS * len(items)),
            max_tokens=ID_TOKENS * len(items) + 16 + self._reasoning_tokens,
            temperature=self._temperature,
            schema=places_schema(labels),
            pattern=chain_pattern(labels, ties=ties),
            permutation=() if self._reasoning_tokens else tuple(labels),
            repeat=self._repeat,
        )
        return await self._calls.read(
            asking,
            request,
            lambda text: read_order(text, items, self._parser, labels),
            f"it must name the identifiers 1 to {len(items)} in order, as [2] > [1]",
        )

    async def _written_choice(self, asking: Asking, comparison: Best | Prefer) -> Answer | None:
        """Let the model write a letter."""
        items = comparison.items
        labels = label_letters(len(items))
        family = "pairwise" if isinstance(comparison, Prefer) else "setwise"
        request = Request(
            self._prompt(asking, family, items, labels, answer=ID_TOKENS),
            max_tokens=ID_TOKENS + self._reasoning_tokens,
            temperature=self._temperature,
            schema={"type": "string", "enum": labels},
            pattern=f"[{''.join(labels)}]",
            repeat=self._repeat,
        )

        def read(text: str) -> Answer | None:
            label = read_choice(text, labels)
            if label is None:
                return None
            best = items[labels.index(label)]
            rest = tuple(item for item in items if item != best)
            return Answer(((best,), rest) if rest else ((best,),))

        return await self._calls.read(asking, request, read, f"it must be one of the letters {', '.join(labels)}")

    async def _by_letters(self, asking: Asking, items: tuple[int, ...], family: str) -> Answer | None:
        """Sort by the log-probability of each passage's letter; letters the model did not list follow as shown."""
        if len(items) == 1:
            return Answer((items,))
        labels = label_letters(len(items))
        opening = "[" if family == "listwise" else ""
        logs = await self._labels(asking, self._prompt(asking, family, items, labels, answer=1), labels, opening)
        named = [(item, logs[label]) for item, label in zip(items, labels, strict=True) if label in logs]
        if not named:
            return None
        tiers: list[list[int]] = []
        last = math.inf
        for item, log in sorted(named, key=lambda pair: -pair[1]):
            if tiers and log == last:
                tiers[-1].append(item)
            else:
                tiers.append([item])
            last = log
        known = {item for item, _ in named}
        missing = [(item,) for item in items if item not in known]
        repairs = ("missing",) if missing else ()
        return Answer((*map(tuple, tiers), *missing), named=len(named), repairs=repairs)

    async def _pair(self, asking: Asking, items: tuple[int, int]) -> Answer | None:
        """P(A) against P(B)."""
        logs = await self._labels(asking, self._prompt(asking, "pairwise", items, ["A", "B"], answer=1), ("A", "B"))
        odds = log_odds(logs, "A", "B")
        if odds is None:
            return None
        a, b = items
        p = logistic(odds)
        tiers = ((a,), (b,)) if odds > 0 else ((b,), (a,)) if odds < 0 else ((a, b),)
        return Answer(tiers, score=p)

    async def _rate(self, asking: Asking, item: int) -> Answer | None:
        """The rating of one passage."""
        prompt = self._prompt(asking, _FAMILY[self._rating], (item,), ["1"], answer=ID_TOKENS)
        score: float | None
        match self._rating:
            case "text" | "umbrela":
                return await self._written_rating(asking, item, prompt)
            case "graded" | "graded-plain" | "graded-hard":
                score = _GRADED[self._rating](await self._labels(asking, prompt, GRADES))
            case "answerable":
                score = probability(await self._labels(asking, prompt, ("yes", "no")), "yes")
            case "rank1":
                score = await self._verdict(asking, prompt)
            case "likelihood":
                request = Request(prompt, max_tokens=1, continuation=f" {asking.query.text}", repeat=self._repeat)
                score = (
                    await self._calls.send(asking, request, lambda reply: reply.continuation is not None)
                ).continuation
            case "monot5":
                score = log_odds(await self._labels(asking, prompt, ("true", "false"), raw=True), "true", "false")
            case _:
                score = log_odds(await self._labels(asking, prompt, ("yes", "no")), "yes", "no")
        return None if score is None or math.isinf(score) else Answer(((item,),), score=score)

    async def _verdict(self, asking: Asking, prompt: tuple[Message, ...]) -> float | None:
        """Log-odds of true against false after a thought."""
        request = Request(
            prompt,
            max_tokens=ID_TOKENS + self._reasoning_tokens,
            temperature=self._temperature,
            repeat=self._repeat,
        )
        said = await self._calls.send(asking, request, lambda reply: bool(reply.text.strip()))
        if not said.text.strip():
            self._calls.note(asking, said, request)
            return None
        if not re.search(THOUGHT_CLOSES, said.text, re.IGNORECASE):
            said = replace(said, text=_VERDICT_AT_THE_END.sub("", said.text))
        asked = replace(request, max_tokens=1, temperature=0.0, labels=_VERDICTS)
        reply = await self._calls.after(asking, asked, said, _ONE_VERDICT, lambda found: bool(found.labels))
        floor = reply.floor if reply.labels else -math.inf
        logs = {label: reply.labels.get(label, floor) for label in _VERDICTS}
        return log_odds(logs, *_VERDICTS)

    async def _written_rating(self, asking: Asking, item: int, prompt: tuple[Message, ...]) -> Answer | None:
        """The rating that the model writes: yes or no, or a grade."""
        labels = ASSESSED if self.grades else ("yes", "no")
        request = Request(
            prompt,
            max_tokens=ID_TOKENS + self._reasoning_tokens,
            temperature=self._temperature,
            schema={"type": "string", "enum": list(labels)},
            pattern=f"({'|'.join(labels)})",
            repeat=self._repeat,
        )

        def read(text: str) -> Answer | None:
            choice = read_choice(text.lower(), labels)
            if choice is None:
                return None
            return Answer(((item,),), score=float(choice) if self.grades else float(choice == "yes"))

        return await self._calls.read(asking, request, read, f"it must be {', '.join(labels[:-1])} or {labels[-1]}")

    async def _labels(
        self,
        asking: Asking,
        prompt: tuple[Message, ...],
        labels: Sequence[str],
        opening: str = "",
        *,
        raw: bool = False,
    ) -> Mapping[str, float]:
        """Log-probabilities of labels as the first answer token.

        If there are few labels and one was listed, an absent one gets the floor, its upper bound.
        """
        request = Request(prompt, max_tokens=1, labels=tuple(labels), opening=opening, raw=raw, repeat=self._repeat)
        completion = await self._calls.send(asking, request, lambda reply: bool(reply.labels))
        logs = dict(completion.labels)
        if logs and len(labels) <= len(GRADES) and completion.floor > -math.inf:
            logs = {label: logs.get(label, completion.floor) for label in labels}
        return logs

    def _prompt(
        self,
        asking: Asking,
        family: str,
        items: Sequence[int],
        labels: Sequence[str],
        *,
        answer: int,
        structured: bool = False,
    ) -> tuple[Message, ...]:
        """The messages for some passages, cut so that prompt and answer fit the model."""
        hits = [asking.candidates[item] for item in items]
        room = answer + self._reasoning_tokens
        messages, cut = self._prompts.fill(
            self.model, family, asking.query, hits, labels, answer=room, structured=structured
        )
        asking.client.counts.truncated += cut
        return messages
