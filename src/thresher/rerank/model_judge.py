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

If an answer cannot be read, the request is repeated, up to `reasks` times, with the answer and what was wrong with it.
Such an answer is neither cached nor kept in the journal, so that the next run asks again. The first one is logged.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from thresher.arguments import checked_call
from thresher.checks import is_a, real, shown, whole
from thresher.errors import ConfigError, ModelError
from thresher.llm.client import Call
from thresher.llm.model import Completion, Message, Request, is_thought
from thresher.rerank.parsing import get_parser, label_letters, read_choice, read_order
from thresher.rerank.plans.plan import Answer, Best, Order, Prefer, Rate
from thresher.rerank.prompting import Prompts, load_template

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from thresher.llm.client import Client
    from thresher.llm.model import LanguageModel
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison

logger = logging.getLogger(__name__)

AnswerMode = Literal["generate", "logits"]
Rating = Literal["yes-no", "graded", "likelihood", "monot5", "text", "umbrela"]

MODES = ("generate", "logits")
GRADES = ("1", "2", "3", "4", "5")
ASSESSED = ("0", "1", "2", "3")
"""Grades of TREC Deep Learning, and of UMBRELA."""
ID_TOKENS = 8  # upper bound for an id with brackets and separator
MORE_TOKENS = 4096  # suggested where an answer was cut off
_FAMILY = {"yes-no": "yes-no", "text": "yes-no", "graded": "graded", "likelihood": "likelihood", "monot5": "monot5",
           "umbrela": "umbrela"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Asking:
    """The query a judge is working on, its candidates and its client."""

    query: Query
    candidates: Sequence[Hit]
    client: Client


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
        reasoning_tokens: extra completion tokens for reasoning before the answer.
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
        self.model = model
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
        self._reasks, self._temperature, self._repeat = reasks, temperature, repeat
        self._logged = False

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
        asking = _Asking(query, candidates, client)
        return [await self._one(asking, comparison) for comparison in comparisons]

    def close(self) -> None:
        """Close the model's connections or threads."""
        close = getattr(self.model, "close", None)
        if close is not None:
            close()

    async def _one(self, asking: _Asking, comparison: Comparison) -> Answer | None:
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

    async def _written_order(self, asking: _Asking, items: tuple[int, ...]) -> Answer | None:
        """Let the model write the order."""
        if len(items) == 1:
            return Answer((items,))
        labels = [str(i + 1) for i in range(len(items))]
        structured = getattr(self.model, "structured", "none") == "json-schema"
        request = Request(
            self._prompt(asking, "listwise", items, labels, structured=structured, answer=ID_TOKENS * len(items)),
            max_tokens=ID_TOKENS * len(items) + 16 + self._reasoning_tokens,
            temperature=self._temperature,
            schema=_places_schema(labels),
            pattern=_chain_pattern(labels),
            permutation=() if self._reasoning_tokens else tuple(labels),
            repeat=self._repeat,
        )
        return await self._read(
            asking,
            request,
            lambda text: read_order(text, items, self._parser, labels),
            f"it must name the identifiers 1 to {len(items)} in order, as [2] > [1]",
        )

    async def _written_choice(self, asking: _Asking, comparison: Best | Prefer) -> Answer | None:
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

        return await self._read(asking, request, read, f"it must be one of the letters {', '.join(labels)}")

    async def _by_letters(self, asking: _Asking, items: tuple[int, ...], family: str) -> Answer | None:
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

    async def _pair(self, asking: _Asking, items: tuple[int, int]) -> Answer | None:
        """P(A) against P(B)."""
        logs = await self._labels(asking, self._prompt(asking, "pairwise", items, ["A", "B"], answer=1), ("A", "B"))
        odds = _log_odds(logs, "A", "B")
        if odds is None:
            return None
        a, b = items
        p = _logistic(odds)
        tiers = ((a,), (b,)) if odds > 0 else ((b,), (a,)) if odds < 0 else ((a, b),)
        return Answer(tiers, score=p)

    async def _rate(self, asking: _Asking, item: int) -> Answer | None:
        """The rating of one passage."""
        prompt = self._prompt(asking, _FAMILY[self._rating], (item,), ["1"], answer=8)
        score: float | None
        match self._rating:
            case "text" | "umbrela":
                return await self._written_rating(asking, item, prompt)
            case "graded":
                score = _soft_grade(await self._labels(asking, prompt, GRADES))
            case "likelihood":
                request = Request(prompt, max_tokens=1, continuation=f" {asking.query.text}", repeat=self._repeat)
                score = (await self._send(asking, request, lambda reply: reply.continuation is not None)).continuation
            case "monot5":
                score = _log_odds(await self._labels(asking, prompt, ("true", "false"), raw=True), "true", "false")
            case _:
                score = _log_odds(await self._labels(asking, prompt, ("yes", "no")), "yes", "no")
        return None if score is None or math.isinf(score) else Answer(((item,),), score=score)

    async def _written_rating(self, asking: _Asking, item: int, prompt: tuple[Message, ...]) -> Answer | None:
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

        return await self._read(asking, request, read, f"it must be {', '.join(labels[:-1])} or {labels[-1]}")

    async def _labels(
        self,
        asking: _Asking,
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
        completion = await self._send(asking, request, lambda reply: bool(reply.labels))
        logs = dict(completion.labels)
        if logs and len(labels) <= len(GRADES) and completion.floor > -math.inf:
            logs = {label: logs.get(label, completion.floor) for label in labels}
        return logs

    async def _read(
        self, asking: _Asking, request: Request, read: Callable[[str], Answer | None], wanted: str
    ) -> Answer | None:
        """Send and parse; if that fails, repeat the request with the error."""
        for attempt in range(self._reasks + 1):
            completion = await self._send(asking, request, lambda reply: read(reply.text) is not None)
            answer = read(completion.text)
            if answer is not None:
                return answer
            self._note(asking, completion, request)
            thinking = completion.finish == "length" and is_thought(completion.text)
            if thinking or attempt == self._reasks:  # asked again, it would think as long
                return None
            asking.client.counts.reasks += 1
            text = completion.text.strip()[:2000] or "(no answer)"
            short = " It was cut off; answer without explanation." if completion.finish == "length" else ""
            complaint = f"Your answer could not be read: {wanted}.{short} Answer again, in that form alone."
            request = replace(
                request, messages=(*request.messages, Message("assistant", text), Message("user", complaint))
            )
        return None

    def _note(self, asking: _Asking, completion: Completion, request: Request) -> None:
        """Keep what was wrong with an answer for the error, and log the first one."""
        if completion.finish == "length":
            thinking = " while thinking" if is_thought(completion.text) else ""
            because = (
                f"cut off at {request.max_tokens} tokens{thinking}; give --reasoning-tokens {MORE_TOKENS} (in Python "
                f"reasoning_tokens={MORE_TOKENS}) or more{', or --thinking off' if thinking else ''}"
            )
        elif not completion.text.strip():
            because = "empty"
        else:
            because = "not in the form that was asked for; -v shows one"
        asking.client.counts.unreadable_because = because
        if not self._logged:
            self._logged = True
            text = completion.text  # the model has removed its key
            shown = text if len(text) <= 500 else f"{text[:300]} ... {text[-200:]}"
            logger.info("query %r: this answer could not be read (%s): %r", asking.query.qid, because, shown)

    async def _send(
        self, asking: _Asking, request: Request, usable: Callable[[Completion], bool] | None = None
    ) -> Completion:
        """One call through the client.

        Raises:
            ModelError: it failed for good, or the answer is not a text.
        """
        payload = {
            "model": self.model.name,
            "parameters": dict(self.model.parameters),
            "request": request.payload(),
        }

        async def send() -> Completion:
            (completion,) = await self.model.complete([request])
            if not isinstance(completion.text, str):
                raise ModelError(f"{self.model.name} answered with {type(completion.text).__name__} instead of a text")
            return completion

        bound = self.model.prompt_bound(request)
        tokens = max(request.max_tokens, 1)
        return await asking.client.call(Call(payload, bound, tokens, send, Completion.from_json, usable))

    def _prompt(
        self,
        asking: _Asking,
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


def _log_odds(logs: Mapping[str, float], yes: str, no: str) -> float | None:
    """Log P(yes)/P(no); None unless both are known."""
    if yes not in logs or no not in logs or -math.inf in (logs[yes], logs[no]):
        return None
    return logs[yes] - logs[no]


def _soft_grade(logs: Mapping[str, float]) -> float | None:
    """The mean grade under the softmax of the grades listed; None if none is."""
    listed = {grade: log for grade, log in logs.items() if log > -math.inf}
    if not listed:
        return None
    top = max(listed.values())
    weights = {grade: math.exp(log - top) for grade, log in listed.items()}
    return math.fsum(int(grade) * weight for grade, weight in weights.items()) / math.fsum(weights.values())


def _logistic(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


def _places_schema(labels: Sequence[str]) -> dict[str, object]:
    """An object that maps every label to its place: no id can be missing, repeated or unknown."""
    place = {"type": "integer", "minimum": 1, "maximum": len(labels)}
    return {
        "type": "object",
        "properties": dict.fromkeys(labels, place),
        "required": list(labels),
        "additionalProperties": False,
    }


def _chain_pattern(labels: Sequence[str]) -> str:
    """A chain of as many ids as there are; a regular expression of reasonable size cannot forbid repeats."""
    one = rf"\[({'|'.join(labels)})\]"
    return one + rf"( > {one}){{{len(labels) - 1}}}"
