"""Loading models through transformers and sentence-transformers, and running them: devices, batches, threads.

Models load from files on this machine only (`thresher.models.files` finds them), and no code of a model is run.
Torch and the two libraries are imported on first use.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from thresher.checks import is_a, shown, sound
from thresher.errors import ConfigError, ModelError, require
from thresher.models.files import refuse_pickled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    import torch
    from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
R = TypeVar("R")
_LOADING = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, ArithmeticError)
"""What transformers and sentence-transformers raise for files that are not such a model."""
_DTYPES = ("float32", "float16", "bfloat16")
_ENDLESS = 1 << 30
"""What tokenizers give as the limit of a model without one is larger."""
_SIMILAR = 0.9
"""The shortest text of a batch of similar lengths, relative to the longest."""


def pick_device(device: str = "auto") -> str:
    """`device`, or for `auto` the accelerator of this machine, else `cpu`.

    Raises:
        ConfigError: torch does not know the device, or this machine does not have it.
    """
    torch = import_torch("running a model")
    if not is_a(device, str):
        raise ConfigError(f"the device must be a string (auto, cpu, cuda, cuda:0 or mps); got {shown(device)}")
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, ValueError) as err:
        raise ConfigError(f"torch knows no device {shown(device)}; use auto, cpu, cuda, cuda:0 or mps") from err
    if found.type == "meta":
        raise ConfigError(f"device={device!r} computes nothing; use auto, cpu, cuda, cuda:0 or mps")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        many = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise ConfigError(f"device={device!r}, but torch finds {many} on this machine; use auto or cpu")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device={device!r}, but torch finds no such device on this machine; use auto or cpu")
    return device


def pick_dtype(dtype: str, device: str) -> str:
    """`dtype`, or for `auto` float16 on an accelerator and float32 elsewhere.

    Raises:
        ConfigError: it is none of float32, float16, bfloat16.
    """
    if dtype == "auto":
        return "float16" if device.startswith(("cuda", "mps")) else "float32"
    if dtype not in _DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}; use auto, {', '.join(_DTYPES)}")
    return dtype


def import_torch(purpose: str) -> ModuleType:
    """The module torch.

    Raises:
        MissingExtraError: torch is not installed.
    """
    return require("torch", extra="models", purpose=purpose)


def load_transformers(
    directory: Path, *, device: str, dtype: torch.dtype, purpose: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model of transformers in evaluation mode on `device`, and its tokenizer.

    It is an encoder-decoder or a causal model, as its configuration says.

    Args:
        directory: the model's files.
        device: a torch device.
        dtype: floating type of the weights in memory.
        purpose: what the model is for, for error messages.

    Raises:
        MissingExtraError: transformers is not installed.
        ModelError: the files cannot be loaded as such a model.
    """
    transformers = require("transformers", extra="models", purpose=purpose)
    refuse_pickled(directory)
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(str(directory), **options)
        kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(directory), **options)
        with quiet_loading():
            model = kind.from_pretrained(str(directory), dtype=dtype, use_safetensors=True, **options)
    except _loading_errors() as err:
        raise ModelError(f"{directory} cannot be loaded for {purpose} ({type(err).__name__}: {err})") from err
    return model.to(device).eval(), tokenizer


def _loading_errors() -> tuple[type[Exception], ...]:
    found: type[Exception] = require("safetensors", extra="models", purpose="loading a model").SafetensorError
    return (*_LOADING, found)


@overload
def load_sentence_transformers(
    library_class: Literal["SentenceTransformer"],
    directory: Path,
    *,
    device: str,
    purpose: str,
    dtype: str | None = None,
) -> SentenceTransformer: ...
@overload
def load_sentence_transformers(
    library_class: Literal["SparseEncoder"], directory: Path, *, device: str, purpose: str, dtype: str | None = None
) -> SparseEncoder: ...
@overload
def load_sentence_transformers(
    library_class: Literal["CrossEncoder"], directory: Path, *, device: str, purpose: str, dtype: str | None = None
) -> CrossEncoder: ...
def load_sentence_transformers(
    library_class: Literal["SentenceTransformer", "SparseEncoder", "CrossEncoder"],
    directory: Path,
    *,
    device: str,
    purpose: str,
    dtype: str | None = None,
) -> object:
    """A model of sentence-transformers on `device`.

    Args:
        library_class: the class of the library.
        directory: the model's files.
        device: a torch device.
        purpose: what the model is for, for error messages.
        dtype: floating type of the weights in memory; None keeps the library's choice.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ModelError: the files cannot be loaded as such a model.
    """
    library = require("sentence_transformers", extra="models", purpose=purpose)
    refuse_pickled(directory)
    options: dict[str, dict[str, object]] = {"model_kwargs": {"use_safetensors": True}}
    if dtype is not None:
        options["model_kwargs"]["dtype"] = getattr(import_torch(purpose), dtype)
    try:
        with quiet_loading():
            model: object = getattr(library, library_class)(
                str(directory), device=device, local_files_only=True, trust_remote_code=False, **options
            )
    except _loading_errors() as err:
        raise ModelError(
            f"{directory} cannot be loaded for {purpose} ({type(err).__name__}: {err}); give a directory that "
            f"sentence-transformers' {library_class}.save_pretrained wrote"
        ) from err
    return model


def piece_limit(model: SentenceTransformer | SparseEncoder) -> int:
    """The most word pieces of a text that a model of sentence-transformers reads; 0 where it does not say."""
    limit = getattr(model, "max_seq_length", None)
    countable = callable(getattr(getattr(model, "tokenizer", None), "batch_encode_plus", None))
    return int(limit) if isinstance(limit, int) and 2 < limit < _ENDLESS and countable else 0


def count_pieces(model: SentenceTransformer | SparseEncoder, texts: Sequence[str]) -> list[int]:
    """The number of word pieces of each text, without special tokens."""
    encoded = model.tokenizer(
        [sound(text) for text in texts], add_special_tokens=False, truncation=False, verbose=False
    )
    return [len(ids) for ids in encoded["input_ids"]]


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide transformers' progress bars while a model loads."""
    logging = require("transformers", extra="models", purpose="loading a model").utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


_watchers: list[Callable[[int], None]] = []


@contextmanager
def watching(done: Callable[[int], None]) -> Iterator[None]:
    """Inside the block, every batch that an encoder has finished calls `done` with its number of texts."""
    _watchers.append(done)
    try:
        yield
    finally:
        _watchers.remove(done)


def watched(found: Iterable[list[int]]) -> Iterator[list[int]]:
    """The batches, each reported to `watching` when the next one is asked for."""
    for batch in found:
        yield batch
        report(len(batch))


def report(texts: int) -> None:
    """Tell `watching` how many texts are finished."""
    for watcher in _watchers:
        watcher(texts)


def batches(
    lengths: Sequence[int], size: int | None = None, *, tokens: int | None = None, similar: bool
) -> list[list[int]]:
    """Positions of texts in batches, longest first.

    Args:
        lengths: of the texts, in characters or tokens.
        size: most texts in a batch; None for no limit.
        tokens: most tokens in a batch, padding included (a single text always fits); None for no limit.
        similar: end a batch at a text that is a tenth shorter than its first. A CPU computes padding too, and a small
            batch costs it no more per text than a large one.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    most = longest = 0
    for place in order:
        if not found or len(found[-1]) >= most or (similar and lengths[place] < _SIMILAR * longest):
            longest = lengths[place]
            fitting = len(lengths) if tokens is None else max(1, tokens // max(1, longest))
            most = fitting if size is None else min(size, fitting)
            found.append([])
        found[-1].append(place)
    return found


class SingleThreaded:
    """A pool of threads in each of which torch computes with one thread. The process has one: `single_threaded`.

    A result computed by one thread does not depend on the number of cores, and several texts side by side use a small
    model's cores better than one text at a time. Torch keeps the number of threads for each thread that has computed
    anything, and the number last set for those to come, so the pool's threads set theirs once, when they start, under a
    lock. No other thread's number changes. Only a thread that computes for the first time within that
    moment would get one thread as well.
    """

    def __init__(self) -> None:
        self._worker = threading.local()
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0

    def _after_fork(self) -> None:
        """Compute with one thread from now on: those of the pool, and torch's own, do not survive a fork."""
        self._reset()
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)

    def map(self, function: Callable[[T], R], items: Sequence[T], threads: int | None = None) -> list[R]:
        """`function` of each item, in order; items start in order.

        Args:
            function: computes with torch.
            items: its arguments.
            threads: items computed side by side; None for torch's number of threads.

        Raises:
            Exception: the first exception that `function` raised.
        """
        if getattr(self._worker, "is_one", False):  # called by a function that `map` runs
            return [function(item) for item in items]
        torch = import_torch("running a model")
        width = min(self.width(threads), len(items))
        if not width:
            return []
        pool = self._started(torch, width)
        results: dict[int, R] = {}
        remaining, lock = iter(range(len(items))), threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(remaining, -1)
                if number < 0:
                    return
                results[number] = function(items[number])

        for future in [pool.submit(work) for _ in range(width)]:
            future.result()
        return [results[number] for number in range(len(items))]

    def width(self, threads: int | None = None) -> int:
        """How many items `map` computes side by side: `threads`, or torch's number of threads."""
        return (
            1 if getattr(self._worker, "is_one", False) else threads or int(import_torch("a model").get_num_threads())
        )

    def _started(self, torch: ModuleType, width: int) -> ThreadPoolExecutor:
        """A pool of at least `width` threads, all started; a smaller one that it replaces ends with its work."""
        with self._lock:
            if self._pool is None or self._size < width:
                before = int(torch.get_num_threads())
                self._pool, self._size = ThreadPoolExecutor(width, thread_name_prefix="thresher-torch"), width
                ready = threading.Barrier(width + 1)

                def start() -> None:
                    self._worker.is_one = True
                    torch.set_num_threads(1)
                    torch.get_num_threads()  # or torch would set the number again at this thread's first computation
                    ready.wait()

                for _ in range(width):
                    self._pool.submit(start)
                ready.wait()
                torch.set_num_threads(before)
            return self._pool


single_threaded = SingleThreaded()
