"""States of passages below the join of a two-headed model, made before any query is known (PreTTR).

`thresher.vectors.states` stores them in an index; `thresher.context.model` reads on from them.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, require
from thresher.models import two_headed
from thresher.models.backend import pick_backend
from thresher.models.files import embedded_path, resolve
from thresher.models.hf import single_threaded
from thresher.models.minilm import load_tokenizer
from thresher.models.windows import Cutter
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thresher.models.packed import JoinedReader
    from thresher.records import Passage

_PURPOSE = "states of passages"


class EarlyStates:
    """Makes the states of passages, on a CPU.

    Args:
        model: `thresher-context`, or the directory of another two-headed model.

    Attributes:
        name: the model's name and fingerprint, as its sentence scorer has them.
        width: numbers in a state.
        backend: the engine, and why.

    Raises:
        ConfigError: it is not a two-headed model.
        MissingExtraError: torch, safetensors, tokenizers or the embedded model is not installed.
    """

    def __init__(self, model: str = "thresher-context") -> None:
        safetensors = require("safetensors.torch", extra="models", purpose=_PURPOSE)
        require("torch", extra="models", purpose=_PURPOSE)
        directory = two_headed.SHIPPED if model == "thresher-context" else Path(resolve(model).path)
        if not two_headed.is_saved(directory):
            raise ConfigError(f"states.model is {model!r}, which is not a two-headed model; use thresher-context")
        from thresher.models.packed import JoinedReader

        body = embedded_path()
        shape, about = two_headed.read_config(directory)
        loaded = two_headed.load(directory, safetensors.load_file(str(body / "model.safetensors")))
        tokenizer = load_tokenizer(body)
        tokenizer.no_truncation()
        self.name, self.width = two_headed.name_of(directory, about), shape.hidden
        self._cutter = Cutter(tokenizer)
        self.backend = pick_backend()
        self._reader: JoinedReader = JoinedReader(loaded, self.backend)

    def encode(self, passages: Sequence[Passage]) -> list[list[tuple[list[int], NDArray[np.float32]]]]:
        """Of each passage its windows: their word pieces, and their states, float32[pieces, width]."""
        from thresher.models.packed import packs

        cut = [self._cutter.cut(one.text, split_sentences(one.text), one.title).windows for one in passages]
        rows = [window.ids for windows in cut for window in windows]
        states: dict[int, NDArray[np.float32]] = {}

        def one(batch: list[int]) -> None:
            found = self._reader.apart([rows[place] for place in batch])
            states.update(zip(batch, (tensor.numpy() for tensor in found), strict=True))

        single_threaded.map(one, packs([len(row) for row in rows], single_threaded.width()))
        made = iter([(rows[place], states[place]) for place in range(len(rows))])
        return [list(islice(made, len(windows))) for windows in cut]
