"""Judges, which answer comparisons: language models, cross-encoders, rerank servers and recordings; and their names.

    openai:NAME            a language model on an OpenAI-compatible server (`base_url`)
    transformers:NAME      a language model in this process: a directory or hub identifier
    recorded:FILE          recorded answers of a language model (`thresher.llm.Recorder`)
    cross-encoder:NAME     a cross-encoder in this process
    thresher-context       the rank head of the model that ships with thresher, in this process
    hybrank:DIRECTORY      similarities of the candidates by the retrievers of an index (`index`), trained on judgments
    cohere:NAME jina:NAME vllm:NAME tei:    a rerank server in that dialect (`base_url`)
    decisions:NAME systemone:NAME           a decision model on a server, in that dialect (`base_url`)
    windows:FILE           recorded windows of another system

Other packages add judges through the entry-point group `thresher.judges`: a callable that takes the part of the name
after the colon and keyword options, and returns a `Judge`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from thresher.checks import is_a, shown, whole
from thresher.errors import ConfigError
from thresher.llm.http import CONNECTIONS
from thresher.llm.model import TokenUsage
from thresher.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.llm.client import Client
    from thresher.llm.model import Json
    from thresher.records import Hit, Query
    from thresher.rerank.model_judge import ModelJudge
    from thresher.rerank.plans.plan import Answer, Comparison

T = TypeVar("T")


class Judge(Protocol):
    """Answers comparisons among the candidates of one query.

    Every request to a model goes through the client, which keeps budget, cache, journal, connections and retries.

    Optional attributes describe a judge: `rates_only` (False by default) if it answers `Rate` alone, so that the
    default plan is pointwise, `default_plan` for another one, and `reads_text` (True by default) if candidates must
    come with their texts.
    """

    @property
    def name(self) -> str:
        """Model and settings, for the usage."""

    @property
    def comparisons_per_call(self) -> int:
        """How many comparisons of a batch `answer` takes at once; 1 unless one request answers several."""

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """One answer per comparison, None if the model's answer could not be read.

        Args:
            query: the query.
            candidates: its candidates in first-stage order; comparisons refer to them by position.
            comparisons: at most `comparisons_per_call`.
            client: sends requests.

        Raises:
            ModelError: the model cannot be reached, or fails for good.
            BudgetExhaustedError: a call did not fit the budget.
        """


@dataclass(frozen=True, slots=True)
class Scores:
    """The reply of a model that rates passages: one score for each, and the tokens spent."""

    scores: tuple[float, ...]
    usage: TokenUsage

    def as_json(self) -> Json:
        """Plain JSON, for cache and journal."""
        return {"scores": list(self.scores), "usage": self.usage.as_json()}

    @classmethod
    def from_json(cls, document: Json) -> Scores:
        """The scores from their `as_json`."""
        return cls(tuple(document["scores"]), TokenUsage(**document["usage"]))


JUDGES: Registry[Judge] = Registry(
    "judge",
    "thresher.judges",
    {
        "openai": "thresher.rerank.judges:openai_judge",
        "transformers": "thresher.rerank.judges:transformers_judge",
        "recorded": "thresher.rerank.judges:recorded_judge",
        "cross-encoder": "thresher.rerank.cross_encoder:CrossEncoderJudge",
        "thresher-context": "thresher.rerank.cross_encoder:context_judge",
        "hybrank": "thresher.rerank.hybrank:HybRankJudge",
        "cohere": "thresher.rerank.servers:cohere",
        "jina": "thresher.rerank.servers:jina",
        "vllm": "thresher.rerank.servers:vllm",
        "tei": "thresher.rerank.servers:tei",
        "decisions": "thresher.rerank.decisions:decisions",
        "systemone": "thresher.rerank.decisions:systemone",
        "windows": "thresher.rerank.replay:RecordedWindows",
    },
)


def judge_from_name(name: str, *, device: str = "auto", concurrency: int = 1, **options: object) -> Judge:
    """A judge from its name, `KIND:NAME`.

    Args:
        name: see the module; `thresher-context` stands alone.
        device: of a model in this process.
        concurrency: requests that will be sent at once; a server's client keeps at least as many connections.
        options: of the judge: `base_url`, `key`, `timeout` for servers, `order`, `rating`, `prompts` for language
            models, and so on; see the classes. `windows`, of any judge that reads texts: of long passages it reads only
            this many windows (`WindowedJudge`).

    Raises:
        ConfigError: the kind or an option is unknown.
        MissingExtraError: the kind needs a package that is not installed.
    """
    if not is_a(name, str):
        raise ConfigError(f"a judge's name must be a text, got {shown(name)}")
    kind, colon, argument = name.partition(":")
    factory = JUDGES.factory(kind)
    first = next(iter(inspect.signature(factory).parameters.values()), None)
    if not colon and (first is None or first.default is first.empty):
        raise ConfigError(f"{name!r} does not name a model; write {kind}:NAME")
    if device != "auto" or "device" in inspect.signature(factory).parameters:
        options["device"] = device
    if concurrency > CONNECTIONS and "base_url" in options:
        options.setdefault("connections", concurrency)
    windows = whole("windows", options.pop("windows", 0))
    return windowed(construct(factory, f"judge {kind!r}", argument, **options), windows)


def windowed(judge: Judge, windows: int) -> Judge:
    """The judge, reading only this many windows of long passages; itself for 0."""
    if not windows:
        return judge
    from thresher.rerank.long_documents import WindowedJudge

    return WindowedJudge(judge, windows=windows)


def construct(factory: Callable[..., T], what: str, *arguments: object, **options: object) -> T:
    """`factory(*arguments, **options)`, where an unknown option is a ConfigError that names `what`."""
    parameters = inspect.signature(factory).parameters.values()
    known = {one.name for one in parameters}
    if not any(one.kind is one.VAR_KEYWORD for one in parameters) and (unknown := set(options) - known):
        allowed = sorted(known - set(list(known)[: len(arguments)])) or ["none"]
        raise ConfigError(f"{what} has no option {sorted(unknown)[0]!r}; its options are {', '.join(allowed)}")
    return factory(*arguments, **options)


def openai_judge(name: str, *, base_url: str = "", **options: object) -> ModelJudge:
    """A model on an OpenAI-compatible server; options of `OpenAIServer` and `ModelJudge`."""
    from thresher.llm.openai_server import OpenAIServer

    if not base_url:
        raise ConfigError("judge 'openai' needs the address of its server; give it as base_url")
    return _asking(OpenAIServer, "openai", name, base_url, **options)


def transformers_judge(name: str, *, device: str = "auto", **options: object) -> ModelJudge:
    """A model in this process; options of `TransformersModel` and `ModelJudge`."""
    from thresher.llm.local import TransformersModel

    return _asking(TransformersModel, "transformers", name, device=device, **options)


def recorded_judge(name: str, **options: object) -> ModelJudge:
    """Recorded answers of a model; options of `RecordedModel` and `ModelJudge`."""
    from thresher.llm.recorded import RecordedModel

    return _asking(RecordedModel, "recorded", name, **options)


def _asking(model: Callable[..., object], kind: str, *arguments: object, **options: object) -> ModelJudge:
    """A `ModelJudge` of `model(*arguments)`; each gets the options that it has."""
    from thresher.rerank.model_judge import ModelJudge

    own = set(inspect.signature(ModelJudge).parameters)
    asking = {key: options.pop(key) for key in own & set(options)}
    return construct(
        ModelJudge, f"judge {kind!r}", construct(model, f"judge {kind!r}", *arguments, **options), **asking
    )
