"""A small comparison as Markdown and LaTeX: writes the files beside it.

    python tests/golden/compare/regenerate.py

Run it after a change of the tables, and read what changed.
"""

from pathlib import Path

from thresher.evaluate.measures import Evaluation
from thresher.evaluate.run_table import compare_runs
from thresher.evaluate.run_table_text import render

HERE = Path(__file__).parent
VALUES = {
    "full": [0.42, 0.77, 0.31, 0.58, 0.93, 0.66, 0.25, 0.49],
    "pruned_50%": [0.42, 0.77, 0.30, 0.58, 0.93, 0.64, 0.25, 0.50],
    "lexical": [0.22, 0.47, 0.18, 0.29, 0.61, 0.40, 0.11, 0.17],
}
FILES = {"table.md": "markdown", "table.tex": "latex"}


def made() -> dict[str, str]:
    """Content by file name."""
    runs = {}
    for name, values in VALUES.items():
        by_topic = {f"q{at}": value for at, value in enumerate(values)}
        runs[name] = Evaluation({"nDCG@10": sum(values) / len(values)}, {"nDCG@10": by_topic})
    table = compare_runs(runs, margin=0.02)
    return {file: render(table, form) for file, form in FILES.items()}


if __name__ == "__main__":
    for file, content in made().items():
        (HERE / file).write_text(content, encoding="utf-8")
