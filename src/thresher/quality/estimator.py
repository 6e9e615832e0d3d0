"""Passage quality: the interface of estimators, estimators by name and on disk, and combinations of them.

A score is query-independent and says how much a passage deserves to be indexed; higher is better. Scores of different
estimators cannot be compared: QualT5 scores are log-probabilities (never positive), KL scores are negated divergences,
and a threshold for one means nothing to another.

Other packages add estimators through the entry-point group `thresher.estimators`. A class of theirs needs only `name`,
`fingerprint` and `score`; it does not have to derive from `QualityEstimator`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import ArtifactError, ConfigError, DamagedArtifactError, InputError
from thresher.files import read_json
from thresher.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.records import Passage

Json: TypeAlias = "Mapping[str, Any]"
"""An object of a JSON file."""

DOCUMENT = "estimator.json"
"""The file of a saved estimator that names its type."""
_CHUNK = 1024


class QualityEstimator(ABC):
    """Scores texts by how much they deserve to be indexed, whatever the query."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """Human-readable name, as the command line and recipes spell it."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Sha256 (hex) of everything that determines the scores: code version, weights, collection statistics."""

    @abstractmethod
    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Finite float32[n], higher is more worth indexing; a text's score does not depend on the other texts."""

    @property
    def can_save(self) -> bool:
        """Whether `save` works: False for models, whose weights stay where they are."""
        return False

    def document(self, directory: Path) -> dict[str, object]:
        """The estimator as plain JSON, with a `type`; larger parts go to files in `directory`.

        Raises:
            ArtifactError: the estimator cannot be saved.
        """
        raise ArtifactError(f"{self.name} cannot be saved in {directory}: its weights stay where they are")

    @checked_call
    def save(self, directory: Path) -> None:
        """Write the estimator into the existing, empty `directory`, for `load`.

        Raises:
            ArtifactError: it is a model whose weights stay where they are.
        """
        document = {**self.document(directory), "fingerprint": self.fingerprint}
        (directory / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    @checked_call
    def load(directory: str | Path) -> QualityEstimator:
        """The estimator that `save` or `thresher quality fit` wrote.

        Raises:
            ArtifactError: there is none.
            DamagedArtifactError: its files do not give the estimator that was saved.
        """
        directory = Path(directory)
        file = directory / DOCUMENT
        if not file.is_file():
            raise ArtifactError(f"{directory} holds no quality estimator: there is no {DOCUMENT} in it")
        try:
            document = read_json(file)
            estimator = _SAVED.factory(str(document["type"]))(document, directory)
        except OSError as err:
            raise ArtifactError(f"{directory} holds no quality estimator: {err}") from err
        except (ValueError, KeyError, TypeError) as err:
            raise DamagedArtifactError(str(file), f"not a readable estimator: {err}") from err
        if estimator.fingerprint != document.get("fingerprint"):
            raise DamagedArtifactError(str(directory), "its numbers differ from those that were saved; fit it again")
        return estimator

    @staticmethod
    @checked_call
    def from_name(
        name: str | Path,
        *,
        device: str = "auto",
        download: bool = False,
        texts: Iterable[str] | None = None,
        **settings: object,
    ) -> QualityEstimator:
        """Open the estimator called `name`.

        Args:
            name: `embedded` (the shipped default), `kl`, `length`, `itn`, `unigram`, `junk`, `random` or `random:SEED`;
                `qualt5:MODEL`, `perplexity:MODEL`, `magnitude:MODEL`, `cross-encoder:MODEL`, with weights from a path
                or the hub; a kind of another package; or a directory that `save` or `thresher quality fit` wrote.
                Names joined by `+` are standardised on the collection and added up.
            device: for models: `auto` (an accelerator if there is one), or a torch device.
            download: fetch a hub model that is not in the cache.
            texts: the passages of the collection (`Passage.contents`), for estimators that compare with it: `embedded`,
                `kl`, `unigram`, and combinations. Give something that can be iterated again, or it is held in memory.
            settings: parameters of that estimator, such as `batch_size`.

        Raises:
            ConfigError: the kind is unknown, needs texts, or does not take one of the settings.
            DataNotFoundError: the model is not on this machine.
            MissingExtraError: an optional dependency is not installed.
        """
        text = str(name)
        if (Path(name) / DOCUMENT).is_file():
            return QualityEstimator.load(name)
        parts = [part.strip() for part in text.split("+")]
        if len(parts) > 1 and all(part.partition(":")[0] in ESTIMATORS for part in parts):
            if texts is None:
                raise ConfigError(f"the combination {text!r} is standardised on the collection; give texts=")
            kept = rereadable(texts)
            made = [QualityEstimator.from_name(p, device=device, download=download, texts=kept) for p in parts]
            return Combined.of(made, kept)
        offered = {"device": device, "download": download, "texts": texts}
        return ESTIMATORS.make(text, offered=offered, **settings)


ESTIMATORS: Registry[QualityEstimator] = Registry(
    "quality estimator",
    "thresher.estimators",
    {
        "embedded": "thresher.quality.fitted:open_embedded",
        "kl": "thresher.quality.lexical:open_kl",
        "length": "thresher.quality.lexical:open_length",
        "itn": "thresher.quality.lexical:open_itn",
        "unigram": "thresher.quality.lexical:open_unigram",
        "junk": "thresher.quality.junk:open_junk",
        "random": "thresher.quality.estimator:open_random",
        "qualt5": "thresher.quality.neural:QualT5",
        "perplexity": "thresher.quality.neural:Perplexity",
        "magnitude": "thresher.quality.neural:Magnitude",
        "cross-encoder": "thresher.quality.neural:EmptyQueryCrossEncoder",
    },
    {
        "random": "SEED",
        "qualt5": "MODEL",
        "perplexity": "MODEL",
        "magnitude": "MODEL",
        "cross-encoder": "MODEL",
    },
)
_SAVED: Registry[QualityEstimator] = Registry(
    "estimator type",
    "thresher.saved_estimators",
    {
        "lexical": "thresher.quality.lexical:LexicalEstimator.read",
        "junk": "thresher.quality.junk:JunkRules.read",
        "random": "thresher.quality.estimator:RandomEstimator.read",
        "fitted": "thresher.quality.fitted:FittedEstimator.read",
        "combined": "thresher.quality.estimator:Combined.read",
    },
)


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of passages (title and text), read from the corpus at every iteration instead of held in memory."""

    passages: Iterable[Passage]

    def __iter__(self) -> Iterator[str]:
        return (passage.contents for passage in self.passages)


def rereadable(texts: Iterable[str]) -> Iterable[str]:
    """`texts`, as a list if it is an iterator, which could be read only once."""
    return list(texts) if iter(texts) is texts else texts


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """`texts` in lists of at most 1,024."""
    remaining = iter(texts)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


def no_argument(kind: str, argument: str) -> None:
    """Check that a kind which takes no argument got none.

    Raises:
        ConfigError: it got one.
    """
    if argument:
        raise ConfigError(f"{kind}:{argument}: the quality estimator {kind!r} takes no argument")


def digest(*parts: object) -> str:
    """Sha256 (hex) of plain JSON values and arrays, in order."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype.str}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).tobytes())
        else:
            state.update(json.dumps(part, sort_keys=True).encode())
        state.update(b"\0")
    return state.hexdigest()


def midranks(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """For each score the number of lower ones, plus half of the equal ones (itself included), float64[n]."""
    if scores.size == 0:
        return np.zeros(0)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    result: NDArray[np.float64] = (np.cumsum(counts) - counts / 2)[inverse]
    return result


@checked_call
def quantiles(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """For each score the share of lower ones, plus half of the ties, float32[n] in (0, 1).

    Equal scores get equal quantiles, whatever their order, and the mean is 0.5.
    """
    scores = np.asarray(scores)
    return (midranks(scores) / max(scores.size, 1)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class RandomEstimator(QualityEstimator):
    """A pseudo-random score for each text, from the text and a seed: the baseline for pruning.

    Identical texts get the same score; the order of texts does not matter.
    """

    seed: int = 0

    @property
    def name(self) -> str:
        """`random`, with the seed."""
        return f"random-{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the seed."""
        return digest("random", 1, self.seed)

    @property
    def can_save(self) -> bool:
        """True."""
        return True

    def document(self, directory: Path) -> dict[str, object]:
        """The seed."""
        return {"type": "random", "seed": self.seed}

    @classmethod
    def read(cls, document: Mapping[str, int], directory: Path) -> RandomEstimator:
        """Read what `save` wrote."""
        return cls(int(document["seed"]))

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Uniform in [0, 1), float32[n]; the same text always gets the same score."""
        salt = self.seed.to_bytes(8, "little", signed=True)
        out = np.empty(len(texts), np.float32)
        for row, text in enumerate(texts):
            raw = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=3, salt=salt).digest()
            out[row] = int.from_bytes(raw, "little") / 2**24
        return out


@dataclass(frozen=True, slots=True)
class Combined(QualityEstimator):
    """A weighted sum of standardised scores of several estimators.

    Attributes:
        parts: the estimators.
        weights: one per part.
        means: mean score of each part on the collection.
        scales: standard deviation of each part's scores on the collection.
    """

    parts: tuple[QualityEstimator, ...]
    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    @classmethod
    def of(
        cls, parts: Sequence[QualityEstimator], texts: Iterable[str], weights: Sequence[float] | None = None
    ) -> Combined:
        """Combine `parts`, standardised by their scores of `texts`, which are read in chunks.

        Raises:
            InputError: there are no parts or no texts, or there is not one weight per part.
        """
        weights = [1.0] * len(parts) if weights is None else weights
        if not parts or len(weights) != len(parts):
            raise InputError(f"a combination needs one weight per estimator; got {len(weights)} for {len(parts)}")
        scored = [[part.score(chunk) for part in parts] for chunk in chunks(texts)]
        if not scored:
            raise InputError("a combination is standardised on a collection; got no texts")
        columns = [np.concatenate(column).astype(np.float64) for column in zip(*scored, strict=True)]
        return cls(
            tuple(parts),
            tuple(float(w) for w in weights),
            tuple(float(c.mean()) for c in columns),
            tuple(float(c.std()) or 1.0 for c in columns),
        )

    @property
    def name(self) -> str:
        """The parts' names, joined by `+`."""
        return "+".join(part.name for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the parts, their weights and their moments."""
        return digest(
            "combined", 1, [p.fingerprint for p in self.parts], list(self.weights), list(self.means), list(self.scales)
        )

    @property
    def can_save(self) -> bool:
        """Whether every part can be saved."""
        return all(part.can_save for part in self.parts)

    def document(self, directory: Path) -> dict[str, object]:
        """Weights and moments; each part in a numbered folder."""
        for number, part in enumerate(self.parts):
            (directory / str(number)).mkdir()
            part.save(directory / str(number))
        return {
            "type": "combined",
            "weights": list(self.weights),
            "means": list(self.means),
            "scales": list(self.scales),
        }

    @classmethod
    def read(cls, document: Mapping[str, Sequence[float]], directory: Path) -> Combined:
        """Read what `save` wrote."""
        parts = tuple(QualityEstimator.load(directory / str(i)) for i in range(len(document["weights"])))
        weights, means, scales = (tuple(map(float, document[key])) for key in ("weights", "means", "scales"))
        return cls(parts, weights, means, scales)

    @checked_call
    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sum over parts of weight * (score - mean) / scale, float32[n]."""
        total = np.zeros(len(texts), np.float64)
        for part, weight, mean, scale in zip(self.parts, self.weights, self.means, self.scales, strict=True):
            total += weight * (part.score(texts).astype(np.float64) - mean) / scale
        return total.astype(np.float32)


def open_random(argument: str = "") -> RandomEstimator:
    """What `QualityEstimator.from_name` calls for `random` and `random:SEED`.

    Raises:
        ConfigError: the seed is not a whole number.
    """
    try:
        return RandomEstimator(int(argument or 0))
    except ValueError:
        raise ConfigError(f"the seed in 'random:{argument}' is not a whole number") from None
