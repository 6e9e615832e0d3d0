"""Calls of a language model for a judge: a request, one that is read and repeated, an answer after a thought."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thresher.errors import ModelError
from thresher.llm.client import Call
from thresher.llm.model import CannotBeginError, Completion, Message, is_thought
from thresher.rerank.reasoning import asked_again, begun, closed_thought

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.llm.client import Client
    from thresher.llm.model import LanguageModel, Request
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Answer

logger = logging.getLogger(__name__)

CLOSING_TOKENS = 32  # left for closing a thought that was cut off
MORE_TOKENS = 4096  # suggested where an answer was cut off


@dataclass(frozen=True, slots=True)
class Asking:
    """The query a judge is working on, its candidates and its client."""

    query: Query
    candidates: Sequence[Hit]
    client: Client


class ModelCalls:
    """Sends requests through a client, and reads what comes back.

    Args:
        model: the model.
        reasoning_tokens: the part of a request's answer tokens that is for thought.
        reasks: how often a request is repeated after an unreadable answer.
    """

    def __init__(self, model: LanguageModel, reasoning_tokens: int, reasks: int) -> None:
        self.model, self._reasoning_tokens, self._reasks = model, reasoning_tokens, reasks
        self._begins = True  # whether the model lets a request begin the answer, as far as it is known
        self._logged = False

    async def read(
        self, asking: Asking, request: Request, read: Callable[[str], Answer | None], wanted: str
    ) -> Answer | None:
        """Send and parse; if that fails, repeat the request with the error.

        Args:
            asking: the query.
            request: asks for a written answer.
            read: gives the answer in a text, None if there is none.
            wanted: what the answer must be, in words.
        """
        for attempt in range(self._reasks + 1):
            completion = await self.send(
                asking, request, lambda reply: read(reply.text) is not None or self._spent(reply)
            )
            answer = read(completion.text)
            if answer is None and self._spent(completion):
                brief = replace(request, max_tokens=request.max_tokens - self._reasoning_tokens)
                asking.client.counts.reasks += 1
                completion = await self.after(asking, brief, completion, wanted, lambda one: read(one.text) is not None)
                answer = read(completion.text)
            if answer is not None:
                return answer
            self.note(asking, completion, request)
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

    def _spent(self, completion: Completion) -> bool:
        """Whether an answer ends within a thought for which there was a budget."""
        cut = completion.finish == "length" and bool(completion.text.strip())
        return cut and self._reasoning_tokens > 0 and is_thought(completion.text)

    def note(self, asking: Asking, completion: Completion, request: Request) -> None:
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

    async def send(
        self, asking: Asking, request: Request, usable: Callable[[Completion], bool] | None = None
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

    async def after(
        self,
        asking: Asking,
        request: Request,
        said: Completion,
        wanted: str,
        usable: Callable[[Completion], bool],
    ) -> Completion:
        """The answer to a request after the thought in an answer to it, which is closed where it is not."""
        if not said.text.strip():
            return await self.send(asking, request, usable)
        cut_off = said.finish == "length"
        room = max(self._reasoning_tokens - CLOSING_TOKENS, self._reasoning_tokens // 2)
        text = self.model.tokens.cut(said.text, room) if cut_off else said.text
        thought = closed_thought(text, finished=not cut_off)
        if self._begins:
            try:
                return await self.send(asking, begun(request, thought), usable)
            except CannotBeginError:
                self._begins = False
        return await self.send(asking, asked_again(request, thought, wanted), usable)
