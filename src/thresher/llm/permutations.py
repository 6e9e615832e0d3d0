"""Generation held to a permutation: every label once, in an order of the model's choosing.

The answer is a chain of pieces, `[2]`, ` > [1]`, ` > [3]`; after each piece the ones left are those not yet used, and
after the last the answer ends. Within a piece the tokens allowed are those that continue one of the pieces left, so a
label that is missing, repeated or strange cannot be generated. JSON schemas and regular expressions cannot say this; a
server can only be held to an object with a place for every label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Permutation:
    """What may follow what has been generated.

    Args:
        labels: each to be named once.
        encode: token ids of a text, without special tokens.
        end: the id that ends an answer.
    """

    def __init__(self, labels: Sequence[str], encode: Callable[[str], Sequence[int]], end: int) -> None:
        self._first: Mapping[str, tuple[int, ...]] = {label: tuple(encode(f"[{label}]")) for label in labels}
        self._later: Mapping[str, tuple[int, ...]] = {label: tuple(encode(f" > [{label}]")) for label in labels}
        self._end = end

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """The ids that may come next, never none."""
        left = list(self._first)
        pieces, start = self._first, 0
        for place in range(1, len(generated) + 1):
            said = tuple(generated[start:place])
            done = next((label for label in left if pieces[label] == said), None)
            if done is not None:
                left.remove(done)
                pieces, start = self._later, place
        begun = tuple(generated[start:])
        following = {pieces[label][len(begun)] for label in left if pieces[label][: len(begun)] == begun}
        return sorted(following) if following else [self._end]
