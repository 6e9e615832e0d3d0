"""Speech by rule: passages of the labelled collections as a transcript would have them.

Sentences lose their stops and commas and their capitals, get now and then a word that speakers fill pauses with, and
are said by turns (`SPEAKER 1:`, names, or nobody). Labels follow their sentences.
"""

from __future__ import annotations

import random
import re
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thresher.context.calibrate import LabelledQuery

_FILLERS = ("um", "uh", "you know", "I mean", "well", "so", "okay", "right", "like", "and", "but", "actually")
_NAMES = (
    ("SPEAKER 1: ", "SPEAKER 2: "), ("INTERVIEWER: ", "GUEST: "), ("Q: ", "A: "), ("JANE: ", "TOM: "),
    ("[00:{m:02d}:{s:02d}] ", "[00:{m:02d}:{s:02d}] "), (">> ", ">> "), ("", ""), ("", ""),
)  # fmt: skip


def spoken(rows: Iterable[LabelledQuery]) -> Iterator[tuple[str, str, list[tuple[int, int]]]]:
    """(query, transcript, where in it the answering sentences are) of rows that have an answer and some sentences."""
    for row in rows:
        if not row.answers or not 3 <= len(row.sentences) <= 30:
            continue
        chooser = random.Random(sha256((row.query + row.passage).encode()).digest())  # noqa: S311
        names, loud = chooser.choice(_NAMES), chooser.random() < 0.15
        out, answers, turn, second = "", [], 0, chooser.randint(0, 900)
        left = 0
        for span, label in zip(row.sentences, row.labels, strict=True):
            said = _said(row.passage[span.start : span.end], chooser)
            if left == 0:
                left, turn = chooser.randint(1, 4), turn + 1
                second += chooser.randint(4, 40)
                mark = names[turn % 2].format(m=second // 60, s=second % 60)
                out += ("\n" if out else "") + mark
            elif out:
                out += " "
            left -= 1
            start = len(out)
            out += said.upper() if loud else said
            if label:
                answers.append((start, len(out)))
        query = row.query.lower() if chooser.random() < 0.5 else row.query
        if answers and len(out) < 4000:
            yield query, out, answers


def _said(sentence: str, chooser: random.Random) -> str:
    bare = re.sub(r"\s+", " ", re.sub(r"[.!?;:,\"()\[\]“”]+(?=\s|$)|[\"()\[\]“”]", "", sentence)).strip()
    words = bare.lower().split() if chooser.random() < 0.8 else bare.split()
    out = []
    for word in words:
        if chooser.random() < 0.03:
            out.append(chooser.choice(_FILLERS))
        out.append(word)
    if chooser.random() < 0.25:
        out.insert(0, chooser.choice(_FILLERS))
    return " ".join(out)
