"""Recorded answers: a model that says again what another said before, and the recorder that wrote it down.

A recording is JSON lines: the model's name and parameters first, then `{"request": ..., "completion": ...}` for each
answer. Unlike the response cache it holds the prompts, so that it can be read and shared; so it is readable by its
user alone until he decides otherwise.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import DataNotFoundError, InputError, ModelError
from thresher.llm.model import Completion, LanguageModel, Request
from thresher.llm.tokens import ByteTokens, Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Recorder(LanguageModel):
    """Passes requests on to a model and writes down what it answers.

    Args:
        model: the model.
        path: the file, made anew.
    """

    def __init__(self, model: LanguageModel, path: str | Path) -> None:
        self._model = model
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._write({"model": model.name, "parameters": dict(model.parameters), "context": model.context})

    @property
    def name(self) -> str:
        """The model's."""
        return self._model.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The model's."""
        return self._model.parameters

    @property
    def tokens(self) -> Tokens:
        """The model's."""
        return self._model.tokens

    @property
    def context(self) -> int | None:
        """The model's."""
        return self._model.context

    def prompt_bound(self, request: Request) -> int:
        """The model's."""
        return self._model.prompt_bound(request)

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Ask the model, write the answers down."""
        completions = await self._model.complete(requests)
        for request, completion in zip(requests, completions, strict=True):
            self._write({"request": request.payload(), "completion": completion.as_json()})
        return completions

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, document: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(document, ensure_ascii=False) + "\n")
        self._file.flush()


class RecordedModel(LanguageModel):
    """Answers from a recording, and nothing else.

    Args:
        path: what a `Recorder` wrote.
        tokens: the tokenizer the recording was made with, so that passages are cut as they were then.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: a line that cannot be read.
    """

    def __init__(self, path: str | Path, tokens: Tokens | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataNotFoundError(f"there is no recording at {path}")
        self._tokens = tokens or ByteTokens()
        self._answers: dict[str, Completion] = {}
        head: Mapping[str, Any] | None = None
        with self.path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    document = json.loads(line)
                    if head is None:
                        head = {key: document[key] for key in ("model", "parameters", "context")}
                    else:
                        self._answers[_key(document["request"])] = Completion.from_json(document["completion"])
                except (ValueError, KeyError, TypeError) as err:
                    message = f"not a line of a recording of answers ({type(err).__name__}: {err})"
                    raise InputError(message, str(path), number) from None
        if head is None:
            raise InputError("the recording is empty", str(path))
        self._head = head

    @property
    def name(self) -> str:
        """The recorded model's."""
        return str(self._head["model"])

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The recorded model's."""
        return dict(self._head["parameters"])

    @property
    def tokens(self) -> Tokens:
        """As given."""
        return self._tokens

    @property
    def context(self) -> int | None:
        """The recorded model's."""
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
                f"{self.path} holds no answer to this prompt; a recording answers only what was asked when it was "
                "made: use the same questions, passages, plan, prompts and settings"
            )
        return [completion for completion in found if completion is not None]


def _key(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, sort_keys=True, ensure_ascii=False)
