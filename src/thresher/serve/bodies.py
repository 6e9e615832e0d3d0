"""What the bodies of requests have in common, checks against the server's limits, and answers in JSON.

An answer is JSON whatever the texts and metadata of an index hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from thresher.errors import InputError
from thresher.serve.dialects.faults import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.serve.settings import ServeSettings

Where = dict[str, object] | str
"""A filter, as a mapping or a text."""
_HALF = re.compile("[\ud800-\udfff]")
_LONG = 32
"""Items of a list that are written in one go."""
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Body(BaseModel):
    """A request for one index.

    Attributes:
        index: its name; the first by default.
        deadline_ms: milliseconds from the request's arrival; 0 for no limit.
    """

    model_config = ConfigDict(extra="forbid")

    index: str | None = None
    deadline_ms: Milliseconds | None = None


def check_query(settings: ServeSettings, query: str) -> None:
    """Check the length of a query.

    Raises:
        InputError: it is too long.
    """
    if len(query) > settings.max_query_characters:
        raise InputError(f"the query has {len(query):,} characters; at most {settings.max_query_characters:,} are "
                         "allowed")  # fmt: skip


def check_k(settings: ServeSettings, k: int | None, name: str = "k") -> None:
    """Check how many passages are asked for.

    Args:
        settings: the limits.
        k: passages.
        name: what the request calls them.

    Raises:
        InputError: these are too many.
    """
    if k is not None and k > settings.max_k:
        raise InputError(f"{name} is {k}; this server gives at most {settings.max_k} passages")


def check_documents(
    settings: ServeSettings, what: str, texts: Sequence[str], *, some: bool = False, whole: bool = True
) -> None:
    """Check the number and the lengths of the texts, or docnos, that a request brings along.

    Args:
        settings: the limits.
        what: what one of them is called.
        texts: the texts.
        some: refuse a request with none.
        whole: refuse a text that is too long; without it the caller reads only a part.

    Raises:
        InputError: there are none, or too many, or one is too long; names its place.
    """
    if some and not texts:
        raise InputError(f"{EMPTY} {what}")
    if len(texts) > settings.max_documents:
        raise InputError(f"there are {len(texts):,} {what}s; at most {settings.max_documents:,} {what}s are allowed")
    for place, text in enumerate(texts if whole else ()):
        if len(text) > settings.max_document_characters:
            raise InputError(f"{what} {place} has {len(text):,} characters; at most "
                             f"{settings.max_document_characters:,} are allowed")  # fmt: skip


class Document(Response):
    """A JSON document. Routes return it themselves: FastAPI would walk through it twice and refuse what JSON lacks."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The bytes that are sent."""
        return dumped(content)


def written(call: Callable[..., object]) -> Callable[..., Document]:
    """`call` with its result written down, in the thread that calls it: other requests go on meanwhile."""

    @wraps(call)
    def document(*args: object, **kwargs: object) -> Document:
        return Document(call(*args, **kwargs))

    return document


def dumped(content: object) -> bytes:
    """JSON in UTF-8 on one line. NaN and infinities become null, halves of surrogate pairs U+FFFD, which is as long."""
    try:
        return _written(content)
    except ValueError:  # also UnicodeEncodeError
        return _written(_plain(content))


def _written(content: object) -> bytes:
    """Long lists are written an item at a time: in between other threads run, which they cannot within `json.dumps`."""
    if isinstance(content, list) and len(content) > _LONG:
        return b"[" + b",".join([_plainly(one) for one in content]) + b"]"
    if isinstance(content, dict) and any(isinstance(one, list) and len(one) > _LONG for one in content.values()):
        return b"{" + b",".join([_plainly(str(name)) + b":" + _written(one) for name, one in content.items()]) + b"}"
    return _plainly(content)


def _plainly(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(content: object) -> object:
    if isinstance(content, str):
        return _HALF.sub("\ufffd", content)
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {_plain(str(name)): _plain(value) for name, value in content.items()}
    return [_plain(one) for one in content] if isinstance(content, list | tuple) else content
