"""`Document`: an answer in JSON, whatever the texts and metadata of an index hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from starlette.responses import Response

_HALF = re.compile("[\ud800-\udfff]")


class Document(Response):
    """A JSON document. Routes return it themselves: FastAPI would walk through it twice and refuse what JSON lacks."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The bytes that are sent."""
        return dumped(content)


def dumped(content: object) -> bytes:
    """JSON in UTF-8 on one line. NaN and infinities become null, halves of surrogate pairs U+FFFD, which is as long."""
    try:
        return _written(content)
    except ValueError:  # also UnicodeEncodeError
        return _written(_plain(content))


def _written(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(content: object) -> object:
    if isinstance(content, str):
        return _HALF.sub("\ufffd", content)
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {_plain(str(name)): _plain(value) for name, value in content.items()}
    return [_plain(one) for one in content] if isinstance(content, list | tuple) else content
