"""Language models in this process, through transformers: causal ones and encoder-decoders.

What is wanted decides the work: log-probabilities of labels are one forward pass over the prompts; the
log-probability of a continuation is one pass over prompt and continuation; text is greedy generation. Requests that
arrive together, from any query, are one batch, padded on the left for causal models (so that the last position is
the answer's first token in every row) and masked.

The log-probability of a label sums the vocabulary entries that spell it (see `thresher.llm.model`). A label that no
single token spells is an error, never a rating.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from thresher.errors import InputError, ModelError, require
from thresher.llm.batching import Batcher
from thresher.llm.model import Completion, LanguageModel, Request, Usage, spells
from thresher.llm.permutations import Permutation
from thresher.llm.tokens import TokenizerTokens, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

PURPOSE = "running a language model in this process"


class TransformersModel(LanguageModel):
    """A transformers model.

    Args:
        model: a directory, a hub identifier, or a name that ships with thresher. Nothing is downloaded unless asked.
        device: `auto`, `cpu`, `cuda`, ...
        dtype: `auto`, `float32`, `float16` or `bfloat16`.
        batch_size: requests in one batch.
        context: the most tokens of prompt and answer together; read from the model unless given.
        revision: of a hub model.
        download: fetch a hub model that is not in the cache.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 16,
        context: int | None = None,
        revision: str | None = None,
        download: bool = False,
    ) -> None:
        from thresher.models.files import directory_fingerprint, resolve
        from thresher.models.hf import pick_device, pick_dtype

        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        self._torch: Any = require("torch", extra="models", purpose=PURPOSE)
        transformers: Any = require("transformers", extra="models", purpose=PURPOSE)
        found = resolve(model, revision=revision, download=download)
        self._name: str = found.name
        self._fingerprint = directory_fingerprint(found.path)
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        try:
            config = transformers.AutoConfig.from_pretrained(found.path, trust_remote_code=False)
            self._seq2seq = bool(config.is_encoder_decoder)
            kind = transformers.AutoModelForSeq2SeqLM if self._seq2seq else transformers.AutoModelForCausalLM
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(found.path, trust_remote_code=False)
            with _without_progress(transformers):
                self._model = kind.from_pretrained(
                    found.path, trust_remote_code=False, dtype=getattr(self._torch, self._dtype)
                )
        except (OSError, ValueError, ImportError) as err:
            raise ModelError(f"{found.path} cannot be loaded as a language model: {err}") from err
        self._model.to(self._device).eval()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if self._tokenizer.pad_token_id is None:
            raise ModelError(f"the tokenizer of {found.path} has neither a padding nor an end token")
        self._tokens = TokenizerTokens(self._tokenizer.backend_tokenizer)
        self._context = context if context is not None else _context(config)
        self._label_ids: dict[str, list[int]] = {}
        self._batcher: Batcher[Request, Completion] = Batcher(self._answer, batch_size)

    @property
    def name(self) -> str:
        """What it was asked for by."""
        return self._name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What tells the model's files from others, and the float type."""
        return {"files": self._fingerprint, "dtype": self._dtype}

    @property
    def tokens(self) -> Tokens:
        """The model's tokenizer."""
        return self._tokens

    @property
    def context(self) -> int | None:
        """As given, or as the model's configuration says."""
        return self._context

    def prompt_bound(self, request: Request) -> int:
        """The exact number of prompt tokens."""
        return len(self._prompt_ids(request)) + len(self._continuation_ids(request))

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer the requests together with whatever else is waiting.

        Raises:
            ModelError: a prompt longer than the context, a label that is no single token, or logits that are no
                numbers.
        """
        for request in requests:
            self._check_length(request)
        return list(await asyncio.gather(*map(self._batcher.submit, requests)))

    def close(self) -> None:
        """Let the working thread end."""
        self._batcher.close()

    def _answer(self, requests: Sequence[Request]) -> list[Completion]:
        """One batch, split by what is wanted. An error of one request is told to all of its batch."""
        wanted: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            kind = "labels" if request.labels else "continuation" if request.continuation else "text"
            if kind == "text":
                kind = f"text {request.max_tokens} {request.temperature}"
            wanted.setdefault(kind, []).append(index)
        results: dict[int, Completion] = {}
        for kind, indices in wanted.items():
            part = [requests[index] for index in indices]
            with self._torch.inference_mode():
                work = {"labels": self._labels, "continuation": self._continuations}.get(kind, self._texts)
                results.update(zip(indices, work(part), strict=True))
        return [results[index] for index in range(len(requests))]

    def _labels(self, requests: Sequence[Request]) -> list[Completion]:
        """Log-probabilities of labels at the first answer token."""
        prompts = [self._prompt_ids(request) for request in requests]
        inputs = self._padded(prompts)
        if self._seq2seq:
            start = self._torch.full((len(prompts), 1), self._decoder_start(), device=self._device)
            logits = self._model(**inputs, decoder_input_ids=start, use_cache=False).logits[:, 0]
        else:
            logits = self._model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        logs = self._log_softmax(logits)
        return [
            Completion(
                labels={
                    label: float(self._torch.logsumexp(logs[row, self._spelling(label)], 0)) for label in request.labels
                },
                usage=Usage(len(prompts[row]), 1),
            )
            for row, request in enumerate(requests)
        ]

    def _continuations(self, requests: Sequence[Request]) -> list[Completion]:
        """Log-probability of each continuation given its prompt."""
        prompts = [self._prompt_ids(request) for request in requests]
        targets = [self._continuation_ids(request) for request in requests]
        if self._seq2seq:
            inputs = self._padded(prompts)
            shifted = [[self._decoder_start(), *target[:-1]] for target in targets]
            decoder = self._padded(shifted, left=False)
            logits = self._model(
                **inputs,
                decoder_input_ids=decoder["input_ids"],
                decoder_attention_mask=decoder["attention_mask"],
                use_cache=False,
            ).logits
            starts = [0] * len(requests)
        else:
            rows = [[*prompt, *target] for prompt, target in zip(prompts, targets, strict=True)]
            inputs = self._padded(rows)
            logits = self._model(**inputs, use_cache=False).logits
            width = logits.shape[1]
            starts = [width - len(target) - 1 for target in targets]
        results = []
        for row, (prompt, target, start) in enumerate(zip(prompts, targets, starts, strict=True)):
            logs = self._log_softmax(logits[row, start : start + len(target)])
            chosen = logs[self._torch.arange(len(target)), self._torch.tensor(target, device=logs.device)]
            results.append(
                Completion(continuation=float(chosen.double().sum()), usage=Usage(len(prompt) + len(target), 0))
            )
        return results

    def _texts(self, requests: Sequence[Request]) -> list[Completion]:
        """Generated text."""
        prompts = [self._prompt_ids(request) for request in requests]
        inputs = self._padded(prompts)
        sampled = requests[0].temperature > 0
        options: dict[str, Any] = {"do_sample": sampled}
        if sampled:
            options["temperature"] = requests[0].temperature
        limit = max(requests[0].max_tokens, 1)
        skip = 1 if self._seq2seq else inputs["input_ids"].shape[1]
        if any(request.permutation for request in requests):
            options["prefix_allowed_tokens_fn"] = self._held(requests, skip)
        output = self._model.generate(
            **inputs, max_new_tokens=limit, pad_token_id=self._tokenizer.pad_token_id, **options
        )
        results = []
        for row, prompt in enumerate(prompts):
            ids = [i for i in output[row, skip:].tolist() if i != self._tokenizer.pad_token_id]
            text = self._tokenizer.decode(ids, skip_special_tokens=True)
            cut = len(ids) >= limit and ids[-1] != self._tokenizer.eos_token_id
            results.append(
                Completion(text=text, usage=Usage(len(prompt), len(ids)), finish="length" if cut else "stop")
            )
        return results

    def _held(self, requests: Sequence[Request], skip: int) -> Callable[[int, Any], list[int]]:
        """What each row of a batch may say next; rows without a permutation may say anything."""
        end = self._tokenizer.eos_token_id

        def encode(text: str) -> list[int]:
            ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
            return ids

        held = [Permutation(request.permutation, encode, end) if request.permutation else None for request in requests]
        anything = list(range(self._model.config.vocab_size))

        def allowed(row: int, ids: Any) -> list[int]:
            permutation = held[row]
            return anything if permutation is None else permutation.allowed(ids[skip:].tolist())

        return allowed

    def _prompt_ids(self, request: Request) -> list[int]:
        """The prompt's tokens, through the chat template where there is one."""
        if request.raw or self._seq2seq or not self._tokenizer.chat_template:
            text = "\n\n".join(message.content for message in request.messages)
            text = f"{text}{request.opening}" if request.raw else f"{text}\n{request.opening}".rstrip("\n")
            ids: list[int] = self._tokenizer(text, truncation=False).input_ids
        else:
            messages = [{"role": m.role, "content": m.content} for m in request.messages]
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            ids = self._tokenizer(text + request.opening, add_special_tokens=False, truncation=False).input_ids
        return ids

    def _check_length(self, request: Request) -> None:
        """Refuse what the model cannot read whole, rather than cut it in silence."""
        length = self.prompt_bound(request) + max(request.max_tokens, 1)
        if self._context is not None and length > self._context:
            raise ModelError(
                f"prompt and answer of {length} tokens do not fit the context of {self._name} ({self._context}); show "
                "fewer passages, or cut them shorter"
            )

    def _continuation_ids(self, request: Request) -> list[int]:
        if not request.continuation:
            return []
        ids: list[int] = self._tokenizer(request.continuation, add_special_tokens=False).input_ids
        return ids

    def _padded(self, rows: Sequence[Sequence[int]], *, left: bool | None = None) -> dict[str, Any]:
        """int64[n, longest] ids and mask; causal models are padded on the left."""
        torch = self._torch
        left = not self._seq2seq if left is None else left
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, values in enumerate(rows):
            place = slice(width - len(values), width) if left else slice(0, len(values))
            ids[row, place] = torch.tensor(values, dtype=torch.long)
            mask[row, place] = 1
        inputs = {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}
        if not self._seq2seq:
            inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0).to(self._device)
        return inputs

    def _log_softmax(self, logits: Any) -> Any:
        logs = self._torch.log_softmax(logits.float(), dim=-1)
        if bool(self._torch.isnan(logs).any()):
            raise ModelError(
                f"{self._name} computed logits that are no numbers; try another float type than {self._dtype}"
            )
        return logs

    def _spelling(self, label: str) -> list[int]:
        """The vocabulary entries that spell a label."""
        if label not in self._label_ids:
            vocabulary = self._tokenizer.get_vocab()
            special = set(self._tokenizer.all_special_ids)
            ids = sorted(i for token, i in vocabulary.items() if i not in special and spells(token, label))
            if not ids:
                raise ModelError(
                    f"no single token of {self._name} spells {label!r}, so its probability cannot be read off the "
                    "first answer token; let the model answer in text instead"
                )
            self._label_ids[label] = ids
        return self._label_ids[label]

    def _decoder_start(self) -> int:
        start = self._model.config.decoder_start_token_id
        return int(self._tokenizer.pad_token_id if start is None else start)


def _context(config: Any) -> int | None:
    """The longest input a model's configuration states, None where it states none (T5 has relative positions)."""
    for name in ("max_position_embeddings", "n_positions"):
        value = getattr(config, name, None)
        if isinstance(value, int) and 0 < value < 10**7 and not config.is_encoder_decoder:
            return value
    return None


@contextmanager
def _without_progress(transformers: Any) -> Iterator[None]:
    """No bars while a model loads: a library is quiet."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
