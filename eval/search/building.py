"""One build of one engine in a process of its own, with what it took.

    python -m eval.search.building WORK COLLECTION ENGINE build|calibrate

builds or calibrates an index of a collection in the folder WORK (`eval.search.scaled`); the last line it prints is what
that took, as JSON. A build may take `MOST` bytes of memory that no file backs.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.search.engines import fresh
from eval.search.large import ScaledThresher
from eval.search.matrices import Matrix
from eval.search.scaled import Scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.search.large import Entrant

ROOT = Path(__file__).parents[2]
FEW = 500
MOST = 20_000_000_000


class Memory(threading.Thread):
    """Watches this process's memory that no file backs, five times a second; the most it saw is `peak`, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        """Watch until the process ends."""
        while True:
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                if line.startswith("RssAnon:"):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024)
            time.sleep(0.2)


def build(collection: Scaled, entrant: Entrant) -> dict[str, float]:
    """Build one index: seconds of processor and clock, and the peak of memory with and without mapped files."""
    folder, matrix = collection.engine(entrant), collection.matrix(entrant)
    draft = folder.with_name(folder.name + ".draft")
    engine = entrant.made(draft, entrant.kind)
    if engine.compiles:  # code is compiled and loaded before the clock starts
        few = np.arange(min(FEW, len(matrix.documents)))
        fresh(draft)
        engine.build(Matrix(matrix.name, matrix.terms, matrix.documents.take(few), {}))
    fresh(draft)
    draft.parent.mkdir(parents=True, exist_ok=True)
    memory = Memory()
    memory.start()
    cpu, clock = time.process_time(), time.perf_counter()
    engine.build(matrix)
    took = {
        "build_s": time.process_time() - cpu,
        "build_wall_s": time.perf_counter() - clock,
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "peak_private_gb": memory.peak / 1e9,
    }
    draft.rename(fresh(folder))
    return took


def calibrate(collection: Scaled, entrant: Entrant) -> dict[str, float]:
    """Calibrate recall in thresher's index: the seconds of processor time that it took."""
    engine = entrant.made(collection.engine(entrant), entrant.kind)
    if not isinstance(engine, ScaledThresher):
        raise TypeError(f"{engine.name} promises no recall")
    engine.open()
    begin = time.process_time()
    engine.calibrate(collection.queries.queries["calibration"])
    return {"calibration_s": time.process_time() - begin}


def build_apart(collection: Scaled, entrant: Entrant, minutes: float, what: str = "build") -> dict[str, Any]:
    """`build` or `calibrate` in a process of its own, or `not_measured` with the reason."""
    place = [str(collection.work), collection.name, entrant.slug]
    command = [sys.executable, "-m", "eval.search.building", *place, what]
    try:
        done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=minutes * 60)
    except subprocess.TimeoutExpired:
        return {"not_measured": f"its {what} was stopped after {minutes:g} minutes"}
    except subprocess.CalledProcessError as err:
        return {"not_measured": f"its {what} failed with exit code {err.returncode}, allowed {MOST / 1e9:g} GB"}
    finally:
        folder = collection.engine(entrant)
        fresh(folder.with_name(folder.name + ".draft"))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str]) -> None:
    """Build what the command line names."""
    work, name, slug, what = arguments
    resource.setrlimit(resource.RLIMIT_DATA, (MOST, MOST))
    collection = Scaled(Path(work), name)
    print(json.dumps({"build": build, "calibrate": calibrate}[what](collection, collection.entrant(slug))))


if __name__ == "__main__":
    main(sys.argv[1:])
