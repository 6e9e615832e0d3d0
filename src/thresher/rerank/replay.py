"""A judge that answers from a recording: what a real model said to exactly these passages in exactly this order.

A recording is JSON lines (gzipped or not), one a window, in the order asked: `{"qid", "start", "end", "docids",
"response"}`, places 0-based and half-open. The answers are read by the same parsers and repair rule as live ones;
recorded runs were made under `digits-v1`. A recording answers only the windows it holds: asking for any other is an
error that says where plan, depth or candidates leave the recorded path.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.files import read_lines
from thresher.rerank.asks import Order
from thresher.rerank.parsing import get_parser, read_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.rerank.asks import Answer, Ask
    from thresher.rerank.judge import Question
    from thresher.rerank.limiter import Gate


@dataclass(frozen=True, slots=True)
class Recording:
    """Windows and what was answered.

    Attributes:
        source: the file.
        depth: how many candidates were reranked: the largest `end`.
        windows: how many windows there are.
        answers: by qid, the answer to each row of docnos.
    """

    source: str
    depth: int
    windows: int
    answers: Mapping[str, Mapping[tuple[str, ...], str]] = field(repr=False)


def read_recording(path: str | Path) -> Recording:
    """Read a recording.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: a line that is not a window, with its number.
    """
    path = Path(path)
    answers: dict[str, dict[tuple[str, ...], str]] = {}
    depth = windows = 0
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            window = json.loads(line)
            qid, docids, response = window["qid"], tuple(window["docids"]), window["response"]
            start, end = int(window["start"]), int(window["end"])
            if not all(isinstance(value, str) for value in (qid, response, *docids)) or end - start != len(docids):
                raise ValueError("qid, response and docids are strings, as many docids as end - start")
        except (ValueError, KeyError, TypeError) as err:
            raise InputError(f"not a recorded window ({type(err).__name__}: {err})", str(path), number) from None
        answers.setdefault(qid, {}).setdefault(docids, response)
        depth, windows = max(depth, end), windows + 1
    return Recording(str(path), depth, windows, answers)


class RecordedWindows:
    """A recording as a judge. Answers `Order` alone, and costs nothing but the calls it counts.

    Args:
        recording: the recording, or its path.
        parsing: how its answers are read.
    """

    asks_per_call = 1

    def __init__(self, recording: Recording | str | Path, parsing: str = "digits-v1") -> None:
        self.recording = recording if isinstance(recording, Recording) else read_recording(recording)
        self._parser = get_parser(parsing)

    @property
    def name(self) -> str:
        """The recording's file and how it is read."""
        return f"recorded({Path(self.recording.source).name}, parsing={self._parser.name})"

    async def answer(self, query: Question, asks: Sequence[Ask], gate: Gate) -> list[Answer | None]:
        """Look each window up.

        Raises:
            InputError: a window that was not recorded; no policy for failures hides that.
        """
        return [await self._one(query, ask, gate) for ask in asks]

    async def _one(self, query: Question, ask: Ask, gate: Gate) -> Answer | None:
        docnos = tuple(query.hits[item].docno for item in ask.items)
        said = self.recording.answers.get(query.qid, {}).get(docnos)
        if said is None or not isinstance(ask, Order):
            raise InputError(
                f"question {query.qid!r}: {self.recording.source} holds no answer to {type(ask).__name__} of "
                f"{len(docnos)} passages {', '.join(docnos[:3])} ...; a recording answers only the windows that were "
                "asked when it was made: use the same candidates in the same order, plan, depth and parsing"
            )

        async def send() -> Mapping[str, object]:
            return {"text": said, "usage": {"prompt_tokens": 0, "answer_tokens": 0}}

        key = {"recording": self.recording.source, "qid": query.qid, "docnos": docnos}
        reply = await gate.call(key, 0, 0, send)
        return read_order(reply["text"], ask.items, self._parser)
