"""A simulated judge with the errors of a recorded model: `fitted-rank-vicuna-7b-aug`, `fitted-vicuna-7b-ckpt800`.

Its parameters (parameters.json) were fitted to recorded answers over TREC DL 2019 by `training.rerank.fitting`, which
states the model. `eval/results/rerank-fitted.md` compares what they predict with what was recorded, on topics they
were not fitted on. The recorded prompts show 20 passages: how a model errs over more or fewer, or in a choice between
two, is an extrapolation.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import InputError
from training.rerank.simulated import Simulation, lasting_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEVELS = ("unjudged", "0", "1", "2", "3")
PARAMETERS = Path(__file__).parent / "parameters.json"


def level_of(grade: int | None) -> int:
    """Index in LEVELS of a NIST grade, None if there is no judgment."""
    return 0 if grade is None else 1 + max(min(grade, 3), 0)


@dataclass(frozen=True, slots=True)
class Parameters:
    """How one recorded model judges, in units of its own noise (Gumbel of scale 1).

    Attributes:
        model: the recorded model.
        first_stage: what found the passages, "lexical" or "learned".
        means: utility of a passage of each of LEVELS, that of grade 0 is 0.
        spread: standard deviation of the error that is fixed for each query and passage, of each of LEVELS.
        by_query: lower triangle of the Cholesky factor of the covariance of what one query adds to the LEVELS.
        places: bonus of each place among the 20 passages shown; their mean is 0.
        repeated: share of the noise that is the same when the same prompt is asked again.
        malformed: share of answers that are malformed.
        kinds: share of the malformed answers of each kind of `training.rerank.simulated.MALFORMED`.
    """

    model: str
    first_stage: str
    means: tuple[float, ...]
    spread: tuple[float, ...]
    by_query: tuple[tuple[float, ...], ...]
    places: tuple[float, ...]
    repeated: float
    malformed: float
    kinds: Mapping[str, float]

    @property
    def name(self) -> str:
        """The judge's name: `fitted-` and the model's."""
        return f"fitted-{self.model}"

    @property
    def simulation(self) -> Simulation:
        """How it errs beside the lasting errors."""
        return Simulation(
            noise=1.0,
            places=self.places,
            repeated=self.repeated,
            malformed=self.malformed,
            kinds=tuple(self.kinds.items()),
        )

    def utilities(self, grades: Mapping[str, int], qid: str, docnos: Sequence[str], seed: int) -> list[float]:
        """What it believes these passages to be worth, aligned with `docnos`; for `Simulation.judging`.

        Args:
            grades: docno to NIST grade; a passage that is absent is unjudged.
            qid: the query.
            docnos: the passages.
            seed: of the lasting errors: each seed is another model of the same quality.
        """
        own = [lasting_error(seed, qid, f"\0{level}") for level in LEVELS]
        means = [
            mean + sum(weight * error for weight, error in zip(row, own, strict=True))
            for mean, row in zip(self.means, self.by_query, strict=True)
        ]
        levels = [level_of(grades.get(docno)) for docno in docnos]
        return [
            means[level] + self.spread[level] * lasting_error(seed, qid, docno)
            for level, docno in zip(levels, docnos, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, four decimals."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)), parse_float=lambda text: round(float(text), 4))
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Parameters:
        """The parameters that `to_json` wrote."""
        means, spread, places = (tuple(map(float, document[key])) for key in ("means", "spread", "places"))
        return cls(
            model=str(document["model"]),
            first_stage=str(document["first_stage"]),
            means=means,
            spread=spread,
            by_query=tuple(tuple(map(float, row)) for row in document["by_query"]),
            places=places,
            repeated=float(document["repeated"]),
            malformed=float(document["malformed"]),
            kinds=dict(document["kinds"]),
        )


def fitted(name: str, first_stage: str = "lexical") -> Parameters:
    """The judge of this name, as `fitted-rank-vicuna-7b-aug`.

    Args:
        name: the judge's name.
        first_stage: what found the passages it judges: "lexical" or "learned".

    Raises:
        InputError: there is none.
    """
    known = {(one.name, one.first_stage): one for one in all_fitted()}
    if (name, first_stage) not in known:
        names = ", ".join(sorted({one for one, _ in known}))
        raise InputError(
            f"no judge {name!r} for a first stage that is {first_stage!r}; judges are {names}, first "
            "stages 'lexical' and 'learned'"
        )
    return known[name, first_stage]


def all_fitted() -> list[Parameters]:
    """All fitted judges."""
    return [Parameters.from_json(document) for document in json.loads(PARAMETERS.read_text(encoding="utf-8"))]
