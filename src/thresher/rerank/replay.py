"""A judge that replays recorded windows: a model's answers to exactly these passages in exactly this order.

A recording is JSON lines (gzipped or not), one per window, in the order of the calls: `{"qid", "start", "end",
"docids", "response"}`, places 0-based and half-open. The answers are read by the same parsers and repair rule as live
ones; the recorded runs were made under `digits-v1`. Any window that was not recorded is an error, which shows where
plan, depth or candidates differ from the recorded run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.checks import is_a, shown
from thresher.errors import InputError
from thresher.files import read_json_lines
from thresher.llm.client import Call
from thresher.llm.model import Completion, TokenUsage
from thresher.rerank.parsing import get_parser, read_order
from thresher.rerank.plans.plan import Order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.llm.client import Client
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Answer, Comparison


@dataclass(frozen=True, slots=True)
class Recording:
    """Recorded windows and their answers.

    Attributes:
        source: the file's path.
        depth: number of candidates reranked, the largest `end`.
        windows: number of windows.
        answers: by qid, the answer to each sequence of docnos.
    """

    source: str
    depth: int
    windows: int
    answers: Mapping[str, Mapping[tuple[str, ...], str]] = field(repr=False)


def read_recording(path: str | Path) -> Recording:
    """Read a recording.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: a line is not a window.
    """
    if not is_a(path, str, Path):
        raise InputError(f"a recording must be a path, got {shown(path)}")
    path = Path(path)
    answers: dict[str, dict[tuple[str, ...], str]] = {}
    depth = windows = 0
    for number, window in read_json_lines(path):
        try:
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
    """A recording as a judge. Answers `Order` alone; its calls count but cost no tokens.

    Args:
        recording: a recording, or its path.
        parsing: name of the parser of its answers.
    """

    comparisons_per_call = 1
    reads_text = False
    default_plan = "sliding"  # which the recorded windows are of

    @checked_call
    def __init__(self, recording: Recording | str | Path, parsing: str = "digits-v1") -> None:
        self.recording = recording if isinstance(recording, Recording) else read_recording(recording)
        self._parser = get_parser(parsing)

    @property
    def name(self) -> str:
        """The recording's file and how it is read."""
        return f"recorded({Path(self.recording.source).name}, parsing={self._parser.name})"

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Look each window up.

        Raises:
            InputError: a window was not recorded; `on_failure` does not apply.
        """
        return [await self._one(query, candidates, comparison, client) for comparison in comparisons]

    async def _one(
        self, query: Query, candidates: Sequence[Hit], comparison: Comparison, client: Client
    ) -> Answer | None:
        docnos = tuple(candidates[item].docno for item in comparison.items)
        text = self.recording.answers.get(query.qid, {}).get(docnos)
        if text is None or not isinstance(comparison, Order):
            raise InputError(
                f"query {query.qid!r}: {self.recording.source} holds no answer to {type(comparison).__name__} of "
                f"{len(docnos)} passages {', '.join(docnos[:3])} ...; use the candidates, their order, the plan, the "
                "depth and the parser of the recording"
            )

        async def send() -> Completion:
            return Completion(text, usage=TokenUsage(0, 0))

        payload = {"recording": self.recording.source, "qid": query.qid, "docnos": docnos}
        reply = await client.call(Call(payload, 0, 0, send, Completion.from_json))
        return read_order(reply.text, comparison.items, self._parser)
