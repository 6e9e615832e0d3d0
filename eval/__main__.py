"""`python -m eval`: list the experiments. `python -m eval NAME [options]`: run one."""

from __future__ import annotations

import sys

from eval.experiments import EXPERIMENTS, run
from thresher.errors import ThresherError


def main() -> int:
    """Run the experiment that the command line names; the exit code."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print("usage: python -m eval NAME [options]; python -m eval NAME --help lists the options of NAME\n")
        width = max(map(len, EXPERIMENTS))
        for known, entry in EXPERIMENTS.items():
            print(f"  {known:{width}}  {entry.summary}")
        return 0
    if name not in EXPERIMENTS:
        sys.stderr.write(f"error: unknown experiment {name!r}; known are: {', '.join(EXPERIMENTS)}\n")
        return 2
    try:
        run(name, arguments)
    except ThresherError as err:
        sys.stderr.write(f"error: {err}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
