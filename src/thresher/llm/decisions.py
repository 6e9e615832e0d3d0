"""Decision models: a state and typed questions go in, probabilities come out, and no text is written.

A question is a *predicate* (how likely is this statement?), a *choice* (which of these options?) or a *score* (which of
these levels, lowest first?). All questions of a request are about one state, which is sent once. Two dialects:

    openai     POST /v1/decisions   {model, input, questions: [{type, name, instructions, choices | levels}]}
               -> {answers: [{type, name, probability | choice, probabilities | score, probabilities}], usage}
    systemone  POST /v1/systemone   {model, state, questions: {name: {type, instructions, criteria}}}
               -> {answers: {name: {type, noul | choice, probabilities | score, probabilities}}, usage}

The first is spoken by OpenAI and vLLM, the second by TypeSafe, vLLM, SGLang, Ollama, llama.cpp and many hosts; there a
predicate is called `noul`. Each answer is read by itself: one that is refused, missing, given twice, about options that
were not offered, or without probabilities that can be true is a `Decision` with a `problem`, and the others count.

Nothing is cached or repeated here; that is `thresher.llm.client`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from thresher.arguments import checked_call
from thresher.checks import whole
from thresher.errors import ConfigError, InputError, ModelError
from thresher.llm.http import CONNECTIONS, JsonServer, server_url
from thresher.llm.keys import KeySource
from thresher.llm.model import RefusedRequestError, TokenUsage, one_line
from thresher.llm.openai_server import default_key, extra_body
from thresher.llm.tokens import tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from thresher.llm.model import Json
    from thresher.llm.tokens import Tokens

Kind = Literal["predicate", "choice", "score"]
DecisionDialect = Literal["openai", "systemone"]
StateCounted = Literal["once", "each"]

SLACK = 0.05
"""By how much probabilities may miss a sum of 1: servers round them, and a choice can have hundreds."""

ROUNDING = 1e-6  # by which a softmax of 32 bits may leave the range of a probability
REQUEST_TOKENS = 64  # upper bound on what a chat template adds to the state
QUESTION_TOKENS = 48  # and around each question
OPTION_TOKENS = 8  # and around each option


@dataclass(frozen=True, slots=True)
class Question:
    """One question about the state.

    Attributes:
        kind: `predicate`, `choice` or `score`.
        instructions: a statement that is true or false (`predicate`), or what is asked for.
        options: the options of a choice, or the levels of a score from lowest to highest; each once.
    """

    kind: Kind
    instructions: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question.

    Attributes:
        value: the probability of a predicate; the place of the option chosen; the expected level, from 0 to the number
            of levels less 1. None if there is no usable answer.
        probabilities: of the options of a choice, in their order; None for an option that the server did not list.
        problem: why the answer cannot be used, in words; empty if it can.
        refused: whether the model declined to answer.
    """

    value: float | None = None
    probabilities: tuple[float | None, ...] = ()
    problem: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Decisions:
    """The reply to one request: a decision for each question, in their order, and the tokens spent."""

    decisions: tuple[Decision, ...]
    usage: TokenUsage = field(default_factory=TokenUsage)

    def as_json(self) -> Json:
        """Plain JSON, for cache and journal."""
        rows = [[one.value, list(one.probabilities), one.problem, one.refused] for one in self.decisions]
        return {"decisions": rows, "usage": self.usage.as_json()}

    @classmethod
    def from_json(cls, document: Json) -> Decisions:
        """The reply from its `as_json`."""
        rows = document["decisions"]
        decisions = tuple(Decision(value, tuple(given), problem, refused) for value, given, problem, refused in rows)
        return cls(decisions, TokenUsage(**document["usage"]))


class DecisionModel(Protocol):
    """A decision model."""

    @property
    def name(self) -> str:
        """Dialect, address and model."""

    @property
    def tokens(self) -> Tokens:
        """Counts and cuts text in the model's tokens."""

    @property
    def context(self) -> int | None:
        """The most tokens of a state, None if unknown."""

    @property
    def questions(self) -> int:
        """The most questions of a request."""

    @property
    def options(self) -> int:
        """The most options of a choice."""

    @property
    def state_counted(self) -> StateCounted:
        """Whether usage counts the tokens of the state once a request, or for each question."""

    def body(self, state: str, questions: Sequence[Question]) -> Json:
        """The request: all that the answers depend on besides the address."""

    async def decide(self, state: str, questions: Sequence[Question]) -> Decisions:
        """One attempt at a request.

        Raises:
            ModelError: it failed; a TransientModelError may succeed later, a RefusedRequestError not.
        """


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a dialect's first vendor states: its path, and the most questions and options."""

    path: str
    questions: int
    options: int = 255


DIALECTS: Mapping[DecisionDialect, _Limits] = {
    "openai": _Limits("/decisions", 400),
    "systemone": _Limits("/systemone", 64),
}


class DecisionServer(DecisionModel):
    """A decision model on a server.

    Args:
        model: the name the server knows it by.
        base_url: the server's address, with or without `/v1` and endpoint. An address that ends with `/decisions` is
            asked there in either dialect, since some hosts speak `systemone` at it.
        dialect: `openai` or `systemone`.
        key: the name of the environment variable that holds the key, the path of a file with it, or a function that
            returns it. Unless given, OPENAI_API_KEY for openai.com and THRESHER_LLM_KEY for every other host.
        timeout: seconds after which a request without an answer has failed.
        connections: the most open connections.
        tokens: the model's tokenizer, or the path of its tokenizer.json, for exact counts; estimates unless given.
        context: the most tokens of a state, None if unknown.
        questions_per_call: the most questions of a request, 400 in the dialect of OpenAI and 64 in the other unless
            given.
        most_options: the most options of a choice, 255 unless given; some vendors take 208, vLLM 26.
        state_counted: whether the server counts the tokens of the state `once` a request, or for `each` question, as
            vLLM does; budgets reserve that many.
        extra: further fields of the request body, or their JSON.

    Raises:
        ConfigError: an argument is not one of the above.
        MissingExtraError: httpx2 is not installed.
    """

    @checked_call
    def __init__(
        self,
        model: str,
        base_url: str,
        dialect: DecisionDialect = "openai",
        *,
        key: str | Path | Callable[[], str] = "",
        timeout: float = 60.0,
        connections: int = CONNECTIONS,
        tokens: Tokens | str | Path | None = None,
        context: int | None = None,
        questions_per_call: int | None = None,
        most_options: int | None = None,
        state_counted: StateCounted = "once",
        extra: Mapping[str, object] | str | None = None,
    ) -> None:
        if dialect not in DIALECTS:
            raise ConfigError(f"unknown dialect of decisions {dialect!r}; choose one of {', '.join(DIALECTS)}")
        if not model.strip():
            raise ConfigError(f"a decision model on a server has a name; got {model!r}")
        if state_counted not in ("once", "each"):
            raise ConfigError(f"state_counted must be 'once' or 'each'; got {state_counted!r}")
        for name, value, least in (
            ("context", context, 1), ("questions_per_call", questions_per_call, 1), ("most_options", most_options, 2),
        ):  # fmt: skip
            if value is not None:
                whole(name, value, least)
        self._dialect, self._model, self._limits = dialect, model, DIALECTS[dialect]
        paths = [limits.path for limits in DIALECTS.values()]
        root = server_url(base_url, "v1", paths)
        named = next((path for path in paths if base_url.strip().rstrip("/").endswith(path)), self._limits.path)
        self._url = f"{root}{named}"
        self._server = JsonServer(self.name, KeySource(key or default_key(root)), timeout, connections)
        self._tokens, self._context = tokens_of(tokens), context
        self._questions = questions_per_call or self._limits.questions
        self._options, self._state_counted = most_options or self._limits.options, state_counted
        self._extra = extra_body(extra)

    @property
    def name(self) -> str:
        """Dialect, address and model."""
        return f"{self._dialect}({self._url}, model={self._model})"

    @property
    def tokens(self) -> Tokens:
        """Counts and cuts text in the model's tokens."""
        return self._tokens

    @property
    def context(self) -> int | None:
        """The most tokens of a state, None if unknown."""
        return self._context

    @property
    def questions(self) -> int:
        """The most questions of a request."""
        return self._questions

    @property
    def options(self) -> int:
        """The most options of a choice."""
        return self._options

    @property
    def state_counted(self) -> StateCounted:
        """As given."""
        return self._state_counted

    def body(self, state: str, questions: Sequence[Question]) -> Json:
        """The request in the server's dialect."""
        names = _names(len(questions))
        if self._dialect == "openai":
            asked: object = [_openai(name, question) for name, question in zip(names, questions, strict=True)]
            return {"model": self._model, "input": state, "questions": asked, **self._extra}
        asked = {name: _systemone(question) for name, question in zip(names, questions, strict=True)}
        return {"model": self._model, "state": state, "questions": asked, **self._extra}

    async def decide(self, state: str, questions: Sequence[Question]) -> Decisions:
        """One attempt at a request.

        Raises:
            TransientModelError: it failed and may succeed later.
            RefusedRequestError: the server does not work on it; the message says what may be wrong with the address or
                the model where it has no such endpoint.
            ModelError: the reply holds no answers.
            InputError: there is no question, or one has no or the same options.
        """
        for question in questions:
            _check(question)
        body = self.body(state, questions)
        hint = ""
        try:
            document = await self._server.post(self._url, body, unique)
        except RefusedRequestError as err:
            refused, hint = err, _HINTS.get(err.status, "")
            if not hint:
                raise
        if hint:
            raise RefusedRequestError(f"{refused}; {hint.format(path=self._url)}", refused.status, refused.said)
        answers = document.get("answers") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(answers, list | dict):
            raise ModelError(f"{self.name} sent {one_line(str(document))[:80]!r}, which holds no answers")
        found = _by_question(answers, len(questions))
        decisions = tuple(read(question, answer) for question, answer in zip(questions, found, strict=True))
        sent = len(state.encode("utf-8", "replace"))
        usage = TokenUsage.reported(document.get("usage"), sent)
        return Decisions(decisions, usage if usage.answer_tokens is not None else replace(usage, answer_tokens=0))

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._server.aclose()

    def close(self) -> None:
        """Close the connections that synchronous callers used."""
        self._server.close()


_HINTS = {
    404: "if there is no such endpoint, the server may speak the other dialect ({path} was asked)",
    405: "the server may speak the other dialect ({path} was asked)",
    501: "the model that is loaded there makes no decisions: load a decision model (llama.cpp, Ollama), or start vLLM "
    "with --logprobs-mode raw_logprobs or processed_logprobs",
}


class DryDecisions:
    """Sends nothing: counts what requests would cost, and answers as if the options were in the right order.

    Args:
        model: the model whose name, limits and tokens are used.
    """

    def __init__(self, model: DecisionModel) -> None:
        self._model = model
        self.name, self.tokens, self.context = model.name, model.tokens, model.context
        self.questions, self.options, self.state_counted = model.questions, model.options, model.state_counted

    def body(self, state: str, questions: Sequence[Question]) -> Json:
        """As the model's."""
        return self._model.body(state, questions)

    async def decide(self, state: str, questions: Sequence[Question]) -> Decisions:
        """Answers that keep the order shown, with the tokens that the request has by the model's own count."""
        times = len(questions) if self.state_counted == "each" else 1
        texts = [*[state] * times, *(text for one in questions for text in (one.instructions, *one.options))]
        usage = TokenUsage(sum(map(self.tokens.count, texts)), 0)
        return Decisions(tuple(map(self._answer, range(len(questions)), questions)), usage)

    def _answer(self, place: int, question: Question) -> Decision:
        if question.kind == "choice":
            weights = [0.5**rank for rank in range(len(question.options))]
            return Decision(0.0, tuple(weight / sum(weights) for weight in weights))
        return Decision(1.0 / (1 + place))


def prompt_bound(model: DecisionModel, state: str, questions: Sequence[Question]) -> int:
    """An upper bound on the tokens that the model counts for a request."""
    tokens, times = model.tokens, len(questions) if model.state_counted == "each" else 1
    bound = (tokens.bound(state) + REQUEST_TOKENS) * times
    for question in questions:
        options = sum(tokens.bound(option) + OPTION_TOKENS for option in question.options)
        bound += tokens.bound(question.instructions) + options + QUESTION_TOKENS
    return bound


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON in which a name that comes twice has the value None, since it is unclear which one is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= {name: None for name, count in Counter(name for name, _ in pairs).items() if count > 1}
    return found


def read(question: Question, answer: object) -> Decision:
    """The decision in one answer of either dialect.

    Args:
        question: what was asked.
        answer: as decoded from JSON, of any type; None if there is none.
    """
    if not isinstance(answer, dict):
        missing = "a question without an answer"
        return Decision(problem=missing if answer is None else f"an answer that is {_shown(answer)}")
    if answer.get("type") == "refusal" or answer.get("refusal"):
        return Decision(problem="a refusal", refused=True)
    try:
        if question.kind == "predicate":
            return Decision(_probability("the statement", answer.get("probability", answer.get("noul"))))
        return _choice(question, answer) if question.kind == "choice" else _score(question, answer)
    except _UnusableError as err:
        return Decision(problem=str(err))


class _UnusableError(Exception):
    """An answer that cannot be used."""


def _choice(question: Question, answer: Json) -> Decision:
    places = {option: place for place, option in enumerate(question.options)}
    found = _distribution(answer.get("probabilities"), places)
    chosen = answer.get("choice")
    if chosen is not None and (not isinstance(chosen, str) or chosen not in places):
        raise _UnusableError(f"the choice of {_shown(chosen)}, which was not offered")
    if found is None:
        if chosen is None:
            raise _UnusableError("an answer without a choice")
        return Decision(float(places[chosen]), (None,) * len(places))
    top = max(value for value in found if value is not None)
    best = found.index(top) if chosen is None else places[chosen]
    if top - (found[best] or 0.0) > SLACK:
        raise _UnusableError(f"the choice of {_shown(chosen)}, which is not the likeliest option")
    return Decision(float(best), tuple(found))


def _score(question: Question, answer: Json) -> Decision:
    levels = question.options
    given = answer.get("probabilities")
    names = [str(name) for name in given] if isinstance(given, dict) else []
    if len(names) == len(levels) and all(name.isdecimal() for name in names):
        places = {name: place for place, name in enumerate(sorted(names, key=int))}  # numbered from 0, or from 1
    else:
        places = {level: place for place, level in enumerate(levels)}
    found = _distribution(given, places)
    if found is not None and None not in found:
        total = math.fsum(value for value in found if value is not None)
        return Decision(math.fsum(place * (value or 0.0) for place, value in enumerate(found)) / total)
    score = answer.get("score")
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= len(levels) - 1:
        raise _UnusableError(f"a score of {_shown(score)} on levels 0 to {len(levels) - 1}")
    return Decision(float(score))


def _distribution(given: object, places: Mapping[str, int]) -> list[float | None] | None:
    """The probability of each place, None for what is not listed; None if nothing is.

    Raises:
        _UnusableError: something else is listed, or something twice, or the numbers are no probabilities.
    """
    if isinstance(given, dict):
        pairs: list[tuple[object, object]] = list(given.items())
    elif isinstance(given, list) and all(isinstance(entry, dict) for entry in given):
        field_of = "label" if given and "label" in given[0] else "value"
        pairs = [(entry.get(field_of), entry.get("probability")) for entry in given]
    elif given is None:
        pairs = []
    else:
        raise _UnusableError(f"probabilities that are {_shown(given)}")
    found: list[float | None] = [None] * len(places)
    for name, value in pairs:
        place = places.get(name) if isinstance(name, str) else None
        if place is None:
            raise _UnusableError(f"the option {_shown(name)}, which was not offered")
        if found[place] is not None:
            raise _UnusableError(f"the option {_shown(name)} twice")
        found[place] = _probability(f"option {_shown(name)}", value)
    total = math.fsum(value for value in found if value is not None)
    if pairs and (total > 1 + SLACK or total <= 0 or (None not in found and total < 1 - SLACK)):
        raise _UnusableError(f"probabilities that sum to {total:.4g}")
    return found if pairs else None


def _probability(what: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -ROUNDING <= value <= 1 + ROUNDING:
        raise _UnusableError(f"{_shown(value)} as the probability of {what}")
    return min(max(float(value), 0.0), 1.0)


def _by_question(answers: Sequence[object] | Mapping[str, object], count: int) -> list[object]:
    """What was answered to each question, by its name where answers have names, else by its place.

    A name that comes twice has no answer, and neither has any question if answers without names are fewer or more.
    """
    names = _names(count)
    if isinstance(answers, dict):
        return [answers.get(name) for name in names]
    given = [answer.get("name") if isinstance(answer, dict) else None for answer in answers]
    if any(isinstance(name, str) for name in given):
        pairs = [(str(name), answer) for name, answer in zip(given, answers, strict=True)]
        found = unique(pairs)
        return [found.get(name) for name in names]
    return list(answers) if len(answers) == count else [None] * count


def _names(count: int) -> list[str]:
    return [f"q{number}" for number in range(1, count + 1)]


def _openai(name: str, question: Question) -> Json:
    asked: Json = {"type": question.kind, "name": name, "instructions": question.instructions}
    if question.kind == "choice":
        asked["choices"] = [{"value": option} for option in question.options]
    elif question.kind == "score":
        asked["levels"] = [{"label": level} for level in question.options]
    return asked


def _systemone(question: Question) -> Json:
    asked: Json = {
        "type": "noul" if question.kind == "predicate" else question.kind,
        "instructions": question.instructions,
    }
    if question.kind == "choice":
        asked["criteria"] = dict.fromkeys(question.options)
    elif question.kind == "score":
        asked["criteria"] = list(question.options)
    return asked


def _check(question: Question) -> None:
    least = 0 if question.kind == "predicate" else 2
    if len(question.options) < least or len(set(question.options)) < len(question.options):
        raise InputError(f"a {question.kind} has at least {least} options, each once; got {question.options[:9]}")


def _shown(value: object) -> str:
    return one_line(repr(value))[:40]
