"""The embedded MiniLM's vectors with torch and tokenizers alone: light to load, and the same whatever is beside a text.

What sentence-transformers calls the embeddings of all-MiniLM-L6-v2: mean token states at unit length, of at most 256
word pieces. On a CPU every text is computed by itself, without padding, by one thread, as many side by side as asked
for; so a vector depends on its text alone, not on the batch nor on the number of threads. On an accelerator texts of
like length are padded together.

The body is that of `thresher.models.two_headed` with all its layers below the join, so that neither transformers nor
sentence-transformers is imported: a process that answers queries starts in a third of the time.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, require
from thresher.models import two_headed
from thresher.models.embedded import EMBEDDED_NAME, MAX_TOKENS, embedded_path, load_tokenizer
from thresher.models.resolve import pick_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_PURPOSE = "the embedded MiniLM"
_WIDTH = 384
_PADDED = 32  # texts in one forward pass on an accelerator


class MiniLMEncoder:
    """Dense vectors of the embedded MiniLM.

    Args:
        device: `auto`, or what torch calls it.
        storage: `float16` or `float32`, the type of the vectors returned.
        threads: texts encoded side by side on a CPU; None takes torch's own number of threads.

    Raises:
        MissingExtraError: the package, torch, safetensors or tokenizers is not installed.
        ConfigError: the storage is neither of the two.
    """

    name = EMBEDDED_NAME
    dimensions = _WIDTH

    def __init__(self, *, device: str = "cpu", storage: str = "float16", threads: int | None = None) -> None:
        if storage not in ("float16", "float32"):
            raise ConfigError(f"unknown storage {storage!r}; vectors leave an encoder as float16 or float32")
        self.torch: Any = require("torch", extra="models", purpose=_PURPOSE)
        safetensors: Any = require("safetensors.torch", extra="models", purpose=_PURPOSE)
        directory = embedded_path()
        self.device = pick_device(device)
        model = two_headed.untrained(two_headed.JoinedBertConfig(join=6))
        two_headed.load_body(model, safetensors.load_file(str(directory / "model.safetensors")))
        self._model = model.eval().to(self.device)
        self.tokenizer = load_tokenizer(directory, max_tokens=MAX_TOKENS)
        self._storage = np.dtype(storage)
        self._threads = threads

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that determines the vectors."""
        return _fingerprint(str(self._storage))

    def accepts(self, fingerprint: str) -> bool:
        """Whether vectors of that fingerprint can be met by a query's from here; an empty one says nothing."""
        return fingerprint in ("", _fingerprint("float16"), _fingerprint("float32"))

    def encode_passages(self, texts: Sequence[str]) -> NDArray[Any]:
        """Vectors of `texts`, [n, 384]."""
        return self._encode([encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[Any]:
        """Vectors of queries, [n, 384]; the model knows no difference between a query and a passage."""
        return self.encode_passages(texts)

    def _encode(self, rows: Sequence[Sequence[int]]) -> NDArray[Any]:
        out = np.zeros((len(rows), _WIDTH), dtype=self._storage)
        order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))  # long ones first
        if self.device != "cpu":
            for low in range(0, len(order), _PADDED):
                batch = order[low : low + _PADDED]
                out[batch] = self._padded([rows[i] for i in batch])
            return out
        torch = self.torch

        def one(number: int) -> None:
            with torch.inference_mode():
                states = self._model.read_apart(torch.tensor([list(rows[number])]), None)[0].mean(0)
                out[number] = torch.nn.functional.normalize(states, dim=0).numpy()

        before = int(torch.get_num_threads())
        workers = min(self._threads or before, len(order))
        torch.set_num_threads(1)
        try:
            if workers <= 1:
                for number in order:
                    one(number)
            else:
                with ThreadPoolExecutor(workers) as pool:
                    list(pool.map(one, order))
        finally:
            torch.set_num_threads(before)
        return out

    def _padded(self, rows: Sequence[Sequence[int]]) -> NDArray[Any]:
        torch = self.torch
        ids, lengths = two_headed.pad([list(row) for row in rows], self.device)
        with torch.inference_mode():
            states = self._model.read_apart(ids, lengths)
            real = (torch.arange(states.shape[1], device=self.device) < lengths[:, None]).unsqueeze(-1)
            mean = (states * real).sum(1) / lengths[:, None]
            vectors: NDArray[Any] = torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
        return vectors


def _fingerprint(storage: str) -> str:
    return hashlib.sha256(f"minilm/1/{EMBEDDED_NAME}/{MAX_TOKENS}/{storage}".encode()).hexdigest()
