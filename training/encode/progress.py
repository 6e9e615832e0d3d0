"""The state of a training that can be killed: parameters, optimiser moments and the generator's state, in one file.

The file is safetensors, written beside its place and renamed, so that it is whole or not there. What continues from it
does what the uninterrupted training does, bit for bit.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from thresher.errors import require
from thresher.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


class Progress:
    """Keeps and restores a training.

    Args:
        file: where; None keeps nothing.
        parameters: torch parameters by name.
        optimiser: torch's Adam over them.
        rng: what draws.
        identity: of settings and data; a file with another one is not used.
    """

    def __init__(
        self, file: Path | None, parameters: dict[str, Any], optimiser: Any, rng: np.random.Generator, identity: str
    ) -> None:
        self.file, self.parameters, self.optimiser, self.rng, self.identity = file, parameters, optimiser, rng, identity

    def restore(self) -> tuple[int, float]:
        """The step to go on with, and the running loss there; 0 and nan where nothing fitting was kept."""
        if self.file is None or not self.file.is_file():
            return 0, math.nan
        safetensors: Any = require("safetensors", extra="models", purpose="continuing a training")
        with safetensors.safe_open(self.file, framework="pt") as kept:
            document = json.loads((kept.metadata() or {}).get("progress", "{}"))
            if document.get("identity") != self.identity:
                return 0, math.nan
            for name, parameter in self.parameters.items():
                parameter.data.copy_(kept.get_tensor(name))
                moments = ("step", "exp_avg", "exp_avg_sq")
                self.optimiser.state[parameter] = {key: kept.get_tensor(f"{name}.{key}") for key in moments}
        self.rng.bit_generator.state = document["rng"]
        return int(document["step"]), float(document["running"])

    def keep(self, step: int, running: float) -> None:
        """Write the state before `step`."""
        if self.file is None:
            return
        safetensors: Any = require("safetensors.torch", extra="models", purpose="keeping a training")
        tensors = {name: parameter.detach() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            tensors |= {f"{name}.{key}": value for key, value in self.optimiser.state[parameter].items()}
        document = {"identity": self.identity, "step": step, "running": running, "rng": self.rng.bit_generator.state}
        write_atomic(self.file, safetensors.save(tensors, metadata={"progress": json.dumps(document)}))

    def end(self) -> None:
        """Remove what was kept."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)
