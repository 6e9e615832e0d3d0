"""A model that ranks passages, loaded so that parts of it can be removed, scored with gradients, and saved again.

Three kinds load through sentence-transformers: dense encoders (`SentenceTransformer`), learned sparse encoders
(`SparseEncoder`, a masked language model), and cross-encoders (`CrossEncoder`: a classification head, or a causal model
whose score is the logit of yes minus that of no). What is removed is removed from the transformers model inside.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thresher.checks import sound
from thresher.errors import ConfigError, DamagedArtifactError, ModelError
from thresher.files import read_json
from thresher.models.files import resolve
from thresher.models.hf import batches, import_torch, load_sentence_transformers, pick_device, quiet_loading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import nn
    from transformers import PreTrainedModel

    from thresher.compress.data import Candidates

Kind = Literal["dense", "sparse", "cross-encoder"]
KINDS: tuple[Kind, ...] = ("dense", "sparse", "cross-encoder")
_PURPOSE = "compressing a model"
NO_FORMAT = (
    "{} weights are made when a model loads, and transformers has no format for them; measure them with --curve-only "
    "(curve_only=True), or write bfloat16"
)
_LIBRARY = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "cross-encoder": "CrossEncoder"}
_WEIGHTS = re.compile(r".*\.(safetensors|bin|pt|pth|pkl|ckpt|onnx|h5|msgpack|ot|gguf)(\.index\.json)?")
_NOT_COPIED = {"README.md", "config.json", "onnx", "openvino", "compression.json"}
_BATCH = {"dense": 32, "sparse": 8, "cross-encoder": 16}


class Ranker:
    """A ranking model.

    Attributes:
        name: the name it was loaded by.
        path: the directory with its files.
        kind: `dense`, `sparse` or `cross-encoder`.
        library: the model of sentence-transformers, in evaluation mode.
        dtype: floating type of the computation: `float32` or `bfloat16` (the weights stay as they are).
        in_memory_only: what was done to the model that transformers has no format for; empty where there is nothing.
    """

    def __init__(self, name: str, path: Path, kind: Kind, library: Any, dtype: str = "float32") -> None:
        self.name, self.path, self.kind, self.library, self.dtype = name, path, kind, library, dtype
        self.torch = import_torch(_PURPOSE)
        self.in_memory_only = ""

    @classmethod
    def load(cls, model: str | Path, *, kind: str = "auto", device: str = "auto", dtype: str = "float32") -> Ranker:
        """Load a model by directory, hub identifier or the name of the embedded MiniLM.

        Args:
            model: what `thresher.models.files.resolve` finds.
            kind: `dense`, `sparse`, `cross-encoder`, or `auto`: as the model's files say.
            device: `auto`, or a torch device.
            dtype: `float32` or `bfloat16`.

        Raises:
            DataNotFoundError: the model is not on this machine.
            ModelError: the directory holds no such model, or one without transformer layers.
            ConfigError: the kind or the dtype is unknown.
        """
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"unknown dtype {dtype!r}; use float32 or bfloat16")
        found = resolve(model)
        chosen = kind_of(found.path) if kind == "auto" else kind
        if chosen not in KINDS:
            raise ConfigError(f"unknown kind {kind!r}; choose auto, {', '.join(KINDS)}")
        name: Any = _LIBRARY[chosen]
        library = load_sentence_transformers(
            name, found.path, device=pick_device(device), purpose=_PURPOSE, dtype="float32"
        )
        ranker = cls(found.name, found.path, chosen, library.eval(), dtype)
        _ = ranker.layers  # raises where there are none
        return ranker

    @property
    def network(self) -> PreTrainedModel:
        """The transformers model inside.

        Raises:
            ModelError: there is none.
        """
        found = self.library.transformers_model
        if found is None:
            raise ModelError(f"{self.path} has no transformers model inside, so there is nothing to compress")
        model: PreTrainedModel = found
        return model

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers.

        Raises:
            ModelError: no list of modules has as many items as the configuration has layers.
        """
        _, _, found = self.place_of_layers()
        return found

    def place_of_layers(self) -> tuple[nn.Module, str, nn.ModuleList]:
        """The module that holds the list of layers, the list's name in it, and the list."""
        config = self.network.config
        wanted = getattr(config, "num_hidden_layers", None) or getattr(config, "n_layers", None)
        lists = [
            (name, module)
            for name, module in self.network.named_modules()
            if isinstance(module, self.torch.nn.ModuleList) and len(module) == wanted
        ]
        if not lists:
            raise ModelError(
                f"{self.path}: no list of {wanted} layers was found in {type(self.network).__name__}; its layers "
                "cannot be removed"
            )
        name, found = min(lists, key=lambda item: item[0].count("."))
        parent, _, attribute = name.rpartition(".")
        return self.network.get_submodule(parent), attribute, found

    def keep_layers(self, kept: Sequence[int]) -> None:
        """Remove all layers but these, numbered from 0; the configuration says so, too.

        Raises:
            ConfigError: a number is not that of a layer, they do not ascend, or there is none.
        """
        parent, attribute, layers = self.place_of_layers()
        before = len(layers)
        if not kept or list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= before:
            raise ConfigError(
                f"layers to keep must ascend from 0 to {before - 1}, each once, and at least one; got {list(kept)}"
            )
        remaining = self.torch.nn.ModuleList([layers[number] for number in kept])
        setattr(parent, attribute, remaining)
        for number, layer in enumerate(remaining):
            for module in layer.modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = number
        config = self.network.config
        for key, value in list(config.to_dict().items()):
            if isinstance(value, list) and len(value) == before:  # a kind of attention for every layer
                setattr(config, key, [value[number] for number in kept])
        setattr(config, "n_layers" if hasattr(config, "n_layers") else "num_hidden_layers", len(kept))

    def copy(self) -> Ranker:
        """A copy with weights of its own."""
        return Ranker(self.name, self.path, self.kind, copy.deepcopy(self.library), self.dtype)

    def score(self, query: str, texts: Sequence[str]) -> torch.Tensor:
        """Scores of passages for a query, float[n], with gradients if torch records them."""
        if self.kind == "cross-encoder":
            return self._pairs([(query, text) for text in texts])
        return self._similarities(self._vectors([query], "query"), self._vectors(texts, "document"))[0]

    def scores(self, lists: Sequence[Candidates]) -> list[NDArray[np.float32]]:
        """Scores of every list's passages, without gradients; each text is encoded once, in batches of similar length.

        Raises:
            ModelError: a score is not finite.
        """
        if self.kind == "cross-encoder":
            pairs = [(one.query, text) for one in lists for text in one.texts]
            flat = self._batched(pairs, [len(q) + len(t) for q, t in pairs], self._pairs).float().cpu().numpy()
            ends = np.cumsum([len(one.texts) for one in lists])[:-1]
            found: list[NDArray[np.float32]] = np.split(flat, ends)
        else:
            numbers: dict[str, int] = {}
            for one in lists:
                for text in one.texts:
                    numbers.setdefault(text, len(numbers))
            asked = self._all_vectors([one.query for one in lists], "query")
            given = self._all_vectors(list(numbers), "document")
            found = []
            for at, one in enumerate(lists):
                rows = [numbers[text] for text in one.texts]
                first, last = (rows[0], rows[-1] + 1) if rows else (0, 0)
                there = given[first:last] if rows == list(range(first, last)) else given[rows]  # a slice copies nothing
                found.append(self._similarities(asked[at : at + 1], there)[0].float().numpy())
        if not all(np.isfinite(one).all() for one in found):
            raise ModelError(f"{self.name} gives scores that are not finite numbers after this compression")
        return found

    def milliseconds(self, texts: Sequence[str], *, query: str = "what is this", repeats: int = 3) -> float:
        """Milliseconds a passage, of one batch of `texts`: the quickest of some repeats."""
        best = float("inf")
        with self.torch.inference_mode():
            for _ in range(repeats):
                started = time.perf_counter()
                if self.kind == "cross-encoder":
                    self._pairs([(query, text) for text in texts])
                else:
                    self._vectors(texts, "document")
                best = min(best, time.perf_counter() - started)
        return 1000.0 * best / len(texts)

    def bytes(self) -> int:
        """Bytes of the transformers model's weights and buffers that are saved; shared ones count once.

        Weights of 4 bits count half a byte and their share of a scale, though a processor holds a byte for each.
        """
        seen: dict[int, int] = {}
        for value in self.network.state_dict().values():
            for one in value if isinstance(value, tuple) else (value,):  # quantised weights come with their bias
                if hasattr(one, "qdata"):  # torchao's
                    seen[id(one)] = one.qdata.numel() // 2 + one.scale.numel() * one.scale.element_size()
                elif isinstance(one, self.torch.Tensor):
                    place = id(one) if one.is_quantized else one.data_ptr() or id(one)
                    seen[place] = one.numel() * one.element_size()
        return sum(seen.values())

    def save(self, directory: Path) -> None:
        """Write the model to an empty directory: what the input had, with other weights and configuration.

        Raises:
            ConfigError: transformers has no format for it.
            OSError: the directory cannot be written.
        """
        if self.in_memory_only:
            raise ConfigError(NO_FORMAT.format(self.in_memory_only))
        directory.mkdir(parents=True, exist_ok=True)
        inner = _inner_folder(self.path)
        for file in sorted(self.path.rglob("*")):
            place = file.relative_to(self.path)
            hidden = any(part.startswith(".") or part in _NOT_COPIED for part in place.parts)
            own = place.name == "config.json" and place.parent != inner  # a module's, as of pooling
            if file.is_file() and (own or not hidden) and not _WEIGHTS.fullmatch(place.name):
                (directory / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, directory / place)
        with quiet_loading():
            self.network.save_pretrained(directory / inner)
        if not any(file.name.startswith("tokenizer") for file in (directory / inner).iterdir()):
            self.library.tokenizer.save_pretrained(directory / inner)

    def _pairs(self, pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
        features = self.library.preprocess([[sound(q), sound(t)] for q, t in pairs], prompt=self._prompt("query"))
        with self._precision():
            scores = self.library(self._on_device(features))["scores"]
        if scores.ndim > 1 and scores.shape[-1] != 1:
            raise ModelError(f"{self.name} has {scores.shape[-1]} outputs per passage; a reranker has one")
        flat: torch.Tensor = scores.reshape(-1)
        return flat

    def _vectors(self, texts: Sequence[str], task: str) -> torch.Tensor:
        """float[n, width], of one batch; special tokens of a sparse encoder have no weight."""
        features = self.library.preprocess([sound(t) for t in texts], prompt=self._prompt(task), task=task)
        features = self._on_device(features)
        with self._precision():
            if (decoder := self._splade_decoder()) is not None:
                return self._splade(features, decoder)
            found: torch.Tensor = self.library(features, task=task)["sentence_embedding"]
        return found

    def _splade_decoder(self) -> nn.Linear | None:
        """The map to the vocabulary, where the model is a masked language model with SPLADE's maximum; else None."""
        parts = list(self.library.children())
        plain = (
            self.kind == "sparse"
            and len(parts) == 2
            and getattr(parts[-1], "pooling_strategy", "") == "max"
            and getattr(parts[-1], "activation_function", "") == "relu"
        )
        decoder = self.network.get_output_embeddings() if plain else None
        return decoder if isinstance(decoder, self.torch.nn.Linear) else None

    def _splade(self, features: dict[str, Any], decoder: nn.Linear) -> torch.Tensor:
        """log(1 + max(0, x)) of each term's largest logit x, text by text: logits of a batch are never held at once."""
        decoder.forward = lambda states: states  # type: ignore[method-assign,assignment]
        try:
            states, mask = self.library[0](features)["token_embeddings"], features["attention_mask"].bool()
        finally:
            del decoder.forward  # the class's own again
        peaks = [
            self.torch.nn.functional.linear(states[row][mask[row]], decoder.weight).amax(0) for row in range(len(mask))
        ]
        logits = self.torch.stack(peaks).float() + (0.0 if decoder.bias is None else decoder.bias.float())
        special = self.torch.tensor(sorted(set(self.library.tokenizer.all_special_ids)), device=logits.device)
        found: torch.Tensor = logits.relu().log1p().index_fill(1, special, 0.0)
        return found

    def _all_vectors(self, texts: Sequence[str], task: str) -> torch.Tensor:
        return self._batched(texts, [len(text) for text in texts], lambda batch: self._vectors(batch, task)).cpu()

    def _batched(
        self, items: Sequence[Any], lengths: Sequence[int], call: Callable[[list[Any]], torch.Tensor]
    ) -> torch.Tensor:
        rows: dict[int, torch.Tensor] = {}
        with self.torch.inference_mode():
            for batch in batches(lengths, _BATCH[self.kind], similar=True):
                rows |= dict(zip(batch, call([items[i] for i in batch]), strict=True))
        found: torch.Tensor = self.torch.stack([rows[at] for at in range(len(items))]).float()
        return found

    def _similarities(self, asked: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        if self.kind == "dense" and getattr(self.library, "similarity_fn_name", "cosine") != "dot":
            normalize = self.torch.nn.functional.normalize
            asked, given = normalize(asked.float(), dim=1), normalize(given.float(), dim=1)
        found: torch.Tensor = asked.float() @ given.float().T
        return found

    def _prompt(self, task: str) -> str | None:
        """The prompt that sentence-transformers would put in front."""
        prompts = getattr(self.library, "prompts", None) or {}
        names = ("query",) if task == "query" else ("document", "passage", "corpus")
        chosen = next((prompts[name] for name in names if prompts.get(name)), None)
        return chosen or prompts.get(getattr(self.library, "default_prompt_name", None)) or None

    def _on_device(self, features: Mapping[str, Any]) -> dict[str, Any]:
        device = self.network.device
        return {key: value.to(device) if hasattr(value, "to") else value for key, value in features.items()}

    def _precision(self) -> Any:
        device = self.network.device.type
        return self.torch.autocast(device, dtype=self.torch.bfloat16, enabled=self.dtype == "bfloat16")


def kind_of(directory: Path) -> Kind:
    """The kind of a model, by its files.

    Raises:
        ModelError: they do not say.
    """
    about = directory / "config_sentence_transformers.json"
    named = _read(about).get("model_type") if about.is_file() else None
    for kind, library in _LIBRARY.items():
        if named == library:
            return kind  # type: ignore[return-value]
    config = directory / _inner_folder(directory) / "config.json"
    if not config.is_file():
        raise ModelError(f"{directory} has no config.json, so it holds no model of transformers")
    architectures = _read(config).get("architectures") or [""]
    if (directory / "modules.json").is_file():
        types = " ".join(str(row.get("type")) for row in _modules(directory))
        return "sparse" if "sparse" in types.lower() else "cross-encoder" if "LogitScore" in types else "dense"
    if architectures[0].endswith(("ForSequenceClassification", "ForCausalLM")):
        return "cross-encoder"
    return "sparse" if architectures[0].endswith("ForMaskedLM") else "dense"


def _inner_folder(directory: Path) -> Path:
    """The folder of the transformers model, relative to the model's."""
    if (directory / "modules.json").is_file() and (rows := _modules(directory)):
        return Path(str(rows[0].get("path") or ""))
    return Path()


def _modules(directory: Path) -> list[dict[str, Any]]:
    file = directory / "modules.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return [dict(row) for row in found]
    except (ValueError, TypeError) as err:
        raise ModelError(f"{file} is not a list of modules ({err})") from err


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except DamagedArtifactError as err:
        raise ModelError(f"{file} cannot be read ({err})") from err
