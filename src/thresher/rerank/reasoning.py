"""Models that think before they answer: a budget for the thought, and the answer when it is spent.

A thought that the budget cuts off is shortened to its last full sentence and closed, and the answer is asked for in a
second request, which has room for the answer alone (budget forcing, as rank1 does, arXiv 2502.18418). That request
begins with the closed thought where the model can continue a text: in this process, and on servers that know
`continue_final_message` (vLLM, SGLang). Elsewhere the thought is a turn of the conversation, and the next one asks to
answer now.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from thresher.llm.model import THOUGHT_CLOSES, THOUGHT_OPENS, Message

if TYPE_CHECKING:
    from thresher.llm.model import Request

_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f\u0964\u06d4][\"')\]\u201d]{0,2}(?=\s|\Z)|\n")
_ENDS = {"[": "[/{}]", "\u25c1": "\u25c1/{}\u25b7", "<": "</{}>"}


def closed_thought(text: str, *, finished: bool = False) -> str:
    """The thought in an answer, closed as it was opened.

    Args:
        text: what the model wrote. Without an opening the thought began in the prompt, or carries no mark.
        finished: the model ended by itself, so that its last sentence is whole.

    Returns:
        the text up to the end of a thought that is closed already, with the line ends after it (a space belongs to the
        word that follows); else the text up to its last full sentence (all of it if it has none), the mark that closes
        it, and an empty line.
    """
    openings = list(re.finditer(THOUGHT_OPENS, text, re.IGNORECASE))
    start = openings[-1].end() if openings else 0
    closings = list(re.finditer(THOUGHT_CLOSES, text[start:], re.IGNORECASE))
    if closings:
        end = start + closings[-1].end()
        gap = text[end : len(text) - len(text[end:].lstrip())]
        return text[:end] + (gap if "\n" in gap else "")
    body = text[start:].rstrip()
    if not finished:
        ends = [found.end() for found in _SENTENCE_END.finditer(body)]
        body = body[: ends[-1]].rstrip() if ends else body
    return f"{text[:start]}{body}\n{_closing(openings[-1][0] if openings else '')}\n\n"


def _closing(opening: str) -> str:
    """The mark that closes a thought opened so."""
    if opening.startswith("<|channel|>"):
        return "<|end|><|start|>assistant<|channel|>final<|message|>"
    if opening.startswith("<|begin"):
        return "<|end_of_thought|>"
    return _ENDS[opening[:1] or "<"].format(opening.strip("<>[]\u25c1\u25b7") or "think")


def begun(request: Request, thought: str) -> Request:
    """The request whose answer begins with a closed thought."""
    return replace(request, opening=thought)


def asked_again(request: Request, thought: str, wanted: str) -> Request:
    """The request with the thought as a turn, and a turn that asks for the answer.

    Args:
        request: the request that was answered.
        thought: closed.
        wanted: what the answer must be, "it must be true or false".
    """
    now = f"Stop thinking and answer now: {wanted}. Answer in that form alone."
    return replace(request, messages=(*request.messages, Message("assistant", thought.rstrip()), Message("user", now)))
