"""A decision model as a judge: passages become options, and its probabilities become orders, choices and ratings.

How each kind of comparison is asked (`thresher.llm.decisions` has the protocol):

`Rate`     a predicate, "[passage 03] is relevant to the query", whose probability is the rating; or a score on four
           levels of relevance, whose expected level, divided by the highest, is the rating. Both are in [0, 1].
`Order`    a choice of the most relevant passage: the passages sorted by their probabilities.
`Best`     the same choice.
`Prefer`   the same choice between two; P(first) is its share of the two probabilities.

All comparisons of a request share one state: the query, and each of their passages once, in the order in which they are
first shown. A hundred predicates, or a choice asked three times with its options in another order, are one request and
one state. With one question a request the passages are shown in the order of that comparison as well.

The distribution of a choice says how likely each option is the best one. Below the first few it is small, and servers
round it: options of probability 0 tie at the end and are no evidence about each other, like those that were not listed.

An answer that was refused, is missing, or cannot be true gives no information, never the order shown; it is counted as
unreadable, and a refusal also as refused. What a server does not take (that many questions, a state that long) is
learnt from its refusal, once.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Literal

from thresher.arguments import checked_call
from thresher.checks import whole
from thresher.errors import ConfigError, InputError, ModelError
from thresher.llm.background import Leader, PerLoop, no_end
from thresher.llm.client import Call
from thresher.llm.decisions import Decisions, DecisionServer, Question, prompt_bound
from thresher.llm.model import RefusedRequestError
from thresher.rerank.judges import construct
from thresher.rerank.plans.jointrank import JointRank
from thresher.rerank.plans.plan import Answer, Prefer, Rate
from thresher.rerank.plans.pool import ChoicePool
from thresher.rerank.prompting import fence, neutralise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.llm.client import Client
    from thresher.llm.decisions import Decision, DecisionDialect, DecisionModel
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison

_log = logging.getLogger(__name__)

DecisionRating = Literal["predicate", "score"]

LEVELS = ("not relevant", "related, without an answer", "a part of the answer", "a full answer")
"""Levels of relevance from lowest to highest, after those of TREC Deep Learning."""

WIDE = 100  # options of a choice from which on one choice among all candidates is the default
SHORTEST = 8  # tokens below which a passage is not cut
FRAME = 96  # tokens of a state besides its query, instruction and passages, at most
AROUND = 12  # tokens around a passage in a state

_QUESTIONS = re.compile(r"question", re.IGNORECASE)
_OPTIONS = re.compile(r"option|choice|criteria|label|logprob_token_ids|alternative", re.IGNORECASE)
_LONG = re.compile(
    r"token|context (length|window|size)|too (long|large)|max(imum)?[ _](\w+[ _])?length|sequence length|"
    r"(input|prompt|state) (length|is)|characters|bytes|payload",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"(max\w*|limit|at most|less than|up to|than|between \d+ and|1 to|2 to|>)\D{0,60}?(\d[\d,_]*)", re.I
)


class DecisionJudge:
    """Compares passages with a decision model.

    Args:
        model: the model.
        rating: how `Rate` is asked: as a predicate, or as a score on four levels.
        passage_tokens: passages are cut to this many of the model's tokens, and further if one comparison would not fit
            the model's context.
        instruction: a sentence added to the state (what counts as relevant here).

    Raises:
        ConfigError: an argument is not one of the above.
    """

    @checked_call
    def __init__(
        self,
        model: DecisionModel,
        *,
        rating: DecisionRating = "predicate",
        passage_tokens: int = 400,
        instruction: str = "",
    ) -> None:
        if rating not in ("predicate", "score"):
            raise ConfigError(f"rating must be 'predicate' or 'score' for a decision model; got {rating!r}")
        self.model = model
        self.comparisons_per_call = model.questions
        self._rating, self._instruction = rating, instruction
        self._passage_tokens = whole("passage_tokens", passage_tokens, 1)
        self._state_tokens = model.context
        self._leaders = PerLoop(Leader, no_end)
        self._noted: set[str] = set()

    @property
    def default_plan(self) -> str:
        """One choice among all candidates, in several orders; blocks where a choice holds too few of them."""
        if self.model.options < WIDE:
            return f"jointrank:block={min(JointRank().block, self.model.options)}"
        return f"choice-pool:pool={min(ChoicePool().pool, self.model.options)}"

    @property
    def name(self) -> str:
        """The model and the settings."""
        return f"{self.model.name}(rating={self._rating}, passage_tokens={self._passage_tokens})"

    @checked_call
    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Answer in one request, or in several if the model takes fewer questions or a shorter state.

        Raises:
            ModelError: a request failed for good.
            InputError: a comparison shows more passages than the model takes as options.
            BudgetExhaustedError: a request does not fit the budget.
        """
        for one in comparisons:
            if len(one.items) > self.model.options and not isinstance(one, Rate):
                raise InputError(
                    f"{self.name} chooses among {self.model.options} options at most and was shown {len(one.items)} "
                    "passages; use smaller windows, as with the plan choice-pool:pool="
                    f"{self.model.options}, or raise --most-options if the model takes more"
                )
        asked = [one for one in comparisons if len(one.items) > 1 or isinstance(one, Rate)]
        answers = iter(await self._ask(query, candidates, asked, client))
        return [
            next(answers) if len(one.items) > 1 or isinstance(one, Rate) else Answer((one.items,))
            for one in comparisons
        ]

    def close(self) -> None:
        """Close the model's connections."""
        close = getattr(self.model, "close", None)
        if close is not None:
            close()

    async def _ask(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """The answers of as many requests side by side as it takes."""
        parts = self._parts(query, candidates, comparisons)
        replies = await asyncio.gather(*(self._request(query, candidates, part, client) for part in parts))
        return [answer for reply in replies for answer in reply]

    async def _request(
        self, query: Query, candidates: Sequence[Hit], part: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """The answers of one request; of several smaller ones if the server refuses it for its size."""
        shown = list(dict.fromkeys(item for one in part for item in one.items))
        tokens, room = self._passage_tokens, self._room(query)
        if room is not None:
            tokens = min(tokens, room // len(shown) - AROUND)
            if tokens < SHORTEST:
                raise ModelError(
                    f"{len(shown)} passages do not fit a state of {self.name} ({self._state_tokens} tokens); use a "
                    "plan that shows fewer at once"
                )
        names = _names(len(shown))
        labels = dict(zip(shown, names, strict=True))
        texts = [self._text(candidates[item], tokens) for item in shown]
        state = self._state(query, names, [text for text, _ in texts])
        call = self._call(state, [self._question(one, labels) for one in part])
        limits = (self.comparisons_per_call, self._state_tokens)
        async with self._leaders.get().turn() as turn:
            try:
                reply = await client.call(call)
            except RefusedRequestError as err:
                if limits == (self.comparisons_per_call, self._state_tokens) and not self._adapt(err, part, state):
                    raise
                turn.settled = False  # another request may have learnt it already
                reply = None
        if reply is None:
            return await self._ask(query, candidates, part, client)
        client.counts.truncated += sum(cut for _, cut in texts)
        if (reply.usage.prompt_tokens or 0) > call.prompt_tokens and len(part) > 1:
            self._note("counts the state for each question; with --state-counted each budgets reserve as much")
        return [self._answer(one, decision, client) for one, decision in zip(part, reply.decisions, strict=True)]

    def _parts(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison]
    ) -> list[list[Comparison]]:
        """The comparisons in requests that hold no more questions, and no longer state, than the model takes."""
        room = self._room(query)
        parts: list[list[Comparison]] = []
        shown: set[int] = set()
        used = 0
        for one in comparisons:
            own = set(one.items)
            more = 0 if room is None else self._size(candidates, own - shown)
            if not parts or len(parts[-1]) >= self.comparisons_per_call or (room is not None and used + more > room):
                parts.append([])
                shown, used = set(), 0
                more = 0 if room is None else self._size(candidates, own)
            parts[-1].append(one)
            shown |= own
            used += more
        return parts

    def _room(self, query: Query) -> int | None:
        """The tokens of a state that passages may have; None if there is no limit."""
        if self._state_tokens is None:
            return None
        own = self.model.tokens.bound(query.text) + self.model.tokens.bound(self._instruction)
        return max(self._state_tokens - own - FRAME, 0)

    def _size(self, candidates: Sequence[Hit], items: set[int]) -> int:
        """The tokens of passages in a state."""
        return sum(self.model.tokens.count(self._text(candidates[item], self._passage_tokens)[0]) for item in items) + (
            len(items) * (AROUND)
        )

    def _text(self, hit: Hit, tokens: int) -> tuple[str, bool]:
        """A passage as it is shown, and whether it was cut."""
        special = self.model.tokens.special
        text = neutralise(f"{hit.title}. {hit.text}" if hit.title else hit.text, special)
        cut = self.model.tokens.cut(text, tokens)
        return cut, len(cut) < len(text)

    def _state(self, query: Query, names: Sequence[str], texts: Sequence[str]) -> str:
        special = self.model.tokens.special
        passages = [f"[{name}]\n{fence(text, special)}" for name, text in zip(names, texts, strict=True)]
        head = [f"A search query and {len(names)} passages.", f"Query: {neutralise(query.text, special)}"]
        return "\n\n".join([*head, *([self._instruction] if self._instruction else []), *passages])

    def _question(self, one: Comparison, labels: dict[int, str]) -> Question:
        options = tuple(labels[item] for item in one.items)
        if not isinstance(one, Rate):
            return Question("choice", "Which of these passages is most relevant to the query?", options)
        if self._rating == "score":
            return Question("score", f"How well does [{options[0]}] answer the query?", LEVELS)
        return Question("predicate", f"[{options[0]}] is relevant to the query.")

    def _call(self, state: str, questions: Sequence[Question]) -> Call[Decisions]:
        return Call(
            {"decisions": self.model.name, "body": self.model.body(state, questions)},
            prompt_bound(self.model, state, questions),
            0,
            lambda: self.model.decide(state, questions),
            Decisions.from_json,
            lambda reply: any(not decision.problem for decision in reply.decisions),
            len(questions),
        )

    def _answer(self, one: Comparison, decision: Decision, client: Client) -> Answer | None:
        """What a decision says about a comparison; None if nothing."""
        if decision.problem or decision.value is None:
            client.counts.unreadable_because = decision.problem
            client.counts.refused += decision.refused
            self._note(f"gave {decision.problem}, which counts as no information")
            return None
        if isinstance(one, Rate):
            top = len(LEVELS) - 1 if self._rating == "score" else 1
            return Answer((one.items,), score=decision.value / top)
        return ordered(one, decision)

    def _note(self, what: str) -> None:
        """Log what the model does, once."""
        if what not in self._noted:
            self._noted.add(what)
            _log.warning("%s %s", self.name, what)

    def _adapt(self, err: RefusedRequestError, part: Sequence[Comparison], state: str) -> bool:
        """Learn from a refusal how many questions the server takes, and how long a state; whether to try again.

        Raises:
            ModelError: it takes fewer options than were shown.
        """
        if err.status not in (400, 413, 422):
            return False
        long = err.status == 413 or bool(_LONG.search(err.said))
        limits = [int(re.sub(r"\D", "", found[2])) for found in _LIMIT.finditer(err.said[:500])]
        if not long and _OPTIONS.search(err.said) and not all(isinstance(one, Rate) for one in part):
            most = max(len(one.items) for one in part)
            fits = max((limit for limit in limits if 1 < limit < most), default=26)
            raise ModelError(
                f"{err}; if it takes fewer options than {most}, use smaller windows, as with --most-options {fits} or "
                f"the plan choice-pool:pool={fits}"
            )
        fewer = [limit for limit in limits if 0 < limit < len(part)]
        if len(part) > 1 and _QUESTIONS.search(err.said) and (fewer or not long):
            self.comparisons_per_call = max(fewer) if fewer else len(part) // 2
            _log.warning("%s takes fewer questions; %d are asked at once", self.name, self.comparisons_per_call)
            return True
        limit = min(self.model.tokens.count(state), self._state_tokens or sys.maxsize) * 2 // 3
        if not long or limit < FRAME:
            return False
        self._state_tokens = limit
        _log.warning("%s takes shorter states; they hold at most %d tokens", self.name, limit)
        return True


def ordered(one: Comparison, decision: Decision) -> Answer:
    """The order that a choice gives: by probability, equal ones tied, then in one tier what has none."""
    value = dict(zip(one.items, decision.probabilities, strict=True))
    named = sorted((item for item in one.items if value[item]), key=lambda item: -(value[item] or 0.0))
    if not named and decision.value is not None:
        named = [one.items[int(decision.value)]]
    rest = tuple(item for item in one.items if item not in set(named))
    tiers: list[list[int]] = []
    for item in named:
        if tiers and value[tiers[-1][0]] == value[item]:
            tiers[-1].append(item)
        else:
            tiers.append([item])
    share = None
    if isinstance(one, Prefer):
        first, second = (value[item] or 0.0 for item in one.items)
        share = first / (first + second) if first + second else float(named == [one.items[0]])
    missing = ("missing",) if any(value[item] is None for item in rest) else ()
    return Answer((*map(tuple, tiers), *([rest] if rest else [])), share, len(named) + (len(rest) == 1), missing)


def _names(count: int) -> list[str]:
    """Names whose alphabetical order is their order, for servers that sort what they are sent."""
    width = len(str(count))
    return [f"passage {number:0{width}}" for number in range(1, count + 1)]


def _named(dialect: DecisionDialect, name: str, *, base_url: str = "", **options: object) -> DecisionJudge:
    """The judge of a name; options of `DecisionServer` and `DecisionJudge`."""
    kind = "decisions" if dialect == "openai" else dialect
    if not base_url:
        raise ConfigError(f"judge {kind!r} needs the address of its server; give it as base_url")
    own = set(inspect.signature(DecisionJudge).parameters)
    asking = {key: options.pop(key) for key in own & set(options)}
    model = construct(DecisionServer, f"judge {kind!r}", name, base_url, dialect, **options)
    return construct(DecisionJudge, f"judge {kind!r}", model, **asking)


decisions, systemone = partial(_named, "openai"), partial(_named, "systemone")
