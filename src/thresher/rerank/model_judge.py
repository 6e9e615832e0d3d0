"""A language model as a judge: asks become prompts, answers become orders, choices and ratings.

How each kind of ask is put:

`Order`    the model writes the order ("generate"), or the passages are sorted by the log-probability of their letter
           as the first answer token ("logits": FIRST, Reddy et al., arXiv 2406.15657; one token a window).
`Best`     the letter with the largest log-probability ("logits", which also orders the rest), or the letter the model
           writes ("generate").
`Prefer`   P(A) against P(B) from the two letters' log-probabilities, or the letter written.
`Rate`     "yes-no": log-odds of yes against no. "graded": InstUPR's soft score (arXiv 2403.16435), the mean of the
           grades 1 to 5 under their softmax. "likelihood": the log-probability of the query given the passage.
           "monot5": log-odds of true against false, in monoT5's own format. "text": yes or no as written, 1 or 0.

Log-odds order as P(yes)/(P(yes) + P(no)) does, without its ties at 1. A missing log-probability is no rating and
never a rating of 0.

An answer that cannot be read is asked again, as often as `reasks` says, with the model's own words and what was wrong
with them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from thresher.errors import ConfigError, ModelError
from thresher.llm.model import Completion, Message, Request
from thresher.rerank.asks import Answer, Ask, Best, Order, Prefer, Rate
from thresher.rerank.parsing import get_parser, label_letters, read_choice, read_order
from thresher.rerank.prompting import fence, load_template, neutralise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from thresher.llm.model import LanguageModel
    from thresher.rerank.judge import Question
    from thresher.rerank.limiter import Gate
    from thresher.rerank.prompting import Template

Reading = Literal["generate", "logits"]
Rating = Literal["yes-no", "graded", "likelihood", "monot5", "text"]

GRADES = ("1", "2", "3", "4", "5")
ID_TOKENS = 8  # of an id with brackets and separator, generously
_FAMILY = {"yes-no": "yes-no", "text": "yes-no", "graded": "graded", "likelihood": "likelihood", "monot5": "monot5"}


class ModelJudge:
    """Asks a language model.

    Args:
        model: the model.
        order: how `Order` is answered.
        choice: how `Best` and `Prefer` are answered.
        rating: how `Rate` is answered.
        prompts: templates to use instead of the package's, by family (`{"listwise": "mine.jinja"}`).
        parsing: how a written order is read; see `thresher.rerank.parsing`.
        passage_tokens: passages are cut to so many of the model's tokens, and further where the prompt would not fit
            the model's context.
        reasoning_tokens: room for thought before the answer.
        reasks: how often an unreadable answer is asked again.
        temperature: of written answers.
        instruction: a sentence added to the prompt (what counts as relevant here).
        repeat: number of the repetition; answers of another repetition are not taken from the cache.
    """

    asks_per_call = 1

    def __init__(
        self,
        model: LanguageModel,
        *,
        order: Reading = "generate",
        choice: Reading = "logits",
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
        if rating not in _FAMILY or {order, choice} - {"generate", "logits"}:
            raise ConfigError(f"order={order!r}, choice={choice!r}, rating={rating!r}: one of them is not known")
        if passage_tokens < 1 or reasks < 0 or reasoning_tokens < 0:
            raise ConfigError("passage_tokens is at least 1; reasks and reasoning_tokens are not negative")
        self.model = model
        self._order, self._choice, self._rating = order, choice, rating
        own = dict(prompts or {})
        families = ("listwise", "setwise", "pairwise", _FAMILY[rating])
        if unknown := set(own) - set(families):
            raise ConfigError(f"prompts for {sorted(unknown)} are not used here; the families are {families}")
        self._templates = {family: load_template(own.get(family, family)) for family in families}
        self._parser = get_parser(parsing)
        self._passage_tokens, self._reasoning_tokens = passage_tokens, reasoning_tokens
        self._reasks, self._temperature, self._instruction, self._repeat = reasks, temperature, instruction, repeat
        self._cuts: dict[tuple[str, int], tuple[str, bool]] = {}

    @property
    def name(self) -> str:
        """The model and how it is asked."""
        prompts = "+".join(template.name for template in self._templates.values())
        return (
            f"{self.model.name}(order={self._order}, choice={self._choice}, rating={self._rating}, "
            f"parsing={self._parser.name}, prompts={prompts}, passage_tokens={self._passage_tokens})"
        )

    async def answer(self, query: Question, asks: Sequence[Ask], gate: Gate) -> list[Answer | None]:
        """Ask the model about each, one call each and one more for each re-ask.

        Raises:
            ModelError: a call failed for good, or the prompt does not fit the model.
            BudgetExhaustedError: a call does not fit the budget.
        """
        return [await self._one(query, ask, gate) for ask in asks]

    async def _one(self, query: Question, ask: Ask, gate: Gate) -> Answer | None:
        match ask:
            case Order(items=items):
                if self._order == "logits":
                    return await self._by_letters(query, items, "listwise", gate)
                return await self._written_order(query, items, gate)
            case Best(items=items) if self._choice == "logits":
                return await self._by_letters(query, items, "setwise", gate)
            case Prefer(items=items) if self._choice == "logits":
                return await self._pair(query, items, gate)
            case Best(items=items) | Prefer(items=items):
                return await self._written_choice(query, ask, gate)
            case Rate(items=(item,)):
                return await self._rate(query, item, gate)

    async def _written_order(self, query: Question, items: tuple[int, ...], gate: Gate) -> Answer | None:
        """Let the model write the order."""
        if len(items) == 1:
            return Answer((items,))
        labels = [str(i + 1) for i in range(len(items))]
        structured = getattr(self.model, "structured", "none") == "json-schema"
        request = Request(
            self._prompt("listwise", query, items, labels, gate, structured=structured, answer=ID_TOKENS * len(items)),
            max_tokens=ID_TOKENS * len(items) + 16 + self._reasoning_tokens,
            temperature=self._temperature,
            schema=_places_schema(labels),
            pattern=_chain_pattern(labels),
            permutation=() if self._reasoning_tokens else tuple(labels),
            repeat=self._repeat,
        )
        return await self._read(
            request,
            lambda text: read_order(text, items, self._parser, labels),
            f"it must name the identifiers 1 to {len(items)} in order, as [2] > [1]",
            gate,
        )

    async def _written_choice(self, query: Question, ask: Best | Prefer, gate: Gate) -> Answer | None:
        """Let the model write a letter."""
        items = ask.items
        labels = label_letters(len(items))
        family = "pairwise" if isinstance(ask, Prefer) else "setwise"
        request = Request(
            self._prompt(family, query, items, labels, gate, answer=ID_TOKENS),
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

        return await self._read(request, read, f"it must be one of the letters {', '.join(labels)}", gate)

    async def _by_letters(self, query: Question, items: tuple[int, ...], family: str, gate: Gate) -> Answer | None:
        """Sort by the log-probability of each passage's letter; letters the model did not list follow as shown."""
        if len(items) == 1:
            return Answer((items,))
        labels = label_letters(len(items))
        opening = "[" if family == "listwise" else ""
        logs = await self._labels(self._prompt(family, query, items, labels, gate, answer=1), labels, gate, opening)
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

    async def _pair(self, query: Question, items: tuple[int, int], gate: Gate) -> Answer | None:
        """P(A) against P(B)."""
        logs = await self._labels(self._prompt("pairwise", query, items, ["A", "B"], gate, answer=1), ("A", "B"), gate)
        odds = _log_odds(logs, "A", "B")
        if odds is None:
            return None
        a, b = items
        p = _logistic(odds)
        tiers = ((a,), (b,)) if odds > 0 else ((b,), (a,)) if odds < 0 else ((a, b),)
        return Answer(tiers, score=p)

    async def _rate(self, query: Question, item: int, gate: Gate) -> Answer | None:
        """The rating of one passage."""
        prompt = self._prompt(_FAMILY[self._rating], query, (item,), ["1"], gate, answer=8)
        score: float | None
        match self._rating:
            case "text":
                request = Request(prompt, max_tokens=ID_TOKENS + self._reasoning_tokens, temperature=self._temperature,
                                  schema={"type": "string", "enum": ["yes", "no"]}, pattern="(yes|no)",
                                  repeat=self._repeat)  # fmt: skip

                def read(text: str) -> Answer | None:
                    said = read_choice(text.lower(), ("yes", "no"))
                    return None if said is None else Answer(((item,),), score=float(said == "yes"))

                return await self._read(request, read, "it must be yes or no", gate)
            case "graded":
                score = _soft_grade(await self._labels(prompt, GRADES, gate))
            case "likelihood":
                request = Request(prompt, max_tokens=1, continuation=f" {query.text}", repeat=self._repeat)
                score = (await self._send(request, gate)).continuation
            case "monot5":
                score = _log_odds(await self._labels(prompt, ("true", "false"), gate, raw=True), "true", "false")
            case _:
                score = _log_odds(await self._labels(prompt, ("yes", "no"), gate), "yes", "no")
        return None if score is None or math.isinf(score) else Answer(((item,),), score=score)

    async def _labels(
        self,
        prompt: tuple[Message, ...],
        labels: Sequence[str],
        gate: Gate,
        opening: str = "",
        *,
        raw: bool = False,
    ) -> Mapping[str, float]:
        """Log-probabilities of labels as the first answer token.

        Of a few labels, an absent one is taken at the floor, its upper bound, as long as another was listed.
        """
        request = Request(prompt, max_tokens=1, labels=tuple(labels), opening=opening, raw=raw, repeat=self._repeat)
        completion = await self._send(request, gate)
        logs = dict(completion.labels)
        if logs and len(labels) <= len(GRADES) and completion.floor > -math.inf:
            logs = {label: logs.get(label, completion.floor) for label in labels}
        return logs

    async def _read(
        self, request: Request, read: Callable[[str], Answer | None], wanted: str, gate: Gate
    ) -> Answer | None:
        """Send, read, and where that fails ask again with the error."""
        for attempt in range(self._reasks + 1):
            completion = await self._send(request, gate)
            answer = read(completion.text)
            if answer is not None or attempt == self._reasks:
                return answer
            gate.tally.reasks += 1
            said = completion.text.strip()[:2000] or "(no answer)"
            short = " It was cut off; answer without explanation." if completion.finish == "length" else ""
            complaint = f"Your answer could not be read: {wanted}.{short} Answer again, in that form alone."
            request = replace(
                request, messages=(*request.messages, Message("assistant", said), Message("user", complaint))
            )
        return None

    async def _send(self, request: Request, gate: Gate) -> Completion:
        """One call through the gate."""
        payload = {
            "model": self.model.name,
            "parameters": dict(self.model.parameters),
            "request": request.payload(),
        }

        async def send() -> Mapping[str, Any]:
            (completion,) = await self.model.complete([request])
            return completion.as_json()

        bound = self.model.prompt_bound(request)
        return Completion.from_json(await gate.call(payload, bound, max(request.max_tokens, 1), send))

    def _prompt(
        self,
        family: str,
        query: Question,
        items: Sequence[int],
        labels: Sequence[str],
        gate: Gate,
        *,
        answer: int,
        structured: bool = False,
    ) -> tuple[Message, ...]:
        """The messages for some passages, cut so that prompt and answer fit the model."""
        template = self._templates[family]
        values = {
            "query": neutralise(query.text, self.model.tokens.special),
            "n": len(items),
            "instruction": self._instruction,
            "example": " > ".join(f"[{label}]" for label in [*labels[1:3], labels[0]][: len(labels)]),
            "structured": structured,
        }
        limit = self._limit(template, values, labels, answer + self._reasoning_tokens)
        passages = []
        for item, label in zip(items, labels, strict=True):
            hit = query.hits[item]
            text, cut = self._cut(f"{hit.title}. {hit.text}" if hit.title else hit.text, limit)
            gate.tally.truncated += cut
            passages.append({"label": label, "text": self._shown(template, text)})
        return template.render({**values, "passages": passages})

    def _shown(self, template: Template, text: str) -> str:
        special = self.model.tokens.special
        return fence(text, special) if template.fenced else neutralise(text, special)

    def _limit(self, template: Template, values: Mapping[str, Any], labels: Sequence[str], answer: int) -> int:
        """How many tokens of each passage fit."""
        if self.model.context is None:
            return self._passage_tokens
        empty = [{"label": label, "text": self._shown(template, "")} for label in labels]
        frame = self.model.prompt_bound(Request(template.render({**values, "passages": empty})))
        room = (self.model.context - frame - answer - 16) // len(labels) - 2  # joining may cost a token on each side
        if room < 1:
            raise ModelError(
                f"{len(labels)} passages do not fit the context of {self.model.name} ({self.model.context} tokens, "
                f"{frame} of them for the prompt without passages); choose a smaller window"
            )
        return min(self._passage_tokens, room)

    def _cut(self, text: str, limit: int) -> tuple[str, bool]:
        key = (text, limit)
        if key not in self._cuts:
            if len(self._cuts) > 50_000:
                self._cuts.clear()
            cut = self.model.tokens.cut(text, limit)
            self._cuts[key] = (cut, len(cut) < len(text))
        return self._cuts[key]


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


def _places_schema(labels: Sequence[str]) -> dict[str, Any]:
    """An object with every label as a key and its place as the value: no id can be missing, repeated or strange."""
    place = {"type": "integer", "minimum": 1, "maximum": len(labels)}
    return {
        "type": "object",
        "properties": dict.fromkeys(labels, place),
        "required": list(labels),
        "additionalProperties": False,
    }


def _chain_pattern(labels: Sequence[str]) -> str:
    """A chain of as many ids as there are; a regular expression of sane size cannot forbid repeats."""
    one = rf"\[({'|'.join(labels)})\]"
    return one + rf"( > {one}){{{len(labels) - 1}}}"
