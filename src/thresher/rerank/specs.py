"""Judges from a line of text, for the command line and configuration files.

openai:NAME            a language model on an OpenAI-compatible server (`base_url`)
transformers:NAME      a language model in this process: a directory or hub identifier
recorded:FILE          recorded answers of a language model
cross-encoder:NAME     a cross-encoder in this process
cohere:NAME jina:NAME vllm:NAME tei:    a rerank server in that dialect (`base_url`)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError
from thresher.rerank.servers import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thresher.llm.model import LanguageModel
    from thresher.rerank.judge import Judge

KINDS = ("openai", "transformers", "recorded", "cross-encoder", *DIALECTS)


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """What a judge's line does not say.

    Attributes:
        base_url: address of the server.
        key: environment variable that holds its key; the kind's own default unless given.
        timeout: seconds after which a call without an answer has failed.
        connections: the most open connections.
        tokenizer: path of the model's tokenizer, for exact token counts of a model on a server.
        context: the most tokens of prompt and answer together.
        structured: how a server is held to a form; see `OpenAIServer`.
        device: of a model in this process.
        batch_size: of a model in this process.
        download: fetch a hub model that is not in the cache.
        asking: further arguments of `ModelJudge` (`order`, `choice`, `rating`, `prompts`, `parsing`, ...).
    """

    base_url: str = ""
    key: str = ""
    timeout: float = 120.0
    connections: int = 16
    tokenizer: str = ""
    context: int | None = None
    structured: str = "none"
    device: str = "auto"
    batch_size: int = 16
    download: bool = False
    asking: Mapping[str, Any] = field(default_factory=dict)


def model_name(spec: str) -> str:
    """The model's own name in a judge's line: what a price table lists."""
    return spec.partition(":")[2]


def make_judge(spec: str, options: JudgeOptions | None = None) -> tuple[Judge, bool]:
    """A judge, and whether it only rates passages one by one.

    Raises:
        ConfigError: the line or an option is not understood.
    """
    options = options or JudgeOptions()
    kind, separator, name = spec.partition(":")
    if not separator or kind not in KINDS:
        raise ConfigError(f"{spec!r} names no judge; write KIND:NAME, where KIND is one of {', '.join(KINDS)}")
    if kind == "cross-encoder":
        from thresher.rerank.cross_encoder import CrossEncoderJudge

        judge = CrossEncoderJudge(
            name, device=options.device, batch_size=max(options.batch_size, 32), download=options.download
        )
        return judge, True
    if kind in DIALECTS:
        from thresher.rerank.servers import RerankServer

        server = RerankServer(
            _base_url(options, kind),
            kind,
            model=name,
            key=options.key or "RERANK_API_KEY",
            timeout=options.timeout,
            connections=options.connections,
            tokens=_tokens(options),
        )
        return server, True
    from thresher.rerank.model_judge import ModelJudge

    return ModelJudge(_model(kind, name, options), **options.asking), False


def _model(kind: str, name: str, options: JudgeOptions) -> LanguageModel:
    if kind == "recorded":
        from thresher.llm.recorded import RecordedModel

        return RecordedModel(name, _tokens(options))
    if kind == "transformers":
        from thresher.llm.local import TransformersModel

        return TransformersModel(
            name,
            device=options.device,
            batch_size=options.batch_size,
            context=options.context,
            download=options.download,
        )
    from thresher.llm.openai_server import OpenAIServer

    structured: Any = options.structured
    return OpenAIServer(
        name,
        _base_url(options, kind),
        key=options.key,
        timeout=options.timeout,
        connections=options.connections,
        tokens=_tokens(options),
        context=options.context,
        structured=structured,
    )


def _base_url(options: JudgeOptions, kind: str) -> str:
    if not options.base_url:
        raise ConfigError(f"a judge of kind {kind!r} needs the address of its server; give it as base_url")
    return options.base_url


def _tokens(options: JudgeOptions) -> Any:
    if not options.tokenizer:
        return None
    from thresher.llm.tokens import load_tokens

    return load_tokens(options.tokenizer)
