"""Estimators by name, and estimators on disk.

Names: `embedded` (the shipped default), `kl`, `length`, `itn`, `unigram`, `junk`, `random` or `random:SEED`, a
directory that `thresher quality fit` or `save_estimator` wrote, and, with weights from a path or the hub,
`qualt5:MODEL`, `perplexity:MODEL`, `magnitude:MODEL`, `cross-encoder:MODEL`. Names joined by `+` are standardised on
the collection and added up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import ArtifactError, ConfigError, DamagedArtifactError
from thresher.quality.estimator import Combined, QualityEstimator, RandomEstimator
from thresher.quality.fitted import FittedEstimator
from thresher.quality.junk import JunkRules
from thresher.quality.lexical import LEXICAL, LexicalEstimator
from thresher.quality.words import CollectionStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NAMES = (
    "embedded",
    *LEXICAL,
    "junk",
    "random",
    "qualt5:MODEL",
    "perplexity:MODEL",
    "magnitude:MODEL",
    "cross-encoder:MODEL",
)
_DESCRIPTION = "estimator.json"


def make_estimator(
    name: str, *, texts: Iterable[str] | None = None, device: str = "auto", download: bool = False
) -> QualityEstimator:
    """The estimator of that name.

    Args:
        name: see above.
        texts: the collection's passages (title and text); estimators that compare with the collection read them once
            each, so an iterable that can be iterated again is needed for several joined by `+`.
        device: for models: `auto`, `cpu`, `cuda`.
        download: let models come from the hub where they are not on this machine.

    Raises:
        ConfigError: there is no such estimator, or it needs the collection's texts and got none.
    """
    kind, _, argument = name.partition(":")
    if (Path(name) / _DESCRIPTION).is_file():
        return load_estimator(name)
    if "+" in name:
        return _combination(name, list(texts or ()), device, download)
    if kind in _MODELS and argument:
        return _MODELS[kind](argument, device, download)
    if name == "junk":
        return JunkRules()
    if kind == "random":
        return RandomEstimator(_seed(argument))
    return _of_collection(name, texts)


def _of_collection(name: str, texts: Iterable[str] | None) -> QualityEstimator:
    """Estimators that compare a passage with its collection."""
    if name not in ("embedded", *LEXICAL):
        known = ", ".join(NAMES)
        raise ConfigError(f"there is no quality estimator {name!r}; known are: {known}, or a fitted one's directory")
    if texts is None and name in ("embedded", "kl", "unigram"):
        raise ConfigError(f"the estimator {name!r} compares passages with their collection: give its texts")
    if name == "embedded":
        from thresher.quality.embedded import EmbeddedEstimator

        return EmbeddedEstimator.fit(texts or ())
    return LexicalEstimator.fit(name, texts or ())  # type: ignore[arg-type]


def _combination(name: str, texts: list[str], device: str, download: bool) -> QualityEstimator:
    if not texts:
        raise ConfigError(f"the combination {name!r} is standardised on the collection: give its texts")
    parts = [make_estimator(part.strip(), texts=texts, device=device, download=download) for part in name.split("+")]
    return Combined.of(parts, texts)


def _seed(argument: str) -> int:
    try:
        return int(argument or 0)
    except ValueError:
        raise ConfigError(f"the seed in 'random:{argument}' is not a whole number") from None


def _qualt5(model: str, device: str, download: bool) -> QualityEstimator:
    from thresher.quality.qualt5 import QualT5

    return QualT5(model, device=device, download=download)


def _perplexity(model: str, device: str, download: bool) -> QualityEstimator:
    from thresher.quality.perplexity import Perplexity

    return Perplexity(model, device=device, download=download)


def _magnitude(model: str, device: str, download: bool) -> QualityEstimator:
    from thresher.quality.vectors import Magnitude, pooled_encoder

    return Magnitude(pooled_encoder(model, device=device, download=download))


def _cross_encoder(model: str, device: str, download: bool) -> QualityEstimator:
    from thresher.quality.crossencoder import EmptyQueryCrossEncoder

    return EmptyQueryCrossEncoder(model, device=device, download=download)


_MODELS: dict[str, Callable[[str, str, bool], QualityEstimator]] = {
    "qualt5": _qualt5,
    "perplexity": _perplexity,
    "magnitude": _magnitude,
    "cross-encoder": _cross_encoder,
}


def can_save(estimator: QualityEstimator) -> bool:
    """Whether `save_estimator` can write what `load_estimator` needs: everything but models with weights elsewhere."""
    if isinstance(estimator, Combined):
        return all(map(can_save, estimator.parts))
    return isinstance(estimator, LexicalEstimator | JunkRules | RandomEstimator | FittedEstimator)


def save_estimator(estimator: QualityEstimator, directory: Path) -> None:
    """Write an estimator's description and numbers into an empty `directory`.

    Raises:
        ArtifactError: the estimator is a model whose weights stay where they are.
    """
    document: dict[str, Any]
    if isinstance(estimator, LexicalEstimator):
        document = {"type": "lexical", "measure": estimator.measure}
        if estimator.statistics is not None:
            estimator.statistics.save(directory / "words.tsv")
    elif isinstance(estimator, JunkRules):
        document = {"type": "junk", "scripts": list(estimator.scripts), "least_words": estimator.least_words}
    elif isinstance(estimator, RandomEstimator):
        document = {"type": "random", "seed": estimator.seed}
    elif isinstance(estimator, FittedEstimator):
        document = {"type": "fitted", **estimator.save(directory)}
    elif isinstance(estimator, Combined) and can_save(estimator):
        document = {"type": "combined"}
        for key in ("weights", "means", "scales"):
            document[key] = list(getattr(estimator, key))
        for number, part in enumerate(estimator.parts):
            (directory / str(number)).mkdir()
            save_estimator(part, directory / str(number))
    else:
        raise ArtifactError(f"{estimator.name} cannot be kept in a directory: its weights stay where they are")
    document["fingerprint"] = estimator.fingerprint
    (directory / _DESCRIPTION).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load_estimator(directory: str | Path) -> QualityEstimator:
    """The estimator that `save_estimator` or `thresher quality fit` wrote.

    Raises:
        ArtifactError: there is none.
        DamagedArtifactError: its files do not give the estimator that was saved.
    """
    directory = Path(directory)
    file = directory / _DESCRIPTION
    try:
        document = json.loads(file.read_bytes())
        estimator = _read(document, directory)
    except OSError as err:
        raise ArtifactError(f"{directory} holds no quality estimator: {err}") from err
    except (ValueError, KeyError, TypeError) as err:
        raise DamagedArtifactError(str(file), f"not a readable estimator: {err}") from err
    if estimator.fingerprint != document.get("fingerprint"):
        raise DamagedArtifactError(str(directory), "its numbers are not those that were saved; fit it again")
    return estimator


def _read(document: dict[str, Any], directory: Path) -> QualityEstimator:
    kind = document["type"]
    if kind == "lexical":
        words = directory / "words.tsv"
        return LexicalEstimator(document["measure"], CollectionStatistics.load(words) if words.is_file() else None)
    if kind == "junk":
        return JunkRules(tuple(document["scripts"]), int(document["least_words"]))
    if kind == "random":
        return RandomEstimator(int(document["seed"]))
    if kind == "fitted":
        return FittedEstimator.load(document, directory)
    if kind == "combined":
        parts = tuple(load_estimator(directory / str(i)) for i in range(len(document["weights"])))
        return Combined(parts, *(tuple(map(float, document[key])) for key in ("weights", "means", "scales")))
    raise ValueError(f"unknown type {kind!r}")
