"""What is asked of a shard and what it answers, as plain values that go through a pipe or over HTTP unchanged.

Scores and weights are JSON numbers with as many digits as it takes to read the same float64 back, so that a ranking is
the same to the last bit wherever its shards run. Terms travel as strings: their ids differ from shard to shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from thresher.errors import ThresherError

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST, SECOND = 1, 2
"""The tiers."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request or an answer."""


class FactsRequest(Message, frozen=True):
    """Asks for the facts of a shard at its last commit."""

    route: ClassVar[str] = "facts"


class Facts(Message, frozen=True):
    """What a coordinator must know of a shard.

    Attributes:
        commit: the number of its commit.
        sha256: the checksum of its commit.
        passages: live passages of each tier.
        encoders: fingerprint of each tier's encoder, empty where the index holds none; of one or two tiers.
        lexical: whether each tier's queries are weighed by BM25's statistics.
        scales: the unit of each tier's impacts; 0 for a tier whose parts differ.
        counted: of each tier's space of terms, the live passages with at least one term.
        vocabularies: content of each tier's vocabulary, empty where its parts differ.
        average_length: that BM25's weights were made with, 0 where there are none.
        schema: type of each metadata field by its name.
        routing: the calibration of the tiers as JSON; empty where there is none.
        recipe: the index's recipe as JSON.
        masked: whether passages are deleted.
    """

    commit: int
    sha256: str
    passages: tuple[int, ...]
    encoders: tuple[str, ...]
    lexical: tuple[bool, ...]
    scales: tuple[float, ...]
    counted: tuple[int, ...]
    vocabularies: tuple[str, ...]
    average_length: float
    schema: dict[str, str]
    routing: str
    recipe: str
    masked: bool


class EncodeRequest(Message, frozen=True):
    """Asks for the weighted terms of texts, as a tier's encoder gives them."""

    route: ClassVar[str] = "encode"

    texts: tuple[str, ...]
    tier: int


class NamesRequest(Message, frozen=True):
    """Asks for the strings of a tier's term ids; ids that are no term's have none."""

    route: ClassVar[str] = "names"

    ids: tuple[int, ...]
    tier: int


class Row(Message, frozen=True, array_like=True):
    """Terms and their weights, which are float32 numbers."""

    terms: tuple[str, ...]
    weights: tuple[float, ...]


class Rows(Message, frozen=True):
    """The answer to `EncodeRequest`, a row for each text."""

    rows: tuple[Row, ...]


class Names(Message, frozen=True):
    """The answer to `NamesRequest`; None for ids that are no term's."""

    names: tuple[str | None, ...]


class ListsRequest(Message, frozen=True):
    """Asks for what a shard's lists of some terms hold, in the space of terms of a tier."""

    route: ClassVar[str] = "lists"

    sha256: str
    terms: tuple[str, ...]
    tier: int


class Lists(Message, frozen=True):
    """Statistics of terms, in the order asked for.

    Attributes:
        known: whether the space has the term.
        live: live postings in all parts of the space; none where queries are not weighed.
        first, second: largest and tenth impact in units of scores, and postings, of each tier that shares the space.
    """

    known: tuple[bool, ...]
    live: tuple[int, ...]
    first: tuple[tuple[float, float, float], ...]
    second: tuple[tuple[float, float, float], ...]


class Asked(Message, frozen=True, array_like=True):
    """A query as a shard scores it: weights are final, and passages below `least` are not wanted."""

    terms: tuple[str, ...]
    weights: tuple[float, ...]
    least: float = 0.0


class TopRequest(Message, frozen=True):
    """Asks for the best passages of one tier for some queries.

    Attributes:
        sha256: the commit that must answer.
        tier: 1 or 2.
        k: passages wanted.
        queries: the queries.
        plan: as `Index.search`.
        effort: as `Effort.parse` reads it; empty for the exact answer.
        where: a filter as text, empty for none.
        allow: the docnos that may be returned; None for all.
        explain: say how each query was answered.
        threads: that share the queries.
        deadline_ms: milliseconds after which to answer with what was found; 0 for none.
    """

    route: ClassVar[str] = "top"

    sha256: str
    tier: int
    k: int
    queries: tuple[Asked, ...]
    plan: str = "auto"
    effort: str = ""
    where: str = ""
    allow: tuple[str, ...] | None = None
    explain: bool = False
    threads: int = 1
    deadline_ms: float = 0.0


class Found(Message, frozen=True):
    """The best passages for one query, by score, then docno.

    Attributes:
        docnos, scores: of the passages.
        exact: whether it is the tier's exact top-k of what reaches `least`.
        complete: whether no deadline cut it.
        told: how it was found, if `explain` was given: the fields of `thresher.search.results.Explanation`.
    """

    docnos: tuple[str, ...]
    scores: tuple[float, ...]
    exact: bool
    complete: bool = True
    told: tuple[dict[str, str | int | float], ...] = ()


class Top(Message, frozen=True):
    """The answer to `TopRequest`."""

    found: tuple[Found, ...]


class PassagesRequest(Message, frozen=True):
    """Asks for the passages with these docnos, as far as the shard has them and they match a filter."""

    route: ClassVar[str] = "passages"

    docnos: tuple[str, ...]
    where: str = ""


class Text(Message, frozen=True):
    """A passage, its metadata as JSON, and the docnos of the duplicates that were folded into it."""

    docno: str
    text: str
    title: str
    metadata: str
    aliases: tuple[str, ...] = ()


class Texts(Message, frozen=True):
    """The answer to `PassagesRequest`: those that are there."""

    passages: tuple[Text, ...]


class FacetsRequest(Message, frozen=True):
    """Asks how many passages have each value of a field.

    Attributes:
        field: of the schema.
        terms: by tier, count passages that hold one of these; None for all passages.
        where: a filter as text, empty for none.
        allow: as in `TopRequest`.
    """

    route: ClassVar[str] = "facets"

    sha256: str
    field: str
    terms: tuple[tuple[str, ...], ...] | None
    where: str = ""
    allow: tuple[str, ...] | None = None


class Facets(Message, frozen=True):
    """The answer to `FacetsRequest`: values and counts."""

    values: tuple[tuple[str | int | float | bool, int], ...]


REQUESTS: Mapping[str, type[Message]] = {
    kind.route: kind
    for kind in (FactsRequest, EncodeRequest, NamesRequest, ListsRequest, TopRequest, PassagesRequest, FacetsRequest)
}
ANSWERS: Mapping[str, type[Message]] = {
    "facts": Facts,
    "encode": Rows,
    "names": Names,
    "lists": Lists,
    "top": Top,
    "passages": Texts,
    "facets": Facets,
}


class CommitGoneError(ThresherError):
    """The commit that a request names is no longer open at a shard; the coordinator asks for the facts again."""


def written(message: Message) -> bytes:
    """A message as JSON."""
    return msgspec.json.encode(message)


def read_request(route: str, content: bytes) -> Message:
    """The request that a body holds.

    Raises:
        msgspec.MsgspecError: it holds none.
        KeyError: there is no such route.
    """
    return msgspec.json.decode(content, type=REQUESTS[route])


def read_answer(route: str, content: bytes) -> Message:
    """The answer that a body holds.

    Raises:
        msgspec.MsgspecError: it holds none.
    """
    return msgspec.json.decode(content, type=ANSWERS[route])
