"""Requests for vectors and weighted terms, and their answers, in the shapes of OpenAI and text-embeddings-inference."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


class EmbeddingsBody(BaseModel):
    """A request of OpenAI's for vectors.

    Attributes:
        input: one text or several; token ids are refused, since they are of OpenAI's vocabularies.
        model: the encoder's name.
        encoding_format: a list of numbers, which is the default, or float32 in base64.
        dimensions: how many; there is one number that is allowed.
    """

    input: str | list[str] | list[int] | list[list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)


class EmbedBody(BaseModel):
    """A request of TEI's for vectors or weighted terms.

    Attributes:
        inputs: one text or several.
        truncate: has no effect: texts are read to their ends.
        truncation_direction: likewise.
        prompt_name: `query` for queries; anything else for passages. Only weighted terms differ.
    """

    inputs: str | list[str]
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    prompt_name: str | None = None

    def texts(self) -> list[str]:
        """The texts."""
        return [self.inputs] if isinstance(self.inputs, str) else self.inputs


def embedded(
    vectors: NDArray[np.floating], model: str, tokens: int, encoding: Literal["float", "base64"] | None
) -> dict[str, object]:
    """OpenAI's answer.

    Args:
        vectors: float[n, dimensions].
        model: the encoder's name.
        tokens: of all texts.
        encoding: as the request says.
    """
    rows = vectors.astype("<f4")
    data = [
        {
            "object": "embedding",
            "index": place,
            "embedding": base64.b64encode(row.tobytes()).decode() if encoding == "base64" else row.tolist(),
        }
        for place, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def weighted(rows: Iterable[Sequence[tuple[int, float]]]) -> list[list[dict[str, int | float]]]:
    """TEI's answer: ids and weights of each text's terms."""
    return [[{"index": number, "value": weight} for number, weight in row] for row in rows]


def listed(names: Iterable[str]) -> dict[str, object]:
    """OpenAI's list of models."""
    return {"object": "list", "data": [described(name) for name in names]}


def described(name: str) -> dict[str, object]:
    """OpenAI's description of a model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "thresher"}
