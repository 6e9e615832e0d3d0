"""What a reranked run was made with: a small JSON file beside the run, `RUN.json`, that `thresher rerank` writes.

`thresher calibrate scores` reads it, so that a calibration knows which judge and plan its scores are from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from thresher._version import __version__
from thresher.durable import write_atomic
from thresher.errors import DamagedArtifactError
from thresher.files import read_json
from thresher.rerank.calibration import now

if TYPE_CHECKING:
    from pathlib import Path

KIND, FORMAT = "reranked-run", 1


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run was reranked.

    Attributes:
        judge: name of the judge.
        plan: name of the plan, with its settings.
        depth: passages of each ranking that were reranked.
        scores: what the run's scores are: `score`, the plan's own; `rank`, numbers that fall by one a rank; or
            `probability`, by a calibration.
        model: checksum of the judge's model where it is known, else empty.
        made: when, UTC.
        version: of thresher.
    """

    judge: str
    plan: str
    depth: int
    scores: Literal["score", "rank", "probability"]
    model: str = ""
    made: str = field(default_factory=now)
    version: str = __version__

    def save(self, run: Path) -> Path:
        """Write them beside a run."""
        document = {"format": FORMAT, "kind": KIND, **asdict(self)}
        write_atomic(beside(run), json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        return beside(run)

    @classmethod
    def read(cls, run: Path) -> RunSettings | None:
        """Those beside a run; None where there are none.

        Raises:
            DamagedArtifactError: the file is of another kind.
        """
        from pydantic import TypeAdapter, ValidationError

        file = beside(run)
        if not file.is_file():
            return None
        document = read_json(file)
        if (document.get("kind"), document.get("format")) != (KIND, FORMAT):
            raise DamagedArtifactError(str(file), "not what `thresher rerank` writes beside a run; remove it")
        try:
            return TypeAdapter(cls).validate_python(document)
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DamagedArtifactError(
                str(file), f"not the settings of a reranked run: {where}: {first['msg']}"
            ) from err


def beside(run: Path) -> Path:
    """The file beside a run."""
    return run.with_name(f"{run.name}.json")
