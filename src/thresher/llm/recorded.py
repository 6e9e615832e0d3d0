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

from thresher.errors import DataNotFoundError, InputError, ModelError
from thresher.llm.model import Completion, LanguageModel, tokens_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.llm.model import Json, Request, Tokens


class Recorder(LanguageModel):
    """Passes requests on to a model and writes its answers to a file.

    Args:
        model: the model.
        path: the file; replaced if it exists.
    """

    def __init__(self, model: LanguageModel, path: str | Path) -> None:
        self._model = model
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._write({"model": model.name, "parameters": dict(model.parameters), "context": model.context})

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
        """Close the file."""
        self._file.close()

    def _write(self, document: Mapping[str, object]) -> None:
        self._file.write(json.dumps(document, ensure_ascii=False) + "\n")
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

    def __init__(self, path: str | Path, tokens: Tokens | str | Path | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataNotFoundError(f"no recording at {path}")
        self._tokens = tokens_of(tokens)
        self._answers: dict[str, Completion] = {}
        head: Json | None = None
        with self.path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    document = json.loads(line)
                    if head is None:
                        head = {key: document[key] for key in ("model", "parameters", "context")}
                    else:
                        self._answers[_key(document["request"])] = Completion.from_json(document["completion"])
                except (ValueError, KeyError, TypeError) as err:
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


def _key(payload: Mapping[str, object]) -> str:
    return json.dumps(payload, sort_keys=True, ensure_ascii=False)
