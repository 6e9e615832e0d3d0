"""Language models in this process, through transformers: causal ones and encoder-decoders.

Log-probabilities of labels take one forward pass over the prompts; the log-probability of a continuation takes one
pass over prompt and continuation; text is greedy generation. Requests that arrive together, from any query, are one
batch, padded on the left for causal models (so that the last position is the answer's first token in every row) and
masked.

The log-probability of a label sums the vocabulary entries that spell it (see `thresher.llm.model`). A label that no
single token spells is an error, never a rating.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import InputError, ModelError, require
from thresher.llm.model import Completion, LanguageModel, TokenUsage, folded, one_line, spells
from thresher.llm.tokens import TokenizerTokens
from thresher.models.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    import transformers

    from thresher.llm.model import Request
    from thresher.llm.tokens import Tokens

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

    @checked_call
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
        from thresher.models.hf import load_transformers, pick_device, pick_dtype

        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        self._torch = require("torch", extra="models", purpose=PURPOSE)
        found = resolve(model, revision=revision, download=download)
        self._name: str = found.name
        self._fingerprint = directory_fingerprint(found.path)
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        self._model, self._tokenizer = load_transformers(
            found.path, device=self._device, dtype=getattr(self._torch, self._dtype), purpose=PURPOSE
        )
        self._seq2seq = bool(self._model.config.is_encoder_decoder)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if self._tokenizer.pad_token_id is None:
            raise ModelError(f"the tokenizer of {found.path} has neither a padding nor an end token")
        self._tokens = TokenizerTokens(self._tokenizer.backend_tokenizer)
        self._context = context if context is not None else _context(self._model.config)
        self._folds = False
        self._label_ids: dict[str, list[int]] = {}
        self._batcher: Batcher[Request, Completion] = Batcher(self._answer, batch_size)

    @property
    def name(self) -> str:
        """As it was given."""
        return self._name

    @property
    def parameters(self) -> Mapping[str, object]:
        """A fingerprint of the model's files, and the float type."""
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
        """Answer the requests in batches with others that are waiting.

        Raises:
            ModelError: a prompt longer than the context, a label that is not a single token, or logits that are
                not numbers.
        """
        for request in requests:
            self._check_length(request)
        found = await asyncio.gather(*(self._batcher.asubmit([request]) for request in requests))
        return [completion for (completion,) in found]

    def close(self) -> None:
        """End the worker thread."""
        self._batcher.close()

    def _answer(self, requests: Sequence[Request]) -> list[Completion]:
        """One batch, split by kind of answer; an error of one request fails it."""
        wanted: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            kind = "labels" if request.labels else "continuation" if request.continuation else "text"
            if kind == "text":
                kind = f"text {request.max_tokens} {request.temperature}"
            wanted.setdefault(kind, []).append(index)
        results: dict[int, Completion] = {}
        for kind, indices in wanted.items():
            part = [requests[index] for index in indices]
            work = {"labels": self._labels, "continuation": self._continuations}.get(kind, self._texts)
            try:
                with self._torch.inference_mode():
                    results.update(zip(indices, work(part), strict=True))
            except (RuntimeError, ValueError, IndexError) as err:  # out of memory is a RuntimeError
                said = one_line(str(err))[:300]
                raise ModelError(f"{self._name} failed on {len(part)} prompts ({type(err).__name__}: {said})") from err
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
                usage=TokenUsage(len(prompts[row]), 1),
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
                Completion(continuation=float(chosen.double().sum()), usage=TokenUsage(len(prompt) + len(target), 0))
            )
        return results

    def _texts(self, requests: Sequence[Request]) -> list[Completion]:
        """Generated text."""
        prompts = [self._prompt_ids(request) for request in requests]
        inputs = self._padded(prompts)
        sampled = requests[0].temperature > 0
        options: dict[str, object] = {"do_sample": sampled}
        if sampled:
            options["temperature"] = requests[0].temperature
        limit = max(requests[0].max_tokens, 1)
        skip = 1 if self._seq2seq else inputs["input_ids"].shape[1]
        if any(request.permutation for request in requests):
            options["prefix_allowed_tokens_fn"] = self._constraint(requests, skip)
        output = self._model.generate(
            **inputs, max_new_tokens=limit, pad_token_id=self._tokenizer.pad_token_id, **options
        )
        results = []
        for row, prompt in enumerate(prompts):
            ids = [i for i in output[row, skip:].tolist() if i != self._tokenizer.pad_token_id]
            text = self._tokenizer.decode(ids, skip_special_tokens=True)
            cut = len(ids) >= limit and ids[-1] != self._tokenizer.eos_token_id
            results.append(
                Completion(text=text, usage=TokenUsage(len(prompt), len(ids)), finish="length" if cut else "stop")
            )
        return results

    def _constraint(self, requests: Sequence[Request], skip: int) -> Callable[[int, torch.Tensor], list[int]]:
        """The tokens allowed next in each row of a batch; all in rows without a permutation."""
        end = self._tokenizer.eos_token_id

        def encode(text: str) -> list[int]:
            ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
            return ids

        held = [Permutation(request.permutation, encode, end) if request.permutation else None for request in requests]
        anything = list(range(self._model.config.vocab_size))

        def allowed(row: int, ids: torch.Tensor) -> list[int]:
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
            text = self._templated(messages)
            ids = self._tokenizer(text + request.opening, add_special_tokens=False, truncation=False).input_ids
        return ids

    def _templated(self, messages: list[dict[str, str]]) -> str:
        """The conversation in the model's template, with the system's words in the user's turn if it has no system."""
        problem = ""
        for attempt in (folded(messages),) if self._folds else (messages, folded(messages)):
            try:
                text: str = self._tokenizer.apply_chat_template(attempt, add_generation_prompt=True, tokenize=False)
            except Exception as err:  # a template is a program of the model, and raises what it likes
                problem = one_line(f"{type(err).__name__}: {err}")[:200]
            else:
                self._folds = attempt is not messages
                return text
        raise ModelError(f"the chat template of {self._name} does not accept the conversation ({problem})")

    def _check_length(self, request: Request) -> None:
        """Raise if prompt and answer exceed the context; prompts are never cut silently."""
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

    def _padded(self, rows: Sequence[Sequence[int]], *, left: bool | None = None) -> dict[str, torch.Tensor]:
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

    def _log_softmax(self, logits: torch.Tensor) -> torch.Tensor:
        logs: torch.Tensor = self._torch.log_softmax(logits.float(), dim=-1)
        if bool(self._torch.isnan(logs).any()):
            raise ModelError(
                f"{self._name} computed logits that are not numbers; try another float type than {self._dtype}"
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


class Permutation:
    """Generation constrained to a permutation: every label once, in any order.

    The answer is a chain of pieces, `[2]`, ` > [1]`, ` > [3]`; after each piece the unused labels remain, and after the
    last the answer ends. Within a piece the tokens allowed are those that continue a remaining piece, so no label can
    be missing, repeated or unknown. JSON schemas and regular expressions cannot express this.

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
        """The ids that may come next; at least one."""
        left = list(self._first)
        pieces, start = self._first, 0
        for place in range(1, len(generated) + 1):
            piece = tuple(generated[start:place])
            done = next((label for label in left if pieces[label] == piece), None)
            if done is not None:
                left.remove(done)
                pieces, start = self._later, place
        begun = tuple(generated[start:])
        following = {pieces[label][len(begun)] for label in left if pieces[label][: len(begun)] == begun}
        return sorted(following) if following else [self._end]


def _context(config: transformers.PretrainedConfig) -> int | None:
    """The longest input a model's configuration states, None where it states none (T5 has relative positions)."""
    for name in ("max_position_embeddings", "n_positions"):
        value = getattr(config, name, None)
        if isinstance(value, int) and 0 < value < 10**7 and not config.is_encoder_decoder:
            return value
    return None
