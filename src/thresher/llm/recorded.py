"""Recorded answers: a recorder that writes down what a model answers, and a model that answers from the recording.

A recording is JSON lines: the model's name and parameters first, then `{"request": ..., "completion": ...}` for each
answer. Unlike the response cache it contains the prompts, so that it can be read and shared; the file is created
readable by its user only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import DataNotFoundError, InputError, ModelError
from thresher.llm.cache import json_line
from thresher.llm.model import Completion, LanguageModel, TokenUsage
from thresher.llm.tokens import tokens_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.llm.model import Json, Request
    from thresher.llm.tokens import Tokens


class Recorder(LanguageModel):
    """Passes requests on to a model and writes its answers to a file.

    Args:
        model: the model.
        path: the file; replaced if it is a recording.

    Raises:
        InputError: the file exists and is not a recording.
    """

    @checked_call
    def __init__(self, model: LanguageModel, path: str | Path) -> None:
        self._model = model
        path = Path(path)
        if path.is_file() and path.stat().st_size and not path.read_bytes()[:10].startswith(b'{"model": '):
            raise InputError("this file is not a recording and is not replaced; name another one", str(path))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        head = {"model": model.name, "parameters": dict(model.parameters), "context": model.context}
        self._write({**head, "structured": self.structured})

    @property
    def structured(self) -> str:
        """As the model's: how it constrains answers."""
        return str(getattr(self._model, "structured", "none"))

    @property
    def name(self) -> str:
        """As the model's."""
        return self._model.name

    @property
    def parameters(self) -> Mapping[str, object]:
        """As the model's."""
        return self._model.parameters

    @property
    def tokens(self) -> Tokens:
        """As the model's."""
        return self._model.tokens

    @property
    def context(self) -> int | None:
        """As the model's."""
        return self._model.context

    def prompt_bound(self, request: Request) -> int:
        """As the model's."""
        return self._model.prompt_bound(request)

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Call the model and write its answers."""
        completions = await self._model.complete(requests)
        for request, completion in zip(requests, completions, strict=True):
            self._write({"request": request.payload(), "completion": completion.as_json()})
        return completions

    def close(self) -> None:
        """Close the file and the model."""
        self._file.close()
        close = getattr(self._model, "close", None)
        if close is not None:
            close()

    def _write(self, document: Mapping[str, object]) -> None:
        self._file.write(json_line(document))
        self._file.flush()


class RecordedModel(LanguageModel):
    """Answers from a recording, and only from it.

    Args:
        path: a file that `Recorder` wrote.
        tokens: the tokenizer used for the recording, so that passages are cut at the same places.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: a line that cannot be read.
    """

    @checked_call
    def __init__(self, path: str | Path, tokens: Tokens | str | Path | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataNotFoundError(f"no recording at {path}")
        self._tokens = tokens_of(tokens)
        self._answers: dict[str, Completion] = {}
        head: Json | None = None
        with self.path.open(encoding="utf-8", errors="replace") as lines:  # a line that is not UTF-8 is refused as one
            for number, line in enumerate(lines, 1):
                try:
                    document = json.loads(line)
                    if head is None:
                        head = {key: document[key] for key in ("model", "parameters", "context")}
                        head["structured"] = str(document.get("structured", "none"))
                    else:
                        self._answers[_key(document["request"])] = Completion.from_json(document["completion"])
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
                    message = f"this is not a line of a recording ({type(err).__name__}: {err})"
                    raise InputError(message, str(path), number) from None
        if head is None:
            raise InputError("the recording is empty", str(path))
        self._head = head

    @property
    def name(self) -> str:
        """As the recorded model's."""
        return str(self._head["model"])

    @property
    def parameters(self) -> Mapping[str, object]:
        """As the recorded model's."""
        return dict(self._head["parameters"])

    @property
    def structured(self) -> str:
        """As the recorded model's."""
        return str(self._head["structured"])

    @property
    def tokens(self) -> Tokens:
        """As given."""
        return self._tokens

    @property
    def context(self) -> int | None:
        """As the recorded model's."""
        context: int | None = self._head["context"]
        return context

    def prompt_bound(self, request: Request) -> int:
        """Bounds of all texts."""
        return sum(self._tokens.bound(message.content) for message in request.messages) + 1

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Look the answers up.

        Raises:
            ModelError: a request that was not recorded.
        """
        found = [self._answers.get(_key(request.payload())) for request in requests]
        if None in found:
            raise ModelError(
                f"{self.path} holds no answer to this prompt; use the queries, passages, plan, prompts and settings "
                "of the recording"
            )
        return [completion for completion in found if completion is not None]


class DryModel:
    """Sends nothing: counts what requests would cost, and answers as if the first-stage order were right.

    Args:
        model: the model whose name, tokens and context are used.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.name, self.parameters = model.name, model.parameters
        self.tokens, self.context = model.tokens, model.context
        self.structured = getattr(model, "structured", "none")

    def prompt_bound(self, request: Request) -> int:
        """As the model's."""
        return self._model.prompt_bound(request)

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers that keep the order shown, with the tokens that the prompt has by the model's own count."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        prompt = sum(self.tokens.count(message.content) for message in request.messages)
        if request.continuation:
            return Completion(continuation=0.0, usage=TokenUsage(prompt, 1))
        if request.labels:
            logs = {label: -float(place) for place, label in enumerate(request.labels)}
            return Completion(labels=logs, usage=TokenUsage(prompt, 1))
        options = (request.schema or {}).get("properties") or (request.schema or {}).get("enum") or ()
        names = [str(name) for name in options]  # type: ignore[attr-defined]  # a JSON schema
        text = " > ".join(f"[{name}]" for name in names) if "properties" in (request.schema or {}) else names[0]
        return Completion(text, usage=TokenUsage(prompt, self.tokens.count(text)))


def _key(payload: Mapping[str, object]) -> str:
    return json.dumps(payload, sort_keys=True, ensure_ascii=False)
