"""Where a ranking finds its docnos and texts: an index, or passages held in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from thresher.checks import shown
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thresher.records import Passage


class PassageSource(Protocol):
    """Where a ranking finds its docnos and texts: an index, or a corpus held in memory."""

    def passages(self, docnos: Sequence[str]) -> Sequence[Passage]:
        """The passages with these docnos, in their order."""


class NumberedSource(PassageSource, Protocol):
    """A source that also knows its passages by number, in the order they were indexed."""

    def docnos_at(self, numbers: NDArray[np.int64]) -> list[str]:
        """The docnos of the passages with these numbers."""

    def passages_at(self, numbers: NDArray[np.int64]) -> Sequence[Passage]:
        """The passages with these numbers."""


class HeldPassages:
    """Passages in memory, by docno, and the docnos of the duplicates that some of them stand for."""

    def __init__(self, passages: Iterable[Passage], aliases: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._held = {passage.docno: passage for passage in passages}
        self._aliases = dict(aliases or {})

    def aliases(self, docnos: Sequence[str]) -> list[tuple[str, ...]]:
        """The duplicates that these passages stand for."""
        return [self._aliases.get(docno, ()) for docno in docnos]

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos.

        Raises:
            InputError: one is not there.
        """
        try:
            return [self._held[docno] for docno in docnos]
        except KeyError as err:
            raise InputError(f"docno {err.args[0]!r} is not among the {len(self._held)} passages given") from None
        except TypeError as err:
            raise InputError(f"docnos must be strings; got {shown(docnos)}") from err


def with_numbers(passages: PassageSource | None) -> NumberedSource:
    """The same source, which knows its passages by number.

    Raises:
        InputError: it does not, or there is none.
    """
    if passages is None or not hasattr(passages, "docnos_at"):
        raise InputError("this ranking did not come from an index, so its passages have no numbers")
    return passages  # type: ignore[return-value]  # checked by its attribute


def aliases_in(source: PassageSource | None, docnos: Sequence[str]) -> list[tuple[str, ...]]:
    """What `source` keeps of the duplicates that were folded into these passages."""
    find = getattr(source, "aliases", None)
    return list(find(docnos)) if callable(find) else [() for _ in docnos]
